"""What sums can be, from exact bounds: which bins no input hits, and where it is worth to look for the others.

Each function here takes the least and the largest value that sums can have and returns what they *could* hit. Every
condition is necessary, so that what could not be hit is proved unreachable; that something could be hit proves nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, cached_property
from math import prod

import numpy as np
from jaxtyping import Bool, Int64, Integer

from factory.arithmetic.bits import Field
from factory.coverage.points import STEPS

Sums = Integer[np.ndarray, "loop outer inner"]
_EXACT_FLOATS = 1 << 24
_PART = 1 << 16
"""Weights whose steps are looked through at once."""


@dataclass(frozen=True)
class Bounds:
    """The ends `low .. high` of sums in some order, and `least .. most`, those of every sum on the way from 0."""

    low: Integer[np.ndarray, "*shape"]
    high: Integer[np.ndarray, "*shape"]
    least: Integer[np.ndarray, "*shape"]
    most: Integer[np.ndarray, "*shape"]

    @property
    def ends(self) -> tuple[int, int]:
        """The least and the largest sum."""
        return int(self.low.min()), int(self.high.max())

    @cached_property
    def floats(self) -> type:
        """The floats that have every sum of some of the terms exactly, whatever their order."""
        # a term is 0 or on the way from it, so that the ends on the way are those of any part of a sum
        return np.float32 if max(-int(self.least.min()), int(self.most.max())) < _EXACT_FLOATS else np.float64

    @cached_property
    def of_passes(self) -> Bounds:
        """The bounds of any word and lane of a pass, where axes are `(loop, pass, word, lane)`."""
        low, high = self.low.min(axis=(2, 3)), self.high.max(axis=(2, 3))
        if self.least is self.low and self.most is self.high:
            return Bounds(low, high, low, high)
        return Bounds(low, high, self.least.min(axis=(2, 3)), self.most.max(axis=(2, 3)))

    def each(self, change: Callable[[np.ndarray], np.ndarray]) -> Bounds:
        """Return the bounds with the same done to each of the arrays."""
        low, high = change(self.low), change(self.high)
        if self.least is self.low and self.most is self.high:
            return Bounds(low, high, low, high)
        return Bounds(low, high, change(self.least), change(self.most))


def sum_bounds(
    weight: Integer[np.ndarray, "loop outer inner term"],
    low: Integer[np.ndarray, "loop term"],
    high: Integer[np.ndarray, "loop term"],
) -> Bounds:
    """Return the bounds of the sums of weights times codes of `low .. high`, each `(loop, outer, inner)`."""
    near, far = np.minimum(low, 0), np.maximum(high, 0)
    ends = _weighted(weight, low, high)
    same = (near == low).all() and (far == high).all()
    return Bounds(*ends, *(ends if same else _weighted(weight, near, far)))


def _weighted(weight: np.ndarray, low: np.ndarray, high: np.ndarray) -> tuple[Sums, Sums]:
    """Return the sums of the products' least, and of their largest values: the codes' ends by the sign of a weight."""
    largest = max(abs(int(end)) for end in (weight.min(), weight.max())), max(-int(low.min()), int(high.max()))
    most = weight.shape[-1] * prod(largest)
    kind = np.float32 if most < _EXACT_FLOATS else np.float64
    shape, terms = weight.shape[:-1], weight.reshape(len(weight), -1, weight.shape[-1])
    rises, falls = (end(terms, 0).astype(kind) for end in (np.maximum, np.minimum))
    integer, found = np.int32 if most < np.iinfo(np.int32).max else np.int64, []
    for near, far in ((low, high), (high, low)):
        sums = sum(
            np.einsum("lvt,lt->lv", signed, end.astype(kind))
            for signed, end in ((rises, near), (falls, far))
            if end.any()
        )
        found.append(np.broadcast_to(sums, terms.shape[:2]).astype(integer).reshape(shape))
    return found[0], found[1]


@cache
def octave_ends(bits: int) -> tuple[Int64[np.ndarray, " octave"], Int64[np.ndarray, " octave"]]:
    """Return the least and the largest value of each octave, in the order of `octaves`."""
    powers = 1 << np.arange(bits - 1)
    low = np.concatenate([[-(1 << (bits - 1))], (1 - 2 * powers)[::-1], [0], powers])
    high = np.concatenate([[-(1 << (bits - 1))], -powers[::-1], [0], 2 * powers - 1])
    return low, high


def could_be(bounds: Bounds, low: int, high: int) -> Bool[np.ndarray, "*shape"]:
    """Return where a sum could be one of `low .. high`."""
    return (bounds.low <= high) & (bounds.high >= low)


def could_leave(bounds: Bounds, field: Field) -> Bool[np.ndarray, "*shape event"]:
    """Return where a sum on the way could leave the field above, or below, and come back."""
    sides = [bounds.most > field.high, bounds.least < field.low]
    # what comes back goes the other way, too
    back = [
        sides[0] & (bounds.low <= field.high) & (bounds.least < 0),
        sides[1] & (bounds.high >= field.low) & (bounds.most > 0),
    ]
    return np.stack([*sides, *back], axis=-1)


def could_flip(bounds: Bounds, bit: int, follow: bool) -> Bool[np.ndarray, "*shape edge"]:
    """Return where a bit could rise, or fall, from one word to the next.

    The words of a pass have the same bounds, or where `follow`, those along the last axis but one, each the next's.
    """
    low, high = bounds.low >> bit, bounds.high >> bit
    both = low != high
    ones, zeros = both | (low & 1 == 1), both | (low & 1 == 0)
    if not follow:
        return np.stack([both, both], axis=-1)
    return np.stack([zeros[..., :-1, :] & ones[..., 1:, :], ones[..., :-1, :] & zeros[..., 1:, :]], axis=-1)


def could_step(
    weight: Integer[np.ndarray, "loop outer inner term"],
    low: Integer[np.ndarray, "loop term"],
    high: Integer[np.ndarray, "loop term"],
) -> Bool[np.ndarray, " step"]:
    """Return which of `STEPS` the additions of products, one after the other from 0, could make."""
    found = np.zeros(len(STEPS), bool)
    for codes, a, b in zip(weight, low.astype(np.int64), high.astype(np.int64), strict=True):
        vectors = codes.reshape(-1, codes.shape[-1])
        size = max(1, _PART // max(1, vectors.shape[1]))
        for start in range(0, len(vectors), size):
            if found.all():
                return found
            ends = vectors[start : start + size] * a, vectors[start : start + size] * b
            found |= _steps(np.minimum(*ends), np.maximum(*ends))
    return found


def _steps(low: Int64[np.ndarray, "vector term"], high: Int64[np.ndarray, "vector term"]) -> Bool[np.ndarray, " step"]:
    held = np.cumsum(low, axis=1) - low, np.cumsum(high, axis=1) - high  # before each term
    result = held[0] + low, held[1] + high

    def has(ends: tuple[np.ndarray, np.ndarray], sign: str, least: int = 1) -> np.ndarray:
        known = {"-": ends[0] <= -least, "0": (ends[0] <= 0) & (ends[1] >= 0), "+": ends[1] >= least}
        return known[sign]

    found = []
    for product, before, after in (step.split() for step in STEPS):
        # the larger of two numbers of opposite sign, whose sum has its sign, is 2 away from 0 at least
        least = [1 + (sign == after and {product, before} == {"-", "+"}) for sign in (product, before)]
        parts = has((low, high), product, least[0]), has(held, before, least[1]), has(result, after)
        found.append(bool(np.logical_and.reduce(parts).any()))
    return np.array(found)
