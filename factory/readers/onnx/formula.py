"""Formulas between integers: tuples of elementary float32 steps, and the one function that runs them.

Each step is one IEEE 754 operation rounded to float32 (the roundings to whole numbers of QONNX take up to three), in a
fixed order, so a formula gives the same bits on every machine. Integers that enter are rounded to float32 once.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Integer, Shaped

from factory.spec import InputError

Numbers = np.ndarray | np.generic
"""Scales or zero points, one (as an array without axes, or NumPy's scalar) or many."""
_HALF = np.float32(0.5)
STEPS: dict[str, Callable[..., np.ndarray]] = {
    "add": np.add,
    "subtract": np.subtract,
    "multiply": np.multiply,
    "divide": np.divide,
    "maximum": np.maximum,
    "minimum": np.minimum,
    "sign": lambda x: np.where(x >= 0, np.float32(1), np.float32(-1)),
    "half even": np.rint,
    "ceil": np.ceil,
    "floor": np.floor,
    "up": lambda x: np.sign(x) * np.ceil(np.abs(x)),
    "down": np.trunc,
    "half up": lambda x: np.sign(x) * np.floor(np.abs(x) + _HALF),
    "half down": lambda x: np.sign(x) * np.ceil(np.abs(x) - _HALF),
}
ROUNDING = {
    "ROUND": "half even",
    "HALF_EVEN": "half even",
    "CEIL": "ceil",
    "FLOOR": "floor",
    "UP": "up",
    "DOWN": "down",
    "ROUND_TO_ZERO": "down",
    "HALF_UP": "half up",
    "HALF_DOWN": "half down",
}
"""QONNX's names of rounding modes."""


@dataclass(frozen=True)
class Step:
    """One operation of `STEPS` on every element, and what it takes beside it: an array that broadcasts, or nothing."""

    name: str
    operand: Float32[np.ndarray, "*any"] | None = None


Formula = tuple[Step, ...]


def step(name: str, operand: Numbers | float | int) -> Step:
    """Return a step whose operand is a float32 array."""
    return Step(name, np.asarray(operand, np.float32))


def evaluate(formula: Formula, values: Shaped[np.ndarray, "*any"]) -> Float32[np.ndarray, "*shape"]:
    """Return what a formula makes of values, real or integer."""
    result = np.asarray(values).astype(np.float32)
    for each in formula:
        operands = () if each.operand is None else (each.operand,)
        result = STEPS[each.name](result, *operands)
    return np.asarray(result)


def whole(
    formula: Formula, values: Shaped[np.ndarray, "*any"], dtype: np.dtype | type
) -> Integer[np.ndarray, "*shape"]:
    """Return the integers that a formula makes of values; raise InputError where one is not a number."""
    result = evaluate(formula, values)
    if np.isnan(result).any():
        raise InputError("what is quantized must be numbers, not nan")
    limits = np.iinfo(dtype)  # a clip to 31 bits is one to 2**31 in float32
    return np.clip(result.astype(np.int64), limits.min, limits.max).astype(dtype)


def quantize_linear(scale: Numbers, zero_point: Numbers, low: int, high: int) -> Formula:
    """Return ONNX's QuantizeLinear: `saturate(round(x / scale) + zero_point)`, half to even."""
    return (step("divide", scale), *_saturated(zero_point, low, high))


def requantize(multiplier: Numbers, zero_point: Numbers, low: int, high: int) -> Formula:
    """Return the formula of QLinear operators: one multiplier, `saturate(round(sum * multiplier) + zero_point)`."""
    return (step("multiply", multiplier), *_saturated(zero_point, low, high))


def _saturated(zero_point: Numbers, low: int, high: int) -> Formula:
    return (Step("half even"), step("add", zero_point), step("maximum", low), step("minimum", high))


def quant(scale: Numbers, zero_point: Numbers, low: int, high: int, rounding: str) -> Formula:
    """Return QONNX's Quant: `round(clip(x / scale + zero_point))`."""
    clip = (step("minimum", high), step("maximum", low))
    return (step("divide", scale), step("add", zero_point), *clip, Step(rounding))


def batch_norm(gamma: np.ndarray, beta: np.ndarray, mean: np.ndarray, var: np.ndarray, eps: float) -> Formula:
    """Return batch normalization by stored statistics: `(x - mean) / sqrt(var + eps) * gamma + beta`."""
    spread = np.sqrt(var.astype(np.float32) + np.float32(eps))
    return (step("subtract", mean), step("divide", spread), step("multiply", gamma), step("add", beta))
