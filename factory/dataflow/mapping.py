"""A layer mapped on an array: which part of it is selected, the order of its pixels, and its operands cut to tiles."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Int64, Integer

from factory.arithmetic.adders import Adder
from factory.arithmetic.bits import Field
from factory.arithmetic.labelled import LabelledArray, Selection
from factory.arithmetic.tiling import nij_of_onij, pad_map
from factory.dataflow.pixels import pixel_order, tile_positions
from factory.dataflow.record import PIXELS, Dataflow, Tiling
from factory.spec import ConvLayer, SystolicArray


@dataclass(frozen=True)
class LayerMapping:
    """One layer, the part of it that is selected, and the array that works on it.

    `array` is the tile that the array takes at a time. `fields` are what its processing elements read, by the role of
    an operand. `pixel_block` is the order of output pixels where they have tiles: blocks of `(height, width)`.
    """

    dataflow: Dataflow
    spec: ConvLayer
    array: SystolicArray
    selection: Selection
    fields: Mapping[str, Field]
    adder: Adder
    pixel_block: tuple[int, int] = (1, 1)

    @classmethod
    def whole(cls, dataflow: Dataflow, spec: ConvLayer, array: SystolicArray) -> LayerMapping:
        """Return a whole layer on an array, whose elements read every code as it is."""
        selection = {axis: tuple(range(count)) for axis, count in dataflow.counts(spec, array).items()}
        return cls(dataflow, spec, array, Selection(selection), {}, Adder(array.psum_bits))

    @cached_property
    def counts(self) -> dict[str, int]:
        """How many places each axis that can be selected has in the whole layer."""
        return self.dataflow.counts(self.spec, self.array)

    def lanes(self, tiling: Tiling) -> int:
        """Return how many lanes of the array take the places of one tile."""
        return tiling.size(self.array)

    @property
    def tile_pixels(self) -> int:
        """Output pixels that are computed together."""
        tiling = self.dataflow.pixel_tiling
        return self.spec.onij_count if tiling is None else self.lanes(tiling)

    @cached_property
    def pixels(self) -> Int64[np.ndarray, " onij"]:
        """The `onij` at each selected position, in the order in which the array takes them."""
        tiling = self.dataflow.pixel_tiling
        if tiling is None:
            return np.arange(self.spec.onij_count)
        order = pixel_order(self.spec, self.pixel_block)
        return order[tile_positions(self.selection[tiling.outer], self.tile_pixels, len(order))]

    @cached_property
    def windows(self) -> Int64[np.ndarray, "onij kij"]:
        """The `nij` that each selected output pixel reads at each kernel position that is selected."""
        return nij_of_onij(self.spec)[self.pixels][:, list(self.selection["kij"])]

    @cached_property
    def channels(self) -> Int64[np.ndarray, " oc"]:
        """The output channels that are selected."""
        return self.channels_of("oc")

    def channels_of(self, dim: str) -> Int64[np.ndarray, " channel"]:
        """Return the selected channels, of the layer's own, on an axis `ic` or `oc`."""
        tiling, count = self.dataflow.tilings.get(dim), {"ic": self.spec.in_channels, "oc": self.spec.out_channels}[dim]
        if tiling is None:
            return np.asarray(self.selection[dim], np.int64)
        return tile_positions(self.selection[tiling.outer], self.lanes(tiling), count)

    @property
    def input_channels(self) -> int:
        """How many input channels the sums take."""
        return len(self.selection["ic"]) if "ic" in self.selection else self.spec.in_channels

    @property
    def sums_all(self) -> bool:
        """Whether the accumulators are sums over the whole layer: every input channel and kernel position."""
        summed = (*self.dataflow.parts, *self.dataflow.passes, *self.dataflow.terms)
        return self.selection.is_whole(self.counts, summed)

    def sizes(self, *, pixels: int, tile_pixels: int, levels: int) -> dict[str, int]:
        """Return the sizes of every axis, for a role with `pixels` output pixels in tiles of `tile_pixels`."""
        found = {axis: len(labels) for axis, labels in self.selection.items()}
        for tiling in self.dataflow.tilings.values():
            found[tiling.inner] = self.lanes(tiling)
        if self.dataflow.pixel_tiling is not None:
            found[self.dataflow.pixel_tiling.inner] = tile_pixels
        return found | {"nij": self.spec.nij_count, PIXELS: pixels, "level": levels}

    def tile(self, whole: LabelledArray) -> LabelledArray:
        """Return the selected part of an array of a whole layer: its channel axes in tiles, padded with zeros."""
        for dim, tiling in self.dataflow.tilings.items():
            if dim in whole.axes:
                whole = whole.split(dim, tiling.outer, tiling.inner, self.lanes(tiling))
        return whole.take(self.selection)

    def untile(self, tiled: LabelledArray) -> LabelledArray:
        """Invert `tile` for output channels: the selected ones on one axis `oc`, in order, without padding."""
        outer = self.dataflow.axes(("oc",))
        rest = [axis for axis in tiled.axes if axis not in outer]
        order = [tiled.axes.index(axis) for axis in (*outer, *rest)]
        joined = tiled.values.transpose(order).reshape(-1, *(tiled.size(axis) for axis in rest))
        return LabelledArray(joined[: len(self.channels)], ("oc", *rest), {}, tiled.inexact)

    def cut_weight(self, codes: Integer[np.ndarray, "oc ic ki kj"]) -> LabelledArray:
        """Return the selected weight codes, tiled."""
        return self.tile(LabelledArray(codes.reshape(*codes.shape[:2], -1), ("oc", "ic", "kij")))

    def cut_activation(self, codes: Integer[np.ndarray, "ic y x"]) -> LabelledArray:
        """Return one image's selected activation codes, tiled, as `cut_map` does."""
        return self.cut_map(pad_map(codes, self.spec))

    def cut_map(self, padded: Integer[np.ndarray, "ic nij"]) -> LabelledArray:
        """Return what is selected of a padded map, tiled: as the map, or as what each output pixel needs."""
        if "nij" in self.dataflow.reads:
            return self.tile(LabelledArray(padded, ("ic", "nij")))
        gathered = padded[:, nij_of_onij(self.spec)[self.pixels].T]
        return self.tile(LabelledArray(gathered, ("ic", "kij", PIXELS)))

    def read(self, role: str, codes: LabelledArray) -> LabelledArray:
        """Return an operand's codes as the array reads them, in the axes' order of the words."""
        held, changed = self.fields[role].wrap(codes.values)
        return LabelledArray(held, codes.axes, codes.labels, changed)
