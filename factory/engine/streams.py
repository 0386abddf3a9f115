"""Residual streams on the device: sums of 32-bit integers, whose products of more bits are made digit by digit.

A multiplier is `m[0] + (m[1] << d) + ..`, digits of `d` bits but the last. So `(multiplier * acc + offset) >> shift` is
a carry passed from digit to digit: `m[i] * acc + offset[i] + carry` fits in 32 bits for every digit but the last, of
which only the sum must, because XLA's integers wrap. Nothing is rounded, so no device and no compiler gives other bits.
"""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
from jaxtyping import Int32, UInt8

from factory.engine.layer import shifted_views
from factory.engine.parameters import EngineStem, EngineTerm
from factory.spec import ConvLayer

_Term = Int32[jax.Array, "image oc y x"]


def layer_term(term: EngineTerm, accumulator: _Term) -> _Term:
    """Return what a layer's accumulators add to its stream."""
    return _layer_term(accumulator, term.multiplier, term.offset, term.bits)


def stem_term(stem: EngineStem, pixels: UInt8[jax.Array, "image colour iy ix"]) -> _Term:
    """Return what the stem adds to its stream."""
    return _stem_term(pixels, stem.weight, stem.offset, stem.geometry, stem.bits)


@jax.jit
def add_stream(term: _Term, shortcut: _Term | None) -> _Term:
    """Return a stream: `max(0, term + shortcut)`."""
    return jnp.maximum(term if shortcut is None else term + shortcut, 0)


@functools.partial(jax.jit, static_argnums=2)
def stream_codes(
    stream: _Term, threshold: Int32[jax.Array, " level"], stride: int
) -> UInt8[jax.Array, "image oc read_y read_x"]:
    """Return the codes of the pixels that a layer reads: `(stream >= threshold).sum(level)`."""
    read = stream[:, :, ::stride, ::stride]
    reached = [(read >= threshold[level]).astype(jnp.uint8) for level in range(threshold.shape[0])]
    return functools.reduce(jnp.add, reached)


@functools.partial(jax.jit, static_argnums=3)
def _layer_term(accumulator: jax.Array, multiplier: jax.Array, offset: jax.Array, bits: int) -> jax.Array:
    return _carried([lane(digit) * accumulator for digit in multiplier], offset, bits)


@functools.partial(jax.jit, static_argnums=(3, 4))
def _stem_term(pixels: jax.Array, weight: jax.Array, offset: jax.Array, spec: ConvLayer, bits: int) -> jax.Array:
    ones = jnp.ones_like(pixels[:, :1])
    views = shifted_views(jnp.concatenate([pixels, ones], axis=1).astype(jnp.int32), spec)
    sums = [jnp.matmul(views, digit, precision=jax.lax.Precision.HIGHEST) for digit in weight]
    shape = (-1, spec.out_height, spec.out_width, spec.out_channels)
    return _carried([total.reshape(shape).transpose(0, 3, 1, 2) for total in sums], offset, bits)


def lane(values: Int32[jax.Array, " oc"]) -> Int32[jax.Array, "1 oc 1 1"]:
    """Return a value for each channel as a map."""
    return values[None, :, None, None]


def _carried(products: list[jax.Array], offset: jax.Array, bits: int) -> jax.Array:
    """Return the sum of the digits' products and offsets, without its lower bits."""
    total = products[0] + lane(offset[0])
    for product, digit in zip(products[1:], offset[1:], strict=True):
        total = product + lane(digit) + (total >> bits)
    return total
