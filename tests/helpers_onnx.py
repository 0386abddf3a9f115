"""Small ONNX models, made node by node, and plain loops over what they compute."""

from pathlib import Path

import numpy as np
import pytest

from factory.readers.onnx.graph import load_graph
from factory.readers.onnx.layers import Capture
from factory.readers.onnx.operators import evaluate_nodes

onnx = pytest.importorskip("onnx", reason="needs onnx: pip install 'factory[onnx]'")
TensorProto, helper, numpy_helper = onnx.TensorProto, onnx.helper, onnx.numpy_helper
QONNX = "qonnx.custom_op.general"
MICROSOFT = "com.microsoft"


class ModelMaker:
    """A graph that grows; names of constants are made up."""

    def __init__(self, opset: int = 13):
        self.opset, self.nodes, self.constants, self.inputs = opset, [], [], []

    def input(self, name: str, shape: list, element: int = TensorProto.FLOAT) -> str:
        self.inputs.append(helper.make_tensor_value_info(name, element, shape))
        return name

    def constant(self, array: np.ndarray, name: str = "") -> str:
        name = name or f"c{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(array), name))
        return name

    def node(self, op: str, *inputs, domain: str = "", name: str = "", **attributes) -> str:
        """Add a node and return its output; arrays become constants, None an input that is left out."""
        named = [each if isinstance(each, str) else "" if each is None else self.constant(each) for each in inputs]
        output = f"t{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, named, [output], name=name, domain=domain, **attributes))
        return output

    def quant(self, x, scale, bits=4, zero_point=0.0, **attributes) -> str:
        grid = (np.float32(each) for each in (scale, zero_point, bits))
        return self.node("Quant", x, *grid, domain=QONNX, **(dict(signed=1, narrow=0) | attributes))

    def model(self) -> onnx.ModelProto:
        """Return the model, whose output is that of the last node."""
        graph = helper.make_graph(self.nodes, "graph", self.inputs, [], self.constants)
        opsets = [helper.make_opsetid("", self.opset), helper.make_opsetid(QONNX, 1), helper.make_opsetid(MICROSOFT, 1)]
        model = helper.make_model(graph, opset_imports=opsets, ir_version=8)
        inferred = onnx.shape_inference.infer_shapes(model).graph.value_info
        types = {each.name: each for each in inferred if each.type.tensor_type.HasField("shape")}
        last = self.nodes[-1].output[0]
        model.graph.output.append(types.get(last, helper.make_tensor_value_info(last, TensorProto.FLOAT, ["any"])))
        return model

    def save(self, path: Path) -> Path:
        onnx.save(self.model(), path)
        return path


def all_values(path: Path, inputs: dict[str, np.ndarray]) -> dict:
    """Return the reader's value of every tensor of a model, for one run over all of the images."""
    graph = load_graph(path)
    values = graph.constants | inputs
    capture = Capture(graph.layers, graph.varying, images=len(next(iter(inputs.values()))))
    evaluate_nodes(graph.nodes, values, capture)
    return values


def runtime_values(path: Path, inputs: dict[str, np.ndarray], names: list[str]) -> list[np.ndarray]:
    """Return onnxruntime's values of some tensors of a model, without its optimizer."""
    import onnxruntime

    model = onnx.load(path)
    del model.graph.output[:]
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(model.SerializeToString(), options).run(names, inputs)


def plain_sums(layer) -> np.ndarray:
    """Return `sum(weight * (activation - zero_point))` of a coded layer, int64 `(image, oc, oy, ox)`, tap by tap."""
    spec, weight = layer.spec, layer.weight.astype(int)
    top, left, bottom, right = spec.padding
    centred = layer.activation.astype(int) - spec.zero_point
    padded = np.pad(centred, ((0, 0), (0, 0), (top, bottom), (left, right)))
    sums = np.zeros((len(centred), spec.out_channels, spec.out_height, spec.out_width), int)
    for oy in range(spec.out_height):
        for ox in range(spec.out_width):
            for ki in range(spec.kernel[0]):
                for kj in range(spec.kernel[1]):
                    y, x = oy * spec.stride[0] + ki * spec.dilation[0], ox * spec.stride[1] + kj * spec.dilation[1]
                    sums[:, :, oy, ox] += np.einsum("oi,ni->no", weight[:, :, ki, kj], padded[:, :, y, x])
    return sums
