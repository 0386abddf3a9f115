"""The quantized network as a module, and what is asked of it: logits, predictions, one layer's output."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Float32, Integer, UInt8

from factory.model.layers import QuantLayer
from factory.model.ops import max_pool
from factory.quant.host import pixel_values
from factory.spec import IMAGE, Network


class QuantNetwork(nnx.Module):
    """The graph of a network's quantized layers, from pixels to logits.

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
        colour = np.arange(pixels.shape[1])[None, :, None, None]
        values = jnp.asarray(pixel_values(self.network))[colour, pixels]
        maps = {IMAGE: values.transpose(0, 2, 3, 1)}
        for spec in self.network.layers:
            y = self.layers[spec.name](maps[spec.source], train=train, dtype=dtype)
            maps[spec.name] = max_pool(y, spec.pool)
        features = maps[self.network.last.name].transpose(0, 3, 1, 2).reshape(pixels.shape[0], -1)
        product = jnp.matmul(features, self.classifier_weight[...].T, precision=jax.lax.Precision.HIGHEST)
        return product + self.classifier_bias[...][None]


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
