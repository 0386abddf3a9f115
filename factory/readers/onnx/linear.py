"""The operators that are layers, in the three formats: what each makes of its exact sums."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from factory.readers.onnx.codes import (
    Codes,
    Value,
    along,
    as_codes,
    checked_scale,
    checked_zero_point,
    element_range,
    integers,
    optional,
    real,
)
from factory.readers.onnx.formula import evaluate, requantize, step, whole
from factory.readers.onnx.graph import Node
from factory.readers.onnx.layers import Capture, Operand, Sums, add_bias, convolve, multiply
from factory.spec import InputError

QLINEAR = "QLinear (one multiplier)"
INTEGER = "integer operators"
_Sums = Callable[[Node, Operand, Operand, Capture], Sums]


def conv(node: Node, values: Sequence[Value], capture: Capture) -> tuple[Value, ...]:
    """Conv: real values of QDQ and QONNX graphs."""
    return (_real(node, _operands(node, values, (0, 1)), optional(values, 2), convolve, capture),)


def matmul(node: Node, values: Sequence[Value], capture: Capture) -> tuple[Value, ...]:
    """MatMul, as `conv`."""
    return (_real(node, _operands(node, values, (0, 1)), None, multiply, capture),)


def gemm(node: Node, values: Sequence[Value], capture: Capture) -> tuple[Value, ...]:
    """Gemm, as `conv`."""
    left, right = _gemm_operands(node, values, (0, 1))
    return (_real(node, (left, right), optional(values, 2), multiply, capture),)


def _real(node: Node, operands: tuple[Operand, Operand], bias: Value, sums_of: _Sums, capture: Capture) -> np.ndarray:
    """Return `sum * scale + bias` in float32; a bias in the sums' own units is added to them before."""
    sums = sums_of(node, *operands, capture)
    if sums.exact and _in_units(bias, sums):
        sums, bias = add_bias(node, sums, bias.code, capture), None
    formula = ()
    if sums.exact:
        if sums.scale is None:
            raise InputError("codes without a scale must not be read as real values")
        formula += (step("multiply", sums.scale.reshape(sums.beside)),)
    if bias is not None:
        floats = real(bias)
        formula += (step("add", floats.reshape(sums.beside) if node.op == "Conv" else floats),)
    return evaluate(formula, sums.value)


def _in_units(bias: Value, sums: Sums) -> bool:
    """Return whether a bias is integers of the sums' own scale, one or one for each output channel."""
    if not isinstance(bias, Codes) or sums.scale is None or bias.scale is None or np.any(bias.zero_point):
        return False
    channels = sums.value.shape[-len(sums.beside)]
    if (
        bias.code.size not in (1, channels)
        or bias.scale.size not in (1, channels)
        or (sums.across and bias.code.size > 1)
    ):
        return False
    return bool((bias.scale.reshape(-1) == sums.scale).all())


def qlinear_conv(node: Node, values: Sequence[Value], capture: Capture) -> tuple[Value, ...]:
    """QLinearConv: x, its scale and zero point, w, its own, y's own, and a bias."""
    x, weight = _quantized(node, values, 0, ()), _quantized(node, values, 3, along(0, _axes(values[3])))
    sums = _with_bias(node, convolve(node, x, weight, capture), optional(values, 8), capture)
    return (_requantized(sums, values[6], values[7]),)


def qlinear_matmul(node: Node, values: Sequence[Value], capture: Capture) -> tuple[Value, ...]:
    """QLinearMatMul: a, its scale and zero point, b, its own, and y's own."""
    left, right = (_quantized(node, values, at, along(axis, _axes(values[at]))) for at, axis in ((0, -2), (3, -1)))
    return (_requantized(multiply(node, left, right, capture), values[6], values[7]),)


