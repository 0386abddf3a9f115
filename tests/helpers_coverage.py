"""Coverage by plain loops: every product of every pass of a layer, one after the other, for each dataflow by itself."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from factory.arithmetic.adders import Adder
from factory.arithmetic.bits import Field
from factory.arithmetic.labelled import Selection
from factory.coverage.layer import LayerCounter
from factory.dataflow import DATAFLOWS, KnownLayer, LayerMapping, LayerVectors
from factory.spec import ConvLayer, SystolicArray

SIGN = {-1: "-", 0: "0", 1: "+"}


def _words(words: int, lanes: int, terms: int, pair) -> list[list[list[tuple[int, int, int]]]]:
    return [[[pair(word, lane, term) for term in range(terms)] for lane in range(lanes)] for word in range(words)]


def octave_name(value: int, bits: int) -> str | None:
    """Return the octave of a value; None where the field does not hold it."""
    if not -(1 << (bits - 1)) <= value < 1 << (bits - 1):
        return None
    low = 0 if value == 0 else 1 << (abs(value).bit_length() - 1)
    ends = sorted((int(np.sign(value)) * low, int(np.sign(value)) * (2 * low - 1)))
    if ends[0] == ends[1] or value == -(1 << (bits - 1)):
        return str(value)
    return f"{ends[0]}..{ends[1]}"


@dataclass
class PlainCoverage:
    """The bins that one image hits, as `(point, labels)`."""

    spec: ConvLayer
    array: SystolicArray
    flow: str
    weight: np.ndarray
    activation: np.ndarray
    threshold: np.ndarray | None = None
    direction: np.ndarray | None = None

    def pixel(self, ic: int, y: int, x: int) -> int:
        """Return the code of a pixel of the padded map."""
        top, left, _, _ = self.spec.padding
        if ic >= self.spec.in_channels:
            return 0
        y, x = y - top, x - left
        inside = 0 <= y < self.spec.height and 0 <= x < self.spec.width
        return int(self.activation[ic, y, x]) if inside else self.spec.zero_point

    def read(self, ic: int, onij: int, kij: int) -> int:
        """Return the code that an output pixel reads; 0 beyond the last one."""
        spec = self.spec
        if onij >= spec.onij_count:
            return 0
        (oy, ox), (ki, kj) = divmod(onij, spec.out_width), divmod(kij, spec.kernel[1])
        return self.pixel(ic, oy * spec.stride[0] + ki * spec.dilation[0], ox * spec.stride[1] + kj * spec.dilation[1])

    def code(self, oc: int, ic: int, kij: int) -> int:
        """Return a weight; 0 beyond the last channel."""
        spec = self.spec
        if oc >= spec.out_channels or ic >= spec.in_channels:
            return 0
        return int(self.weight[oc, ic, kij // spec.kernel[1], kij % spec.kernel[1]])

    def passes(self) -> Iterator[tuple[tuple[int, int], list[list[list[tuple[int, int, int]]]]]]:
        """Yield each pass with its tile: of each word, of each lane, of each term the row, activation and weight."""
        spec, rows, cols = self.spec, self.array.rows, self.array.cols
        its, ots = -(-spec.in_channels // rows), -(-spec.out_channels // cols)
        if self.flow == "ws":
            for it, ot, kij in np.ndindex(its, ots, spec.kij_count):

                def pair(n, c, r, it=it, ot=ot, kij=kij):
                    ic = it * rows + r
                    return r, self.pixel(ic, *divmod(n, spec.padded_width)), self.code(ot * cols + c, ic, kij)

                yield (it, ot), _words(spec.nij_count, cols, rows, pair)
        elif self.flow == "os":
            for pt, ot in np.ndindex(-(-spec.onij_count // rows), ots):

                def pair(p, c, term, pt=pt, ot=ot):
                    ic, kij = divmod(term, spec.kij_count)
                    return p, self.read(ic, pt * rows + p, kij), self.code(ot * cols + c, ic, kij)

                yield (pt, ot), _words(rows, cols, spec.in_channels * spec.kij_count, pair)
        else:
            for it, kij, pt in np.ndindex(its, spec.kij_count, -(-spec.onij_count // cols)):

                def pair(oc, p, r, it=it, kij=kij, pt=pt):
                    ic = it * rows + r
                    return r, self.read(ic, pt * cols + p, kij), self.code(oc, ic, kij)

                yield (it, pt), _words(spec.out_channels, cols, rows, pair)

    @property
    def inside(self) -> str:
        """What the sums inside the array are called."""
        return "accumulator" if self.flow == "os" else "psum"

    def hits(self, ends: dict[str, tuple[int, int]]) -> set[tuple]:
        """Return all bins that are hit; `ends` are the least and the largest sums of each kind."""
        found = set().union(*self.tiles(ends).values())
        if self.flow != "os":
            found |= self.outputs(ends["accumulator"])
        return found | self.geometry() | self.at_thresholds()

    def tiles(self, ends: dict[str, tuple[int, int]]) -> dict[tuple[int, int], set[tuple]]:
        """Return the bins that each tile hits by itself."""
        found: dict[tuple[int, int], set[tuple]] = {}
        for tile, words in self.passes():
            mine, sums = found.setdefault(tile, set()), []
            for word in words:
                lanes = []
                for lane, terms in enumerate(word):
                    total, way = 0, []
                    for row, a, w in terms:
                        mine |= {("activation", a), ("weight", w), ("pair", row, lane, a, w)}
                        signs = (a * w, total, total + a * w)
                        mine.add(("sign", " ".join(SIGN[int(np.sign(x))] for x in signs)))
                        total += a * w
                        way.append(total)
                    mine |= self.events(self.inside, way)
                    lanes.append(total)
                sums.append(lanes)
            mine |= self.values(self.inside, sums, ends[self.inside])
        return found

    def events(self, kind: str, way: list[int]) -> set[tuple]:
        """Return what sums on the way hit of overflow."""
        low, high = -(1 << (self.array.psum_bits - 1)), (1 << (self.array.psum_bits - 1)) - 1
        above, below, back = max(way) > high, min(way) < low, low <= way[-1] <= high
        events = {"above": above, "below": below, "back from above": above and back, "back from below": below and back}
        return {(f"{kind}_overflow", event) for event, there in events.items() if there}

    def values(self, kind: str, words: list[list[int]], ends: tuple[int, int]) -> set[tuple]:
        """Return what words of sums hit."""
        found, bits = set(), self.array.psum_bits
        for before, now in zip([None, *words], words, strict=False):
            for lane, value in enumerate(now):
                for name, end in zip(("least", "largest"), ends, strict=True):
                    if value == end:
                        found.add((f"{kind}_range", name))
                if (octave := octave_name(value, bits)) is not None:
                    found.add((f"{kind}_octave", octave))
                for bit in range(bits if before else 0):
                    old, new = before[lane] >> bit & 1, value >> bit & 1
                    if old != new:
                        found.add((f"{kind}_toggle", lane, bit, "rise" if new else "fall"))
        return found

    def accumulator(self, oc: int, onij: int) -> list[int]:
        """Return an accumulator after each pass."""
        spec, rows, total, way = self.spec, self.array.rows, 0, []
        for it in range(-(-spec.in_channels // rows)):
            for kij in range(spec.kij_count):
                total += sum(
                    self.read(ic, onij, kij) * self.code(oc, ic, kij) for ic in range(it * rows, (it + 1) * rows)
                )
                way.append(total)
        return way

    def outputs(self, ends: tuple[int, int]) -> set[tuple]:
        """Return what the accumulators hit."""
        spec, cols, found = self.spec, self.array.cols, set()
        ways = [[self.accumulator(oc, onij) for onij in range(spec.onij_count)] for oc in range(spec.out_channels)]
        for way in (way for channel in ways for way in channel):
            found |= self.events("accumulator", way)
        if self.flow == "ws":
            for ot in range(-(-spec.out_channels // cols)):
                lanes = range(ot * cols, (ot + 1) * cols)
                words = [
                    [ways[oc][onij][-1] if oc < spec.out_channels else 0 for oc in lanes]
                    for onij in range(spec.onij_count)
                ]
                found |= self.values("accumulator", words, ends)
        else:
            for pt in range(-(-spec.onij_count // cols)):
                lanes = range(pt * cols, (pt + 1) * cols)
                words = [[way[n][-1] if n < spec.onij_count else 0 for n in lanes] for way in ways]
                found |= self.values("accumulator", words, ends)
        return found

    def geometry(self) -> set[tuple]:
        """Return what tiles and borders hit."""
        spec, (top, left, _, _), found = self.spec, self.spec.padding, set()
        rows, cols = self.array.rows, self.array.cols
        divided = {
            "ws": ((spec.in_channels, rows), (spec.out_channels, cols)),
            "os": ((spec.out_channels, cols), (spec.onij_count, rows)),
            "is": ((spec.in_channels, rows), (spec.onij_count, cols)),
        }[self.flow]
        each = [
            {"full" if (tile + 1) * lanes <= places else "ragged" for tile in range(-(-places // lanes))}
            for places, lanes in divided
        ]
        found |= {("tile", a, b) for a in each[0] for b in each[1]}
        for oy, ox in np.ndindex(spec.out_height, spec.out_width):
            for ki, kj in np.ndindex(*spec.kernel):
                y, x = oy * spec.stride[0] + ki * spec.dilation[0], ox * spec.stride[1] + kj * spec.dilation[1]
                sides = {
                    "top": y < top, "left": x < left, "bottom": y >= top + spec.height, "right": x >= left + spec.width,
                }  # fmt: skip
                sides["inner"] = not any(sides.values())
                found |= {("border", f"{ki},{kj}", side) for side, there in sides.items() if there}
        return found

    def at_thresholds(self) -> set[tuple]:
        """Return which thresholds accumulators are at, or beside."""
        if self.threshold is None:
            return set()
        found = set()
        for oc, onij in np.ndindex(self.spec.out_channels, self.spec.onij_count):
            sums = self.accumulator(oc, onij)[-1]
            for level, threshold in enumerate(self.threshold[oc].tolist(), 1):
                away = int(self.direction[oc]) * (sums - threshold)
                if away in (-1, 0, 1):
                    found.add(("threshold", level, away))
        return found


def counter_of(plain: PlainCoverage, low: np.ndarray | None = None, high: np.ndarray | None = None) -> LayerCounter:
    """Return the product's counter of the same layer and image."""
    spec, flow = plain.spec, DATAFLOWS[plain.flow]
    fields = {"activation": Field(spec.activation_bits, spec.signed), "weight": Field(spec.weight_bits, True)}
    kept = {axis: tuple(range(count)) for axis, count in flow.counts(spec, plain.array).items()}
    mapping = LayerMapping(flow, spec, plain.array, Selection(kept), fields, Adder(32))
    source = KnownLayer(spec, plain.weight, plain.activation[None], plain.threshold, plain.direction)
    ends = (np.full(spec.in_channels, end, np.int16) for end in spec.code_range)
    low, high = (given if given is not None else end for given, end in zip((low, high), ends, strict=True))
    return LayerCounter(LayerVectors(mapping, source), low, high, plain.array.psum_bits)


def bins(counter: LayerCounter, found: dict[str, np.ndarray]) -> set[tuple]:
    """Return the bins of a counter's result as `(point, labels)`."""
    return {
        (name, *(labels[i] for labels, i in zip(counter.universes[name].axes.values(), place, strict=True)))
        for name, there in found.items()
        for place in np.argwhere(there).tolist()
    }


def unreachable(counter: LayerCounter) -> set[tuple]:
    """Return the bins that a counter calls unreachable."""
    return bins(counter, {name: ~universe.could for name, universe in counter.universes.items()})


def with_image(plain: PlainCoverage, activation: np.ndarray) -> PlainCoverage:
    """Return the same layer with another image."""
    return replace(plain, activation=activation)
