"""The files of an export: those of each layout, of each layer, and of the whole, with the address of every bit."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import product
from math import prod

import numpy as np
from jaxtyping import Int64, Integer, Shaped

from factory.arithmetic.labelled import Address, LabelledArray
from factory.arithmetic.tiling import inner_nij
from factory.dataflow import CYCLE, PIXELS, ROLES, LayerMapping, Role
from factory.dataflow.edges import last_address, ordered_mapping, pass_times
from factory.dataflow.roles import Pixels
from factory.memfile import FORMATS, Layout, Memory, Placement, Profile, complete_template, decode, template_fields
from factory.memfile.named import BIT, BORDERED, MAPS, WORD, named_axes, regroups
from factory.memfile.record import Format
from factory.memfile.regroup import Keep
from factory.memfile.written import check_written, format_of
from factory.spec import InputError, SystolicArray


@dataclass(frozen=True)
class FileSet:
    """All files of one layout, for one layer and one image (or none).

    `template` is the files' name, of their labels, of `numbers` and of the image. `renumbered` has, for each axis (and
    `image`) of which names hold not the label but its place among those kept, that place; none: names hold labels.
    """

    layout: Layout
    placement: Placement
    template: str
    numbers: Mapping[str, int]
    renumbered: Mapping[str, Mapping[int, int]] = field(default_factory=dict)

    @property
    def role(self) -> Role:
        """What the files hold."""
        return ROLES[self.layout.role]

    @cached_property
    def format(self) -> Format:
        """The format of the files, as the layout has it."""
        return format_of(self.layout)

    @property
    def memory(self) -> Memory:
        """The memory that each file describes."""
        return self.placement.memory

    @cached_property
    def labels(self) -> dict[str, tuple[int, ...]]:
        """What the positions on each axis that selects a file stand for, in the order of the files."""
        return self.placement.file_labels()

    @property
    def count(self) -> int:
        """Number of files."""
        return prod(map(len, self.labels.values()))

    @property
    def names_image(self) -> bool:
        """Whether the files' names hold the image, so that images can share a directory."""
        return "image" in template_fields(self.template)

    def files(self, image: int | None) -> Iterator[tuple[str, tuple[int, ...]]]:
        """Yield each file's name and its labels on the axes that select files, in the order of the bits."""
        for labels in product(*self.labels.values()):
            yield self.name(image, labels), labels

    def labels_of(self, number: int) -> tuple[int, ...]:
        """Return the labels of the `number`-th file."""
        found = []
        for labels in reversed(self.labels.values()):
            number, position = divmod(number, len(labels))
            found.append(labels[position])
        return tuple(reversed(found))

    def name(self, image: int | None, labels: tuple[int, ...]) -> str:
        """Return the name of the file with these labels."""
        at = {axis: self.number(axis, label) for axis, label in zip(self.labels, labels, strict=True)}
        image = None if image is None else self.number("image", image)
        tile = at.get("ot", 0) * self.numbers["input_tiles"] + at.get("it", 0)
        return self.template.format(**at, image=image, n=self.numbers["n"], tile=tile)

    def number(self, axis: str, label: int) -> int:
        """Return the number that names hold for a label on an axis."""
        return self.renumbered[axis][label] if axis in self.renumbered else label

    def longest_name(self, image: int | None) -> str:
        """Return the longest of the files' names."""
        return self.name(image, tuple(map(max, self.labels.values())))

    def spots(self, address: Address) -> Iterator[tuple[str, int, int]]:
        """Yield every place of the value at an address: the file's name, its word, the least significant bit.

        There are several where an axis repeats the file's words, or where bits have an axis.
        """
        names = [name for name, _ in self.files(address.image)]
        for spot in self.placement.spots(address.labels):
            yield names[spot.file], spot.word, spot.bit

    def locate(self, address: Address) -> tuple[str, int, int]:
        """Return the first of the `spots` of the value at an address."""
        return next(self.spots(address))

    def address_at(self, where: Address, name: str, word: int, bit: int) -> Address | None:
        """Invert `locate`, `where` being the layer and image; None for bits that stand for nothing."""
        names = [file for file, _ in self.files(where.image)]
        if name not in names:
            raise InputError(f"file must be one of {' '.join(names[:8])}, not {name}")
        labels = self.placement.address_at(names.index(name), word, bit)
        return None if labels is None else Address(where.layer, where.image, self.role.name, labels)

    def read(self, data: bytes, number: int = 0, image: int | None = None) -> Integer[np.ndarray, "line lane"]:
        """Return what the lines of the `number`-th file, one of an image's, hold, lane 0 first, beats joined.

        Raise InputError for other bytes.
        """
        name, placed = self.name(image, self.labels_of(number)), self.placement
        codes = decode(data, self.memory, self.format, name, number)
        if placed.beats is not None:
            try:
                return placed.word.unpack(placed.beats.join(codes[: placed.lines * placed.beats.count]))
            except ValueError as error:
                raise InputError(str(error)) from None
        return codes[: placed.lines]

    @cached_property
    def places(self) -> Int64[np.ndarray, "line lane"]:
        """The place in the vector, in C order, of each lane of all files' lines; -1 where it stands for nothing.

        Numbers that count the vector's values are laid into the files as the values would be.
        """
        placement = self.placement
        sizes = [placement.sizes[axis] for axis in placement.axes]
        counted = LabelledArray(np.arange(1, prod(sizes) + 1).reshape(sizes), placement.axes)
        return placement.fill(counted).astype(np.int64) - 1

    def vector(self, lanes: Shaped[np.ndarray, "line lane"]) -> LabelledArray:
        """Return the vector that all files' lines hold, which is how a layout is read back; of copies the last."""
        placement = self.placement
        sizes = [placement.sizes[axis] for axis in placement.axes]
        values, there = np.zeros(prod(sizes), lanes.dtype), self.places >= 0
        values[self.places[there]] = lanes[there]
        labels = {axis: tuple(map(int, placement.labels[axis])) for axis in placement.axes if axis in placement.labels}
        return LabelledArray(values.reshape(sizes), placement.axes, labels)


