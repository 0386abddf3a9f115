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
from jaxtyping import Int32, Integer, UInt8

from factory.engine.parameters import EngineLayer
from factory.tiling import tile_activation


@jax.jit
def activation_tiles(
    layer: EngineLayer, codes: Integer[jax.Array, "image ic y x"]
) -> Integer[jax.Array, "image it nij row"]:
    """Return the codes that enter the array's rows, of the codes' own dtype."""
    return tile_activation(codes, layer.conv, layer.array)


@jax.jit
def layer_psums(
    layer: EngineLayer, codes: Integer[jax.Array, "image ic y x"]
) -> Integer[jax.Array, "image it ot kij nij col"]:
    """Return every psum of a layer, int16 where their exact bound fits, else int32; the axes are the store's.

    `psum[it, ot, kij, nij, col] = sum over row of activation[it, nij, row] * weight[it, ot, kij, col, row]`.
    """
    activation = tile_activation(codes, layer.conv, layer.array).astype(layer.sum_type)
    over_kij = jax.vmap(_tile_psum, in_axes=(None, 0))
    over_ot = jax.vmap(over_kij, in_axes=(None, 0))
    over_it = jax.vmap(over_ot, in_axes=(0, 0))
    over_image = jax.vmap(over_it, in_axes=(0, None))
    return over_image(activation, layer.weight_tile.astype(layer.sum_type)).astype(layer.psum_type)


def _tile_psum(
    activation: jax.Array,  # (nij, row)
    weight: jax.Array,  # (col, row)
) -> jax.Array:
    """Return the psums `(nij, col)` of one tile at one `kij`: a sum of products that XLA fuses into one loop."""
    products = [activation[:, row, None] * weight[None, :, row] for row in range(weight.shape[1])]
    return functools.reduce(jnp.add, products)


@jax.jit
def convolve(layer: EngineLayer, codes: Integer[jax.Array, "image ic y x"]) -> Int32[jax.Array, "image oc oy ox"]:
    """Return the accumulators: the exact integer convolution of the codes, before ReLU."""
    conv, dtype = layer.conv, layer.matmul_type
    views = _shifted_views(layer, codes)
    weight = layer.weight.reshape(conv.out_channels, -1).T
    parts = [jnp.array_split(x, layer.matmul_groups, axis=axis) for x, axis in ((views, -1), (weight, 0))]
    sums = [
        jnp.matmul(view.astype(dtype), part.astype(dtype), precision=jax.lax.Precision.HIGHEST).astype(jnp.int32)
        for view, part in zip(*parts, strict=True)
    ]
    total = functools.reduce(jnp.add, sums)
    return total.reshape(-1, conv.out_height, conv.out_width, conv.out_channels).transpose(0, 3, 1, 2)


def _shifted_views(
    layer: EngineLayer, codes: Integer[jax.Array, "image ic y x"]
) -> Integer[jax.Array, "image_onij ic_kij"]:
    """Return, for every output pixel, the codes under the kernel, in the order of the weights' axes."""
    conv, stride = layer.conv, layer.conv.stride
    padded = jnp.pad(codes, [(0, 0), (0, 0), (conv.padding, conv.padding), (conv.padding, conv.padding)])
    last_y, last_x = (conv.out_height - 1) * stride, (conv.out_width - 1) * stride
    shifts = [divmod(kij, conv.kernel) for kij in range(conv.kij_count)]
    views = [padded[:, :, ki : ki + last_y + 1 : stride, kj : kj + last_x + 1 : stride] for ki, kj in shifts]
    return jnp.stack(views, axis=2).transpose(0, 3, 4, 1, 2).reshape(-1, conv.in_channels * conv.kij_count)


@jax.jit
def next_codes(
    layer: EngineLayer, accumulator: Int32[jax.Array, "image oc oy ox"]
) -> UInt8[jax.Array, "image oc next_y next_x"]:
    """Return the codes that leave a layer for the next: thresholds, then the max pool.

    `code[oc] == (direction[oc] * acc >= direction[oc] * threshold[oc]).sum(level)`.
    """
    if layer.threshold is None or layer.direction is None:
        raise ValueError(f"{layer.conv.name}: it has no thresholds, because no layer follows it")
    over_channel = jax.vmap(_threshold_codes)
    over_image = jax.vmap(over_channel, in_axes=(0, None, None))
    codes = over_image(accumulator, layer.threshold, layer.direction.astype(jnp.int32))
    return _max_pool(codes, layer.conv.pool)


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
