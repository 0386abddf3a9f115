"""The second path: plain NumPy int64, one image at a time, without the engine, the tiling or the lowering.

Exact integers and the quantizers' float32 formulas come first, then what an array makes of the codes that it reads,
addition by addition in the hardware's order. The tests compare the engine with the same functions.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Int64, Integer, UInt8

from factory.spec import IMAGE, ComparisonError, ConvLayer, LayerSet, Network, SystolicArray, TrainedLayer


def input_codes(
    pixels: UInt8[np.ndarray, "colour y x"], network: Network, first: ConvLayer, alpha: np.float32
) -> Int64[np.ndarray, "colour y x"]:
    """Return the codes of an image: the float32 formula of the input quantizer on each pixel, with no table."""
    mean, std = (np.array(x, np.float32)[:, None, None] for x in (network.mean, network.std))
    real = (pixels.astype(np.float32) / np.float32(255) - mean) / std
    return quantize(real, first, alpha)


def code_bounds(
    network: Network | LayerSet, spec: ConvLayer, alpha: np.float32 | None
) -> tuple[Int64[np.ndarray, " ic"], Int64[np.ndarray, " ic"]]:
    """Return the least and the largest code of each input channel: of all pixel values, or of all codes."""
    if alpha is None:
        return tuple(np.full(spec.in_channels, end) for end in spec.code_range)
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


def direct_convolution(
    codes: Integer[np.ndarray, "ic y x"], weight: Integer[np.ndarray, "oc ic ki kj"], spec: ConvLayer
) -> Int64[np.ndarray, "oc oi oj"]:
    """Return the exact convolution of one image, for as many output channels as `weight` has."""
    padded = pad(codes, spec)
    (down, across), (apart_y, apart_x) = spec.stride, spec.dilation
    total = np.zeros((weight.shape[0], spec.out_height, spec.out_width), np.int64)
    for ki in range(spec.kernel[0]):
        for kj in range(spec.kernel[1]):
            rows = slice(ki * apart_y, ki * apart_y + down * (spec.out_height - 1) + 1, down)
            cols = slice(kj * apart_x, kj * apart_x + across * (spec.out_width - 1) + 1, across)
            total += np.tensordot(weight[:, :, ki, kj].astype(np.int64), padded[:, rows, cols], axes=1)
    return total


def pad(codes: Integer[np.ndarray, "ic y x"], spec: ConvLayer) -> Int64[np.ndarray, "ic py px"]:
    """Return the map with its border, which has the code of the real 0."""
    top, left, bottom, right = spec.padding
    padded = np.full((codes.shape[0], top + spec.height + bottom, left + spec.width + right), spec.zero_point, np.int64)
    padded[:, top : top + spec.height, left : left + spec.width] = codes
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


@dataclass(frozen=True)
class Adders:
    """The array's adders: two's complement of `bits`; `overflow` is `wrap`, `saturate` or `error`."""

    bits: int
    overflow: str

    def settle(self, sums: Int64[np.ndarray, "*shape"]) -> Int64[np.ndarray, "*shape"]:
        """Return what the adders give for exact sums; raise ComparisonError where none may overflow and one does."""
        half = 1 << (self.bits - 1)
        if self.overflow == "wrap":
            return ((sums + half) & (2 * half - 1)) - half
        held = np.minimum(np.maximum(sums, -half), half - 1)
        if self.overflow == "error" and (held != sums).any():
            raise ComparisonError(f"a sum must fit {self.bits} bits, not be {sums[held != sums][0]}")
        return held


def read_field(
    values: Int64[np.ndarray, "*shape"], bits: int, signed: bool, code: str = "twos_complement"
) -> Int64[np.ndarray, "*shape"]:
    """Return what a field reads back that took the low `bits` of each value, or of its magnitude beside its sign."""
    if code == "sign_magnitude":
        return np.sign(values) * (np.abs(values) % (1 << (bits - 1)))
    unsigned = values % (1 << bits)
    return np.where(signed & (unsigned >= 1 << (bits - 1)), unsigned - (1 << bits), unsigned)


def field_bits(values: Int64[np.ndarray, "*shape"], bits: int, code: str) -> Int64[np.ndarray, "*shape bit"]:
    """Return the bits that stand for values that a field holds, the least significant first."""
    if code == "sign_magnitude":
        values = np.where(values < 0, (1 << (bits - 1)) - values, values)
    return np.stack([values >> place & 1 for place in range(bits)], axis=-1)


def values_of_bits(bits: Int64[np.ndarray, "*shape bit"], signed: bool, code: str) -> Int64[np.ndarray, "*shape"]:
    """Invert `field_bits`."""
    weights = 1 << np.arange(bits.shape[-1])
    if signed and code != "sign_magnitude":
        weights[-1] *= -1
    if code == "sign_magnitude":
        return (1 - 2 * bits[..., -1]) * (bits[..., :-1] @ weights[:-1])
    return bits @ weights


def inside_border(spec: ConvLayer) -> list[int]:
    """Return the padded pixel of each pixel of the map, row by row."""
    top, left, _, _ = spec.padding
    return [y * spec.padded_width + left + x for y in range(top, top + spec.height) for x in range(spec.width)]


def pixels_read(spec: ConvLayer) -> Int64[np.ndarray, "onij kij"]:
    """Return the padded pixel that each output pixel reads at each kernel position."""
    pixel = np.zeros((spec.onij_count, spec.kij_count), np.int64)
    for oi in range(spec.out_height):
        for oj in range(spec.out_width):
            for kij in range(spec.kij_count):
                y = oi * spec.stride[0] + kij // spec.kernel[1] * spec.dilation[0]
                x = oj * spec.stride[1] + kij % spec.kernel[1] * spec.dilation[1]
                pixel[oi * spec.out_width + oj, kij] = y * spec.padded_width + x
    return pixel


def sums_by_tile(
    activation: Int64[np.ndarray, "it position place row"],
    weight: Int64[np.ndarray, "it kij oc row"],
    reads: Int64[np.ndarray, "kij onij"],
    adders: Adders,
) -> Iterator[tuple[Int64[np.ndarray, "kij oc place"], Int64[np.ndarray, "oc onij"]]]:
    """Yield the psums of each `it`, and the accumulators after it; rows are added from 0, then `kij` in their order.

    `position` is `kij`, or a single one where every `kij` meets the same activations. `reads[kij, onij]` is the place
    of the psum that an output pixel adds.
    """
    total = np.zeros((weight.shape[2], reads.shape[1]), np.int64)
    for codes, weights in zip(activation, weight, strict=True):
        psum = np.zeros((*weights.shape[:2], codes.shape[1]), np.int64)
        for row in range(codes.shape[2]):
            psum = adders.settle(psum + weights[:, :, None, row] * codes[:, None, :, row])
        for kij, places in enumerate(reads):
            total = adders.settle(total + psum[kij][:, places])
        yield psum, total


def sums_by_product(
    activation: Int64[np.ndarray, "ic kij onij"], weight: Int64[np.ndarray, "ic kij oc"], adders: Adders
) -> Int64[np.ndarray, "oc onij"]:
    """Return the accumulators to which products are added one by one, with `ic` outside and `kij` inside."""
    total = np.zeros((weight.shape[2], activation.shape[2]), np.int64)
    for codes, weights in zip(activation, weight, strict=True):
        for kij in range(len(codes)):
            total = adders.settle(total + weights[kij, :, None] * codes[kij])
    return total


def pixel_sequence(spec: ConvLayer, block: tuple[int, int]) -> list[int]:
    """Return the `onij` in the order of pixel tiles: blocks of `(height, width)` row by row, row by row inside."""
    order = []
    for top in range(0, spec.out_height, block[0]):
        for left in range(0, spec.out_width, block[1]):
            for oi in range(top, min(top + block[0], spec.out_height)):
                order += [oi * spec.out_width + oj for oj in range(left, min(left + block[1], spec.out_width))]
    return order


def after_post(
    sums: Int64[np.ndarray, "oc onij"], post: str, pixels: Sequence[int], spec: ConvLayer
) -> Int64[np.ndarray, "oc place"]:
    """Return the outputs after the post-op; `pixels` is the `onij` at each place.

    `relu`; `none`; `leaky`, negative sums shifted right by 6; `relu+maxpool2`, the largest of each whole 2 x 2 window,
    in the order of the windows' first pixels.
    """
    if post == "none":
        return sums
    if post == "leaky":
        return np.where(sums < 0, sums // 64, sums)
    outputs = np.maximum(sums, 0)
    if post == "relu":
        return outputs
    windows = pool_places(pixels, spec)
    return np.stack([outputs[:, places].max(axis=1) for places in windows.values()], axis=1)


def pool_places(pixels: Sequence[int], spec: ConvLayer) -> dict[int, list[int]]:
    """Return the places of each whole 2 x 2 window's pixels, by the pooled `onij`, in the order of first pixels."""
    windows: dict[int, list[int]] = {}
    for place, onij in enumerate(pixels):
        oi, oj = onij // spec.out_width // 2, onij % spec.out_width // 2
        if oi < spec.out_height // 2 and oj < spec.out_width // 2:
            windows.setdefault(oi * (spec.out_width // 2) + oj, []).append(place)
    return windows
