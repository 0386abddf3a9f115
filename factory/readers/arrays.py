"""Own arrays as coded layers: a layer's integers from files, its geometry from their shapes and a small description."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path

import numpy as np
from jaxtyping import Int32, Int64

from factory.arithmetic.integer import exact_accumulators
from factory.readers.values import read_named, read_values, whole_numbers
from factory.spec import (
    GIVEN,
    CodedLayer,
    CodedNetwork,
    ConvLayer,
    InputError,
    Range,
    by_axis,
    check_layer_name,
    read_toml,
    typed_values,
)

_OPERANDS = ("weight", "activation")
ARRAYS = (*_OPERANDS, "bias", "output")
_AXES = {
    "weight": ("oc", "ic", "kh", "kw"),
    "activation": ("image", "ic", "y", "x"),
    "output": ("image", "oc", "y", "x"),
}
"""The axes that a layer has, in their order; those that an array lacks are 1 long."""
_ALIASES = {"weight": {"in": "ic", "out": "oc"}, "activation": {"in": "ic", "token": "x"}}
_ALIASES["output"] = {"out": "oc", "token": "x"}
_CONVOLUTION = {
    "weight": {4: "oc ic kh kw"},
    "activation": {4: "image ic y x", 3: "ic y x"},
    "output": {4: "image oc y x", 3: "oc y x"},
}
_PRODUCT = {
    "weight": {2: "out in"},
    "activation": {3: "image token in", 2: "token in"},
    "output": {3: "image token out", 2: "token out"},
}
_MOST_BITS = 8
_INT32 = np.iinfo(np.int32)
Sides = int | list | tuple


@dataclass(frozen=True)
class LayerDescription:
    """What a user says of one layer of arrays; what is not said follows from shapes and values.

    `weight`, `activation`, `bias` and `output` are files, `..._axes` the names of their axes in the arrays' order, such
    as `in out` or `image y x ic`. The rest are the fields of `ConvLayer` and `CodedLayer`.
    """

    weight: str = ""
    activation: str = ""
    bias: str = ""
    output: str = ""
    weight_axes: str = ""
    activation_axes: str = ""
    output_axes: str = ""
    stride: Sides = 1
    padding: Sides | None = None
    dilation: Sides = 1
    groups: int | None = None
    weight_bits: int | None = None
    activation_bits: int | None = None
    signed: bool | None = None
    zero_point: int = 0
    weight_scale: float | None = None
    activation_scale: float | None = None


_FIELD_KINDS = {
    "str": "str", "int": "int", "float | None": "float", "int | None": "int", "bool | None": "bool"
}  # fmt: skip
_KINDS = {each.name: _FIELD_KINDS.get(each.type, "") for each in fields(LayerDescription)}


@dataclass(frozen=True)
class ArraySource:
    """Where arrays come from: `name` for messages, the arrays by name, the descriptions of layers by the layer's."""

    name: str
    arrays: Mapping[str, np.ndarray]
    described: Mapping[str, LayerDescription] = field(default_factory=dict)


def read_arrays(
    path: Path | None, description: Path | None = None, only: LayerDescription | None = None
) -> CodedNetwork:
    """Return the layers of an .npz, an HDF5 file or a folder of arrays, with what a TOML file or `only` says of them.

    Arrays are `<layer>.weight`, `<layer>.activation`, and where they are there `<layer>.bias` and `<layer>.output`, the
    exact result. Without a `path`, the description names the files; `only` describes the one layer called `layer`.
    Raise InputError, with layer and array, for what cannot be an integer layer, and for an output that is another.
    """
    described = _read_description(description) if description else {}
    if only is not None:
        described |= {"layer": only}
    arrays = dict(read_named(path)) if path else {}
    folder = description.parent if description else Path()
    for name, layer in described.items():
        for array in ARRAYS:
            if file := getattr(layer, array):
                arrays[f"{name}.{array}"] = read_values(folder / file)
    named = path or description
    source = ArraySource(named.name if named else "arrays", arrays, described)
    return coded_network(source)


