"""The products of a mapped layer in the one form that all dataflows share: what moves past what is held.

In a pass the words of one operand move past the other, which the lanes of the array's columns hold; each lane adds up
its terms in order:

    sum[loop, outer, pass, word, lane] = sum over term of moving[loop, outer, word, term] * held[loop, pass, lane, term]

| dataflow | moves | loop | outer | word | held | pass | lane | term |
| --- | --- | --- | --- | --- | --- | --- | --- | --- |
| `ws` | activations | `it` | | `nij` | weights | `ot kij` | `col` | `row` |
| `os` | activations | | `pt` | `px` | weights | `ot` | `col` | `ic kij` |
| `is` | weights | `it kij` | | `oc` | activations | `pt` | `px` | `row` |

The table follows from the dataflow's record; nothing here knows a dataflow by its name.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from math import prod
from typing import Any

import numpy as np
from jaxtyping import Bool, Integer, Real

from factory.arithmetic.labelled import LabelledArray
from factory.coverage.steps import Products, Vectors
from factory.dataflow import PIXELS, LayerMapping
from factory.dataflow.sums import arranged

Codes = Integer[np.ndarray, "_loop _outer _inner _term"]
Numbers = Real[np.ndarray, "_loop _outer _inner _term"]
"""Codes as integers, or as floats that hold them."""
Ends = tuple[LabelledArray, LabelledArray]


@dataclass(frozen=True)
class Form:
    """How the operands of a mapping are arranged: each as `(loop, outer, inner, term)`.

    `inner` is the words of the operand that moves, and the lanes of the one that is held.
    """

    mapping: LayerMapping

    @cached_property
    def _own(self) -> dict[bool, tuple[str, ...]]:
        """The axes that only activations (True) or weights have, lanes last."""
        flow = self.mapping.dataflow
        pixels = flow.pixel_tiling
        each = {True: self._split_axes(flow.axes(("ic", *flow.reads))), False: flow.axes(("oc", "ic", "kij"))}
        lanes = [tiling.inner for tiling in (*flow.tilings.values(), *filter(None, (pixels,)))]
        own = {which: [axis for axis in axes if axis not in each[not which]] for which, axes in each.items()}
        return {which: tuple(sorted(axes, key=lanes.__contains__)) for which, axes in own.items()}

    def _split_axes(self, axes: tuple[str, ...]) -> tuple[str, ...]:
        pixels = self.mapping.dataflow.pixel_tiling
        if pixels is None:
            return axes
        return tuple(name for axis in axes for name in ((pixels.outer, pixels.inner) if axis == PIXELS else (axis,)))

    @cached_property
    def terms(self) -> tuple[str, ...]:
        """The axes over which a lane adds up."""
        return self.mapping.dataflow.terms

    @cached_property
    def loops(self) -> tuple[str, ...]:
        """The axes that both operands have, but for the terms."""
        flow = self.mapping.dataflow
        axes = self._split_axes(flow.axes(("ic", *flow.reads)))
        return tuple(axis for axis in axes if axis not in (*self._own[True], *self.terms))

    @cached_property
    def _lane(self) -> dict[str, str]:
        """The axis that the array's `rows`, and that its `cols` take."""
        flow = self.mapping.dataflow
        return {x.lanes: x.inner for x in (*flow.tilings.values(), *filter(None, (flow.pixel_tiling,)))}

    @property
    def row(self) -> str:
        """The axis on the array's rows."""
        return self._lane["rows"]

    @property
    def col(self) -> str:
        """The axis on the array's columns: the lanes of sums."""
        return self._lane["cols"]

    @property
    def rows_add(self) -> bool:
        """Whether a row is a term; else it is a word."""
        return self.row in self.terms

    @property
    def weights_held(self) -> bool:
        """Whether the lanes hold weights; else they hold activations."""
        return self.col in self._own[False]

    def outer_axes(self, activation: bool) -> tuple[str, ...]:
        """Return an operand's axes `outer`."""
        return self._own[activation][:-1]

    def arrange(self, codes: LabelledArray, activation: bool) -> Codes:
        """Return an operand as `(loop, outer, inner, term)`, a ragged last pixel tile padded with zeros."""
        codes = self.split(codes)
        *outer, inner = self._own[activation]
        groups = (self.loops, outer, (inner,), self.terms)
        values = arranged(codes, *(axis for axes in groups for axis in axes))
        return values.reshape([prod(map(codes.size, axes)) for axes in groups])

    def sort(self, activation: Any, weight: Any) -> tuple[Any, Any]:
        """Return what moves and what is held."""
        return (activation, weight) if self.weights_held else (weight, activation)

    def products(
        self, activation: Numbers, weight: Codes, blocks: Integer[np.ndarray, " block"], floats: type
    ) -> Products:
        """Return the products of some blocks, each all activations of a loop times one of its `outer` weights."""
        vectors = [
            codes.reshape(-1, *size)
            for codes, size in (
                (activation, (prod(activation.shape[1:3]), activation.shape[3])),
                (weight, weight.shape[2:]),
            )
        ]
        return Products(Vectors(vectors[0][blocks // weight.shape[1]], floats), Vectors(vectors[1][blocks], floats))

    def passes(
        self, sums: Integer[np.ndarray, "block activation weight"], inner: int
    ) -> Integer[np.ndarray, "pass word lane"]:
        """Return the sums of blocks as passes, where an `outer` of the activations has so many `inner`."""
        passes = sums.reshape(-1, inner, sums.shape[2])
        return passes if self.weights_held else passes.swapaxes(1, 2)

    def stream(self, sums: LabelledArray) -> Integer[np.ndarray, "pass word lane"]:
        """Return sums of the whole layer, with axes of output pixels and channels, in the order of the output's words.

        A ragged last tile is padded with zeros.
        """
        sums = self.split(sums)
        own = self._own[not self.weights_held]
        passes = [axis for axis in own[:-1] if axis in sums.axes]
        words = [axis for axis in sums.axes if axis not in own]
        values = arranged(sums, *passes, *words, self.col)
        return values.reshape(-1, *values.shape[-2:])

    def split(self, codes: LabelledArray) -> LabelledArray:
        """Divide output pixels into tiles, where there are any, a ragged last one padded with zeros."""
        pixels = self.mapping.dataflow.pixel_tiling
        if pixels is None or PIXELS not in codes.axes:
            return codes
        lanes = self.mapping.lanes(pixels)
        return LabelledArray(codes.values, codes.axes).split(PIXELS, pixels.outer, pixels.inner, lanes)

    def reads(self, low: Integer[np.ndarray, " ic"], high: Integer[np.ndarray, " ic"]) -> Ends:
        """Return the ends of what the array can read at each place, where each channel's codes are `low .. high`.

        A border's code, and the zero of a lane that is not in use, are both ends. A channel that the array's field does
        not hold as it is can give anything that the field holds.
        """
        mapping, spec = self.mapping, self.mapping.spec
        field = mapping.fields["activation"]
        fits = (low >= field.low) & (high <= field.high)
        ends = []
        for codes, end in ((low, field.low), (high, field.high)):
            each = np.where(fits, codes, end).astype(np.int16)[:, None, None]
            maps = np.broadcast_to(each, (spec.in_channels, spec.height, spec.width))
            ends.append(mapping.read("activation", mapping.cut_activation(maps)))
        return ends[0], ends[1]


def presence(
    codes: Integer[np.ndarray, "*axes"], kept: tuple[int, ...], low: int, count: int
) -> Bool[np.ndarray, "*kept code"]:
    """Return which of the codes `low .. low + count - 1` there are at each place of some axes, over all others."""
    shape, found = [codes.shape[axis] for axis in kept], []
    kind = next(np.dtype(f"u{size}") for size in (1, 2, 4, 8) if size == 8 or count <= 8 * size)
    for first in range(
        low, low + count, 64
    ):  # each code is a bit: what they have in common with a word is found at once
        bits = np.left_shift(kind.type(1), (codes - first).astype(kind))  # 0 where there are not so many bits
        for axis in range(codes.ndim):
            if axis not in kept:
                bits = np.bitwise_or.reduce(bits, axis=axis, keepdims=True)
        places = np.arange(min(64, low + count - first), dtype=kind)
        found.append((bits.reshape(*shape, 1) >> places & kind.type(1)).astype(bool))
    return np.concatenate(found, axis=-1)


def within(
    low_high: tuple[Codes, Codes], kept: tuple[int, ...], low: int, count: int
) -> Bool[np.ndarray, "*kept code"]:
    """Return which codes lie between both ends somewhere, as `presence` does."""
    least, most = low_high
    others = tuple(axis for axis in range(least.ndim) if axis not in kept)
    found = [((least <= code) & (code <= most)).any(axis=others) for code in range(low, low + count)]
    return np.stack(found, axis=-1)
