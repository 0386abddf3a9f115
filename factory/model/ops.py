"""Convolution and max pool on maps `(image, y, x, channel)`, in the forms that XLA runs and differentiates fast."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Float32

from factory.spec import ConvLayer

_PRECISION = jax.lax.Precision.HIGHEST  # float32 stays float32 on devices whose matrix units round it
Sides = tuple[int, int]
_PATCH_BYTES = 4 << 20  # of the patches gathered at a time: they stay in the caches until they are multiplied


def convolve_float(
    activation: Float[Array, "image y x ic"], weight: Float[Array, "oc ic ki kj"], spec: ConvLayer
) -> Float32[Array, "image oy ox oc"]:
    """Convolve with the layer's stride and zero padding.

    XLA's convolution, whose sums are rounded to the operands' dtype. But on a CPU a matrix product of gathered patches,
    whose sums are float32, for bfloat16, which XLA would convolve more slowly than float32, and for maps with fewer
    output pixels than the kernel has positions: there XLA's is up to 80 times slower (512 channels, 2x2 maps),
    elsewhere as fast or faster.
    """
    if jax.default_backend() == "cpu" and (activation.dtype == jnp.bfloat16 or spec.onij_count < spec.kij_count):
        return _convolve_patches(activation, weight, spec)
    return _convolve_xla(activation, weight, spec)


def _convolve_xla(activation: Array, weight: Array, spec: ConvLayer) -> Array:
    return jax.lax.conv_general_dilated(
        activation,
        weight,
        window_strides=spec.stride,
        padding=_edges(spec),
        dimension_numbers=("NHWC", "OIHW", "NHWC"),
        precision=_PRECISION,
    ).astype(jnp.float32)


@partial(jax.custom_vjp, nondiff_argnums=(2,))
def _convolve_patches(activation: Array, weight: Array, spec: ConvLayer) -> Array:
    return _correlate(_padded(activation, spec), weight, spec.stride)


def _convolve_forward(activation: Array, weight: Array, spec: ConvLayer) -> tuple[Array, tuple[Array, Array]]:
    return _convolve_patches(activation, weight, spec), (activation, weight)


def _convolve_backward(spec: ConvLayer, saved: tuple[Array, Array], g: Array) -> tuple[Array, Array]:
    """Return the gradients; that of the activation is `g`, spread out by the stride, under the kernel turned round."""
    activation, weight = saved
    g = g.astype(activation.dtype)
    sizes = zip(activation.shape[1:3], g.shape[1:3], spec.kernel, spec.stride, spec.padding[:2], strict=True)
    edges = [
        (kernel - 1 - before, size + before - 1 - stride * (out - 1), stride - 1)
        for size, out, kernel, stride, before in sizes
    ]
    spread = jax.lax.pad(g, jnp.zeros((), g.dtype), [(0, 0, 0), *edges, (0, 0, 0)])
    to_activation = _correlate(spread, weight[:, :, ::-1, ::-1].swapaxes(0, 1), (1, 1))
    to_weight = _correlate_weight(_padded(activation, spec), g, spec)
    return to_activation.astype(activation.dtype), to_weight.astype(weight.dtype)


_convolve_patches.defvjp(_convolve_forward, _convolve_backward)


def _padded(activation: Array, spec: ConvLayer) -> Array:
    return jnp.pad(activation, ((0, 0), *_edges(spec), (0, 0)))


def _edges(spec: ConvLayer) -> tuple[Sides, Sides]:
    top, left, bottom, right = spec.padding
    return (top, bottom), (left, right)


def _patches(padded: Array, kernel: Sides, stride: Sides) -> Float[Array, "image oy ox tap"]:
    rows, columns = (size - reach + 1 for size, reach in zip(padded.shape[1:3], kernel, strict=True))
    taps = [
        padded[:, ki : ki + rows : stride[0], kj : kj + columns : stride[1]]
        for ki in range(kernel[0])
        for kj in range(kernel[1])
    ]
    return jnp.concatenate(taps, axis=-1)


def _correlate(padded: Array, weight: Array, stride: Sides) -> Float32[Array, "image oy ox oc"]:
    kernel, matrix = weight.shape[-2:], weight.transpose(2, 3, 1, 0).reshape(-1, weight.shape[0])

    def part(images: Array) -> Array:
        return _matmul(_patches(images, kernel, stride), matrix)

    maps = jax.lax.map(part, _parts(padded, padded, kernel))
    return maps.reshape(-1, *maps.shape[2:])


def _correlate_weight(padded: Array, g: Array, spec: ConvLayer) -> Float32[Array, "oc ic ki kj"]:
    def add_part(total: Array, part: tuple[Array, Array]) -> tuple[Array, None]:
        images, g = part
        patches = _patches(images, spec.kernel, spec.stride)
        return total + _matmul(g.reshape(-1, g.shape[-1]).T, patches.reshape(-1, patches.shape[-1])), None

    zero = jnp.zeros((spec.out_channels, spec.kij_count * spec.in_channels), jnp.float32)
    total, _ = jax.lax.scan(add_part, zero, tuple(_parts(value, padded, spec.kernel) for value in (padded, g)))
    return total.reshape(spec.out_channels, *spec.kernel, spec.in_channels).transpose(0, 3, 1, 2)


def _parts(values: Array, padded: Array, kernel: Sides) -> Array:
    """Split the images into as few equal parts as keep the patches of one part of `padded` within _PATCH_BYTES."""
    count, patch_bytes = len(padded), padded.itemsize * kernel[0] * kernel[1] * padded[:1].size
    fitting = (n for n in range(count, 0, -1) if count % n == 0 and n * patch_bytes <= _PATCH_BYTES)
    size = next(fitting, 1)
    return values.reshape(-1, size, *values.shape[1:])


def _matmul(left: Array, right: Array) -> Array:
    return jnp.matmul(left, right, precision=_PRECISION, preferred_element_type=jnp.float32)


def max_pool_float(maps: Float[Array, "image y x channel"], window: int) -> Float[Array, "image py px channel"]:
    """Return the largest value of each `window` x `window` square; a ragged edge is dropped."""
    images, height, width, channels = maps.shape
    height, width = height // window, width // window
    squares = maps[:, : height * window, : width * window].reshape(images, height, window, width, window, channels)
    return squares.max(axis=(2, 4))


def average_pool_float(maps: Float[Array, "image y x channel"], window: int) -> Float[Array, "image py px channel"]:
    """Return the mean of each `window` x `window` square; a ragged edge is dropped."""
    images, height, width, channels = maps.shape
    height, width = height // window, width // window
    squares = maps[:, : height * window, : width * window].reshape(images, height, window, width, window, channels)
    return squares.mean(axis=(2, 4))
