"""The description of a network, a graph of frozen records without weights, and of the array that it runs on."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence
from dataclasses import dataclass

from factory.spec.errors import InputError
from factory.spec.values import check_kind, check_range

CIFAR_MEAN = (0.491, 0.482, 0.447)
CIFAR_STD = (0.247, 0.243, 0.262)
IMAGE = "image"
MOST_SIZE = 1 << 16
"""Most channels, classes or pixels of a side: far more than any network has, few enough to count a map's pixels."""
MOST_LANES = 4096
"""Rows or columns of the largest array: far more than any that was built, few enough for the memory of a tile."""
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.\-]*")


@dataclass(frozen=True)
class ConvLayer:
    """One convolution, the codes that enter it, and what follows it up to the next one.

    The steps after the convolution are, in this order: batch norm (if `batch_norm`), ReLU, max pool of
    `pool` x `pool` with stride `pool` (1: none). Kernel, stride, padding and pool are square, in pixels.
    Activation codes are `0 .. 2**activation_bits - 1`, or have both signs where `signed` (the image's layer).

    Words: `kij = ki * kernel + kj`; `nij = y * padded_width + x` on the zero-padded input map;
    `onij = y * out_width + x` on the output map; `it`, `ot`: input- and output-channel tile.
    """

    name: str
    source: str
    in_channels: int
    out_channels: int
    height: int
    width: int
    kernel: int = 3
    stride: int = 1
    padding: int = 1
    weight_bits: int = 4
    activation_bits: int = 4
    signed: bool = False
    batch_norm: bool = True
    pool: int = 1

    def __post_init__(self):
        for field in dataclasses.fields(self):
            check_kind(f"{self.name}: {field.name}", getattr(self, field.name), field.type)
        least = dict(in_channels=1, out_channels=1, height=1, width=1, kernel=1, stride=1, padding=0, pool=1)
        for field, low in least.items():
            check_range(f"{self.name}: {field}", getattr(self, field), low, MOST_SIZE)
        for field, low in dict(weight_bits=2, activation_bits=1).items():
            if not low <= getattr(self, field) <= 8:
                raise InputError(f"{self.name}: {field} must be {low} to 8, not {getattr(self, field)}")
        if self.out_height < self.pool or self.out_width < self.pool:
            raise InputError(
                f"{self.name}: a {self.height}x{self.width} map with padding {self.padding} must hold the "
                f"{self.kernel}x{self.kernel} kernel and the {self.pool}x{self.pool} pool"
            )

    @property
    def padded_height(self) -> int:
        """Rows of the zero-padded input map."""
        return self.height + 2 * self.padding

    @property
    def padded_width(self) -> int:
        """Columns of the zero-padded input map."""
        return self.width + 2 * self.padding

    @property
    def nij_count(self) -> int:
        """Pixels of the zero-padded input map."""
        return self.padded_height * self.padded_width

    @property
    def kij_count(self) -> int:
        """Kernel positions."""
        return self.kernel * self.kernel

    @property
    def out_height(self) -> int:
        """Rows of the output map, before the pool."""
        return (self.padded_height - self.kernel) // self.stride + 1

    @property
    def out_width(self) -> int:
        """Columns of the output map, before the pool."""
        return (self.padded_width - self.kernel) // self.stride + 1

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
        return (self.out_channels, self.in_channels, self.kernel, self.kernel)

    @property
    def weight_qmax(self) -> int:
        """Largest weight code: `2**(weight_bits - 1) - 1`; the smallest is its negative."""
        return 2 ** (self.weight_bits - 1) - 1

    @property
    def activation_qmax(self) -> int:
        """Largest activation code: `2**activation_bits - 1`."""
        return 2**self.activation_bits - 1


@dataclass(frozen=True)
class Network:
    """A graph of convolutions from an image to a linear classifier.

    `layers` is in an order in which each layer's `source` comes before it; `source` is a layer's name or `image`.
    The classifier takes the flattened map after the last layer's pool, `(channel, y, x)`, and gives `classes` logits.
    `mean` and `std` normalise the pixels, per colour: `(pixel / 255 - mean) / std`.
    """

    name: str
    layers: tuple[ConvLayer, ...]
    classes: int = 10
    mean: tuple[float, ...] = CIFAR_MEAN
    std: tuple[float, ...] = CIFAR_STD
    eps: float = 1e-5

    def __post_init__(self):
        for field in dataclasses.fields(self):
            check_kind(f"network {self.name}: {field.name}", getattr(self, field.name), field.type)
        if not self.layers:
            raise InputError(f"network {self.name}: it must have at least one layer")
        check_range(f"network {self.name}: classes", self.classes, 1, MOST_SIZE)
        if not (len(self.mean) == len(self.std) and all(value > 0 for value in (*self.std, self.eps))):
            raise InputError(f"network {self.name}: it must have a mean and a std > 0 for each colour, and eps > 0")
        seen: dict[str, ConvLayer] = {}
        for layer in self.layers:
            if not _NAME.fullmatch(layer.name) or layer.name == IMAGE:
                raise InputError(
                    f"network {self.name}: a layer's name must be of letters, digits, _, . and -, and not image, "
                    f"not {layer.name!r}"
                )
            if layer.name in seen:
                raise InputError(f"network {self.name}: layer names must be unique, {layer.name} is there twice")
            if layer.source == IMAGE:
                expected = (len(self.mean), layer.height, layer.width)
            elif layer.source in seen:
                before = seen[layer.source]
                expected = (before.out_channels, before.next_height, before.next_width)
            else:
                raise InputError(f"{layer.name}: its source must be image or an earlier layer, not {layer.source}")
            found = (layer.in_channels, layer.height, layer.width)
            if expected != found:
                raise InputError(f"{layer.name}: its input must be {expected} from {layer.source}, not {found}")
            if layer.signed and layer.source != IMAGE:
                raise InputError(f"{layer.name}: its codes must be unsigned, because they follow a ReLU")
            seen[layer.name] = layer

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

    def to_dict(self) -> dict:
        """Return the description as plain JSON types."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, data: dict) -> Network:
        """Rebuild a description from `to_dict`; raise InputError where a key is missing or unknown."""
        try:
            layers = tuple(ConvLayer(**layer) for layer in data["layers"])
            rest = {key: tuple(v) if isinstance(v, list) else v for key, v in data.items() if key != "layers"}
            return cls(layers=layers, **rest)
        except (KeyError, TypeError) as error:
            raise InputError(f"network description: {error}") from None


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
