"""Where each value of a vector lies in the files of a layout, and which value lies at a bit: one bijection.

A layout places every axis of its vector in its files, its lines or its lanes. Within each of the three an axis has a
stride, the product of the sizes of the axes after it; a position on an axis adds its stride times itself, or, where the
axis is reversed, what is left of the axis. So a value's file, line and lane are three sums, and division by the strides
gives the positions back.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from math import prod
from typing import NamedTuple

from factory.arithmetic.labelled import Axis, LabelledArray
from factory.memfile.layout import Layout, Split
from factory.memfile.word import Memory, WordFormat
from factory.memfile.written import memory_of


class Spot(NamedTuple):
    """A place in the files of a layout: the file and its word, each counted from 0, and a bit, 0 the rightmost."""

    file: int
    word: int
    bit: int


@dataclass(frozen=True)
class Offset:
    """What is added to the file, the line and the lane of a value."""

    file: int = 0
    line: int = 0
    lane: int = 0

    def __add__(self, other: Offset) -> Offset:
        return Offset(self.file + other.file, self.line + other.line, self.lane + other.lane)

    def __mul__(self, times: int) -> Offset:
        return Offset(self.file * times, self.line * times, self.lane * times)


@dataclass(frozen=True)
class Placement:
    """A layout and a vector: `axes` are the vector's, `sizes` has the positions on each, `labels` what they stand for.

    `pixel_split` divides the axis of output pixels into tiles, for a layout that names those. Positions that a split
    adds at the end of an axis, because its size does not divide it, hold zeros.
    """

    layout: Layout
    axes: tuple[str, ...]
    sizes: Mapping[str, int]
    labels: Mapping[str, Sequence[int]] = field(default_factory=dict)
    pixel_split: Split | None = None

    @cached_property
    def splits(self) -> tuple[Split, ...]:
        """The splits of the vector's axes, in the order in which they are made."""
        pixel = self.pixel_split
        tiled = pixel is not None and pixel.axis in self.axes and pixel.outer in self.layout.axes
        return ((pixel,) if tiled else ()) + self.layout.split

    @cached_property
    def _divided(self) -> tuple[dict[str, int], tuple[int, ...]]:
        """The sizes of the axes after the splits, and of each split's axis before it, which may give its name away."""
        sizes, before = {axis: self.sizes[axis] for axis in self.axes}, []
        for split in self.splits:
            before.append(sizes.pop(split.axis))
            sizes |= {split.outer: -(-before[-1] // split.size), split.inner: split.size}
        return sizes, tuple(before)

    @cached_property
    def placed(self) -> dict[str, int]:
        """The sizes of the layout's axes, in the order of the bits: files, lines, lanes."""
        return {axis: self._divided[0][axis] for axis in self.layout.axes}

    def _count(self, axes: Sequence[Axis]) -> int:
        return prod(self.placed[axis.name] for axis in axes)

    @cached_property
    def file_count(self) -> int:
        """Number of files."""
        return self._count(self.layout.files)

    @cached_property
    def lines(self) -> int:
        """Lines of each file that hold values."""
        return self._count(self.layout.lines)

    @cached_property
    def word(self) -> WordFormat:
        """The format of a word."""
        return self.layout.word(self._count(self.layout.lanes))

    @cached_property
    def memory(self) -> Memory:
        """The memory that each file describes."""
        return memory_of(self.layout, self.lines, self.word, self.placed)

    @cached_property
    def steps(self) -> dict[str, tuple[Offset, Offset]]:
        """For each of the layout's axes, what its position 0 adds, and what each further position adds."""
        found = {}
        for axes, unit in (
            (self.layout.lanes, Offset(lane=1)),
            (self.layout.lines, Offset(line=1)),
            (self.layout.files, Offset(file=1)),
        ):
            for axis in reversed(axes):  # the last axis counts fastest
                size = self.placed[axis.name]
                found[axis.name] = (unit * (size - 1), unit * -1) if axis.reversed else (Offset(), unit)
                unit = unit * size
        return found

    def offset(self, positions: Mapping[str, int]) -> Offset:
        """Return what positions on some of the layout's axes add."""
        total = Offset()
        for axis, position in positions.items():
            first, step = self.steps[axis]
            total = total + first + step * position
        return total

    def locate(self, labels: Mapping[str, int]) -> Spot:
        """Return where the value with these labels, one for each of the vector's axes, lies."""
        positions = {axis: self._position(axis, labels[axis]) for axis in self.axes}
        for split in self.splits:
            positions[split.outer], positions[split.inner] = divmod(positions.pop(split.axis), split.size)
        at = self.offset(positions)
        return Spot(at.file, at.line, self.word.low_bit(at.lane))

    def address_at(self, file: int, word: int, bit: int) -> dict[str, int] | None:
        """Return the labels of the value that a bit is part of; None for zeros that stand for nothing."""
        lane = self.word.lane_at(bit)
        if lane is None or not (0 <= word < self.lines and 0 <= file < self.file_count):
            return None
        positions: dict[str, int] = {}
        for axes, rest in ((self.layout.files, file), (self.layout.lines, word), (self.layout.lanes, lane)):
            for axis in reversed(axes):
                size = self.placed[axis.name]
                rest, position = divmod(rest, size)
                positions[axis.name] = size - 1 - position if axis.reversed else position
        for split, size in zip(reversed(self.splits), reversed(self._divided[1]), strict=True):
            position = positions.pop(split.outer) * split.size + positions.pop(split.inner)
            if position >= size:
                return None
            positions[split.axis] = position
        return {axis: self._label(axis, positions[axis]) for axis in self.axes}

    def _position(self, axis: str, label: int) -> int:
        return list(self.labels[axis]).index(label) if axis in self.labels else label

    def _label(self, axis: str, position: int) -> int:
        """Return what a position on an axis stands for: itself, on one that only a split makes."""
        return int(self.labels[axis][position]) if axis in self.labels else position

    def arrange(self, source: LabelledArray) -> LabelledArray:
        """Return (part of) the vector with its axes in the order of the bits: what `locate` does, for all values."""
        for split in self.splits:
            source = source.split(split.axis, split.outer, split.inner, split.size)
        return source.arrange((*self.layout.files, *self.layout.lines, *self.layout.lanes))

    def file_labels(self) -> dict[str, tuple[int, ...]]:
        """Return what the positions on each axis of the files stand for, in the files' order."""
        found = {}
        for axis in self.layout.files:
            labels = tuple(self._label(axis.name, position) for position in range(self.placed[axis.name]))
            found[axis.name] = labels[::-1] if axis.reversed else labels
        return found

    def lane_names(self) -> tuple[str, ...]:
        """Return the names of a word's lanes, leftmost first, such as `row7`."""
        names = [""]
        for axis in self.layout.lanes:
            positions = range(self.placed[axis.name])
            names = [
                f"{name}{axis.name}{i}" for name in names for i in (positions[::-1] if axis.reversed else positions)
            ]
        return tuple(names if self.layout.lane0_left else reversed(names))

    def header_lines(self) -> bytes:
        """Return the comment lines that each file begins with."""
        return self.layout.header_lines(self.lane_names())