def _read_description(path: Path) -> dict[str, LayerDescription]:
    try:
        data = typed_values(read_toml(path, "capture"), {"layers": "table"}, ("layers",))
        if not isinstance(data["layers"], dict) or not data["layers"]:
            raise InputError("layers must be tables [layers.<name>], at least one")
        described = {}
        for name, table in data["layers"].items():
            if not isinstance(table, dict):
                raise InputError(f"layers.{name} must be a table, not {table!r}")
            described[name] = LayerDescription(**typed_values(table, _KINDS, (), f"layers.{name}: "))
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    return described


def coded_network(source: ArraySource) -> CodedNetwork:
    """Return the layers of some arrays, in the arrays' order; raise InputError as `read_arrays` does."""
    layers: dict[str, dict[str, np.ndarray]] = {name: {} for name in source.described}
    for name, values in source.arrays.items():
        layer, _, array = name.rpartition(".")
        if not layer or array not in ARRAYS:
            found = f"arrays must be called <layer>.{' <layer>.'.join(ARRAYS)}, not {name}"
            raise InputError(f"{source.name}: {found}")
        layers.setdefault(layer, {})[array] = values
    for name in layers:
        check_layer_name(f"{source.name}: ", name)
    made = [
        _coded_layer(source.name, name, arrays, source.described.get(name, LayerDescription()))
        for name, arrays in layers.items()
    ]
    counts = {len(layer.activation) for layer, _ in made}
    if len(counts) != 1:
        each = ", ".join(f"{layer.spec.name} {len(layer.activation)}" for layer, _ in made)
        raise InputError(f"{source.name}: every layer must have as many images, not {each}")
    images = tuple(f"captured {source.name} {image}" for image in range(counts.pop()))
    return CodedNetwork(source.name, tuple(layer for layer, _ in made), images, notes=tuple(note for _, note in made))


def _coded_layer(
    source: str, name: str, given: Mapping[str, np.ndarray], said: LayerDescription
) -> tuple[CodedLayer, str]:
    """Return a layer, and a line that says what was taken for granted."""
    for array in _OPERANDS:
        if array not in given:
            raise InputError(f"{source}: {name} must have the array {name}.{array}, it has {' '.join(given) or 'none'}")
    arrays = {array: whole_numbers(values, f"{source}: {name}.{array}") for array, values in given.items()}
    weight, output = arrays["weight"], arrays.get("output")
    is_product = weight.ndim == 2
    forms = _PRODUCT if is_product else _CONVOLUTION
    weight, activation = (
        _canonical(arrays[array], array, getattr(said, f"{array}_axes"), forms, f"{source}: {name}.{array}")
        for array in _OPERANDS
    )
    _check_scales(f"{source}: {name}", said)
    if min(weight.size, activation.size) == 0:
        raise InputError(f"{source}: {name}: weight and activation must not be empty")
    if output is not None:
        output = _canonical(output, "output", said.output_axes, forms, f"{source}: {name}.output")
    size = None if output is None else output.shape[-2:]
    spec = _spec(f"{source}: {name}", name, weight, activation, size, is_product, said)
    layer = CodedLayer(
        spec=spec,
        weight=dense(weight, spec.groups).astype(np.int8),
        activation=activation.astype(np.int16),
        origin=f"captured {source}",
        bias=_bias(arrays.get("bias"), spec.out_channels, f"{source}: {name}.bias"),
        weight_scale=None if said.weight_scale is None else np.array([said.weight_scale], np.float32),
        activation_scale=said.activation_scale,
    )
    if output is not None:
        check_output(layer, output, f"{source}: {name}.output")
    return layer, _note(layer, output is not None)


def _check_scales(where: str, said: LayerDescription) -> None:
    for scale in ("weight_scale", "activation_scale"):
        value = getattr(said, scale)
        if value is not None and not value > 0:
            raise InputError(f"{where}: {scale} must be more than 0, not {value}")


