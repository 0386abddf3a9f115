"""One comparison that failed: the words that were wanted, those that were given, and what either could follow from."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from typing import Any

import numpy as np
from jaxtyping import Bool, Int64, UInt8

from factory.arithmetic.adders import Adder
from factory.arithmetic.labelled import LabelledArray
from factory.dataflow import PIXELS, GivenVectors, LayerMapping, LayerVectors
from factory.diagnose.dump import GIVEN, MISSING, UNDEFINED
from factory.diagnose.golden import Group

Words = Int64[np.ndarray, "file line lane"]
"""Values in the order of the bits: files, the words of each, the lanes of a word, lane 0 first."""


_WORDS = ("expected", "given", "state")


@dataclass(frozen=True)
class Guess:
    """What a dump would hold if a hypothesis were true; `undefined`: where it would hold x.

    `detail` says which one of the hypothesis's `choices` it is.
    """

    detail: str
    values: Words
    choices: int = 1
    undefined: Bool[np.ndarray, "file line lane"] | None = None


@dataclass(frozen=True)
class Case:
    """A group of files, the words `expected` and the words `given`, each value of which has a `state`.

    `operands` are the codes that the array read, None where neither the export nor a store has them. `others` are words
    that other images and layers want in the same files. A case `on_top` holds what one guess expects, to be changed by
    another: what is slow, or far-fetched then, is left out.
    """

    group: Group
    expected: Words
    given: Words
    state: UInt8[np.ndarray, "file line lane"]
    operands: Mapping[str, LabelledArray] | None = None
    source: Any = None
    others: Mapping[str, Words] = field(default_factory=dict)
    on_top: bool = False

    @property
    def mapping(self) -> LayerMapping:
        """The layer on its array."""
        return self.group.layer.mapping

    @property
    def post(self) -> str:
        """What follows the sums."""
        return self.group.plan.profile.post

    @cached_property
    def wrong(self) -> Bool[np.ndarray, "file line lane"]:
        """Where a value was given, or x, and is not what it must be; padding is not looked at."""
        return self.differs | (self.state == UNDEFINED) & ~self.group.padding

    @cached_property
    def differs(self) -> Bool[np.ndarray, "file line lane"]:
        """Where a value is known and is not what it must be."""
        return (self.state == GIVEN) & (self.given != self.expected) & ~self.group.padding

    @cached_property
    def right(self) -> Bool[np.ndarray, "file line lane"]:
        """Where a value is what it must be."""
        return (self.state == GIVEN) & (self.given == self.expected) & ~self.group.padding

    @cached_property
    def absent(self) -> Bool[np.ndarray, "file line lane"]:
        """Where the dump has nothing."""
        return (self.state == MISSING) & ~self.group.padding

    @property
    def looked_at(self) -> Bool[np.ndarray, "file line lane"]:
        """The values that are wrong, or, where none is, those that are missing."""
        return self.wrong if self.wrong.any() else self.absent

    @property
    def named(self) -> LabelledArray:
        """The expected words with the layout's own axes."""
        placed = self.group.files.placement.placed
        return LabelledArray(self.expected.reshape(tuple(placed.values())), tuple(placed))

    @property
    def lane_bits(self) -> int:
        """Bits of a value."""
        return self.group.files.layout.lane_bits

    def wrapped(self, values: np.ndarray) -> Words:
        """Return values as the files' lanes hold them."""
        return self.group.files.layout.field.wrap(values)[0].astype(np.int64).reshape(self.expected.shape)

    def part(self, kept: Mapping[str, tuple[int, ...]]) -> tuple[Case, Callable[[np.ndarray], np.ndarray]]:
        """Return the case of some labels of axes alone, and what takes its words from those of the whole."""
        group = self.group.part(kept)
        pick = partial(_picked, self.group, group, kept)
        operands = None
        if self.operands is not None:
            operands = {role: _cut(codes, kept) for role, codes in self.operands.items()}
        words = pick(self.expected), pick(self.given), pick(self.state.astype(np.int64)).astype(np.uint8)
        return replace(self, group=group, operands=operands, others={}, **dict(zip(_WORDS, words, strict=True))), pick

    # ---- recomputation: what the operands give ----------------------------------------------------------------------

    def vectors(self, adder: Adder | None = None, post: str | None = None, **operands: LabelledArray) -> LayerVectors:
        """Return the layer's vectors of operands of which some are others, with another adder or post-op."""
        mapping = self.mapping if adder is None else replace(self.mapping, adder=adder)
        return GivenVectors(
            mapping, self.source, self.group.image, self.post if post is None else post,
            edge=self.group.files.layout.edge, given={**self.operands, **operands},
        )  # fmt: skip

    def values(self, adder: Adder | None = None, post: str | None = None, **operands: LabelledArray) -> Words:
        """Return what the files would hold with other operands, another adder or another post-op."""
        (vector,) = self.group.files.role.values(self.vectors(adder, post, **operands), "")
        return self.group.arrange(vector)

    @cached_property
    def recomputes(self) -> bool:
        """Whether the operands give the very words that are expected."""
        return self.operands is not None and np.array_equal(self.values(), self.expected)

    @property
    def totals(self) -> bool:
        """Whether the words are sums over everything, before or after a post-op that changes no shape."""
        role, parts = self.group.files.role, self.mapping.dataflow.parts
        running = bool(parts) and set(parts) <= set(self.group.axes)
        pooled = role.posts and self.group.sizes != self._plain_sizes
        return role.totals and not role.of_next and not running and not pooled

    @property
    def _plain_sizes(self) -> tuple[int, ...]:
        sizes = self.mapping.sizes(pixels=len(self.mapping.pixels), tile_pixels=self.mapping.tile_pixels, levels=0)
        return tuple(sizes[axis] for axis in self.group.axes)

    @cached_property
    def accumulators(self) -> LabelledArray:
        """The accumulators, before the post-op."""
        return self.vectors().accumulator

    def by_tile(self, array: LabelledArray) -> LabelledArray:
        """Return an array with its output pixels in the tiles that are computed together, where there are such."""
        tiling = self.mapping.dataflow.pixel_tiling
        if tiling is None or PIXELS not in array.axes:
            return array
        return array.split(PIXELS, tiling.outer, tiling.inner, self.mapping.tile_pixels)

    def untiled(self, array: LabelledArray, pixels: int) -> LabelledArray:
        """Invert `by_tile` for so many pixels."""
        tiling = self.mapping.dataflow.pixel_tiling
        if tiling is None or tiling.outer not in array.axes:
            return array
        return array.join(tiling.outer, tiling.inner, PIXELS, pixels)

    def from_sums(self, sums: LabelledArray, activate: Callable[[np.ndarray], np.ndarray]) -> Words:
        """Return what the files would hold of other accumulators; `activate` is applied where the words follow it."""
        values = self.mapping.adder.field.wrap(sums.values)[0]
        return self.group.arrange(
            LabelledArray(activate(values) if self.group.files.role.posts else values, sums.axes, sums.labels)
        )


