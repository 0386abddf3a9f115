"""The sums of a mapped layer, as its adders make them: psums of each pass, and accumulators after each part."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import product
from math import prod

import numpy as np
from jaxtyping import Int64, Integer

from factory.arithmetic.adders import exact_product, ordered_sum, reach
from factory.arithmetic.labelled import Address, Axis, LabelledArray
from factory.dataflow.mapping import LayerMapping
from factory.dataflow.record import PIXELS

Terms = tuple[Integer[np.ndarray, "pixel term"], Integer[np.ndarray, "term channel"]]


@dataclass(frozen=True)
class Sums:
    """Sums as they are (`exact`) and as the adders give them (`held`), integers of one shape `(part, onij, channel)`.

    `channel` counts the selected output channels, with those that only fill up the last tile.
    """

    exact: Integer[np.ndarray, "part onij channel"]
    held: Integer[np.ndarray, "part onij channel"]

    def inexact(self) -> int:
        """Return how many sums the adders could not hold."""
        return 0 if self.held is self.exact else int(np.count_nonzero(self.held != self.exact))


def arranged(array: LabelledArray, *axes: str) -> np.ndarray:
    """Return an array's values with its axes in an order."""
    return array.arrange([Axis(name) for name in axes]).values


def read_pixels(mapping: LayerMapping, activation: LabelledArray) -> LabelledArray:
    """Return, of a padded map, the pixel that each output reads at each kernel position: `onij kij` for `nij`."""
    others = [axis for axis in activation.axes if axis != "nij"]
    labels = {**activation.labels, "kij": mapping.selection["kij"]}
    # with the pixels outside, what is copied at a time is a whole pixel, not a value
    return LabelledArray(
        arranged(activation, "nij", *others).take(mapping.windows, axis=0), (PIXELS, "kij", *others), labels
    )


