"""Weight stationary: a tile's weights stay in the array while the pixels of the padded map stream through."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from jaxtyping import Int8, Int64, Integer

from factory.arithmetic.adders import exact_product, ordered_sum, reach
from factory.arithmetic.bits import field_range
from factory.arithmetic.labelled import LabelledArray
from factory.arithmetic.tiling import nij_of_onij, tile_activation, tile_weight
from factory.dataflow.flow import Dataflow, Sums, read_as, take


@dataclass(frozen=True)
class WeightStationary(Dataflow):
    """Input channels on rows, output channels on columns; sums over `it` outside, `kij` inside.

    `psum[it, ot, kij, nij, col] = sum over row of activation[it, nij, row] * weight[it, ot, kij, col, row]`, row 0
    first; `conv[ot, onij, col] = sum over it, kij of psum[it, ot, kij, nij(onij, kij), col]`.
    """

    def read_weight(self, codes: Int8[np.ndarray, "oc ic ki kj"]) -> LabelledArray:
        """`(it, ot, kij, col, row)`."""
        return self.read_weight_tiles(tile_weight(codes, self.array))

    def read_activation(self, codes: Integer[np.ndarray, "ic y x"]) -> LabelledArray:
        """`(it, nij, row)`."""
        return self.read_activation_tiles(tile_activation(codes, self.spec, self.array))

    def read_weight_tiles(self, tiles: Int8[np.ndarray, "it ot kij col row"]) -> LabelledArray:
        """Return the selected weight codes, from all tiles, as the array reads them: `(it, ot, kij, col, row)`."""
        kept = dict(it=self.tiles.it, ot=self.tiles.ot, kij=self.tiles.kij)
        return read_as(take(tiles, *kept.values()), ("it", "ot", "kij", "col", "row"), self.weight_field, **kept)

    def read_activation_tiles(self, tiles: Integer[np.ndarray, "it nij row"]) -> LabelledArray:
        """Return the selected activation codes, from all tiles, as the array reads them: `(it, nij, row)`."""
        return read_as(take(tiles, self.tiles.it), ("it", "nij", "row"), self.activation_field, it=self.tiles.it)

    @property
    def psums_fit(self) -> bool:
        """Whether no psum of any codes that the array can read, nor a part of one, overflows its adder."""
        activation, weight = (
            max(map(abs, field_range(*field))) for field in (self.activation_field, self.weight_field)
        )
        most = self.array.rows * activation * weight
        return self.adder.holds(np.array([-most, most]))

    @property
    def pixels(self) -> Int64[np.ndarray, " onij"]:
        """Every output pixel, row-major."""
        return np.arange(self.spec.onij_count)

    @property
    def tile_pixels(self) -> int:
        """The whole map."""
        return self.spec.onij_count

    @property
    def sums_all(self) -> bool:
        """Whether every `it` and `kij` is selected."""
        every_it = len(self.tiles.it) == self.array.input_tiles(self.spec.in_channels)
        return every_it and len(self.tiles.kij) == self.spec.kij_count

    def psums(self, weight: LabelledArray, activation: LabelledArray, where: str, axis: str) -> Iterator[LabelledArray]:
        """Yield `(it, ot, kij, nij, col)`, one place of `axis` at a time where it is `it`, `ot` or `kij`."""
        if axis not in ("it", "ot", "kij"):
            yield self._psum(weight, activation, where)
            return
        for label in getattr(self.tiles, axis):
            part = replace(self, tiles=replace(self.tiles, **{axis: (label,)}))
            tiles = activation.pick(axis, label) if axis in activation.axes else activation
            yield part._psum(weight.pick(axis, label), tiles, where)

    def _psum(self, weight: LabelledArray, activation: LabelledArray, where: str) -> LabelledArray:
        psums, wrapped, channels = [], 0, weight.values.shape[1:4]
        for it, pixels, columns in zip(self.tiles.it, activation.values, weight.values, strict=True):

            def address(row: int, nij: int, channel: int, it: int = it) -> str:
                ot, kij, col = map(int, np.unravel_index(channel, channels))
                oc = self.tiles.ot[ot] * self.array.cols + col
                return f"{where}, it {it}, kij {self.tiles.kij[kij]}, row {row}, nij {nij}, oc {oc}"

            sums = Sums(*ordered_sum(pixels, columns.reshape(-1, self.array.rows).T, self.adder, address))
            wrapped += sums.wrapped
            psums.append(sums.held.reshape(-1, *channels).transpose(1, 2, 0, 3))
        return LabelledArray(np.stack(psums), ("it", "ot", "kij", "nij", "col"), weight.labels, wrapped)

    def accumulators(self, weight: LabelledArray, activation: LabelledArray, where: str) -> Sums:
        """Return the accumulators `(it, onij, channel)` after each selected `it`."""
        terms = [self._terms(*pair) for pair in zip(activation.values, weight.values, strict=True)]
        exact = np.cumsum([exact_product(*pair) for pair in terms], axis=0, dtype=np.int64)
        if self.adder.overflow == "wrap":
            flat = exact.reshape(-1, exact.shape[-1])
            return Sums(exact, self.adder.settle(flat, partial(self.address, where)).reshape(exact.shape))
        if self.adder.holds(np.sum([reach(*pair) for pair in terms], axis=0)):
            return Sums(exact, exact)
        return Sums(exact, self._narrow_sums(terms, where))

    def _terms(
        self, activation: Integer[np.ndarray, "nij row"], weight: Integer[np.ndarray, "ot kij col row"]
    ) -> tuple[Integer[np.ndarray, "onij term"], Integer[np.ndarray, "term channel"]]:
        """Return one tile's terms, `kij` outside and `row` inside."""
        pixel = nij_of_onij(self.spec)[:, list(self.tiles.kij)]
        gathered = activation[pixel].reshape(self.spec.onij_count, -1)
        return gathered, weight.transpose(1, 3, 0, 2).reshape(gathered.shape[1], -1)

    def _narrow_sums(
        self, terms: list[tuple[np.ndarray, np.ndarray]], where: str
    ) -> Int64[np.ndarray, "it onij channel"]:
        """Return the accumulators after each `it`, every intermediate sum settled by the adders."""
        adder, rows, sums = self.adder, self.array.rows, []
        total = np.zeros((terms[0][0].shape[0], terms[0][1].shape[1]), np.int64)
        for it, (activation, weight) in zip(self.tiles.it, terms, strict=True):
            for place, kij in enumerate(self.tiles.kij):
                address, row = partial(self.address, where, it=it, kij=kij), slice(place * rows, (place + 1) * rows)
                _, psum = ordered_sum(
                    activation[:, row], weight[row], adder, lambda row, *at, address=address: address(*at, row=row)
                )
                total = adder.settle(total + psum, address)
            sums.append(total)
        return np.stack(sums)
