"""Tiling geometry and its inverse: channels into tiles, maps into pixel rows, kernel positions into pixels.

Every function takes NumPy or JAX arrays and returns the kind it was given (index arrays are NumPy). Leading axes, such
as `image`, pass through untouched. A ragged last tile is padded with zero lanes.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any

import numpy as np
from jaxtyping import Int64, Shaped

from factory.spec import ConvLayer, SystolicArray


def _namespace(array: Any) -> ModuleType:
    if isinstance(array, np.ndarray):
        return np
    import jax.numpy as jnp

    return jnp


def split_channels(array: Any, axis: int, size: int) -> Any:
    """Split `axis` into `(tile, lane)` of `size` lanes, padding the last tile with zeros."""
    axis %= array.ndim
    tiles = -(-array.shape[axis] // size)
    pad = [(0, 0)] * array.ndim
    pad[axis] = (0, tiles * size - array.shape[axis])
    padded = _namespace(array).pad(array, pad) if pad[axis][1] else array
    return padded.reshape(*array.shape[:axis], tiles, size, *array.shape[axis + 1 :])


def join_channels(array: Any, axis: int, channels: int) -> Any:
    """Invert `split_channels`: join axes `axis` and `axis + 1`, and drop the padding lanes beyond `channels`."""
    axis %= array.ndim
    joined = array.reshape(*array.shape[:axis], -1, *array.shape[axis + 2 :])
    return joined[(slice(None),) * axis + (slice(0, channels),)]


def tile_weight(weight: Shaped[Any, "oc ic kernel kernel"], array: SystolicArray) -> Shaped[Any, "it ot kij col row"]:
    """`(oc, ic, ki, kj)` -> `(it, ot, kij, col, row)`."""
    oc, ic, kernel, _ = weight.shape
    tiles = split_channels(split_channels(weight.reshape(oc, ic, kernel * kernel), 1, array.rows), 0, array.cols)
    return tiles.transpose(2, 0, 4, 1, 3)  # from (ot, col, it, row, kij)


def untile_weight(tiles: Shaped[Any, "it ot kij col row"], spec: ConvLayer) -> Shaped[Any, "oc ic kernel kernel"]:
    """`(it, ot, kij, col, row)` -> `(oc, ic, ki, kj)`."""
    joined = join_channels(tiles.transpose(1, 3, 0, 4, 2), 0, spec.out_channels)
    return join_channels(joined, 1, spec.in_channels).reshape(spec.weight_shape)


def pad_map(activation: Shaped[Any, "*batch ic y x"], spec: ConvLayer) -> Shaped[Any, "*batch ic nij"]:
    """`(..., ic, y, x)` -> `(..., ic, nij)`: the zero-padded map, its pixels in row-major order."""
    pad = [(0, 0)] * (activation.ndim - 2) + [(spec.padding, spec.padding)] * 2
    padded = _namespace(activation).pad(activation, pad) if spec.padding else activation
    return padded.reshape(*activation.shape[:-2], spec.nij_count)


def tile_activation(
    activation: Shaped[Any, "*batch ic y x"], spec: ConvLayer, array: SystolicArray
) -> Shaped[Any, "*batch it nij row"]:
    """`(..., ic, y, x)` -> `(..., it, nij, row)`."""
    return split_channels(pad_map(activation, spec), -2, array.rows).swapaxes(-1, -2)


def untile_activation(tiles: Shaped[Any, "*batch it nij row"], spec: ConvLayer) -> Shaped[Any, "*batch ic y x"]:
    """`(..., it, nij, row)` -> `(..., ic, y, x)`."""
    flat = join_channels(tiles.swapaxes(-1, -2), tiles.ndim - 3, spec.in_channels)
    maps = flat.reshape(*flat.shape[:-1], spec.padded_height, spec.padded_width)
    inner = slice(spec.padding, spec.padding + spec.height), slice(spec.padding, spec.padding + spec.width)
    return maps[(..., *inner)]


def tile_output(output: Shaped[Any, "*batch oc y x"], array: SystolicArray) -> Shaped[Any, "*batch ot onij col"]:
    """`(..., oc, y, x)` -> `(..., ot, onij, col)`."""
    flat = output.reshape(*output.shape[:-2], -1)
    return split_channels(flat, -2, array.cols).swapaxes(-1, -2)


def untile_output(tiles: Shaped[Any, "*batch ot onij col"], spec: ConvLayer) -> Shaped[Any, "*batch oc y x"]:
    """`(..., ot, onij, col)` -> `(..., oc, y, x)`."""
    flat = join_channels(tiles.swapaxes(-1, -2), tiles.ndim - 3, spec.out_channels)
    return flat.reshape(*flat.shape[:-1], spec.out_height, spec.out_width)


def nij_of_onij(spec: ConvLayer) -> Int64[np.ndarray, "onij kij"]:
    """Return int64 `(onij, kij)`: the padded pixel that output pixel `onij` reads at kernel position `kij`.

    `(oi * stride + ki) * padded_width + oj * stride + kj`.
    """
    ki, kj = np.divmod(np.arange(spec.kij_count), spec.kernel)
    oi, oj = np.divmod(np.arange(spec.onij_count), spec.out_width)
    return (oi[:, None] * spec.stride + ki) * spec.padded_width + oj[:, None] * spec.stride + kj


def accumulate(psum: Shaped[Any, "*batch it ot kij nij col"], spec: ConvLayer) -> Shaped[Any, "*batch ot onij col"]:
    """Sum psums `(..., it, ot, kij, nij, col)` into int32 accumulators `(..., ot, onij, col)`.

    `accumulator[onij] = sum over it, kij of psum[it, kij, nij(onij, kij)]`.
    """
    int32, pixel = _namespace(psum).int32, nij_of_onij(spec)
    return sum(psum[..., kij, :, :][..., pixel[:, kij], :].sum(axis=-4, dtype=int32) for kij in range(spec.kij_count))
