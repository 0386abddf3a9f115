"""The axes that a layout may name in place of its role's: single channels, rows and columns of a map, others' loops."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Int64

from factory.spec import ComparisonError

ROWS = {"nij": ("y", "x"), "onij": ("oy", "ox")}
BIT, WORD = "bit", "word"

Positions = Int64[np.ndarray, "*_"]


@dataclass(frozen=True)
class NamedAxes:
    """What the axes of one role's vector may be taken as.

    `channels` has, of `ic` and `oc`, the axes of the tile and its lane, and how many channels there are. `pixels` has,
    of `nij` and `onij`, the places that are there in row-major order and the width of a row. `loops` are the sizes of
    what other roles loop over. `labels` are what the places on the axes stand for.
    """

    channels: Mapping[str, tuple[tuple[str, ...], int]]
    pixels: Mapping[str, tuple[Sequence[int], int]]
    loops: Mapping[str, int]
    labels: Mapping[str, Sequence[int]]

    def take(self, layout: Mapping[str, Any], position: Positions, names: list[str]) -> tuple[Positions, list[str]]:
        """Return the positions of a vector with the axes that the layout names, and these."""
        needed = needed_axes(layout)
        for dim, (axes, count) in self.channels.items():
            if dim in needed and len(axes) == 2 and set(axes) <= set(names):
                rest = [name for name in names if name not in axes]
                moved = position.transpose([names.index(name) for name in (*axes, *rest)])
                position = moved.reshape(-1, *moved.shape[2:])[:count]
                names = [dim, *rest]
        for axis, (places, width) in self.pixels.items():
            if axis not in names:
                continue
            by_rows, at = bool(needed & set(ROWS[axis])), names.index(axis)
            if (by_rows and axis == "onij") or len(places) < position.shape[at]:
                position = position.take(places, axis=at)
            if by_rows:
                if len(places) % width:
                    rows = " and ".join(ROWS[axis])
                    raise ComparisonError(f"layout {layout['name']} must take {rows} of a whole map of {width} columns")
                position = position.reshape(*position.shape[:at], -1, width, *position.shape[at + 1 :])
                names = [*names[:at], *ROWS[axis], *names[at + 1 :]]
        for axis, count in self.loops.items():
            if axis in needed and axis not in names:
                position = np.stack([position] * count)
                names = [axis, *names]
        return position, names


def needed_axes(layout: Mapping[str, Any]) -> set[str]:
    """Return the axes that a layout places or divides and that none of its splits makes."""
    needed = {axis.removeprefix("-") for part in ("files", "lines", "lanes") for axis in layout[part]}
    for split in layout["split"][::-1]:
        made = {split["outer"], split["inner"]} & needed
        needed -= made
        if made:
            needed.add(split["axis"])
    return needed
