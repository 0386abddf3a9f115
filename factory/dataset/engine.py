"""Building a dataset: its missing shards, in this process, on a local Dask cluster, or on any scheduler of Dask.

A task is a path and a number, and gives back the number: what is done is read from the disk, never from the scheduler.
"""

from __future__ import annotations

import json
import logging
import os
import secrets
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from factory.dataset.folder import Dataset, array_expression
from factory.dataset.plan import Plan
from factory.dataset.seal import dataset_status, seal_dataset
from factory.dataset.shard import build_shard
from factory.spec import InputError, Progress

if TYPE_CHECKING:
    from distributed import Client

WINDOW = 4096
"""Tasks that a scheduler holds at once, enough for a thousand workers: more would cost it memory and time."""
_MOST_FAILURES, _TIMEOUT, _QUIET = 8, 30, logging.CRITICAL
_ONE_THREAD = {"NPROC": "1", "XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false"}
"""What JAX reads when it is loaded; Dask bounds the threads of the other libraries."""


class _Meter:
    """Counts images for a progress bar, and says how many shards are there and how fast images come."""

    def __init__(self, plan: Plan, missing: Sequence[int], progress: Progress | None):
        self._plan, self._progress, self._start = plan, progress, time.monotonic()
        self._shards = len(plan.shards) - len(missing)
        self._there = self._images = plan.image_count - sum(plan.shard(number).count for number in missing)

    def show(self, within: float = 0) -> None:
        """Tell the progress; `within` are images of shards that are not finished."""
        if self._progress:
            rate = (self._images + within - self._there) / max(time.monotonic() - self._start, 1e-9)
            text = f"{self._shards}/{len(self._plan.shards)} shards, {rate:.3g} images/s"
            self._progress(int(self._images + within), self._plan.image_count, text)

    def finish(self, number: int) -> None:
        """Count a shard."""
        self._shards += 1
        self._images += self._plan.shard(number).count
        self.show()


def build_dataset(
    folder: Path | str,
    workers: int | None = None,
    scheduler: str | None = None,
    scheduler_file: Path | str | None = None,
    progress: Progress | None = None,
) -> Dataset:
    """Build every shard that is missing, seal the dataset, and return it; what is there is not built again.

    `workers` processes of one thread each build them on this machine (None: one a processor), 0: this process alone,
    without Dask; or the workers of a `scheduler`, by its address or by its file, which must see the folder under the
    same path. `progress` is called with the images done and in all, and what is being built. Raise InputError where a
    shard cannot be built; those that can be are then there.
    """
    folder = Path(folder).absolute()
    if sum(given is not None for given in (workers, scheduler, scheduler_file)) > 1:
        options = "workers", "scheduler", "scheduler_file"
        raise InputError("one of workers, scheduler and scheduler_file must be given", options=options)
    if workers is not None and workers < 0:
        raise InputError(f"workers must be at least 0, not {workers}")
    status = dataset_status(folder)
    missing = list(status.unfinished)
    meter = _Meter(status.plan, missing, progress)
    if workers == 0:
        for number in missing:
            count = status.plan.shard(number).count
            build_shard(folder, number, lambda done, total, _, count=count: meter.show(count * done / total))
            meter.finish(number)
    elif missing:
        local = 0 if scheduler or scheduler_file else min(workers or available_processors(), len(missing))
        with connected(local, scheduler, scheduler_file) as client:
            _run(client, folder, missing, meter)
    return seal_dataset(folder)


def available_processors() -> int:
    """Return how many processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def build_task(folder: str, number: int) -> int:
    """Build a shard in a worker, with one thread, and return its number."""
    if "jax" not in sys.modules:
        os.environ.update(_ONE_THREAD)
    build_shard(folder, number)
    return number


@contextmanager
def connected(workers: int, scheduler: str | None, scheduler_file: Path | str | None) -> Iterator[Client]:
    """Yield a client of a scheduler, or of a new local cluster of so many workers."""
    try:
        import dask
        from distributed import Client, LocalCluster
    except ImportError:
        text = "a cluster needs dask: pip install 'factory[cluster]', or workers 0 in this process"
        raise InputError(text, options=("workers",)) from None
    where = scheduler or _scheduler_in(scheduler_file) if scheduler_file or scheduler else "local cluster"
    for name in ("distributed", "distributed.client"):
        logging.getLogger(name).setLevel(_QUIET)  # what matters is raised
    one = dict(n_workers=workers, threads_per_worker=1, memory_limit=0, silence_logs=_QUIET)
    one |= dict(dashboard_address="127.0.0.1:0")  # else it warns where the usual port is taken
    with ExitStack() as stack:
        scratch = stack.enter_context(tempfile.TemporaryDirectory())
        stack.enter_context(dask.config.set({"temporary-directory": scratch}))
        stack.enter_context(_inherited_environment())
        try:
            cluster = stack.enter_context(LocalCluster(**one)) if workers else where
            client = stack.enter_context(Client(cluster, timeout=_TIMEOUT))
        except (OSError, ValueError) as error:
            raise InputError(f"{where}: its scheduler must be there: {error}") from None
        yield client


@contextmanager
def _inherited_environment() -> Iterator[None]:
    """Let processes that are started in the block have one thread; what Dask changes for them, too, is undone."""
    before = dict(os.environ)
    os.environ.update(_ONE_THREAD)
    try:
        yield
    finally:
        for name in os.environ.keys() - before.keys():
            del os.environ[name]
        os.environ.update(before)


def _scheduler_in(path: Path | str) -> str:
    """Return the address in a scheduler's file."""
    try:
        return json.loads(Path(path).read_text())["address"]
    except OSError as error:
        raise InputError(f"{path}: must be a scheduler's file: {error.strerror}") from None
    except (ValueError, LookupError, TypeError):
        raise InputError(f"{path}: must be a scheduler's file, with its address") from None


def _run(client: Client, folder: Path, missing: Sequence[int], meter: _Meter) -> None:
    """Build shards on a client's workers; raise InputError that names those that failed, after the others."""
    from distributed import as_completed

    def submit(number: int) -> Any:
        return client.submit(build_task, str(folder), number, key=f"shard-{number}-{run}", pure=False)

    run, waiting = secrets.token_hex(4), iter(missing)
    running = as_completed([submit(number) for number in islice(waiting, WINDOW)])
    failed: dict[int, BaseException] = {}
    meter.show()
    for future in running:
        number = int(future.key.split("-")[1])
        if future.status == "finished":
            meter.finish(number)
        elif future.status == "error":
            failed[number] = future.exception()
        else:
            raise InputError(f"{client.scheduler.address}: its scheduler must stay until all is built, it went away")
        future.release()
        if len(failed) < _MOST_FAILURES:
            running.update([submit(number) for number in islice(waiting, 1)])
    if failed:
        number = min(failed)
        raise InputError(f"shard {number}: {failed[number]}; shards that failed: {array_expression(sorted(failed))}")