def _bias(values: Int64[np.ndarray, ...] | None, channels: int, what: str) -> Int32[np.ndarray, " oc"] | None:
    """Return a bias of 32 bits for each output channel, where there is one."""
    if values is None:
        return None
    low, high = int(values.min(initial=0)), int(values.max(initial=0))
    if values.size != channels or low < _INT32.min or high > _INT32.max:
        raise InputError(f"{what} must be {channels} numbers of 32 bits, not {values.shape} of {low} to {high}")
    return values.reshape(-1).astype(np.int32)


def _canonical(
    values: Int64[np.ndarray, ...], array: str, axes: str, forms: Mapping[str, Mapping[int, str]], what: str
) -> np.ndarray:
    """Return an array with all its axes in their order."""
    order, aliases = _AXES[array], _ALIASES[array]
    known = forms[array]
    if not axes and values.ndim not in known:
        each = " or ".join(f"({form})" for form in known.values())
        raise InputError(
            f"{what} must have the axes {each}, or {array}_axes must name them; its shape is {values.shape}"
        )
    words = (axes or known[values.ndim]).replace(",", " ").split()
    names = [aliases.get(word, word) for word in words]
    if len(set(names)) != len(names) or not set(names) <= set(order):
        raise InputError(f"{what}: {array}_axes must be of {' '.join((*order, *aliases))}, not {axes}")
    if len(names) != values.ndim:
        raise InputError(f"{what} must have the axes {' '.join(words)}, its shape is {values.shape}")
    present = values.transpose([names.index(axis) for axis in order if axis in names])
    return present.reshape([values.shape[names.index(axis)] if axis in names else 1 for axis in order])


