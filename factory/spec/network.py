"""The description of a network, a graph of frozen records without weights, and of the array that it runs on."""

from __future__ import annotations

import dataclasses
import functools
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from factory.spec.errors import InputError
from factory.spec.layer import GIVEN, IMAGE, MOST_SIZE, ConvLayer
from factory.spec.streams import Stem, Stream, from_dict, to_dict
from factory.spec.values import check_kind, check_range

CIFAR_MEAN = (0.491, 0.482, 0.447)
CIFAR_STD = (0.247, 0.243, 0.262)
MOST_LANES = 4096
"""Rows or columns of the largest array: far more than any that was built, few enough for the memory of a tile."""
_LONGEST = 128
_NAME = re.compile(rf"[A-Za-z0-9_][A-Za-z0-9_.\-]{{0,{_LONGEST - 1}}}")


def check_layer_name(where: str, name: str) -> None:
    """Raise InputError, which begins with `where`, unless a layer may be called so: its files and groups are."""
    if not _NAME.fullmatch(name) or name in (IMAGE, GIVEN):
        raise InputError(
            f"{where}a layer's name must be of letters, digits, _, . and -, up to {_LONGEST} of them, and not image or "
            f"given, not {name[:_LONGEST]!r}"
        )


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
            check_layer_name(f"network {self.name}: ", layer.name)
            if layer.name in seen:
                raise InputError(f"network {self.name}: layer names must be unique, {layer.name} is there twice")
            if layer.source not in (IMAGE, GIVEN, *self._readable(seen)):
                raise InputError(f"{layer.name}: its source must be image or an earlier layer, not {layer.source}")
            seen.add(layer.name)

    def _readable(self, layers: Collection[str]) -> Collection[str]:
        """Return the names of what a layer that follows some `layers` may read."""
        return layers

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
        """Return the layers that read what is called `name`: a layer, a stream or the image."""
        return tuple(layer for layer in self.layers if layer.source == name)

    def select(
        self, names: str | Sequence[str], held: Collection[str] | None = None, where: str = ""
    ) -> tuple[ConvLayer, ...]:
        """Return the layers of a selection, in the network's order: `all`, `squeezed`, or names (with commas).

        `held` are the layers that may be chosen, of which `all` is all: those of a store that holds a part of its
        network. An InputError lists them, after `where`.
        """
        known = [layer.name for layer in self.layers if held is None or layer.name in held]
        wanted = names.split(",") if isinstance(names, str) else list(names)
        wanted = [name.strip() for name in wanted if name.strip()]
        if not wanted:
            raise InputError("the selection of layers must hold at least one layer, it is empty")
        chosen: set[str] = set()
        for name in wanted:
            named = known if name == "all" else [self.squeezed.name if name == "squeezed" else name]
            for one in named:
                if one not in known:
                    raise InputError(f"{where}layer must be one of {' '.join(known)}, not {one}")
            chosen.update(named)
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

    `layers` is in an order in which each layer's `source` comes before it; `source` is the name of a layer, of which
    the thresholds of its accumulators make the codes, of a stream, or `image`. `streams` are in such an order too. A
    network with a `stem` begins with that, and no layer reads its image.

    The classifier takes the flattened map, `(channel, y, x)`, of the last of the `steps`, after that layer's pool and
    the mean of each square of `average_pool` pixels a side, and gives `classes` logits. `mean` and `std` normalise the
    pixels, per colour: `(pixel / 255 - mean) / std`.
    """

    classes: int = 10
    mean: tuple[float, ...] = CIFAR_MEAN
    std: tuple[float, ...] = CIFAR_STD
    eps: float = 1e-5
    stem: Stem | None = None
    streams: tuple[Stream, ...] = ()
    average_pool: int = 1

    def __post_init__(self):
        super().__post_init__()
        check_range(f"network {self.name}: classes", self.classes, 1, MOST_SIZE)
        if not (len(self.mean) == len(self.std) and all(value > 0 for value in (*self.std, self.eps))):
            raise InputError(f"network {self.name}: it must have a mean and a std > 0 for each colour, and eps > 0")
        for layer in self.layers:
            if layer.source == GIVEN or (self.stem and layer.source == IMAGE):
                raise InputError(f"{layer.name}: its source must be image or an earlier layer, not {layer.source}")
            channels, height, width = self.source_shape(layer)
            expected = (channels, *(-(-side // layer.source_stride) for side in (height, width)))
            found = (layer.in_channels, layer.height, layer.width)
            if expected != found:
                raise InputError(f"{layer.name}: its input must be {expected} from {layer.source}, not {found}")
            if layer.signed and layer.source != IMAGE:
                raise InputError(f"{layer.name}: its codes must be unsigned, because they follow a ReLU")
            for name, only in dict(dilation=(1, 1), groups=1, zero_point=0).items():
                if getattr(layer, name) != only:
                    found = getattr(layer, name)
                    raise InputError(f"{layer.name}: {name} must be {only} in a network that is lowered, not {found}")
        self._check_streams()
        _, height, width = self.map_shape(self.output)
        check_range(f"network {self.name}: average_pool", self.average_pool, 1, min(height, width))

    def _check_streams(self) -> None:
        if self.stem and len(self.mean) != self.stem.in_channels:
            raise InputError(f"{self.stem.name}: it must read {len(self.mean)} colours, not {self.stem.in_channels}")
        own = [stream.name for stream in self.streams]
        stem = [self.stem.name] if self.stem else []
        taken = [IMAGE, GIVEN, *stem, *own, *(layer.name for layer in self.layers)]
        for name in (*stem, *own):
            if not _NAME.fullmatch(name) or taken.count(name) > 1:
                raise InputError(
                    f"{name}: a stream or a stem must have a name of its own, of letters, digits, _, . and -"
                )
        for place, stream in enumerate(self.streams):
            if stream.layer in own:
                raise InputError(
                    f"stream {stream.name}: it must begin with a layer, not with the stream {stream.layer}"
                )
            if not {*stem, *own[:place], *(layer.name for layer in self.layers)}.issuperset(stream.inputs):
                raise InputError(f"stream {stream.name}: it must add layers and earlier streams, not {stream.inputs}")
            shapes = [self.map_shape(name) for name in stream.inputs]
            if len(set(shapes)) > 1:
                raise InputError(f"stream {stream.name}: its maps must be of one size, not {shapes[0]} and {shapes[1]}")
        entering = [name for stream in self.streams for name in stream.inputs if name not in own]
        for layer in self.layers:
            if entering.count(layer.name) > 1 or (layer.name in entering and layer.pool > 1):
                raise InputError(f"{layer.name}: it must enter one stream at most, and then have no pool")
        if self.stem and self.stem.name not in entering:
            raise InputError(f"{self.stem.name}: a stem must enter a stream")

    @property
    def entering(self) -> frozenset[str]:
        """The names of what is added to streams from its accumulators: of layers, and of the stem."""
        streams = {stream.name for stream in self.streams}
        return frozenset(name for stream in self.streams for name in stream.inputs if name not in streams)

    def _readable(self, layers: Collection[str]) -> Collection[str]:
        """Return the layers that enter no stream, and the streams that are complete once these layers are computed."""
        found = {*layers, *([self.stem.name] if self.stem else [])}
        for stream in self.streams:
            found |= {stream.name} if found.issuperset(stream.inputs) else set()
        return found - self.entering

    @functools.cached_property
    def steps(self) -> tuple[Stem | ConvLayer | Stream, ...]:
        """The stem, layers and streams in an order in which each follows what it reads."""
        steps: dict[str, Stem | ConvLayer | Stream] = {}
        for step in (self.stem, *self.layers):
            if step:
                steps[step.name] = step
            for stream in self.streams:
                if steps.keys() >= set(stream.inputs):
                    steps.setdefault(stream.name, stream)
        return tuple(steps.values())

    def map_shape(self, name: str) -> tuple[int, int, int]:
        """Return `(channels, height, width)` of what leaves a layer, after its pool, a stream or the stem."""
        for stream in self.streams:
            if stream.name == name:
                return self.map_shape(stream.layer)
        layer = self.stem.geometry if self.stem and name == self.stem.name else self.layer(name)
        return (layer.out_channels, layer.next_height, layer.next_width)

    def source_shape(self, layer: ConvLayer) -> tuple[int, int, int]:
        """Return `(channels, height, width)` of the map of which a layer reads one pixel in `source_stride`."""
        if layer.source != IMAGE:
            return self.map_shape(layer.source)
        return (len(self.mean), layer.height * layer.source_stride, layer.width * layer.source_stride)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """`(channels, height, width)` of the pixels."""
        first = self.stem or self.layers[0]
        return (first.in_channels, first.height, first.width)

    @property
    def last(self) -> ConvLayer:
        """The last layer."""
        return self.layers[-1]

    @property
    def output(self) -> str:
        """The name of what the classifier takes: the last of the `steps`."""
        return self.steps[-1].name

    @property
    def classifier_shape(self) -> tuple[int, int]:
        """`(classes, features)`."""
        channels, height, width = self.map_shape(self.output)
        return (self.classes, channels * (height // self.average_pool) * (width // self.average_pool))

    def to_dict(self) -> dict[str, Any]:
        """Return the description as plain JSON types; what residual networks alone have is there where it is set."""
        data = super().to_dict()
        for name, plain in dict(stem=None, streams=(), average_pool=1).items():
            if data[name] == plain:
                del data[name]
        if self.stem:
            data["stem"] = to_dict(self.stem)
        if self.streams:
            data["streams"] = [to_dict(stream) for stream in self.streams]
        return data

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Network:
        """Rebuild a description from `to_dict`; raise InputError where a key is missing or unknown."""
        records = {}
        try:
            if "stem" in data:
                records["stem"] = from_dict(Stem, data["stem"])
            if "streams" in data:
                records["streams"] = [from_dict(Stream, stream) for stream in data["streams"]]
        except TypeError as error:
            raise InputError(f"network description: {error}") from None
        return super().from_dict({**data, **records} if records else data)


def step_inputs(step: Stem | ConvLayer | Stream) -> tuple[str, ...]:
    """Return the names of what a step of a network reads."""
    if isinstance(step, Stream):
        return step.inputs
    return (IMAGE,) if isinstance(step, Stem) else (step.source,)


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
                raise InputError(f"{field} must be at least 1, not {getattr(self, field)}")
            if getattr(self, field) > MOST_LANES:
                raise InputError(f"{field} must be at most {MOST_LANES}, not {getattr(self, field)}")
        if not 2 <= self.psum_bits <= 32:
            raise InputError(f"psum_bits must be 2 to 32, not {self.psum_bits}")

    def input_tiles(self, channels: int) -> int:
        """Number of `it` that hold `channels` input channels."""
        return -(-channels // self.rows)

    def output_tiles(self, channels: int) -> int:
        """Number of `ot` that hold `channels` output channels."""
        return -(-channels // self.cols)

    def pixel_tiles(self, pixels: int) -> int:
        """Number of `pt` that hold `pixels` output pixels (OS: `rows` pixels a tile)."""
        return -(-pixels // self.rows)