@dataclass(frozen=True)
class LayerSums:
    """What makes a layer's sums: its mapping, the codes that the array reads, the address that errors begin with."""

    mapping: LayerMapping
    activation: LabelledArray
    weight: LabelledArray
    where: Address

    @property
    def channel_axes(self) -> tuple[str, ...]:
        """The axes of the output channels, tiles first."""
        return self.mapping.dataflow.axes(("oc",))

    def parts(self) -> Iterator[tuple[dict[str, int], LabelledArray, LabelledArray]]:
        """Yield each part's labels and operands, in the order in which they are summed."""
        names = self.mapping.dataflow.parts
        for labels in product(*(self.mapping.selection[axis] for axis in names)):
            operands = [self.activation, self.weight]
            for axis, label in zip(names, labels, strict=True):
                operands = [operand.pick(axis, label) for operand in operands]
            yield dict(zip(names, labels, strict=True)), *operands

    def windows(self, activation: LabelledArray) -> LabelledArray:
        """Return the codes that each selected output pixel reads at each kernel position, by the index function."""
        if PIXELS in activation.axes:
            return activation
        return read_pixels(self.mapping, activation)

    @property
    def inner(self) -> tuple[str, ...]:
        """The axes of all terms of an accumulator, in the order in which they are added."""
        flow = self.mapping.dataflow
        return (*flow.parts, *flow.passes, *flow.terms)

    def rows(self, activation: LabelledArray) -> Integer[np.ndarray, "pixel term"]:
        """Return the terms that activations make, parts and passes outside."""
        rows = arranged(self.windows(activation), PIXELS, *self.inner)
        return rows.reshape(len(rows), -1)

    def columns(self, weight: LabelledArray) -> Integer[np.ndarray, "term channel"]:
        """Return the terms that weights make, parts and passes outside."""
        columns = arranged(weight, *self.inner, *self.channel_axes)
        return columns.reshape(prod(map(weight.size, self.inner)), -1)

    def terms(self, activation: LabelledArray, weight: LabelledArray) -> Terms:
        """Return the terms of both operands."""
        return self.rows(activation), self.columns(weight)

    def accumulators(self) -> Sums:
        """Return the accumulators after each part of the sum, the last being the whole."""
        terms = [self.terms(*operands) for _, *operands in self.parts()]
        exact = np.cumsum([exact_product(*pair) for pair in terms], axis=0, dtype=np.int64)
        return self.settle(exact, terms)

    def settle(self, exact: Int64[np.ndarray, "part onij channel"], terms: list[Terms] | None = None) -> Sums:
        """Return exact accumulators, after each part or the last, and what the adders give, which may need `terms`."""
        adder = self.mapping.adder
        if adder.wraps:
            return Sums(exact, adder.settle(exact.reshape(-1, exact.shape[-1]), lambda *_: "").reshape(exact.shape))
        terms = terms or [self.terms(*operands) for _, *operands in self.parts()]
        if adder.holds(np.sum([reach(*pair) for pair in terms], axis=0)):
            return Sums(exact, exact)
        return Sums(exact, self._step_by_step(terms)[-len(exact) :])

    def _step_by_step(self, terms: list[Terms]) -> Int64[np.ndarray, "part onij channel"]:
        """Return the accumulators after each part, every intermediate sum settled by the adders."""
        flow, adder, sums = self.mapping.dataflow, self.mapping.adder, []
        passes = [self.mapping.selection[axis] for axis in flow.passes]
        total = np.zeros((terms[0][0].shape[0], terms[0][1].shape[1]), np.int64)
        for (part, *_), (activation, weight) in zip(self.parts(), terms, strict=True):
            count = activation.shape[1] // prod(map(len, passes))
            for place, labels in enumerate(product(*passes)):
                at = part | dict(zip(flow.passes, labels, strict=True))
                run = slice(place * count, (place + 1) * count)
                _, psum = ordered_sum(activation[:, run], weight[run], adder, self._address(at, PIXELS))
                # where there are no passes the total is 0 here, and the psum of all terms is what the adder held
                total = adder.settle(total + psum, partial(self._address(at, PIXELS), None))
            sums.append(total)
        return np.stack(sums)

    def _address(self, outer: Mapping[str, int], pixel_axis: str):
        """Return a function from (term, pixel, channel) to the address of a sum; no term: of an accumulator."""
        return partial(self._address_of, outer, pixel_axis)

    def _address_of(
        self, outer: Mapping[str, int], pixel_axis: str, term: int | None, pixel: int, channel: int
    ) -> Address:
        mapping, terms, labels = self.mapping, self.mapping.dataflow.terms, dict(outer)
        if term is not None:
            kept = [self.weight.label(axis) for axis in terms]
            index = np.unravel_index(term, [len(x) for x in kept])
            labels |= {axis: int(x[i]) for axis, x, i in zip(terms, kept, index, strict=True)}
        labels[pixel_axis] = int(mapping.pixels[pixel]) if pixel_axis == PIXELS else pixel
        return self.where.at(**labels, oc=self.channel(channel))

    def channel(self, position: int) -> int:
        """Return the output channel at a position among the selected ones and the padding of tiles."""
        tiling = self.mapping.dataflow.tilings.get("oc")
        if tiling is None:
            return int(self.mapping.channels[position])
        tile, lane = divmod(position, self.mapping.lanes(tiling))
        return self.mapping.selection[tiling.outer][tile] * self.mapping.lanes(tiling) + lane

    def psums(self, outer: str) -> Iterator[LabelledArray]:
        """Yield the psums, one label of the axis `outer` at a time where it is a tile or a pass."""
        if outer not in self.mapping.selection or outer not in self.weight.axes:
            yield self._psums(self.activation, self.weight)
            return
        for label in self.mapping.selection[outer]:
            shared = outer not in self.activation.axes
            yield self._psums(
                self.activation if shared else self.activation.pick(outer, label), self.weight.pick(outer, label)
            )

    def _psums(self, activation: LabelledArray, weight: LabelledArray) -> LabelledArray:
        """Return the psums of some operands, each the sum of its own `terms`."""
        flow, adder = self.mapping.dataflow, self.mapping.adder
        # operands meet label by label on the axes that both have; what only weights have is computed side by side
        loops = [axis for axis in weight.axes if axis in activation.axes and axis not in flow.terms]
        columns = [axis for axis in weight.axes if axis not in (*loops, *flow.terms)]
        (pixel,) = (axis for axis in activation.axes if axis not in (*loops, *flow.terms))
        rows, cols = arranged(activation, *loops, pixel, *flow.terms), arranged(weight, *loops, *flow.terms, *columns)
        sizes, blocks, inexact = cols.shape[-len(columns) :], [], 0
        for index, labels in zip(np.ndindex(*rows.shape[: len(loops)]), self._labels(weight, loops), strict=True):
            address = partial(self._psum_address, labels, pixel, columns, weight)
            exact, held = ordered_sum(
                rows[index].reshape(rows.shape[len(loops)], -1), cols[index].reshape(-1, prod(sizes)), adder, address
            )
            inexact += 0 if held is exact else int(np.count_nonzero(held != exact))
            blocks.append(held)
        values = np.stack(blocks).reshape(*rows.shape[: len(loops) + 1], *sizes)
        labels = {axis: weight.label(axis) for axis in (*loops, *columns)}
        return LabelledArray(values, (*loops, pixel, *columns), labels, inexact)

    @staticmethod
    def _labels(array: LabelledArray, axes: list[str]) -> Iterator[dict[str, int]]:
        for labels in product(*(array.label(axis) for axis in axes)):
            yield dict(zip(axes, labels, strict=True))

    def _psum_address(
        self, outer: Mapping[str, int], pixel: str, columns: list[str], weight: LabelledArray,
        term: int, place: int, column: int,
    ) -> Address:  # fmt: skip
        flow, channels = self.mapping.dataflow, self.channel_axes
        index = np.unravel_index(column, [weight.size(axis) for axis in columns])
        at = dict(outer) | {axis: weight.label(axis)[i] for axis, i in zip(columns, index, strict=True)}
        channel = [weight.label(axis).index(at.pop(axis)) for axis in channels if axis in at]
        oc = np.ravel_multi_index(channel, [weight.size(axis) for axis in channels])
        passes = {axis: at[axis] for axis in (*flow.parts, *flow.passes)}
        return self._address_of(passes, pixel, term, place, int(oc))
