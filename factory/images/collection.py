"""A collection of images that are read when asked for, and the words that pick some of them."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int16, Int64, UInt8

from factory.spec import InputError

NO_LABEL = -1

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


def pick_images(pick: str | None, count: int) -> Int64[np.ndarray, " image"]:
    """Return the places that `pick` names, in its order: None or `all`, or with commas `3`, `0:16`, `4:` and `:4`.

    A range ends before its second number. Raise InputError where nothing is picked or a place is not below `count`.
    """
    if pick is None or pick.strip() == "all":
        return np.arange(count, dtype=np.int64)
    ranges = [_range(item.strip(), count) for item in pick.split(",") if item.strip()]
    picked = np.concatenate([np.arange(0), *ranges]).astype(np.int64)
    if not picked.size:
        raise InputError(f"the pick of images must hold at least one image, {pick!r} is empty")
    return picked


def _range(item: str, count: int) -> np.ndarray:
    match = re.fullmatch(r"(?P<only>\d+)|(?P<start>\d*):(?P<stop>\d*)", item)
    if not match:
        raise InputError(f"a pick of images must be all, or numbers and ranges such as 0:16,20, not {item!r}")
    only = match["only"]
    places = range(int(only), int(only) + 1) if only else range(int(match["start"] or 0), int(match["stop"] or count))
    if places and places[-1] >= count:
        raise InputError(f"images must be 0 to {count - 1}, not {max(places[0], count)}")
    return np.arange(places.start, places.stop)
