"""Which convolutions and matrix products are integer layers, and their exact sums."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float32, Int32, Integer, Shaped

from factory.readers.arrays import dense
from factory.readers.onnx.codes import Codes, Value, real
from factory.readers.onnx.geometry import convolution_spec, product_spec
from factory.readers.onnx.graph import Node
from factory.readers.onnx.sums import (
    as_map,
    exact_convolution,
    exact_matmul,
    float_convolution,
    float_matmul,
    from_map,
)
from factory.spec import ConvLayer, InputError

_INT32 = np.iinfo(np.int32)


@dataclass(frozen=True)
class Found:
    """What is the same of a layer for every image; fields as in `CodedLayer`, `formula` is a part of its origin."""

    spec: ConvLayer
    weight: Integer[np.ndarray, "oc ic ki kj"]
    formula: str
    bias: Int32[np.ndarray, " oc"] | None
    weight_scale: Float32[np.ndarray, " scale"] | None
    activation_scale: float | None


@dataclass
class Capture:
    """What a run over the graph gathers, and what its nodes must know beside their inputs.

    `names` are those of the layers by their nodes' first outputs, `varying` the tensors that depend on an input,
    `never_negative` those that are known to be 0 or more, and `images` is how many there are in a run. `activations`
    has the codes that entered each layer, one array a run.
    """

    names: Mapping[str, str]
    varying: frozenset[str]
    images: int = 1
    never_negative: set[str] = field(default_factory=set)
    layers: dict[str, Found] = field(default_factory=dict)
    activations: dict[str, list[np.ndarray]] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)
    notes: dict[str, None] = field(default_factory=dict)

    def name(self, node: Node) -> str:
        """Return a layer's name."""
        return self.names[node.outputs[0]]

    def skip(self, node: Node, reason: str) -> None:
        """Leave a layer out."""
        self.skipped[self.name(node)] = reason

    @contextmanager
    def keeping(self, node: Node) -> Iterator[None]:
        """Leave a layer out where what is done with it raises _NoLayerError."""
        try:
            yield
        except _NoLayerError as reason:
            self.skip(node, str(reason))

    def note(self, text: str) -> None:
        """Keep a line for the user, once."""
        self.notes[text] = None


class _NoLayerError(Exception):
    """Why a node is no integer layer."""


@dataclass(frozen=True)
class Sums:
    """Sums of products of a node: exact integers in units of `scale` (None: unknown) where `exact`, else real values.

    `scale` is one number or one for each output channel; `beside` is the shape in which a list lies along these.
    `across` says that the last axis is not these: the weights of a product stand on the left.
    """

    value: Shaped[np.ndarray, "*shape"]
    exact: bool
    scale: Float32[np.ndarray, " scale"] | None
    beside: tuple[int, ...]
    across: bool = False


@dataclass(frozen=True)
class Operand:
    """One operand of a node, and its name for messages."""

    name: str
    value: Value

    def codes(self, what: str) -> Codes:
        """Return the operand's codes; raise _NoLayerError where it is real."""
        if not isinstance(self.value, Codes):
            raise _NoLayerError(f"its {what} {self.name} must be quantized, not real")
        return self.value

    def scale(self, what: str, axis: int | None) -> Float32[np.ndarray, " scale"] | None:
        """Return the tensor's scale, or the scales along an axis; raise _NoLayerError where there are more of them."""
        codes = self.codes(what)
        if codes.scale is None or codes.scale.ndim == 0:
            return None if codes.scale is None else codes.scale.reshape(1)
        scales = np.broadcast_to(codes.scale, codes.shape)
        scales = scales[tuple(slice(None if step else 1) for step in scales.strides)]  # one of each that is repeated
        rows = scales.reshape(1, -1) if axis is None else np.moveaxis(scales, axis, 0).reshape(scales.shape[axis], -1)
        mixed = np.flatnonzero((rows != rows[:, :1]).any(axis=1))
        if mixed.size:
            row, place = rows[mixed[0]], "" if axis is None else f" in output channel {mixed[0]}"
            raise _NoLayerError(
                f"its {what} {self.name} must have one scale{place}, not {row.min()!s} to {row.max()!s}"
            )
        return np.ascontiguousarray(rows[:, 0])


def convolve(node: Node, x: Operand, weight: Operand, capture: Capture) -> Sums:
    """Return the sums of a convolution without a bias; keep its layer, or say why it is none."""
    axes = len(x.value.shape)
    spec = convolution_spec(node, capture.name(node), x.value.shape, weight.value.shape)
    beside = (-1,) + (1,) * (axes - 2)
    try:
        scale = _scale(x, weight, 0)
    except _NoLayerError as reason:
        capture.skip(node, str(reason))
        sums = float_convolution(as_map(real(x.value)), as_map(real(weight.value)), spec)
        return Sums(from_map(sums, axes), False, None, beside)
    kernels = weight.value.moved(as_map)
    with capture.keeping(node):
        _keep(spec, x, x.value.moved(as_map), weight, kernels, capture)
    sums = exact_convolution(as_map(x.value.centred()), kernels.centred(), spec)
    return Sums(from_map(sums, axes), True, scale, beside)


def multiply(node: Node, left: Operand, right: Operand, capture: Capture) -> Sums:
    """Return a matrix product without a bias; keep its layer, or say why it is none."""
    first, second = left.value, right.value
    if len(first.shape) < 2 or len(second.shape) < 2 or first.shape[-1] != second.shape[-2]:
        raise InputError(f"a matrix product must be of matrices that suit, not {first.shape} and {second.shape}")
    swapped = left.name not in capture.varying and right.name in capture.varying
    x, weight, axis, beside = (right, left, -2, (-1, 1)) if swapped else (left, right, -1, (-1,))
    try:
        scale = _scale(x, weight, axis)
    except _NoLayerError as reason:
        capture.skip(node, str(reason))
        return Sums(float_matmul(real(first), real(second)), False, None, beside, swapped)
    with capture.keeping(node):
        _keep_product(node, x, weight, swapped, capture)
    return Sums(exact_matmul(first.centred(), second.centred()), True, scale, beside, swapped)


