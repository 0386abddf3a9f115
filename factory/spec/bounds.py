"""Exact range bounds of psums and accumulators, from a layer's own weight codes and activation range."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Int64, Integer

from factory.spec.layer import ConvLayer
from factory.spec.network import SystolicArray

Weights = Integer[np.ndarray, "oc ic ki kj"]
Codes = Integer[np.ndarray, " ic"]
Products = Int64[np.ndarray, "oc ic ki kj"]

_PART = 2**15
"""Weights whose products are computed at once."""


@dataclass(frozen=True)
class Range:
    """A closed range of integers, `low <= value <= high`."""

    low: int
    high: int

    @classmethod
    def of(cls, *values: Integer[np.ndarray, ...]) -> Range:
        """Return the narrowest range that holds the values of some arrays, none of which is empty."""
        return cls(min(int(x.min()) for x in values), max(int(x.max()) for x in values))

    @property
    def bits(self) -> int:
        """Bits of the narrowest two's complement field that holds the range."""
        return 1 + max((~end if end < 0 else end).bit_length() for end in (int(self.low), int(self.high)))

    def fits(self, bits: int) -> bool:
        """Whether a signed field of `bits` holds the range."""
        return self.bits <= bits

    def dtype(self) -> np.dtype:
        """Return int16 where the range fits, else int32; raise OverflowError where neither does."""
        for dtype in (np.int16, np.int32):
            if self.fits(np.iinfo(dtype).bits):
                return np.dtype(dtype)
        raise OverflowError(f"range {self.low}..{self.high} needs {self.bits} bits, more than an int32 has")


def product_extremes(weight: Weights, low: Codes, high: Codes) -> tuple[Products, Products]:
    """Return the least and largest `weight * activation`, int64 `(oc, ic, ki, kj)`.

    `weight`: integers `(oc, ic, ki, kj)`; `low`, `high`: integers `(ic,)`, the activation codes' closed range.
    """
    w = weight.astype(np.int64)
    at_low, at_high = w * low.astype(np.int64)[:, None, None], w * high.astype(np.int64)[:, None, None]
    return np.minimum(at_low, at_high), np.maximum(at_low, at_high)


def _extremes_in_parts(weight: Weights, low: Codes, high: Codes) -> Iterator[tuple[Products, Products]]:
    """Yield `product_extremes` of a few output channels at a time: arrays that fit the caches are 3 times as fast."""
    for part in np.array_split(weight, min(len(weight), weight.size // _PART + 1)):
        yield product_extremes(part, low, high)


def psum_range(array: SystolicArray, weight: Weights, low: Codes, high: Codes, border: int = 0) -> Range:
    """Return the range of every sum inside a column: of any of a tile's `rows` products, over all `it, kij, oc`.

    It is the sum of the products' negative parts to that of their positive parts, so it holds 0 (the psum of a column
    without products). `border` is the code of a padded pixel, which enters as the codes `low .. high` do. Where each
    channel's codes begin at 0 the psums themselves reach both ends.
    """
    low, high = np.minimum(low.astype(np.int64), border), np.maximum(high.astype(np.int64), border)
    ranges = [
        (_tile_sums(np.minimum(least, 0), array).min(), _tile_sums(np.maximum(most, 0), array).max())
        for least, most in _extremes_in_parts(weight, low, high)
    ]
    return Range(int(min(least for least, _ in ranges)), int(max(most for _, most in ranges)))


def _tile_sums(values: np.ndarray, array: SystolicArray) -> np.ndarray:
    starts = np.arange(0, values.shape[1], array.rows)
    return np.add.reduceat(values, starts, axis=1)


def window_pixels(spec: ConvLayer) -> tuple[Int64[np.ndarray, "onij kij"], Int64[np.ndarray, "onij kij"]]:
    """Return the row and the column of the padded map that each output pixel reads at each kernel position."""
    ki, kj = np.divmod(np.arange(spec.kij_count), spec.kernel[1])
    oi, oj = np.divmod(np.arange(spec.onij_count), spec.out_width)
    y = oi[:, None] * spec.stride[0] + ki * spec.dilation[0]
    x = oj[:, None] * spec.stride[1] + kj * spec.dilation[1]
    return y, x


def valid_taps(spec: ConvLayer) -> Bool[np.ndarray, "onij kij"]:
    """Return bool `(onij, kij)`: whether that kernel position reads a pixel of the map rather than its border."""
    y, x = window_pixels(spec)
    top, left, _, _ = spec.padding
    return (y >= top) & (y < top + spec.height) & (x >= left) & (x < left + spec.width)


def accumulator_ranges(
    spec: ConvLayer, weight: Weights, low: Codes, high: Codes, border: int | None = None
) -> tuple[Int64[np.ndarray, " oc"], Int64[np.ndarray, " oc"]]:
    """Return the exact least and largest accumulator of each output channel, int64 `(oc,)` each.

    The extremes are over all output pixels; a tap on the border adds what `border` gives, the code of a padded pixel
    (None: the zero point).
    """
    border = spec.zero_point if border is None else border
    taps = np.unique(valid_taps(spec), axis=0).astype(np.int64)
    sums = [[x.sum(axis=1) for x in extremes] for extremes in _extremes_in_parts(weight, low, high)]
    by_tap = [np.concatenate(x).reshape(spec.out_channels, spec.kij_count) for x in zip(*sums, strict=True)]
    padded = border * weight.astype(np.int64).sum(axis=1).reshape(spec.out_channels, spec.kij_count)
    at_border = padded @ (1 - taps.T)
    return (by_tap[0] @ taps.T + at_border).min(axis=1), (by_tap[1] @ taps.T + at_border).max(axis=1)


def accumulator_range(spec: ConvLayer, weight: Weights, low: Codes, high: Codes, border: int | None = None) -> Range:
    """Return the exact range of the accumulators of all output channels, as `accumulator_ranges` takes it."""
    least, most = accumulator_ranges(spec, weight, low, high, border)
    return Range.of(least, most)
