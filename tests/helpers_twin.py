"""The slow twin of the engine: the notebook's plain loops, in NumPy int64, one image at a time."""

import numpy as np

from factory.spec import ConvLayer, IntegerLayer, SystolicArray


def padded_map(codes: np.ndarray, spec: ConvLayer) -> np.ndarray:
    """Return the zero-padded map, int64 `(ic, nij)`."""
    padded = np.zeros((spec.in_channels, spec.padded_height, spec.padded_width), np.int64)
    for y in range(spec.height):
        for x in range(spec.width):
            padded[:, y + spec.padding, x + spec.padding] = codes[:, y, x]
    return padded.reshape(spec.in_channels, -1)


def twin_psums(layer: IntegerLayer, array: SystolicArray, codes: np.ndarray) -> np.ndarray:
    """Return int64 `(it, ot, kij, nij, col)` of codes `(ic, y, x)`."""
    spec, padded = layer.spec, padded_map(codes, layer.spec)
    tiles = array.input_tiles(spec.in_channels), array.output_tiles(spec.out_channels)
    psum = np.zeros((*tiles, spec.kij_count, spec.nij_count, array.cols), np.int64)
    for kij in range(spec.kij_count):
        weight = layer.weight[:, :, kij // spec.kernel, kij % spec.kernel].astype(np.int64)
        for it in range(tiles[0]):
            for ot in range(tiles[1]):
                rows = slice(it * array.rows, (it + 1) * array.rows)
                cols = slice(ot * array.cols, (ot + 1) * array.cols)
                for nij in range(spec.nij_count):
                    found = weight[cols, rows] @ padded[rows, nij]
                    psum[it, ot, kij, nij, : len(found)] = found
    return psum


def twin_accumulators(layer: IntegerLayer, codes: np.ndarray) -> np.ndarray:
    """Return int64 `(oc, oy, ox)` of codes `(ic, y, x)`."""
    spec = layer.spec
    padded = padded_map(codes, spec).reshape(spec.in_channels, spec.padded_height, spec.padded_width)
    out = np.zeros((spec.out_channels, spec.out_height, spec.out_width), np.int64)
    for oy in range(spec.out_height):
        for ox in range(spec.out_width):
            y, x = oy * spec.stride, ox * spec.stride
            window = padded[:, y : y + spec.kernel, x : x + spec.kernel]
            out[:, oy, ox] = (layer.weight.astype(np.int64) * window).sum(axis=(1, 2, 3))
    return out


def twin_next_codes(layer: IntegerLayer, accumulator: np.ndarray) -> np.ndarray:
    """Return int64 `(oc, next_y, next_x)` of accumulators `(oc, oy, ox)`."""
    spec = layer.spec
    out = np.zeros((spec.out_channels, spec.next_height, spec.next_width), np.int64)
    for oc in range(spec.out_channels):
        direction, threshold = int(layer.direction[oc]), layer.threshold[oc].astype(np.int64)
        for y in range(spec.next_height):
            for x in range(spec.next_width):
                rows, cols = slice(y * spec.pool, (y + 1) * spec.pool), slice(x * spec.pool, (x + 1) * spec.pool)
                codes = [(direction * a >= direction * threshold).sum() for a in accumulator[oc, rows, cols].flat]
                out[oc, y, x] = max(codes)
    return out
