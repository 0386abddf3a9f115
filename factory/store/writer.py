"""The writer of stores: a build that is not finished lives in a sibling folder, and goes on where it stopped.

Uncompressed variables are contiguous, in the order that a schedule reads them. Each batch of images is then one write
at a known offset, a full scan is sequential, and one tile of an image (all its `kij`) is one run of bytes, so that a
query of one tile of every image reads no byte that it does not need. No chunk shape does all three better: chunks that
hold several images make a batch a scatter, and chunks of one image are runs of the same bytes with an index in between.
The data goes to the file by `pwrite`, beside HDF5, whose own metadata is complete and closed from the start: a build
that is killed can damage nothing but the batch that it was writing. Compressed variables must be chunked
(`chunk_shape`); each batch is compressed into a shard file of its own, and the finished shards' chunks are copied,
still compressed, into the store.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import h5py
import numpy as np

from factory.spec import InputError
from factory.store.hdf5 import (
    HELD,
    UNREADABLE,
    WritableHDF5,
    copy_chunks,
    create_chunked,
    create_file,
    data_offsets,
    mark_complete,
)
from factory.store.variables import SCHEMA, StorePlan, Variable

_STORE, _PROGRESS, _SHARD, _SEALED = "store.h5", "progress.json", "shard.h5", "{:012d}.h5"
_LOCK = "lock"
_LOCKLESS = (errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS)
_MAX_WRITE = 2**30
_flush = getattr(os, "fdatasync", os.fsync)  # macOS has no fdatasync


def partial_folder(path: Path) -> Path:
    """Return the folder in which the store `path` is built before it is finished."""
    return path.parent / f"{path.name}.partial"


@contextlib.contextmanager
def create_store(path: Path, plan: StorePlan) -> Iterator[StoreWriter]:
    """Write the store `path`: yields the writer that takes the data, and puts the file in its place at the end.

    A killed or interrupted build keeps what it has committed, for the next one of an equal plan, also where there is no
    room to go on; any other exception removes it. Raises InputError where the file cannot be written (no such folder,
    disk full, another build under way).
    """
    partial = partial_folder(path)
    with _input_errors(path):
        _check_target(path)
        partial.mkdir(exist_ok=True)
    with _hold(path, partial):
        done = _committed(partial, plan)
        _check_room(path, partial, plan, done)
        try:
            with _input_errors(path):
                if done == 0:
                    _start_afresh(partial, plan)
                kind = _ContiguousWriter if plan.compression is None else _ShardWriter
                writer = kind(path, plan, done)
            with contextlib.closing(writer):
                yield writer
                if writer.done != plan.image_count:
                    raise ValueError(f"{path}: {writer.done} of {plan.image_count} images were written")
                with _input_errors(path):
                    writer.finish()
            with _input_errors(path):
                (partial / _PROGRESS).unlink()  # nothing resumes a file whose metadata is being changed
                reach_disk(partial / _STORE, partial)  # a power cut leaves no `complete` before the data
                mark_complete(partial / _STORE)
                reach_disk(partial / _STORE)
                (partial / _STORE).replace(path)
                reach_disk(path.parent)
                shutil.rmtree(partial, ignore_errors=True)
        except Exception:
            shutil.rmtree(partial, ignore_errors=True)
            raise


def _check_target(path: Path) -> None:
    if not path.parent.is_dir():
        raise InputError(f"{path}: must lie in a folder that exists, not in {path.parent}")
    if path.is_dir():
        raise InputError(f"{path}: must be a file, not a folder")
    if path.exists() and not is_store(path):
        raise InputError(f"{path}: must be a store or a new file, not a file of another kind")


def is_store(path: Path) -> bool:
    """Return whether a file is a store, finished or not; raise InputError where it is being written."""
    try:
        with h5py.File(path, "r") as file:
            return str(file.attrs.get("schema", "")).startswith(SCHEMA.partition("/")[0])
    except BlockingIOError:
        raise InputError(f"{path}: {HELD}") from None
    except UNREADABLE:
        return False


def _committed(partial: Path, plan: StorePlan) -> int:
    """Return how many images an earlier build of an equal plan has committed; 0 where they are not all there."""
    try:
        progress = json.loads((partial / _PROGRESS).read_text())
        done = progress["images"]
        promised = type(done) is int and 0 <= done <= plan.image_count and progress == _progress(plan, done)
        return done if promised and _is_kept(partial, plan, done) else 0
    except UNREADABLE:
        return 0


def _progress(plan: StorePlan, done: int) -> dict[str, str | int]:
    return dict(plan=plan.digest, boot=_boot(), images=done)


def _is_kept(partial: Path, plan: StorePlan, done: int) -> bool:
    """Return whether the store has its place for all images, or the shards hold the first `done`."""
    if plan.compression is None:
        return _images_of(partial / _STORE, plan) == plan.image_count
    kept = 0
    while kept < done:
        kept += _images_of(partial / _SEALED.format(kept), plan)
    return kept == done


def _images_of(path: Path, plan: StorePlan) -> int:
    """Return how many images a file has of every variable; raise ValueError where it is not one of the plan."""
    expected = [(v.shape[1:], v.dtype, plan.compression is None) for v in plan.streamed]
    with h5py.File(path, "r") as file:
        found = [file[v.path] for v in plan.streamed]
        counts, forms = {len(x) for x in found}, [(x.shape[1:], x.dtype, x.chunks is None) for x in found]
    if forms != expected or len(counts) != 1 or 0 in counts:
        raise ValueError(f"{path}: must hold whole images of the plan")
    return counts.pop()


def _record(partial: Path, plan: StorePlan, done: int) -> None:
    temporary = partial / f"{_PROGRESS}.new"
    temporary.write_text(json.dumps(_progress(plan, done)))
    temporary.replace(partial / _PROGRESS)


def _start_afresh(partial: Path, plan: StorePlan) -> None:
    for path in partial.iterdir():
        if path.name != _LOCK:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    if plan.compression is None:
        create_file(partial / _STORE, plan)


def _check_room(path: Path, partial: Path, plan: StorePlan, done: int) -> None:
    """Raise InputError before anything is computed where the disk has no room for the rest of an uncompressed store."""
    needed = plan.image_bytes * (plan.image_count - done) if done else plan.nbytes
    free = shutil.disk_usage(partial).free
    if plan.compression is None and needed > free:
        if not done:
            shutil.rmtree(partial, ignore_errors=True)
        raise InputError(f"{path}: must have {needed:,} bytes of disk, {free:,} are free")


def _check_values(variable: Variable, first_image: int, values: np.ndarray) -> None:
    found, expected = (values.shape[1:], values.dtype), (variable.shape[1:], variable.dtype)
    if found != expected or first_image + len(values) > variable.shape[0]:
        raise ValueError(f"{variable.path} from {first_image} must be {expected}, not {len(values)} of {found}")


class StoreWriter:
    """What takes a store's data. `done` images are there from the start; after `commit(n)`, the first `n` are.

    `write` may be called from another thread than `commit`, one call at a time.
    """

    def __init__(self, path: Path, plan: StorePlan, done: int):
        self.done = done
        self._path, self._plan, self._partial = path, plan, partial_folder(path)
        self._variables = {variable.path: variable for variable in plan.streamed}

    def write(self, variable: str, first_image: int, values: np.ndarray) -> None:
        """Write `values` `(image, ...)`, of the variable's very dtype, from `first_image` on."""
        _check_values(self._variables[variable], first_image, values)
        with _input_errors(self._path):
            self._put(self._variables[variable], first_image, values)

    def commit(self, done: int) -> None:
        """Record that every variable of the first `done` images is written."""
        with _input_errors(self._path):
            self._seal()
            if not _boot():
                reach_disk(*self._partial.iterdir(), self._partial)
            _record(self._partial, self._plan, done)
        self.done = done


