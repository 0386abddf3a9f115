"""A collection of images that are read when asked for, and the pick of some of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int16, Int64, UInt8

from factory.spec import InputError, parse_ranges

NO_LABEL = -1
_MAX_LABEL = int(np.iinfo(np.int16).max)

Read = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]
"""From places int64 `(image,)` to pixels uint8 `(image, colour, y, x)` and labels int16 `(image,)`."""


@dataclass(frozen=True)
class Collection:
    """`count` images called `name`; `read` takes some of them, in any order."""

    name: str
    count: int
    read: Read


def concatenate(name: str, parts: Sequence[Collection]) -> Collection:
    """Return the images of all `parts`, one after the other."""
    ends = np.cumsum([part.count for part in parts])

    def read(
        index: Int64[np.ndarray, " image"],
    ) -> tuple[UInt8[np.ndarray, "image colour y x"], Int16[np.ndarray, " image"]]:
        owner = np.searchsorted(ends, index, side="right")
        order = np.argsort(owner, kind="stable")
        groups = [parts[n].read(index[owner == n] - (ends[n] - parts[n].count)) for n in np.unique(owner)]
        pixels, label = (np.concatenate(arrays) for arrays in zip(*groups, strict=True))
        back = np.argsort(order)
        return pixels[back], label[back]

    return Collection(name, int(ends[-1]), read)


def unlabelled(count: int) -> Int16[np.ndarray, " image"]:
    """Return the labels of `count` images that have none."""
    return np.full(count, NO_LABEL, np.int16)


def check_label_form(address: str, shape: tuple[int, ...], dtype: np.dtype, count: int) -> None:
    """Raise InputError unless the labels of `count` images have the form that they must have."""
    if shape != (count,) or dtype.kind not in "iu":
        raise InputError(f"{address}: must be integers ({count},), not {dtype} {shape}")


def to_labels(address: str, values: np.ndarray) -> Int16[np.ndarray, " image"]:
    """Return integers as labels; raise InputError where one is no class."""
    for wrong in values[(values < 0) | (values > _MAX_LABEL)][:1]:
        raise InputError(f"{address}: must be 0 to {_MAX_LABEL}, not {wrong}")
    return values.astype(np.int16)


def pick_images(pick: str | None, count: int) -> Int64[np.ndarray, " image"]:
    """Return the places that `pick` names, in its order (`parse_ranges`; None: all); raise InputError as that does."""
    return np.arange(count, dtype=np.int64) if pick is None else np.array(parse_ranges(pick, count, "pick"), np.int64)
