"""Operators on real values between layers, as elementary float32 steps in a fixed order.

Functions that are no elementary step (exp, tanh, ...) are computed in float64 and rounded to float32 once.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from jaxtyping import Float32

from factory.readers.onnx.codes import Codes, Value, along, real
from factory.readers.onnx.formula import batch_norm, evaluate, step
from factory.readers.onnx.graph import Node
from factory.readers.onnx.layers import Capture
from factory.readers.onnx.moves import by_reference
from factory.spec import InputError, Range

Real = Float32[np.ndarray, "*shape"]
_ERF = np.vectorize(math.erf, otypes=[np.float64])
BINARY = {"Add": "add", "Sub": "subtract", "Mul": "multiply", "Div": "divide", "Max": "maximum", "Min": "minimum"}
"""Operators of two operands (of more: from the left), and their steps."""


def _once(function: Callable[[np.ndarray], np.ndarray]) -> Callable[[Node, Real], Real]:
    """Return an operator whose function is computed in float64 and rounded once."""
    return lambda node, x: function(x.astype(np.float64)).astype(np.float32)


def leaky_relu(node: Node, x: Real) -> Real:
    """Return x, or `alpha * x` where x is negative."""
    return np.where(x < 0, x * np.float32(node.attribute("alpha", 0.01)), x)


def _hard_sigmoid(node: Node, x: Real, alpha: float = 0.2, beta: float = 0.5) -> Real:
    slope, offset = node.attribute("alpha", alpha), node.attribute("beta", beta)
    return evaluate((step("multiply", slope), step("add", offset), step("maximum", 0), step("minimum", 1)), x)


def _elu(node: Node, x: Real) -> Real:
    return np.where(x < 0, np.float32(node.attribute("alpha", 1.0)) * _UNARY_EXPM1(node, x), x)


def _gelu(node: Node, x: Real) -> Real:
    if node.attribute("approximate", "none") != "none":
        raise InputError(f"approximate must be none, not {node.attribute('approximate', '')}")
    return _once(lambda v: v * 0.5 * (1 + _ERF(v / math.sqrt(2))))(node, x)


_UNARY_EXPM1 = _once(lambda x: np.expm1(np.minimum(x, 0)))
UNARY: dict[str, Callable[[Node, Real], Real]] = {
    "Abs": lambda node, x: np.abs(x),
    "Neg": lambda node, x: -x,
    "Floor": lambda node, x: np.floor(x),
    "Ceil": lambda node, x: np.ceil(x),
    "Round": lambda node, x: np.rint(x),
    "Sign": lambda node, x: np.sign(x),
    "Sqrt": lambda node, x: np.sqrt(x),
    "Reciprocal": lambda node, x: np.float32(1) / x,
    "LeakyRelu": leaky_relu,
    "HardSigmoid": _hard_sigmoid,
    "HardSwish": lambda node, x: x * _hard_sigmoid(node, x, 1 / 6),
    "Elu": _elu,
    "Gelu": _gelu,
    "com.microsoft.Gelu": _gelu,
    "Exp": _once(np.exp),
    "Log": _once(np.log),
    "Tanh": _once(np.tanh),
    "Erf": _once(_ERF),
    "Softplus": _once(lambda x: np.logaddexp(0, x)),
    "Sigmoid": _once(lambda x: 1 / (1 + np.exp(-x))),
}


def unary(node: Node, values: Sequence[Value], capture: Capture) -> tuple[Value, ...]:
    """Evaluate an operator of `UNARY`."""
    x = real(values[0])
    if x.dtype != np.float32:
        return by_reference(node, [x])
    return (UNARY[node.op](node, x),)


def binary(node: Node, values: Sequence[Value], capture: Capture) -> tuple[Value, ...]:
    """Evaluate an operator of `BINARY`; those of integers are the model's arithmetic on shapes."""
    first, *others = (real(value) for value in values)
    if first.dtype != np.float32:
        return by_reference(node, [first, *others])
    return (evaluate(tuple(step(BINARY[node.op], each) for each in others), first),)


def relu(node: Node, values: Sequence[Value], capture: Capture) -> tuple[Value, ...]:
    """Relu: on codes, the largest of the code and the zero point."""
    x = values[0]
    if isinstance(x, Codes):
        return (replace(x, code=np.maximum(x.code, x.zero_point.astype(x.code.dtype))),)
    return (np.maximum(real(x), real(x).dtype.type(0)),)


def clip(node: Node, values: Sequence[Value], capture: Capture) -> tuple[Value, ...]:
    """Clip: to a least and a largest value, which attributes or inputs give; of integers, also to fewer bits."""
    x, bounds = real(values[0]), [*values[1:], None, None]
    if str(x.dtype) in ("int8", "uint8") and bounds[0] is not None and bounds[1] is not None:
        low, high = int(real(bounds[0]).item()), int(real(bounds[1]).item())
        clipped, signed = np.clip(x, low, high), x.dtype.kind == "i"
        bits = max(Range(low, high).bits - 1 + signed, 1)
        return (Codes(clipped, None, np.zeros((), np.int64), bits, signed, "integers"),)
    for bound, name, limit in ((bounds[0], "min", np.maximum), (bounds[1], "max", np.minimum)):
        given = node.attribute(name, None) if bound is None else real(bound)
        x = x if given is None else limit(x, np.asarray(given, x.dtype))
    return (x,)