def file_set(
    layout: Layout, mapping: LayerMapping, post: str, levels: int, renumbered: Mapping[str, Mapping[int, int]]
) -> FileSet:
    """Return the files of a layout for the selected part of a layer; `levels` are the thresholds of a channel.

    Addresses are as wide as the layer's last one, where that does not fit the layout's lanes.
    """
    role = ROLES[layout.role]
    if role.edge:
        layout, mapping, renumbered = _crossing(layout, mapping, renumbered)
    spec = mapping.spec
    if role.states:
        last = layout.base + layout.stride * (spec.kij_count * spec.nij_count - 1) + layout.pixel_words - 1
        layout = replace(layout, lane_bits=max(layout.lane_bits, last.bit_length()))
    check_written(layout)
    pixels = role.pixels(mapping, post)
    try:
        placement = _placement(layout, mapping, pixels, levels)
        placement.memory  # noqa: B018 (what its words cannot be is known before a file is written)
    except InputError as error:
        raise InputError(f"{spec.name}: {error}") from None
    several = {axis for axis, kept in placement.file_labels().items() if len(kept) > 1}
    tiles = len(renumbered["it"]) if "it" in renumbered else mapping.array.input_tiles(spec.in_channels)
    numbers = dict(n=mapping.input_channels, input_tiles=tiles)
    template = complete_template(layout.file, layout.file_axes, several, FORMATS[layout.format].extension)
    return FileSet(layout, placement, template, numbers, renumbered)


def _crossing(
    layout: Layout, mapping: LayerMapping, renumbered: Mapping[str, Mapping[int, int]]
) -> tuple[Layout, LayerMapping, Mapping[str, Mapping[int, int]]]:
    """Return an edge's layout, as wide as its addresses, the mapping whose passes it has, and what names renumber."""
    edge = layout.edge
    if edge.addresses:
        bits = last_address(mapping.spec, edge).bit_length() + 1
        layout = replace(layout, lane_bits=max(layout.lane_bits, bits))
    ordered = ordered_mapping(mapping, edge)
    if ordered is not mapping:  # tiles of the window are all there
        renumbered = {axis: places for axis, places in renumbered.items() if axis not in mapping.dataflow.loops}
    return layout, ordered, renumbered


