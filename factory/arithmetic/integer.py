"""What follows an accumulator, in integers: thresholds that make the next codes, and the max pool on codes."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int8, Int32, Integer, Real, UInt8


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
