"""The slow twin of the engine: the verifier's plain NumPy int64, one image and one tile at a time."""

import numpy as np

from factory.spec import IntegerLayer, SystolicArray
from factory.verify import reference


def twin_psums(layer: IntegerLayer, array: SystolicArray, codes: np.ndarray) -> np.ndarray:
    """Return int64 `(it, ot, kij, nij, col)` of codes `(ic, y, x)`."""
    its, ots = (range(n) for n in (array.input_tiles(codes.shape[0]), array.output_tiles(layer.spec.out_channels)))
    tiles = [reference.activation_tile(codes, layer.spec, array, it) for it in its]
    weights = [[reference.weight_tile(layer.weight, array, it, ot) for ot in ots] for it in its]
    return np.array([[reference.psum_tile(tiles[it], weights[it][ot]) for ot in ots] for it in its])


def twin_accumulators(layer: IntegerLayer, codes: np.ndarray) -> np.ndarray:
    """Return int64 `(oc, oy, ox)` of codes `(ic, y, x)`."""
    return reference.direct_convolution(codes, layer.weight, layer.spec)


def twin_next_codes(layer: IntegerLayer, accumulator: np.ndarray) -> np.ndarray:
    """Return int64 `(oc, next_y, next_x)` of accumulators `(oc, oy, ox)`."""
    codes = reference.count_thresholds(accumulator, layer.threshold, layer.direction)
    return reference.pool_codes(codes, layer.spec.pool)
