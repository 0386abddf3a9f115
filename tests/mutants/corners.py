"""Which corner case catches which wrong array or vector, and exports of them."""

from __future__ import annotations

import functools
from pathlib import Path
from types import SimpleNamespace

import numpy as np
from helpers_bench import export_bench
from helpers_export import MemoryStore

from factory.dataflow import KnownLayer
from factory.spec import LayerSet, SystolicArray
from factory.synthetic import base_layer, corner_network
from mutants.array import STALLED

ARRAY = SystolicArray(3, 4, psum_bits=9)
EVERYTHING = "activation,weight,out,psum,accumulator"
WS = (dict(), dict(dataflow="ws", include="activation,weight,out,psum"))
CASES = {
    "ws": WS,
    "partial": (dict(), dict(dataflow="ws", include=EVERYTHING)),  # a job for each it, because its sums are there
    "by axis": WS,
    "saturate": (dict(), dict(dataflow="ws", include=EVERYTHING, overflow="saturate", post="none")),
    "stride": (dict(signed=True), dict(dataflow="ws", include=EVERYTHING, post="leaky", pe_activation="signed")),
    "os": (
        dict(signed=True),
        dict(dataflow="os", include="activation,weight,out,accumulator", pe_activation="signed"),
    ),
    "simd": (dict(activation_bits=2), dict(profile="simd2-even", include=EVERYTHING)),
}
"""By the case of a mutant: the codes of the corner store, and the export of it."""

CAUGHT = {
    "a weight's sign is lost": "conv.all-min/all-max",
    "a product is subtracted": "conv.all-max/all-max",
    "an activation's top bit is a sign": "conv.identity/ramp",
    "a signed activation is taken as unsigned": "conv.ramp/all-min",
    "only the first SIMD lane counts": "conv.identity/ramp",
    "a carry is dropped": "conv.ramp/ramp",
    "sums saturate where they must wrap": "sum.adder-ends/binary",
    "sums wrap where they must saturate": "sum.adder-return/all-max",
    "the clamp has the wrong sign": "sum.adder-ends/binary",
    "a psum bit is stuck": "conv.zeros/zeros",
    "a weight bit is stuck": "conv.all-min/all-max",
    "the accumulator is not cleared": "conv.all-max/all-max",
    "the accumulator is cleared by each it": "point.first-input/all-max",
    "a job does not continue the one before": "point.first-input/first-channel",
    "a tile's psums are not cleared": "conv.ramp/ramp",
    "kij is off by one": "taps.kij-5/row-1",
    "ki and kj are swapped": "taps.kij-5/row-1",
    "the stride is ignored along x": "strided.ramp/ramp",
    "the stride is ignored along y": "strided.ramp/ramp",
    "the stride along x is that along y": "axes.ramp/ramp",
    "the stride along y is that along x": "axes.ramp/ramp",
    "the dilation is ignored along x": "axes.ramp/ramp",
    "the dilation is ignored along y": "axes.ramp/ramp",
    "the kernel is as wide as it is high": "axes.ramp/ramp",
    "the kernel is as high as it is wide": "axes.ramp/ramp",
    "lanes are reversed": "conv.identity/ramp",
    "output rows are off by one": "conv.ramp/ramp",
    "a row is not skewed": "conv.identity/ramp",
    "a col is not skewed": "conv.ramp/ramp",
    "ReLU is missing": "conv.all-min/all-max",
    "leaky shifts zeros in": "conv.all-min/all-max",
    "the accumulation is one it short": "point.last-input/last-channel",
    "the last pixel is not accumulated": "conv.all-max/all-max",
    "weights are loaded a clock late": "conv.alternating/alternating",
    "the mesh moves while a psum waits": "conv.ramp/ramp",
    "an activation is taken while the mesh waits": "conv.ramp/ramp",
    "an activation does not wait for its weight": "conv.ramp/ramp",
    "an output does not wait to be taken": "conv.ramp/ramp",
}
"""By what is wrong with an array: the vector that catches it, in the export of the mutant's case."""

SHOWN = CAUGHT | {"the accumulation is one it short": "conv.ramp/ramp"}
"""The vector by which it is diagnosed: one that hangs gives no more words, and those of one pixel are too few."""

HANGING = STALLED | {
    "the kernel is as wide as it is high",
    "the kernel is as high as it is wide",
    "the accumulation is one it short",
}
"""Mutants that hang, and so give no words of later images."""


def images_shown(what: str, layer: str, image: str) -> tuple[str, ...]:
    """Return the images by which a mutant is diagnosed; none: all, because a layer of one pixel has so few words."""
    if what in HANGING:
        return (image,)
    return tuple({image, "ramp", "all-max"}) if layer.split(".")[0] in ("conv", "strided", "axes") else ()


RAMP = "conv.ramp/ramp"
"""The vector that catches all wrong vectors: no two of its words are exchanged without a difference."""


@functools.cache
def corner_store(array: SystolicArray = ARRAY, **codes) -> MemoryStore:
    network = corner_network(array, base_layer(array, **codes))
    layers = {
        layer.spec.name: KnownLayer(layer.spec, layer.weight, layer.activation, layer.threshold, layer.direction)
        for layer in network.layers
    }
    described = LayerSet(network.name, tuple(layer.spec for layer in network.layers))
    images = SimpleNamespace(source_index=np.arange(len(network.images)), origin=network.images)
    return MemoryStore(described, layers, array, images=images)


def write_vectors(folder: Path, case: str, layer: str, images: tuple[str, ...], **options) -> Path:
    """Export a layer's vectors of some images, none: of all, with a testbench that soon gives up waiting."""
    codes, own = CASES[case]
    store = corner_store(**codes)
    places = ",".join(str(place) for place in sorted(map(store.images.origin.index, images)))
    export_bench(store, folder, layers=layer, images=places or "all", **own, **options)
    testbench = folder / "testbench/factory_tb.sv"
    testbench.write_text(testbench.read_text().replace("PATIENCE = 100000", "PATIENCE = 1000"))
    return folder
