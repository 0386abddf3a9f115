"""Pools: the largest code or value of a window, and averages, of codes from exact sums."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from jaxtyping import Shaped

from factory.readers.onnx.codes import (
    Codes,
    Value,
    as_codes,
    checked_scale,
    checked_zero_point,
    element_range,
    own_zero_point,
    real,
)
from factory.readers.onnx.floats import total
from factory.readers.onnx.formula import Formula, evaluate, quantize_linear, requantize, step, whole
from factory.readers.onnx.geometry import Window, window
from factory.readers.onnx.graph import Node
from factory.readers.onnx.layers import Capture
from factory.readers.onnx.linear import QLINEAR
from factory.readers.onnx.sums import as_map, bordered, from_map, windows
from factory.spec import InputError

Map = Shaped[np.ndarray, "image channel *map"]
Pooled = Shaped[np.ndarray, "image channel *pooled"]


def max_pool(node: Node, values: Sequence[Value], capture: Capture) -> tuple[Value, ...]:
    """MaxPool: codes stay codes; the border is below all of them."""
    if any(node.outputs[1:]) or node.attribute("storage_order", 0):
        raise InputError("MaxPool must have one output, without indices")
    slid = _window(node, values[0])

    def largest(array: Map) -> Pooled:
        lowest = -np.inf if array.dtype.kind == "f" else np.iinfo(np.int64).min
        wide = array if array.dtype.kind == "f" else array.astype(np.int64)
        result = None
        for each in _windows(wide, slid, lowest):
            result = each if result is None else np.maximum(result, each)
        return from_map(result, array.ndim).astype(array.dtype)

    x = values[0]
    if isinstance(x, Codes):
        if x.scale is not None and x.scale.ndim:
            raise InputError("MaxPool must be of one scale")
        return (x.moved(largest),)
    return (largest(x),)


def global_max_pool(node: Node, values: Sequence[Value], capture: Capture) -> tuple[Value, ...]:
    """GlobalMaxPool: codes stay codes."""
    x = values[0]

    def largest(array: Map) -> Pooled:
        return array.max(axis=tuple(range(2, array.ndim)), keepdims=True)

    return (x.moved(largest) if isinstance(x, Codes) else largest(x),)


def average_pool(node: Node, values: Sequence[Value], capture: Capture) -> tuple[Value, ...]:
    """AveragePool: the sum, over the number of elements; that of codes of one scale is exact, then `* scale`."""
    slid = _window(node, values[0])
    sums, scale = _summed(values[0], slid)
    return (evaluate((*scale, step("divide", _counts(node, values[0], slid))), sums),)


def global_average_pool(node: Node, values: Sequence[Value], capture: Capture) -> tuple[Value, ...]:
    """GlobalAveragePool, as `average_pool`."""
    x = values[0]
    axes = tuple(range(2, len(x.shape)))
    count = step("divide", np.prod([x.shape[axis] for axis in axes]))
    if _one_grid(x):
        return (evaluate((step("multiply", x.scale), count), x.centred().sum(axis=axes, keepdims=True)),)
    return (evaluate((count,), total(real(x), axes)),)


def qlinear_average_pool(node: Node, values: Sequence[Value], capture: Capture) -> tuple[Value, ...]:
    """QLinearAveragePool of onnxruntime: `saturate(round(sum * scale / count / scale of y) + zero point of y)`."""
    codes, out_scale, points, dtype = _quantized(node, values)
    slid = _window(node, codes)
    sums, scale = _summed(codes, slid)
    formula = (*scale, step("divide", _counts(node, codes, slid)))
    return (whole((*formula, *quantize_linear(out_scale, points, *element_range(dtype, "y"))), sums, dtype),)


def qlinear_global_average_pool(node: Node, values: Sequence[Value], capture: Capture) -> tuple[Value, ...]:
    """QLinearGlobalAveragePool of onnxruntime: one multiplier, `scale / (scale of y * count)`, of the exact sum."""
    codes, out_scale, points, dtype = _quantized(node, values)
    axes = tuple(range(2, len(codes.shape)))
    count = np.float32(np.prod([codes.shape[axis] for axis in axes]))
    formula = requantize(codes.scale / (out_scale * count), points, *element_range(dtype, "y"))
    return (whole(formula, codes.centred().sum(axis=axes, keepdims=True), dtype),)


def _quantized(node: Node, values: Sequence[Value]) -> tuple[Codes, np.ndarray, np.ndarray, np.dtype]:
    """Return x as codes, and scale, zero point and type of y, of an operator that has them in this order."""
    if node.attribute("channels_last", 0):
        raise InputError("channels_last must be 0")
    x = as_codes(values[0], values[1], values[2], node.inputs[0], QLINEAR)
    points = own_zero_point(values, 4, x)
    return (
        x,
        checked_scale(values[3], "the scale of y"),
        checked_zero_point(points, "the zero point of y"),
        points.dtype,
    )


def _one_grid(x: Value) -> bool:
    return isinstance(x, Codes) and x.scale is not None and x.scale.ndim == x.zero_point.ndim == 0


def _window(node: Node, x: Value) -> Window:
    if "SAME" in node.attribute("auto_pad", "") and max(node.attribute("dilations", (1,))) > 1:
        raise InputError("a dilated pool must state its pads, not auto_pad")  # what the border is differs by runtime
    return window(node, tuple(x.shape[2:]), tuple(node.attribute("kernel_shape", ())))


def _windows(array: Map, slid: Window, border: float | int) -> Iterator[Pooled]:
    return windows(bordered(as_map(array), slid.padding, border), slid.kernel, slid.stride, slid.dilation, slid.out)


def _summed(x: Value, slid: Window) -> tuple[np.ndarray, Formula]:
    """Return the sums of windows, added `kij` by `kij`, and the formula that makes them real."""
    array = x.centred() if _one_grid(x) else real(x)
    result = np.zeros((), array.dtype)
    for each in _windows(array, slid, 0):
        result = result + each
    return from_map(result, array.ndim), (step("multiply", x.scale),) if _one_grid(x) else ()


def _counts(node: Node, x: Value, slid: Window) -> np.ndarray:
    """Return how many elements each window's average is of: those of the map, and of the border where it counts."""
    if node.attribute("count_include_pad", 0):
        if slid.padding != slid.border:
            raise InputError("an average pool must not count a border that ceil_mode makes wider")
        return np.asarray(np.float32(slid.kernel[0] * slid.kernel[1]))
    ones = np.ones((1, 1, *x.shape[2:]), np.int64)
    return from_map(sum(_windows(ones, slid, 0)), ones.ndim).astype(np.float32)
