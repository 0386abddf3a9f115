"""Sums of coded layers by plain NumPy, in the order in which an array makes them."""

from __future__ import annotations

import numpy as np

from factory.spec import CodedLayer, SystolicArray


def _padded(layer: CodedLayer) -> np.ndarray:
    top, left, bottom, right = layer.spec.padding
    room = ((0, 0), (0, 0), (top, bottom), (left, right))
    return np.pad(layer.activation.astype(np.int64), room, constant_values=layer.spec.zero_point)


def accumulators(layer: CodedLayer) -> np.ndarray:
    """Return `(image, oc, oy, ox)`."""
    spec, codes = layer.spec, _padded(layer)
    total = np.zeros((len(codes), spec.out_channels, spec.out_height, spec.out_width), np.int64)
    for ki, kj in np.ndindex(spec.kernel):
        y, x = ki * spec.dilation[0], kj * spec.dilation[1]
        last_y = y + (spec.out_height - 1) * spec.stride[0] + 1
        last_x = x + (spec.out_width - 1) * spec.stride[1] + 1
        view = codes[:, :, y : last_y : spec.stride[0], x : last_x : spec.stride[1]]
        total += np.einsum("oi,niyx->noyx", layer.weight[:, :, ki, kj].astype(np.int64), view)
    return total


def psums(layer: CodedLayer, array: SystolicArray) -> np.ndarray:
    """Return `(it, image, oc, kij, y, x)`, of every padded pixel."""
    codes, weight = _padded(layer), layer.weight.astype(np.int64)
    tiles = [slice(first, first + array.rows) for first in range(0, layer.spec.in_channels, array.rows)]
    return np.stack([np.einsum("oiab,niyx->noabyx", weight[:, tile], codes[:, tile]) for tile in tiles])


def running_sums(layer: CodedLayer, array: SystolicArray) -> np.ndarray:
    """Return `(image, oc, step)` of a layer of one pixel: sums within each tile, then the accumulator after each tile.

    Where there is one tile, the steps are its rows; else they are the tiles.
    """
    weight, codes = layer.weight[..., 0, 0].astype(np.int64), layer.activation[..., 0, 0].astype(np.int64)
    products = weight[None] * codes[:, None]
    running = products.cumsum(axis=-1)
    if layer.spec.in_channels <= array.rows:
        return running
    ends = [*range(array.rows - 1, layer.spec.in_channels, array.rows), layer.spec.in_channels - 1]
    return running[..., ends]
