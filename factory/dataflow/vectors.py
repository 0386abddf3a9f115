"""The golden vectors of one layer and image: what goes into the array, and what must come out of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from math import prod
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Int64

from factory.arithmetic.integer import max_pool, threshold_codes
from factory.arithmetic.labelled import Address, LabelledArray
from factory.dataflow.mapping import LayerMapping
from factory.dataflow.pixels import POOL_WINDOW, activate, pool_windows, pools
from factory.dataflow.record import PIXELS
from factory.dataflow.schedule import EdgeSchedule
from factory.dataflow.sums import LayerSums, Sums, arranged
from factory.spec import ConvLayer, InputError

TILE_AXES = {
    "weight_tile": ("it", "ot", "kij", "col", "row"),
    "activation_tile": ("it", "nij", "row"),
    "psum": ("it", "ot", "kij", "nij", "col"),
}
"""The axes, after the image's, of what a source holds in the tiles of its own array."""


class kept:
    """A property whose first value is kept by its object.

    `functools.cached_property` does the same, but until Python 3.12 one lock serves all objects of a class: threads,
    each with an object of its own, would wait for each other.
    """

    def __init__(self, compute: Callable[[Any], Any]):
        self._compute = compute
        self.__doc__ = compute.__doc__

    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        if instance is None:
            return self
        value = instance.__dict__[self._compute.__name__] = self._compute(instance)
        return value


@runtime_checkable
class LayerSource(Protocol):
    """One layer's integers, as arrays or datasets that are read when they are sliced.

    `weight` int8 `(oc, ic, ki, kj)`, `activation` integers `(image, ic, y, x)`; `threshold` int32 `(oc, level)` and
    `direction` int8 `(oc,)`, both None for a layer that no other follows. What was computed already, or None:
    `accumulator` `(image, oc, oy, ox)`, and in the tiles of the source's array `weight_tile`
    `(it, ot, kij, col, row)`, `activation_tile` `(image, it, nij, row)`, `psum` `(image, it, ot, kij, nij, col)`.
    """

    spec: ConvLayer
    weight: Any
    activation: Any
    threshold: Any
    direction: Any
    accumulator: Any
    weight_tile: Any
    activation_tile: Any
    psum: Any


@dataclass(frozen=True)
class KnownLayer:
    """What is known of a layer, as a source of vectors: from its codes all else is computed."""

    spec: ConvLayer
    weight: Any = None
    activation: Any = None
    threshold: Any = None
    direction: Any = None
    accumulator: Any = None
    weight_tile: Any = None
    activation_tile: Any = None
    psum: Any = None


