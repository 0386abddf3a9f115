"""Dataflows and roles as verification knows them: two tables.

Nothing in the package asks which dataflow or which role it has before it; what differs is a field of a row here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Int64, Integer

from factory.spec import SystolicArray
from factory.store import StoredLayer
from factory.verify import reference

if TYPE_CHECKING:
    from factory.verify.selected import ExpectedVectors, SelectedLayer

POOLED_PIXELS = 4

Values = Int64[np.ndarray, "*_"]

CodeField = tuple[int, bool] | tuple[int, bool, str]
"""A lane's bits, whether it has a sign, and how its bits stand for a value (default: two's complement)."""
MapPixels = tuple[Sequence[int], int, int]
"""The `onij` at each place of a role's map; pixels of a pixel tile, and of a row of the map."""


@dataclass(frozen=True)
class Cut:
    """How channels or pixels are cut for the array: `axes` are a tile and its lane, or the one axis of no tiles.

    `side` is the side of the array, `rows` or `cols`, that has the lanes of a tile; empty where there are no tiles.
    """

    axes: tuple[str, ...]
    side: str = ""

    def lanes(self, array: SystolicArray) -> int:
        """Return the lanes of a tile."""
        return getattr(array, self.side) if self.side else 1

    def count(self, places: int, array: SystolicArray) -> int:
        """Return how many tiles hold so many channels or pixels."""
        return -(-places // self.lanes(array))

    def places(self, chosen: Sequence[int], array: SystolicArray) -> list[int]:
        """Return the channel or pixel of each lane of the chosen tiles; the last tile's may go beyond the end."""
        lanes = self.lanes(array)
        return [tile * lanes + lane for tile in chosen for lane in range(lanes)]


@dataclass(frozen=True)
class EdgeRule:
    """What crosses an edge of the array: the vector of `role`, its words along axes, the last fastest, and its lane."""

    role: str
    words: tuple[str, ...]
    lane: str


@dataclass(frozen=True)
class DataflowRule:
    """One dataflow: the axes of each role, how it cuts a layer, what it takes of a map and how it adds.

    `pixels` is None where every output pixel is computed. `stream(layer, padded)` cuts the activation codes from the
    padded map `(ic, nij)`. `sums(layer, activation, weight, adders)` yields, for each `it`, its psums and the
    accumulators `(oc, onij)` after it; `psum` are the axes of all psums, none where there are only accumulators.
    `edges` are what crosses those of the array in each of the `passes`.
    """

    name: str
    axes: Mapping[str, tuple[str, ...]]
    inputs: Cut
    outputs: Cut
    pixels: Cut | None
    stream: Callable[[SelectedLayer, Values], Values]
    sums: Callable[[SelectedLayer, Values, Values, reference.Adders], Iterator[tuple[Values | None, Values]]]
    passes: tuple[str, ...]
    edges: Mapping[str, EdgeRule]
    psum: tuple[str, ...] = ()


@dataclass(frozen=True)
class RoleRule:
    """One role. `dataset` is the store's that its sets name as their source, or with `tiled` the same one in tiles.

    Of a role whose values are given, `given(layer, stored, image)` returns those that geometry or the store gives, if
    any. Values of the others follow from `ExpectedVectors`: `follows` makes them, and `sums` the sums they stand for.
    `field(layer)` is what the array reads an operand in; `occupied(layer)` has ones where an operand has a code, and
    `blank(layer)` the codes of an operand whose map is 0, which the border has too. `map`
    gives the pixels on the role's axis `onij`. `quantized` needs thresholds and directions. An `edge` is what
    crosses one of the array's, in the cycles that the layout gives.
    `addresses` are counted from the layout's base, which is the address of the first word of all other roles.
    """

    dataset: str | None
    given: Callable[[SelectedLayer, StoredLayer | None, int | None], Values | None] | None = None
    follows: Callable[[ExpectedVectors], Values] | None = None
    sums: Callable[[ExpectedVectors], Values] | None = None
    field: Callable[[SelectedLayer], CodeField] | None = None
    occupied: Callable[[SelectedLayer], Values] | None = None
    blank: Callable[[SelectedLayer], Values] | None = None
    map: Callable[[SelectedLayer, str], MapPixels] = lambda layer, post: (
        layer.pixels,
        layer.tile_pixels,
        layer.spec.out_width,
    )
    per_image: bool = True
    tiled: bool = False
    quantized: bool = False
    edge: bool = False
    addresses: bool = False


def _whole_map(layer: SelectedLayer, padded: Integer[np.ndarray, "ic nij"]) -> Values:
    return layer.lay("activation", padded, ("ic", "nij"))


def _window_pixels(layer: SelectedLayer, padded: Integer[np.ndarray, "ic nij"]) -> Values:
    return layer.lay("activation", padded[:, layer.reads], ("ic", "kij", "onij"))


def _weight_stationary(layer: SelectedLayer, activation: Values, weight: Values, adders: reference.Adders) -> Iterator:
    """Psums of every pixel of the padded map; an output adds those that its window reads."""
    weights = layer.join("weight", weight, ("it", "kij", "oc", "row"))
    return reference.sums_by_tile(activation[:, None], weights, layer.reads, adders)


def _input_stationary(layer: SelectedLayer, activation: Values, weight: Values, adders: reference.Adders) -> Iterator:
    """Psums of the output pixels themselves, whose activations stay in the array for one `it` and `kij`."""
    reads = np.tile(np.arange(len(layer.pixels)), (activation.shape[1], 1))
    return reference.sums_by_tile(activation, weight, reads, adders)


def _output_stationary(layer: SelectedLayer, activation: Values, weight: Values, adders: reference.Adders) -> Iterator:
    """No psums outside the accumulators."""
    yield None, reference.sums_by_product(activation, layer.join("weight", weight, ("ic", "kij", "oc")), adders)


def _output_axes(*outputs: str) -> dict[str, tuple[str, ...]]:
    """Return the axes of what an array gives, whose output channels are on the axes `outputs`."""
    tile, *lane = outputs
    made = {role: (tile, "onij", *lane) for role in ("accumulator", "out", "next")}
    return made | {"threshold": (tile, "level", *lane), "direction": outputs, "address": ("onij", "kij")}


def _edge_axes(passes: tuple[str, ...], lanes: tuple[str, ...]) -> dict[str, tuple[str, ...]]:
    return {name: (*passes, "cycle", lane) for name, lane in zip(("west", "north", "south"), lanes, strict=True)}


WEIGHT_STATIONARY = DataflowRule(
    name="ws",
    axes={
        "activation": ("it", "nij", "row"),
        "weight": ("it", "ot", "kij", "col", "row"),
        "psum": ("it", "ot", "kij", "nij", "col"),
        **_edge_axes(("it", "ot", "kij"), ("row", "col", "col")),
        "running_sum": ("it", "ot", "onij", "col"),
        **_output_axes("ot", "col"),
    },
    inputs=Cut(("it", "row"), "rows"),
    outputs=Cut(("ot", "col"), "cols"),
    pixels=None,
    stream=_whole_map,
    sums=_weight_stationary,
    passes=("it", "ot", "kij"),
    edges={
        "west": EdgeRule("activation", ("nij",), "row"),
        "north": EdgeRule("weight", ("row",), "col"),
        "south": EdgeRule("psum", ("nij",), "col"),
    },
    psum=("it", "kij", "oc", "nij"),
)
OUTPUT_STATIONARY = DataflowRule(
    name="os",
    axes={
        "activation": ("ic", "kij", "onij"),
        "weight": ("ot", "ic", "kij", "col"),
        **_edge_axes(("pt", "ot"), ("px", "col", "col")),
        **_output_axes("ot", "col"),
    },
    inputs=Cut(("ic",)),
    outputs=Cut(("ot", "col"), "cols"),
    pixels=Cut(("pt", "px"), "rows"),
    stream=_window_pixels,
    sums=_output_stationary,
    passes=("pt", "ot"),
    edges={
        "west": EdgeRule("activation", ("ic", "kij"), "px"),
        "north": EdgeRule("weight", ("ic", "kij"), "col"),
        "south": EdgeRule("accumulator", ("px",), "col"),
    },
)
INPUT_STATIONARY = DataflowRule(
    name="is",
    axes={
        "activation": ("it", "kij", "onij", "row"),
        "weight": ("it", "kij", "oc", "row"),
        "psum": ("it", "kij", "oc", "onij"),
        **_edge_axes(("it", "pt", "kij"), ("row", "px", "px")),
        "running_sum": ("it", "oc", "onij"),
        **_output_axes("oc"),
    },
    inputs=Cut(("it", "row"), "rows"),
    outputs=Cut(("oc",)),
    pixels=Cut(("pt", "px"), "cols"),
    stream=_window_pixels,
    sums=_input_stationary,
    passes=("it", "pt", "kij"),
    edges={
        "west": EdgeRule("weight", ("oc",), "row"),
        "north": EdgeRule("activation", ("row",), "px"),
        "south": EdgeRule("psum", ("oc",), "px"),
    },
    psum=("it", "kij", "oc", "onij"),
)
DATAFLOW_RULES: Mapping[str, DataflowRule] = MappingProxyType(
    {rule.name: rule for rule in (WEIGHT_STATIONARY, OUTPUT_STATIONARY, INPUT_STATIONARY)}
)


def _given_weight(layer: SelectedLayer, stored: StoredLayer | None, image: int | None) -> Values | None:
    return None if stored is None else layer.cut_weight(stored.weight[:])


def _given_activation(layer: SelectedLayer, stored: StoredLayer | None, image: int | None) -> Values | None:
    return None if stored is None else layer.cut_activation(stored.activation[image])


def _given_threshold(layer: SelectedLayer, stored: StoredLayer | None, image: int | None) -> Values | None:
    if stored is None or stored.threshold is None:
        return None
    return layer.cut_outputs("threshold", stored.threshold[:], "level")


def _given_direction(layer: SelectedLayer, stored: StoredLayer | None, image: int | None) -> Values | None:
    return None if stored is None or stored.direction is None else layer.cut_outputs("direction", stored.direction[:])


def _coded_weight(layer: SelectedLayer) -> Values:
    return layer.cut_weight(np.ones(layer.spec.weight_shape, np.int64))


def _coded_activation(layer: SelectedLayer) -> Values:
    return layer.cut_activation(np.ones((layer.spec.in_channels, layer.spec.height, layer.spec.width), np.int64))


def _blank_activation(layer: SelectedLayer) -> Values:
    nothing = np.zeros((layer.spec.in_channels, layer.spec.height, layer.spec.width), np.int64)
    return reference.read_field(layer.cut_activation(nothing), *layer.activation)


def _map_after_post(layer: SelectedLayer, post: str) -> MapPixels:
    if not post.endswith("maxpool2"):
        return layer.pixels, layer.tile_pixels, layer.spec.out_width
    pooled = list(reference.pool_places(layer.pixels, layer.spec))
    return pooled, layer.tile_pixels // POOLED_PIXELS, layer.spec.out_width // 2


def _map_of_next(layer: SelectedLayer, post: str) -> MapPixels:
    return range(layer.spec.next_height * layer.spec.next_width), layer.tile_pixels, layer.spec.next_width


ROLE_RULES: Mapping[str, RoleRule] = MappingProxyType(
    {
        "weight": RoleRule(
            "weight",
            given=_given_weight,
            field=lambda layer: layer.weight,
            occupied=_coded_weight,
            per_image=False,
            tiled=True,
        ),
        "activation": RoleRule(
            "activation",
            given=_given_activation,
            field=lambda layer: layer.activation,
            occupied=_coded_activation,
            blank=_blank_activation,
            tiled=True,
        ),
        "threshold": RoleRule("threshold", given=_given_threshold, per_image=False),
        "direction": RoleRule("direction", given=_given_direction, per_image=False),
        "address": RoleRule(
            None, given=lambda layer, stored, image: layer.addresses(), per_image=False, addresses=True
        ),
        "psum": RoleRule("psum", follows=lambda made: made.psum, sums=lambda made: made.psum),
        "running_sum": RoleRule("psum", follows=lambda made: made.running_sum, sums=lambda made: made.running_sum),
        "accumulator": RoleRule("conv", follows=lambda made: made.accumulator, sums=lambda made: made.accumulator),
        "out": RoleRule("conv", follows=lambda made: made.out, sums=lambda made: made.accumulator, map=_map_after_post),
        "next": RoleRule(
            "conv",
            follows=lambda made: made.next_codes,
            sums=lambda made: made.accumulator,
            map=_map_of_next,
            quantized=True,
        ),
        **dict.fromkeys(("west", "north", "south"), RoleRule(None, edge=True)),
    }
)
