"""The coverage of one layer: what its weights leave reachable, and what each image hits."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from math import prod

import numpy as np
from jaxtyping import Bool, Int64, Integer

from factory.arithmetic.adders import exact_product
from factory.arithmetic.labelled import LabelledArray
from factory.coverage.bounds import Bounds, could_step, sum_bounds
from factory.coverage.geometry import border_axes, borders, tile_axes, tiles
from factory.coverage.pairs import Mask, Pairs, Side
from factory.coverage.passes import Codes, Form, Numbers
from factory.coverage.points import EDGES, ENDS, EVENTS, OFFSETS, STEPS, octaves
from factory.coverage.record import Label, LayerCoverage, PointCoverage
from factory.coverage.steps import Products, Vectors, growing, lengths
from factory.coverage.sums import Bins, SumBins
from factory.dataflow import PIXELS, LayerVectors
from factory.dataflow.sums import LayerSums, arranged
from factory.spec import Progress

_AT_ONCE = 4
"""How many thresholds an accumulator costs as much as a sum to look at."""


@dataclass(frozen=True)
class Universe:
    """The bins of a point: their axes, which could be hit, and why the others could not."""

    axes: dict[str, tuple[Label, ...]]
    could: Bool[np.ndarray, "*bins"]
    reason: str


@dataclass(frozen=True)
class LayerCounter:
    """Counts the images of one layer.

    `vectors` are the layer's own, on adders that hold every sum; `low`, `high` are the ends of each input channel's
    codes, and `bits` the width of the adders that are audited.
    """

    vectors: LayerVectors
    low: Integer[np.ndarray, " ic"]
    high: Integer[np.ndarray, " ic"]
    bits: int

    @property
    def name(self) -> str:
        """The layer's name."""
        return self.vectors.mapping.spec.name

    @cached_property
    def form(self) -> Form:
        """How the operands are arranged."""
        return Form(self.vectors.mapping)

    @cached_property
    def pairs(self) -> Pairs:
        """The pairs of codes in the processing elements."""
        return Pairs(self.form)

    @cached_property
    def weight(self) -> Codes:
        """The weights, arranged."""
        return self.form.arrange(self.vectors.weight, False)

    @cached_property
    def weight_mask(self) -> Mask:
        """Which weights there are at each place."""
        return self.pairs.mask(self.weight, False)

    @cached_property
    def _weight_side(self) -> Side:
        return self.pairs.side(self.weight_mask, False)

    @cached_property
    def _ends(self) -> tuple[LabelledArray, LabelledArray]:
        return self.form.reads(self.low, self.high)

    @cached_property
    def _ends_arranged(self) -> tuple[Codes, Codes]:
        low, high = (self.form.arrange(end, True) for end in self._ends)
        return low, high

    @cached_property
    def _term_ends(self) -> tuple[np.ndarray, np.ndarray]:
        low, high = self._ends_arranged
        return low.min(axis=(1, 2)), high.max(axis=(1, 2))

    @cached_property
    def bounds(self) -> Bounds:
        """The bounds of the sums inside the array, with axes `(loop, pass, word, lane)`."""
        return self._by_lane(sum_bounds(self.weight, *self._term_ends))

    def _by_lane(self, bounds: Bounds) -> Bounds:
        return bounds.each(lambda ends: np.expand_dims(ends, 2 if self.form.weights_held else 3))

    @cached_property
    def inside(self) -> SumBins:
        """The bins of the sums inside the array."""
        held, lanes = self.form.weights_held, self.form.mapping.array.cols
        words = (self._ends_arranged[0] if held else self.weight).shape[2]
        return SumBins(self.bits, lanes, words, self.bounds.ends, steady=held, signs=True)

    @cached_property
    def _output_ends(self) -> list[Integer[np.ndarray, "onij channel"]]:
        """The ends of each accumulator, and those of every sum on the way to it."""
        weight = self.vectors.weight
        rises, falls = (replace(weight, values=end(weight.values, 0)) for end in (np.maximum, np.minimum))
        low, high = self._ends
        near, far = replace(low, values=np.minimum(low.values, 0)), replace(high, values=np.maximum(high.values, 0))
        same = (near.values == low.values).all() and (far.values == high.values).all()
        pairs = [(low, high), (high, low), *([] if same else [(near, far), (far, near)])]
        return [self._exact(a, rises) + self._exact(b, falls) for a, b in pairs]

    def _exact(self, activation: LabelledArray, weight: LabelledArray) -> Integer[np.ndarray, "onij channel"]:
        return exact_product(self._rows(activation), self._columns_of(weight).T)[: len(self.form.mapping.pixels)]

    @property
    def _sums(self) -> LayerSums:
        return LayerSums(self.form.mapping, self._ends[0], self.vectors.weight, self.vectors.where)

    def _by_channel(self, sums: Integer[np.ndarray, "onij channel"]) -> LabelledArray:
        axes = self._sums.channel_axes
        sizes = [self.vectors.weight.size(axis) for axis in axes]
        return LabelledArray(sums.reshape(-1, *sizes), (PIXELS, *axes))

    @cached_property
    def output_bounds(self) -> Bounds:
        """The bounds of the accumulators, in the order of the output's words, with axes `(1, pass, word, lane)`."""
        streams = [self._stream(ends)[None] for ends in self._output_ends]
        return Bounds(*(streams * 2)[:4])

    def outputs(self, activation: LabelledArray) -> Integer[np.ndarray, "pass word lane"]:
        """Return the accumulators of activations as they are read, in the order of the output's words."""
        return self._stream(self._of_pixels(self._products(activation)))

    def _stream(self, sums: Integer[np.ndarray, "onij channel"]) -> Integer[np.ndarray, "pass word lane"]:
        return self.form.stream(self._by_channel(sums))

    @cached_property
    def outside(self) -> SumBins | None:
        """The bins of the accumulators, where these are not the sums inside the array."""
        if not self.form.mapping.dataflow.has_psums:
            return None
        _, _, words, lanes = self.output_bounds.low.shape
        return SumBins(self.bits, lanes, words, self.output_bounds.ends, steady=False, signs=False)

    @property
    def _inside_name(self) -> str:
        return "accumulator" if self.outside is None else "psum"

    @cached_property
    def universes(self) -> dict[str, Universe]:
        """The bins of every point, with those that no input can hit."""
        pairs, mapping = self.pairs, self.form.mapping
        codes = pairs.mask(self._ends_arranged, True)
        could = self.inside.could(self.bounds) | {"sign": could_step(self.weight, *self._term_ends)}
        could["toggle"] &= self._lanes_used[:, None, None]
        found = {
            "activation": Universe({"code": pairs.codes(True)}, codes.any(axis=(0, 1, 2)), "no channel has the code"),
            "weight": Universe(
                {"code": pairs.codes(False)}, self.weight_mask.any(axis=(0, 1, 2)), "no weight has the code"
            ),
            "pair": Universe(
                pairs.axes,
                pairs.pairs(pairs.side(codes, True), self._weight_side),
                "no such weight meets, in this place, a channel that can have such an activation",
            ),
            **_sum_universes(self._inside_name, self.inside, could),
        }
        if self.outside is not None:
            found |= _sum_universes("accumulator", self.outside, self.outside.could(self.output_bounds))
        if self._at is not None:
            found["threshold"] = self._threshold_universe()
        found["tile"] = Universe(tile_axes(mapping), tiles(mapping, whole=True), "the layer has no such tile")
        borders_there = borders(mapping, whole=True)
        found["border"] = Universe(border_axes(mapping), borders_there, "no output pixel reads such a pixel there")
        return found

    @property
    def _lanes_used(self) -> Bool[np.ndarray, " lane"]:
        """Return which lanes hold something else than zeros, whatever the input."""
        held = [self.weight] if self.form.weights_held else self._ends_arranged
        return np.logical_or.reduce([codes.any(axis=(0, 1, 3)) for codes in held])

    @property
    def operands(self) -> tuple[Codes, Codes]:
        """The shapes of both operands: the least activations that there can be, and the weights."""
        return self._ends_arranged[0], self.weight

    def arranged(self, image: int) -> Codes:
        """Return an image's activations, arranged."""
        return self.form.arrange(self.vectors.of_image(image).activation, True)

    def point_name(self, kind: str) -> str:
        """Return the point that a kind of bins of the sums inside the array is of."""
        return _name(self._inside_name, kind)

    def count(self, image: int, of_tile: bool = False) -> dict[str, np.ndarray]:
        """Return which bins of every point an image hits; or of those points alone that one tile decides."""
        vectors = self.vectors.of_image(image)
        activation = self.form.arrange(vectors.activation, True)
        mask = self.pairs.mask(activation, True)
        found = {
            "activation": mask.any(axis=(0, 1, 2)),
            "weight": self.universes["weight"].could,
            "pair": self.pairs.pairs(self.pairs.side(mask, True), self._weight_side),
        }
        if self.outside is not None:
            found |= _named("psum", self._look_inside(activation))
            if of_tile:
                return found
        products = self._products(vectors.activation)
        found |= _named("accumulator", self._look_at(self.outside or self.inside, products))
        if of_tile:
            return found
        if self._at is not None:
            found["threshold"] = self._at_thresholds(self._of_pixels(products))
        return found | self._geometry

    @cached_property
    def _geometry(self) -> dict[str, np.ndarray]:
        """What any image hits of the points that the geometry alone decides."""
        mapping = self.form.mapping
        return {"tile": tiles(mapping, whole=False), "border": borders(mapping, whole=False)}

    def wanted(self, name: str, bins: SumBins) -> Bins:
        """Return the bins of sums that could be hit."""
        return {kind: self.universes[_name(name, kind)].could.copy() for kind in bins.none()}

    def see(self, activation: Numbers, weight: Codes, blocks: np.ndarray, wanted: Bins, found: Bins) -> None:
        """Put the bins of those that are wanted which the sums inside the array of some blocks hit, into `found`."""
        products = self.form.products(activation, weight, blocks, self.bounds.floats)
        self.inside.see(self.form.passes(products.sums, activation.shape[2]), wanted, found)
        self.inside.see_steps(products, wanted, found)

    def _look_inside(self, activation: Codes) -> Bins:
        activation = activation.astype(self.bounds.floats)
        size = prod(activation.shape[1:3]) * self.weight.shape[2]
        see = partial(self.see, activation, self.weight)
        return self.inside.look(see, size, self._bounds_of(activation), self.wanted(self._inside_name, self.inside))

    @cached_property
    def _lengths(self) -> tuple[np.ndarray, np.ndarray]:
        """The largest lengths, `(loop, pass)`, of what lets sums fall, and rise, in a block's vectors of weights."""
        rising = self._term_ends[0].min() >= 0
        signed = [end(self.weight, 0) if rising else self.weight for end in (np.minimum, np.maximum)]
        low, high = (lengths(codes.astype(np.float32)).max(axis=2) for codes in signed)
        return -low, high

    def _bounds_of(self, activation: Numbers) -> Bounds:
        """Return bounds of the sums of each block, and of those on the way to them, by Cauchy and Schwarz.

        They are much closer than sums of the terms' own ends, since no word has all of its codes at their ends.
        """
        longest = lengths(activation).max(axis=(1, 2))[:, None]
        least, most = (np.trunc(longest * mine).astype(np.int32)[..., None, None] for mine in self._lengths)
        return Bounds(least, most, least, most)

    def _look_at(self, bins: SumBins, products: Products) -> Bins:
        """Return which bins the accumulators hit."""
        found, wanted = bins.none(), self.wanted("accumulator", bins)
        bins.see_stream(self._stream(self._of_pixels(products)), wanted, found)
        bins.see_steps(products, wanted, found)
        return found

    def _of_pixels(self, products: Products) -> Integer[np.ndarray, "onij channel"]:
        return products.sums[0, : len(self.form.mapping.pixels)]

    def _products(self, activation: LabelledArray) -> Products:
        """Return the products of the accumulators, in one block, with those of the zeros in a ragged pixel tile."""
        rows = Vectors(self._rows(activation)[None], self._columns.floats)
        step = 1 if self.outside is None else prod(self.vectors.weight.size(axis) for axis in self.form.terms)
        return Products(rows, self._columns, self._order, step)

    @cached_property
    def _columns(self) -> Vectors:
        bounds = self.bounds if self.outside is None else self.output_bounds
        return Vectors(self._columns_of(self.vectors.weight)[None], bounds.floats)

    def _rows(self, activation: LabelledArray) -> Integer[np.ndarray, "onij term"]:
        windows = self.form.split(self._sums.windows(activation))
        pixels = (axis for axis in windows.axes if axis not in self._term_axes)
        return arranged(windows, *pixels, *self._term_axes).reshape(-1, len(self._order))

    def _columns_of(self, weight: LabelledArray) -> Integer[np.ndarray, "channel term"]:
        return arranged(weight, *self._sums.channel_axes, *self._term_axes).reshape(-1, len(self._order))

    @cached_property
    def _term_axes(self) -> tuple[str, ...]:
        """The axes of the terms of an accumulator, in the order in which they are gathered fastest."""
        return tuple(axis for axis in self._sums.windows(self._ends[0]).axes if axis != PIXELS)

    @cached_property
    def _order(self) -> Int64[np.ndarray, " term"]:
        """The place of each term of an accumulator, in the order in which they are added."""
        sizes = [self.vectors.weight.size(axis) for axis in self._term_axes]
        places = LabelledArray(np.arange(prod(sizes)).reshape(sizes), self._term_axes)
        return arranged(places, *self._sums.inner).reshape(-1)

    @cached_property
    def _at(self) -> Integer[np.ndarray, "oc level offset"] | None:
        """The accumulators at and beside the selected channels' thresholds; None where sums are not whole."""
        source, mapping = self.vectors.source, self.form.mapping
        if source.threshold is None or not mapping.sums_all:
            return None
        threshold, direction = (x[...][mapping.channels].astype(np.int64) for x in (source.threshold, source.direction))
        at = threshold[..., None] + direction[:, None, None] * np.array(OFFSETS)
        held = np.iinfo(np.int32)
        # comparing integers of one type is much faster
        return at.astype(np.int32) if held.min <= at.min() and at.max() <= held.max else at

    def _threshold_universe(self) -> Universe:
        low, high = (self.form.mapping.untile(self._by_channel(ends)).values for ends in self._output_ends[:2])
        reached = (self._at >= low.min(axis=1)[:, None, None]) & (self._at <= high.max(axis=1)[:, None, None])
        axes = {"level": tuple(range(1, self._at.shape[1] + 1)), "offset": OFFSETS}
        return Universe(axes, reached.any(axis=0), "no channel's accumulators have such values within their bounds")

    def _at_thresholds(self, sums: Integer[np.ndarray, "onij channel"]) -> Bool[np.ndarray, "level offset"]:
        could = self.universes["threshold"].could
        at, found = self._at.reshape(len(self._at), -1).T, np.zeros(could.size, bool)
        sums = sums[:, : at.shape[1]]
        for part in growing(len(sums), _AT_ONCE * at.shape[1]):
            (left,) = (could.reshape(-1) & ~found).nonzero()
            if not len(left):
                break
            found[left] = (sums[part, None] == at[left]).any(axis=0).any(axis=1)  # one after the other is faster
        return found.reshape(could.shape)

    def coverage(
        self, images: Sequence[int], of_tile: bool = False, step: Callable[[int], None] | None = None
    ) -> LayerCoverage:
        """Return the coverage of some images, of every point, or of those that one tile decides.

        `step` is called with the number of images that are done.
        """
        hits = {name: np.zeros(universe.could.shape, np.int64) for name, universe in self.universes.items()}
        counted = set()
        for number, image in enumerate(images):
            if step:
                step(number)
            for name, bins in self.count(image, of_tile).items():
                hits[name] += bins
                counted.add(name)
        points = {
            name: PointCoverage(name, x.axes, hits[name], {} if x.could.all() else {x.reason: ~x.could})
            for name, x in self.universes.items()
            if name in counted
        }
        return LayerCoverage(self.name, len(images), points)