def normalize_batch(node: Node, values: Sequence[Value], capture: Capture) -> tuple[Value, ...]:
    """BatchNormalization by the stored statistics, whatever the opset's mode is called."""
    x, *statistics = (real(value) for value in values)
    shape = along(1, x.ndim)
    gamma, beta, mean, var = (each.reshape(shape) for each in statistics)
    return (evaluate(batch_norm(gamma, beta, mean, var, node.attribute("epsilon", 1e-5)), x),)


def prelu(node: Node, values: Sequence[Value], capture: Capture) -> tuple[Value, ...]:
    """PRelu: x, or slope * x where x is negative."""
    x, slope = real(values[0]), real(values[1])
    return (np.where(x < 0, x * slope, x),)


def power(node: Node, values: Sequence[Value], capture: Capture) -> tuple[Value, ...]:
    """Pow: a square is one product, others are computed in float64 and rounded once."""
    x, exponent = real(values[0]), real(values[1])
    if exponent.size == 1 and exponent.item() == 2:
        return (x * x,)
    return (np.power(x.astype(np.float64), exponent.astype(np.float64)).astype(np.float32),)


def total(x: Real, axes: tuple[int, ...]) -> Float32[np.ndarray, "*sums"]:
    """Return float32 sums over axes, which stay with size 1; added one by one, the last axis fastest."""
    kept = [axis for axis in range(x.ndim) if axis not in axes]
    rows = x.transpose(*kept, *axes).reshape(*(x.shape[axis] for axis in kept), -1)
    sums = np.add.accumulate(rows, axis=-1)[..., -1]
    return sums.reshape([1 if axis in axes else size for axis, size in enumerate(x.shape)])


def reduce(node: Node, values: Sequence[Value], capture: Capture) -> tuple[Value, ...]:
    """ReduceMean, ReduceSum and ReduceMax over axes that an attribute or an input gives."""
    x = real(values[0])
    given = real(values[1]) if len(values) > 1 and values[1] is not None else node.attribute("axes", None)
    if x.dtype != np.float32:
        return by_reference(node, [None if each is None else real(each) for each in values])
    if given is None or not len(given):
        if node.attribute("noop_with_empty_axes", 0):
            return (x,)
        given = range(x.ndim)
    axes = tuple(sorted(int(axis) % x.ndim for axis in given))
    count = np.float32(math.prod(x.shape[axis] for axis in axes))
    result = x.max(axis=axes, keepdims=True) if node.op == "ReduceMax" else total(x, axes)
    result = result / count if node.op == "ReduceMean" else result
    return (result if node.attribute("keepdims", 1) else result.squeeze(axes),)


def softmax(node: Node, values: Sequence[Value], capture: Capture) -> tuple[Value, ...]:
    """Softmax along one axis; before opset 13, over all axes from that one on."""
    return (softmax_of(real(values[0]), node.attribute("axis", -1 if node.opset >= 13 else 1), node.opset),)


def softmax_of(x: Real, axis: int, opset: int) -> Real:
    """Return `exp(x - max) / sum` as an opset has it: the exponential rounded once, the sum added one by one."""
    axes = (axis % x.ndim,) if opset >= 13 else tuple(range(axis % x.ndim, x.ndim))
    powers = np.exp((x - x.max(axis=axes, keepdims=True)).astype(np.float64)).astype(np.float32)
    return powers / total(powers, axes)


def normalize_layer(node: Node, values: Sequence[Value], capture: Capture) -> tuple[Value, ...]:
    """LayerNormalization over the axes from `axis` on: the mean, the variance, then scale and bias."""
    x, scale, *bias = (real(value) for value in values if value is not None)
    axes = tuple(range(node.attribute("axis", -1) % x.ndim, x.ndim))
    count = np.float32(math.prod(x.shape[axis] for axis in axes))
    centred = x - total(x, axes) / count
    spread = np.sqrt(total(centred * centred, axes) / count + np.float32(node.attribute("epsilon", 1e-5)))
    result = centred / spread * scale
    return (result + bias[0] if bias else result,)


def normalize_locally(node: Node, values: Sequence[Value], capture: Capture) -> tuple[Value, ...]:
    """LRN: `x / (bias + alpha / size * sum of squares of the nearest channels) ** beta`."""
    x, size = real(values[0]), node.attribute("size", 1)
    before = (size - 1) // 2
    around = [(0, 0), (before, size - 1 - before)] + [(0, 0)] * (x.ndim - 2)
    squares = np.pad(x * x, around)
    sums = np.zeros_like(x)
    for first in range(size):
        sums = sums + squares[:, first : first + x.shape[1]]
    share = np.float32(node.attribute("alpha", 1e-4)) / np.float32(size)
    base = sums * share + np.float32(node.attribute("bias", 1.0))
    return (x / np.power(base.astype(np.float64), node.attribute("beta", 0.75)).astype(np.float32),)
