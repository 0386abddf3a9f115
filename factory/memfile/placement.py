"""Where each value of a vector lies in the files of a layout, and which value lies at a bit: one bijection.

A layout places every axis of its vector in its files, its lines or its lanes, after some steps that join and divide
them. Within each of the three an axis has a stride, the product of the sizes of the axes after it or, of lines, the
next multiple of what they are aligned to; a position on an axis adds its stride times itself, or, where the axis is
reversed, what is left of the axis. So a value's file, line and lane are three sums, and division by the strides gives
the positions back. A bus cuts the lines into beats at the end.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import product
from math import prod
from typing import NamedTuple

import numpy as np
from jaxtyping import Integer

from factory.arithmetic.labelled import Axis, LabelledArray
from factory.memfile.layout import Layout
from factory.memfile.named import BIT
from factory.memfile.regroup import Keep, Repeat, Step
from factory.memfile.word import Beats, Memory, WordFormat
from factory.memfile.written import memory_of
from factory.spec import InputError


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

    `made` are the steps from these axes to those that the layout's own splits divide. Positions that a step adds, such
    as a split at the end of an axis that its size does not divide, hold zeros.
    """

    layout: Layout
    axes: tuple[str, ...]
    sizes: Mapping[str, int]
    labels: Mapping[str, Sequence[int]] = field(default_factory=dict)
    made: tuple[Step, ...] = ()

    @property
    def _regroups(self) -> tuple[Step, ...]:
        return (*self.made, *self.layout.split)

    @cached_property
    def _sizes(self) -> list[dict[str, int]]:
        """The sizes of the axes before each step, and after the last."""
        found = [{axis: self.sizes[axis] for axis in self.axes}]
        for step in self._regroups:
            found.append(step.resize(found[-1]))
        return found

    @cached_property
    def placed(self) -> dict[str, int]:
        """The sizes of the layout's axes, in the order of the bits: files, lines, lanes."""
        return {axis: self._sizes[-1][axis] for axis in self.layout.axes}

    @cached_property
    def copies(self) -> dict[str, int]:
        """The axes along which the same values come again, and how often."""
        return {step.axis: step.count for step in self.made if isinstance(step, Repeat)}

    def _count(self, axes: Sequence[Axis]) -> int:
        return prod(self.placed[axis.name] for axis in axes)

    @cached_property
    def file_count(self) -> int:
        """Number of files."""
        return self._count(self.layout.files)

    @cached_property
    def lines(self) -> int:
        """Words of each file up to the last that may hold values, those that an alignment leaves empty among them."""
        count = 1
        for axis in reversed(self.layout.lines):
            count = self.placed[axis.name] * self._aligned(axis, count)
        return count

    def _aligned(self, axis: Axis, lines: int) -> int:
        """Return so many lines, up to the next multiple that the places of an axis begin at."""
        words = next((align.words for align in self.layout.align if align.axis == axis.name), 1)
        return lines + -lines % words

    @cached_property
    def word(self) -> WordFormat:
        """The format of a word, which is a line."""
        return self.layout.word(self._count(self.layout.lanes))

    @cached_property
    def beats(self) -> Beats | None:
        """The beats that a bus takes a word in; None without a bus."""
        return self.layout.beats_of(self.word)

    @cached_property
    def memory(self) -> Memory:
        """The memory that each file describes; with a bus its words are the beats."""
        if self.beats is None:
            return memory_of(self.layout, self.lines, self.word, self.placed)
        return memory_of(self.layout, self.lines * self.beats.count, self.beats.word, self.placed)

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
                unit = Offset(unit.file, self._aligned(axis, unit.line), unit.lane)
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
        """Return where the value with these labels, one for each of the vector's axes, lies.

        Labels of axes in `copies` choose a copy, the first one where there are none; without the label `bit` of bits
        that have an axis it is bit 0. Raise InputError where the files do not hold the value.
        """
        labels = {BIT: 0, **labels} if BIT in self.axes else labels
        positions = {axis: self._position(axis, labels[axis]) for axis in (*self.axes, *self.copies) if axis in labels}
        there = True
        for step, sizes in zip(self._regroups, self._sizes, strict=False):
            there = step.forth(positions, sizes) and there
        if not there:
            where = ", ".join(f"{axis} {label}" for axis, label in labels.items())
            raise InputError(f"layout {self.layout.name}: the value must be one that its files hold, not {where}")
        at = self.offset(positions)
        bit = self.word.low_bit(at.lane)
        if self.beats is None:
            return Spot(at.file, at.line, bit)
        beat, bit = self.beats.spot(bit)
        return Spot(at.file, at.line * self.beats.count + beat, bit)

    def spots(self, labels: Mapping[str, int]) -> Iterator[Spot]:
        """Yield every place of the value with these labels: all copies and all bits that they leave open."""
        several = {axis: self._all_labels(axis, count) for axis, count in self.copies.items()}
        if BIT in self.axes:
            several[BIT] = range(self.sizes[BIT])
        several = {axis: found for axis, found in several.items() if axis not in labels}
        for chosen in product(*several.values()):
            yield self.locate({**labels, **dict(zip(several, chosen, strict=True))})

    def address_at(self, file: int, word: int, bit: int) -> dict[str, int] | None:
        """Return the labels of the value that a bit is part of; None for zeros that stand for nothing.

        Every copy has the address of the one value.
        """
        if self.beats is not None:
            word, beat = divmod(word, self.beats.count)
            bit = self.beats.bit(beat, bit)
        lane = self.word.lane_at(bit)
        if lane is None or not (0 <= word < self.lines and 0 <= file < self.file_count):
            return None
        positions: dict[str, int] = {}
        layout, there = self.layout, True
        parts = ((layout.files, "file", file), (layout.lines, "line", word), (layout.lanes, "lane", lane))
        for axes, unit, rest in parts:
            for axis in axes:
                size, (_, step) = self.placed[axis.name], self.steps[axis.name]
                position, rest = divmod(rest, abs(getattr(step, unit)))
                there = there and position < size
                positions[axis.name] = size - 1 - position if axis.reversed else position
            there = there and not rest
        for step, sizes in zip(reversed(self._regroups), reversed(self._sizes[:-1]), strict=True):
            there = there and step.back(positions, sizes)
        return {axis: self._label(axis, positions[axis]) for axis in self.axes} if there else None

    def _position(self, axis: str, label: int) -> int:
        return list(self.labels[axis]).index(label) if axis in self.labels else label

    def _label(self, axis: str, position: int) -> int:
        """Return what a position on an axis stands for: itself, on one that only a split makes."""
        return int(self.labels[axis][position]) if axis in self.labels else position

    def _all_labels(self, axis: str, count: int) -> tuple[int, ...]:
        kept = next((step.places for step in self.made if isinstance(step, Keep) and step.axis == axis), range(count))
        return tuple(self._label(axis, position) for position in kept)

    def arrange(self, source: LabelledArray) -> LabelledArray:
        """Return (part of) the vector with its axes in the order of the bits: what `locate` does, for all values."""
        for step in self._regroups:
            source = step.arrange(source)
        return source.arrange((*self.layout.files, *self.layout.lines, *self.layout.lanes))

    def fill(self, source: LabelledArray) -> Integer[np.ndarray, "line lane"]:
        """Return (part of) the vector as the lines of all files, one after the other."""
        values, lanes = self.arrange(source).values, self.word.lanes
        if not self.layout.align:
            return values.reshape(-1, lanes)
        outer = values.shape[: len(self.layout.files) + len(self.layout.lines)]
        values = values.reshape(*outer, 1, lanes)
        for axis in reversed(self.layout.lines):  # the words of each place, then all of its places
            missing = self._aligned(axis, values.shape[-2]) - values.shape[-2]
            values = np.pad(values, ((0, 0),) * (values.ndim - 2) + ((0, missing), (0, 0)))
            values = values.reshape(*values.shape[:-3], -1, lanes)
        return values.reshape(-1, lanes)

    def file_labels(self) -> dict[str, tuple[int, ...]]:
        """Return what the positions on each axis of the files stand for, in the files' order."""
        found = {}
        for axis in self.layout.files:
            labels = self._all_labels(axis.name, self.placed[axis.name])
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
