"""Trainable quantizers in JAX: the formulas of `factory.quant.host`, with straight-through gradients.

Gradients, `g` being what arrives (those of PACT, Choi et al. 2018, arXiv:1805.06085, and of the notebook's network):
a value inside the clip passes `g` on unchanged, as if it had not been rounded; a clipped value passes nothing on, and
its `g`, with the sign of the side that clipped it, goes to alpha. A value on the bound itself is not clipped.
"""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float32


def normalize_weight(weight: Float32[Array, "*shape"]) -> Float32[Array, "*shape"]:
    """Return `(weight - mean) / std` over the whole tensor, `std` with N-1; both are constants to the gradient."""
    constant = jax.lax.stop_gradient(weight)
    return (weight - constant.mean()) / constant.std(ddof=1)


@partial(jax.custom_vjp, nondiff_argnums=(2,))
def quantize_weight(weight: Float32[Array, "*shape"], alpha: Float32[Array, ""], bits: int) -> Float32[Array, "*shape"]:
    """Return the real values `code * alpha / levels` of weights that are normalized already.

    `x = clip(weight / alpha, -1, 1)`, `code = round(|x| * levels) * sign(x)`, `levels = 2**(bits - 1) - 1`.
    """
    levels = 2.0 ** (bits - 1) - 1
    x = jnp.clip(weight / alpha, -1.0, 1.0)
    return jnp.round(jnp.abs(x) * levels) * jnp.sign(x) * (alpha / levels)


def _quantize_weight_forward(weight, alpha, bits):
    return quantize_weight(weight, alpha, bits), weight / alpha


def _quantize_weight_backward(bits, x, g):
    clipped = jnp.abs(x) > 1
    return jnp.where(clipped, 0.0, g), jnp.where(clipped, g * jnp.sign(x), 0.0).sum()


quantize_weight.defvjp(_quantize_weight_forward, _quantize_weight_backward)


@partial(jax.custom_vjp, nondiff_argnums=(2,))
def quantize_activation(
    activation: Float32[Array, "*shape"], alpha: Float32[Array, ""], bits: int
) -> Float32[Array, "*shape"]:
    """Return the real values `code * alpha / levels` of activations; nothing clips them from below.

    `x = min(activation / alpha, 1)`, `code = round(x * levels)`, `levels = 2**bits - 1`.
    """
    levels = 2.0**bits - 1
    return jnp.round(jnp.minimum(activation / alpha, 1.0) * levels) * (alpha / levels)


def _quantize_activation_forward(activation, alpha, bits):
    return quantize_activation(activation, alpha, bits), activation / alpha > 1


def _quantize_activation_backward(bits, clipped, g):
    return jnp.where(clipped, 0.0, g), jnp.where(clipped, g, 0.0).sum()


quantize_activation.defvjp(_quantize_activation_forward, _quantize_activation_backward)
