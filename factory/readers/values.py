"""Arrays of whole numbers in files: NumPy's, HDF5, and text as testbenches have it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from factory.spec import InputError

TEXTS = (".txt", ".csv", ".dat", ".mem")
SUFFIXES = (".npy", *TEXTS)
_FIELD = re.compile(r"[\s,;]+")
_MOST = 2.0**63
_COMMENT = re.compile(r"(#|//).*")


def read_values(path: Path) -> np.ndarray:
    """Return the numbers of an .npy, or of a text of decimal fields, one row a line; raise InputError for others.

    Fields of a text are parted by blanks or commas; what follows `#` or `//` in a line is a comment.
    """
    if path.suffix not in SUFFIXES:
        raise InputError(f"{path}: must be one of {' '.join(SUFFIXES)}, not {path.suffix or 'a file without a suffix'}")
    try:
        if path.suffix == ".npy":
            return np.load(path, allow_pickle=False)
        return _parse(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, EOFError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error).partition("\n")[0]
        raise InputError(f"{path}: must be an array of whole numbers: {reason}") from None


def _parse(text: str) -> np.ndarray:
    rows = [(place, _FIELD.split(line)) for place, line in _lines(text)]
    if not rows:
        raise ValueError("it has none")
    width = len(rows[0][1])
    for place, fields in rows:
        if len(fields) != width:
            raise ValueError(f"line {place} must have {width} fields as line {rows[0][0]}, not {len(fields)}")
        for field in fields:
            if not re.fullmatch(r"[+-]?\d{1,18}", field, re.ASCII):
                raise ValueError(f"line {place} must have decimal fields, not {field[:40]!r}")
    return np.array([fields for _, fields in rows]).astype(np.int64)


def _lines(text: str) -> Iterator[tuple[int, str]]:
    """Yield the number and the fields of each line that has some."""
    for place, line in enumerate(text.splitlines(), 1):
        fields = _COMMENT.sub("", line).strip().strip(",;").strip()
        if fields:
            yield place, fields


def read_named(path: Path) -> dict[str, np.ndarray]:
    """Return every array of an .npz, of an HDF5 file (`a/b` is called `a.b`) or of a folder's files, by its name.

    Raise InputError where there are none, or the source is none of these.
    """
    if path.is_dir():
        files = sorted(file for file in path.iterdir() if file.suffix in SUFFIXES)
        named = {file.name.removesuffix(file.suffix): file for file in files}
        if len(named) != len(files):
            twice = next(file for file in files if named[file.name.removesuffix(file.suffix)] != file)
            raise InputError(f"{path}: each array must be in one file, {twice.name} is there with another suffix")
        found: Mapping[str, np.ndarray] = {name: read_values(file) for name, file in named.items()}
    elif path.suffix == ".npz":
        found = _read_npz(path)
    else:
        found = _read_hdf5(path)
    if not found:
        raise InputError(f"{path}: must hold arrays <layer>.weight and <layer>.activation, it holds none")
    return dict(found)


def read_inputs(path: Path) -> np.ndarray | dict[str, np.ndarray]:
    """Return the array of an .npy, or the arrays of an .npz by their names; raise InputError for anything else."""
    if not path.is_file():
        raise InputError(f"{path}: must be an .npy or an .npz, there is no such file")
    return _read_npz(path) if path.suffix == ".npz" else read_values(path)


def _read_npz(path: Path) -> dict[str, np.ndarray]:
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except Exception as error:  # what zipfile, zlib and NumPy raise for damage has no common base
        raise InputError(f"{path}: must be a whole .npz: {str(error).partition(chr(10))[0]}") from None


def _read_hdf5(path: Path) -> dict[str, np.ndarray]:
    import h5py

    arrays: dict[str, np.ndarray] = {}

    def take(name: str, item: object) -> None:
        if isinstance(item, h5py.Dataset) and item.shape is not None and item.dtype.kind in "iufb":
            arrays[name.replace("/", ".")] = item[()]

    try:
        with h5py.File(path, "r") as file:
            if "schema" in file.attrs:
                raise InputError(f"{path}: must hold arrays to capture, it is a store already")
            file.visititems(take)
    except (OSError, RuntimeError, ValueError, TypeError) as error:
        raise InputError(f"{path}: must be an .npz, an HDF5 file or a folder of arrays: {error}") from None
    return arrays


def whole_numbers(values: np.ndarray, what: str) -> np.ndarray:
    """Return values as int64; raise InputError, which begins with `what`, where one is not a whole number.

    None is rounded: the message has the value that is furthest from one.
    """
    if values.dtype.kind in "iub":
        largest = int(values.max(initial=0))
        if largest > np.iinfo(np.int64).max:
            raise InputError(f"{what} must be whole numbers of 64 bits, not {largest}")
        return values.astype(np.int64)
    if values.dtype.kind != "f":
        raise InputError(f"{what} must be numbers, not {values.dtype}")
    if not np.isfinite(values).all():
        raise InputError(f"{what} must be finite")
    largest = float(np.abs(values).max(initial=0))
    if largest >= _MOST:
        raise InputError(f"{what} must be whole numbers of 64 bits, not {largest:.6g}")
    off = np.abs(values - np.rint(values))
    if off.any():
        place = np.unravel_index(int(off.argmax()), off.shape)
        raise InputError(f"{what} must be whole numbers, not {values[place]} at {tuple(map(int, place))}")
    return values.astype(np.int64)
