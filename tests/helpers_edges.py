"""Layers of odd shape for edge streams, and SCALE-Sim's own traces of them."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
from helpers_export import MemoryStore

from factory.dataflow import KnownLayer
from factory.spec import ConvLayer, LayerSet, SystolicArray

SHAPES = {
    "odd": dict(in_channels=5, out_channels=7, height=5, width=6, kernel=(3, 2), padding=0),
    "stride": dict(in_channels=3, out_channels=4, height=7, width=5, kernel=(3, 3), stride=(2, 1), padding=0),
    "point": dict(in_channels=9, out_channels=2, height=3, width=4, kernel=(1, 1), padding=0),
    "line": dict(in_channels=1, out_channels=5, height=1, width=9, kernel=(1, 4), padding=0),
    "tall": dict(in_channels=4, out_channels=3, height=9, width=2, kernel=(5, 2), stride=(2, 2), padding=0),
    "matrix": dict(in_channels=11, out_channels=10, height=1, width=6, kernel=(1, 1), padding=0),
}
"""Six layers whose channels and pixels fill no array; SCALE-Sim's maps have no border of their own."""


def layer_store(*specs: ConvLayer, array: SystolicArray, seed: int = 3) -> MemoryStore:
    """Return a store of layers with random codes, two images."""
    rng, layers = np.random.default_rng(seed), {}
    for spec in specs:
        low, high = spec.code_range
        weight = rng.integers(-spec.weight_qmax, spec.weight_qmax + 1, spec.weight_shape).astype(np.int8)
        activation = rng.integers(low, high + 1, (2, spec.in_channels, spec.height, spec.width)).astype(np.uint8)
        layers[spec.name] = KnownLayer(spec, weight, activation)
    return MemoryStore(LayerSet("odd", specs), layers, array, images=SimpleNamespace(source_index=np.arange(2)))


def odd_layer(name: str, **fields) -> ConvLayer:
    return ConvLayer(name, "given", **SHAPES[name] | fields)


class PlainArray:
    """An array without skew registers, element by element in Python integers, that knows edges and nothing else.

    `held`: an operand stays, and `depth` cycles are between a product and its sum in the row below; else the sums stay.
    `words` are those of a pass, after which an element takes the next operand from its second buffer, or gives its sum
    away. A result leaves `drain` cycles after the last cycle of its sum.
    """

    def __init__(self, rows: int, cols: int, held: bool, words: int, depth: int = 1, drain: int = 1):
        self.rows, self.cols, self.held, self.words, self.depth = rows, cols, held, words, depth
        self.sides = [(r, c) for r in range(rows) for c in range(cols)]
        blank = dict.fromkeys(self.sides, (0, False))
        self.west, self.north = dict(blank), dict(blank)  # what each element has taken from its left and from above
        self.sums = {side: [(0, False)] * depth for side in self.sides}
        self.count, self.weight = dict.fromkeys(self.sides, 0), dict.fromkeys(self.sides, 0)
        self.loaded, self.leaving = dict.fromkeys(self.sides, 0), dict.fromkeys(self.sides, (0, False))
        self.below = [[(0, False)] * cols for _ in range(drain + depth - 2 if not held else drain - 1)]

    def step(self, west, north) -> list[tuple[int, bool]]:
        """Give `(value, valid)` for each row and column; return what leaves below in this cycle."""
        out = self._stationary(west, north) if self.held else self._sums_stay(west, north)
        self.below.append(out)
        return self.below.pop(0)

    def _stationary(self, west, north):
        last = self.rows - 1
        out = [self.sums[last, c][0] for c in range(self.cols)]
        entering = {(r, c): west[r] if c == 0 else self.west[r, c - 1] for r, c in self.sides}
        above = {(r, c): (0, entering[0, c][1]) if r == 0 else self.sums[r - 1, c][0] for r, c in self.sides}
        loaded = dict(self.loaded)
        for side in self.sides:
            (value, valid), (total, below) = entering[side], above[side]
            if valid and self.count[side] % self.words == 0:
                self.weight[side] = loaded[side]
            self.count[side] += valid
            sum_ = total + value * self.weight[side] if valid else total
            self.sums[side] = [*self.sums[side][1:], (sum_, below)]
        for r, c in self.sides:
            if north[c][1]:
                self.loaded[r, c] = north[c][0] if r == 0 else loaded[r - 1, c]
        self.west = entering
        return out

    def _sums_stay(self, west, north):
        out, moved = [], dict(self.leaving)
        for c in range(self.cols):
            out.append(self.leaving[self.rows - 1, c])
            if self.leaving[self.rows - 1, c][1]:  # the chain of a column moves while its last row has a sum
                moved |= {(r, c): self.leaving[r - 1, c] if r else (0, False) for r in range(self.rows)}
        entering = {(r, c): west[r] if c == 0 else self.west[r, c - 1] for r, c in self.sides}
        above = {(r, c): north[c] if r == 0 else self.north[r - 1, c] for r, c in self.sides}
        for side in self.sides:
            if above[side][1]:
                first = self.count[side] % self.words == 0
                self.weight[side] = entering[side][0] * above[side][0] + (0 if first else self.weight[side])
                self.count[side] += 1
                if self.count[side] % self.words == 0:
                    moved[side] = self.weight[side], True
        self.west, self.north, self.leaving = entering, above, moved
        return out
