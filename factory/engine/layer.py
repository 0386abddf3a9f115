"""One layer on the device: every psum in one call, exact convolution, thresholds and max pool on codes.

Convolutions are matrix products over shifted views, never `lax.conv`: Winograd and FFT kernels are not exact.

Psums are an explicit sum of products over the rows, in the psums' own type, because that fuses into one loop that
writes the store's axes in their order. Measured on two cores (AVX-512, jax 0.10, 20 to 60 MB a layer): `dot_general` in
float32 or from int8 took 20 to 30 times as long (a batch of 8 x 8 products, then a transpose and a conversion), a
reduction over the row axis 1.5 to 3 times, float32 sums 1.6 to 3 times, int32 sums up to twice, but less on 4 x 4 maps.
"""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Int32, Integer, UInt8

from factory.engine.parameters import EngineLayer
from factory.spec import Array, ConvLayer
from factory.tiling import tile_activation

_tile_activation = functools.partial(jax.jit, static_argnames=("conv", "array"))(tile_activation)


def activation_tiles(
    layer: EngineLayer, codes: Integer[jax.Array, "image ic y x"]
) -> Integer[jax.Array, "image it nij row"]:
    """Return the codes that enter the array's rows, of the codes' own dtype."""
    return _tile_activation(codes, conv=layer.geometry, array=layer.array)


def layer_psums(
    layer: EngineLayer, codes: Integer[jax.Array, "image ic y x"]
) -> Integer[jax.Array, "image it ot kij nij col"]:
    """Return every psum of a layer, int16 where their exact bound fits, else int32; the axes are the store's.

    `psum[it, ot, kij, nij, col] = sum over row of activation[it, nij, row] * weight[it, ot, kij, col, row]`.
    """
    types = layer.sum_type, layer.psum_type
    return _psums(codes, layer.weight_tile, layer.geometry, layer.array, *types)


@functools.partial(jax.jit, static_argnums=(2, 3, 4, 5))
def _psums(
    codes: jax.Array, weight_tile: jax.Array, conv: ConvLayer, array: Array, sum_type: np.dtype, psum_type: np.dtype
) -> jax.Array:
    activation = tile_activation(codes, conv, array).astype(sum_type)
    over_kij = jax.vmap(_tile_psum, in_axes=(None, 0))
    over_ot = jax.vmap(over_kij, in_axes=(None, 0))
    over_it = jax.vmap(over_ot, in_axes=(0, 0))
    over_image = jax.vmap(over_it, in_axes=(0, None))
    return over_image(activation, weight_tile.astype(sum_type)).astype(psum_type)


def _tile_psum(
    activation: jax.Array,  # (nij, row)
    weight: jax.Array,  # (col, row)
) -> jax.Array:
    """Return the psums `(nij, col)` of one tile at one `kij`: a sum of products that XLA fuses into one loop."""
    products = [activation[:, row, None] * weight[None, :, row] for row in range(weight.shape[1])]
    return functools.reduce(jnp.add, products)


def convolve(layer: EngineLayer, codes: Integer[jax.Array, "image ic y x"]) -> Int32[jax.Array, "image oc oy ox"]:
    """Return the accumulators: the exact integer convolution of the codes, before ReLU."""
    return _convolve(codes, layer.weight, layer.geometry, layer.matmul_type, layer.matmul_groups)


@functools.partial(jax.jit, static_argnums=(2, 3, 4))
def _convolve(codes: jax.Array, weight: jax.Array, conv: ConvLayer, dtype: np.dtype, groups: int) -> jax.Array:
    views, weight = _shifted_views(codes, conv), weight.reshape(conv.out_channels, -1).T
    parts = [jnp.array_split(x, groups, axis=axis) for x, axis in ((views, -1), (weight, 0))]
    sums = [
        jnp.matmul(view.astype(dtype), part.astype(dtype), precision=jax.lax.Precision.HIGHEST).astype(jnp.int32)
        for view, part in zip(*parts, strict=True)
    ]
    total = functools.reduce(jnp.add, sums)
    return total.reshape(-1, conv.out_height, conv.out_width, conv.out_channels).transpose(0, 3, 1, 2)


def _shifted_views(
    codes: Integer[jax.Array, "image ic y x"], conv: ConvLayer
) -> Integer[jax.Array, "image_onij ic_kij"]:
    """Return, for every output pixel, the codes under the kernel, in the order of the weights' axes."""
    stride = conv.stride
    padded = jnp.pad(codes, [(0, 0), (0, 0), (conv.padding, conv.padding), (conv.padding, conv.padding)])
    last_y, last_x = (conv.out_height - 1) * stride, (conv.out_width - 1) * stride
    shifts = [divmod(kij, conv.kernel) for kij in range(conv.kij_count)]
    views = [padded[:, :, ki : ki + last_y + 1 : stride, kj : kj + last_x + 1 : stride] for ki, kj in shifts]
    return jnp.stack(views, axis=2).transpose(0, 3, 4, 1, 2).reshape(-1, conv.in_channels * conv.kij_count)


def next_codes(
    layer: EngineLayer, accumulator: Int32[jax.Array, "image oc oy ox"]
) -> UInt8[jax.Array, "image oc next_y next_x"]:
    """Return the codes that leave a layer for the next: thresholds, then the max pool.

    `code[oc] == (direction[oc] * acc >= direction[oc] * threshold[oc]).sum(level)`.
    """
    if layer.threshold is None or layer.direction is None:
        raise ValueError(f"{layer.conv.name}: it has no thresholds, because no layer follows it")
    return _requantize(accumulator, layer.threshold, layer.direction, layer.conv.pool)


@functools.partial(jax.jit, static_argnums=3)
def _requantize(accumulator: jax.Array, threshold: jax.Array, direction: jax.Array, pool: int) -> jax.Array:
    over_channel = jax.vmap(_threshold_codes)
    over_image = jax.vmap(over_channel, in_axes=(0, None, None))
    return _max_pool(over_image(accumulator, threshold, direction.astype(jnp.int32)), pool)


def _threshold_codes(
    accumulator: jax.Array,  # (oy, ox)
    threshold: jax.Array,  # (level)
    direction: jax.Array,  # ()
) -> jax.Array:
    """Return how many of a channel's thresholds each accumulator reaches, uint8 `(oy, ox)`."""
    signed, least = direction * accumulator, direction * threshold
    reached = [(signed >= least[level]).astype(jnp.uint8) for level in range(threshold.shape[0])]
    return functools.reduce(jnp.add, reached)


def _max_pool(codes: UInt8[jax.Array, "image oc y x"], window: int) -> UInt8[jax.Array, "image oc next_y next_x"]:
    image, channels, height, width = codes.shape
    height, width = height // window, width // window
    whole = codes[:, :, : height * window, : width * window]
    return whole.reshape(image, channels, height, window, width, window).max(axis=(3, 5))
