"""The second path: plain NumPy int64, one image at a time, without the engine, the tiling or the lowering."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float32, Int64, Integer, UInt8

from factory.spec import IMAGE, ConvLayer, Network, SystolicArray, TrainedLayer


def input_codes(
    pixels: UInt8[np.ndarray, "colour y x"], network: Network, first: ConvLayer, alpha: np.float32
) -> Int64[np.ndarray, "colour y x"]:
    """Return the codes of an image: the float32 formula of the input quantizer on each pixel, with no table."""
    mean, std = (np.array(x, np.float32)[:, None, None] for x in (network.mean, network.std))
    real = (pixels.astype(np.float32) / np.float32(255) - mean) / std
    return quantize(real, first, alpha)


def code_bounds(
    network: Network, spec: ConvLayer, alpha: np.float32
) -> tuple[Int64[np.ndarray, " ic"], Int64[np.ndarray, " ic"]]:
    """Return the least and the largest code of each input channel: of all pixel values, or of all unsigned codes."""
    if spec.source != IMAGE:
        return np.zeros(spec.in_channels, np.int64), np.full(spec.in_channels, spec.activation_qmax)
    ramp = np.tile(np.arange(256, dtype=np.uint8), (spec.in_channels, 1, 1))
    codes = input_codes(ramp, network, spec, alpha)
    return codes.min(axis=(1, 2)), codes.max(axis=(1, 2))


def lane_counts(channels: int, lanes: int) -> Int64[np.ndarray, " tile"]:
    """Return how many lanes of each tile carry a channel."""
    return np.array([min(lanes, channels - first) for first in range(0, channels, lanes)])


def quantize(real: Float32[np.ndarray, "*any"], entered: ConvLayer, alpha: np.float32) -> Int64[np.ndarray, "*any"]:
    """Return the activation codes with which real values enter a layer: `round(min(x / alpha, 1) * levels)`."""
    levels = np.float32(entered.activation_qmax)
    return np.rint(np.minimum(real / np.float32(alpha), np.float32(1)) * levels).astype(np.int64)


def real_outputs(
    accumulator: Integer[np.ndarray, " oc *pixel"], layer: TrainedLayer
) -> Float32[np.ndarray, " oc *pixel"]:
    """Return the layer's real outputs: both steps, batch norm, ReLU; each operation rounded to float32."""
    real = accumulator.astype(np.float32) * layer.activation_scale * layer.weight_scale
    norm = layer.batch_norm
    if norm is not None:
        shape = (-1,) + (1,) * (accumulator.ndim - 1)
        mean, var, gamma, beta = (x.reshape(shape) for x in (norm.mean, norm.var, norm.gamma, norm.beta))
        real = (real - mean) / np.sqrt(var + np.float32(norm.eps)) * gamma + beta
    return np.maximum(real, np.float32(0))


def pool_codes(codes: Int64[np.ndarray, "channel y x"], window: int) -> Int64[np.ndarray, "channel y2 x2"]:
    """Return the largest code of each whole `window` x `window` block."""
    height, width = codes.shape[1] // window * window, codes.shape[2] // window * window
    corners = [codes[:, y:height:window, x:width:window] for y in range(window) for x in range(window)]
    return np.max(corners, axis=0)


def count_thresholds(
    accumulator: Integer[np.ndarray, " oc *pixel"],
    threshold: Integer[np.ndarray, "oc level"],
    direction: Integer[np.ndarray, " oc"],
) -> Int64[np.ndarray, " oc *pixel"]:
    """Return how many of its channel's thresholds each accumulator reaches, from below or (direction -1) from above."""
    codes = np.zeros(accumulator.shape, np.int64)
    for channel, row in enumerate(threshold.astype(np.int64)):
        for level in row:
            sums = accumulator[channel].astype(np.int64)
            codes[channel] += sums >= level if direction[channel] > 0 else sums <= level
    return codes


def convolve(
    codes: Integer[np.ndarray, "ic y x"], weight: Integer[np.ndarray, "oc ic ki kj"], spec: ConvLayer
) -> Int64[np.ndarray, "oc oi oj"]:
    """Return the exact convolution of one image, for as many output channels as `weight` has."""
    padded = pad(codes, spec)
    total = np.zeros((weight.shape[0], spec.out_height, spec.out_width), np.int64)
    for ki in range(spec.kernel):
        for kj in range(spec.kernel):
            rows = slice(ki, ki + spec.stride * (spec.out_height - 1) + 1, spec.stride)
            cols = slice(kj, kj + spec.stride * (spec.out_width - 1) + 1, spec.stride)
            total += np.tensordot(weight[:, :, ki, kj].astype(np.int64), padded[:, rows, cols], axes=1)
    return total


def pad(codes: Integer[np.ndarray, "ic y x"], spec: ConvLayer) -> Int64[np.ndarray, "ic py px"]:
    """Return the map with its zero padding."""
    shape = (codes.shape[0], spec.padded_height, spec.padded_width)
    padded = np.zeros(shape, np.int64)
    padded[:, spec.padding : spec.padding + spec.height, spec.padding : spec.padding + spec.width] = codes
    return padded


def activation_tile(
    codes: Integer[np.ndarray, "ic y x"], spec: ConvLayer, array: SystolicArray, it: int
) -> Int64[np.ndarray, "nij row"]:
    """Return one input tile's codes: lane `row` is channel `it * rows + row`, 0 where there is none."""
    tile = np.zeros((spec.nij_count, array.rows), np.int64)
    channels = pad(codes[it * array.rows : (it + 1) * array.rows], spec)
    for row, channel in enumerate(channels):
        tile[:, row] = channel.ravel()
    return tile


def weight_tile(
    weight: Integer[np.ndarray, "oc ic ki kj"], array: SystolicArray, it: int, ot: int
) -> Int64[np.ndarray, "kij col row"]:
    """Return one tile's weights: column `col` is output channel `ot * cols + col`, 0 where there is none."""
    tile = np.zeros((weight.shape[2] * weight.shape[3], array.cols, array.rows), np.int64)
    outputs = weight[ot * array.cols : (ot + 1) * array.cols]
    for col, filters in enumerate(outputs):
        for row, kernel in enumerate(filters[it * array.rows : (it + 1) * array.rows]):
            tile[:, col, row] = kernel.ravel()
    return tile


def psum_tile(
    activation: Int64[np.ndarray, "nij row"], weight: Int64[np.ndarray, "kij col row"]
) -> Int64[np.ndarray, "kij nij col"]:
    """Return `psum[kij, nij, col] = sum over row of activation[nij, row] * weight[kij, col, row]`."""
    return np.stack([activation @ kernel.T for kernel in weight])
