"""The golden vectors of one layer: what goes into the array, and what must come out of it, by role."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Int8, Int32, Int64, Integer

from factory.arithmetic.integer import max_pool, threshold_codes
from factory.arithmetic.labelled import LabelledArray
from factory.arithmetic.tiling import nij_of_onij, split_channels, tile_output, untile_output
from factory.dataflow.flow import Dataflow, Sums, take
from factory.dataflow.kept import kept
from factory.dataflow.pixels import POOL_WINDOW, activate, pool_windows, pools
from factory.spec import InputError


def axis_sizes(flow: Dataflow, role: str, post: str, levels: int = 0) -> dict[str, int]:
    """Return the sizes of every axis that a source of `role` can have, `levels` being the thresholds of a channel."""
    sizes = {axis: len(places) for axis, places in vars(flow.tiles).items()}
    pixels, rows = len(flow.pixels), flow.array.rows
    if role == "out" and pools(post):
        pixels, rows = len(_windows(flow)), rows // POOL_WINDOW**2
    if role == "next":
        pixels = flow.spec.next_height * flow.spec.next_width
    rest = dict(row=flow.array.rows, col=flow.array.cols, nij=flow.spec.nij_count, level=levels)
    return sizes | rest | dict(onij=pixels, px=rows)


def _windows(flow: Dataflow) -> Int64[np.ndarray, "window place"]:
    return pool_windows(flow.pixels, flow.spec, flow.tile_pixels)


@dataclass(frozen=True)
class Vectors:
    """One layer's integers, and one image's; every expected value is made from the codes as the array reads them.

    A property for each role of `factory.memfile.ROLES` gives what its files hold, with the role's axes. `activation` is
    None where no image is asked for; `quantizer` is `(threshold, direction)`, None for a layer that no other follows.
    `stored_psums`, where it is given, returns part of the layer's psums of those very codes, `(it, ot, kij, nij, col)`,
    from slices of the first three axes; they are not computed again then.
    """

    flow: Dataflow
    weight: LabelledArray
    activation: LabelledArray | None = None
    quantizer: tuple[Int32[np.ndarray, "oc level"], Int8[np.ndarray, " oc"]] | None = None
    post: str = "relu"
    base: int = 0
    where: str = ""
    stored_psums: Callable[[tuple[slice, ...]], np.ndarray] | None = None

    def sources(self, role: str, outer: str, pixel_tiles: bool = False) -> Iterator[LabelledArray]:
        """Yield what files of `role` hold; psums come one place of the axis `outer` (`it`, `ot`, `kij`) at a time.

        `pixel_tiles` gives `onij` as `pt` and `px`, zero-padded.
        """
        if role == "psum":
            yield from self._read_psums(outer) if self.stored_psums else self._make_psums(outer)
            return
        named: LabelledArray = getattr(self, role)
        if pixel_tiles:
            at, rows = named.axes.index("onij"), axis_sizes(self.flow, role, self.post)["px"]
            axes = (*named.axes[:at], "pt", "px", *named.axes[at + 1 :])
            labels = {**named.labels, "pt": self.flow.tiles.pt}
            named = LabelledArray(split_channels(named.values, at, rows), axes, labels, named.wrapped)
        yield named

    def _make_psums(self, outer: str) -> Iterator[LabelledArray]:
        return self.flow.psums(self.weight, self.activation, self.where, outer)

    def _read_psums(self, outer: str) -> Iterator[LabelledArray]:
        whole = {axis: getattr(self.flow.tiles, axis) for axis in ("it", "ot", "kij")}
        for label in whole.get(outer, (None,)):
            part = whole if label is None else whole | {outer: (label,)}
            block = self.stored_psums(tuple(slice(places[0], places[-1] + 1) for places in part.values()))
            taken = take(block, *(tuple(place - places[0] for place in places) for places in part.values()))
            yield LabelledArray(taken, ("it", "ot", "kij", "nij", "col"), part)

    @kept
    def _sums(self) -> Sums:
        return self.flow.accumulators(self.weight, self.activation, self.where)

    @kept
    def partial(self) -> LabelledArray:
        """The accumulators after each `it`: `(it, ot, onij, col)`."""
        parts = self._sums.held.reshape(*self._sums.held.shape[:2], -1, self.flow.array.cols)
        labels = dict(it=self.flow.tiles.it, ot=self.flow.tiles.ot)
        return LabelledArray(parts.transpose(0, 2, 1, 3), ("it", "ot", "onij", "col"), labels, self._sums.wrapped)

    @kept
    def conv(self) -> LabelledArray:
        """The accumulators: `(ot, onij, col)`."""
        last = Sums(self._sums.exact[-1], self._sums.held[-1])
        values = last.held.reshape(last.held.shape[0], -1, self.flow.array.cols).transpose(1, 0, 2)
        return LabelledArray(values, ("ot", "onij", "col"), dict(ot=self.flow.tiles.ot), last.wrapped)

    @property
    def out(self) -> LabelledArray:
        """The accumulators after the post-op: `(ot, onij, col)`, `onij` being the pooled map's where it pools."""
        values = activate(self.conv.values, self.post)
        if pools(self.post):
            values = values[:, _windows(self.flow)].max(axis=2)
        return replace(self.conv, values=values)

    @property
    def next(self) -> LabelledArray:
        """The codes that enter the next layer: `(ot, onij, col)` of the map after the layer's own pool."""
        flow, sums = self.flow, self.conv
        if len(flow.pixels) != flow.spec.onij_count:
            raise InputError(f"{flow.spec.name}: next must have every pixel tile, not {len(flow.tiles.pt)} of them")
        maps = np.zeros_like(sums.values)
        maps[:, flow.pixels] = sums.values
        acc = untile_output(maps, flow.spec)[: len(flow.channels)]
        codes = threshold_codes(acc, *(part[flow.channels] for part in self.quantizer))
        return replace(sums, values=tile_output(max_pool(codes, flow.spec.pool), flow.array))

    @property
    def threshold(self) -> LabelledArray:
        """The next layer's quantizer, folded into integers: `(ot, level, col)`."""
        return self._by_channel(self.quantizer[0], ("ot", "level", "col"))

    @property
    def direction(self) -> LabelledArray:
        """1 where codes rise with the accumulator, -1 where they fall: `(ot, col)`."""
        return self._by_channel(self.quantizer[1], ("ot", "col"))

    @property
    def address(self) -> LabelledArray:
        """The activation address that each output pixel needs at each kernel position: `(onij, kij)`.

        `base + kij * nij_count + nij(onij, kij)`.
        """
        kij = np.asarray(self.flow.tiles.kij, np.int64)
        nij = nij_of_onij(self.flow.spec)[self.flow.pixels][:, kij]
        values = self.base + kij * self.flow.spec.nij_count + nij
        return LabelledArray(values, ("onij", "kij"), dict(kij=self.flow.tiles.kij))

    def _by_channel(self, values: Integer[np.ndarray, "oc ..."], axes: tuple[str, ...]) -> LabelledArray:
        tiled = split_channels(values, 0, self.flow.array.cols)[list(self.flow.tiles.ot)]
        return LabelledArray(np.moveaxis(tiled, 1, -1), axes, dict(ot=self.flow.tiles.ot))
