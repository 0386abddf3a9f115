"""Kernels, strides, dilations and borders of convolutions and pools, as a node's attributes and a map say them."""

from __future__ import annotations

from dataclasses import dataclass

from factory.readers.onnx.graph import Node
from factory.spec import GIVEN, ConvLayer, InputError


@dataclass(frozen=True)
class Window:
    """What slides over a map: everything by axis `(y, x)`, `padding` is `(top, left, bottom, right)`.

    `padding` reaches as far as the last window does, `border` is the part of it that the model asks for.
    """

    kernel: tuple[int, int]
    stride: tuple[int, int]
    dilation: tuple[int, int]
    padding: tuple[int, int, int, int]
    border: tuple[int, int, int, int]
    out: tuple[int, int]


def window(node: Node, sizes: tuple[int, ...], kernel: tuple[int, ...]) -> Window:
    """Return how a node's kernel slides over a map of one or two axes; one axis is a map of height 1."""
    axes = len(sizes)
    if axes not in (1, 2):
        raise InputError(f"a map must have 1 or 2 axes, not {axes}")
    stride, dilation = (_ints(node, name, (1,) * axes) for name in ("strides", "dilations"))
    pads = _ints(node, "pads", (0,) * (2 * axes))
    if len(kernel) != axes or len(stride) != axes or len(dilation) != axes or len(pads) != 2 * axes:
        raise InputError(f"kernel, strides, dilations and pads must be of {axes} axes")
    for name, sizes_of in dict(kernel=kernel, strides=stride, dilations=dilation).items():
        if min(sizes_of) < 1:
            raise InputError(f"{name} must be at least 1, not {min(sizes_of)}")
    reach = [apart * (size - 1) + 1 for apart, size in zip(dilation, kernel, strict=True)]
    before, after = list(pads[:axes]), list(pads[axes:])
    auto = node.attribute("auto_pad", "NOTSET")
    if auto in ("SAME_UPPER", "SAME_LOWER"):
        for axis, size in enumerate(sizes):
            total = max((-(-size // stride[axis]) - 1) * stride[axis] + reach[axis] - size, 0)
            before[axis] = total // 2 if auto == "SAME_UPPER" else total - total // 2
            after[axis] = total - before[axis]
    elif auto == "VALID":
        before, after = [0] * axes, [0] * axes
    elif auto != "NOTSET":
        raise InputError(f"auto_pad must be NOTSET, VALID, SAME_UPPER or SAME_LOWER, not {auto}")
    border, out = (*before, *after), []
    for axis, size in enumerate(sizes):
        whole = before[axis] + size + after[axis]
        count = (whole - reach[axis]) // stride[axis] + 1
        if node.attribute("ceil_mode", 0) and (whole - reach[axis]) % stride[axis]:
            if count * stride[axis] < before[axis] + size:  # a window must begin on the map, or on its left border
                after[axis] += count * stride[axis] + reach[axis] - whole
                count += 1
        if count < 1:
            raise InputError(f"a padded map of {whole} must hold a kernel that reaches over {reach[axis]}")
        out.append(count)
    return Window(
        *(_two(each, 1) for each in (kernel, stride, dilation)),
        _sides((*before, *after)),
        _sides(border),
        _two(tuple(out), 1),
    )


def _ints(node: Node, name: str, default: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(node.attribute(name, None) or default)


def _two(values: tuple[int, ...], missing: int) -> tuple[int, int]:
    return (missing, *values) if len(values) == 1 else (values[0], values[1])


def _sides(pads: tuple[int, ...]) -> tuple[int, int, int, int]:
    return (0, pads[0], 0, pads[1]) if len(pads) == 2 else (pads[0], pads[1], pads[2], pads[3])


def convolution_spec(node: Node, name: str, x: tuple[int, ...], weight: tuple[int, ...]) -> ConvLayer:
    """Return the geometry of a convolution of maps of shape `x`, `(image, ic, y, x)` or `(image, ic, x)`."""
    kernel = tuple(node.attribute("kernel_shape", None) or weight[2:])
    groups = node.attribute("group", 1)
    if len(x) != len(weight) or kernel != tuple(weight[2:]) or x[1] != weight[1] * groups:
        raise InputError(f"weights {list(weight)} with {groups} groups must suit an input {list(x)}")
    slid = window(node, x[2:], kernel)
    height, width = _two(x[2:], 1)
    return ConvLayer(
        name,
        GIVEN,
        in_channels=x[1],
        out_channels=weight[0],
        height=height,
        width=width,
        kernel=slid.kernel,
        stride=slid.stride,
        padding=slid.padding,
        dilation=slid.dilation,
        groups=groups,
        weight_bits=8,
        activation_bits=8,
        batch_norm=False,
    )


def product_spec(name: str, in_channels: int, out_channels: int, tokens: int) -> ConvLayer:
    """Return the geometry of a matrix product: a 1x1 convolution of a map of `1 x tokens`."""
    return ConvLayer(
        name,
        GIVEN,
        in_channels,
        out_channels,
        1,
        tokens,
        kernel=1,
        padding=0,
        weight_bits=8,
        activation_bits=8,
        batch_norm=False,
    )
