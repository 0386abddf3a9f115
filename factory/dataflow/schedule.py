"""When values cross the edges of an array: the cycles of a pass, and of passes back to back.

A pass is what the array does with what it holds: one tile at one kernel position where an operand stays in it
(weight and input stationary), one tile of outputs where sums do. An array of `rows` x `cols` elements hands a value to
the next column each cycle, and a sum to the next row every `depth` cycles.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
from jaxtyping import Integer

from factory.spec import InputError, check_range

CONTENTS = ("value", "valid", "value+valid", "address")
SKEWS = ("diagonal", "none")
ORDERS = ("map", "pixels", "window")
_MOST = 1 << 16
_MOST_OFFSET = (1 << 31) - 1
_RANGES = (("gap", 0, _MOST), ("load", 0, _MOST), ("depth", 1, _MOST), ("drain", 0, _MOST), ("offset", 0, _MOST_OFFSET))


@dataclass(frozen=True)
class Crossing:
    """How the words of one pass cross an edge: word `t` of lane `l` in cycle `first + t + slope * l`.

    Words come from the last to the first where `backward`.
    """

    first: int
    slope: int
    backward: bool = False

    def end(self, words: int, lanes: int) -> int:
        """Return the cycle after the last word of the last lane."""
        return self.first + words + self.slope * (lanes - 1)


@dataclass(frozen=True)
class PassTimes:
    """The cycles of one pass: `length` from its first to its last word; the next one begins `period` cycles later."""

    west: Crossing
    north: Crossing
    south: Crossing
    length: int
    period: int

    def cycles(self, passes: int) -> int:
        """Return the cycles of so many passes, one after the other."""
        return (passes - 1) * self.period + self.length


@dataclass(frozen=True)
class EdgeSchedule:
    """What a layout says of a stream that crosses an edge of the array.

    `content` is what a lane holds: the value (0 where nothing is), whether there is one (`valid`), both, the valid bit
    being the lane's lowest (`value+valid`), or the value's address, counted from `offset` (-1 where nothing is).
    `skew` `diagonal` is for an array without skew registers, `none` for one that has its own: all lanes of a word cross
    in one cycle. `sequence` are the axes whose passes follow each other in one stream, the slowest first; each place on
    the others has a stream of its own.

    `order` is what the passes take of a layer: the dataflow's own tiles and the `map` that streams through, the same of
    output `pixels` alone, or the kernel's `window` as one axis, `kij` outside and the input channel inside, as
    SCALE-Sim has it; then tiles of input channels are tiles of the window, and there is one `kij`.

    A pass loads what it holds in `load` cycles (0: one for each row), a row a cycle, the last row first unless
    `row0_first`. A sum is in an element for `depth` cycles, and seen below the array `drain` cycles after the last of
    them: 1 behind a register, 0 as SCALE-Sim counts. `gap` cycles are between passes. Where it is `double_buffered`, an
    element loads while it works, or its sums leave while it makes the next ones, and passes begin that much earlier.
    """

    content: str = CONTENTS[0]
    skew: str = SKEWS[0]
    order: str = ORDERS[0]
    sequence: tuple[str, ...] = ()
    gap: int = 0
    load: int = 0
    row0_first: bool = False
    depth: int = 1
    drain: int = 1
    double_buffered: bool = False
    offset: int = 0

    def __post_init__(self):
        for name, known in (("content", CONTENTS), ("skew", SKEWS), ("order", ORDERS)):
            if getattr(self, name) not in known:
                raise InputError(f"{name} must be one of {' '.join(known)}, not {getattr(self, name)}")
        for name, least, most in _RANGES:
            check_range(name, getattr(self, name), least, most)
        if len(set(self.sequence)) != len(self.sequence):
            raise InputError(f"sequence must have each axis once, not {' '.join(self.sequence)}")
        if self.offset and not self.addresses:
            raise InputError(f"offset must be 0 with content {self.content}, not {self.offset}")

    @property
    def addresses(self) -> bool:
        """Whether the lanes hold addresses."""
        return self.content == "address"

    @property
    def valid_bits(self) -> int:
        """Bits that a lane has for its valid bit beside its value."""
        return int(self.content == "value+valid")

    @property
    def has_values(self) -> bool:
        """Whether the lanes hold values."""
        return self.content.startswith("value")

    @property
    def has_valid(self) -> bool:
        """Whether the lanes hold valid bits, alone or as their lowest bit."""
        return "valid" in self.content

    @property
    def timing(self) -> EdgeSchedule:
        """The schedule without what the lanes hold."""
        return replace(self, content=CONTENTS[0], offset=0)

    def to_record(self) -> dict[str, Any]:
        """Return what is not as by default, as plain values."""
        given = {key.name: getattr(self, key.name) for key in fields(self) if getattr(self, key.name) != key.default}
        return {name: list(value) if isinstance(value, tuple) else value for name, value in given.items()}

    def configured(self, content: str | None, skew: str | None) -> EdgeSchedule:
        """Return the schedule with other content, but for valid bits, and skew; None leaves each as it is."""
        content = self.content if content is None or self.content == "valid" else content
        offset = self.offset if content == self.content else 0
        return replace(self, content=content, skew=skew or self.skew, offset=offset)

    def times(self, rows: int, cols: int, words: int, holds_operand: bool) -> PassTimes:
        """Return the cycles of a pass in which `words` stream from the west.

        Where the array `holds_operand`, sums of every word leave, else a word of sums for each row at the end.
        """
        diagonal = self.skew == "diagonal"
        slope, late = (1, 0) if diagonal else (0, cols - 1)  # without skew a word leaves when its last lane is there
        out = late + self.depth - 1 + self.drain  # from the cycle in which the last row takes a word to that of its sum
        if not holds_operand:
            entering, taken = Crossing(0, slope), words + rows - 2
            south, leaving = Crossing(taken + out, slope, backward=True), rows
            # sums with registers of their own let the next pass begin when the last element has its last operands
            busy = taken + cols
            times = PassTimes(entering, entering, south, south.end(leaving, cols), busy)
        else:
            load = self._load(rows)
            taken = load + self.depth * (rows - 1)
            west, north = Crossing(load, self.depth * slope), Crossing(0, 0, backward=not self.row0_first)
            south = Crossing(taken + out, slope)
            # a second buffer is free again when the last element has taken what it held
            busy = max(words, taken + cols - 1)
            times = PassTimes(west, north, south, south.end(words, cols), busy)
        return replace(times, period=(times.period if self.double_buffered else times.length) + self.gap)

    def _load(self, rows: int) -> int:
        if self.load and self.load < rows:
            raise InputError(f"load must be at least the rows of the array, {rows}, not {self.load}")
        return self.load or rows


def lay_in_time(
    words: Integer[np.ndarray, "*stream pass word lane"], crossing: Crossing, times: PassTimes, blank: int
) -> Integer[np.ndarray, "*stream cycle lane"]:
    """Return streams of passes back to back, cycle by cycle, `blank` where nothing crosses."""
    *outer, passes, count, lanes = words.shape
    cycles, period = times.cycles(passes), times.period
    # each lane is a column in which a word follows the one before: a view of `passes` x `period` cycles from its start
    room = crossing.first + crossing.slope * (lanes - 1) + passes * period
    out = np.full((*outer, max(cycles, room), lanes), blank, words.dtype)
    ordered = words[..., ::-1, :] if crossing.backward else words
    for lane in range(lanes):
        start = crossing.first + crossing.slope * lane
        column = out[..., start : start + passes * period, lane]
        column.reshape(*outer, passes, period)[..., :count] = ordered[..., lane]
    return out[..., :cycles, :]
