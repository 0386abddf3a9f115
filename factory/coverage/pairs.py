"""Codes, and pairs of codes, in each processing element: from which codes there are at each place of both operands.

In a pass every word meets every lane, so a pair is hit where both codes are somewhere in the same loop and term.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import prod

import numpy as np
from jaxtyping import Bool, Float32

from factory.arithmetic.bits import Field
from factory.coverage.passes import Codes, Form, presence, within

MOST_BINS = 1 << 20
"""Where there would be more pairs in all processing elements, they are counted without regard to which one it was."""
Mask = Bool[np.ndarray, "_loop _lane _term _code"]
Side = Float32[np.ndarray, "_row _lane_code _other"]


def own_axes(axes: Mapping[str, Sequence]) -> tuple[str, ...]:
    """Return which of the axes of pairs tell them apart: all of them, or where there would be too many codes alone."""
    return tuple(axes) if prod(map(len, axes.values())) <= MOST_BINS else ("activation", "weight")


@dataclass(frozen=True)
class Pairs:
    """The pairs of an array's processing elements, of which activations and weights are read from fields."""

    form: Form

    def field(self, activation: bool) -> Field:
        """What an operand is read from."""
        return self.form.mapping.fields["activation" if activation else "weight"]

    def codes(self, activation: bool) -> tuple[int, ...]:
        """Return the codes of an operand."""
        field = self.field(activation)
        return tuple(range(field.low, field.high + 1))

    @cached_property
    def each(self) -> bool:
        """Whether pairs are counted in each processing element."""
        array = self.form.mapping.array
        return array.rows * array.cols * len(self.codes(True)) * len(self.codes(False)) <= MOST_BINS

    @property
    def axes(self) -> dict[str, tuple[int, ...]]:
        """The axes of the bins of pairs."""
        array = self.form.mapping.array
        lanes = {self.form.row: tuple(range(array.rows)), self.form.col: tuple(range(array.cols))} if self.each else {}
        return lanes | {"activation": self.codes(True), "weight": self.codes(False)}

    def _kept(self, activation: bool) -> tuple[int, ...]:
        """The axes of an operand whose places are told apart; a lane of its own is one that its `inner` axis is."""
        held = activation != self.form.weights_held
        inner = (2,) if self.each and (held or not self.form.rows_add) else ()
        return (0, *inner, 3)

    def mask(self, codes: Codes | tuple[Codes, Codes], activation: bool) -> Mask:
        """Return which codes there are, or, of the ends of codes, could be, in each loop, lane and term.

        There is one lane where lanes are not told apart.
        """
        kept, field = self._kept(activation), self.field(activation)
        there = within if isinstance(codes, tuple) else presence
        found = there(codes, kept, field.low, field.high - field.low + 1)
        return found if found.ndim == 4 else found[:, None]

    def side(self, mask: Mask, activation: bool) -> Side:
        """Return the codes that there are as one factor of a product that counts where they meet those of the other.

        Where a term is a row, terms stay apart, and loops come together.
        """
        axes, outer = ((2, 1, 3, 0), mask.shape[2]) if self.each and self.form.rows_add else ((1, 3, 0, 2), 1)
        return mask.transpose(axes).reshape(outer, mask.shape[1] * mask.shape[3], -1).astype(np.float32)

    def pairs(self, activation: Side, weight: Side) -> Bool[np.ndarray, "*bins"]:
        """Return which pairs of the codes that there are meet, `(row, col, activation, weight)`."""
        moving, held = self.form.sort(activation, weight)
        moved, kept = self.form.sort(*(len(self.codes(which)) for which in (True, False)))
        found = moving @ held.swapaxes(1, 2) > 0
        found = found.reshape(-1, moved, found.shape[2] // kept, kept).swapaxes(1, 2)
        found = found if self.form.weights_held else found.swapaxes(2, 3)
        return found if self.each else found[0, 0]
