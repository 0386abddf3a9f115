"""An ONNX file as plain records: nodes in order, constants, what changes with the image, and the layers' names."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from factory.spec import GIVEN, IMAGE, InputError

LAYERS = (
    *("Conv", "Gemm", "MatMul", "ConvInteger", "MatMulInteger", "QLinearConv", "QLinearMatMul"),
    "com.microsoft.QGemm",
)
"""Operators that can be an integer layer."""
_MICROSOFT = ("FusedConv", "FusedGemm", "FusedMatMul", "MatMulIntegerToFloat", "MatMulNBits", "Attention", "QAttention")
NO_LAYERS = (
    *("ConvTranspose", "DeformConv", "Einsum", "RNN", "LSTM", "GRU", "qonnx.Conv"),
    *(f"com.microsoft.{name}" for name in _MICROSOFT),
)
"""Operators that multiply and add like a layer, and are not taken: they are named, that none is left out in silence."""
_QONNX = ("qonnx.", "finn.", "onnx.brevitas")
_PLAIN = ("com.microsoft.QuantizeLinear", "com.microsoft.DequantizeLinear")


@dataclass(frozen=True, eq=False)
class Node:
    """One operation. `op` has its domain before it, but for ONNX's own; all domains of QONNX are `qonnx`."""

    op: str
    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Any]
    opset: int
    proto: Any = field(repr=False)

    @cached_property
    def evaluator(self) -> Any:
        """The package onnx's own evaluator of this node alone."""
        from onnx import TensorProto, helper
        from onnx.reference import ReferenceEvaluator

        ends = [
            [helper.make_tensor_value_info(name, TensorProto.UNDEFINED, None) for name in names if name]
            for names in (dict.fromkeys(self.inputs), self.outputs)
        ]
        graph = helper.make_graph([self.proto], "node", *ends)
        return ReferenceEvaluator(helper.make_model(graph, opset_imports=[helper.make_opsetid("", self.opset)]))

    @property
    def where(self) -> str:
        """What messages call the node: its name, or its output's where it has none, and its operation."""
        return f"node {self.name or self.outputs[0]} ({self.op.rpartition('.')[2]})"

    def attribute(self, name: str, default: Any) -> Any:
        """Return an attribute, bytes as a string."""
        value = self.attributes.get(name, default)
        return value.decode(errors="replace") if isinstance(value, bytes) else value


@dataclass(frozen=True)
class Graph:
    """A model's nodes in the order of their execution, and what is known before it.

    - `inputs`: the element type and the shape of each input that is no constant; a size is a number, a symbol, or None.
    - `varying`: the tensors that depend on an input. `layers`: the names of the layers by the node's first output.
    - `datatypes`: FINN's annotations of tensors whose float values are integers, such as `INT4`.
    """

    nodes: tuple[Node, ...]
    inputs: Mapping[str, tuple[str, tuple[int | str | None, ...] | None]]
    constants: Mapping[str, np.ndarray]
    varying: frozenset[str]
    layers: Mapping[str, str]
    datatypes: Mapping[str, str]
    opset: int

    def needed(self) -> tuple[Node, ...]:
        """Return the nodes that the layers follow from, and the layers."""
        kept, wanted = [], {node.outputs[0] for node in self.nodes if node.op in LAYERS}
        for node in reversed(self.nodes):
            if not wanted.isdisjoint(node.outputs):
                kept.append(node)
                wanted.update(node.inputs)
        return tuple(reversed(kept))


def load_graph(path: Path) -> Graph:
    """Return the graph of an ONNX file; raise InputError where it is none, or lacks a part of its data."""
    model = _load(path)
    try:
        return _graph(model.graph, {each.domain or "ai.onnx": each.version for each in model.opset_import})
    except (ValueError, TypeError) as error:  # bytes that are no text, data that does not fill a shape
        raise InputError(f"{path} must be a valid ONNX file: {_one_line(error)}") from None


