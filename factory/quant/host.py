"""Quantizers on the host: NumPy float32, every operation rounded in the order in which the formula is written.

`levels` is the largest code: `2**(bits - 1) - 1` for weights, `2**bits - 1` for activations. Rounding is to the
nearest, half to even. Each step is one IEEE 754 operation, so the results do not depend on the machine.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float32, Int8, Int16, Integer

from factory.spec import IMAGE, InputError, Network, TrainedLayer

_EXTREMES = dict(over="ignore", invalid="ignore", divide="ignore")  # infinities are legal on the way to a clip


def scaled_weights(
    weight: Float32[np.ndarray, "*shape"], alpha_w: float | np.floating, bits: int
) -> Float32[np.ndarray, "*shape"]:
    """Return the weights in units of one code, before rounding: `clip(w' / alpha_w, -1, 1) * levels`.

    `w' = (w - mean(w)) / std(w)` over the whole tensor, `std` with N-1; both are computed in float64 and rounded once
    to float32. Raise InputError where the tensor has no spread or is not finite.
    """
    alpha, levels = _alpha(alpha_w), np.float32(2 ** (bits - 1) - 1)
    with np.errstate(**_EXTREMES):
        mean = np.float32(weight.mean(dtype=np.float64))
        spread = np.float32(weight.std(dtype=np.float64, ddof=1)) if weight.size > 1 else np.float32(0)
        if not (np.isfinite(mean) and np.isfinite(spread) and spread > 0):
            raise InputError(f"weights must be finite and spread out, not of mean {mean!s} and deviation {spread!s}")
        return np.clip((weight - mean) / spread / alpha, np.float32(-1), np.float32(1)) * levels


def weight_codes(
    weight: Float32[np.ndarray, "*shape"], alpha_w: float | np.floating, bits: int
) -> Int8[np.ndarray, "*shape"]:
    """Return the weights' codes `round(|x| * levels) * sign(x)`, where `x = clip(w' / alpha_w, -1, 1)`."""
    return np.rint(scaled_weights(weight, alpha_w, bits)).astype(np.int8)


def activation_codes(
    values: Float32[np.ndarray, "*shape"], alpha_a: float | np.floating, bits: int
) -> Int16[np.ndarray, "*shape"]:
    """Return the activations' codes `round(min(a / alpha_a, 1) * levels)`; nothing clips them from below.

    Raise InputError where a code is not a number or not an int16.
    """
    alpha, levels = _alpha(alpha_a), np.float32(2**bits - 1)
    with np.errstate(**_EXTREMES):
        codes = np.rint(np.minimum(values / alpha, np.float32(1)) * levels)
    legal = codes >= np.iinfo(np.int16).min  # False for NaN
    if not legal.all():
        at = np.unravel_index(int(np.argmin(legal)), codes.shape)
        raise InputError(f"activation codes must be -32768 or more, not {codes[at]!s} at {[int(i) for i in at]}")
    return codes.astype(np.int16)


def pixel_values(network: Network) -> Float32[np.ndarray, "colour pixel"]:
    """Return the real value of each pixel value 0..255, for each colour: `(pixel / 255 - mean) / std`."""
    pixel = np.arange(256, dtype=np.float32) / np.float32(255)
    mean, std = (np.array(values, dtype=np.float32)[:, None] for values in (network.mean, network.std))
    with np.errstate(**_EXTREMES):
        return (pixel - mean) / std


def input_table(network: Network, alpha_a: float | np.floating) -> Int8[np.ndarray, "colour pixel"]:
    """Return the code of each pixel value 0..255, for each colour: the quantized `pixel_values`."""
    codes = activation_codes(pixel_values(network), alpha_a, network.consumers(IMAGE)[0].activation_bits)
    if codes.min() < -128 or codes.max() > 127:
        raise InputError(f"input codes must be -128 to 127, not {codes.min()} to {codes.max()}")
    return codes.astype(np.int8)


def dequantize_accumulator(
    acc: Integer[np.ndarray, "*batch oc y x"], layer: TrainedLayer
) -> Float32[np.ndarray, "*batch oc y x"]:
    """Return what the accumulators stand for after batch norm (where the layer has one) and ReLU.

    `y = acc * (alpha_a / levels_a) * (alpha_w / levels_w)`, `y = (y - mean) / sqrt(var + eps) * gamma + beta`,
    `max(y, 0)`. NaN where the formula gives it; raise InputError where `var + eps` is not more than 0.
    """
    with np.errstate(**_EXTREMES):
        y = acc.astype(np.float32) * layer.activation_scale * layer.weight_scale
        if (norm := layer.batch_norm) is not None:
            deviation = np.sqrt(norm.var + np.float32(norm.eps))
            if not (deviation > 0).all():
                oc = int(np.argmin(deviation > 0))
                raise InputError(
                    f"var + eps of oc {oc} must be more than 0, not {norm.var[oc] + np.float32(norm.eps)!s}"
                )
            mean, deviation, gamma, beta = (
                values[:, None, None] for values in (norm.mean, deviation, norm.gamma, norm.beta)
            )
            y = (y - mean) / deviation * gamma + beta
        return np.maximum(y, np.float32(0))


def requantized_codes(
    acc: Integer[np.ndarray, "*batch oc y x"], layer: TrainedLayer, next_alpha: float | np.floating, next_bits: int
) -> Int16[np.ndarray, "*batch oc y x"]:
    """Return the codes that the next layer receives (before a max pool), from float32 arithmetic.

    Raise InputError, with channel and accumulator, where the formula gives no number.
    """
    y = dequantize_accumulator(acc, layer)
    if np.isnan(y).any():
        at = tuple(np.argwhere(np.isnan(y))[0])
        raise InputError(f"the output of oc {at[-3]} must be a number at accumulator {acc[at]}, not nan")
    return activation_codes(y, next_alpha, next_bits)


def _alpha(alpha: float | np.floating) -> np.float32:
    with np.errstate(over="ignore"):
        rounded = np.float32(alpha)
    if not (np.isfinite(rounded) and rounded > 0):
        raise InputError(f"alpha must be finite and more than 0 in float32, not {alpha!s}")
    return rounded
