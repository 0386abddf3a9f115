"""All files of one layout, described before anything is computed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import product
from math import prod

from factory.dataflow import Dataflow, axis_sizes
from factory.memfile import FORMATS, Layout, Memory, complete_template
from factory.memfile.names import template_fields


@dataclass(frozen=True)
class FileSet:
    """All files of one layout, for one layer and one image (or none).

    `sizes` are the sizes of the layout's axes; `places` what the places of each axis that selects files stand for.
    `memory` is each file's; `lines` of its words are not padding. `template` is the files' name, of `places`,
    `numbers` and the image.
    """

    layout: Layout
    sizes: Mapping[str, int]
    places: Mapping[str, tuple[int, ...]]
    memory: Memory
    lines: int
    template: str
    numbers: Mapping[str, int]

    @property
    def count(self) -> int:
        """Number of files."""
        return prod(map(len, self.places.values()))

    @property
    def names_image(self) -> bool:
        """Whether the files' names hold the image, so that images can share a directory."""
        return "image" in template_fields(self.template)

    def files(self, image: int | None) -> Iterator[tuple[str, tuple[int, ...]]]:
        """Yield each file's name and its place on the axes that select files, in the order of the bits."""
        for place in product(*self.places.values()):
            yield self.name(image, place), place

    def name(self, image: int | None, place: tuple[int, ...]) -> str:
        """Return the name of the file at a place."""
        at = dict(zip(self.places, place, strict=True))
        tile = at.get("ot", 0) * self.numbers["input_tiles"] + at.get("it", 0)
        return self.template.format(**at, image=image, n=self.numbers["n"], tile=tile)

    def longest_name(self, image: int | None) -> str:
        """Return the longest of the files' names."""
        return self.name(image, tuple(map(max, self.places.values())))


def file_set(layout: Layout, flow: Dataflow, post: str, levels: int) -> FileSet:
    """Return the files of a layout for the selected part of a layer; `levels` are the thresholds of a channel.

    Addresses are as wide as the layer's last one, where that does not fit the layout's lanes.
    """
    spec = flow.spec
    if layout.role == "address":
        last = layout.base + spec.kij_count * spec.nij_count - 1
        layout = replace(layout, lane_bits=max(layout.lane_bits, last.bit_length()))
    sizes = layout.sizes(axis_sizes(flow, layout.role, post, levels))
    places = {axis.lstrip("-"): _places(flow, axis, sizes) for axis in layout.files}
    several = {axis for axis, kept in places.items() if len(kept) > 1}
    lines, lanes = (prod(sizes[axis.lstrip("-")] for axis in axes) for axes in (layout.lines, layout.lanes))
    numbers = dict(n=len(flow.tiles.ic) or spec.in_channels, input_tiles=flow.array.input_tiles(spec.in_channels))
    template = complete_template(layout.file, layout.file_axes, several, FORMATS[layout.format].extension)
    return FileSet(layout, sizes, places, layout.memory(lines, lanes), lines, template, numbers)


def _places(flow: Dataflow, axis: str, sizes: Mapping[str, int]) -> tuple[int, ...]:
    plain = axis.lstrip("-")
    places = vars(flow.tiles).get(plain) or tuple(range(sizes[plain]))
    return places[::-1] if axis.startswith("-") else places
