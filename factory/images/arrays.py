"""Images in NumPy's files: an `.npy`, mapped into memory, or an `.npz`, of which a batch at a time is in memory."""

from __future__ import annotations

import math
import tokenize
import warnings
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Int64

from factory.images.collection import Collection, check_label_form, to_labels, unlabelled
from factory.spec import InputError

DAMAGE = (
    OSError, EOFError, ValueError, TypeError, SyntaxError, LookupError, ArithmeticError, RuntimeError,
    tokenize.TokenError, zipfile.BadZipFile, zlib.error,
)  # fmt: skip
"""What Python and NumPy raise for a file of arrays that is damaged or encrypted, or is none."""

_PIECE = 2**20


def first_line(error: BaseException) -> str:
    """Return what an error says, without a second line, or its name where it says nothing."""
    if isinstance(error, (SyntaxError, tokenize.TokenError)):
        return "its header cannot be read"
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return text.partition("\n")[0] or type(error).__name__


@dataclass(frozen=True)
class Member:
    """One array of an archive; only what is asked for is kept, what lies before it is decompressed again each time."""

    path: Path
    name: str
    start: int
    shape: tuple[int, ...]
    dtype: np.dtype
    columns_first: bool

    @property
    def _row_bytes(self) -> int:
        return self.dtype.itemsize * math.prod(self.shape[1:])

    def check(self) -> None:
        """Read the array once to its end, in bounded memory; raise InputError where it is damaged."""
        with self._values() as stream:
            found = sum(len(piece) for piece in iter(lambda: stream.read(_PIECE), b""))
            self._check_length(found)

    def rows(self, index: Int64[np.ndarray, " row"]) -> np.ndarray:
        """Return the array's rows at `index`, consecutive ones read at once; raise InputError for a damaged array."""
        parts = []
        with self._values() as stream:
            for run in np.split(index, np.flatnonzero(np.diff(index) != 1) + 1):
                first = int(run[0]) * self._row_bytes
                stream.seek(self.start + first)
                data = stream.read(len(run) * self._row_bytes)
                if len(data) != len(run) * self._row_bytes:
                    self._check_length(first + len(data))
                parts.append(np.frombuffer(data, self.dtype).reshape(len(run), *self.shape[1:]))
        return np.concatenate(parts)

    def array(self) -> np.ndarray:
        """Return the whole array in the machine's byte order; raise InputError where it is damaged."""
        size = self.dtype.itemsize * math.prod(self.shape)
        with self._values() as stream:
            data = stream.read(size)
            self._check_length(len(data))
            while stream.read(_PIECE):  # the checksum is compared at the end
                pass
            flat = np.frombuffer(data, self.dtype).astype(self.dtype.newbyteorder("="), copy=False)
        return flat.reshape(self.shape[::-1]).T if self.columns_first else flat.reshape(self.shape)

    @contextmanager
    def _values(self) -> Iterator[zipfile.ZipExtFile]:
        try:
            with zipfile.ZipFile(self.path) as archive, archive.open(self.name) as stream:
                stream.seek(self.start)
                yield stream
        except DAMAGE as error:
            address = f"{self.path}: {self.name.removesuffix('.npy')}"
            raise InputError(f"{address} must be a whole array: {first_line(error)}") from None

    def _check_length(self, found: int) -> None:
        if found < self.dtype.itemsize * math.prod(self.shape):
            raise EOFError(f"it ends in row {found // self._row_bytes}" if self.shape else "it has no value")


def open_members(path: Path, what: str) -> dict[str, Member]:
    """Read the form of every array of an archive; raise InputError, which says that it must be `what`, for another."""
    try:
        with zipfile.ZipFile(path) as archive:
            return {
                info.filename.removesuffix(".npy"): _open_member(path, archive, info)
                for info in archive.infolist()
                if info.filename.endswith(".npy")
            }
    except DAMAGE as error:
        raise InputError(f"{path}: must be {what}: {first_line(error)}") from None


