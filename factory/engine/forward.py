"""The integer network on the device: from pixels to every layer's codes and accumulators, to logits, to one digest."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float32, Int8, Int32, Integer, UInt8

from factory.arithmetic.integer import max_pool
from factory.engine.layer import convolve, layer_psums, next_codes
from factory.engine.parameters import EngineLayer, EngineNetwork
from factory.quant.host import dequantize_accumulator
from factory.spec import IMAGE, ConvLayer, Network, TrainedNetwork


@dataclass(frozen=True)
class LayerValues:
    """What a layer takes and what it sums up to, for a batch of images."""

    layer: EngineLayer
    activation: Integer[jax.Array, "image ic y x"]
    accumulator: Int32[jax.Array, "image oc oy ox"]


@jax.jit
def input_codes(
    table: Int8[jax.Array, "colour pixel"], pixels: UInt8[jax.Array, "image colour y x"]
) -> Int8[jax.Array, "image colour y x"]:
    """Return the code of each pixel: `table[colour, pixel]`."""
    colours = jnp.arange(pixels.shape[1])[:, None, None]
    return table[colours, pixels.astype(jnp.int32)]


def needed_layers(network: Network, chosen: Iterable[ConvLayer]) -> tuple[ConvLayer, ...]:
    """Return the chosen layers and those they depend on, in the network's order."""
    needed = {layer.name for layer in chosen}
    for layer in reversed(network.layers):
        if layer.name in needed:
            needed.add(layer.source)
    return tuple(layer for layer in network.layers if layer.name in needed)


def forward(
    engine: EngineNetwork,
    pixels: UInt8[np.ndarray, "image colour y x"] | UInt8[jax.Array, "image colour y x"],
    chosen: Iterable[ConvLayer] | None = None,
) -> Iterator[LayerValues]:
    """Yield the values of the `chosen` layers (default: all) one by one, in the network's order.

    Codes are dropped once no layer needs them any more; no layer that none of the chosen depends on is computed.
    """
    network = engine.network
    wanted = {layer.name for layer in (network.layers if chosen is None else chosen)}
    needed = needed_layers(network, (layer for layer in network.layers if layer.name in wanted))
    codes = {IMAGE: input_codes(engine.input_table, jnp.asarray(pixels))}
    for place, spec in enumerate(needed):
        layer, later = engine.layers[spec.name], {x.source for x in needed[place + 1 :]}
        values = LayerValues(layer, codes[spec.source], convolve(layer, codes[spec.source]))
        if spec.name in later:
            codes[spec.name] = next_codes(layer, values.accumulator)
        codes = {source: kept for source, kept in codes.items() if source in later}
        if spec.name in wanted:
            yield values


def logits(
    trained: TrainedNetwork, accumulator: Int32[np.ndarray, "image oc oy ox"]
) -> Float32[np.ndarray, "image class"]:
    """Return the classifier's output for the last layer's accumulators; the largest is an image's prediction."""
    last = trained.network.last
    features = max_pool(dequantize_accumulator(accumulator, trained.layers[last.name]), last.pool)
    flat = features.reshape(len(accumulator), -1)
    return flat @ trained.classifier_weight.T.astype(np.float32) + trained.classifier_bias[None]


def shard_images(array: np.ndarray) -> jax.Array:
    """Put an array `(image, ...)` on all devices, an equal share of the images on each.

    Where the images do not divide by the devices, the first device takes all.
    """
    devices = jax.devices()
    if len(array) % len(devices):
        return jnp.asarray(array)
    mesh = jax.sharding.Mesh(np.array(devices), ("image",))
    return jax.device_put(array, jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("image")))


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
