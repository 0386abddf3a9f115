"""Lowering: a trained network to an integer network whose tables and thresholds equal the float32 formula, in tiles."""

from __future__ import annotations

import numpy as np
from jaxtyping import Int8, Int16, Int32, Integer

from factory.arithmetic.tiling import tile_weight
from factory.lower.fixed import fix_streams
from factory.quant.host import input_table, requantized_codes
from factory.spec import (
    IMAGE,
    ConvLayer,
    InputError,
    IntegerLayer,
    IntegerNetwork,
    Range,
    SystolicArray,
    TiledLayer,
    TrainedLayer,
    TrainedNetwork,
    accumulator_ranges,
    psum_range,
)

_INT32 = np.iinfo(np.int32)


def lower(trained: TrainedNetwork) -> IntegerNetwork:
    """Return the integer network that a trained network stands for.

    Raise InputError, with the layer's name, where the formula gives no number over the reachable accumulators, where
    codes, accumulators or streams do not fit their integers, and where the layers that share the codes of a layer or of
    the image quantize them differently.
    """
    table = _input_table(trained)
    layers = {spec.name: _lower_layer(trained, spec, table) for spec in trained.network.layers}
    return IntegerNetwork(trained.network, table, layers, fix_streams(trained, layers))


def _input_table(trained: TrainedNetwork) -> Int8[np.ndarray, "colour pixel"] | None:
    if (quantizer := _quantizer(trained, IMAGE)) is None:
        return None
    try:
        return input_table(trained.network, quantizer[0])
    except InputError as error:
        raise InputError(f"network {trained.network.name}: {error}") from None


def tile_layer(layer: IntegerLayer, array: SystolicArray) -> TiledLayer:
    """Return a layer with its weights in the tiles of an array."""
    psum = psum_range(array, layer.weight, layer.activation_low, layer.activation_high, layer.spec.zero_point)
    return TiledLayer(layer, array, tile_weight(layer.weight, array), psum)


def _lower_layer(
    trained: TrainedNetwork, spec: ConvLayer, table: Int8[np.ndarray, "colour pixel"] | None
) -> IntegerLayer:
    layer = trained.layers[spec.name]
    low, high = _activation_range(spec, table)
    least, most = accumulator_ranges(spec, layer.weight_code, low, high)
    threshold = direction = None
    if quantizer := _quantizer(trained, spec.name):
        try:
            threshold, direction = find_thresholds(layer, *quantizer, least, most)
        except InputError as error:
            raise InputError(f"{spec.name}: {error}") from None
    reachable = Range(int(least.min()), int(most.max()))
    return IntegerLayer(spec, layer.weight_code, low, high, reachable, threshold, direction)


def _activation_range(
    spec: ConvLayer, table: Int8[np.ndarray, "colour pixel"] | None
) -> tuple[Int16[np.ndarray, " ic"], Int16[np.ndarray, " ic"]]:
    """Return the least and the largest code that enters each input channel."""
    if spec.source != IMAGE:
        return np.zeros(spec.in_channels, np.int16), np.full(spec.in_channels, spec.activation_qmax, np.int16)
    if not spec.signed and table.min() < 0:
        raise InputError(f"{spec.name}: an unsigned layer's input codes must be 0 or more, not {table.min()}")
    return table.min(axis=1).astype(np.int16), table.max(axis=1).astype(np.int16)


def _quantizer(trained: TrainedNetwork, source: str) -> tuple[np.float32, int] | None:
    """Return the `(alpha, bits)` that make codes of what leaves `source`, or None where no layer takes it."""
    takers = trained.network.consumers(source)
    found = [(trained.layers[spec.name].alpha_a, spec.activation_bits) for spec in takers]
    if len(set(found)) > 1:
        each = ", ".join(f"{s.name} {alpha!s} in {bits} bits" for s, (alpha, bits) in zip(takers, found, strict=True))
        raise InputError(f"{source}: the layers that take its output must quantize it alike for now, not {each}")
    return found[0] if found else None


def find_thresholds(
    layer: TrainedLayer,
    next_alpha: np.float32,
    next_bits: int,
    least: Integer[np.ndarray, " oc"],
    most: Integer[np.ndarray, " oc"],
) -> tuple[Int32[np.ndarray, "oc level"], Int8[np.ndarray, " oc"]]:
    """Return `(threshold, direction)` of a layer by bisecting the float32 formula over `least .. most`.

    Each float32 operation is monotone, so the code rises with `u = direction * acc`, where `direction` is the sign of
    the scale. Level `l` becomes the least reachable `u` with `code(u) >= l + 1`. A threshold that no reachable
    accumulator meets lies one beyond the range, one that all of them meet at the range's first value.
    """
    outside = np.flatnonzero((least <= _INT32.min + 1) | (most >= _INT32.max))
    if outside.size:
        oc = int(outside[0])
        raise InputError(f"accumulators of oc {oc} must fit in 32 bits, not reach {least[oc]} to {most[oc]}")
    falling = np.zeros(least.shape, bool) if layer.batch_norm is None else layer.batch_norm.gamma < 0
    direction = np.where(falling, -1, 1)
    levels = np.arange(1, 2**next_bits)
    last = np.where(falling, -least, most)[:, None]
    first = np.where(falling, -most, least)[:, None].repeat(levels.size, axis=1)
    beyond = last.repeat(levels.size, axis=1) + 1
    requantized_codes(np.stack([least, most], axis=1)[..., None], layer, next_alpha, next_bits)  # NaN begins at an end
    while (first < beyond).any():
        middle = np.minimum((first + beyond) >> 1, last)
        codes = requantized_codes((direction[:, None] * middle)[..., None], layer, next_alpha, next_bits)[..., 0]
        beyond = np.where(codes >= levels, middle, beyond)
        first = np.where(codes >= levels, first, middle + 1)
    return (direction[:, None] * beyond).astype(np.int32), direction.astype(np.int8)
