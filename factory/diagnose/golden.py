"""The golden side of a diagnosis: the vectors that an export's own files hold, and where dumps of them lie."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Int64, Integer, Shaped, UInt8

from factory.arithmetic.labelled import Address, LabelledArray, Selection, axes
from factory.dataflow import LayerMapping
from factory.diagnose.dump import GivenWords
from factory.fileplan import ExportPlan, FileSet, LayerFiles, layer_files
from factory.memfile import Layout, Memory, Profile
from factory.memfile.named import BIT
from factory.spec import InputError


@dataclass(frozen=True)
class Group:
    """The files of one layout, of one layer and image (None: the layer's own), in the export `root`.

    `own` are the files whose values these are, laid out otherwise: the export's own, where these are another profile's,
    in which a dump is; those of a dump, where these are `plain`.
    """

    root: Path
    plan: ExportPlan
    layer: LayerFiles
    image: int | None
    files: FileSet
    own: Group | None = None

    @property
    def where(self) -> Address:
        """The layer, image and role."""
        return Address(self.layer.name, self.image, self.files.role.name)

    @cached_property
    def paths(self) -> tuple[str, ...]:
        """The files, in the order of the bits, relative to the export."""
        folder = self.plan.directory(self.layer, self.image, self.files)
        return tuple(f"{folder}/{name}" if folder else name for name, _ in self.files.files(self.image))

    @property
    def is_plain(self) -> bool:
        """Whether each line is a word of the file and holds whole values, each in a lane, the next one in the next."""
        placement = self.files.placement
        return placement.beats is None and not self.files.layout.align and BIT not in placement.axes

    @cached_property
    def plain(self) -> Group:
        """The same values in one file, a line for each word of the array's port: itself where it is plain.

        What is moved, late or stuck is looked for there, and said of the files that there are.
        """
        if self.is_plain:
            return self
        *outer, last = axes(*(axis for axis in self.axes if axis != BIT))
        own = self.files.layout
        layout = Layout(
            own.name, own.role, "all.txt", (), tuple(outer), (last,), own.lane_bits, own.signed, code=own.code,
            edge=own.edge,
        )  # fmt: skip
        return replace(self.laid_out(layout, self.layer.mapping), own=self)

    @property
    def shown(self) -> Group:
        """The files in which a value is said to lie: those of a dump."""
        return self.own if self.own is not None and not self.own.is_plain else self

    @property
    def root_group(self) -> Group:
        """The export's own files of the same values."""
        return self if self.own is None else self.own.root_group

    @property
    def memory(self) -> Memory:
        """The memory that each file describes."""
        return self.files.memory

    @property
    def shape(self) -> tuple[int, int, int]:
        """`(file, line, lane)`."""
        placement = self.files.placement
        return placement.file_count, placement.lines, placement.word.lanes

    @property
    def header_lines(self) -> int:
        """Lines of a text file before its first word."""
        first = self.files.placement.header_lines() + self.files.format.prefix(self.memory)
        return first.count(b"\n")

    def read(self) -> Int64[np.ndarray, "file line lane"]:
        """Return what the export's own files hold; raise InputError where one is not what the manifest says."""
        if self.own is not None:
            return self.place(self.own.values(self.own.read()))
        return np.stack([self.read_file(number) for number in range(len(self.paths))])

    def read_file(self, number: int) -> Int64[np.ndarray, "line lane"]:
        """Return what one of the export's own files holds; raise InputError where it is not what the manifest says."""
        path = self.paths[number]
        try:
            return self.files.read((self.root / path).read_bytes(), number, self.image).astype(np.int64)
        except InputError as error:
            raise InputError(f"{self.root / path}: {error}") from None

    @cached_property
    def axes(self) -> tuple[str, ...]:
        """The vector's axes."""
        return self.files.placement.axes

    @cached_property
    def sizes(self) -> tuple[int, ...]:
        """The sizes of the vector's axes."""
        return tuple(self.files.placement.sizes[axis] for axis in self.axes)

    def vector(self, arranged: Shaped[np.ndarray, "file line lane"]) -> LabelledArray:
        """Return values in the order of the bits as the vector, with its axes and labels."""
        return self.files.vector(arranged.reshape(self.files.places.shape))

    def values(self, arranged: Integer[np.ndarray, "file line lane"]) -> LabelledArray:
        """Return the vector whose values, or their bits, lie so; raise InputError for bits that are no value."""
        found = self.vector(arranged)
        if BIT not in found.axes:
            return found
        bits = np.moveaxis(found.values.astype(np.int64), found.axes.index(BIT), -1)
        return _without_bits(found, self._decoded((bits << np.arange(found.size(BIT))).sum(axis=-1)))

    def states(self, arranged: UInt8[np.ndarray, "file line lane"]) -> LabelledArray:
        """Return the worst state of each value's bits."""
        found = self.vector(arranged)
        if BIT not in found.axes:
            return found
        return _without_bits(found, found.values.max(axis=found.axes.index(BIT)))

    def _decoded(self, bits: Int64[np.ndarray, "*shape"]) -> Int64[np.ndarray, "*shape"]:
        try:
            return self.files.layout.field.decode(bits).astype(np.int64)
        except ValueError as error:
            raise InputError(f"{self.where}, {self.files.role.name}: {error}") from None

    def lines_of(self, given: GivenWords) -> GivenWords:
        """Return the lines whose words, or the beats of whose words, a dump gives."""
        word, beats = self.files.placement.word, self.files.placement.beats
        if beats is None or given.values.shape[1] == word.lanes != beats.bits:
            return given
        values, state = (beats.bits_of(part[: self.shape[1] * beats.count]) for part in (given.values, given.state))
        low = np.array([word.low_bit(lane) for lane in range(word.lanes)])
        places = low[:, None] + np.arange(word.field.bits)
        fields = (values[:, places].astype(np.int64) << np.arange(word.field.bits)).sum(axis=2)
        decoded = fields if BIT in self.files.placement.axes else self._decoded(fields)
        return GivenWords(decoded, state[:, places].max(axis=2), given.extra)

    def arrange(self, vector: LabelledArray) -> Int64[np.ndarray, "file line lane"]:
        """Return a vector, whatever the order of its axes, in the order of the bits, as the field holds it."""
        order = [vector.axes.index(axis) for axis in self.axes]
        plain = LabelledArray(vector.values.transpose(order), self.axes)
        return self.files.layout.field.wrap(self.place(plain))[0].astype(np.int64)

    def place(self, vector: LabelledArray) -> Int64[np.ndarray, "file line lane"]:
        """Return a vector in the order of the bits, whatever a lane holds; 0 for what stands for nothing."""
        return self.files.placement.fill(vector).reshape(self.shape).astype(np.int64)

    def part(self, kept: Mapping[str, tuple[int, ...]]) -> Group:
        """Return the same layout of the part of the layer that has some labels alone."""
        mapping = self.layer.mapping
        selection = Selection({axis: tuple(kept.get(axis, labels)) for axis, labels in mapping.selection.items()})
        return self.laid_out(self.files.layout, replace(mapping, selection=selection))

    def laid_out(self, layout: Layout, mapping: LayerMapping) -> Group:
        """Return the files of a layout of the same role, of the layer or of a part of it."""
        layer = layer_files((layout,), mapping, self.plan.profile.post, self.files.placement.sizes["level"])
        (files,) = (*layer.own, *layer.of_image)
        return replace(self, layer=layer, files=files)

    @cached_property
    def padding(self) -> Bool[np.ndarray, "file line lane"]:
        """Where the files hold zeros that stand for nothing, `(file, line, lane)`."""
        return (self.files.places < 0).reshape(self.shape)


def _without_bits(found: LabelledArray, values: Shaped[np.ndarray, "*shape"]) -> LabelledArray:
    """Return values of a vector whose bits had an axis."""
    return LabelledArray(values, tuple(axis for axis in found.axes if axis != BIT), found.labels)


def groups(root: Path, plan: ExportPlan) -> Iterator[Group]:
    """Yield every set of files of an export."""
    for layer, image in plan.groups():
        for files in layer.sets(image):
            yield Group(root, plan, layer, image, files)


def in_profile(group: Group, profile: Profile) -> Group:
    """Return the words of a group as the files of another profile hold them."""
    role = group.files.role.name
    layout = next((layout for layout in profile.layouts if layout.role == role), None)
    if layout is None:
        raise InputError(f"profile {profile.name} must have a layout of role {role}, it has none", options=("profile",))
    return replace(group.laid_out(layout, group.layer.mapping), own=group)


def operands(group: Group) -> dict[str, LabelledArray] | None:
    """Return the codes that the array reads, by the role of an operand, from the export's files; None without them."""
    found: dict[str, LabelledArray] = {}
    group = group.root_group
    for image in (None, group.image):
        for files in group.layer.sets(image):
            if files.role.operand is not None and files.role.name not in found:
                own = Group(group.root, group.plan, group.layer, image, files)
                found[files.role.name] = own.values(own.read())
    return found if found.keys() == group.layer.mapping.fields.keys() else None
