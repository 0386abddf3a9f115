"""The second path of residual streams: plain NumPy int64, one image at a time, and its own constants.

What a layer adds to a stream is `(m * acc + c) >> shift` with `m = rint(factor * 2**(f + shift))` and
`c = rint(offset * 2**(f + shift)) + 2**(shift - 1)`. `factor` and `offset` are the steps and the batch norm in float64,
`f` are the fraction bits: the most with which no sum is beyond 30 bits. For sums of `b` bits, `shift` is the least
multiple of `30 - b` that is at least `b + 2`. A stem's sums are those of pixels, and of ones that carry the mean.
"""

from __future__ import annotations

import functools
import math

import numpy as np
from jaxtyping import Float64, Int64, UInt8

from factory.spec import BatchNorm, ConvLayer, Stem, Stream, TrainedNetwork, accumulator_ranges
from factory.verify import reference


class StreamArithmetic:
    """A trained network's streams, from accumulators and pixels."""

    def __init__(self, trained: TrainedNetwork):
        self._trained, self._network = trained, trained.network
        self._streams = {stream.name: stream for stream in trained.network.streams}

    def values(self, stream: np.ndarray) -> np.ndarray:
        """Return the real values of a stream's integers, float32."""
        return stream.astype(np.float32) * np.float32(2.0**-self.fraction_bits)

    def layer_term(self, name: str, accumulator: Int64[np.ndarray, "oc y x"]) -> Int64[np.ndarray, "oc y x"]:
        """Return what a layer adds to its stream."""
        least, most = self._accumulators(name)
        shift = _shift(max(-int(least.min()), int(most.max())))
        factor, offset = self._line(name)
        return self._scaled(accumulator * self._fixed(factor, shift)[:, None, None], offset, shift)

    def stem_term(self, pixels: UInt8[np.ndarray, "colour y x"]) -> Int64[np.ndarray, "oc oy ox"]:
        """Return what the stem adds to its stream."""
        spec = self._network.stem.geometry
        shift = _shift(spec.kij_count * (255 * spec.in_channels + 1))
        pixel, ones, offset = self._stem
        inside = np.ones((1, spec.height, spec.width), np.int64)
        sums = reference.direct_convolution(pixels, self._fixed(pixel, shift), spec)
        sums += reference.direct_convolution(inside, self._fixed(ones, shift)[:, None], spec)
        return self._scaled(sums, offset, shift)

    def _fixed(self, real: Float64[np.ndarray, "*any"], shift: int) -> Int64[np.ndarray, "*any"]:
        return np.rint(real * 2.0 ** (self.fraction_bits + shift)).astype(np.int64)

    def _scaled(self, sums: np.ndarray, offset: np.ndarray, shift: int) -> np.ndarray:
        return (sums + (self._fixed(offset, shift) + 2 ** (shift - 1))[:, None, None]) // 2**shift

    def _accumulators(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        layer = self._trained.layers[name]
        bounds = reference.code_bounds(self._network, layer.spec, layer.alpha_a)
        return accumulator_ranges(layer.spec, layer.weight_code, *bounds)

    def _line(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        layer = self._trained.layers[name]
        factor, offset = _normed(layer.batch_norm, layer.spec.out_channels)
        factor = float(layer.activation_scale) * float(layer.weight_scale) * factor
        unused = (layer.weight_code == 0).reshape(len(factor), -1).all(axis=1)
        return np.where(unused, 0, factor), offset

    @functools.cached_property
    def _stem(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return the real weights of pixels and of ones, and the offset."""
        stem, network = self._trained.stem, self._network
        factor, offset = _normed(stem.batch_norm, stem.spec.out_channels)
        pixel, ones = np.zeros(stem.weight.shape), np.zeros(stem.weight[:, 0].shape)
        for colour, (mean, std) in enumerate(zip(network.mean, network.std, strict=True)):
            weight = stem.weight[:, colour].astype(np.float64) * factor[:, None, None] / float(np.float32(std))
            pixel[:, colour] = weight / 255
            ones += weight * float(np.float32(mean))
        return pixel, -ones, offset

    @functools.cached_property
    def fraction_bits(self) -> int:
        """The most bits after the binary point with which no term and no sum of two is beyond 30 bits."""
        ends = {}
        for step in self._network.steps:
            if isinstance(step, Stream):
                low, high = (sum(x) for x in zip(*(self._entering(name, ends) for name in step.inputs), strict=True))
                ends[step.name] = low, high
            elif isinstance(step, Stem):
                ends[step.name] = self._stem_ends()
            elif step.name in self._network.entering:
                ends[step.name] = self._layer_ends(step)
        largest = max(np.abs(end).max() for pair in ends.values() for end in pair)
        return 30 - max(math.frexp(largest)[1], 0)

    def _entering(self, name: str, ends: dict) -> tuple[np.ndarray, np.ndarray]:
        return tuple(np.maximum(end, 0) for end in ends[name]) if name in self._streams else ends[name]

    def _layer_ends(self, spec: ConvLayer) -> tuple[np.ndarray, np.ndarray]:
        factor, offset = self._line(spec.name)
        first, second = (factor * end + offset for end in self._accumulators(spec.name))
        return np.minimum(first, second), np.maximum(first, second)

    def _stem_ends(self) -> tuple[np.ndarray, np.ndarray]:
        pixel, ones, offset = self._stem
        low, high = offset.copy(), offset.copy()
        for ki in range(ones.shape[1]):
            for kj in range(ones.shape[2]):
                tap = 255 * pixel[:, :, ki, kj]
                low += np.minimum(np.where(tap < 0, tap, 0).sum(axis=1) + ones[:, ki, kj], 0)
                high += np.maximum(np.where(tap > 0, tap, 0).sum(axis=1) + ones[:, ki, kj], 0)
        return low, high


def _normed(norm: BatchNorm | None, channels: int) -> tuple[np.ndarray, np.ndarray]:
    if norm is None:
        return np.ones(channels), np.zeros(channels)
    mean, var, gamma, beta = (np.asarray(x, np.float64) for x in (norm.mean, norm.var, norm.gamma, norm.beta))
    factor = gamma / np.sqrt(var + float(np.float32(norm.eps)))
    return factor, beta - mean * factor


def _shift(largest: int) -> int:
    bits = largest.bit_length()
    return math.ceil((bits + 2) / (30 - bits)) * (30 - bits)
