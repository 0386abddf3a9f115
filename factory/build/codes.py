"""The way from integers that were made elsewhere to a store: their psums and accumulators, computed as any layer's."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import numpy as np

from factory.build import new_store
from factory.lower import tile_layer
from factory.spec import (
    GIVEN,
    CodedLayer,
    CodedNetwork,
    InputError,
    IntegerLayer,
    LayerSet,
    Progress,
    SystolicArray,
    accumulator_range,
)
from factory.store import ImageOrigin, LayerOrigin, PlannedLayer, activation_dtype, create_store, plan_store

_INT32_BITS = 32


def store_codes(
    network: CodedNetwork,
    output: str | Path,
    kind: str,
    array: SystolicArray | None = None,
    compression: str | None = None,
    keep: str = "psums",
    force: bool = False,
    progress: Progress | None = None,
) -> Path:
    """Compute the psums and accumulators of coded layers, and write all to a store; return its path.

    `kind` says where the codes come from: `captured` or `synthetic`. The other parameters are those of `build`. Raise
    InputError where codes are not within their bits, or the store cannot be written.
    """
    path, array = new_store(output, force), array or SystolicArray()
    if not (network.images and network.layers):
        found = f"{len(network.images)} of {len(network.layers)} layers"
        raise InputError(f"{network.name}: it must hold at least one layer and one image, not {found}")
    integers = [integer_layer(layer, len(network.images)) for layer in network.layers]
    planned = [
        PlannedLayer(
            tile_layer(integer, array), layer.origin, _steps(layer), layer.bias, _weight_step(layer), layer.pattern
        )
        for integer, layer in zip(integers, network.layers, strict=True)
    ]
    described = LayerSet(network.name, tuple(integer.spec for integer in integers))
    origin = LayerOrigin(kind, described, _sha256(network, "weight"))
    images = ImageOrigin(
        len(network.images),
        network.name,
        _sha256(network, "activation"),
        each=network.images,
        patterns=network.patterns,
    )
    plan = plan_store(origin, planned, array, images, compression, keep)
    with create_store(path, plan) as writer:
        from factory.build.fill import CodeBatches, fill_store
        from factory.engine import prepare_tiled

        codes = [
            layer.activation.astype(activation_dtype(integer), copy=False)
            for integer, layer in zip(integers, network.layers, strict=True)
        ]
        layers = [(prepare_tiled(layer.tiled), given) for layer, given in zip(planned, codes, strict=True)]
        fill_store(writer, plan, CodeBatches(layers), None, progress)
    return path


def integer_layer(layer: CodedLayer, images: int) -> IntegerLayer:
    """Return a coded layer with its exact bounds, its codes being `images` maps that are given.

    Raise InputError where a shape is not the layer's, or a code is not within its bits.
    """
    spec = layer.spec
    half = 2 ** (spec.weight_bits - 1)
    maps = (images, spec.in_channels, spec.height, spec.width)
    _check_codes(f"{spec.name}: weight", layer.weight, spec.weight_shape, (-half, half - 1), spec.weight_bits)
    _check_codes(f"{spec.name}: activation", layer.activation, maps, spec.code_range, spec.activation_bits)
    alone = replace(spec, source=GIVEN, batch_norm=False, pool=1)
    low, high = (np.full(spec.in_channels, end, np.int16) for end in spec.code_range)
    sums = accumulator_range(spec, layer.weight, low, high)
    if not sums.fits(_INT32_BITS):
        raise InputError(f"{spec.name}: accumulators must fit {_INT32_BITS} bits, not reach {sums.low} to {sums.high}")
    return IntegerLayer(alone, layer.weight, low, high, sums, layer.threshold, layer.direction)


def _check_codes(what: str, codes: np.ndarray, shape: tuple[int, ...], ends: tuple[int, int], bits: int) -> None:
    if codes.shape != shape:
        raise InputError(f"{what} must be {shape}, not {codes.shape}")
    wrong = np.argwhere((codes < ends[0]) | (codes > ends[1]))
    if len(wrong):
        place = tuple(wrong[0].tolist())
        raise InputError(f"{what} must be {ends[0]} to {ends[1]} in {bits} bits, not {codes[place]} at {place}")


def _steps(layer: CodedLayer) -> dict[str, float]:
    return {} if layer.activation_scale is None else {"activation_step": float(layer.activation_scale)}


def _weight_step(layer: CodedLayer) -> np.ndarray | None:
    if layer.weight_scale is None:
        return None
    return np.broadcast_to(layer.weight_scale.astype(np.float32), layer.spec.out_channels)


def _sha256(network: CodedNetwork, codes: str) -> str:
    """Return the sha256 (hex) of what the layers are and of their `codes`, a field of theirs, in one width."""
    sha256 = hashlib.sha256()
    for layer in network.layers:
        values = np.ascontiguousarray(getattr(layer, codes), "<i2")
        sha256.update(json.dumps([layer.spec.to_dict(), values.shape]).encode())
        sha256.update(values.data)
    return sha256.hexdigest()