def _keep_product(node: Node, x: Operand, weight: Operand, swapped: bool, capture: Capture) -> None:
    """Keep a matrix product as a 1x1 convolution; `swapped` where its weights stand on the left."""
    _check_constant(x, weight, capture)
    if len(weight.value.shape) != 2:
        raise _NoLayerError(f"its weights {weight.name} must have 2 axes, not {len(weight.value.shape)}")
    if len(x.value.shape) == 2 and swapped:
        raise _NoLayerError(f"its input {x.name} must have an axis of images, tokens and channels")
    if x.value.shape[0] % capture.images:
        raise _NoLayerError(f"its input {x.name} must be of {capture.images} images, not of {x.value.shape[0]}")

    def to_map(array: np.ndarray) -> np.ndarray:
        rows = array.swapaxes(-1, -2) if swapped else array
        return rows.reshape(capture.images, -1, rows.shape[-1]).swapaxes(1, 2)[:, :, None]

    def to_kernels(array: np.ndarray) -> np.ndarray:
        return (array if swapped else array.T)[:, :, None, None]

    activation, kernels = x.value.moved(to_map), weight.value.moved(to_kernels)
    spec = product_spec(capture.name(node), kernels.shape[1], kernels.shape[0], activation.shape[3])
    _keep(spec, x, activation, weight, kernels, capture)


def _scale(x: Operand, weight: Operand, axis: int) -> Float32[np.ndarray, " scale"] | None:
    """Return the real value of a sum of 1, one or one for each output channel; raise _NoLayerError where it is none."""
    of_x, of_weight = x.scale("input", None), weight.scale("weights", axis)
    zero_points = np.unique(x.value.zero_point)
    if zero_points.size > 1:
        raise _NoLayerError(f"its input {x.name} must have one zero point, not {zero_points[0]} to {zero_points[-1]}")
    return None if of_x is None or of_weight is None else of_x * of_weight


def _check_constant(x: Operand, weight: Operand, capture: Capture) -> None:
    """Raise _NoLayerError unless the input alone depends on an input of the model."""
    varying = [operand.name for operand in (x, weight) if operand.name in capture.varying]
    if varying != [x.name]:
        depends = f"{' and '.join(varying)} both do" if varying else "none does"
        raise _NoLayerError(f"one of its operands must depend on an input of the model, {depends}")


def _keep(spec: ConvLayer, x: Operand, activation: Codes, weight: Operand, kernels: Codes, capture: Capture) -> None:
    """Keep a layer and the codes that enter it; `activation` and `kernels` are as a convolution has them."""
    _check_constant(x, weight, capture)
    if len(activation.code) != capture.images:
        raise _NoLayerError(f"its input {x.name} must be of {capture.images} images, not of {len(activation.code)}")
    if spec.name not in capture.layers:
        capture.layers[spec.name] = _found(spec, x, weight, kernels, capture)
    capture.activations.setdefault(spec.name, []).append(activation.code)


def _found(spec: ConvLayer, x: Operand, weight: Operand, kernels: Codes, capture: Capture) -> Found:
    for operand in (x, weight):
        if operand.value.bits > 8:
            raise InputError(f"layer {spec.name}: {operand.name} must have at most 8 bits, not {operand.value.bits}")
    centred = kernels.centred()
    if centred.min() < -128 or centred.max() > 127:
        worst = centred.min() if centred.min() < -128 else centred.max()
        less = " less their zero point" if kernels.zero_point.any() else ""
        raise InputError(f"layer {spec.name}: weights {weight.name}{less} must be -128 to 127, not {worst}")
    if kernels.zero_point.any():
        points = ", ".join(map(str, np.unique(kernels.zero_point)))
        capture.note(f"{spec.name}: the weights {weight.name} are codes less their zero point, {points}")
    bits = 8 if kernels.zero_point.any() else kernels.bits + (not kernels.signed)
    return Found(
        dataclasses.replace(
            spec,
            weight_bits=min(max(bits, 2), 8),
            activation_bits=x.value.bits,
            signed=x.value.signed,
            zero_point=int(np.unique(x.value.zero_point)[0]),
        ),
        centred.astype(np.int8) if spec.groups == 1 else dense(centred.astype(np.int64), spec.groups).astype(np.int8),
        x.value.formula,
        None,
        Operand(weight.name, kernels).scale("weights", 0),
        None if x.value.scale is None else float(x.scale("input", None)[0]),
    )


def add_bias(node: Node, sums: Sums, bias: Integer[np.ndarray, "*oc"], capture: Capture) -> Sums:
    """Return exact sums and an integer bias of each output channel; keep it with the layer."""
    channels = sums.value.shape[-len(sums.beside)]
    every = np.broadcast_to(bias.reshape(-1), (channels,)).astype(np.int64)
    found = capture.layers.get(capture.name(node))
    if found is not None:
        if every.min() < _INT32.min or every.max() > _INT32.max:
            raise InputError(f"layer {found.spec.name}: biases must be of 32 bits, not {every[np.abs(every).argmax()]}")
        capture.layers[found.spec.name] = dataclasses.replace(found, bias=every.astype(np.int32))
    return dataclasses.replace(sums, value=sums.value + every.reshape(sums.beside))