def _open_member(path: Path, archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> Member:
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise ValueError(f"{info.filename} must be stored or deflated, not compressed by method {info.compress_type}")
    with (
        archive.open(info.filename) as stream,
        warnings.catch_warnings(action="ignore"),
    ):  # a header of Python 2 is no mistake
        version = np.lib.format.read_magic(stream)
        header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, columns_first, dtype = header(stream)
        if any(size < 0 for size in shape):
            raise ValueError(f"{info.filename} must have a shape that is not negative, not {shape}")
        return Member(path, info.filename, stream.tell(), shape, dtype, columns_first and len(shape) > 1)


_LABELS = ("labels", "label")


def open_npy(path: Path, image_shape: tuple[int, int, int]) -> Collection:
    """Open uint8 `(image, y, x, colour)`; `image_shape` is what the network takes, `(colour, y, x)`."""
    try:
        with warnings.catch_warnings(action="ignore"):  # a header of Python 2 is no mistake
            array = np.load(path, mmap_mode="r", allow_pickle=False)
    except DAMAGE as error:
        raise InputError(f"{path}: must be a NumPy array: {first_line(error)}") from None
    if not isinstance(array, np.ndarray):
        array.close()
        raise InputError(f"{path}: must be a NumPy array: it is an archive of arrays (.npz)")
    _check_form(str(path), array.shape, array.dtype, image_shape)
    _check_count(str(path), len(array))

    def read(index: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return np.ascontiguousarray(array[index].transpose(0, 3, 1, 2)), unlabelled(len(index))

    return Collection(path.name, len(array), read)


def open_npz(path: Path, image_shape: tuple[int, int, int]) -> Collection:
    """Open `pixels`, or else the only array with four axes, with `labels` or `label` where they are there.

    The array must be uint8 `(image, y, x, colour)`; one called `pixels` may also be `(image, colour, y, x)`. What is
    taken is read once to its end, so that damage is known before an image is used.
    """
    members = open_members(path, "an archive of NumPy arrays")
    name = _image_member(path, members)
    pixels, address = members[name], f"{path}: {name}"
    if pixels.columns_first:
        raise InputError(f"{address}: must be in C order, not in Fortran's")
    planar = name == "pixels" and pixels.shape[1:] == image_shape and pixels.dtype == np.uint8
    if not planar:
        _check_form(address, pixels.shape, pixels.dtype, image_shape)
    _check_count(address, pixels.shape[0])
    labels = _labels(path, members, pixels.shape[0])
    pixels.check()

    def read(index: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        found = pixels.rows(index)
        return found if planar else np.ascontiguousarray(found.transpose(0, 3, 1, 2)), labels[index]

    return Collection(path.name, pixels.shape[0], read)


def _check_form(address: str, shape: tuple[int, ...], dtype: np.dtype, image_shape: tuple[int, int, int]) -> None:
    colours, height, width = image_shape
    if dtype != np.uint8 or len(shape) != 4 or shape[1:] != (height, width, colours):
        raise InputError(f"{address}: must be uint8 (images, {height}, {width}, {colours}), not {dtype} {shape}")


def _check_count(address: str, count: int) -> None:
    if count < 1:
        raise InputError(f"{address}: must hold at least one image, it is empty")


def _image_member(path: Path, members: dict[str, Member]) -> str:
    names = [name for name, member in members.items() if len(member.shape) == 4]
    if "pixels" in names:
        return "pixels"
    if len(names) != 1:
        found = " ".join(members) or "none"
        raise InputError(
            f"{path}: must hold images as pixels or as its only array with four axes, its arrays are {found}"
        )
    return names[0]


def _labels(path: Path, members: dict[str, Member], count: int) -> np.ndarray:
    name = next((name for name in _LABELS if name in members), None)
    if name is None:
        return unlabelled(count)
    check_label_form(f"{path}: {name}", members[name].shape, members[name].dtype, count)
    return to_labels(f"{path}: {name}", members[name].array())