@dataclass(frozen=True)
class LayerVectors:
    """One layer's vectors, and one image's (`image` None: those that no image changes), read or computed.

    Every expected value follows from the codes as the array reads them. Where these are the source's very codes and the
    adders hold them, psums and accumulators are the source's own; else they are computed. `tiled` says that the
    source's tiles are those of the mapping's array. Addresses begin with `base`, and count `pixel_words` words for each
    pixel, pixels being `stride` apart. `edge` is when values cross the array's edges.
    """

    mapping: LayerMapping
    source: LayerSource
    image: int | None = None
    post: str = "relu"
    base: int = 0
    stride: int = 1
    pixel_words: int = 1
    edge: EdgeSchedule = EdgeSchedule()
    tiled: bool = False
    own: LayerVectors | None = None

    def of_image(self, image: int) -> LayerVectors:
        """Return one image's vectors, which share the layer's own."""
        return replace(self, image=image, own=self)

    @property
    def where(self) -> Address:
        """The address of the layer and image."""
        return Address(self.mapping.spec.name, self.image)

    @kept
    def weight(self) -> LabelledArray:
        """The weight codes, as the array reads them."""
        if self.own is not None:
            return self.own.weight
        if self.tiled:
            tiles = LabelledArray(self.source.weight_tile[...], TILE_AXES["weight_tile"])
            return self.mapping.read("weight", tiles.take(self.mapping.selection))
        return self.mapping.read("weight", self.mapping.cut_weight(self.source.weight[...]))

    @kept
    def activation(self) -> LabelledArray:
        """The image's activation codes, as the array reads them."""
        if self.tiled:
            tiles = LabelledArray(self.source.activation_tile[self.image], TILE_AXES["activation_tile"])
            return self.mapping.read("activation", tiles.take(self.mapping.selection))
        return self.mapping.read("activation", self.mapping.cut_activation(self.source.activation[self.image]))

    def operands(self) -> dict[str, LabelledArray]:
        """Return the codes that the array reads, by the role of the operand."""
        return {name: getattr(self, name) for name in self.mapping.fields}

    @property
    def _sums(self) -> LayerSums:
        return LayerSums(self.mapping, self.activation, self.weight, self.where)

    @property
    def _reads_all(self) -> bool:
        """Whether the array reads every selected code as it is."""
        return not any(codes.inexact for codes in self.operands().values())

    def psums(self, outer: str) -> Iterator[LabelledArray]:
        """Yield the psums, one label of the axis `outer` at a time where it is a tile or a pass."""
        if self.tiled and self._reads_all and self._psums_fit:
            yield from self._read_psums(outer)
        else:
            yield from self._sums.psums(outer)

    @property
    def _psums_fit(self) -> bool:
        """Whether no psum of any codes that the array can read, nor a part of one, overflows its adder."""
        mapping = self.mapping
        largest = [max(-field.low, field.high) for field in mapping.fields.values()]
        most = mapping.lanes(mapping.dataflow.tilings["ic"]) * prod(largest)
        return mapping.adder.holds(np.array([-most, most]))

    def _read_psums(self, outer: str) -> Iterator[LabelledArray]:
        axes = TILE_AXES["psum"]
        whole = {axis: self.mapping.selection[axis] for axis in axes if axis in self.mapping.selection}
        for label in whole.get(outer, (None,)):
            part = whole if label is None else whole | {outer: (label,)}
            slices = (slice(labels[0], labels[-1] + 1) for labels in part.values())
            block = LabelledArray(self.source.psum[(self.image, *slices)], axes)
            among = {axis: tuple(label - labels[0] for label in labels) for axis, labels in part.items()}
            yield block.take(among).relabel(**part)

    @kept
    def running_sums(self) -> Sums:
        """The accumulators after each part of the sum, computed."""
        return self._sums.accumulators()

    @kept
    def _totals(self) -> Sums:
        """The accumulators, as one part: the source's own where they are sums of the codes that the array reads."""
        if self.source.accumulator is None or not self.mapping.sums_all or not self._reads_all:
            return Sums(self.running_sums.exact[-1:], self.running_sums.held[-1:])
        maps = self.source.accumulator[self.image].reshape(self.mapping.spec.out_channels, -1)
        tiles = self.mapping.tile(LabelledArray(maps[:, self.mapping.pixels], ("oc", PIXELS)))
        exact = arranged(tiles, PIXELS, *self._sums.channel_axes).astype(np.int64)
        return self._sums.settle(exact.reshape(1, exact.shape[0], -1))

    def _by_channel(self, values: np.ndarray, outer: tuple[str, ...], inexact: int) -> LabelledArray:
        """Return sums `(..., onij, channel)` with the axes of output channels."""
        axes, selection = self._sums.channel_axes, self.mapping.selection
        sizes = [self.weight.size(axis) for axis in axes]
        labels = {axis: selection[axis] for axis in (*outer, *axes) if axis in selection}
        return LabelledArray(values.reshape(*values.shape[:-1], *sizes), (*outer, PIXELS, *axes), labels, inexact)

    @kept
    def accumulator(self) -> LabelledArray:
        """The accumulators, before the post-op."""
        return self._by_channel(self._totals.held[0], (), self._totals.inexact())

    @property
    def running_sum(self) -> LabelledArray:
        """The accumulators after each part of the sum."""
        sums, parts = self.running_sums, self.mapping.dataflow.parts
        values = sums.held.reshape(*(len(self.mapping.selection[axis]) for axis in parts), *sums.held.shape[1:])
        return self._by_channel(values, parts, sums.inexact())

    @property
    def out(self) -> LabelledArray:
        """The accumulators after the post-op, the pooled map's where it pools."""
        sums = self.accumulator
        values = activate(sums.values, self.post)
        if pools(self.post):
            values = values[_windows(self.mapping)].max(axis=1)
        return replace(sums, values=values)

    @property
    def next(self) -> LabelledArray:
        """The codes that enter the next layer, of the map after the layer's own pool."""
        mapping, spec = self.mapping, self.mapping.spec
        if len(mapping.pixels) != spec.onij_count:
            tiles = len(mapping.selection[mapping.dataflow.pixel_tiling.outer])
            raise InputError(f"{spec.name}: next must have every pixel tile, not {tiles} of them")
        sums = mapping.untile(self.accumulator)
        maps = np.zeros_like(sums.values)
        maps[:, mapping.pixels] = sums.values
        acc = maps.reshape(-1, spec.out_height, spec.out_width)
        codes = threshold_codes(acc, self.source.threshold[...][mapping.channels], self._direction[mapping.channels])
        whole = np.zeros((spec.out_channels, spec.next_height * spec.next_width), codes.dtype)
        whole[mapping.channels] = max_pool(codes, spec.pool).reshape(len(codes), -1)
        return replace(mapping.tile(LabelledArray(whole, ("oc", PIXELS))), inexact=sums.inexact)

    @property
    def _direction(self) -> np.ndarray:
        return self.source.direction[...]

    @property
    def threshold(self) -> LabelledArray:
        """The next layer's quantizer, folded into integers."""
        return self.mapping.tile(LabelledArray(self.source.threshold[...], ("oc", "level")))

    @property
    def direction(self) -> LabelledArray:
        """1 where codes rise with the accumulator, -1 where they fall."""
        return self.mapping.tile(LabelledArray(self._direction, ("oc",)))

    @property
    def address(self) -> LabelledArray:
        """The activation address that each output pixel needs at each kernel position: `(onij, kij)`.

        `base + stride * (position * nij_count + nij(onij, kij))`: `position` counts the kernel positions that are
        selected, since those are what the files of psums hold. The several words of a pixel have an axis at the end.
        """
        kept = self.mapping.selection["kij"]
        positions = np.arange(len(kept)) * self.mapping.spec.nij_count
        values = self.base + self.stride * (positions + self.mapping.windows)
        if self.pixel_words == 1:
            return LabelledArray(values, (PIXELS, "kij"), {"kij": kept})
        return LabelledArray(values[..., None] + np.arange(self.pixel_words), (PIXELS, "kij", "word"), {"kij": kept})


@dataclass(frozen=True)
class GivenVectors(LayerVectors):
    """The vectors that follow from operands that are given."""

    given: Mapping[str, LabelledArray] = field(default_factory=dict)

    @property
    def weight(self) -> LabelledArray:
        """The weight codes that are given."""
        return self.given["weight"]

    @property
    def activation(self) -> LabelledArray:
        """The activation codes that are given."""
        return self.given["activation"]


def _windows(mapping: LayerMapping) -> Int64[np.ndarray, "window position"]:
    return pool_windows(mapping.pixels, mapping.spec, mapping.tile_pixels)


def output_pixels(mapping: LayerMapping, post: str) -> tuple[Int64[np.ndarray, " onij"], int, int]:
    """Return the pixels of the outputs after a post-op, how many a pixel tile holds, and how many a row of the map."""
    width = mapping.spec.out_width
    if pools(post):
        y, x = np.divmod(mapping.pixels[_windows(mapping)[:, 0]], width)
        pooled = y // POOL_WINDOW * (width // POOL_WINDOW) + x // POOL_WINDOW
        return pooled, mapping.tile_pixels // POOL_WINDOW**2, width // POOL_WINDOW
    return mapping.pixels, mapping.tile_pixels, width
