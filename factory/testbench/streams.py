"""The files of a role as a stream of words: which lines and lanes of a memory hold each word that a port takes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from math import prod

from factory.dataflow import PIXELS, Dataflow, Role
from factory.fileplan import FileSet
from factory.memfile import FORMATS, Layout
from factory.memfile.placement import Offset
from factory.spec import InputError
from factory.testbench.records import Stream, Walk

_RADIXES = {2: False, 16: True}
_HEADERS = {"none": 0, "verilog": 3}


@dataclass(frozen=True)
class StreamFiles:
    """The files of one layout that one layer and image have, one behind the other in a stream's memory.

    `paths` are the files, in their order. A word of the stream runs along the axis `word` (before the layout's split).
    A port takes `bits` bits of each lane, from `low` up; 0: all of them.
    """

    files: FileSet
    paths: tuple[str, ...]
    word: str
    low: int = 0
    bits: int = 0

    @property
    def role(self) -> Role:
        """What the files hold."""
        return self.files.role

    @property
    def words(self) -> int:
        """Memory words of each file."""
        return self.files.memory.words

    def fail(self, text: str) -> InputError:
        """Return the error that a testbench cannot read these files, to be raised."""
        return InputError(f"testbench: layout {self.files.layout.name}: {text}")

    @property
    def sizes(self) -> Mapping[str, int]:
        """The positions on each of the layout's axes."""
        return self.files.placement.placed

    def line(self, at: Offset) -> int:
        """Return the line of the stream's memory that an offset adds."""
        return at.file * self.words + at.line

    def _offsets(self, axes: Sequence[str]) -> list[Offset]:
        """Return what each position on several axes adds, the last axis fastest."""
        positions = product(*(range(self.sizes[axis]) for axis in axes))
        return [self.files.placement.offset(dict(zip(axes, at, strict=True))) for at in positions]

    @cached_property
    def pieces(self) -> tuple[str, ...]:
        """The axes that the word's axis is divided into, the slowest first."""
        names = [self.word]
        for split in self.files.layout.split:
            if split.axis in names:
                at = names.index(split.axis)
                names[at : at + 1] = [split.outer, split.inner]
        for name in names:
            if name not in self.sizes:
                raise self.fail(f"its words must have the axis {name}")
        return tuple(names)

    @property
    def width(self) -> int:
        """The lanes of a word."""
        return prod(self.sizes[piece] for piece in self.pieces)

    @cached_property
    def others(self) -> tuple[str, ...]:
        """The axes that share a line's lanes with the word's own, the slowest first."""
        return tuple(axis.name for axis in self.files.layout.lanes if axis.name not in self.pieces)

    @cached_property
    def parts(self) -> tuple[int, ...]:
        """The lines that hold one word, from the first line of its position."""
        lines = sorted({self.line(at) for at in self._offsets(self.pieces)})
        if len({after - before for before, after in zip(lines, lines[1:], strict=False)}) > 1:
            raise self.fail(f"the lines of one word must lie at equal distances, not at {lines}")
        return tuple(lines)

    @property
    def stream(self) -> Stream:
        """The stream that reads the files as words."""
        layout, word = self.files.layout, self.files.memory.word
        plain = [name for name, made in FORMATS.items() if made.radix in _RADIXES and "header" in made.keys]
        if layout.format not in plain:
            raise self.fail(f"format must be one of {' '.join(plain)}, not {layout.format}")
        if self.files.memory.base:
            raise self.fail(f"base must be 0, because files are loaded one behind the other, not {layout.base}")
        if given := list(layout.format_keys()):
            raise self.fail(f"{given[0]} must not be given, because files are read as lines of words alone")
        if layout.header not in _HEADERS:
            raise self.fail(f"header must be none or verilog ($readmemb takes no # lines), not {layout.header}")
        for key in ("code", "border", "bus_bits"):
            plain, found = getattr(Layout, key), getattr(layout, key)
            if found != plain:
                raise self.fail(f"{key} must be {plain}, as the reference array takes its words, not {found}")
        offsets = [other + own for other, own in product(self._offsets(self.others), self._offsets(self.pieces))]
        return Stream(
            line_bits=word.width,
            field_bits=self.bits or word.field.bits,
            lanes=tuple((self.parts.index(self.line(at)), word.low_bit(at.lane) + self.low) for at in offsets),
            width=self.width,
            depth=self.words * len(self.paths),
            hexadecimal=_RADIXES[FORMATS[layout.format].radix],
            header_lines=_HEADERS[layout.header],
        )

    def walk(self, loops: Sequence[tuple[str, int]], fixed: Mapping[str, int]) -> Walk:
        """Return the walk over three `(axis, count)` loops, an axis the files do not have giving the same words again.

        The axes of `fixed` stay at their positions; positions beyond a loop's start are counted from there.
        """
        steps = self.files.placement.steps
        fixed = {axis: position for axis, position in fixed.items() if axis in steps}
        starts = {axis: fixed.pop(axis, 0) for axis, _ in loops if axis in steps}
        for axis in steps:
            if axis not in (*self.pieces, *starts, *fixed) or (axis in starts and axis in self.others):
                raise self.fail(f"its axis {axis} must not be split, and be in its files or lines")
        lane = 0
        for axis in self.others:
            lane = lane * self.sizes[axis] + fixed[axis]
        base = {axis: position for axis, position in fixed.items() if axis not in self.others} | starts
        return Walk(
            counts=tuple(count for _, count in loops),
            base=self.line(self.files.placement.offset(base)) + self.parts[0],
            strides=tuple(self.line(steps[axis][1]) if axis in starts else 0 for axis, _ in loops),
            part_stride=self.parts[1] - self.parts[0] if len(self.parts) > 1 else 0,
            lane=lane * self.width,
        )

    def tile_loop(self, pt: int, size: int) -> tuple[str, int]:
        """Return the axis of a pixel tile's outputs, and their number: `onij` ends with the map, `px` is padded."""
        tiled = "px" in self.sizes
        return ("px", size) if tiled else (PIXELS, min(size, self.sizes[PIXELS] - pt * size))

    def line_axis(self, flow: Dataflow) -> str:
        """Return the axis that time runs along inside a pass: what is neither a part, a pass, a tile nor a word."""
        tiles = [tiling.outer for tiling in flow.tilings.values()]
        axes = self.role.axes(flow) or ()
        (found,) = (axis for axis in axes if axis not in (*flow.parts, *flow.passes, *tiles, self.word))
        return found