def qgemm(node: Node, values: Sequence[Value], capture: Capture) -> tuple[Value, ...]:
    """QGemm of onnxruntime: A, its scale and zero point, B, its own, C as int32, and y's own if y is codes."""
    transposed = node.attribute("transB", 0)
    operands = list(values)
    operands[0] = _quantized(node, values, 0, ()).value
    operands[3] = _quantized(node, values, 3, along(0 if transposed else 1, 2)).value
    left, right = _gemm_operands(node, operands, (0, 3))
    sums = _with_bias(node, multiply(node, left, right, capture), optional(values, 6), capture)
    if optional(values, 7) is None:
        return (evaluate((step("multiply", sums.scale.reshape(sums.beside)),), sums.value),)
    return (_requantized(sums, values[7], values[8]),)


def conv_integer(node: Node, values: Sequence[Value], capture: Capture) -> tuple[Value, ...]:
    """ConvInteger: x, w, and their zero points; the sums as int32."""
    return _integer(node, values, 0, convolve, capture)


def matmul_integer(node: Node, values: Sequence[Value], capture: Capture) -> tuple[Value, ...]:
    """MatMulInteger: A, B, and their zero points; the sums as int32."""
    return _integer(node, values, -1, multiply, capture)


def _integer(node: Node, values: Sequence[Value], axis: int, sums_of: _Sums, capture: Capture) -> tuple[Value, ...]:
    """Return the exact sums of two operands and their zero points, lists of which lie along -2 and along `axis`."""
    x, weight = (
        Operand(node.inputs[at], integers(values[at], optional(values, at + 2), node.inputs[at], INTEGER, shape))
        for at, shape in ((0, along(-2, _axes(values[0]))), (1, along(axis, _axes(values[1]))))
    )
    sums = sums_of(node, x, weight, capture)
    if not sums.exact:
        raise InputError("both operands must have one zero point")
    return (sums.value.astype(np.int32),)


def _operands(node: Node, values: Sequence[Value], places: tuple[int, int]) -> tuple[Operand, Operand]:
    first, second = (Operand(node.inputs[at], values[at]) for at in places)
    return first, second


def _gemm_operands(node: Node, values: Sequence[Value], places: tuple[int, int]) -> tuple[Operand, Operand]:
    """Return a Gemm's operands, transposed where it says so."""
    for name in ("alpha", "beta"):
        if node.attribute(name, 1.0) != 1:
            raise InputError(f"{name} must be 1, not {node.attribute(name, 1.0)}")
    found = []
    for at, name in zip(places, ("transA", "transB"), strict=True):
        value = values[at]
        if node.attribute(name, 0):
            value = value.moved(np.transpose) if isinstance(value, Codes) else real(value).T
        found.append(Operand(node.inputs[at], value))
    return found[0], found[1]


def _quantized(node: Node, values: Sequence[Value], at: int, shape: tuple[int, ...]) -> Operand:
    """Return an operand that stands beside its scale and zero point."""
    name = node.inputs[at]
    return Operand(name, as_codes(values[at], values[at + 1], values[at + 2], name, QLINEAR, shape or None))


def _with_bias(node: Node, sums: Sums, bias: Value, capture: Capture) -> Sums:
    if bias is None:
        return sums
    if isinstance(bias, Codes) or bias.dtype.kind != "i":
        raise InputError("the bias must be integers")
    if sums.across and bias.size > 1:
        raise InputError("the bias of a product whose weights stand on the left must be one number")
    return add_bias(node, sums, bias, capture)


def _requantized(sums: Sums, scale: Value, zero_point: Value) -> np.ndarray:
    """Return the codes of the next tensor: `multiplier = scale of the sums / scale of y`, in float32."""
    if not sums.exact or sums.scale is None:
        raise InputError("both operands must have one scale and one zero point, or some of output channels")
    dtype = real(zero_point).dtype
    ends = element_range(dtype, "the output")
    multiplier = sums.scale.reshape(sums.beside) / checked_scale(scale, "the scale of the output")
    points = checked_zero_point(zero_point, "the zero point of the output")
    return whole(requantize(multiplier, points, *ends), sums.value, dtype)


def _axes(value: Value) -> int:
    return 0 if value is None else len(value.shape)
