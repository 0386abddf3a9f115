"""Tiling geometry: channels into tiles, maps into pixel rows, kernel positions into pixels.

Every function takes NumPy or JAX arrays and returns the kind it was given (index arrays are NumPy). Leading axes, such
as `image`, pass through untouched. A ragged last tile is padded with zero lanes.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any

import numpy as np
from jaxtyping import Int64, Shaped

from factory.spec import ConvLayer, SystolicArray, window_pixels


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
    # the copy of a pad is saved where the channels fill their tiles, as all but the image's do on an 8 x 8 array
    padded = _namespace(array).pad(array, pad) if pad[axis][1] else array
    return padded.reshape(*array.shape[:axis], tiles, size, *array.shape[axis + 1 :])


def tile_weight(weight: Shaped[Any, "oc ic ki kj"], array: SystolicArray) -> Shaped[Any, "it ot kij col row"]:
    """`(oc, ic, ki, kj)` -> `(it, ot, kij, col, row)`."""
    kij = weight.reshape(*weight.shape[:2], -1)
    tiles = split_channels(split_channels(kij, 1, array.rows), 0, array.cols)
    return tiles.transpose(2, 0, 4, 1, 3)  # from (ot, col, it, row, kij)


def pad_map(activation: Shaped[Any, "*batch ic y x"], spec: ConvLayer) -> Shaped[Any, "*batch ic nij"]:
    """`(..., ic, y, x)` -> `(..., ic, nij)`: the map with its border of zero points, its pixels in row-major order."""
    top, left, bottom, right = spec.padding
    padded, shape = activation, (*activation.shape[:-2], spec.nij_count)
    if any(spec.padding) and isinstance(activation, np.ndarray):  # np.pad takes longer than all else of a small map
        padded = np.full(
            (*activation.shape[:-2], spec.padded_height, spec.padded_width), spec.zero_point, activation.dtype
        )
        padded[..., top : top + spec.height, left : left + spec.width] = activation
    elif any(spec.padding):
        pad = [(0, 0)] * (activation.ndim - 2) + [(top, bottom), (left, right)]
        padded = _namespace(activation).pad(activation, pad, constant_values=spec.zero_point)
    return padded.reshape(shape)


def inner_nij(spec: ConvLayer) -> Int64[np.ndarray, " pixel"]:
    """Return the `nij` of each pixel of the map itself, row by row: those that are not of the border."""
    top, left, _, _ = spec.padding
    y, x = np.arange(top, top + spec.height), np.arange(left, left + spec.width)
    return (y[:, None] * spec.padded_width + x).reshape(-1)


def tile_activation(
    activation: Shaped[Any, "*batch ic y x"], spec: ConvLayer, array: SystolicArray
) -> Shaped[Any, "*batch it nij row"]:
    """`(..., ic, y, x)` -> `(..., it, nij, row)`."""
    return split_channels(pad_map(activation, spec), -2, array.rows).swapaxes(-1, -2)


def nij_of_onij(spec: ConvLayer) -> Int64[np.ndarray, "onij kij"]:
    """Return int64 `(onij, kij)`: the padded pixel that output pixel `onij` reads at kernel position `kij`.

    `y * padded_width + x` with `y = oi * stride[0] + ki * dilation[0]` and `x = oj * stride[1] + kj * dilation[1]`.
    """
    y, x = window_pixels(spec)
    # rows of the padded map are padded_width apart: the border is part of the map, so no pixel is ever out of range
    return y * spec.padded_width + x
