"""The table of all operators that are evaluated, and the loop that does it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import numpy as np

from factory.readers.onnx import floats, linear, moves, pools, qlinear, quantizers
from factory.readers.onnx.codes import Codes, Value
from factory.readers.onnx.graph import Graph, Node
from factory.readers.onnx.layers import Capture
from factory.spec import InputError

Operator = Callable[[Node, Sequence[Value], Capture], tuple[Value, ...]]
_DYNAMIC = ("DynamicQuantizeLinear", "com.microsoft.DynamicQuantizeMatMul", "com.microsoft.DynamicQuantizeLSTM")
_FLOAT_QUANT = ("qonnx.FloatQuant",)
OPERATORS: dict[str, Operator] = {
    "Conv": linear.conv,
    "Gemm": linear.gemm,
    "MatMul": linear.matmul,
    "ConvInteger": linear.conv_integer,
    "MatMulInteger": linear.matmul_integer,
    "QLinearConv": linear.qlinear_conv,
    "QLinearMatMul": linear.qlinear_matmul,
    "com.microsoft.QGemm": linear.qgemm,
    "QuantizeLinear": quantizers.quantize_linear_node,
    "DequantizeLinear": quantizers.dequantize_linear,
    "qonnx.Quant": quantizers.quant_node,
    "qonnx.IntQuant": quantizers.quant_node,
    "qonnx.BipolarQuant": quantizers.bipolar_quant,
    "qonnx.Trunc": quantizers.trunc,
    "qonnx.MultiThreshold": quantizers.multi_threshold,
    "MaxPool": pools.max_pool,
    "GlobalMaxPool": pools.global_max_pool,
    "AveragePool": pools.average_pool,
    "GlobalAveragePool": pools.global_average_pool,
    "com.microsoft.QLinearAveragePool": pools.qlinear_average_pool,
    "com.microsoft.QLinearGlobalAveragePool": pools.qlinear_global_average_pool,
    "com.microsoft.QLinearAdd": qlinear.add,
    "com.microsoft.QLinearMul": qlinear.multiply,
    "com.microsoft.QLinearConcat": qlinear.concat,
    "com.microsoft.QLinearLeakyRelu": qlinear.unary("LeakyRelu"),
    "com.microsoft.QLinearSigmoid": qlinear.unary("Sigmoid"),
    "com.microsoft.QLinearSoftmax": qlinear.softmax,
    "Relu": floats.relu,
    "Clip": floats.clip,
    "BatchNormalization": floats.normalize_batch,
    "LayerNormalization": floats.normalize_layer,
    "LRN": floats.normalize_locally,
    "PRelu": floats.prelu,
    "Pow": floats.power,
    "Softmax": floats.softmax,
    "Identity": moves.identity,
    "Dropout": moves.identity,
    "Concat": moves.concat,
    "Pad": moves.pad,
    "Resize": moves.resize,
    "Upsample": moves.resize,
    **dict.fromkeys(("ReduceMean", "ReduceSum", "ReduceMax"), floats.reduce),
    **dict.fromkeys(floats.UNARY, floats.unary),
    **dict.fromkeys(floats.BINARY, floats.binary),
    **dict.fromkeys(moves.MOVES, moves.move),
    **dict.fromkeys(moves.EXACT, moves.exact),
}
"""What each operator makes of the values of its inputs."""
_KEEP_SIGNS = (
    *("Add", "Mul", "Div", "Concat", "MaxPool", "AveragePool", "GlobalAveragePool", "ReduceMean", "Reshape", "Flatten"),
    *("Identity", "Transpose", "Squeeze"),
)
"""Operators whose output is 0 or more where all inputs are."""


def check_operators(graph: Graph) -> None:
    """Raise InputError for a node that quantizes dynamically, or that a layer needs and that is not evaluated."""
    for node in graph.nodes:
        if node.op in _DYNAMIC:
            raise InputError(f"{node.where}: quantization must be static, not dynamic: its scale follows the input")
    for node in graph.needed():
        if node.op in _FLOAT_QUANT:
            raise InputError(f"{node.where}: quantization must be to integers, not to floats")
        if node.op not in OPERATORS:
            raise InputError(f"{node.where}: a layer depends on the operator {node.op}, which is not known")


def evaluate_nodes(nodes: Iterable[Node], values: dict[str, Value], capture: Capture) -> None:
    """Evaluate nodes in their order and add their outputs to `values`; raise InputError that names the node."""
    for node in nodes:
        given = [values[name] if name else None for name in node.inputs]
        try:
            with np.errstate(all="ignore"):  # infinities are legal on the way to a clip
                outputs = OPERATORS[node.op](node, given, capture)
        except InputError as error:
            raise InputError(f"{node.where}: {error}") from None
        except (ValueError, IndexError, TypeError, AttributeError, ArithmeticError) as error:
            # An operand that is missing, or of another shape or type than the operator takes.
            raise InputError(f"{node.where}: its inputs must suit it: {' '.join(str(error).split())}") from error
        for name, value in zip(node.outputs, outputs, strict=False):
            values[name] = np.asarray(value) if isinstance(value, np.generic) else value
            if _never_negative(node, value, values, capture):
                capture.never_negative.add(name)


def _never_negative(node: Node, value: Value, values: dict[str, Value], capture: Capture) -> bool:
    """Return whether an output is 0 or more for every input of the model, as far as the operators say."""
    if isinstance(value, Codes):
        return not value.signed and not value.zero_point.any()
    operands = node.inputs[:1] if node.op in moves.MOVES else node.inputs
    constants = [values[name] for name in operands if name and name not in capture.varying]
    inputs = [name for name in operands if name in capture.varying]
    if node.op not in _KEEP_SIGNS or not capture.never_negative.issuperset(inputs):
        return node.op in ("Relu", "Sigmoid")
    return all((each.real() if isinstance(each, Codes) else each).min(initial=0) >= 0 for each in constants)
