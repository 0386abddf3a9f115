"""What an array computes from the codes that it reads, addition by addition in hardware order, in plain NumPy int64."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int64

from factory.spec import ComparisonError, ConvLayer


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


def read_field(values: Int64[np.ndarray, "*shape"], bits: int, signed: bool) -> Int64[np.ndarray, "*shape"]:
    """Return what a field that took the low `bits` of each value reads back."""
    unsigned = values % (1 << bits)
    return np.where(signed & (unsigned >= 1 << (bits - 1)), unsigned - (1 << bits), unsigned)


def pixels_read(spec: ConvLayer) -> Int64[np.ndarray, "onij kij"]:
    """Return the padded pixel that each output pixel reads at each kernel position."""
    pixel = np.zeros((spec.onij_count, spec.kij_count), np.int64)
    for oi in range(spec.out_height):
        for oj in range(spec.out_width):
            for kij in range(spec.kij_count):
                y, x = oi * spec.stride + kij // spec.kernel, oj * spec.stride + kij % spec.kernel
                pixel[oi * spec.out_width + oj, kij] = y * spec.padded_width + x
    return pixel


def stationary_weight_sums(
    activation: Int64[np.ndarray, "it nij row"],
    weight: Int64[np.ndarray, "it ot kij col row"],
    pixel: Int64[np.ndarray, "onij kij"],
    adders: Adders,
) -> Iterator[tuple[Int64[np.ndarray, "ot kij nij col"], Int64[np.ndarray, "ot onij col"]]]:
    """Yield the psums of each `it`, and the accumulators after it; rows are added from 0, then `kij` in their order."""
    total = np.zeros((weight.shape[1], pixel.shape[0], weight.shape[3]), np.int64)
    for tile, weights in zip(activation, weight, strict=True):
        psum = np.zeros((*weights.shape[:2], tile.shape[0], weights.shape[2]), np.int64)
        for row in range(tile.shape[1]):
            psum = adders.settle(psum + tile[:, row, None] * weights[:, :, None, :, row])
        for kij in range(pixel.shape[1]):
            total = adders.settle(total + psum[:, kij, pixel[:, kij]])
        yield psum, total


def stationary_output_sums(
    activation: Int64[np.ndarray, "ic kij onij"], weight: Int64[np.ndarray, "ot ic kij col"], adders: Adders
) -> Int64[np.ndarray, "ot onij col"]:
    """Return the accumulators: products are added with `ic` outside and `kij` inside."""
    total = np.zeros((weight.shape[0], activation.shape[2], weight.shape[3]), np.int64)
    for ic in range(weight.shape[1]):
        for kij in range(weight.shape[2]):
            total = adders.settle(total + activation[ic, kij, :, None] * weight[:, ic, kij, None, :])
    return total


def pixel_order(spec: ConvLayer, block: tuple[int, int]) -> list[int]:
    """Return the `onij` in the order of an OS array: blocks of `(height, width)` row by row, row by row inside."""
    order = []
    for top in range(0, spec.out_height, block[0]):
        for left in range(0, spec.out_width, block[1]):
            for oi in range(top, min(top + block[0], spec.out_height)):
                order += [oi * spec.out_width + oj for oj in range(left, min(left + block[1], spec.out_width))]
    return order


def after_post(
    sums: Int64[np.ndarray, "ot onij col"], post: str, pixels: Sequence[int], spec: ConvLayer
) -> Int64[np.ndarray, "ot place col"]:
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
    windows: dict[tuple[int, int], list[int]] = {}
    for place, onij in enumerate(pixels):
        oi, oj = onij // spec.out_width // 2, onij % spec.out_width // 2
        if oi < spec.out_height // 2 and oj < spec.out_width // 2:
            windows.setdefault((oi, oj), []).append(place)
    return np.stack([outputs[:, places].max(axis=1) for places in windows.values()], axis=1)
