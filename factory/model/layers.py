"""The modules of a quantized layer: convolution between two quantizers, batch norm, and both with a ReLU."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Float32

from factory.model.ops import convolve
from factory.quant.ste import normalize_weight, quantize_activation, quantize_weight
from factory.spec import BatchNorm, ConvLayer

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
        return convolve(activation.astype(dtype), self.quantized_weight().astype(dtype), self.spec)


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


class QuantLayer(nnx.Module):
    """A quantized convolution, its batch norm where it has one, and a ReLU; the pool is the network's."""

    def __init__(self, conv: QuantConv, norm: QuantBatchNorm | None):
        self.conv = conv
        self.norm = norm

    def __call__(
        self, x: Float32[Array, "image y x ic"], *, train: bool = False, dtype: DTypeLike = jnp.float32
    ) -> Float32[Array, "image oy ox oc"]:
        """Return the map after the ReLU."""
        y = self.conv(x, dtype)
        return jax.nn.relu(y if self.norm is None else self.norm(y, train=train))
