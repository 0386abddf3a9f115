"""The inverses of tiling, and sums of psums: what tests turn tiles back with."""

from typing import Any

import numpy as np
from jaxtyping import Shaped

from factory.arithmetic.tiling import nij_of_onij, split_channels
from factory.spec import ConvLayer, SystolicArray


def join_channels(array: Any, axis: int, channels: int) -> Any:
    """Invert `split_channels`: join axes `axis` and `axis + 1`, and drop the padding lanes beyond `channels`."""
    axis %= array.ndim
    joined = array.reshape(*array.shape[:axis], -1, *array.shape[axis + 2 :])
    return joined[(slice(None),) * axis + (slice(0, channels),)]


def untile_weight(tiles: Shaped[Any, "it ot kij col row"], spec: ConvLayer) -> Shaped[Any, "oc ic ki kj"]:
    """`(it, ot, kij, col, row)` -> `(oc, ic, ki, kj)`."""
    joined = join_channels(tiles.transpose(1, 3, 0, 4, 2), 0, spec.out_channels)
    return join_channels(joined, 1, spec.in_channels).reshape(spec.weight_shape)


def untile_activation(tiles: Shaped[Any, "*batch it nij row"], spec: ConvLayer) -> Shaped[Any, "*batch ic y x"]:
    """`(..., it, nij, row)` -> `(..., ic, y, x)`."""
    flat = join_channels(tiles.swapaxes(-1, -2), tiles.ndim - 3, spec.in_channels)
    maps = flat.reshape(*flat.shape[:-1], spec.padded_height, spec.padded_width)
    inner = slice(spec.padding[0], spec.padding[0] + spec.height), slice(spec.padding[1], spec.padding[1] + spec.width)
    return maps[(..., *inner)]


def tile_output(output: Shaped[Any, "*batch oc y x"], array: SystolicArray) -> Shaped[Any, "*batch ot onij col"]:
    """`(..., oc, y, x)` -> `(..., ot, onij, col)`."""
    flat = output.reshape(*output.shape[:-2], -1)
    return split_channels(flat, -2, array.cols).swapaxes(-1, -2)


def untile_output(tiles: Shaped[Any, "*batch ot onij col"], spec: ConvLayer) -> Shaped[Any, "*batch oc y x"]:
    """`(..., ot, onij, col)` -> `(..., oc, y, x)`."""
    flat = join_channels(tiles.swapaxes(-1, -2), tiles.ndim - 3, spec.out_channels)
    return flat.reshape(*flat.shape[:-1], spec.out_height, spec.out_width)


def accumulate(psum: Shaped[Any, "*batch it ot kij nij col"], spec: ConvLayer) -> Shaped[Any, "*batch ot onij col"]:
    """Sum psums `(..., it, ot, kij, nij, col)` into int32 accumulators `(..., ot, onij, col)`.

    `accumulator[onij] = sum over it, kij of psum[it, kij, nij(onij, kij)]`.
    """
    pixel = nij_of_onij(spec)
    return sum(
        psum[..., kij, :, :][..., pixel[:, kij], :].sum(axis=-4, dtype=np.int32) for kij in range(spec.kij_count)
    )
