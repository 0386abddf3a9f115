"""Layers of odd shape for edge streams, and SCALE-Sim's own traces of them."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
from helpers_export import MemoryStore

from factory.dataflow import KnownLayer
from factory.spec import ConvLayer, LayerSet, SystolicArray

SHAPES = {
    "odd": dict(in_channels=5, out_channels=7, height=5, width=6, kernel=(3, 2), padding=0),
    "stride": dict(in_channels=3, out_channels=4, height=7, width=5, kernel=(3, 3), stride=(2, 1), padding=0),
    "point": dict(in_channels=9, out_channels=2, height=3, width=4, kernel=(1, 1), padding=0),
    "line": dict(in_channels=1, out_channels=5, height=1, width=9, kernel=(1, 4), padding=0),
    "tall": dict(in_channels=4, out_channels=3, height=9, width=2, kernel=(5, 2), stride=(2, 2), padding=0),
    "matrix": dict(in_channels=11, out_channels=10, height=1, width=6, kernel=(1, 1), padding=0),
}
"""Six layers whose channels and pixels fill no array; SCALE-Sim's maps have no border of their own."""


def layer_store(*specs: ConvLayer, array: SystolicArray, seed: int = 3) -> MemoryStore:
    """Return a store of layers with random codes, two images."""
    rng, layers = np.random.default_rng(seed), {}
    for spec in specs:
        low, high = spec.code_range
        weight = rng.integers(-spec.weight_qmax, spec.weight_qmax + 1, spec.weight_shape).astype(np.int8)
        activation = rng.integers(low, high + 1, (2, spec.in_channels, spec.height, spec.width)).astype(np.uint8)
        layers[spec.name] = KnownLayer(spec, weight, activation)
    return MemoryStore(LayerSet("odd", specs), layers, array, images=SimpleNamespace(source_index=np.arange(2)))


def odd_layer(name: str, **fields) -> ConvLayer:
    return ConvLayer(name, "given", **SHAPES[name] | fields)
