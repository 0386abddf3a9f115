"""Where the lanes of a word lie in a layout's files: a place on any axis adds a number of lines, or of lanes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from math import prod

from factory.memfile import Layout
from factory.spec import InputError
from factory.testbench.records import Stream, Walk

_FORMATS = {"bin": False, "hex": True}
_HEADERS = {"none": 0, "verilog": 3}


@dataclass(frozen=True)
class Offset:
    """What is added to the line and to the lane of a value."""

    line: int = 0
    lane: int = 0

    def __add__(self, other: Offset) -> Offset:
        return Offset(self.line + other.line, self.lane + other.lane)

    def __mul__(self, times: int) -> Offset:
        return Offset(self.line * times, self.lane * times)


@dataclass(frozen=True)
class Held:
    """The files of one layout that one layer and image have, one behind the other in a stream's memory.

    `sizes` are the places on each of the layout's axes; `paths` the files, in the order of the layout's `files` axes,
    of `words` memory words each. A word of the stream runs along the axis `word` (before the layout's split).
    """

    layout: Layout
    sizes: Mapping[str, int]
    paths: tuple[str, ...]
    words: int
    word: str

    def fail(self, text: str) -> InputError:
        """Return the error that a testbench cannot read these files, to be raised."""
        return InputError(f"testbench: layout {self.layout.name}: {text}")

    @cached_property
    def steps(self) -> dict[str, tuple[Offset, Offset]]:
        """For each axis, what its place 0 adds, and what each further place adds."""
        found = {}
        for axes, unit in (
            (self.layout.lanes, Offset(lane=1)),
            (self.layout.lines, Offset(line=1)),
            (self.layout.files, Offset(line=self.words)),
        ):
            for axis in reversed(axes):
                name = axis.lstrip("-")
                found[name] = (unit * (self.sizes[name] - 1), unit * -1) if axis != name else (Offset(), unit)
                unit = unit * self.sizes[name]
        return found

    def offset(self, places: Mapping[str, int]) -> Offset:
        """Return what places on some axes add."""
        total = Offset()
        for axis, place in places.items():
            first, step = self.steps[axis]
            total = total + first + step * place
        return total

    def _offsets(self, axes: Sequence[str]) -> list[Offset]:
        """Return what each place on several axes adds, the last axis fastest."""
        places = product(*(range(self.sizes[axis]) for axis in axes))
        return [self.offset(dict(zip(axes, place, strict=True))) for place in places]

    @cached_property
    def pieces(self) -> tuple[str, ...]:
        """The axes that the word's axis is divided into, the slowest first."""
        names = [self.word]
        for split in self.layout.split:
            if split.axis in names:
                at = names.index(split.axis)
                names[at : at + 1] = [split.outer, split.inner]
        return tuple(names)

    @property
    def width(self) -> int:
        """The lanes of a word."""
        return prod(self.sizes[piece] for piece in self.pieces)

    @cached_property
    def others(self) -> tuple[str, ...]:
        """The axes that share a line's lanes with the word's own, the slowest first."""
        return tuple(axis for axis in (lane.lstrip("-") for lane in self.layout.lanes) if axis not in self.pieces)

    @cached_property
    def parts(self) -> tuple[int, ...]:
        """The lines that hold one word, from the first line of its place."""
        lines = sorted({offset.line for offset in self._offsets(self.pieces)})
        if len({after - before for before, after in zip(lines, lines[1:], strict=False)}) > 1:
            raise self.fail(f"the lines of one word must lie at equal distances, not at {lines}")
        return tuple(lines)

    @property
    def stream(self) -> Stream:
        """The stream that reads the files as words."""
        layout = self.layout
        if layout.format not in _FORMATS:
            raise self.fail(f"format must be one of {' '.join(_FORMATS)}, not {layout.format}")
        if layout.header not in _HEADERS:
            raise self.fail(f"header must be none or verilog ($readmemb takes no # lines), not {layout.header}")
        count = prod(self.sizes[lane.lstrip("-")] for lane in layout.lanes)
        words = product(self._offsets(self.others), self._offsets(self.pieces))
        offsets = [other + own for other, own in words]
        return Stream(
            line_bits=layout.word_bits or count * layout.lane_bits,
            field_bits=layout.lane_bits,
            lanes=tuple(
                (self.parts.index(at.line), layout.lane_bits * (count - 1 - at.lane if layout.lane0_left else at.lane))
                for at in offsets
            ),
            width=self.width,
            depth=self.words * len(self.paths),
            hexadecimal=_FORMATS[layout.format],
            header_lines=_HEADERS[layout.header],
        )

    def walk(self, loops: Sequence[tuple[str, int]], fixed: Mapping[str, int]) -> Walk:
        """Return the walk over three `(axis, count)` loops, an axis the files do not have giving the same words again.

        The axes of `fixed` stay at their places; places beyond a loop's start are counted from there.
        """
        fixed = {axis: place for axis, place in fixed.items() if axis in self.steps}
        starts = {axis: fixed.pop(axis, 0) for axis, _ in loops if axis in self.steps}
        for axis in self.steps:
            if axis not in (*self.pieces, *starts, *fixed) or (axis in starts and axis in self.others):
                raise self.fail(f"its axis {axis} must not be split, and be in its files or lines")
        lane = 0
        for axis in self.others:
            lane = lane * self.sizes[axis] + fixed[axis]
        return Walk(
            counts=tuple(count for _, count in loops),
            base=self.offset({axis: place for axis, place in fixed.items() if axis not in self.others} | starts).line
            + self.parts[0],
            strides=tuple(self.steps[axis][1].line if axis in starts else 0 for axis, _ in loops),
            part_stride=self.parts[1] - self.parts[0] if len(self.parts) > 1 else 0,
            lane=lane * self.width,
        )