class _ContiguousWriter(StoreWriter):
    """Writes each batch at its place in the file.

    The data goes on to the disk while more is computed, so that little is left to wait for when the store is finished.
    """

    def __init__(self, path: Path, plan: StorePlan, done: int):
        super().__init__(path, plan, done)
        self._offsets = data_offsets(self._partial / _STORE, plan)
        self._file = os.open(self._partial / _STORE, os.O_RDWR)
        self._flusher = ThreadPoolExecutor(1)
        self._flushed = self._flusher.submit(int)  # nothing yet

    def _put(self, variable: Variable, first_image: int, values: np.ndarray) -> None:
        offset = self._offsets[variable.path] + first_image * (variable.nbytes // variable.shape[0])
        data = memoryview(np.ascontiguousarray(values)).cast("B")
        while data:
            written = os.pwrite(self._file, data[:_MAX_WRITE], offset)
            data, offset = data[written:], offset + written
        if self._flushed.done():
            self._flushed.result()
            self._flushed = self._flusher.submit(_flush, self._file)

    def _seal(self) -> None:
        """Do nothing: what was written is in its place."""

    def finish(self) -> None:
        """Raise the error of a flush that failed: no later one would tell it."""
        self._flushed.result()

    def close(self) -> None:
        self._flusher.shutdown()
        os.close(self._file)


class _ShardWriter(StoreWriter):
    """Compresses each batch into a shard, and copies the shards' chunks into the store at the end."""

    _shard: WritableHDF5 | None = None

    def _put(self, variable: Variable, first_image: int, values: np.ndarray) -> None:
        if self._shard is None:
            self._shard = WritableHDF5(self._partial / _SHARD, "w")
        create_chunked(self._shard.file, variable, values.shape, self._plan.compression)[...] = values

    def _seal(self) -> None:
        self.close()
        (self._partial / _SHARD).replace(self._partial / _SEALED.format(self.done))

    def finish(self) -> None:
        create_file(self._partial / _STORE, self._plan)
        with WritableHDF5(self._partial / _STORE, "r+") as store:
            for shard in sorted(self._partial.glob("[0-9]*.h5")):
                copy_chunks(shard, store, int(shard.stem))

    def close(self) -> None:
        if self._shard is not None:
            shard, self._shard = self._shard, None
            with _input_errors(self._path):
                shard.close()


@contextlib.contextmanager
def _input_errors(path: Path) -> Iterator[None]:
    """Raise InputError that names `path` for what the system says of files."""
    try:
        yield
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else str(error).partition("\n")[0]
        raise InputError(f"{path}: must be writable: {reason}") from None


@contextlib.contextmanager
def _hold(path: Path, partial: Path) -> Iterator[None]:
    """Hold the folder for this process alone; the system lets go of it however the process ends."""
    with _input_errors(path):
        lock = os.open(partial / _LOCK, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        if not _is_locked(lock, partial):
            raise InputError(f"{path}: another build is writing it now")
        yield
    finally:
        os.close(lock)
        with contextlib.suppress(OSError):  # where it was open, NFS has kept it, and so the folder, until now
            partial.rmdir()


def _is_locked(lock: int, partial: Path) -> bool:
    """Lock an open file of a folder; return whether that could be done, and it is still the one that has the name.

    It is open for writing, since NFS locks no other for one process alone. Where a file system has no locks at all,
    nothing keeps two builds of one store apart.
    """
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in _LOCKLESS:
            raise
    try:
        return os.path.samestat(os.fstat(lock), (partial / _LOCK).stat())
    except FileNotFoundError:
        return False


def _boot() -> str:
    """Return a name of this start of the machine: what a killed process wrote outlives the process, not a power cut.

    Empty where the system has none: there a commit waits for the disk.
    """
    path = Path("/proc/sys/kernel/random/boot_id")
    return path.read_text().strip() if path.exists() else ""


def reach_disk(*paths: Path) -> None:
    """Wait until the contents of files, and the names in folders, are on the disk."""
    for path in paths:
        file = os.open(path, os.O_RDONLY)
        try:
            os.fsync(file)
        finally:
            os.close(file)
