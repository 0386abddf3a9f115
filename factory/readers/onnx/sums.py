"""Sums of products: exact ones of integers, and float32 ones in a fixed order, of convolutions and products."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from jaxtyping import Float32, Int64, Integer, Shaped

from factory.spec import ConvLayer

_BLOCK = 1 << 22
"""Most weights of a matrix that are held as float64 at once, but for a row."""


def as_map(array: Shaped[np.ndarray, "*any"]) -> Shaped[np.ndarray, "image channel y x"]:
    """Return an array of one spatial axis as one with maps of height 1."""
    return array if array.ndim == 4 else array[:, :, None]


def from_map(result: Shaped[np.ndarray, "image channel y x"], ndim: int) -> Shaped[np.ndarray, "*any"]:
    """Invert `as_map` for what was made of an array of so many axes."""
    return result if ndim == 4 else result[:, :, 0]


def windows(
    padded: Shaped[np.ndarray, "*channels y x"],
    kernel: tuple[int, int],
    stride: tuple[int, int],
    dilation: tuple[int, int],
    out: tuple[int, int],
) -> Iterator[Shaped[np.ndarray, "*channels oy ox"]]:
    """Yield what each kernel position of a convolution or pool meets at every output pixel, `kij` by `kij`."""
    for ki in range(kernel[0]):
        for kj in range(kernel[1]):
            top, left = ki * dilation[0], kj * dilation[1]
            rows = slice(top, top + stride[0] * (out[0] - 1) + 1, stride[0])
            cols = slice(left, left + stride[1] * (out[1] - 1) + 1, stride[1])
            yield padded[..., rows, cols]


def bordered(
    values: Shaped[np.ndarray, "*channels y x"], padding: tuple[int, int, int, int], value: float | int
) -> Shaped[np.ndarray, "*channels py px"]:
    """Return a map with a border of one value; `padding` is `(top, left, bottom, right)`."""
    top, left, bottom, right = padding
    sides = ((0, 0),) * (values.ndim - 2) + ((top, bottom), (left, right))
    return np.pad(values, sides, constant_values=value)


def exact_convolution(
    codes: Integer[np.ndarray, "image ic y x"], weight: Integer[np.ndarray, "oc group_ic ki kj"], spec: ConvLayer
) -> Int64[np.ndarray, "image oc oy ox"]:
    """Return the exact convolution of codes less their zero point, whose border is 0, with weights of groups.

    The products are multiplied and added as float64, which is exact in any order: codes and weights have at most 9 bits
    each, so that 2**35 products would be needed to leave the 53 bits of an exact whole number.
    """
    groups, kernels = spec.groups, _grouped(weight.astype(np.float64), spec)
    total = np.zeros((len(codes), groups, spec.out_channels // groups, spec.onij_count))
    for kernel, patch in zip(kernels, _patches(codes.astype(np.float64), spec), strict=True):
        total += kernel @ patch
    return total.astype(np.int64).reshape(len(codes), spec.out_channels, spec.out_height, spec.out_width)


def float_convolution(
    values: Float32[np.ndarray, "image ic y x"], weight: Float32[np.ndarray, "oc group_ic ki kj"], spec: ConvLayer
) -> Float32[np.ndarray, "image oc oy ox"]:
    """Return a convolution in float32, every product and sum rounded, `kij` outside and input channels inside."""
    groups, kernels = spec.groups, _grouped(weight, spec)
    total = np.zeros((len(values), groups, spec.out_channels // groups, spec.onij_count), np.float32)
    for kernel, patch in zip(kernels, _patches(values, spec), strict=True):
        for channel in range(weight.shape[1]):
            total += kernel[:, :, channel, None] * patch[:, :, None, channel]
    return total.reshape(len(values), spec.out_channels, spec.out_height, spec.out_width)


def _grouped(
    weight: Shaped[np.ndarray, "oc group_ic ki kj"], spec: ConvLayer
) -> Shaped[np.ndarray, "kij group group_oc group_ic"]:
    by_group = weight.reshape(spec.groups, -1, weight.shape[1], spec.kij_count)
    return np.ascontiguousarray(np.moveaxis(by_group, -1, 0))


def _patches(
    values: Shaped[np.ndarray, "image ic y x"], spec: ConvLayer
) -> Iterator[Shaped[np.ndarray, "image group group_ic onij"]]:
    out = (spec.out_height, spec.out_width)
    for window in windows(bordered(values, spec.padding, 0), spec.kernel, spec.stride, spec.dilation, out):
        yield window.reshape(len(values), spec.groups, spec.in_channels // spec.groups, spec.onij_count)


def exact_matmul(
    left: Integer[np.ndarray, "*some m k"], right: Integer[np.ndarray, "*others k n"]
) -> Int64[np.ndarray, "*all m n"]:
    """Return the exact matrix product of codes less their zero points; float64 as in `exact_convolution`."""
    rows = max(_BLOCK // max(right.shape[-1], 1), 1)
    total = np.zeros(np.broadcast_shapes(left.shape[:-2], right.shape[:-2]) + (left.shape[-2], right.shape[-1]))
    for first in range(0, left.shape[-1], rows):
        some = slice(first, first + rows)
        total += left[..., some].astype(np.float64) @ right[..., some, :].astype(np.float64)
    return total.astype(np.int64)


def float_matmul(
    left: Float32[np.ndarray, "*some m k"], right: Float32[np.ndarray, "*others k n"]
) -> Float32[np.ndarray, "*all m n"]:
    """Return a matrix product in float32, every product and sum rounded, in the order of the inner axis."""
    total = np.zeros(np.broadcast_shapes(left.shape[:-2], right.shape[:-2]) + (left.shape[-2], right.shape[-1]))
    total = total.astype(np.float32)
    for inner in range(left.shape[-1]):
        total += left[..., inner, None] * right[..., None, inner, :]
    return total
