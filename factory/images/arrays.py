"""Images in NumPy's files: an `.npy`, mapped into memory, or an `.npz`, of which a batch at a time is in memory."""

from __future__ import annotations

import math
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from factory.images.collection import Collection, unlabelled
from factory.spec import InputError

_LABELS = ("labels", "label")
_MAX_LABEL = np.iinfo(np.int16).max


def open_npy(path: Path, image_shape: tuple[int, int, int]) -> Collection:
    """Open uint8 `(image, y, x, colour)`; `image_shape` is what the network takes, `(colour, y, x)`."""
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise InputError(f"{path}: must be a NumPy array: {_one_line(error)}") from None
    if not isinstance(array, np.ndarray):
        array.close()
        raise InputError(f"{path}: must be a NumPy array: it is an archive of arrays (.npz)")
    _check(str(path), array.shape, array.dtype, image_shape)

    def read(index: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return np.ascontiguousarray(array[index].transpose(0, 3, 1, 2)), unlabelled(len(index))

    return Collection(path.name, len(array), read)


def open_npz(path: Path, image_shape: tuple[int, int, int]) -> Collection:
    """Open `pixels`, or else the only array with four axes, with `labels` or `label` where they are there.

    The array must be uint8 `(image, y, x, colour)`; one called `pixels` may also be `(image, colour, y, x)`.
    """
    try:
        members = _members(path)
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise InputError(f"{path}: must be an archive of NumPy arrays: {_one_line(error)}") from None
    name = _image_member(path, members)
    pixels, address = members[name], f"{path}: {name}"
    if pixels.columns_first:
        raise InputError(f"{address}: must be in C order, not in Fortran's")
    planar = name == "pixels" and pixels.shape[1:] == image_shape and pixels.dtype == np.uint8
    if not planar:
        _check(address, pixels.shape, pixels.dtype, image_shape)
    labels = _labels(path, members, pixels.shape[0])

    def read(index: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        found = pixels.rows(index)
        return found if planar else np.ascontiguousarray(found.transpose(0, 3, 1, 2)), labels[index]

    return Collection(path.name, pixels.shape[0], read)


def _one_line(error: Exception) -> str:
    return str(error).partition("\n")[0]


def _check(address: str, shape: tuple[int, ...], dtype: np.dtype, image_shape: tuple[int, int, int]) -> None:
    colours, height, width = image_shape
    if dtype != np.uint8 or len(shape) != 4 or shape[1:] != (height, width, colours):
        raise InputError(f"{address}: must be uint8 (images, {height}, {width}, {colours}), not {dtype} {shape}")
    if not shape[0]:
        raise InputError(f"{address}: must hold at least one image, it is empty")


def _image_member(path: Path, members: dict[str, _Member]) -> str:
    names = [name for name, member in members.items() if len(member.shape) == 4]
    if "pixels" in names:
        return "pixels"
    if len(names) != 1:
        found = " ".join(members) or "none"
        raise InputError(
            f"{path}: must hold images as pixels or as its only array with four axes, its arrays are {found}"
        )
    return names[0]


def _labels(path: Path, members: dict[str, _Member], count: int) -> np.ndarray:
    name = next((name for name in _LABELS if name in members), None)
    if name is None:
        return unlabelled(count)
    member = members[name]
    if member.shape != (count,) or member.dtype.kind not in "iu":
        raise InputError(f"{path}: {name}: must be integers ({count},), not {member.dtype} {member.shape}")
    labels = member.rows(np.arange(count))
    for wrong in labels[(labels < 0) | (labels > _MAX_LABEL)][:1]:
        raise InputError(f"{path}: {name}: must be 0 to {_MAX_LABEL}, not {wrong}")
    return labels.astype(np.int16)


@dataclass(frozen=True)
class _Member:
    """One array of an archive; only what is asked for is kept, what lies before it is decompressed again each time."""

    path: Path
    name: str
    start: int
    shape: tuple[int, ...]
    dtype: np.dtype
    columns_first: bool

    @classmethod
    def open(cls, path: Path, name: str, stream: zipfile.ZipExtFile) -> _Member:
        version = np.lib.format.read_magic(stream)
        header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, columns_first, dtype = header(stream)
        return cls(path, name, stream.tell(), shape, dtype, columns_first and len(shape) > 1)

    def rows(self, index: np.ndarray) -> np.ndarray:
        """Return the array's rows at `index`, consecutive ones read at once; raise InputError for a damaged array."""
        try:
            return self._rows(index)
        except (OSError, EOFError, zipfile.BadZipFile, zlib.error) as error:
            address = f"{self.path}: {self.name.removesuffix('.npy')}"
            raise InputError(f"{address} must be a whole array: {_one_line(error)}") from None

    def _rows(self, index: np.ndarray) -> np.ndarray:
        row = self.dtype.itemsize * math.prod(self.shape[1:])
        parts = []
        with zipfile.ZipFile(self.path) as archive, archive.open(self.name) as stream:
            for run in np.split(index, np.flatnonzero(np.diff(index) != 1) + 1):
                stream.seek(self.start + int(run[0]) * row)
                data = stream.read(len(run) * row)
                if len(data) != len(run) * row:
                    raise EOFError(f"it ends in row {run[0] + len(data) // row}")
                parts.append(np.frombuffer(data, self.dtype).reshape(len(run), *self.shape[1:]))
        return np.concatenate(parts)


def _members(path: Path) -> dict[str, _Member]:
    found = {}
    with zipfile.ZipFile(path) as archive:
        for name in archive.namelist():
            if name.endswith(".npy"):
                with archive.open(name) as stream:
                    found[name.removesuffix(".npy")] = _Member.open(path, name, stream)
    return found
