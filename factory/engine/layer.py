"""One layer on the device: every psum in one call, exact convolution, thresholds and max pool on codes.

Convolutions are matrix products over shifted views, never `lax.conv`: Winograd and FFT kernels are not exact.

Psums are an explicit sum of products over the rows, in the psums' own type, because that fuses into one loop that
writes the store's axes in their order. The codes are converted before they are padded and tiled, all in one compiled
function. On two cores (AVX-512, jax 0.10, one image) the whole network went from 0.59 to 0.62 of the speed of filling
warm memory when that was no longer a function of its own; with the conversion last, the layers of 4 x 4 pixels take 1.7
times as long. `scripts/bench` measures other forms of the same psums, on any device: matrix products of float32,
bfloat16, int8 or int32 take 2.5 to 9 times as long (batches of 8 x 8, then a transpose and a conversion), sums in
float32 or int32 1.4 to 2.6 times. Vectors of 512 bits, or several pixels side by side to fill them, were no faster.

Memory that a process gets for the first time costs as much as the arithmetic. So `layer_psums` takes the memory of
psums that are done with: a whole network went from 0.48 to 0.58 of the speed of filling warm memory.

A convolution's weights lie ready in the type and order of its product: made on the way they took most of the time of
the layers with 512 channels. Views with the channels last are copies of whole runs: 1.2 to 2 times as fast.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Int32, Int64, Integer, Shaped, UInt8

from factory.arithmetic.tiling import pad_map, split_channels, tile_activation
from factory.engine.parameters import EngineLayer
from factory.spec import ConvLayer, SystolicArray

_CACHED_BYTES = 2**21
"""Bytes of psums that are computed at a time where they are copied on: they stay in a core's cache."""
_THREADS = min(4, os.cpu_count() or 1)

_tile_activation = functools.partial(jax.jit, static_argnames=("spec", "array"))(tile_activation)


def activation_tiles(
    layer: EngineLayer, codes: Integer[jax.Array, "image ic y x"]
) -> Integer[jax.Array, "image it nij row"]:
    """Return the codes that enter the array's rows, of the codes' own dtype."""
    return _tile_activation(codes, spec=layer.geometry, array=layer.array)


def layer_psums(
    layer: EngineLayer,
    codes: Integer[jax.Array, "image ic y x"],
    reuse: Integer[jax.Array, "image it ot kij nij col"] | None = None,
) -> Integer[jax.Array, "image it ot kij nij col"]:
    """Return every psum of a layer, int16 where their exact bound fits, else int32; the axes are the store's.

    `psum[it, ot, kij, nij, col] = sum over row of activation[it, nij, row] * weight[it, ot, kij, row, col]`.

    `reuse` are psums of an earlier call, of the same shape and dtype: the result takes their memory, they are deleted.
    """
    return _psums(reuse, codes, layer.row_weight, layer.geometry, layer.array, layer.psum_type)


