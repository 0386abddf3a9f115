"""Steps from the axes of a vector to those of a layout: axes joined, kept in part, divided and repeated.

Each step is a bijection of positions: `forth` takes them on, in place, and `back` returns them; both say whether the
position is there on the other side. `resize` does the same to the sizes of axes, `arrange` to whole arrays.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol, runtime_checkable

from factory.arithmetic.labelled import LabelledArray

Sizes = Mapping[str, int]
Positions = dict[str, int]


@runtime_checkable
class Step(Protocol):
    """One step; `sizes` are those of the axes before it."""

    def resize(self, sizes: Sizes) -> dict[str, int]:
        """Return the sizes of the axes after the step."""

    def forth(self, positions: Positions, sizes: Sizes) -> bool:
        """Take positions on."""

    def back(self, positions: Positions, sizes: Sizes) -> bool:
        """Take positions back."""

    def arrange(self, source: LabelledArray) -> LabelledArray:
        """Return (part of) an array after the step."""


@dataclass(frozen=True)
class Split:
    """An axis divided in two: `outer, inner = divmod(axis, size)`; `size` channels share one physical lane (SIMD).

    Where `size` does not divide the axis, zeros follow its end.
    """

    axis: str
    outer: str
    inner: str
    size: int

    def resize(self, sizes: Sizes) -> dict[str, int]:
        """Return the sizes of the axes after the step; `outer` or `inner` may take the name of the axis."""
        rest = {axis: size for axis, size in sizes.items() if axis != self.axis}
        return rest | {self.outer: -(-sizes[self.axis] // self.size), self.inner: self.size}

    def forth(self, positions: Positions, sizes: Sizes) -> bool:
        """Divide a position."""
        positions[self.outer], positions[self.inner] = divmod(positions.pop(self.axis), self.size)
        return True

    def back(self, positions: Positions, sizes: Sizes) -> bool:
        """Return the undivided position; the zeros after the end of the axis have none."""
        position = positions.pop(self.outer) * self.size + positions.pop(self.inner)
        positions[self.axis] = position
        return position < sizes[self.axis]

    def arrange(self, source: LabelledArray) -> LabelledArray:
        """Return (part of) an array with the axis divided."""
        return source.split(self.axis, self.outer, self.inner, self.size)


@dataclass(frozen=True)
class Join:
    """Two axes as one, `axis = outer * size of inner + inner`, of whose positions the first `count` are there.

    A tile and its lane are a channel; the lanes of the last tile that have none are left out.
    """

    outer: str
    inner: str
    axis: str
    count: int

    def resize(self, sizes: Sizes) -> dict[str, int]:
        """Return the sizes of the axes after the step."""
        return {axis: size for axis, size in sizes.items() if axis not in (self.outer, self.inner)} | {
            self.axis: self.count
        }

    def forth(self, positions: Positions, sizes: Sizes) -> bool:
        """Join two positions."""
        position = positions.pop(self.outer) * sizes[self.inner] + positions.pop(self.inner)
        positions[self.axis] = position
        return position < self.count

    def back(self, positions: Positions, sizes: Sizes) -> bool:
        """Return the two positions."""
        positions[self.outer], positions[self.inner] = divmod(positions.pop(self.axis), sizes[self.inner])
        return True

    def arrange(self, source: LabelledArray) -> LabelledArray:
        """Return an array with the two axes joined."""
        return source.join(self.outer, self.inner, self.axis, self.count)


@dataclass(frozen=True)
class Keep:
    """The positions of an axis that are there, in their order: a map without its border, or its pixels row by row."""

    axis: str
    places: tuple[int, ...]

    @cached_property
    def _at(self) -> dict[int, int]:
        return {place: at for at, place in enumerate(self.places)}

    def resize(self, sizes: Sizes) -> dict[str, int]:
        """Return the sizes of the axes after the step."""
        return {**sizes, self.axis: len(self.places)}

    def forth(self, positions: Positions, sizes: Sizes) -> bool:
        """Return where a kept position comes."""
        at = self._at.get(positions[self.axis])
        positions[self.axis] = at or 0
        return at is not None

    def back(self, positions: Positions, sizes: Sizes) -> bool:
        """Return the position that comes at a place."""
        positions[self.axis] = self.places[positions[self.axis]]
        return True

    def arrange(self, source: LabelledArray) -> LabelledArray:
        """Return an array with the kept positions."""
        return source.keep(self.axis, self.places)


@dataclass(frozen=True)
class Repeat:
    """An axis that the vector does not have: along it the same values come again, `count` times."""

    axis: str
    count: int

    def resize(self, sizes: Sizes) -> dict[str, int]:
        """Return the sizes of the axes after the step."""
        return {**sizes, self.axis: self.count}

    def forth(self, positions: Positions, sizes: Sizes) -> bool:
        """Let the position of one of the copies stand: the first, where none is asked for."""
        return positions.setdefault(self.axis, 0) < self.count

    def back(self, positions: Positions, sizes: Sizes) -> bool:
        """Forget which copy it is."""
        del positions[self.axis]
        return True

    def arrange(self, source: LabelledArray) -> LabelledArray:
        """Return (part of) an array with its copies, which take no memory."""
        return source.repeat(self.axis, self.count)
