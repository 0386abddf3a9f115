"""The description of one convolution or matrix product, without its weights."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from factory.spec.errors import InputError
from factory.spec.values import check_kind, check_range, is_kind

IMAGE = "image"
GIVEN = "given"
"""The source of a layer whose codes are given, rather than computed from what comes before it."""
MOST_SIZE = 1 << 16
"""Most channels, classes or pixels of a side: far more than any network has, few enough to count a map's pixels."""
Sides = int | tuple[int, int] | tuple[int, int, int, int] | list
"""What a layer is given for each axis or side; the layer has it as a tuple."""
_SIDES = ("kernel", "stride", "dilation", "padding")
_NEWER = ("dilation", "groups", "zero_point", "source_stride")
_WHEN_SET = ("source_stride",)


@dataclass(frozen=True)
class ConvLayer:
    """One convolution, the codes that enter it, and what follows it up to the next one.

    A matrix product is a 1x1 convolution of a map of `1 x tokens`. `kernel`, `stride` and `dilation` are `(y, x)`, in
    pixels, `padding` is `(top, left, bottom, right)`; one number stands for all, and `(y, x)` for both sides of a
    padding. With `groups`, output channels see the input channels of their own group alone: weights are those of the
    dense convolution, 0 outside the groups.

    Activation codes are `0 .. 2**activation_bits - 1`, or have both signs where `signed`. `zero_point` is the code that
    stands for the real 0; the map's border is padded with it. Products are of the codes as they are.

    Of its source's map a layer reads one pixel in `source_stride` of each axis, the first among them; `height` and
    `width` are what is left. So a 1x1 convolution with a stride is one of stride 1, of the pixels that it reads.

    The steps after the convolution are, in this order: batch norm (if `batch_norm`), ReLU, max pool of `pool` x `pool`
    with stride `pool` (1: none).

    Words: `kij = ki * kernel[1] + kj`; `nij = y * padded_width + x` on the padded input map; `onij = y * out_width + x`
    on the output map; `it`, `ot`: input- and output-channel tile.
    """

    name: str
    source: str
    in_channels: int
    out_channels: int
    height: int
    width: int
    kernel: Sides = (3, 3)
    stride: Sides = (1, 1)
    padding: Sides = (1, 1, 1, 1)
    weight_bits: int = 4
    activation_bits: int = 4
    signed: bool = False
    batch_norm: bool = True
    pool: int = 1
    dilation: Sides = (1, 1)
    groups: int = 1
    zero_point: int = 0
    source_stride: int = 1

    def __post_init__(self):
        for name in _SIDES:
            object.__setattr__(self, name, by_axis(f"{self.name}: {name}", getattr(self, name), name == _SIDES[-1]))
        for field in dataclasses.fields(self):
            check_kind(f"{self.name}: {field.name}", getattr(self, field.name), field.type)
        least = dict(
            in_channels=1, out_channels=1, height=1, width=1, kernel=1, stride=1, dilation=1, padding=0, pool=1,
            source_stride=1,
        )  # fmt: skip
        for field, low in least.items():
            value = getattr(self, field)
            for size in value if isinstance(value, tuple) else (value,):
                check_range(f"{self.name}: {field}", size, low, MOST_SIZE)
        for field, low in dict(weight_bits=2, activation_bits=1).items():
            if not low <= getattr(self, field) <= 8:
                raise InputError(f"{self.name}: {field} must be {low} to 8, not {getattr(self, field)}")
        if self.groups < 1 or self.in_channels % self.groups or self.out_channels % self.groups:
            channels = f"{self.in_channels} input and {self.out_channels} output channels"
            raise InputError(f"{self.name}: groups must divide {channels}, not be {self.groups}")
        low, high = self.code_range
        if self.zero_point and not low <= self.zero_point <= high:
            raise InputError(f"{self.name}: zero_point must be a code, {low} to {high}, not {self.zero_point}")
        if self.out_height < self.pool or self.out_width < self.pool:
            raise InputError(
                f"{self.name}: a {self.height}x{self.width} map with padding {_text(self.padding)} must hold the "
                f"{self.kernel[0]}x{self.kernel[1]} kernel{self._dilated()} and the {self.pool}x{self.pool} pool"
            )

    def _dilated(self) -> str:
        return "" if self.dilation == (1, 1) else f" with dilation {_text(self.dilation)}"

    @property
    def padded_height(self) -> int:
        """Rows of the padded input map."""
        return self.padding[0] + self.height + self.padding[2]

    @property
    def padded_width(self) -> int:
        """Columns of the padded input map."""
        return self.padding[1] + self.width + self.padding[3]

    @property
    def nij_count(self) -> int:
        """Pixels of the padded input map."""
        return self.padded_height * self.padded_width

    @property
    def kij_count(self) -> int:
        """Kernel positions."""
        return self.kernel[0] * self.kernel[1]

    @property
    def out_height(self) -> int:
        """Rows of the output map, before the pool."""
        return (self.padded_height - self.dilation[0] * (self.kernel[0] - 1) - 1) // self.stride[0] + 1

    @property
    def out_width(self) -> int:
        """Columns of the output map, before the pool."""
        return (self.padded_width - self.dilation[1] * (self.kernel[1] - 1) - 1) // self.stride[1] + 1

    @property
    def onij_count(self) -> int:
        """Pixels of the output map, before the pool."""
        return self.out_height * self.out_width

    @property
    def next_height(self) -> int:
        """Height of the map after the pool."""
        return self.out_height // self.pool

    @property
    def next_width(self) -> int:
        """Width of the map after the pool."""
        return self.out_width // self.pool

    @property
    def weight_shape(self) -> tuple[int, int, int, int]:
        """`(oc, ic, ki, kj)`."""
        return (self.out_channels, self.in_channels, *self.kernel)

    @property
    def weight_qmax(self) -> int:
        """Largest weight code: `2**(weight_bits - 1) - 1`; the smallest of a symmetric quantizer is its negative."""
        return 2 ** (self.weight_bits - 1) - 1

    @property
    def activation_qmax(self) -> int:
        """Largest unsigned activation code: `2**activation_bits - 1`."""
        return 2**self.activation_bits - 1

    @property
    def code_range(self) -> tuple[int, int]:
        """Least and largest activation code that `activation_bits` hold, in two's complement where `signed`."""
        half = 2 ** (self.activation_bits - 1)
        return (-half, half - 1) if self.signed else (0, self.activation_qmax)

    def to_dict(self, whole: bool = False) -> dict[str, Any]:
        """Return the description as plain JSON types: one number where all sides agree, newer fields where set.

        A `whole` description has the newer ones too, but for `source_stride`.
        """
        defaults = {field.name: field.default for field in dataclasses.fields(self)}
        kept = {
            name: value
            for name, value in dataclasses.asdict(self).items()
            if (whole and name not in _WHEN_SET) or name not in _NEWER or value != defaults[name]
        }
        return {name: _compact(value) if isinstance(value, tuple) else value for name, value in kept.items()}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any], where: str = "") -> ConvLayer:
        """Rebuild a description from `to_dict`; raise InputError, which begins with `where`, for a wrong key."""
        kinds = {field.name: field.type for field in dataclasses.fields(cls)}
        for name, value in data.items():
            if name not in kinds:
                raise InputError(f"{where}keys must be of {' '.join(kinds)}, not {name}")
            if name in _SIDES:
                by_axis(f"{where}{name}", value, name == _SIDES[-1])
            else:
                check_kind(f"{where}{name}", value, kinds[name])
        for name in kinds:
            if name not in data and name not in _NEWER:
                raise InputError(f"{where}the key {name} must be there")
        try:
            return cls(**data)
        except InputError as error:
            raise InputError(f"{where}{error}") from None


def by_axis(where: str, value: Any, by_side: bool) -> tuple:
    """Return what a number or a list says of each axis, `(y, x)`, or side, `(top, left, bottom, right)`.

    Raise InputError, which begins with `where`, for anything else.
    """
    if is_kind(value, "int"):
        return (value,) * (4 if by_side else 2)
    if is_kind(value, "tuple[int, int]"):
        return tuple(value) * (2 if by_side else 1)
    if by_side and is_kind(value, "tuple[int, int, int, int]"):
        return tuple(value)
    lists = "lists (y, x) or (top, left, bottom, right)" if by_side else "a list (y, x)"
    raise InputError(f"{where} must be a whole number, or {lists} of some, not {value!r}")


def _compact(sides: tuple[int, ...]) -> int | list[int]:
    if len(set(sides)) == 1:
        return sides[0]
    return list(sides[:2] if sides[:2] == sides[2:] else sides)


def _text(sides: tuple[int, ...]) -> str:
    found = _compact(sides)
    return ",".join(map(str, found)) if isinstance(found, list) else str(found)
