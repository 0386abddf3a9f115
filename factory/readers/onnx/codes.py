"""Integers and the grid of reals that they stand for, as one value."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float32, Integer, Shaped

from factory.arithmetic.bits import code_dtype, field_range
from factory.readers.onnx.formula import evaluate, step
from factory.spec import InputError

INTEGERS = {f"{sign}int{bits}": (bits, not sign) for sign in ("", "u") for bits in (2, 4, 8, 16, 32)}
"""Bits, and whether there is a sign, of the element types that quantize."""


@dataclass(frozen=True)
class Codes:
    """A quantized tensor: `real = (code - zero_point) * scale`.

    `scale` and `zero_point` are of the whole tensor (no axes), or broadcast to the codes' shape. `scale` is None where
    the model does not say it. `formula` says in words what made the codes.
    """

    code: Integer[np.ndarray, "*shape"]
    scale: Float32[np.ndarray, "*broadcast"] | None
    zero_point: Integer[np.ndarray, "*broadcast2"]
    bits: int
    signed: bool
    formula: str

    @property
    def shape(self) -> tuple[int, ...]:
        """The tensor's shape."""
        return self.code.shape

    @property
    def range(self) -> tuple[int, int]:
        """Least and largest code of the bits."""
        return field_range(self.bits, self.signed)

    def real(self) -> Float32[np.ndarray, "*shape"]:
        """Return the values that the codes stand for."""
        if self.scale is None:
            raise InputError("codes without a scale must not be read as real values")
        return evaluate((step("multiply", self.scale),), self.centred())

    def centred(self) -> Integer[np.ndarray, "*shape"]:
        """Return the codes less the zero point, wide enough for a product of two of them."""
        wide = self.code.astype(np.int32 if self.bits <= 8 else np.int64)
        return wide - self.zero_point.astype(wide.dtype) if self.zero_point.any() else wide

    def moved(self, move: Callable[[np.ndarray], np.ndarray]) -> Codes:
        """Return the tensor after a change of places alone, which scales and zero points of some axes follow."""

        def follow(grid: np.ndarray | None) -> np.ndarray | None:
            return grid if grid is None or grid.ndim == 0 else move(np.broadcast_to(grid, self.shape))

        return replace(self, code=move(self.code), scale=follow(self.scale), zero_point=follow(self.zero_point))

    def same_grid(self, other: Codes) -> bool:
        """Return whether codes of both tensors stand for the same reals, and both tensors have one scale."""
        return (
            (self.bits, self.signed) == (other.bits, other.signed)
            and all(each.scale is not None and each.scale.ndim == each.zero_point.ndim == 0 for each in (self, other))
            and (self.scale, self.zero_point) == (other.scale, other.zero_point)
        )


Value = np.ndarray | Codes | None
"""What passes between nodes: an array, a quantized tensor, or nothing where an input is left out."""


def real(value: Value) -> Shaped[np.ndarray, "*shape"]:
    """Return a value as an array: what its codes stand for, or itself; raise InputError for floats not of 32 bits."""
    if isinstance(value, Codes):
        return value.real()
    if value is None:
        raise InputError("an input that must be there is left out")
    if value.dtype.kind in "fV" and value.dtype != np.float32:
        raise InputError(f"real values must be float32, not {value.dtype}")
    return value


def element_bits(dtype: np.dtype, what: str) -> tuple[int, bool]:
    """Return bits and sign of an integer element type; raise InputError for another."""
    if str(dtype) not in INTEGERS:
        raise InputError(f"{what} must be quantized to integers, not {dtype}")
    return INTEGERS[str(dtype)]


def element_range(dtype: np.dtype, what: str) -> tuple[int, int]:
    """Return the least and the largest code of an integer element type; raise InputError for another."""
    return field_range(*element_bits(dtype, what))


def optional(values: Sequence[Value], at: int) -> Value:
    """Return the input of a node at a place; None where it has none there."""
    return values[at] if at < len(values) else None


def own_zero_point(values: Sequence[Value], at: int, like: Codes) -> Value:
    """Return the zero point at a place of a node's inputs; a 0 of the type of other codes where there is none."""
    given = optional(values, at)
    return np.zeros((), like.code.dtype) if given is None else given


def checked_scale(scale: Value, what: str, axis_shape: tuple[int, ...] | None = None) -> Float32[np.ndarray, "*any"]:
    """Return a scale as a positive float32 array, without axes where it is one number, else in `axis_shape`."""
    array = real(scale)
    if array.dtype != np.float32:
        raise InputError(f"{what} must be float32, not {array.dtype}")
    if not (np.isfinite(array) & (array > 0)).all():
        raise InputError(f"{what} must be positive numbers, not {array[~(np.isfinite(array) & (array > 0))][0]}")
    return _shaped(array, axis_shape)


def checked_zero_point(
    zero_point: Value, what: str, axis_shape: tuple[int, ...] | None = None
) -> Integer[np.ndarray, "*any"]:
    """Return a zero point (None: 0) as int64, without axes where it is one number, else in `axis_shape`."""
    if zero_point is None:
        return np.zeros((), np.int64)
    array = np.asarray(real(zero_point) if isinstance(zero_point, Codes) else zero_point)
    floats = array.astype(np.float32)
    if not (np.isfinite(floats) & (np.rint(floats) == floats)).all():
        raise InputError(f"{what} must be whole numbers, not {floats[np.rint(floats) != floats][0]}")
    return _shaped(array.astype(np.int64), axis_shape)


def _shaped(array: np.ndarray, axis_shape: tuple[int, ...] | None) -> np.ndarray:
    if array.size == 1:
        return array.reshape(())
    return array if axis_shape is None else array.reshape(axis_shape)


def along(axis: int, ndim: int) -> tuple[int, ...]:
    """Return the shape with which a list lies along one axis of an array: -1 there, 1 elsewhere."""
    axis = axis + ndim if axis < 0 else axis
    return tuple(-1 if each == axis else 1 for each in range(ndim))


def as_codes(
    code: Value, scale: Value, zero_point: Value, what: str, formula: str, shape: tuple[int, ...] | None = None
) -> Codes:
    """Return an integer tensor of the model, and its grid, as one; `shape` is that in which a list of scales lies."""
    return replace(
        integers(code, zero_point, what, formula, shape), scale=checked_scale(scale, f"{what}'s scale", shape)
    )


def integers(code: Value, zero_point: Value, what: str, formula: str, shape: tuple[int, ...] | None = None) -> Codes:
    """Return an integer tensor of the model as codes without a scale, as `as_codes`.

    Integers that were clipped to fewer bits than their type has come as such codes.
    """
    if code is None or (isinstance(code, Codes) and code.scale is not None):
        raise InputError(f"{what} must be integers, not real values")
    if isinstance(code, Codes):
        code, bits, signed = code.code, code.bits, code.signed
    else:
        bits, signed = element_bits(code.dtype, what)
    return Codes(
        code.astype(code_dtype(bits, signed)),
        None,
        checked_zero_point(zero_point, f"{what}'s zero point", shape),
        bits,
        signed,
        formula,
    )
