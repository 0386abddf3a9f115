"""The HDF5 side of writing: an empty file of a plan's layout, contiguous or chunked, with its dimension scales."""

from __future__ import annotations

import io
import itertools
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from factory.spec import InputError
from factory.store.variables import StorePlan, Variable

CHUNK_BYTES = 2**18
_ALIGNMENT = 4096
UNREADABLE = (OSError, RuntimeError, LookupError, ValueError, TypeError, AttributeError, ArithmeticError)
"""What h5py, and what reads its objects, raises for a file that is damaged or holds something else."""
_NO_LOCK = "unable to lock file"
HELD = "held open for writing by another process"
"""What a file is that HDF5 cannot lock: h5py says so by a BlockingIOError, which is an OSError too."""


class WritableHDF5:
    """An HDF5 file open for writing (`.file`), and the error of a full disk, which `close` raises.

    HDF5 does not survive a write that fails: it fails again in every later close, at the process's end too, each time
    with lines of its own. So it writes through a file object that keeps the first error, an interrupt too, and answers
    that all went well.
    """

    def __init__(self, path: Path, mode: str):
        self._raw = _ErrorKeeper(path, {"w": "w+", "r+": "r+"}[mode])
        self.file = h5py.File(self._raw, mode, alignment_threshold=_ALIGNMENT, alignment_interval=_ALIGNMENT)

    def __enter__(self) -> h5py.File:
        return self.file

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file; raise the error of the first write to it that failed."""
        self.file.close()
        self._raw.close()
        if self._raw.error is not None:
            raise self._raw.error


class _ErrorKeeper(io.FileIO):
    error: BaseException | None = None

    def write(self, data: Any) -> int:
        left = memoryview(data).cast("B")
        try:
            while left and self.error is None:
                left = left[super().write(left) :]
        except BaseException as error:
            self.error = error
        return len(data)

    def truncate(self, size: int | None = None) -> int:
        try:
            return super().truncate(size)
        except BaseException as error:
            self.error = self.error or error
            return size or 0


def compression_filters(compression: str) -> Mapping:
    """Return h5py's arguments for `gzip`, or bitshuffle and `lz4` or `zstd`; raise InputError without hdf5plugin."""
    if compression == "gzip":
        return dict(compression="gzip", compression_opts=4, shuffle=True)
    require_plugin(compression)
    import hdf5plugin

    return hdf5plugin.Bitshuffle(cname=compression)


def require_plugin(compression: str) -> None:
    """Register the HDF5 filter that reads and writes `compression`; raise InputError where it is not installed."""
    if compression in ("lz4", "zstd"):
        try:
            import hdf5plugin  # noqa: F401 (importing it registers its filters)
        except ImportError:
            raise InputError(f"{compression} needs hdf5plugin: pip install 'factory[compression]'") from None


def chunk_shape(shape: tuple[int, ...], itemsize: int, target: int = CHUNK_BYTES) -> tuple[int, ...]:
    """Return the chunk of one image that takes whole axes from the innermost outwards, up to `target` bytes.

    So a chunk is a run of the contiguous order: a full scan reads chunks in the file's order, a batch of images is
    whole chunks, and one tile of every image costs at most `target` bytes an image.
    """
    room, chunk = max(1, target // itemsize), []
    for size in reversed(shape[1:]):
        chunk.append(max(1, min(size, room)))
        room //= chunk[-1]
    return (1, *reversed(chunk))


def create_file(path: Path, plan: StorePlan) -> None:
    """Write the file of a plan: attributes, scales, constants, and every other variable at its full size.

    Uncompressed variables are contiguous and allocated at once, so that each has its place in the file from the start
    and data is written there without HDF5. Nothing in it depends on the time or the machine; it is not `complete`.
    """
    with WritableHDF5(path, "w") as file:
        for group, attributes in plan.groups.items():
            file.require_group(group or "/").attrs.update(attributes)
        file.attrs["complete"] = 0
        scales: dict[str, h5py.Dataset] = {}
        for group, sizes in plan.axes.items():
            for axis, size in sizes.items():
                first = plan.first_image if axis == "image" else 0
                scale = file.create_dataset(f"{group}/{axis}", data=np.arange(first, first + size, dtype="<i4"))
                scale.make_scale(axis)
                scales[f"{group}/{axis}"] = scale
        for variable in plan.variables:
            dataset = _create_variable(file, variable, plan)
            group = variable.path.rpartition("/")[0]
            for place, axis in enumerate(variable.axes):
                h5py.h5ds.attach_scale(dataset.id, scales[f"{group}/{axis}"].id, place)


def _create_variable(file: h5py.File, variable: Variable, plan: StorePlan) -> h5py.Dataset:
    if variable.path in plan.constants:
        return file.create_dataset(variable.path, data=plan.constants[variable.path])
    if plan.compression is None:
        return _create_contiguous(file, variable)
    return create_chunked(file, variable, variable.shape, plan.compression)


def _create_contiguous(file: h5py.File, variable: Variable) -> h5py.Dataset:
    creation = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    creation.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
    creation.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
    creation.set_obj_track_times(False)
    space, kind = h5py.h5s.create_simple(variable.shape), h5py.h5t.py_create(variable.dtype)
    return h5py.Dataset(h5py.h5d.create(file.id, variable.path.encode(), kind, space, creation))


def create_chunked(file: h5py.File, variable: Variable, shape: tuple[int, ...], compression: str) -> h5py.Dataset:
    """Create the dataset of a variable, of `shape` (its first axis may be a batch of the images), compressed."""
    chunks = chunk_shape(variable.shape, variable.dtype.itemsize)
    filters = compression_filters(compression)
    return file.create_dataset(variable.path, shape, variable.dtype, chunks=chunks, fill_time="never", **filters)


def data_offsets(path: Path, plan: StorePlan) -> dict[str, int]:
    """Return where in the file, in bytes, the data of each variable that is written image by image begins."""
    with h5py.File(path, "r") as file:
        return {variable.path: file[variable.path].id.get_offset() for variable in plan.streamed}


def copy_chunks(source: Path, target: h5py.File, first_image: int) -> None:
    """Copy a shard's chunks, still compressed, into the same datasets of `target` from `first_image` on.

    They go image by image, so that the file's bytes do not depend on how the images were split into shards.
    """
    with h5py.File(source, "r") as file:
        datasets: list[h5py.Dataset] = []
        file.visititems(lambda _, item: datasets.append(item) if isinstance(item, h5py.Dataset) else None)
        for image in range(datasets[0].shape[0]):
            for shard in datasets:
                whole = target[shard.name].id
                for place in _chunk_places(shard):
                    mask, data = shard.id.read_direct_chunk((image, *place))
                    whole.write_direct_chunk((first_image + image, *place), data, mask)


def _chunk_places(dataset: h5py.Dataset) -> Iterator[tuple[int, ...]]:
    """Yield where each chunk of one image begins, without the image's axis."""
    starts = (range(0, size, chunk) for size, chunk in zip(dataset.shape[1:], dataset.chunks[1:], strict=True))
    return itertools.product(*starts)


def mark_complete(path: Path) -> None:
    """Write the attribute that makes a file a finished store."""
    with WritableHDF5(path, "r+") as file:
        file.attrs["complete"] = 1


def open_finished(path: Path) -> h5py.File:
    """Open a file that no longer changes, for reading, also where the file system has no locks or gives none.

    Raise BlockingIOError where another process holds it open for writing.
    """
    try:
        return h5py.File(path, "r")
    except BlockingIOError:
        raise
    except OSError as error:
        if _NO_LOCK not in str(error):
            raise
        return h5py.File(path, "r", locking=False)
