"""The axes that a layout may name in place of its role's own, and which of them it does name.

A map's pixels have rows and columns, a tile and its lane are a channel, a value has bits, an address stands for several
words, and the loops of other roles repeat a file's words. Sizes come from the layer, so that one profile serves all.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING

from factory.dataflow import PIXELS, ROLES, Dataflow, axes_of
from factory.memfile.regroup import Join, Keep, Repeat, Sizes, Split, Step
from factory.spec import InputError

if TYPE_CHECKING:
    from factory.memfile.layout import Layout

BORDERED = "nij"
MAPS: Mapping[str, tuple[str, str]] = MappingProxyType({BORDERED: ("y", "x"), PIXELS: ("oy", "ox")})
"""The rows and columns of an axis of pixels."""
BIT, WORD = "bit", "word"


@dataclass(frozen=True)
class NamedAxes:
    """What a layout takes the axes of its role as.

    `vector` are the role's axes, and the bits of a value or the words of an address where these have an axis. `joined`
    are the channels, `ic` or `oc`, that come one by one, `mapped` the axes of pixels that come by rows and columns;
    `tiled` says that output pixels come in tiles. `repeated` are loops of other roles. `made` is what comes of all
    this: the axes that the layout's splits divide and its files, lines and lanes place.
    """

    vector: tuple[str, ...]
    joined: tuple[str, ...]
    mapped: tuple[str, ...]
    tiled: bool
    repeated: tuple[str, ...]
    made: tuple[str, ...]


def named_axes(layout: Layout, flow: Dataflow) -> NamedAxes:
    """Return what a layout takes its role's axes as in a dataflow; raise InputError where the role has no border."""
    role, wanted = ROLES[layout.role], wanted_axes(layout)
    own = tuple(axis for axis in axes_of(role, flow) if axis not in layout.edge.sequence)
    if not layout.border and BORDERED not in own:
        raise InputError(f"border must be true for role {role.name}, which has no axis {BORDERED}")
    bit, word = (BIT,) * layout.has_bits, (WORD,) * (layout.pixel_words > 1)
    vector, pixel = (*own, *word, *bit), flow.pixel_tiling
    made = list(vector)
    joined = tuple(
        dim for dim, tiling in flow.tilings.items() if dim in wanted and {tiling.outer, tiling.inner} <= set(own)
    )
    for dim in joined:
        tiling = flow.tilings[dim]
        made[made.index(tiling.outer)] = dim
        made.remove(tiling.inner)
    tiled = pixel is not None and PIXELS in own and pixel.outer in layout.axes
    mapped = tuple(axis for axis in MAPS if axis in own and wanted.intersection(MAPS[axis]))
    replaced = {axis: MAPS[axis] for axis in mapped}
    if tiled:
        replaced |= {PIXELS: (pixel.outer, pixel.inner)}
    for axis, parts in replaced.items():
        at = made.index(axis)
        made[at : at + 1] = parts
    within = (pixel.outer,) if pixel is not None and PIXELS in own else ()  # tiles of pixels that the role has itself
    repeated = tuple(axis for axis in flow.loops if axis in wanted and axis not in (*own, *within))
    return NamedAxes(vector, joined, mapped, tiled, repeated, (*made, *repeated))


def regroups(
    named: NamedAxes, flow: Dataflow, sizes: Sizes, widths: Mapping[str, int], kept: Iterable[Keep] = ()
) -> tuple[Step, ...]:
    """Return the steps to the axes that a layout names.

    `sizes` are those of the vector's axes, of its channels `ic` and `oc`, of a tile of pixels and of the loops;
    `widths` those of a row of each axis of pixels. `kept` is what is left of these axes.
    """
    joins = [Join(flow.tilings[dim].outer, flow.tilings[dim].inner, dim, sizes[dim]) for dim in named.joined]
    splits = [Split(axis, *MAPS[axis], widths[axis]) for axis in named.mapped]
    if named.tiled:
        pixel = flow.pixel_tiling
        splits.append(Split(PIXELS, pixel.outer, pixel.inner, sizes[pixel.inner]))
    return (*joins, *kept, *splits, *(Repeat(axis, sizes[axis]) for axis in named.repeated))


def wanted_axes(layout: Layout) -> set[str]:
    """Return the axes that a layout needs before its splits: those it places, and those that its splits divide."""
    wanted = set(layout.axes)
    for split in reversed(layout.split):
        parts = {split.outer, split.inner}
        wanted = wanted - parts | ({split.axis} if wanted & parts else set())
    return wanted
