"""The order of output pixels, and what follows the outputs: ReLU, leaky ReLU, max pool."""

from __future__ import annotations

import numpy as np
from jaxtyping import Int64, Integer

from factory.spec import ConvLayer, InputError

POOL_WINDOW = 2
_LEAKY_SHIFT = 6


def pixel_order(spec: ConvLayer, block: tuple[int, int]) -> Int64[np.ndarray, " onij"]:
    """Return the `onij` at each position: blocks of `(height, width)` in row-major order, row-major inside a block."""
    y, x = np.divmod(np.arange(spec.onij_count), spec.out_width)
    return np.lexsort((x, y, x // block[1], y // block[0]))


def tile_positions(tiles: tuple[int, ...], size: int, count: int) -> Int64[np.ndarray, " position"]:
    """Return the positions, of `count`, that tiles of `size` hold, without the padding of the last one."""
    positions = (np.asarray(tiles, np.int64)[:, None] * size + np.arange(size)).reshape(-1)
    return positions[positions < count]


def activate(sums: Integer[np.ndarray, "*shape"], post: str) -> Integer[np.ndarray, "*shape"]:
    """Return the sums after the part of a post-op that works on each alone.

    `leaky` is `x < 0 ? x >>> 6 : x`, the shift being arithmetic.
    """
    if post == "none":
        return sums
    if post == "leaky":
        return np.where(sums < 0, sums >> _LEAKY_SHIFT, sums)
    return np.maximum(sums, 0)


def pools(post: str) -> bool:
    """Return whether a post-op ends in the max pool."""
    return post.endswith(f"maxpool{POOL_WINDOW}")


def pool_windows(
    pixels: Int64[np.ndarray, " onij"], spec: ConvLayer, rows: int
) -> Int64[np.ndarray, "window position"]:
    """Return the positions of each 2x2 window of the output map, in the order of the windows' first pixels.

    `pixels` is the `onij` at each position; `rows` positions make a tile, and each window must lie in one tile whose
    other pixels make windows too, or InputError is raised. A ragged edge of the map is dropped, as torch does.
    """
    height, width = spec.out_height // POOL_WINDOW, spec.out_width // POOL_WINDOW
    y, x = np.divmod(pixels, spec.out_width)
    y, x = y // POOL_WINDOW, x // POOL_WINDOW
    kept = np.flatnonzero((y < height) & (x < width))
    window, size = (y * width + x)[kept], POOL_WINDOW**2
    _, first, count = np.unique(window, return_index=True, return_counts=True)
    if len(first) and (count == size).all():
        positions = kept[np.argsort(window, kind="stable")].reshape(-1, size)[np.argsort(first)]
        tile = np.arange(len(positions)) // max(rows // size, 1)
        if (positions // rows == tile[:, None]).all() and tile[-1] == (len(pixels) - 1) // rows:
            return positions
    size = f"{POOL_WINDOW}x{POOL_WINDOW}"
    raise InputError(
        f"{spec.name}: relu+maxpool2 must find each {size} window of the {spec.out_height}x{spec.out_width} map in one "
        f"tile of {rows} pixels, without others; the profile's pixel_block sets their order"
    )
