"""Products of vectors, their sums, and what a sum goes through on the way: its signs, and an adder's range."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Bool, Float, Int64, Integer, Real

from factory.arithmetic.bits import Field
from factory.coverage.points import STEPS

FEWEST, MOST, GROWTH = 1 << 13, 1 << 18, 4
"""How many values are looked at first, and at most at once: few are enough for most bins."""
_OF_SIGNS = 4
"""How many sums a sum costs as much as whose signs are looked at, by the term."""
_STRIDE = 2_654_435_761
"""A prime near 2^32 over the golden ratio: steps of it go through all of fewer places, and through far ones first."""
_SIGN_PLACES = np.array(
    [sum(3**place * "-0+".index(sign) for place, sign in zip((2, 1, 0), step.split(), strict=True))
     for step in STEPS]
)  # fmt: skip


@dataclass(frozen=True)
class Vectors:
    """Vectors of codes, in blocks; `floats` is a type that has every sum of their products with others exactly.

    The codes themselves are integers, or floats that hold them.
    """

    codes: Real[np.ndarray, "block vector term"]
    floats: type

    @cached_property
    def rows(self) -> Float[np.ndarray, "block vector term"]:
        """The vectors as floats."""
        return self.codes.astype(self.floats)

    @cached_property
    def columns(self) -> Float[np.ndarray, "block term vector"]:
        """The vectors as columns, which are faster to multiply by in this order."""
        return self.codes.swapaxes(1, 2).astype(self.floats, order="C")

    @cached_property
    def sizes(self) -> Float[np.ndarray, "block term vector"]:
        """The magnitudes of the columns."""
        return np.abs(self.columns)

    @cached_property
    def lengths(self) -> Float[np.ndarray, "block vector"]:
        """The length of each vector, at least."""
        return lengths(self.rows)


def lengths(vectors: Float[np.ndarray, "*vector term"]) -> Float[np.ndarray, "*vector"]:
    """Return the length of each vector of codes, or a little more: what floats can be wrong by."""
    return np.sqrt(np.einsum("...t,...t->...", vectors, vectors)) * (
        1 + vectors.shape[-1] * np.finfo(vectors.dtype).eps
    )


@dataclass(frozen=True)
class Products:
    """In each block all vectors of activations times all vectors of weights, term by term.

    They are added from 0 in the `order` of the terms (None: as they are), `step` of them at a time.
    """

    activations: Vectors
    weights: Vectors
    order: Int64[np.ndarray, " term"] | None = None
    step: int = 1

    @cached_property
    def sums(self) -> Integer[np.ndarray, "block activation weight"]:
        """The sums of all terms."""
        integers = np.int32 if self.weights.floats is np.float32 else np.int64
        return (self.activations.rows @ self.weights.columns).astype(integers)

    def terms(self, block: np.ndarray, activation: np.ndarray, weight: np.ndarray) -> Int64[np.ndarray, "sum term"]:
        """Return the products that make some sums, in order."""
        terms = self.activations.codes[block, activation].astype(np.int64) * self.weights.codes[block, weight]
        return terms if self.order is None else terms[:, self.order]

    def signs(self, wanted: Bool[np.ndarray, " step"]) -> Bool[np.ndarray, " step"]:
        """Return which of the `STEPS` that are wanted the additions of single terms make."""
        blocks, activations, terms = self.activations.codes.shape
        shape = blocks, activations, self.weights.codes.shape[1]
        count, found = int(np.prod(shape)), np.zeros(len(STEPS), bool)
        for part in growing(count, _OF_SIGNS * terms):
            if not (wanted & ~found).any():
                break
            places = np.arange(part.start, min(part.stop, count)) * _STRIDE % count
            found |= _signs(self.terms(*np.unravel_index(places, shape)))
        return found

    def events(self, field: Field, wanted: Bool[np.ndarray, " event"]) -> Bool[np.ndarray, " event"]:
        """Return which of the `EVENTS` that are wanted the sums go through in a field."""
        found = np.zeros(len(wanted), bool)
        places = self._leaving(field) if wanted.any() else ((),)
        for part in growing(len(places[0]), self.activations.codes.shape[2]):
            if not (wanted & ~found).any():
                break
            terms = self.terms(*(place[part] for place in places))
            found |= _events(terms.reshape(len(terms), -1, self.step).sum(axis=2), field)
        return found

    def _leaving(self, field: Field) -> tuple[np.ndarray, ...]:
        """Return block, activation and weight of each sum whose terms of one sign make up more than the field holds.

        Where `s` is a sum and `m` that of the terms' magnitudes, those of one sign make up `(s + m) / 2` and
        `(s - m) / 2`. Cauchy and Schwarz bound `m` by the vectors' lengths, which saves most of the work.
        """
        # float32 is used where no sum of terms reaches 2^24, so that only fields of less room overflow: magnitudes
        # that add up to more are not exact, but never fall below 2^24 again, and so are beyond the room, as they must
        room = np.minimum(2 * field.high - self.sums, self.sums - 2 * field.low)
        far = self.activations.lengths[:, :, None] * self.weights.lengths[:, None, :] > room
        if far.any():
            far &= np.abs(self.activations.rows) @ self.weights.sizes > room
        return np.nonzero(far)


def growing(count: int, size: int) -> Iterator[slice]:
    """Yield the places of `count` things of a size, a few at first and then ever more at once."""
    start, values = 0, FEWEST
    while start < count:
        some = max(1, values // size)
        yield slice(start, start + some)
        start, values = start + some, min(GROWTH * values, MOST)


def _signs(products: Int64[np.ndarray, "sum term"]) -> Bool[np.ndarray, " step"]:
    results = np.cumsum(products, axis=1)
    places = 9 * np.sign(products) + 3 * np.sign(results - products) + np.sign(results) + 13
    return np.bincount(places.reshape(-1), minlength=27)[_SIGN_PLACES] > 0


def _events(terms: Int64[np.ndarray, "sum step"], field: Field) -> Bool[np.ndarray, " event"]:
    sums = np.cumsum(terms, axis=1)
    above, below = (sums > field.high).any(axis=1), (sums < field.low).any(axis=1)
    back = (sums[:, -1] >= field.low) & (sums[:, -1] <= field.high)
    return np.array([above.any(), below.any(), (above & back).any(), (below & back).any()])
