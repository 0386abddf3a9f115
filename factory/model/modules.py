"""The quantized network as modules: convolution between quantizers, batch norm, the graph, and what is asked of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Float32, Integer, UInt8

from factory.model.ops import average_pool_float, convolve_float, max_pool_float
from factory.quant.host import pixel_values
from factory.quant.ste import normalize_weight, quantize_activation, quantize_weight
from factory.spec import IMAGE, BatchNorm, ConvLayer, Network, Stem, Stream

MOMENTUM = 0.1  # share of a batch in the running statistics, as in torch


class QuantConv(nnx.Module):
    """A convolution of quantized activations with quantized weights, without bias.

    `weight` is float32 `(oc, ic, ki, kj)`. Where `scale` is None it is normalized over the whole tensor before it is
    quantized, as in the notebook; else it is multiplied by `scale`, so that `code * alpha_w / levels / scale` gives
    `code`.
    """

    def __init__(
        self,
        spec: ConvLayer,
        weight: Float32[Array, "oc ic ki kj"],
        alpha_w: Float32[Array, ""],
        alpha_a: Float32[Array, ""],
        *,
        scale: float | None,
    ):
        self.spec = spec
        self.scale = scale
        self.weight = nnx.Param(weight)
        self.alpha_w = nnx.Param(alpha_w)
        self.alpha_a = nnx.Param(alpha_a)

    def quantized_weight(self) -> Float32[Array, "oc ic ki kj"]:
        """Return the real values of the weight codes."""
        weight = normalize_weight(self.weight[...]) if self.scale is None else self.weight[...] * self.scale
        return quantize_weight(weight, self.alpha_w[...], self.spec.weight_bits)

    def __call__(self, x: Float32[Array, "image y x ic"], dtype: DTypeLike) -> Float32[Array, "image oy ox oc"]:
        """Quantize and convolve; the product is computed in `dtype`."""
        activation = quantize_activation(x, self.alpha_a[...], self.spec.activation_bits)
        return convolve_float(activation.astype(dtype), self.quantized_weight().astype(dtype), self.spec)


class QuantBatchNorm(nnx.Module):
    """Batch norm in the formula's own order, `(y - mean) / sqrt(var + eps) * gamma + beta`.

    The running variance is that of N-1, as torch keeps it.
    """

    def __init__(self, norm: BatchNorm):
        self.gamma = nnx.Param(jnp.asarray(norm.gamma))
        self.beta = nnx.Param(jnp.asarray(norm.beta))
        self.mean = nnx.BatchStat(jnp.asarray(norm.mean))
        self.var = nnx.BatchStat(jnp.asarray(norm.var))
        self.eps = norm.eps

    def __call__(self, y: Float32[Array, "image y x oc"], *, train: bool) -> Float32[Array, "image y x oc"]:
        """Normalize by the running statistics, or, in training, by the batch's own, which are then mixed into them."""
        mean, var = self.mean[...], self.var[...]
        if train:
            count = y.size // y.shape[-1]
            mean, var = y.mean(axis=(0, 1, 2)), y.var(axis=(0, 1, 2))
            self.mean[...] = (1 - MOMENTUM) * self.mean[...] + MOMENTUM * mean
            self.var[...] = (1 - MOMENTUM) * self.var[...] + MOMENTUM * (count / max(count - 1, 1)) * var
        mean, deviation, gamma, beta = (
            lane[None, None, None] for lane in (mean, jnp.sqrt(var + self.eps), self.gamma[...], self.beta[...])
        )
        return (y - mean) / deviation * gamma + beta


class FloatConv(nnx.Module):
    """A convolution of real numbers, without bias: a stem's."""

    def __init__(self, spec: Stem, weight: Float32[Array, "oc ic ki kj"]):
        self.spec = spec
        self.weight = nnx.Param(weight)

    def __call__(self, x: Float32[Array, "image y x ic"], dtype: DTypeLike) -> Float32[Array, "image oy ox oc"]:
        """Convolve; the product is computed in `dtype`."""
        return convolve_float(x.astype(dtype), self.weight[...].astype(dtype), self.spec.geometry)


class QuantLayer(nnx.Module):
    """A convolution, its batch norm where it has one, and a ReLU; the pool is the network's."""

    def __init__(self, conv: QuantConv | FloatConv, norm: QuantBatchNorm | None):
        self.conv = conv
        self.norm = norm

    def normed(
        self, x: Float32[Array, "image y x ic"], *, train: bool = False, dtype: DTypeLike = jnp.float32
    ) -> Float32[Array, "image oy ox oc"]:
        """Return the map before the ReLU, which is what enters a stream."""
        y = self.conv(x, dtype)
        return y if self.norm is None else self.norm(y, train=train)

    def __call__(
        self, x: Float32[Array, "image y x ic"], *, train: bool = False, dtype: DTypeLike = jnp.float32
    ) -> Float32[Array, "image oy ox oc"]:
        """Return the map after the ReLU."""
        return jax.nn.relu(self.normed(x, train=train, dtype=dtype))


