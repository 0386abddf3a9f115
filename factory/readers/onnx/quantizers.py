"""The operators that quantize: ONNX's own two, and QONNX's Quant, BipolarQuant, Trunc and MultiThreshold."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from factory.arithmetic.bits import code_dtype, field_range
from factory.quant.grid import grid_codes
from factory.readers.onnx.codes import (
    Codes,
    Value,
    along,
    as_codes,
    checked_scale,
    checked_zero_point,
    element_range,
    optional,
    real,
)
from factory.readers.onnx.formula import ROUNDING, Step, evaluate, quant, quantize_linear, step, whole
from factory.readers.onnx.graph import Node
from factory.readers.onnx.layers import Capture
from factory.spec import InputError

QDQ = "QDQ (multiply, then divide)"
QONNX = "QONNX ({})"
_DATATYPE = re.compile(r"(U?INT)(\d+)|BIPOLAR|BINARY|TERNARY")


def constant_grid(node: Node, places: Sequence[int], capture: Capture) -> None:
    """Raise InputError where a scale, zero point or width is computed from the model's input."""
    for at in places:
        if at < len(node.inputs) and node.inputs[at] in capture.varying:
            raise InputError(f"quantization must be static: {node.inputs[at]} is computed from an input")


def quantize_linear_node(node: Node, values: Sequence[Value], capture: Capture) -> tuple[Value, ...]:
    """QuantizeLinear: an array of integers."""
    constant_grid(node, (1, 2), capture)
    x = real(values[0])
    zero_point = optional(values, 2)
    dtype = np.dtype(np.uint8) if zero_point is None else zero_point.dtype
    if zero_point is None and node.attribute("output_dtype", 0):
        from onnx import helper

        dtype = np.dtype(helper.tensor_dtype_to_np_dtype(node.attribute("output_dtype", 0)))
    if node.attribute("precision", 0) not in (0, 1) or node.attribute("block_size", 0):
        raise InputError("QuantizeLinear must divide in float32, and have no blocks")
    shape = along(node.attribute("axis", 1), x.ndim)
    scale = checked_scale(values[1], f"the scale {node.inputs[1]}", shape)
    points = checked_zero_point(zero_point, "the zero point", shape)
    low, high = element_range(dtype, node.outputs[0])
    return (whole(quantize_linear(scale, points, low, high), x, np.int64).astype(dtype),)


def dequantize_linear(node: Node, values: Sequence[Value], capture: Capture) -> tuple[Value, ...]:
    """DequantizeLinear: `(x - zero_point) * scale`, known as codes."""
    constant_grid(node, (1, 2), capture)
    if node.attribute("block_size", 0):
        raise InputError("DequantizeLinear must have no blocks")
    shape = along(node.attribute("axis", 1), len(values[0].shape))
    zero_point = optional(values, 2)
    return (as_codes(values[0], values[1], zero_point, node.inputs[0], QDQ, shape),)


def quant_node(node: Node, values: Sequence[Value], capture: Capture) -> tuple[Value, ...]:
    """Quant: x, scale, zero point, bit width; one signed bit is -1 or +1."""
    constant_grid(node, (1, 2, 3), capture)
    x = real(values[0])
    scale = checked_scale(values[1], f"the scale {node.inputs[1]}")
    points = checked_zero_point(values[2], f"the zero point {node.inputs[2]}")
    bits, signed = _bits(values[3], node.inputs[3]), bool(node.attribute("signed", 1))
    rounding = _rounding(node, "ROUND")
    if bits == 1 and signed:
        codes = whole((step("divide", scale), step("add", points), Step("sign")), x, np.int8)
        return (Codes(codes, scale, points, 2, True, QONNX.format("Quant of one signed bit")),)
    low, high = _narrow(bits, signed, node.attribute("narrow", 1))
    codes = whole(quant(scale, points, low, high, rounding), x, code_dtype(bits, signed))
    return (Codes(codes, scale, points, bits, signed, QONNX.format(f"Quant, {rounding}")),)


def bipolar_quant(node: Node, values: Sequence[Value], capture: Capture) -> tuple[Value, ...]:
    """BipolarQuant: +1 where x is 0 or more, else -1."""
    constant_grid(node, (1,), capture)
    scale = checked_scale(values[1], f"the scale {node.inputs[1]}")
    codes = whole((Step("sign"),), real(values[0]), np.int8)
    return (Codes(codes, scale, np.zeros((), np.int64), 2, True, QONNX.format("BipolarQuant")),)


