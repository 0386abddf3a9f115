"""Output stationary: a tile of output pixels stays in the array while input channels and kernel positions stream."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Int8, Int64, Integer

from factory.arithmetic.adders import ordered_sum
from factory.arithmetic.labelled import LabelledArray
from factory.arithmetic.tiling import nij_of_onij, pad_map, split_channels
from factory.dataflow.flow import Dataflow, Sums, read_as, take
from factory.dataflow.pixels import pixel_order, tile_places
from factory.spec import InputError


@dataclass(frozen=True)
class OutputStationary(Dataflow):
    """Output pixels on rows, output channels on columns; sums over `ic` outside, `kij` inside.

    `conv[ot, onij, col] = sum over ic, kij of activation[ic, kij, onij] * weight[ot, ic, kij, col]`.
    """

    @cached_property
    def pixels(self) -> Int64[np.ndarray, " onij"]:
        """The output pixels of the selected tiles, in the profile's order."""
        order = pixel_order(self.spec, self.pixel_block)
        return order[tile_places(self.tiles.pt, self.array.rows, len(order))]

    @property
    def tile_pixels(self) -> int:
        """Rows of the array."""
        return self.array.rows

    @property
    def sums_all(self) -> bool:
        """Whether every input channel and `kij` is selected."""
        return len(self.tiles.ic) == self.spec.in_channels and len(self.tiles.kij) == self.spec.kij_count

    def read_weight(self, codes: Int8[np.ndarray, "oc ic ki kj"]) -> LabelledArray:
        """`(ot, ic, kij, col)`."""
        kept = dict(ot=self.tiles.ot, ic=self.tiles.ic, kij=self.tiles.kij)
        flat = codes.reshape(self.spec.out_channels, self.spec.in_channels, -1)
        tiles = split_channels(flat, 0, self.array.cols).transpose(0, 2, 3, 1)
        return read_as(take(tiles, *kept.values()), ("ot", "ic", "kij", "col"), self.weight_field, **kept)

    def read_activation(self, codes: Integer[np.ndarray, "ic y x"]) -> LabelledArray:
        """`(ic, kij, onij)`: the padded pixel that each output pixel needs."""
        kept = dict(ic=self.tiles.ic, kij=self.tiles.kij)
        pixel = nij_of_onij(self.spec)[self.pixels][:, list(self.tiles.kij)].T
        chosen = pad_map(codes, self.spec)[np.asarray(self.tiles.ic)[:, None, None], pixel]
        return read_as(chosen, ("ic", "kij", "onij"), self.activation_field, **kept)

    def psums(self, weight: LabelledArray, activation: LabelledArray, where: str, axis: str) -> Iterator[LabelledArray]:
        """Raise InputError: an output-stationary array has no partial sums outside its accumulators."""
        raise InputError("psum must be asked of dataflow ws, os has none")

    def accumulators(self, weight: LabelledArray, activation: LabelledArray, where: str) -> Sums:
        """Return the accumulators `(1, onij, channel)`."""
        columns = activation.values.reshape(-1, len(self.pixels)).T
        rows = weight.values.transpose(1, 2, 0, 3).reshape(columns.shape[1], -1)
        terms = [(ic, kij) for ic in self.tiles.ic for kij in self.tiles.kij]

        def address(term: int, pixel: int, channel: int) -> str:
            ic, kij = terms[term]
            return self.address(where, pixel, channel, ic=ic, kij=kij)

        exact, held = ordered_sum(columns, rows, self.adder, address)
        return Sums(exact[None], held[None])
