"""Convolution and max pool on maps `(image, y, x, channel)`, in the forms that XLA runs and differentiates fast."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from factory.spec import ConvLayer

_PRECISION = jax.lax.Precision.HIGHEST  # float32 stays float32 on devices whose matrix units round it


def convolve(
    activation: Float[Array, "image y x ic"], weight: Float[Array, "oc ic ki kj"], spec: ConvLayer
) -> Float[Array, "image oy ox oc"]:
    """Convolve with the layer's stride and zero padding.

    XLA's convolution, but a matrix product of gathered pixels on a CPU for maps with fewer output pixels than the
    kernel has positions: there XLA's is up to 80 times slower (512 channels, 2x2 maps), elsewhere as fast or faster.
    """
    if jax.default_backend() == "cpu" and spec.onij_count < spec.kij_count:
        return _gather_and_multiply(activation, weight, spec)
    return _xla_convolution(activation, weight, spec)


def _xla_convolution(activation: Array, weight: Array, spec: ConvLayer) -> Array:
    return jax.lax.conv_general_dilated(
        activation,
        weight,
        window_strides=(spec.stride, spec.stride),
        padding=((spec.padding, spec.padding),) * 2,
        dimension_numbers=("NHWC", "OIHW", "NHWC"),
        precision=_PRECISION,
    )


def _gather_and_multiply(activation: Array, weight: Array, spec: ConvLayer) -> Array:
    edge = (spec.padding, spec.padding)
    padded = jnp.pad(activation, ((0, 0), edge, edge, (0, 0)))
    rows, columns = spec.stride * (spec.out_height - 1) + 1, spec.stride * (spec.out_width - 1) + 1
    taps = [
        padded[:, ki : ki + rows : spec.stride, kj : kj + columns : spec.stride]
        for ki in range(spec.kernel)
        for kj in range(spec.kernel)
    ]
    matrix = weight.transpose(2, 3, 1, 0).reshape(-1, spec.out_channels)
    return jnp.matmul(jnp.concatenate(taps, axis=-1), matrix, precision=_PRECISION)


def max_pool(maps: Float[Array, "image y x channel"], window: int) -> Float[Array, "image py px channel"]:
    """Return the largest value of each `window` x `window` square; a ragged edge is dropped."""
    images, height, width, channels = maps.shape
    height, width = height // window, width // window
    squares = maps[:, : height * window, : width * window].reshape(images, height, window, width, window, channels)
    return squares.max(axis=(2, 4))
