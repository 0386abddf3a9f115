"""Lowering residual streams: to fixed point in 32 bits, and each reader's thresholds on it.

A stream's unit stands for `2**-fraction_bits`, one for all streams of a network: the finest with which no sum on the
way, of what the exact bounds of codes and accumulators allow, is beyond 30 bits and a sign. It must be fine beside the
step of every layer that reads a stream. What enters a stream is a linear function of an accumulator, whose factor and
offset are computed in float64, each operation as it is written, and rounded once.

Measured on the course's ResNet20 (23 fraction bits), with torch's accumulators of 8 images: these streams lie within
4.4e-6 of torch's, the same sums in float32 steps within 4.8e-6; of 835,584 codes that are made of them, each way gives
one that is not torch's. A compiler may contract the float32 steps, but not these.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
from jaxtyping import Float64, Int32, Int64, Shaped

from factory.quant.host import activation_codes
from factory.spec import (
    BatchNorm,
    FixedStem,
    FixedStreams,
    FixedTerm,
    InputError,
    IntegerLayer,
    Network,
    Range,
    TrainedLayer,
    TrainedNetwork,
    TrainedStem,
    accumulator_ranges,
)

SUM_BITS = 30
MOST_ACCUMULATOR_BITS = 24
FINEST = 2.0**-10
"""The largest unit of a stream, in steps of a layer that reads it."""
PIXEL_MAX = 255

Real = Float64[np.ndarray, "*_"]
Ends = tuple[Shaped[np.ndarray, " oc"], Shaped[np.ndarray, " oc"]]


def fix_streams(trained: TrainedNetwork, layers: Mapping[str, IntegerLayer]) -> FixedStreams | None:
    """Return the streams of a network in integers, or None where it has none.

    Raise InputError, with the layer's name, where 32 bits do not hold them finely enough.
    """
    network = trained.network
    if not network.streams:
        return None
    entering = {spec.name: layers[spec.name] for spec in network.layers if spec.name in network.entering}
    bounds = {name: _layer_bounds(trained.layers[name], layer) for name, layer in entering.items()}
    if trained.stem:
        bounds[trained.stem.spec.name] = _stem_bounds(network, trained.stem)
    fraction = _fraction_bits(network, bounds)
    terms = {name: _fix_term(trained.layers[name], layer, fraction) for name, layer in entering.items()}
    ends = {name: _term_ends(term, layers[name]) for name, term in terms.items()}
    stem = None
    if trained.stem:
        stem = _fix_stem(network, trained.stem, fraction)
        ends[stem.spec.name] = _stem_ends(stem)
    reach = {name: Range(0, max(int(high.max()), 0)) for name, (_, high) in _stream_ends(network, ends).items()}
    readers = [spec for spec in network.layers if spec.source in reach]
    threshold = {spec.name: _threshold(trained.layers[spec.name], fraction, reach[spec.source]) for spec in readers}
    return FixedStreams(fraction, stem, terms, threshold, reach)


def _threshold(layer: TrainedLayer, fraction: int, reach: Range) -> Int32[np.ndarray, " level"]:
    if math.ldexp(1, -fraction) > FINEST * layer.activation_scale:
        raise InputError(
            f"{layer.spec.name}: the step of its codes must be at least {1 / FINEST:.0f} units of the stream "
            f"{layer.spec.source}, of which 32 bits make 2**{-fraction}, not {layer.activation_scale!s}"
        )
    return stream_thresholds(layer.alpha_a, layer.spec.activation_bits, fraction, reach.high)


def linear(name: str, norm: BatchNorm | None, channels: int) -> tuple[Real, Real]:
    """Return `(factor, offset)`, float64 `(oc,)`, of a batch norm: `y * factor + offset`; None: of nothing."""
    if norm is None:
        return np.ones(channels), np.zeros(channels)
    mean, var, gamma, beta = (x.astype(np.float64) for x in (norm.mean, norm.var, norm.gamma, norm.beta))
    spread = var + np.float64(np.float32(norm.eps))
    if not (spread > 0).all():
        oc = int(np.argmin(spread > 0))
        raise InputError(f"{name}: var + eps of oc {oc} must be more than 0, not {spread[oc]}")
    factor = gamma / np.sqrt(spread)
    return factor, beta - mean * factor


def _layer_line(layer: TrainedLayer) -> tuple[Real, Real]:
    """Return `(factor, offset)` of a layer's accumulators: both steps and the batch norm.

    The factor of a channel without weights, whose accumulators are all 0, is 0.
    """
    factor, offset = linear(layer.spec.name, layer.batch_norm, layer.spec.out_channels)
    factor = np.float64(layer.activation_scale) * np.float64(layer.weight_scale) * factor
    return np.where(layer.weight_code.any(axis=(1, 2, 3)), factor, 0.0), offset


def _layer_bounds(layer: TrainedLayer, integer: IntegerLayer) -> Ends:
    """Return the least and the largest real value that a layer adds to a stream, by output channel."""
    factor, offset = _layer_line(layer)
    values = [factor * end + offset for end in _accumulators(integer)]
    return np.minimum(*values), np.maximum(*values)


def _accumulators(layer: IntegerLayer) -> tuple[Int64[np.ndarray, " oc"], Int64[np.ndarray, " oc"]]:
    return accumulator_ranges(layer.spec, layer.weight, layer.activation_low, layer.activation_high)


def _stem_line(network: Network, stem: TrainedStem) -> tuple[Real, Real]:
    """Return `(weight, offset)` of a stem: of pixels 0 to 255 and ones, `(oc, colour and 1, ki, kj)`, and `(oc,)`."""
    factor, offset = linear(stem.spec.name, stem.batch_norm, stem.spec.out_channels)
    mean, std = (np.array(x, np.float32).astype(np.float64) for x in (network.mean, network.std))
    weight = stem.weight.astype(np.float64) * factor[:, None, None, None] / std[:, None, None]
    ones = -sum(weight[:, colour] * mean[colour] for colour in range(mean.size))
    return np.concatenate([weight / PIXEL_MAX, ones[:, None]], axis=1), offset


def _stem_bounds(network: Network, stem: TrainedStem) -> Ends:
    weight, offset = _stem_line(network, stem)
    least, most = _tap_ends(weight)
    return least + offset, most + offset


def _tap_ends(weight: Shaped[np.ndarray, "oc colour_1 ki kj"]) -> tuple[np.ndarray, np.ndarray]:
    """Return the least and the largest sum over the taps, each of which may read the border."""
    pixel, ones = PIXEL_MAX * weight[:, :-1], weight[:, -1]
    least, most = np.minimum(pixel, 0).sum(axis=1) + ones, np.maximum(pixel, 0).sum(axis=1) + ones
    return least.clip(max=0).sum(axis=(1, 2)), most.clip(min=0).sum(axis=(1, 2))


def _stream_ends(network: Network, bounds: Mapping[str, Ends]) -> dict[str, Ends]:
    """Return the least and the largest value of each stream before its ReLU, by channel, real or integer."""
    streams: dict[str, Ends] = {}
    for stream in network.streams:
        ends = [bounds.get(name) or tuple(x.clip(min=0) for x in streams[name]) for name in stream.inputs]
        streams[stream.name] = sum(low for low, _ in ends), sum(high for _, high in ends)
    return streams


def _fraction_bits(network: Network, bounds: dict[str, Ends]) -> int:
    """Return how many fraction bits leave every sum within `SUM_BITS` and a sign."""
    ends = bounds | _stream_ends(network, bounds)
    _, exponent = math.frexp(max(float(np.abs(end).max()) for pair in ends.values() for end in pair))
    return SUM_BITS - max(exponent, 0)


def _digits(name: str, largest: int) -> tuple[int, int]:
    """Return `(shift, digit_bits)` for sums within `largest`: a rounded multiplier shifts none by a unit's quarter."""
    bits = int(largest).bit_length()
    if bits > MOST_ACCUMULATOR_BITS:
        raise InputError(f"{name}: sums that enter a stream must be within 2**{MOST_ACCUMULATOR_BITS}, not {largest}")
    digit = SUM_BITS - bits
    return digit * -(-(bits + 2) // digit), digit


def _fixed(values: Real, bits: int) -> Int64[np.ndarray, "*_"]:
    return np.rint(np.ldexp(values, bits)).astype(np.int64)


def _fix_term(layer: TrainedLayer, integer: IntegerLayer, fraction: int) -> FixedTerm:
    shift, digit = _digits(layer.spec.name, max(-integer.accumulator.low, integer.accumulator.high))
    factor, offset = _layer_line(layer)
    half = 1 << (shift - 1)
    return FixedTerm(_fixed(factor, fraction + shift), _fixed(offset, fraction + shift) + half, shift, digit)


def _term_ends(term: FixedTerm, layer: IntegerLayer) -> Ends:
    values = [(term.multiplier * end + term.offset) >> term.shift for end in _accumulators(layer)]
    return np.minimum(*values), np.maximum(*values)


def _fix_stem(network: Network, stem: TrainedStem, fraction: int) -> FixedStem:
    taps = stem.spec.geometry.kij_count
    shift, digit = _digits(stem.spec.name, taps * (PIXEL_MAX * stem.spec.in_channels + 1))
    weight, offset = (_fixed(values, fraction + shift) for values in _stem_line(network, stem))
    return FixedStem(stem.spec, weight, offset + (1 << (shift - 1)), shift, digit)


def _stem_ends(stem: FixedStem) -> Ends:
    return tuple((sums + stem.offset) >> stem.shift for sums in _tap_ends(stem.weight))


def stream_codes(
    stream: Int64[np.ndarray, " value"], alpha: np.float32, bits: int, fraction: int
) -> Int64[np.ndarray, " value"]:
    """Return the codes of a stream's integers by the float32 formula; `float32(stream) * 2**-fraction` is the value."""
    values = stream.astype(np.float32) * np.float32(math.ldexp(1, -fraction))
    return activation_codes(values, alpha, bits).astype(np.int64)


def stream_thresholds(alpha: np.float32, bits: int, fraction: int, most: int) -> Int32[np.ndarray, " level"]:
    """Return for each level the least integer, 0 to `most`, whose code reaches it; `most + 1` where none does.

    The formula's operations are monotone, so the code rises with the stream.
    """
    levels = np.arange(1, 2**bits)
    first, beyond = np.zeros(levels.size, np.int64), np.full(levels.size, most + 1, np.int64)
    while (first < beyond).any():
        middle = np.minimum((first + beyond) >> 1, most)
        reached = stream_codes(middle, alpha, bits, fraction) >= levels
        beyond = np.where(reached, middle, beyond)
        first = np.where(reached, first, middle + 1)
    return beyond.astype(np.int32)