def _cut(array: LabelledArray, kept: Mapping[str, tuple[int, ...]]) -> LabelledArray:
    """Return the labels of some axes that are kept."""
    for axis in [axis for axis in array.axes if axis in kept]:
        array = array.keep(axis, [array.label(axis).index(label) for label in kept[axis]])
    return array


def _picked(whole: Group, part: Group, kept: Mapping[str, tuple[int, ...]], words: np.ndarray) -> np.ndarray:
    """Return the words of a part from those of the whole."""
    return part.place(_cut(whole.vector(words), kept))


def changed(array: LabelledArray, values: np.ndarray) -> LabelledArray:
    """Return an array with other values."""
    return LabelledArray(np.ascontiguousarray(values), array.axes, array.labels)


def moved(array: LabelledArray, axis: str, by: int, fill: str) -> np.ndarray:
    """Return the values `by` places later on an axis; `fill` is what comes first: `wraps`, `zero`, or `stays`."""
    at = array.axes.index(axis)
    values = np.roll(array.values, by, at)
    new = [slice(None)] * values.ndim
    new[at] = slice(0, by) if by > 0 else slice(by, None)
    if fill == "zero":
        values[tuple(new)] = 0
    elif fill == "stays":
        values[tuple(new)] = array.values[tuple(new)]
    return values


def permuted(array: LabelledArray, axis: str, order: np.ndarray) -> np.ndarray:
    """Return the values with the places of an axis in another order."""
    return array.values.take(order, axis=array.axes.index(axis))


def at_places(array: LabelledArray, places: Mapping[str, int]) -> tuple:
    """Return the index of one place on each of some axes."""
    return tuple(places.get(axis, slice(None)) for axis in array.axes)


def kernel_orders(mapping: LayerMapping) -> Iterator[tuple[str, np.ndarray]]:
    """Yield orders in which kernel positions may be taken wrongly, where all are selected."""
    kernel = mapping.spec.kernel
    if len(mapping.selection["kij"]) != kernel[0] * kernel[1] or max(kernel) == 1:
        return
    kij = np.arange(kernel[0] * kernel[1]).reshape(kernel)
    if kernel[0] == kernel[1]:
        yield "transposed (ki and kj exchanged)", kij.T.reshape(-1)
    yield "flipped by 180 degrees", kij.reshape(-1)[::-1].copy()
    yield "flipped along ki", kij[::-1].reshape(-1)
    yield "flipped along kj", kij[:, ::-1].reshape(-1)
