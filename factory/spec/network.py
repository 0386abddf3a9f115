"""The description of a network, a graph of frozen records without weights, and of the array that it runs on."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from factory.spec.errors import InputError
from factory.spec.layer import GIVEN, IMAGE, MOST_SIZE, ConvLayer
from factory.spec.values import check_kind, check_range

CIFAR_MEAN = (0.491, 0.482, 0.447)
CIFAR_STD = (0.247, 0.243, 0.262)
MOST_LANES = 4096
"""Rows or columns of the largest array: far more than any that was built, few enough for the memory of a tile."""
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.\-]*")


@dataclass(frozen=True)
class LayerSet:
    """Layers in an order, each with a name of its own: what a store holds, whatever made it.

    `source` of a layer is the name of one before it, `image`, or `given` where its codes are given.
    """

    name: str
    layers: tuple[ConvLayer, ...]

    def __post_init__(self):
        for field in dataclasses.fields(self):
            check_kind(f"network {self.name}: {field.name}", getattr(self, field.name), field.type)
        if not self.layers:
            raise InputError(f"network {self.name}: it must have at least one layer")
        seen: set[str] = set()
        for layer in self.layers:
            if not _NAME.fullmatch(layer.name) or layer.name in (IMAGE, GIVEN):
                raise InputError(
                    f"network {self.name}: a layer's name must be of letters, digits, _, . and -, and not image or "
                    f"given, not {layer.name!r}"
                )
            if layer.name in seen:
                raise InputError(f"network {self.name}: layer names must be unique, {layer.name} is there twice")
            if layer.source not in (IMAGE, GIVEN, *seen):
                raise InputError(f"{layer.name}: its source must be image or an earlier layer, not {layer.source}")
            seen.add(layer.name)

    @property
    def squeezed(self) -> ConvLayer:
        """The first of the layers whose wider side, input or output channels, is the narrowest."""
        return min(self.layers, key=lambda layer: max(layer.in_channels, layer.out_channels))

    def layer(self, name: str) -> ConvLayer:
        """Return the layer called `name`; raise InputError that lists the layers there are."""
        for layer in self.layers:
            if layer.name == name:
                return layer
        raise InputError(f"layer must be one of {' '.join(x.name for x in self.layers)}, not {name}")

    def consumers(self, name: str) -> tuple[ConvLayer, ...]:
        """Return the layers that take the codes which leave the layer called `name`."""
        return tuple(layer for layer in self.layers if layer.source == name)

    def select(self, names: str | Sequence[str]) -> tuple[ConvLayer, ...]:
        """Return the layers of a selection, in the network's order: `all`, `squeezed`, or names (with commas)."""
        wanted = names.split(",") if isinstance(names, str) else list(names)
        wanted = [name.strip() for name in wanted if name.strip()]
        if not wanted:
            raise InputError("the selection of layers must hold at least one layer, it is empty")
        chosen: set[str] = set()
        for name in wanted:
            if name == "all":
                chosen.update(layer.name for layer in self.layers)
            else:
                chosen.add(self.squeezed.name if name == "squeezed" else self.layer(name).name)
        return tuple(layer for layer in self.layers if layer.name in chosen)

    def to_dict(self) -> dict[str, Any]:
        """Return the description as plain JSON types."""
        fields = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return fields | {"layers": [layer.to_dict() for layer in self.layers]}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> LayerSet:
        """Rebuild a description from `to_dict`; raise InputError where a key is missing or unknown."""
        try:
            layers = tuple(ConvLayer(**layer) for layer in data["layers"])
            rest = {key: tuple(v) if isinstance(v, list) else v for key, v in data.items() if key != "layers"}
            return cls(layers=layers, **rest)
        except (KeyError, TypeError) as error:
            raise InputError(f"network description: {error}") from None


@dataclass(frozen=True)
class Network(LayerSet):
    """A graph of convolutions from an image to a linear classifier.

    `layers` is in an order in which each layer's `source` comes before it; `source` is a layer's name or `image`.
    The classifier takes the flattened map after the last layer's pool, `(channel, y, x)`, and gives `classes` logits.
    `mean` and `std` normalise the pixels, per colour: `(pixel / 255 - mean) / std`.
    """

    classes: int = 10
    mean: tuple[float, ...] = CIFAR_MEAN
    std: tuple[float, ...] = CIFAR_STD
    eps: float = 1e-5

    def __post_init__(self):
        super().__post_init__()
        check_range(f"network {self.name}: classes", self.classes, 1, MOST_SIZE)
        if not (len(self.mean) == len(self.std) and all(value > 0 for value in (*self.std, self.eps))):
            raise InputError(f"network {self.name}: it must have a mean and a std > 0 for each colour, and eps > 0")
        for layer in self.layers:
            if layer.source == IMAGE:
                expected = (len(self.mean), layer.height, layer.width)
            elif layer.source == GIVEN:
                raise InputError(f"{layer.name}: its source must be image or an earlier layer, not {layer.source}")
            else:
                before = self.layer(layer.source)
                expected = (before.out_channels, before.next_height, before.next_width)
            found = (layer.in_channels, layer.height, layer.width)
            if expected != found:
                raise InputError(f"{layer.name}: its input must be {expected} from {layer.source}, not {found}")
            if layer.signed and layer.source != IMAGE:
                raise InputError(f"{layer.name}: its codes must be unsigned, because they follow a ReLU")
            for name, only in dict(dilation=(1, 1), groups=1, zero_point=0).items():
                if getattr(layer, name) != only:
                    found = getattr(layer, name)
                    raise InputError(f"{layer.name}: {name} must be {only} in a network that is lowered, not {found}")

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """`(channels, height, width)` of the pixels."""
        first = self.layers[0]
        return (first.in_channels, first.height, first.width)

    @property
    def last(self) -> ConvLayer:
        """The layer whose output the classifier takes."""
        return self.layers[-1]

    @property
    def classifier_shape(self) -> tuple[int, int]:
        """`(classes, features)`."""
        return (self.classes, self.last.out_channels * self.last.next_height * self.last.next_width)


@dataclass(frozen=True)
class SystolicArray:
    """A systolic array of `rows` x `cols` processing elements; `psum_bits` is the width of its adders.

    Input channels enter rows, output channels leave columns. A tile is `rows` x `cols` channels; the last one of a
    layer is padded with zero lanes.
    """

    rows: int = 8
    cols: int = 8
    psum_bits: int = 16

    def __post_init__(self):
        for field in ("rows", "cols"):
            if getattr(self, field) < 1:
                raise InputError(f"array {field} must be at least 1, not {getattr(self, field)}")
            if getattr(self, field) > MOST_LANES:
                raise InputError(f"array {field} must be at most {MOST_LANES}, not {getattr(self, field)}")
        if not 2 <= self.psum_bits <= 32:
            raise InputError(f"array psum_bits must be 2 to 32, not {self.psum_bits}")

    def input_tiles(self, channels: int) -> int:
        """Number of `it` that hold `channels` input channels."""
        return -(-channels // self.rows)

    def output_tiles(self, channels: int) -> int:
        """Number of `ot` that hold `channels` output channels."""
        return -(-channels // self.cols)

    def pixel_tiles(self, pixels: int) -> int:
        """Number of `pt` that hold `pixels` output pixels (OS: `rows` pixels a tile)."""
        return -(-pixels // self.rows)