def _placement(layout: Layout, mapping: LayerMapping, map_pixels: Pixels, levels: int) -> Placement:
    spec, flow = mapping.spec, mapping.dataflow
    named, (pixels, tile_pixels, width) = named_axes(layout, flow), map_pixels
    widths = {BORDERED: spec.padded_width if layout.border else spec.width, PIXELS: width}
    layout.check_map(widths)
    sizes = mapping.sizes(pixels=len(pixels), tile_pixels=tile_pixels, levels=levels)
    sizes |= {BIT: layout.lane_bits, WORD: layout.pixel_words}
    if ROLES[layout.role].edge:
        times, passes = pass_times(mapping, layout.edge)
        sizes[CYCLE] = times.cycles(passes)
    channels = {dim: tuple(mapping.channels_of(dim).tolist()) for dim in named.joined}
    kept = [] if layout.border else [Keep(BORDERED, tuple(inner_nij(spec).tolist()))]
    if PIXELS in named.mapped and flow.pixel_tiling is not None:
        kept.append(_row_by_row(layout, mapping, pixels))
    made = regroups(named, flow, sizes | {dim: len(held) for dim, held in channels.items()}, widths, kept)
    labels = {**mapping.selection, **channels, PIXELS: tuple(pixels.tolist())}
    return Placement(layout, named.vector, sizes, labels, made)


def _row_by_row(layout: Layout, mapping: LayerMapping, pixels: Int64[np.ndarray, " onij"]) -> Keep:
    """Return the step that brings output pixels from the order of their tiles to that of their map."""
    tile = mapping.dataflow.pixel_tiling.outer
    kept, count = len(mapping.selection[tile]), mapping.counts[tile]
    if kept != count:
        rows, columns = MAPS[PIXELS]
        raise InputError(
            f"layout {layout.name}: {rows} and {columns} must be of a whole map, of {count} {tile}, not of {kept}"
        )
    return Keep(PIXELS, tuple(np.argsort(pixels).tolist()))


@dataclass(frozen=True)
class LayerFiles:
    """One layer's files: its own, and those of each image."""

    mapping: LayerMapping
    own: tuple[FileSet, ...]
    of_image: tuple[FileSet, ...]

    @property
    def name(self) -> str:
        """The layer's name."""
        return self.mapping.spec.name

    def sets(self, image: int | None) -> tuple[FileSet, ...]:
        """Return the files of the layer itself, or of one of its images."""
        return self.own if image is None else self.of_image

    def holds(self, role: str) -> bool:
        """Return whether some files hold a role."""
        return any(files.layout.role == role for files in (*self.own, *self.of_image))


def layer_files(
    layouts: tuple[Layout, ...],
    mapping: LayerMapping,
    post: str,
    levels: int,
    renumbered: tuple[int, ...] | None = None,
) -> LayerFiles:
    """Return one layer's files in some layouts.

    `renumbered` are the images of an export whose names number what is kept of each axis, and images, from 0.
    """
    channels = {dim: mapping.channels_of(dim).tolist() for dim in mapping.dataflow.tilings}
    kept = {} if renumbered is None else channels | dict(mapping.selection) | {"image": renumbered}
    places = {axis: {label: place for place, label in enumerate(labels)} for axis, labels in kept.items()}
    sets = [file_set(layout, mapping, post, levels, places) for layout in layouts]
    of_image = tuple(files for files in sets if files.role.per_image)
    return LayerFiles(mapping, tuple(files for files in sets if not files.role.per_image), of_image)


@dataclass(frozen=True)
class ExportPlan:
    """All files of an export, by layer and image.

    `array` is the tile that the profile's array takes at a time, `merge` whether a layer and role is one file,
    `renumber` whether names number what is kept from 0.
    """

    profile: Profile
    layouts: tuple[Layout, ...]
    array: SystolicArray
    overflow: str
    merge: bool
    flat: bool
    layers: tuple[LayerFiles, ...]
    images: tuple[int, ...]
    warnings: tuple[str, ...] = ()
    renumber: bool = False

    @property
    def file_count(self) -> int:
        """Number of files."""
        return sum(
            sum(files.count for files in layer.own) + len(self.images) * sum(files.count for files in layer.of_image)
            for layer in self.layers
        )

    @property
    def group_count(self) -> int:
        """Number of groups: of a layer itself, or of one of its images."""
        return sum(bool(layer.own) + bool(layer.of_image) * len(self.images) for layer in self.layers)

    def groups(self) -> Iterator[tuple[LayerFiles, int | None]]:
        """Yield each layer that has files of its own (with None), followed by each of its images."""
        for layer in self.layers:
            if layer.own:
                yield layer, None
            if layer.of_image:
                yield from ((layer, image) for image in self.images)

    def directory(self, layer: LayerFiles, image: int | None, files: FileSet) -> str:
        """Return the directory of a set of files, from the export's own, without a slash at its end."""
        if self.flat:
            return ""
        shared = image is None or files.names_image
        return layer.name if shared else f"{layer.name}/image{files.number('image', image)}"
