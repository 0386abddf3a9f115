"""Building a dataset: its missing shards, in this process, on a local Dask cluster, or on any scheduler of Dask.

A task is a path and a number, and gives back the number: what is done is read from the disk, never from the scheduler.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from factory.dataset.folder import Dataset
from factory.dataset.plan import Plan
from factory.dataset.seal import dataset_status, seal_dataset
from factory.dataset.shard import build_shard
from factory.spec import FactoryError, InputError

if TYPE_CHECKING:
    from distributed import Client

ShardProgress = Callable[[int, int, str], None]
WINDOW = 4096
"""Tasks that a scheduler holds at once, enough for a thousand workers: more would cost it memory and time."""
_MOST_FAILURES = 8
_ONE_THREAD = dict.fromkeys(("NPROC", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
_EIGEN = "--xla_cpu_multi_thread_eigen=false"


def build_dataset(
    folder: Path | str,
    workers: int | None = None,
    scheduler: str | None = None,
    scheduler_file: Path | str | None = None,
    progress: ShardProgress | None = None,
) -> Dataset:
    """Build every shard that is missing, seal the dataset, and return it; what is there is not built again.

    `workers` processes of one thread each build them on this machine (None: one a processor), 0: this process alone,
    without Dask; or the workers of a `scheduler`, by its address or by its file. They must see the folder under the same
    path. `progress` is called with the images done and in all, and what is being built. Raise InputError where a shard
    cannot be built; those that can be are then there.
    """
    folder = Path(folder).absolute()
    if sum(given is not None for given in (workers, scheduler, scheduler_file)) > 1:
        options = "workers", "scheduler", "scheduler_file"
        raise InputError("one of workers, scheduler and scheduler_file must be given", options=options)
    if workers is not None and workers < 0:
        raise InputError(f"workers must be at least 0, not {workers}", options=("workers",))
    status = dataset_status(folder)
    missing = list(status.unfinished)
    count = Counter(status.plan, missing, progress)
    if missing and workers == 0:
        for number in missing:
            build_shard(folder, number, lambda done, total, _: count.within(number, done / total))
            count.add(number)
    elif missing:
        local = None if scheduler or scheduler_file else min(workers or available_processors(), len(missing))
        with _client(local, scheduler, scheduler_file) as client:
            _run(client, folder, missing, count)
    return seal_dataset(folder)
