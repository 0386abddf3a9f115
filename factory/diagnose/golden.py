"""The golden side of a diagnosis: the vectors that an export's own files hold, and where dumps of them lie."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Int64, Integer, Shaped

from factory.arithmetic.labelled import Address, LabelledArray, Selection
from factory.dataflow import ROLES, LayerVectors
from factory.fileplan import ExportPlan, FileSet, LayerFiles, layer_files
from factory.memfile import Memory, Profile
from factory.memfile.named import BIT
from factory.spec import InputError


@dataclass(frozen=True)
class Group:
    """The files of one layout, of one layer and image (None: the layer's own), in the export `root`.

    `own` are the export's own files of the same words, where these are another profile's, in which a dump is.
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
    def is_diagnosed(self) -> bool:
        """Whether each line is a word of its own, whose values are in one place."""
        placement = self.files.placement
        return placement.beats is None and not self.files.layout.align and BIT not in placement.axes

    def check_diagnosed(self) -> None:
        """Raise InputError for files whose words are not compared."""
        for group in filter(None, (self, self.own)):
            if not group.is_diagnosed:
                where = f"{group.layer.name}: layout {group.files.layout.name}"
                raise InputError(f"{where}: words in beats, lines apart and bits with an axis are not diagnosed")

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
            return self.place(self.own.vector(self.own.read()))
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

    def labelled(self, values: Integer[np.ndarray, "*shape"]) -> LabelledArray:
        """Return values of the vector's shape with its axes and labels."""
        labels = self.files.placement.labels
        kept = {axis: tuple(map(int, labels[axis])) for axis in self.axes if axis in labels}
        return LabelledArray(values, self.axes, kept)

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
        levels = self.files.placement.sizes["level"]
        layer = layer_files((self.files.layout,), replace(mapping, selection=selection), self.plan.profile.post, levels)
        (files,) = (*layer.own, *layer.of_image)
        return replace(self, layer=layer, files=files)

    @cached_property
    def padding(self) -> Bool[np.ndarray, "file line lane"]:
        """Where the files hold zeros that stand for nothing, `(file, line, lane)`."""
        return (self.files.places < 0).reshape(self.shape)


def groups(root: Path, plan: ExportPlan) -> Iterator[Group]:
    """Yield every set of files of an export."""
    for layer, image in plan.groups():
        for files in layer.sets(image):
            yield Group(root, plan, layer, image, files)


def in_profile(group: Group, profile: Profile) -> Group:
    """Return the words of a group as the files of another profile hold them."""
    role = group.files.role.name
    layouts = [layout for layout in profile.layouts if layout.role == role]
    if not layouts:
        raise InputError(f"profile {profile.name} must have a layout of role {role}, it has none", options=("profile",))
    levels = group.files.placement.sizes["level"]
    layer = layer_files(tuple(layouts[:1]), group.layer.mapping, group.plan.profile.post, levels)
    (files,) = (*layer.own, *layer.of_image)
    return replace(group, layer=layer, files=files, own=group)


def operands(group: Group) -> dict[str, LabelledArray] | None:
    """Return the codes that the array reads, by the role of an operand, from the export's files; None without them."""
    found: dict[str, LabelledArray] = {}
    group = group.own or group
    for image in (None, group.image):
        for files in group.layer.sets(image):
            if files.role.operand is not None and files.role.name not in found:
                own = Group(group.root, group.plan, group.layer, image, files)
                if not own.is_diagnosed:
                    return None
                found[files.role.name] = own.vector(own.read())
    return found if found.keys() == group.layer.mapping.fields.keys() else None


def stored_operands(group: Group, vectors: Mapping[str, LayerVectors]) -> dict[str, LabelledArray]:
    """Return the codes that the array reads, from a store's vectors of the same layers."""
    return vectors[group.layer.name].of_image(group.image).operands()


def is_checked(group: Group) -> bool:
    """Return whether a group holds what leaves the array."""
    return ROLES[group.files.layout.role].follows
