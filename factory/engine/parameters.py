"""What the engine keeps on the device, layer by layer, and the arithmetic that is exact for each."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Int8, Int32, Int64, Shaped

from factory.lower import tile_layer
from factory.spec import (
    IMAGE,
    ConvLayer,
    FixedStem,
    FixedStreams,
    FixedTerm,
    IntegerLayer,
    IntegerNetwork,
    Network,
    Range,
    SystolicArray,
    TiledLayer,
)

Arithmetic = Literal["fastest", "float32", "int32"]
"""What sums are computed in: whatever was measured to be fastest, or one type throughout. All give the same bits."""

FLOAT32_EXACT = 2**24
"""Every integer up to this is a float32: sums whose partial sums all stay within it are exact in any order."""


@dataclass(frozen=True)
class EngineLayer:
    """One layer on the device.

    Psums are computed in the type of `row_weight` and given in `psum_type`. Accumulators are int32, the sum of
    `matmul_groups` products with parts of `matmul_weight`'s rows, each exact in its type.
    """

    spec: ConvLayer
    array: SystolicArray
    psum_type: np.dtype
    matmul_groups: int
    row_weight: Shaped[jax.Array, "it ot kij row col"]
    matmul_weight: Shaped[jax.Array, "kij_ic oc"]
    threshold: Int32[jax.Array, "oc level"] | None
    direction: Int8[jax.Array, " oc"] | None

    @functools.cached_property
    def geometry(self) -> ConvLayer:
        """The layer without its own name and what follows it: layers of equal geometry share one compiled function."""
        alike = dict(name="any", source=IMAGE, batch_norm=False, pool=1, source_stride=1)
        return dataclasses.replace(self.spec, **alike)


@dataclass(frozen=True)
class EngineTerm:
    """A `FixedTerm` on the device: digits of its multiplier and its offset, the least first, each of `bits`."""

    multiplier: Int32[jax.Array, "digit oc"]
    offset: Int32[jax.Array, "digit oc"]
    bits: int


@dataclass(frozen=True)
class EngineStem:
    """A `FixedStem` on the device: digits of its weights, in the order of shifted views, and of its offset."""

    geometry: ConvLayer
    weight: Int32[jax.Array, "digit kij_ic oc"]
    offset: Int32[jax.Array, "digit oc"]
    bits: int


@dataclass(frozen=True)
class EngineStreams:
    """A network's streams on the device, as `FixedStreams` has them."""

    fraction_bits: int
    stem: EngineStem | None
    terms: Mapping[str, EngineTerm]
    threshold: Mapping[str, Int32[jax.Array, " level"]]


@dataclass(frozen=True)
class EngineNetwork:
    """A network on the device; `input_table` holds the code of each pixel value, `streams` are a residual network's."""

    network: Network
    input_table: Int8[jax.Array, "colour pixel"] | None
    layers: Mapping[str, EngineLayer]
    streams: EngineStreams | None = None


def prepare(
    integer: IntegerNetwork,
    array: SystolicArray | None = None,
    arithmetic: Arithmetic = "fastest",
    tiled: Mapping[str, TiledLayer] = MappingProxyType({}),
) -> EngineNetwork:
    """Put a network on the device, tiled for `array` (default: 8 x 8); layers that are `tiled` already are taken."""
    array = array or SystolicArray()
    layers = {
        name: prepare_tiled(tiled.get(name) or tile_layer(layer, array), arithmetic)
        for name, layer in integer.layers.items()
    }
    table = None if integer.input_table is None else jnp.asarray(integer.input_table)
    streams = None if integer.streams is None else prepare_streams(integer.streams)
    return EngineNetwork(integer.network, table, layers, streams)


def prepare_layer(layer: IntegerLayer, array: SystolicArray, arithmetic: Arithmetic = "fastest") -> EngineLayer:
    """Put a layer on the device; raise ValueError where `arithmetic` is not exact for its psums."""
    return prepare_tiled(tile_layer(layer, array), arithmetic)


