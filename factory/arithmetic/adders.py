"""Adders of a given width: exact sums where bounds prove that they fit, every intermediate sum where they do not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
from jaxtyping import Int64, Integer

from factory.arithmetic.bits import Field
from factory.spec import InputError

OVERFLOWS = ("wrap", "saturate", "error")
Where = Callable[[int, int], object]
"""The address of the sum of a pixel and a channel, each counted among those that are added together."""
_EXACT_FLOATS = ((2**24, np.float32, np.int32), (2**53, np.float64, np.int64))


@dataclass(frozen=True)
class Adder:
    """A two's complement adder of `bits` that wraps, saturates or raises an error where a sum leaves its range."""

    bits: int
    overflow: str = "wrap"

    def __post_init__(self):
        if self.overflow not in OVERFLOWS:
            raise InputError(f"overflow must be one of {' '.join(OVERFLOWS)}, not {self.overflow}")

    @property
    def field(self) -> Field:
        """What a sum is held in."""
        return Field(self.bits, signed=True)

    @property
    def wraps(self) -> bool:
        """Whether a sum keeps its low bits: then the last sum is the exact one, wrapped, whatever came before."""
        return self.overflow == "wrap"

    def holds(self, *sums: np.ndarray) -> bool:
        """Return whether all sums fit."""
        return all(self.field.holds(part) for part in sums)

    def settle(self, sums: Integer[np.ndarray, "pixel channel"], where: Where) -> Integer[np.ndarray, "pixel channel"]:
        """Return what the adder gives for exact sums: `sums` itself where it holds them all.

        Raise InputError, from `where`, where it does not and overflow is an error.
        """
        field = self.field
        if self.holds(sums):
            return sums
        if self.wraps:
            return field.wrap(sums)[0].astype(sums.dtype)
        if self.overflow == "saturate":
            return field.saturate(sums)
        outside = (sums < field.low) | (sums > field.high)
        pixel, channel = map(int, np.unravel_index(int(outside.argmax()), sums.shape))
        raise InputError(
            f"{where(pixel, channel)}: a sum must fit {self.bits} bits ({field.low} to {field.high}), "
            f"not be {sums[pixel, channel]}"
        )


def reach(
    activation: Integer[np.ndarray, "pixel term"], weight: Integer[np.ndarray, "term channel"]
) -> tuple[Int64[np.ndarray, " channel"], Int64[np.ndarray, " channel"]]:
    """Return the least and the largest value that a sum of any of a channel's terms, in any order, can have."""
    # A float64 holds these sums exactly: codes have at most 8 bits, and a sum of 2**37 products would still fit.
    below = activation.min(axis=0, initial=0).astype(np.float64)
    above = activation.max(axis=0, initial=0).astype(np.float64)
    negative, positive = np.minimum(weight, 0).astype(np.float64), np.maximum(weight, 0).astype(np.float64)
    least, most = above @ negative + below @ positive, above @ positive + below @ negative
    return least.astype(np.int64), most.astype(np.int64)


def exact_product(
    activation: Integer[np.ndarray, "pixel term"], weight: Integer[np.ndarray, "term channel"]
) -> Integer[np.ndarray, "pixel channel"]:
    """Return `activation @ weight`, exactly: in floats where no sum of terms can be too large for their mantissa."""
    largest = [max(-int(codes.min(initial=0)), int(codes.max(initial=0))) for codes in (activation, weight)]
    most = weight.shape[0] * largest[0] * largest[1]
    for limit, dtype, integer in _EXACT_FLOATS:
        if most < limit:
            return (activation.astype(dtype) @ weight.astype(dtype)).astype(integer)
    return activation.astype(np.int64) @ weight.astype(np.int64)


def ordered_sum(
    activation: Integer[np.ndarray, "pixel term"],
    weight: Integer[np.ndarray, "term channel"],
    adder: Adder,
    where: Callable[[int, int, int], object],
) -> tuple[Integer[np.ndarray, "pixel channel"], Integer[np.ndarray, "pixel channel"]]:
    """Return the sums of all terms: exact, and as an adder gives them that takes the terms in order, from 0.

    Both are one array where the terms' bounds prove that every intermediate sum fits. The last sum of an adder that
    wraps is the exact one, wrapped, whatever happened before. `where(term, pixel, channel)` is the address of an error.
    """
    exact = exact_product(activation, weight)
    if adder.wraps:
        return exact, adder.settle(exact, partial(where, weight.shape[0]))
    if adder.holds(*reach(activation, weight)):
        return exact, exact
    # A sum that leaves the range may come back: what a saturating adder gives depends on every step, so take them all.
    total = np.zeros(exact.shape, np.int64)
    for term in range(weight.shape[0]):
        products = activation[:, term, None].astype(np.int64) * weight[term].astype(np.int64)
        total = adder.settle(total + products, partial(where, term))
    return exact, total
