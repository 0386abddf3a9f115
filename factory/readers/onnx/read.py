"""The reader: a model and its inputs give the codes of every integer layer."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

import factory
from factory.readers.onnx.codes import Value
from factory.readers.onnx.graph import LAYERS, NO_LAYERS, Graph, load_graph, plain_name
from factory.readers.onnx.layers import Capture
from factory.readers.onnx.operators import check_operators, evaluate_nodes
from factory.readers.onnx.quantizers import annotated
from factory.spec import CodedLayer, CodedNetwork, InputError


def read_onnx(path: Path, inputs: Mapping[str, np.ndarray] | np.ndarray) -> CodedNetwork:
    """Return the integer layers of an ONNX model, QLinear, QDQ or QONNX, and the codes that enter them.

    `inputs` has an array for each input of the model, by its name, or is the only one; axis 0 is the images. Sums are
    exact integers, codes follow from them by the format's own formula in elementary float32 steps. Raise InputError,
    one line with the node and the tensor, for what cannot be read so.
    """
    graph = load_graph(path)
    if not graph.layers:
        raise InputError(f"{path}: a model must have a layer, one of {' '.join(x.split('.')[-1] for x in LAYERS)}")
    notes: dict[str, None] = {}
    arrays = _inputs(graph, inputs, notes)
    capture = Capture(graph.layers, graph.varying, notes=notes)
    for node in graph.nodes:
        if node.op in NO_LAYERS:
            capture.skip(node, f"the operator {node.op} is not taken as a layer")
    _evaluate(graph, arrays, capture)
    if not capture.layers:
        name, reason = next(iter(capture.skipped.items()))
        others = f", and {len(capture.skipped) - 1} others" if len(capture.skipped) > 1 else ""
        raise InputError(f"{path}: a layer must have integer weights and a quantized input: {name}: {reason}{others}")
    count = len(next(iter(arrays.values())))
    return CodedNetwork(
        plain_name(path.stem, "onnx"),
        tuple(_layer(name, graph, capture) for name in graph.layers.values() if name in capture.layers),
        tuple(f"{' '.join(arrays)} {image}" for image in range(count)),
        capture.skipped,
        tuple(capture.notes),
    )


def _layer(name: str, graph: Graph, capture: Capture) -> CodedLayer:
    found = capture.layers[name]
    return CodedLayer(
        found.spec,
        found.weight,
        np.concatenate(capture.activations[name]),
        f"formulas of ONNX {graph.opset}, {found.formula}, in float32 steps of factory {factory.__version__}",
        found.bias,
        found.weight_scale,
        found.activation_scale,
    )


def _evaluate(graph: Graph, arrays: Mapping[str, np.ndarray], capture: Capture) -> None:
    """Run the nodes that the layers need: those of constants once, the others for one batch of the model at a time."""
    check_operators(graph)
    nodes = graph.needed()
    values: dict[str, Value] = {name: _known(graph, name, array) for name, array in graph.constants.items()}
    evaluate_nodes((node for node in nodes if not graph.varying & set(node.outputs)), values, capture)
    varying = [node for node in nodes if graph.varying & set(node.outputs)]
    capture.images = _batch(graph)
    for first in range(0, len(next(iter(arrays.values()))), capture.images):
        last = first + capture.images
        fed = {name: _known(graph, name, array[first:last]) for name, array in arrays.items()}
        evaluate_nodes(varying, values | fed, capture)


def _known(graph: Graph, name: str, array: np.ndarray) -> Value:
    """Return a constant or an input, as codes where the model annotates a float tensor as integers."""
    datatype = graph.datatypes.get(name, "")
    if array.dtype != np.float32 or not datatype:
        return array
    try:
        return annotated(array, datatype, name, f"QONNX (annotated {datatype})")
    except InputError as error:
        users = [node.where for node in graph.nodes if name in node.inputs]
        raise InputError(f"{users[0] if users else 'model'}: {error}") from None


def _batch(graph: Graph) -> int:
    """Return how many images the model takes at once: as its inputs say, or 1."""
    sizes = {shape[0] for _, shape in graph.inputs.values() if shape and isinstance(shape[0], int)}
    if len(sizes) > 1:
        raise InputError(f"all inputs must have the same number of images, not {' and '.join(map(str, sorted(sizes)))}")
    return max(next(iter(sizes), 1), 1)


def _inputs(
    graph: Graph, given: Mapping[str, np.ndarray] | np.ndarray, notes: dict[str, None]
) -> dict[str, np.ndarray]:
    """Return the arrays that the model's inputs take, in its order; raise InputError where they do not suit it."""
    names = list(graph.inputs)
    if isinstance(given, np.ndarray):
        if len(names) != 1:
            raise InputError(f"there must be an array for each of the inputs {' '.join(names)}, not one")
        given = {names[0]: given}
    for name in given:
        if name not in graph.inputs:
            raise InputError(f"inputs must be of {' '.join(names)}, not {name}")
    symbols: dict[str, int] = {}
    arrays = {}
    for name, (element, shape) in graph.inputs.items():
        if name not in given:
            raise InputError(f"input {name} must be given")
        _check_shape(name, given[name].shape, shape, symbols)
        arrays[name] = _as_element(name, given[name], element, notes)
    counts = {len(array) for array in arrays.values()}
    batch = _batch(graph)
    if len(counts) != 1 or not min(counts) or min(counts) % batch:
        found = " and ".join(map(str, sorted(counts)))
        raise InputError(f"inputs must be of a number of images, 1 or more, that {batch} divides, not {found}")
    return arrays


def _check_shape(
    name: str, found: tuple[int, ...], shape: tuple[int | str | None, ...] | None, symbols: dict[str, int]
) -> None:
    """Raise InputError unless a shape is the model's but for the number of images; a symbol is one size everywhere."""
    if shape is None and found:
        return
    told = " x ".join("?" if size is None else str(size) for size in ("images", *(shape or ())[1:]))
    message = f"input {name} must be {told}, not {' x '.join(map(str, found))}"
    if not shape or len(found) != len(shape):
        raise InputError(message)
    for size, wanted in zip(found[1:], shape[1:], strict=True):
        if isinstance(wanted, str) and symbols.setdefault(wanted, size) != size:
            raise InputError(f"{message}: {wanted} is {symbols[wanted]}")
        if isinstance(wanted, int) and size != wanted:
            raise InputError(message)


def _as_element(name: str, array: np.ndarray, element: str, notes: dict[str, None]) -> np.ndarray:
    """Return an array as the model's element type; raise InputError where values would change, but for a rounding."""
    if array.dtype.kind not in "fiub" or (element != "float32" and str(array.dtype) != element):
        if array.dtype.kind not in "iub" or np.dtype(element).kind not in "iub":
            raise InputError(f"input {name} must be {element}, not {array.dtype}")
    with np.errstate(over="ignore", invalid="ignore"):
        result = array.astype(element)
    if element == "float32" and not np.isfinite(result).all():
        raise InputError(f"input {name} must be numbers in float32's range, not {array[~np.isfinite(result)][0]}")
    changed = np.flatnonzero(result != array)
    if changed.size and element != "float32":
        raise InputError(f"input {name} must be {element}, not {array.flat[changed[0]]}")
    if changed.size:
        notes[f"input {name}: {changed.size} of {array.size} values are rounded to float32"] = None
    return result
