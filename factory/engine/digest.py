"""One digest of everything the engine computes: equal digests are equal bits, on whatever machine."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import numpy as np
from jaxtyping import UInt8

from factory.engine.layer import layer_psums
from factory.engine.network import forward, shard_images
from factory.engine.parameters import EngineNetwork


def results_digest(engine: EngineNetwork, batches: Iterable[UInt8[np.ndarray, "_ colour y x"]]) -> str:
    """Return the sha256 (hex) of every layer's codes, psums and accumulators for `batches` of pixels.

    It is the digest of the layers' digests, in the network's order; a layer's is of its arrays, image by image, in C
    order and little-endian. So it depends on the images, not on how they are split into batches or over devices.
    """
    layers = {name: hashlib.sha256() for name in engine.layers}
    for pixels in batches:
        for values in forward(engine, shard_images(pixels)):
            psum = layer_psums(values.layer, values.activation)
            arrays = [np.asarray(array) for array in (values.activation, psum, values.accumulator)]
            for image in zip(*arrays, strict=True):
                for array in image:
                    layers[values.layer.spec.name].update(array.astype(array.dtype.newbyteorder("<"), copy=False).data)
    return hashlib.sha256(b"".join(layer.digest() for layer in layers.values())).hexdigest()
