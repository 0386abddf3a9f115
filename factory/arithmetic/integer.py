"""What follows an accumulator, in integers: thresholds that make the next codes, and the max pool on codes."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int8, Int32, Integer, Real, UInt8

from factory.arithmetic.adders import exact_product
from factory.arithmetic.tiling import nij_of_onij, pad_map
from factory.spec import ConvLayer


def exact_accumulators(
    codes: Integer[np.ndarray, "ic y x"], weight: Integer[np.ndarray, "oc ic ki kj"], spec: ConvLayer
) -> Integer[np.ndarray, "oc oy ox"]:
    """Return the exact convolution of an image's codes as they are, for as many output channels as `weight` has."""
    windows = pad_map(codes, spec)[:, nij_of_onij(spec)].transpose(1, 0, 2).reshape(spec.onij_count, -1)
    sums = exact_product(windows, weight.reshape(len(weight), -1).T)
    return sums.T.reshape(len(weight), spec.out_height, spec.out_width)


def threshold_codes(
    acc: Integer[np.ndarray, "*batch oc y x"],
    threshold: Int32[np.ndarray, "oc level"],
    direction: Int8[np.ndarray, " oc"],
) -> UInt8[np.ndarray, "*batch oc y x"]:
    """Return `code[oc] == (direction[oc] * acc >= direction[oc] * threshold[oc]).sum(level)`."""
    sign = direction.astype(acc.dtype)[:, None, None]
    signed_acc, signed_threshold = sign * acc, direction.astype(np.int32)[:, None] * threshold
    codes = np.zeros(acc.shape, np.uint8)
    for level in range(threshold.shape[1]):
        codes += signed_acc >= signed_threshold[:, level, None, None]
    return codes


def max_pool(values: Real[np.ndarray, "*batch y x"], window: int) -> Real[np.ndarray, "*batch y_out x_out"]:
    """Return the largest value of each `window` x `window` square; a ragged edge is dropped, as torch does."""
    return _squares(values, window).max(axis=(-3, -1))


def mean_pool(values: Float[np.ndarray, "*batch y x"], window: int) -> Float[np.ndarray, "*batch y_out x_out"]:
    """Return the mean of each `window` x `window` square; a ragged edge is dropped."""
    return _squares(values, window).mean(axis=(-3, -1))


def _squares(values: np.ndarray, window: int) -> np.ndarray:
    *batch, height, width = values.shape
    rows, cols = height // window, width // window
    return values[..., : rows * window, : cols * window].reshape(*batch, rows, window, cols, window)
