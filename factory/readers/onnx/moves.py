"""Operators that move or take elements and compute nothing: on codes, on real values and on shapes alike."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from factory.readers.onnx.codes import Codes, Value, real
from factory.readers.onnx.graph import Node
from factory.readers.onnx.layers import Capture
from factory.spec import InputError

MOVES = (
    *("Reshape", "Flatten", "Transpose", "Squeeze", "Unsqueeze", "Slice", "Gather", "GatherElements", "GatherND"),
    *("Split", "Expand", "Tile", "DepthToSpace", "SpaceToDepth"),
)
"""Operators that place the elements of their first input anew."""
EXACT = (
    *("Shape", "Size", "Constant", "ConstantOfShape", "Range", "Where", "Equal", "Greater", "GreaterOrEqual", "Less"),
    *("LessOrEqual", "Not", "And", "Or", "NonZero", "Cast"),
)
"""Operators on any elements that round nothing, or once."""


def by_reference(node: Node, arrays: Sequence[np.ndarray | None]) -> tuple[np.ndarray, ...]:
    """Return what the package onnx's own evaluator makes of arrays: for operators that round nothing, or once."""
    fed = {name: array for name, array in zip(node.inputs, arrays, strict=True) if name}
    try:
        return tuple(np.asarray(each) for each in node.evaluator.run(None, fed))
    except Exception as error:  # the evaluator has no exceptions of its own: it raises what its operators do
        raise InputError(f"its inputs and attributes must suit it: {' '.join(str(error).split())}") from error


def move(node: Node, values: Sequence[Value], capture: Capture) -> tuple[Value, ...]:
    """Place the elements of the first input anew; codes stay codes."""
    first, *others = values
    rest = [None if each is None else real(each) for each in others]
    if not isinstance(first, Codes):
        return by_reference(node, [first, *rest])
    return tuple(
        first.moved(lambda array, at=at: by_reference(node, [array, *rest])[at]) for at in range(len(node.outputs))
    )


def exact(node: Node, values: Sequence[Value], capture: Capture) -> tuple[Value, ...]:
    """Evaluate an operator that rounds nothing, or once, on real values."""
    if node.op == "Cast" and isinstance(values[0], Codes) and node.attribute("to", 1) == 1:
        return (values[0],)
    if node.op == "Shape":
        return by_reference(node, [np.empty(values[0].shape, np.int8)])
    return by_reference(node, [None if each is None else real(each) for each in values])


def identity(node: Node, values: Sequence[Value], capture: Capture) -> tuple[Value, ...]:
    """Identity, and Dropout, which drops nothing outside training."""
    return (values[0],)


def concat(node: Node, values: Sequence[Value], capture: Capture) -> tuple[Value, ...]:
    """Concat: codes of one grid stay codes."""
    axis, (first, *others) = node.attribute("axis", 1), values
    if isinstance(first, Codes) and all(isinstance(each, Codes) and first.same_grid(each) for each in others):
        return (first.moved(lambda code: np.concatenate([code, *(each.code for each in others)], axis)),)
    return (np.concatenate([real(each) for each in values], axis),)


def pad(node: Node, values: Sequence[Value], capture: Capture) -> tuple[Value, ...]:
    """Pad: a border of one value, of the nearest elements, or mirrored; codes stay codes where the value has a code."""
    x, inputs = values[0], [*values[1:], None, None, None]
    pads = real(inputs[0]) if inputs[0] is not None else np.array(node.attribute("pads", ()), np.int64)
    value = float(real(inputs[1]).item()) if inputs[1] is not None else node.attribute("value", 0.0)
    axes = range(len(x.shape)) if inputs[2] is None else [int(axis) % len(x.shape) for axis in real(inputs[2])]
    sides = [(0, 0)] * len(x.shape)
    for axis, before, after in zip(axes, pads[: len(axes)], pads[len(axes) :], strict=True):
        sides[axis] = (int(before), int(after))
    if min(map(min, sides)) < 0:
        raise InputError(f"pads must be at least 0, not {min(map(min, sides))}")
    mode = node.attribute("mode", "constant")
    if mode not in ("constant", "reflect", "edge", "wrap"):
        raise InputError(f"the mode of Pad must be constant, reflect, edge or wrap, not {mode}")
    if mode != "constant":
        return (x.moved(lambda array: np.pad(array, sides, mode)) if isinstance(x, Codes) else np.pad(x, sides, mode),)
    if isinstance(x, Codes):
        border = _code_of(value, x)
        if border is not None:
            return (x.moved(lambda array: np.pad(array, sides, constant_values=border)),)
    return (np.pad(real(x), sides, constant_values=value),)


def _code_of(value: float, codes: Codes) -> int | None:
    """Return the code that stands for a value, if there is one that does exactly, and one grid."""
    if codes.scale is None or codes.scale.ndim or codes.zero_point.ndim:
        return None
    code = float(np.rint(value / float(codes.scale))) + int(codes.zero_point)
    low, high = codes.range
    return int(code) if low <= code <= high and (code - int(codes.zero_point)) * float(codes.scale) == value else None


_PLACES: dict[str, Callable[[np.ndarray, float, int], np.ndarray]] = {
    "asymmetric": lambda at, scale, size: at / scale,
    "half_pixel": lambda at, scale, size: (at + 0.5) / scale - 0.5,
    "pytorch_half_pixel": lambda at, scale, size: (at + 0.5) / scale - 0.5 if len(at) > 1 else 0 * at,
    "tf_half_pixel_for_nn": lambda at, scale, size: (at + 0.5) / scale,
    "align_corners": lambda at, scale, size: at * (size - 1) / (len(at) - 1) if len(at) > 1 else 0 * at,
}
_NEAREST: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "round_prefer_floor": lambda at: np.ceil(at - 0.5),
    "round_prefer_ceil": lambda at: np.floor(at + 0.5),
    "floor": np.floor,
    "ceil": np.ceil,
}


def resize(node: Node, values: Sequence[Value], capture: Capture) -> tuple[Value, ...]:
    """Resize, and Upsample before it, to the nearest element; codes stay codes."""
    x, inputs = values[0], [None if value is None else real(value) for value in values[1:]]
    old = node.op == "Upsample" or node.opset < 11
    if node.attribute("mode", "nearest") != "nearest" or node.attribute("axes", None):
        raise InputError(f"a map must be resized to the nearest element, on all axes, not {node.attribute('mode', '')}")
    place = node.attribute("coordinate_transformation_mode", "asymmetric" if old else "half_pixel")
    nearest = node.attribute("nearest_mode", "floor" if old else "round_prefer_floor")
    if place not in _PLACES or nearest not in _NEAREST:
        raise InputError(f"a map must be resized by {' '.join((*_PLACES, *_NEAREST))}, not {place} {nearest}")
    scales = inputs[0] if old else inputs[1]
    if scales is None or not scales.size:
        sizes = [int(size) for size in inputs[2]]
        ratios = [out / size for out, size in zip(sizes, x.shape, strict=True)]
    else:
        ratios = [float(ratio) for ratio in scales]
        sizes = [int(size * ratio) for size, ratio in zip(x.shape, ratios, strict=True)]

    def taken(array: np.ndarray) -> np.ndarray:
        for axis, (out, ratio) in enumerate(zip(sizes, ratios, strict=True)):
            size = array.shape[axis]
            at = _NEAREST[nearest](_PLACES[place](np.arange(out), ratio, size))
            array = array.take(np.clip(at, 0, size - 1).astype(np.int64), axis)
        return array

    return (x.moved(taken) if isinstance(x, Codes) else taken(real(x)),)
