"""The slow twin of the engine: the notebook's plain loops, in NumPy int64, one image at a time."""

import numpy as np

from factory.spec import Array, ConvLayer, IntegerLayer


def padded_map(codes: np.ndarray, conv: ConvLayer) -> np.ndarray:
    """Return the zero-padded map, int64 `(ic, nij)`."""
    padded = np.zeros((conv.in_channels, conv.padded_height, conv.padded_width), np.int64)
    for y in range(conv.height):
        for x in range(conv.width):
            padded[:, y + conv.padding, x + conv.padding] = codes[:, y, x]
    return padded.reshape(conv.in_channels, -1)


def twin_psums(layer: IntegerLayer, array: Array, codes: np.ndarray) -> np.ndarray:
    """Return int64 `(it, ot, kij, nij, col)` of codes `(ic, y, x)`."""
    conv, padded = layer.spec, padded_map(codes, layer.spec)
    tiles = array.input_tiles(conv.in_channels), array.output_tiles(conv.out_channels)
    psum = np.zeros((*tiles, conv.kij_count, conv.nij_count, array.cols), np.int64)
    for kij in range(conv.kij_count):
        weight = layer.weight[:, :, kij // conv.kernel, kij % conv.kernel].astype(np.int64)
        for it in range(tiles[0]):
            for ot in range(tiles[1]):
                rows = slice(it * array.rows, (it + 1) * array.rows)
                cols = slice(ot * array.cols, (ot + 1) * array.cols)
                for nij in range(conv.nij_count):
                    found = weight[cols, rows] @ padded[rows, nij]
                    psum[it, ot, kij, nij, : len(found)] = found
    return psum


def twin_accumulators(layer: IntegerLayer, codes: np.ndarray) -> np.ndarray:
    """Return int64 `(oc, oy, ox)` of codes `(ic, y, x)`."""
    conv = layer.spec
    padded = padded_map(codes, conv).reshape(conv.in_channels, conv.padded_height, conv.padded_width)
    out = np.zeros((conv.out_channels, conv.out_height, conv.out_width), np.int64)
    for oy in range(conv.out_height):
        for ox in range(conv.out_width):
            y, x = oy * conv.stride, ox * conv.stride
            window = padded[:, y : y + conv.kernel, x : x + conv.kernel]
            out[:, oy, ox] = (layer.weight.astype(np.int64) * window).sum(axis=(1, 2, 3))
    return out


def twin_next_codes(layer: IntegerLayer, accumulator: np.ndarray) -> np.ndarray:
    """Return int64 `(oc, next_y, next_x)` of accumulators `(oc, oy, ox)`."""
    conv = layer.spec
    out = np.zeros((conv.out_channels, conv.next_height, conv.next_width), np.int64)
    for oc in range(conv.out_channels):
        direction, threshold = int(layer.direction[oc]), layer.threshold[oc].astype(np.int64)
        for y in range(conv.next_height):
            for x in range(conv.next_width):
                rows, cols = slice(y * conv.pool, (y + 1) * conv.pool), slice(x * conv.pool, (x + 1) * conv.pool)
                codes = [(direction * a >= direction * threshold).sum() for a in accumulator[oc, rows, cols].flat]
                out[oc, y, x] = max(codes)
    return out
