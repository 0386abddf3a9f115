"""What the engine keeps on the device, layer by layer, and the arithmetic that is exact for each."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Int8, Int32

from factory.spec import (
    IMAGE,
    Array,
    ConvLayer,
    IntegerLayer,
    IntegerNetwork,
    Network,
    Range,
    product_extremes,
    psum_range,
)
from factory.tiling import tile_weight

Arithmetic = Literal["fastest", "float32", "int32"]
"""What sums are computed in: whatever was measured to be fastest, or one type throughout. All give the same bits."""

FLOAT32_EXACT = 2**24
"""Every integer up to this is a float32: sums whose partial sums all stay within it are exact in any order."""


@dataclass(frozen=True)
class EngineLayer:
    """One layer on the device.

    Psums are computed in `sum_type` and given in `psum_type`. Accumulators are int32, the sum of `matmul_groups` matrix
    products in `matmul_type`, each over a part of the input channels and kernel positions.
    """

    conv: ConvLayer
    array: Array
    psum_type: np.dtype
    sum_type: np.dtype
    matmul_type: np.dtype
    matmul_groups: int
    weight: Int8[jax.Array, "oc ic ki kj"]
    weight_tile: Int8[jax.Array, "it ot kij col row"]
    threshold: Int32[jax.Array, "oc level"] | None
    direction: Int8[jax.Array, " oc"] | None

    @property
    def geometry(self) -> ConvLayer:
        """The layer without its name and what follows it: layers of equal geometry share one compiled function."""
        return dataclasses.replace(self.conv, name="", source=IMAGE, signed=False, batch_norm=False, pool=1)


@dataclass(frozen=True)
class EngineNetwork:
    """A network on the device; `input_table` holds the code of each pixel value."""

    network: Network
    input_table: Int8[jax.Array, "colour pixel"]
    layers: Mapping[str, EngineLayer]


def prepare(integer: IntegerNetwork, array: Array | None = None, arithmetic: Arithmetic = "fastest") -> EngineNetwork:
    """Put a network on the device, tiled for `array` (default: 8 x 8)."""
    layers = {name: prepare_layer(layer, array or Array(), arithmetic) for name, layer in integer.layers.items()}
    return EngineNetwork(integer.network, jnp.asarray(integer.input_table), layers)


def prepare_layer(layer: IntegerLayer, array: Array, arithmetic: Arithmetic = "fastest") -> EngineLayer:
    """Put a layer on the device; raise ValueError where `arithmetic` is not exact for its psums."""
    conv, low, high = layer.spec, layer.activation_low, layer.activation_high
    psums = psum_range(conv, array, layer.weight, low, high)
    groups = _matmul_groups(layer)
    matmul_type = np.dtype(np.int32 if arithmetic == "int32" else np.float32)
    optional = [None if x is None else jnp.asarray(x) for x in (layer.threshold, layer.direction)]
    tiles = tile_weight(layer.weight, array)
    return EngineLayer(
        conv, array, psums.dtype(), _sum_type(conv, psums, arithmetic), matmul_type, groups,
        jnp.asarray(layer.weight), jnp.asarray(tiles), *optional,
    )  # fmt: skip


def _sum_type(conv: ConvLayer, psums: Range, arithmetic: Arithmetic) -> np.dtype:
    """Return the type that psums are summed in: `psums` bounds every partial sum, so the psums' own type is enough."""
    if arithmetic == "float32" and max(-psums.low, psums.high) > FLOAT32_EXACT:
        raise ValueError(
            f"{conv.name}: psums must be within {FLOAT32_EXACT} for float32, not {psums.low}..{psums.high}"
        )
    return psums.dtype() if arithmetic == "fastest" else np.dtype(arithmetic)


def _matmul_groups(layer: IntegerLayer) -> int:
    """Return into how many parts an accumulator's products are split, so that each part's sum is exact in float32."""
    least, most = product_extremes(layer.weight, layer.activation_low, layer.activation_high)
    products = np.maximum(np.abs(least), np.abs(most)).reshape(len(layer.weight), -1)
    groups = 1
    while max(part.sum(axis=1).max() for part in np.array_split(products, groups, axis=1)) > FLOAT32_EXACT:
        groups += 1
    return groups
