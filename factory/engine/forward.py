"""The integer network on the device: from pixels to every layer's codes and accumulators, to logits, to one digest."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Float32, Int8, Int32, Integer, UInt8

from factory.arithmetic.integer import max_pool, mean_pool
from factory.engine.layer import convolve, layer_psums, next_codes
from factory.engine.parameters import EngineLayer, EngineNetwork
from factory.engine.streams import add_stream, layer_term, stem_term, stream_codes
from factory.quant.host import dequantize_accumulator
from factory.spec import IMAGE, ConvLayer, Network, Stem, Stream, TrainedNetwork, step_inputs

Array = np.ndarray | jax.Array


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
    steps = _needed_steps(network, {layer.name for layer in chosen})
    return tuple(step for step in steps if isinstance(step, ConvLayer))


def _needed_steps(network: Network, names: set[str]) -> tuple[Stem | ConvLayer | Stream, ...]:
    needed = set(names)
    for step in reversed(network.steps):
        if step.name in needed:
            needed.update(step_inputs(step))
    return tuple(step for step in network.steps if step.name in needed)


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
    for values in _run(engine, pixels, wanted):
        if isinstance(values, LayerValues) and values.layer.spec.name in wanted:
            yield values


def outputs(
    engine: EngineNetwork, pixels: UInt8[np.ndarray, "image colour y x"] | UInt8[jax.Array, "image colour y x"]
) -> Int32[jax.Array, "image oc oy ox"]:
    """Return what the classifier takes: the last layer's accumulators, or the last stream."""
    *_, last = _run(engine, pixels, {engine.network.output})
    return last.accumulator if isinstance(last, LayerValues) else last


def _run(engine: EngineNetwork, pixels: Array, names: set[str]) -> Iterator[LayerValues | Array]:
    """Yield what each step makes that the named ones need: a layer's values, a stream, or what a stem adds to it."""
    steps = _needed_steps(engine.network, names)
    if engine.input_table is None:
        maps = {IMAGE: jnp.asarray(pixels)}
    else:
        maps = {IMAGE: input_codes(engine.input_table, jnp.asarray(pixels))}
    for place, step in enumerate(steps):
        later = {name for x in steps[place + 1 :] for name in step_inputs(x)}
        values, leaving = _step(engine, step, maps)
        if step.name in later:
            maps[step.name] = leaving()
        maps = {name: kept for name, kept in maps.items() if name in later}
        yield values


def _step(
    engine: EngineNetwork, step: Stem | ConvLayer | Stream, maps: Mapping[str, Array]
) -> tuple[LayerValues | Array, Callable[[], Array]]:
    """Return what a step makes, and a function that computes what others read of it: codes, a term or a stream."""
    if isinstance(step, ConvLayer):
        layer, codes, stride = engine.layers[step.name], maps[step.source], step.source_stride
        if engine.streams and step.name in engine.streams.threshold:
            codes = stream_codes(codes, engine.streams.threshold[step.name], stride)
        elif stride > 1:
            codes = codes[:, :, ::stride, ::stride]
        values = LayerValues(layer, codes, convolve(layer, codes))
        if engine.streams and step.name in engine.streams.terms:
            return values, lambda: layer_term(engine.streams.terms[step.name], values.accumulator)
        return values, lambda: next_codes(layer, values.accumulator)
    if isinstance(step, Stem):
        whole = stem_term(engine.streams.stem, maps[IMAGE])
    else:
        whole = add_stream(maps[step.layer], maps[step.shortcut] if step.shortcut else None)
    return whole, lambda: whole


def logits(
    trained: TrainedNetwork, accumulator: Int32[np.ndarray, "image oc oy ox"]
) -> Float32[np.ndarray, "image class"]:
    """Return the classifier's output for the last layer's accumulators; the largest is an image's prediction."""
    last = trained.network.last
    features = max_pool(dequantize_accumulator(accumulator, trained.layers[last.name]), last.pool)
    return _classify(trained, features)


def stream_logits(
    trained: TrainedNetwork, stream: Int32[np.ndarray, "image oc y x"], fraction_bits: int
) -> Float32[np.ndarray, "image class"]:
    """Return the classifier's output for the last stream, whose means over the pool's squares are exact."""
    return _classify(trained, np.ldexp(stream.astype(np.float64), -fraction_bits))


def _classify(trained: TrainedNetwork, values: Float[np.ndarray, "image oc y x"]) -> Float32[np.ndarray, "image class"]:
    features = mean_pool(values, trained.network.average_pool).astype(np.float32)
    flat = features.reshape(len(values), -1)
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
