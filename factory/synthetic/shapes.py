"""The geometries of synthetic layers: one that is given, and others that only its widths, sign and map decide."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
from jaxtyping import Integer

from factory.spec import GIVEN, ConvLayer, InputError, SystolicArray

BASE = "conv"
"""Name of the layer that is given."""
_FEW = 3
_ONE_PIXEL = dict(height=1, width=1, kernel=1, stride=1, padding=0, dilation=1)


def base_layer(array: SystolicArray, **given: object) -> ConvLayer:
    """Return the layer that synthetic codes are made for: a padded 3x3 convolution of a 3x4 map, of ragged tiles.

    `given` are fields of ConvLayer that take the place of those.
    """
    ragged = dict(in_channels=array.rows + -(-array.rows // 2), out_channels=array.cols + -(-array.cols // 2))
    fields = dict(name=BASE, source=GIVEN, **ragged, height=3, width=4, batch_norm=False) | given
    return ConvLayer(**fields)


def check_base(spec: ConvLayer) -> None:
    """Raise InputError for a layer of groups, since patterns fill the dense convolution, or one that a pool follows."""
    for name in ("groups", "pool"):
        if getattr(spec, name) != 1:
            raise InputError(f"{spec.name}: {name} must be 1 in synthetic layers, not {getattr(spec, name)}")


def one_pixel(spec: ConvLayer, in_channels: int, out_channels: int) -> ConvLayer:
    """Return a 1x1 convolution of a map of one pixel, a matrix-vector product, of the codes of `spec`."""
    return replace(spec, in_channels=in_channels, out_channels=out_channels, **_ONE_PIXEL)


def taps(spec: ConvLayer, array: SystolicArray) -> ConvLayer:
    """Return the given layer with few channels, for patterns that are about the kernel."""
    return replace(spec, in_channels=min(_FEW, array.rows), out_channels=min(_FEW, array.cols))


def strided(spec: ConvLayer, array: SystolicArray) -> ConvLayer:
    """Return a padded 3x3 convolution of stride 2."""
    return replace(taps(spec, array), in_channels=array.rows, kernel=(3, 3), stride=(2, 2), padding=1, dilation=1)


def by_axis(spec: ConvLayer, array: SystolicArray) -> ConvLayer:
    """Return a convolution whose kernel, stride, padding and dilation are others along y than along x."""
    sides = dict(kernel=(2, 3), stride=(2, 1), dilation=(3, 2), padding=(1, 2, 2, 2))
    return replace(strided(spec, array), **sides)


def steps(spec: ConvLayer) -> ConvLayer:
    """Return a 1x1 convolution of four channels on the given map."""
    return replace(spec, in_channels=4, out_channels=4, kernel=1, stride=1, padding=0, dilation=1)


def shape_flags(spec: ConvLayer, array: SystolicArray) -> Iterator[str]:
    """Yield the flags that a layer's geometry has."""
    if spec.in_channels % array.rows or spec.out_channels % array.cols:
        yield "ragged"
    if any(spec.padding):
        yield "padding"
    if spec.stride != (1, 1):
        yield "stride"
    if spec.dilation != (1, 1):
        yield "dilation"
    if spec.nij_count == 1:
        yield "one-pixel"


def spread(codes: Integer[np.ndarray, "*any"], shape: tuple[int, ...], signed: bool = True) -> np.ndarray:
    """Return codes of up to 8 bits in a whole array of `shape`, int8 or uint8."""
    return np.broadcast_to(codes.astype(np.int8 if signed else np.uint8), shape)