def _spec(
    where: str,
    name: str,
    weight: np.ndarray,
    activation: np.ndarray,
    size: tuple[int, ...] | None,
    product: bool,
    said: LayerDescription,
) -> ConvLayer:
    groups = 1 if product else max(1, activation.shape[1] // weight.shape[1])
    groups = groups if said.groups is None else said.groups
    for name_, value in (
        ("groups", groups),
        ("weight_bits", said.weight_bits),
        ("activation_bits", said.activation_bits),
    ):
        if value is not None and value < 1:
            raise InputError(f"{where}: {name_} must be at least 1, not {value}")
    if weight.shape[1] * groups != activation.shape[1]:
        found = f"{weight.shape[1]} in {groups} groups" if groups > 1 else f"{weight.shape[1]}"
        turned = "; with weight_axes 'in out' it would" if product and weight.shape[0] == activation.shape[1] else ""
        raise InputError(f"{where}.weight must take the {activation.shape[1]} input channels, not {found}{turned}")
    signed = said.signed if said.signed is not None else bool(activation.min() < 0)
    try:
        spec = ConvLayer(
            name=name, source=GIVEN, in_channels=activation.shape[1], out_channels=weight.shape[0],
            height=activation.shape[2], width=activation.shape[3], kernel=weight.shape[2:], stride=said.stride,
            padding=_padding(weight.shape[2:], activation.shape[2:], size, said), dilation=said.dilation, groups=groups,
            weight_bits=max(2, code_bits(weight, True)) if said.weight_bits is None else said.weight_bits,
            activation_bits=code_bits(activation, signed) if said.activation_bits is None else said.activation_bits,
            signed=signed,
            zero_point=said.zero_point, batch_norm=False,
        )  # fmt: skip
    except InputError as error:
        raise InputError(f"{where}: {str(error).removeprefix(f'{name}: ')}") from None
    half = 2 ** (spec.weight_bits - 1)
    ends = {"weight": (weight, -half, half - 1, spec.weight_bits)}
    ends["activation"] = (activation, *spec.code_range, spec.activation_bits)
    for array, (values, low, high, bits) in ends.items():
        if values.min() < low or values.max() > high:
            worst = values.min() if values.min() < low else values.max()
            raise InputError(f"{where}.{array} must be {low} to {high}, {bits} bits, not {worst}")
    return spec


def code_bits(values: np.ndarray, signed: bool) -> int:
    """Return the bits of the narrowest field that holds the values, 8 at most: what is wider is refused later."""
    return min(max(Range.of(values).bits - 1 + signed, 1), _MOST_BITS)


def _padding(
    kernel: tuple[int, ...], size: tuple[int, ...], out: tuple[int, ...] | None, said: LayerDescription
) -> Sides:
    """Return the padding that is said, or that gives an output of the size `out`, or else half of the kernel."""
    if said.padding is not None:
        return said.padding
    half = [reach // 2 for reach in kernel]
    if out is None:
        return half
    strides, apart = (by_axis(name, getattr(said, name), False) for name in ("stride", "dilation"))
    if min(*strides, *apart) < 1:
        raise InputError(f"stride and dilation must be at least 1, not {min(*strides, *apart)}")
    found = []
    for axis, middle in enumerate(half):
        reach = apart[axis] * (kernel[axis] - 1) + 1
        fitting = [pad for pad in range(reach + 1) if (size[axis] + 2 * pad - reach) // strides[axis] + 1 == out[axis]]
        found.append(min(fitting, key=lambda pad: abs(pad - middle), default=middle))
    return found


def dense(weight: Int64[np.ndarray, "oc group_ic ki kj"], groups: int) -> Int64[np.ndarray, "oc ic ki kj"]:
    """Return the weights of the dense convolution that a grouped one is: 0 outside the groups."""
    if groups == 1:
        return weight
    oc, ic = weight.shape[:2]
    whole = np.zeros((oc, ic * groups, *weight.shape[2:]), weight.dtype)
    for group in range(groups):
        outputs = slice(group * oc // groups, (group + 1) * oc // groups)
        whole[outputs, group * ic : (group + 1) * ic] = weight[outputs]
    return whole


def check_output(layer: CodedLayer, output: Int64[np.ndarray, "image oc y x"], what: str) -> None:
    """Raise InputError unless `output` is the exact result: `sum(weight * (activation - zero_point)) + bias`."""
    spec = layer.spec
    expected = (len(layer.activation), spec.out_channels, spec.out_height, spec.out_width)
    if output.shape != expected:
        raise InputError(f"{what} must be {expected}, not {output.shape}")
    offset = -spec.zero_point * layer.weight.astype(np.int64).sum(axis=(1, 2, 3))
    if layer.bias is not None:
        offset += layer.bias
    for image in range(len(layer.activation)):
        exact = exact_accumulators(layer.activation[image], layer.weight, spec).astype(np.int64) + offset[:, None, None]
        wrong = exact != output[image]
        if wrong.any():
            oc, y, x = map(int, np.unravel_index(int(wrong.argmax()), wrong.shape))
            place = f"image {image}, oc {oc}, y {y}, x {x}"
            count = f"{np.count_nonzero(wrong)} of the image's {wrong.size} differ"
            hint = _transposed(layer, output, offset)
            found = f"{exact[oc, y, x]}, not {output[image, oc, y, x]}; {count}{hint}"
            raise InputError(f"{what} must be the exact result: {place}: {found}")


def _transposed(layer: CodedLayer, output: np.ndarray, offset: np.ndarray) -> str:
    """Return a hint where a square matrix product comes out right with its weight transposed."""
    spec = layer.spec
    if spec.kernel != (1, 1) or spec.in_channels != spec.out_channels:
        return ""
    turned = exact_accumulators(layer.activation[0], layer.weight.swapaxes(0, 1), spec)
    right = (turned + offset[:, None, None] == output[0]).all()
    return "; with weight_axes 'in out' it would be" if right else ""


def _note(layer: CodedLayer, checked: bool) -> str:
    spec = layer.spec
    said = {name: value for name, value in spec.to_dict(whole=True).items() if name in _SAID}
    geometry = ", ".join(f"{name} {value}" for name, value in said.items())
    sign = "signed" if spec.signed else "unsigned"
    codes = f"weights {spec.weight_bits} bits, activations {spec.activation_bits} bits {sign}"
    exact = "; output is the exact result" if checked else ""
    maps = f"{spec.in_channels} -> {spec.out_channels}, {spec.height}x{spec.width}"
    return f"{spec.name}: {maps}: {geometry}; {codes}{exact}"


_SAID = ("kernel", "stride", "padding", "dilation", "groups", "zero_point")