def selected_psums(
    layer: EngineLayer,
    codes: Callable[[int, int], Integer[np.ndarray, "image ic y x"]],
    tiles: tuple[Int64[np.ndarray, " it"], Int64[np.ndarray, " ot"], Int64[np.ndarray, " kij"]],
    out: Integer[np.ndarray, "image it ot kij nij col"],
) -> None:
    """Write into `out`, of the psums' dtype, the psums of some `it`, `ot` and `kij`.

    `codes(first, stop)` are those of the images of `out` from `first` to `stop`. A few images are computed at a time,
    into memory that stays in the caches, and copied on by the thread that computed them: new memory, which `out` mostly
    is, takes as long to get as the psums take to compute, so that threads do one while others do the other.
    """
    its, ots, kijs = tiles
    weight = layer.row_weight
    if weight.shape[:3] != (len(its), len(ots), len(kijs)):  # by NumPy, which has no dispatch that takes longer
        weight = jnp.asarray(np.asarray(weight)[np.ix_(its, ots, kijs)])
    channels = (its[:, None] * layer.array.rows + np.arange(layer.array.rows)).reshape(-1)
    real = channels < layer.spec.in_channels
    size = max(1, min(len(out), _CACHED_BYTES // max(1, out[:1].nbytes)))
    starts = range(0, len(out), size)

    def compute(starts: range) -> None:
        block, spare = None, None
        for first in starts:
            part = out[first : first + size]
            own = codes(first, first + len(part))
            if block is None:
                block = np.zeros((size, len(channels), *own.shape[2:]), own.dtype)
            block[: len(part), real] = own[:, channels[real]]
            spare = _psums(spare, jnp.asarray(block.copy()), weight, layer.geometry, layer.array, layer.psum_type)
            np.copyto(part, np.asarray(spare)[: len(part)])

    with ThreadPoolExecutor(_THREADS) as pool:
        for done in [pool.submit(compute, starts[place::_THREADS]) for place in range(_THREADS)]:
            done.result()


@functools.partial(jax.jit, static_argnums=(3, 4, 5), donate_argnums=0, keep_unused=True)
def _psums(
    reuse: jax.Array | None, codes: jax.Array, weight: jax.Array, spec: ConvLayer, array: SystolicArray, dtype: np.dtype
) -> jax.Array:
    activation = split_channels(pad_map(codes.astype(weight.dtype), spec), -2, array.rows)  # (image, it, row, nij)
    over_kij = jax.vmap(_tile_psum, in_axes=(None, 0))
    over_ot = jax.vmap(over_kij, in_axes=(None, 0))
    over_it = jax.vmap(over_ot, in_axes=(0, 0))
    over_image = jax.vmap(over_it, in_axes=(0, None))
    return over_image(activation, weight).astype(dtype)


def _tile_psum(
    activation: jax.Array,  # (row, nij)
    weight: jax.Array,  # (row, col)
) -> jax.Array:
    """Return the psums `(nij, col)` of one tile at one `kij`: a sum of products that XLA fuses into one loop."""
    products = [activation[row, :, None] * weight[row, None, :] for row in range(weight.shape[0])]
    return functools.reduce(jnp.add, products)


def convolve(layer: EngineLayer, codes: Integer[jax.Array, "image ic y x"]) -> Int32[jax.Array, "image oc oy ox"]:
    """Return the accumulators: the exact integer convolution of the codes, before ReLU."""
    return _convolve(codes, layer.matmul_weight, layer.geometry, layer.matmul_groups)


@functools.partial(jax.jit, static_argnums=(2, 3))
def _convolve(codes: jax.Array, weight: jax.Array, spec: ConvLayer, groups: int) -> jax.Array:
    views = shifted_views(codes.astype(weight.dtype), spec)
    parts = [jnp.array_split(x, groups, axis=axis) for x, axis in ((views, -1), (weight, 0))]
    sums = [
        jnp.matmul(view, part, precision=jax.lax.Precision.HIGHEST).astype(jnp.int32)
        for view, part in zip(*parts, strict=True)
    ]
    total = functools.reduce(jnp.add, sums)
    return total.reshape(-1, spec.out_height, spec.out_width, spec.out_channels).transpose(0, 3, 1, 2)


def shifted_views(codes: Shaped[jax.Array, "image ic y x"], spec: ConvLayer) -> Shaped[jax.Array, "image_onij kij_ic"]:
    """Return, for every output pixel, the codes under the kernel, in the order of the weights' rows."""
    (top, left, bottom, right), (step_y, step_x) = spec.padding, spec.stride
    border = [(0, 0), (top, bottom), (left, right), (0, 0)]
    padded = jnp.pad(codes.transpose(0, 2, 3, 1), border, constant_values=spec.zero_point)
    last_y, last_x = (spec.out_height - 1) * step_y, (spec.out_width - 1) * step_x
    shifts = np.stack(np.divmod(np.arange(spec.kij_count), spec.kernel[1]), axis=1) * spec.dilation
    views = [padded[:, y : y + last_y + 1 : step_y, x : x + last_x + 1 : step_x] for y, x in shifts.tolist()]
    return jnp.concatenate(views, axis=-1).reshape(-1, spec.kij_count * spec.in_channels)


def next_codes(
    layer: EngineLayer, accumulator: Int32[jax.Array, "image oc oy ox"]
) -> UInt8[jax.Array, "image oc next_y next_x"]:
    """Return the codes that leave a layer for the next: thresholds, then the max pool.

    `code[oc] == (direction[oc] * acc >= direction[oc] * threshold[oc]).sum(level)`.
    """
    if layer.threshold is None or layer.direction is None:
        raise ValueError(f"{layer.spec.name}: it has no thresholds, because no layer follows it")
    return _requantize(accumulator, layer.threshold, layer.direction, layer.spec.pool)


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
