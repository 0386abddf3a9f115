"""onnxruntime's QLinear operators on codes that are no layers: each input and the output have a grid of their own."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

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
from factory.readers.onnx.floats import UNARY, softmax_of
from factory.readers.onnx.formula import evaluate, quantize_linear, requantize, step, whole
from factory.readers.onnx.graph import Node
from factory.readers.onnx.layers import Capture
from factory.readers.onnx.linear import QLINEAR


def add(node: Node, values: Sequence[Value], capture: Capture) -> tuple[Value, ...]:
    """QLinearAdd: `saturate(round((a * scale of a + b * scale of b) / scale of c) + zero point)`, a and b centred."""
    left, right = _codes(node, values, 0), _codes(node, values, 3)
    return (
        _quantized(evaluate((step("add", right.real()),), left.real()), values[6], own_zero_point(values, 7, left)),
    )


def multiply(node: Node, values: Sequence[Value], capture: Capture) -> tuple[Value, ...]:
    """QLinearMul: the exact product of both centred codes, times one multiplier."""
    left, right = _codes(node, values, 0), _codes(node, values, 3)
    multiplier = left.scale * right.scale / checked_scale(values[6], "the scale of c")
    points = own_zero_point(values, 7, left)
    ends = element_range(points.dtype, "c")
    formula = requantize(multiplier, checked_zero_point(points, "the zero point of c"), *ends)
    return (whole(formula, left.centred() * right.centred(), points.dtype),)


def concat(node: Node, values: Sequence[Value], capture: Capture) -> tuple[Value, ...]:
    """QLinearConcat: scale and zero point of y, then x, its scale and zero point, of each; each is quantized anew."""
    scale, points = values[0], values[1]
    parts = [_quantized(_codes(node, values, at).real(), scale, points) for at in range(2, len(values), 3)]
    return (np.concatenate(parts, node.attribute("axis", 1)),)


def unary(op: str) -> Callable[[Node, Sequence[Value], Capture], tuple[Value, ...]]:
    """Return an operator of one input that is a real function between two grids."""

    def evaluate_op(node: Node, values: Sequence[Value], capture: Capture) -> tuple[Value, ...]:
        x = _codes(node, values, 0)
        return (_quantized(UNARY[op](node, x.real()), values[3], own_zero_point(values, 4, x)),)

    return evaluate_op


def softmax(node: Node, values: Sequence[Value], capture: Capture) -> tuple[Value, ...]:
    """QLinearSoftmax: a real softmax between two grids."""
    y = softmax_of(_codes(node, values, 0).real(), node.attribute("axis", -1), node.attribute("opset", 13))
    return (_quantized(y, values[3], values[4]),)


def _codes(node: Node, values: Sequence[Value], at: int) -> Codes:
    return as_codes(values[at], values[at + 1], values[at + 2], node.inputs[at], QLINEAR)


def _quantized(x: np.ndarray, scale: Value, zero_point: Value) -> np.ndarray:
    points = real(zero_point)
    low, high = element_range(points.dtype, "the output")
    grid = checked_scale(scale, "the scale of the output"), checked_zero_point(points, "the zero point of the output")
    return whole(quantize_linear(*grid, low, high), x, points.dtype)
