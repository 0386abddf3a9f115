"""Where the values of a vector lie in its files: a layout record, read as an index array."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Int64

from factory.spec import ComparisonError

Layout = Mapping[str, Any]
"""A layout record of a manifest."""


def layout_axes(layout: Layout) -> tuple[str, ...]:
    """Return the axes that a layout places: those of its files, of its lines, of its lanes."""
    return tuple(axis.removeprefix("-") for part in ("files", "lines", "lanes") for axis in layout[part])


def places(layout: Layout, axes: Sequence[str], shape: Sequence[int]) -> tuple[Int64[np.ndarray, "*_"], dict[str, int]]:
    """Return `(place, sizes)`: `place[file axes..., line, lane]` is a flat place in a vector of `axes` and `shape`.

    `sizes` are those of the layout's axes, after its splits. The axes of files are in ascending order, whatever their
    signs. Raise ComparisonError where the layout does not place every axis of the vector once.
    """
    place, names = np.arange(int(np.prod(shape))).reshape(shape), list(axes)
    for split in layout["split"]:
        if split["axis"] not in names or place.shape[names.index(split["axis"])] % split["size"]:
            raise ComparisonError(
                f"layout {layout['name']} must split an axis of {' '.join(names)} evenly, not {split}"
            )
        at = names.index(split["axis"])
        place = place.reshape(*place.shape[:at], -1, split["size"], *place.shape[at + 1 :])
        names[at : at + 1] = [split["outer"], split["inner"]]
    wanted = layout_axes(layout)
    if sorted(wanted) != sorted(names):
        raise ComparisonError(f"layout {layout['name']} must place the axes {' '.join(names)}, not {' '.join(wanted)}")
    place = place.transpose([names.index(axis) for axis in wanted])
    sizes = dict(zip(wanted, place.shape, strict=True))
    files, lines = len(layout["files"]), len(layout["lines"])
    for at, axis in enumerate((*layout["lines"], *layout["lanes"]), files):
        if axis.startswith("-"):
            place = np.flip(place, at)
    line_count = int(np.prod(place.shape[files : files + lines]))
    return place.reshape(*place.shape[:files], line_count, -1), sizes