def trunc(node: Node, values: Sequence[Value], capture: Capture) -> tuple[Value, ...]:
    """Trunc: the nearest code of the first grid, less its low bits.

    Version 1 has five inputs (x, scale, zero point, bits, bits left) and keeps the scale; it says no sign, so codes are
    unsigned where x cannot be negative. Version 2 has the scale of its output before the bits left, and clips.
    """
    constant_grid(node, range(1, len(node.inputs)), capture)
    scale = checked_scale(values[1], f"the scale {node.inputs[1]}")
    points = checked_zero_point(values[2], f"the zero point {node.inputs[2]}")
    rounding, bits = _rounding(node, "FLOOR"), _bits(values[-1], node.inputs[-1])
    nearest = (step("divide", scale), step("add", points), Step("half even"))
    words = QONNX.format(f"Trunc, {rounding}")
    x = values[0]
    if len(values) == 5:
        shift = _bits(values[3], node.inputs[3]) - bits
        formula = (*nearest, step("divide", 2.0**shift), Step(rounding))
        codes = whole(formula, real(x), np.int64)
        signed = bool(points.any()) or node.inputs[0] not in capture.never_negative
        return (_in_range(Codes(codes, scale, points, bits, signed, words), node.outputs[0]),)
    out_scale = checked_scale(values[4], f"the scale {node.inputs[4]}")
    ratio = np.float32(2) ** np.rint(np.log2(out_scale.astype(np.float64) / scale)).astype(np.float32)
    signed = bool(node.attribute("signed", 1))
    low, high = _narrow(bits, signed, node.attribute("narrow", 0))
    clip = (step("minimum", high), step("maximum", low))
    codes = whole((*nearest, step("divide", ratio), *clip, Step(rounding)), real(x), code_dtype(bits, signed))
    left = checked_zero_point(np.asarray(points.astype(np.float32) / ratio), "the zero point after Trunc")
    return (Codes(codes, out_scale, left, bits, signed, words),)


def multi_threshold(node: Node, values: Sequence[Value], capture: Capture) -> tuple[Value, ...]:
    """MultiThreshold: how many of its channel's thresholds x reaches, times `out_scale`, plus `out_bias`."""
    layout, x = node.attribute("data_layout", ""), real(values[0])
    axis = x.ndim - 1 if layout in ("NHWC", "NWC") else min(1, x.ndim - 1)
    thresholds = real(values[1]).astype(np.float32)
    counts = np.zeros(x.shape, np.float32)
    for level in thresholds.T:
        counts += x >= level.reshape(along(axis, x.ndim) if level.size > 1 else (1,) * x.ndim)
    scaled = (step("multiply", node.attribute("out_scale", 1.0)), step("add", node.attribute("out_bias", 0.0)))
    result = evaluate(scaled, counts)
    return (annotated(result, node.attribute("out_dtype", ""), node.outputs[0], QONNX.format("MultiThreshold")),)


def annotated(x: np.ndarray, datatype: str, name: str, formula: str) -> Value:
    """Return a float tensor as the codes that QONNX's annotation of a datatype says it holds, else itself.

    Raise InputError where one is not on the grid of whole numbers, or out of the range.
    """
    match = _DATATYPE.fullmatch(datatype)
    if not match:
        return x
    bits, signed = (int(match[2]), match[1] == "INT") if match[2] else (1, False) if datatype == "BINARY" else (2, True)
    one = np.ones((), np.float32)
    return _in_range(Codes(grid_codes(name, x, one), one, np.zeros((), np.int64), bits, signed, formula), name)


def _in_range(codes: Codes, name: str) -> Codes:
    low, high = codes.range
    worst = codes.code.min() if codes.code.min() < low else codes.code.max()
    if not low <= worst <= high:
        raise InputError(f"codes of {name} must be {low} to {high}, not {worst}")
    return replace(codes, code=codes.code.astype(code_dtype(codes.bits, codes.signed)))


def _narrow(bits: int, signed: bool, narrow: int) -> tuple[int, int]:
    """Return the least and largest code; a narrow range lacks the least where it has a sign, else the largest."""
    low, high = field_range(bits, signed)
    return (low + bool(narrow), high) if signed else (low, high - bool(narrow))


def _bits(value: Value, name: str) -> int:
    bits = real(value)
    if bits.size != 1 or not 1 <= bits.item() <= 32 or bits.item() != int(bits.item()):
        raise InputError(f"the bit width {name} must be a whole number, 1 to 32, not {bits.reshape(-1)[0]}")
    return int(bits.item())


def _rounding(node: Node, default: str) -> str:
    mode = str(node.attribute("rounding_mode", default)).upper()
    if mode not in ROUNDING:
        raise InputError(f"rounding_mode must be one of {' '.join(ROUNDING)}, not {mode}")
    return ROUNDING[mode]