def prepare_tiled(tiled: TiledLayer, arithmetic: Arithmetic = "fastest") -> EngineLayer:
    """Put a layer that is tiled already on the device, as `prepare_layer` does."""
    layer, psums, spec = tiled.layer, tiled.psum, tiled.layer.spec
    tiles = tiled.weight_tile.swapaxes(-1, -2).astype(_sum_type(spec, psums, arithmetic))
    matrix = layer.weight.transpose(2, 3, 1, 0).reshape(-1, spec.out_channels)
    matrix = matrix.astype(np.int32 if arithmetic == "int32" else np.float32)
    optional = [None if x is None else jnp.asarray(x) for x in (layer.threshold, layer.direction)]
    weights = jnp.asarray(tiles), jnp.asarray(matrix)
    return EngineLayer(spec, tiled.array, psums.dtype(), _matmul_groups(layer), *weights, *optional)


def _sum_type(spec: ConvLayer, psums: Range, arithmetic: Arithmetic) -> np.dtype:
    """Return the type that psums are summed in: `psums` bounds every partial sum, so the psums' own type is enough."""
    if arithmetic == "float32" and max(-psums.low, psums.high) > FLOAT32_EXACT:
        raise ValueError(
            f"{spec.name}: psums must be within {FLOAT32_EXACT} for float32, not {psums.low}..{psums.high}"
        )
    return psums.dtype() if arithmetic == "fastest" else np.dtype(arithmetic)


def _matmul_groups(layer: IntegerLayer) -> int:
    """Return into how many parts an accumulator's products are split, so that each part's sum is exact in float32."""
    low, high = layer.activation_low.astype(np.int64), layer.activation_high.astype(np.int64)
    largest = np.maximum(np.maximum(np.abs(low), np.abs(high)), abs(layer.spec.zero_point))
    products = (np.abs(layer.weight.astype(np.int64)) * largest[:, None, None]).transpose(0, 2, 3, 1)
    products = products.reshape(len(products), -1)
    groups = 1
    while max(part.sum(axis=1).max() for part in np.array_split(products, groups, axis=1)) > FLOAT32_EXACT:
        groups += 1
    return groups


def prepare_streams(streams: FixedStreams) -> EngineStreams:
    """Put a network's streams on the device."""
    stem = None if streams.stem is None else _prepare_stem(streams.stem)
    terms = {name: _prepare_term(term) for name, term in streams.terms.items()}
    threshold = {name: jnp.asarray(row) for name, row in streams.threshold.items()}
    return EngineStreams(streams.fraction_bits, stem, terms, threshold)


def _prepare_term(term: FixedTerm) -> EngineTerm:
    multiplier, offset = (digits(values, term.shift, term.digit_bits) for values in (term.multiplier, term.offset))
    return EngineTerm(jnp.asarray(multiplier), jnp.asarray(offset), term.digit_bits)


def _prepare_stem(stem: FixedStem) -> EngineStem:
    spec = stem.spec.geometry
    geometry = dataclasses.replace(spec, in_channels=spec.in_channels + 1)
    matrix = stem.weight.transpose(2, 3, 1, 0).reshape(-1, spec.out_channels)
    weight, offset = (digits(values, stem.shift, stem.digit_bits) for values in (matrix, stem.offset))
    return EngineStem(geometry, jnp.asarray(weight), jnp.asarray(offset), stem.digit_bits)


def digits(values: Int64[np.ndarray, "*shape"], shift: int, bits: int) -> Int32[np.ndarray, digit * shape]:
    """Return `values` as digits of `bits`, the least first, and what is left above `shift` bits as the last."""
    below = [(values >> place) & ((1 << bits) - 1) for place in range(0, shift, bits)]
    return np.stack([*below, values >> shift]).astype(np.int32)