def images_done(progress: Progress | None, what: str, layer: int, layers: int, images: int) -> Callable[[int], None]:
    """Return what is called with the number of images of a layer that are done, of `layers` times `images` in all."""

    def step(done: int) -> None:
        if progress:
            progress(layer * images + done, layers * images, what)

    return step


def _name(name: str, kind: str) -> str:
    return kind if kind == "sign" else f"{name}_{kind}"


def _named(name: str, bins: Bins) -> dict[str, np.ndarray]:
    return {_name(name, kind): found for kind, found in bins.items()}


def _sum_universes(name: str, bins: SumBins, could: Bins) -> dict[str, Universe]:
    axes = {
        "range": {"end": ENDS},
        "octave": {"octave": octaves(bins.bits)},
        "toggle": {"lane": tuple(range(bins.lanes)), "bit": tuple(range(bins.bits)), "edge": EDGES},
        "overflow": {"event": EVENTS},
        "sign": {"step": STEPS},
    }
    reasons = {
        "range": "",
        "octave": "the exact bounds of the sums exclude it",
        "toggle": "the bit is the same in all sums that the lane's weights allow, or its words are alone",
        "overflow": "the exact bounds of the sums on the way exclude it",
        "sign": "no weights of a column have products and sums of these signs",
    }
    return {_name(name, kind): Universe(axes[kind], could[kind], reasons[kind]) for kind in could}
