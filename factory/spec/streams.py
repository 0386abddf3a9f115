"""What a network adds up without quantizing it: a float first convolution, and residual streams."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from factory.spec.errors import InputError
from factory.spec.layer import IMAGE, ConvLayer, Sides
from factory.spec.values import check_kind


@dataclass(frozen=True)
class Stem:
    """The first convolution of a network whose first weights are real numbers: of the normalised pixels, with a norm.

    Its border is the real 0. The stream that it enters adds a batch norm and a ReLU.
    """

    name: str
    in_channels: int
    out_channels: int
    height: int
    width: int
    kernel: Sides = 3
    stride: Sides = 1
    padding: Sides = 1

    def __post_init__(self):
        for name in ("kernel", "stride", "padding"):
            object.__setattr__(self, name, getattr(self.geometry, name))

    @property
    def geometry(self) -> ConvLayer:
        """The shapes of the convolution, which has no codes, as a layer's."""
        return ConvLayer(source=IMAGE, signed=True, **vars(self))


@dataclass(frozen=True)
class Stream:
    """A residual stream: `max(0, n + shortcut)`, `n` being what leaves `layer` after its batch norm, without a ReLU.

    `layer` is a layer or the stem. `shortcut` is a stream, or a layer, of which what leaves its batch norm is added;
    empty: nothing is. Layers that read the stream by its name quantize it, each by its own clip.
    """

    name: str
    layer: str
    shortcut: str = ""

    def __post_init__(self):
        for field in dataclasses.fields(self):
            check_kind(f"stream {self.name}: {field.name}", getattr(self, field.name), field.type)

    @property
    def inputs(self) -> tuple[str, ...]:
        """What is added: the names of the layer and of the shortcut, if there is one."""
        return (self.layer, self.shortcut) if self.shortcut else (self.layer,)


def to_dict(record: Stem | Stream) -> dict[str, Any]:
    """Return a record as plain JSON types."""
    if isinstance(record, Stream):
        return dataclasses.asdict(record)
    kept = record.geometry.to_dict()
    return {field.name: kept[field.name] for field in dataclasses.fields(record)}


def from_dict(kind: type, data: Mapping[str, Any]) -> Stem | Stream:
    """Rebuild a record of a kind from `to_dict`; raise InputError for a wrong key."""
    names = [field.name for field in dataclasses.fields(kind)]
    if not isinstance(data, Mapping) or set(data) != set(names):
        raise InputError(f"the keys of a {kind.__name__.lower()} must be {' '.join(names)}, not {data!r}")
    return kind(**data)
