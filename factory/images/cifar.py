"""CIFAR-10's official files (https://www.cs.toronto.edu/~kriz/cifar.html), binary or Python, read in place."""

from __future__ import annotations

import functools
import pickle
from pathlib import Path
from typing import IO, Any

import numpy as np

from factory.images.collection import Collection, check_label_form, concatenate, to_labels
from factory.spec import InputError

SHAPE = (3, 32, 32)
_PIXELS = 3 * 32 * 32
RECORD = 1 + _PIXELS
"""Bytes of an image in the binary files: a label, then the pixels, red plane first."""
FILES = {"train": tuple(f"data_batch_{n}" for n in range(1, 6)), "test": ("test_batch",)}
_DAMAGE = (
    pickle.UnpicklingError, EOFError, LookupError, TypeError, ValueError, AttributeError, ArithmeticError, RuntimeError,
    SyntaxError, SystemError, MemoryError,
)  # fmt: skip
"""What Python and NumPy raise for a pickle that is damaged, or is of something else."""
_FOLDERS = ("", "cifar-10-batches-bin", "cifar-10-batches-py")


def find_cifar(folder: Path) -> Path | None:
    """Return the folder with CIFAR-10's files: `folder`, or one in it of an official name; None where there is none."""
    names = [f"{name}{suffix}" for files in FILES.values() for name in files for suffix in (".bin", "")]
    for inner in _FOLDERS:
        if any((folder / inner / name).is_file() for name in names):
            return folder / inner
    return None


def open_cifar(folder: Path, split: str) -> Collection:
    """Open the images of `split`, `train` or `test`, in the files' order."""
    parts = []
    for name in FILES[split]:
        binary, python = folder / f"{name}.bin", folder / name
        if not binary.is_file() and not python.is_file():
            raise InputError(f"{folder}: must hold {name}.bin or {name} for split {split}, it does not")
        parts.append(_open_binary(binary) if binary.is_file() else _open_python(python))
    return concatenate(f"{folder.name} {split}", parts)


def _open_binary(path: Path) -> Collection:
    size = path.stat().st_size
    if size == 0 or size % RECORD:
        raise InputError(f"{path}: must be whole records of {RECORD} bytes, not {size} bytes")
    records = np.memmap(path, np.uint8, mode="r", shape=(size // RECORD, RECORD))

    def read(index: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        found = np.asarray(records[index])
        return np.ascontiguousarray(found[:, 1:]).reshape(-1, *SHAPE), found[:, 0].astype(np.int16)

    return Collection(path.name, len(records), read)


def _open_python(path: Path) -> Collection:
    """Open a pickled dictionary of `data`, uint8 `(image, 3072)`, and `labels`; one file at a time is in memory."""

    def read(index: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        data, labels = _load_python(path)
        return data[index].reshape(-1, *SHAPE), labels[index]

    return Collection(path.name, len(_load_python(path)[0]), read)


@functools.lru_cache(maxsize=1)
def _load_python(path: Path) -> tuple[np.ndarray, np.ndarray]:
    try:
        with path.open("rb") as file:
            batch = _BatchUnpickler(file).load()
        data, labels = np.asarray(batch[b"data"]), np.asarray(batch[b"labels"])
    except _DAMAGE as error:
        reason = f"{type(error).__name__} {str(error).partition(chr(10))[0]}".rstrip()
        raise InputError(f"{path}: must be a pickled batch of CIFAR-10: {reason}") from None
    if data.dtype != np.uint8 or data.shape != (labels.size, _PIXELS):
        raise InputError(f"{path}: data must be uint8 ({labels.size}, {_PIXELS}), not {data.dtype} {data.shape}")
    if not len(data):
        raise InputError(f"{path}: must hold at least one image, it is empty")
    check_label_form(f"{path}: labels", labels.shape, labels.dtype, len(data))
    return data, to_labels(f"{path}: labels", labels)


class _BatchUnpickler(pickle.Unpickler):
    """An unpickler that makes NumPy arrays, and nothing else that could run code."""

    _RECONSTRUCT = np.empty(0).__reduce__()[0]
    _ALLOWED = {
        ("numpy.core.multiarray", "_reconstruct"): _RECONSTRUCT,
        ("numpy._core.multiarray", "_reconstruct"): _RECONSTRUCT,
        ("numpy", "ndarray"): np.ndarray,
        ("numpy", "dtype"): np.dtype,
    }

    def __init__(self, file: IO[bytes]):
        super().__init__(file, encoding="bytes")

    def find_class(self, module: str, name: str) -> Any:
        """Return one of the allowed names; raise UnpicklingError for any other."""
        if (module, name) == ("_codecs", "encode"):
            return _latin1
        if (module, name) not in self._ALLOWED:
            raise pickle.UnpicklingError(f"{module}.{name} is not part of one")
        return self._ALLOWED[module, name]


def _latin1(text: str, encoding: str) -> bytes:
    """Return the bytes that Python 3 writes as text into pickles of protocol 2."""
    return text.encode("latin1")