class QuantNetwork(nnx.Module):
    """The graph of a network's quantized layers, and of its stem where it has one, from pixels to logits.

    `classifier_weight` is float32 `(classes, features)`, `classifier_bias` float32 `(classes,)`.
    """

    def __init__(
        self,
        network: Network,
        layers: Mapping[str, QuantLayer],
        classifier_weight: Float32[Array, "classes features"],
        classifier_bias: Float32[Array, " classes"],
    ):
        self.network = network
        self.layers = nnx.Dict(layers)
        self.classifier_weight = nnx.Param(classifier_weight)
        self.classifier_bias = nnx.Param(classifier_bias)

    def __call__(
        self, pixels: UInt8[Array, "image colour y x"], *, train: bool = False, dtype: DTypeLike = jnp.float32
    ) -> Float32[Array, "image classes"]:
        """Return the logits; in training the batch norms use, and learn from, the batch's own statistics.

        `dtype` is that of the convolutions' products; all else is float32.
        """
        *_, (_, last) = self.maps(pixels, train=train, dtype=dtype)
        pooled = average_pool_float(last, self.network.average_pool)
        features = pooled.transpose(0, 3, 1, 2).reshape(pixels.shape[0], -1)
        product = jnp.matmul(features, self.classifier_weight[...].T, precision=jax.lax.Precision.HIGHEST)
        return product + self.classifier_bias[...][None]

    def maps(
        self, pixels: UInt8[Array, "image colour y x"], *, train: bool = False, dtype: DTypeLike = jnp.float32
    ) -> Iterator[tuple[str, Float32[Array, "image _y _x _channel"]]]:
        """Yield the name and the map of the normalised image, and of each of the network's steps in their order.

        A layer that enters a stream, and the stem, give what leaves their batch norm, before any ReLU.
        """
        colour = np.arange(pixels.shape[1])[None, :, None, None]
        values = jnp.asarray(pixel_values(self.network))[colour, pixels]
        maps = {IMAGE: values.transpose(0, 2, 3, 1)}
        yield IMAGE, maps[IMAGE]
        for step in self.network.steps:
            if isinstance(step, Stream):
                maps[step.name] = jax.nn.relu(sum((maps[name] for name in step.inputs[1:]), maps[step.layer]))
            elif step.name in self.network.entering:
                maps[step.name] = self.layers[step.name].normed(_read(maps, step), train=train, dtype=dtype)
            else:
                y = self.layers[step.name](_read(maps, step), train=train, dtype=dtype)
                maps[step.name] = max_pool_float(y, step.pool)
            yield step.name, maps[step.name]


def _read(maps: Mapping[str, Array], step: ConvLayer | Stem) -> Array:
    """Return what enters a layer, or the stem, of the maps by name."""
    if isinstance(step, Stem):
        return maps[IMAGE]
    return maps[step.source][:, :: step.source_stride, :: step.source_stride]


@nnx.jit
def _logits(model: QuantNetwork, pixels: Array) -> Array:
    return model(pixels)


def logits(
    model: QuantNetwork, pixels: UInt8[np.ndarray, "image colour y x"], batch: int = 256
) -> Float32[np.ndarray, "image classes"]:
    """Return the logits of any number of images, computed `batch` at a time with the running statistics."""
    size = max(min(batch, len(pixels)), 1)
    parts = [np.zeros((0, model.network.classes), np.float32)]
    for start in range(0, len(pixels), size):
        part = pixels[start : start + size]
        filled = np.pad(part, ((0, size - len(part)), (0, 0), (0, 0), (0, 0)))  # one shape: compiled once
        parts.append(np.asarray(_logits(model, jnp.asarray(filled)))[: len(part)])
    return np.concatenate(parts)


def predict(
    model: QuantNetwork, pixels: UInt8[np.ndarray, "image colour y x"], batch: int = 256
) -> Integer[np.ndarray, " image"]:
    """Return the class of the largest logit of each image, the first where several are equal."""
    return logits(model, pixels, batch).argmax(axis=1)


@nnx.jit
def _real_maps(model: QuantNetwork, pixels: Array) -> dict[str, Array]:
    return {name: values.transpose(0, 3, 1, 2) for name, values in model.maps(pixels)}


def real_maps(
    model: QuantNetwork, pixels: UInt8[np.ndarray, "image colour y x"]
) -> dict[str, Float32[np.ndarray, "image _channel _y _x"]]:
    """Return the maps of `QuantNetwork.maps` by name, for as many images as are computed at once."""
    return {name: np.asarray(values) for name, values in _real_maps(model, jnp.asarray(pixels)).items()}


@partial(nnx.jit, static_argnames="name")
def _layer_forward(model: QuantNetwork, name: str, values: Array) -> Array:
    return model.layers[name](values.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)


def layer_forward(
    model: QuantNetwork, name: str, values: Float32[np.ndarray, "image ic y x"]
) -> Float32[np.ndarray, "image oc oy ox"]:
    """Return what the layer called `name` makes of real inputs: the map after batch norm and ReLU, before the pool.

    Inputs `code * alpha_a / levels` are quantized to `code` again, so this is the float network fed given codes.
    """
    return np.asarray(_layer_forward(model, model.network.layer(name).name, jnp.asarray(values)))