def _graph(graph: Any, opsets: Mapping[str, int]) -> Graph:
    if graph.sparse_initializer:
        raise InputError(f"{graph.sparse_initializer[0].values.name}: initializers must be dense, not sparse")
    nodes = tuple(_node(proto, opsets) for proto in graph.node)
    constants = {tensor.name: _array(tensor) for tensor in graph.initializer}
    inputs = {each.name: _type(each.type.tensor_type) for each in graph.input if each.name not in constants}
    return Graph(
        nodes,
        inputs,
        constants,
        varying(nodes, inputs),
        layer_names(nodes),
        {
            each.tensor_name: pair.value
            for each in graph.quantization_annotation
            for pair in each.quant_parameter_tensor_names
            if pair.key == "finn_datatype"
        },
        opsets.get("ai.onnx", 1),
    )


def _load(path: Path) -> Any:
    try:
        import onnx
        from onnx.inliner import inline_local_functions
    except ImportError:
        raise InputError("reading ONNX needs the package onnx: pip install 'factory[onnx]'") from None
    from google.protobuf.message import DecodeError

    try:
        model = onnx.load(path)
        domains = {each.domain for each in model.opset_import}
        for domain in sorted({node.domain for node in model.graph.node} - domains - {"", "ai.onnx"}):
            model.opset_import.add(domain=domain, version=1)  # files of FINN lack them
        onnx.checker.check_model(model)
    except OSError as error:
        raise InputError(f"{path} must be an ONNX file: {error.strerror or error}") from None
    except (DecodeError, onnx.checker.ValidationError, ValueError) as error:
        raise InputError(f"{path} must be a valid ONNX file: {_one_line(error)}") from None
    return inline_local_functions(model) if model.functions else model


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())


def _node(proto: Any, opsets: Mapping[str, int]) -> Node:
    from onnx import helper

    op = f"{proto.domain}.{proto.op_type}" if proto.domain not in ("", "ai.onnx") else proto.op_type
    if op.startswith(_QONNX):
        op = f"qonnx.{proto.op_type}"
    return Node(
        proto.op_type if op in _PLAIN else op,
        proto.name,
        tuple(proto.input),
        tuple(proto.output),
        {each.name: helper.get_attribute_value(each) for each in proto.attribute},
        opsets.get(proto.domain or "ai.onnx", 1),
        proto,
    )


def _array(tensor: Any) -> np.ndarray:
    from onnx import numpy_helper

    return numpy_helper.to_array(tensor)


def _type(tensor: Any) -> tuple[str, tuple[int | str | None, ...] | None]:
    from onnx import helper

    element = str(np.dtype(helper.tensor_dtype_to_np_dtype(tensor.elem_type))) if tensor.elem_type else "unknown"
    if not tensor.HasField("shape"):
        return element, None
    sizes = (getattr(size, size.WhichOneof("value") or "", None) for size in tensor.shape.dim)
    return element, tuple(sizes)


def varying(nodes: Iterable[Node], inputs: Collection[str]) -> frozenset[str]:
    """Return the names of the tensors that depend on an input."""
    found = set(inputs)
    for node in nodes:
        if not found.isdisjoint(node.inputs):
            found.update(node.outputs)
    return frozenset(found)


def plain_name(text: str, default: str) -> str:
    """Return a text as a name of letters, digits, _ . and - alone; `default` where nothing is left of it."""
    return re.sub(r"[^A-Za-z0-9_.\-]+", "_", text).strip("_.-") or default


def layer_names(nodes: Iterable[Node]) -> dict[str, str]:
    """Return a name for each node that may be a layer, by its first output: unique, of letters, digits, _ . and -."""
    names: dict[str, str] = {}
    for node in nodes:
        if node.op in LAYERS or node.op in NO_LAYERS:
            name = plain_name(node.name or node.outputs[0], "layer")
            taken, count = {IMAGE, GIVEN, *names.values()}, 2
            unique = name
            while unique in taken:
                unique, count = f"{name}_{count}", count + 1
            names[node.outputs[0]] = unique
    return names
