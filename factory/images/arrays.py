"""Images in NumPy's files: an `.npy`, mapped into memory, or an `.npz`, of which a batch at a time is in memory."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np

from factory.images.collection import Collection, check_label_form, to_labels, unlabelled
from factory.images.npz import DAMAGE, Member, first_line, open_members
from factory.spec import InputError

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
