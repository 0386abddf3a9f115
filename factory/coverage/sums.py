"""The bins of sums: which could be hit, where it is worth to look for them, and which are hit.

A set of bins has a bool array for each of the kinds `range`, `octave`, `toggle`, `overflow` and, of the sums inside the
array, `sign`. Since a bin counts once for a layer and image, nothing is looked at again for a bin that is hit, and
nothing where the bounds say that no bin which is still wanted can be: that is why a whole layer takes less time than
its psums.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property, partial

import numpy as np
from jaxtyping import Bool, Int64, Integer

from factory.arithmetic.adders import exact_product
from factory.arithmetic.bits import Field
from factory.coverage.bounds import Bounds, could_be, could_flip, could_leave, octave_ends
from factory.coverage.points import EDGES, ENDS, EVENTS, STEPS

Bins = dict[str, np.ndarray]
_FEWEST, _MOST, _GROWTH = 1 << 13, 1 << 18, 4
"""How many values are looked at first, and at most at once: few are enough for most bins."""
_OF_STEPS = ("sign", "overflow")
"""The kinds of bins that need more than the last sums."""
_FEW_LOOPS = 2
"""From how many loops on passes are multiplied side by side."""
_FEW_OCTAVES = 8
"""Up to how many octaves are looked for one by one, which is faster than to find that of each sum."""
_SIGN_PLACES = np.array(
    [sum(3**place * "-0+".index(sign) for place, sign in zip((2, 1, 0), step.split(), strict=True))
     for step in STEPS]
)  # fmt: skip


@dataclass(frozen=True)
class SumBins:
    """The bins of sums that come as `words` words in a pass, a sum from each of `lanes` lanes, on adders of `bits`.

    `ends` are the least and the largest sum. Bounds have axes `(loop, pass, word, lane)`, of size 1 where they are the
    same along one; `steady` says that all words of a pass have the same.
    """

    bits: int
    lanes: int
    words: int
    ends: tuple[int, int]
    steady: bool
    signs: bool

    @property
    def field(self) -> Field:
        """What a sum is held in."""
        return Field(self.bits, signed=True)

    def none(self) -> Bins:
        """Return no bins."""
        toggles = (self.lanes, self.bits, len(EDGES))
        sizes = dict(range=len(ENDS), octave=2 * self.bits, toggle=toggles, overflow=len(EVENTS))
        return {kind: np.zeros(size, bool) for kind, size in (sizes | self._sign_sizes).items()}

    @cached_property
    def _octaves(self) -> list[tuple[int, int]]:
        return list(zip(*(ends.tolist() for ends in octave_ends(self.bits)), strict=True))

    @property
    def _sign_sizes(self) -> dict[str, int]:
        return {"sign": len(STEPS)} if self.signs else {}

    def could(self, bounds: Bounds) -> Bins:
        """Return the bins that sums within the bounds could hit; of signs none."""
        found = self.none()
        found["range"][:] = True
        for place, (low, high) in enumerate(self._octaves):
            found["octave"][place] = could_be(bounds, low, high).any()
        for bit in range(self.bits):
            found["toggle"][:, bit] = self._flips(bounds, bit).any(axis=(0, 1, 2))
        found["overflow"][:] = could_leave(bounds, self.field).any(axis=(0, 1, 2, 3))
        return found

    def _flips(self, bounds: Bounds, bit: int) -> Bool[np.ndarray, "loop pass word lane edge"]:
        # where one box holds all words, a bit that flips has both values in it
        flips = could_flip(bounds, bit, follow=not self.steady and bounds.low.shape[2] > 1)
        return flips if self.words > 1 else np.zeros_like(flips)

    def worth(self, bounds: Bounds, wanted: Bins) -> Bool[np.ndarray, "loop pass"]:
        """Return in which passes a bin that is wanted could be hit."""
        shape = bounds.low.shape[:2]
        if self.signs and wanted["sign"].any():
            return np.ones(shape, bool)
        found, outer = np.zeros(shape, bool), bounds.of_passes
        ranges = [self._octaves[place] for place in np.flatnonzero(wanted["octave"])]
        ranges += [(self.ends[place],) * 2 for place in np.flatnonzero(wanted["range"])]
        for first, last in ranges:
            found |= could_be(outer, first, last)
        if wanted["overflow"].any():
            found |= (could_leave(outer, self.field) & wanted["overflow"]).any(axis=-1)
        for bit in np.flatnonzero(wanted["toggle"].any(axis=(0, 2))).tolist():
            if not found.all():
                found |= (self._flips(bounds, bit) & wanted["toggle"][:, bit]).any(axis=(2, 3, 4))
        return found

    def see(self, sums: Integer[np.ndarray, "pass word lane"], wanted: Bins, found: Bins) -> None:
        """Put the bins of some that are wanted which sums hit, into `found`, but for overflow and signs."""
        low, high = int(sums.min()), int(sums.max())
        for place in np.flatnonzero(wanted["range"]):
            found["range"][place] |= low == self.ends[place] or high == self.ends[place]
        first, last = octave_ends(self.bits)
        octaves = np.flatnonzero(wanted["octave"] & (first <= high) & (last >= low))
        if len(octaves) > _FEW_OCTAVES:
            inside = sums.reshape(-1)
            if low < self.field.low or high > self.field.high:
                inside = inside[(inside >= self.field.low) & (inside <= self.field.high)]
            found["octave"][octave_of(inside, self.bits)] = True
        else:
            for octave in octaves.tolist():
                start, end = self._octaves[octave]
                found["octave"][octave] |= ((sums >= start) & (sums <= end)).any()
        if wanted["toggle"].any() and sums.shape[1] > 1:
            before, after = sums[:, :-1], sums[:, 1:]
            changed = before ^ after
            for edge, words in enumerate((after, before)):
                flips = np.bitwise_or.reduce((changed & words).reshape(-1, sums.shape[2]), axis=0)
                found["toggle"][..., edge] |= (flips[:, None] >> np.arange(self.bits) & 1).astype(bool)

    def see_stream(self, sums: Integer[np.ndarray, "pass word lane"], wanted: Bins, found: Bins) -> None:
        """Do what `see` does with ever more passes at once, and take what was found from what is wanted."""
        for part in growing(len(sums), sums[0].size):
            self.see(sums[part], wanted, found)
            _close(wanted, found)

    def look(
        self,
        moving: Integer[np.ndarray, "loop outer word term"],
        held: Integer[np.ndarray, "loop pass lane term"],
        bounds: Bounds,
        wanted: Bins,
        real: Callable[[np.ndarray, np.ndarray], Bounds],
    ) -> Bins:
        """Return which of the bins that are wanted the sums of all passes hit.

        `bounds` are those of any input; `real(loops, passes)` gives those of the codes that there are, of some passes,
        with axes `(1, pass, word, lane)`. The first passes, ever more of them, are looked at whatever they could hit,
        since few are enough for most bins.
        """
        found, passes = self.none(), held.shape[1]
        left = np.arange(len(held) * passes)
        each = moving[0, :, :, 0].size * held.shape[2]
        for part in growing(len(left), each):
            self._see_some(moving, held, left[part], wanted, found)
            if not _close(wanted, found):
                break
        left = left[part.stop :]
        while len(left):
            worth = np.broadcast_to(self.worth(bounds, wanted), held.shape[:2]).reshape(-1)
            left = left[worth[left]]
            many = max(1, _MOST // held[0, 0].size)
            some, left = left[:many], left[many:]
            if len(some):
                self._search(moving, held, some, real(*np.divmod(some, passes)), wanted, found)
        return found

    def _search(
        self, moving: np.ndarray, held: np.ndarray, places: np.ndarray, bounds: Bounds, wanted: Bins, found: Bins
    ) -> None:
        """Look at passes whose bounds allow what is wanted, those with the widest bounds first."""
        outer, each, size = bounds.of_passes, moving[0, :, :, 0].size * held.shape[2], _FEWEST
        order = np.argsort(outer.low[0] - outer.high[0], kind="stable")
        closed = True
        while len(order):
            if closed:
                worth = self.worth(bounds, wanted)[0]
                order = order[np.broadcast_to(worth, len(outer.low[0]))[order]]
            some, order = order[: max(1, size // each)], order[max(1, size // each) :]
            self._see_some(moving, held, np.sort(places[some]), wanted, found)
            closed, size = _close(wanted, found), min(_GROWTH * size, _MOST)

    def _see_some(self, moving: np.ndarray, held: np.ndarray, places: np.ndarray, wanted: Bins, found: Bins) -> None:
        loops, passes = np.divmod(places, held.shape[1])
        several = np.unique(loops)
        if len(several) > _FEW_LOOPS and not any(wanted[kind].any() for kind in _OF_STEPS if kind in wanted):
            columns = held[loops, passes].swapaxes(1, 2).astype(np.float64)
            for words in moving.swapaxes(0, 1):
                self.see((words[loops].astype(np.float64) @ columns).astype(np.int64), wanted, found)
            return
        for loop in several:
            for words in moving[loop]:
                self.see_passes(words, held[loop, passes[loops == loop]], wanted, found)

    def see_passes(
        self,
        words: Integer[np.ndarray, "word term"],
        held: Integer[np.ndarray, "pass lane term"],
        wanted: Bins,
        found: Bins,
    ) -> None:
        """Put the bins of those that are wanted which the sums of some passes hit, into `found`."""
        flat = held.reshape(-1, held.shape[2])
        sums = exact_product(words, flat.T).reshape(len(words), *held.shape[:2]).swapaxes(0, 1)
        self.see(sums, wanted, found)
        see_steps(words, Held(flat), self, wanted, found)


def _close(wanted: Bins, found: Bins) -> bool:
    """Take what was found from what is wanted; return whether that was something."""
    closed = False
    for kind, bins in wanted.items():
        closed |= bool((bins & found[kind]).any())
        bins &= ~found[kind]
    return closed


def octave_of(values: Integer[np.ndarray, " value"], bits: int) -> Integer[np.ndarray, " value"]:
    """Return the place of each value among the octaves of a field of `bits`."""
    # float64 holds the values, so that the exponent counts the bits of a magnitude: 0 of 0, k + 1 from 2^k on
    return bits + np.sign(values) * np.frexp(np.abs(values).astype(np.float64))[1]


@dataclass(frozen=True)
class Held:
    """Vectors that lanes hold, integers `(lane, term)`, and what of them is computed once."""

    codes: Integer[np.ndarray, "lane term"]

    @cached_property
    def signs(self) -> tuple[np.ndarray, np.ndarray]:
        """The positive and the negative codes, `(term, lane)`, in floats that hold every sum of products of 8 bits."""
        most = self.codes.shape[1] * 255 * int(np.abs(self.codes, dtype=np.int16).max(initial=0))
        kind = np.float32 if most < 1 << 24 else np.float64
        return np.maximum(self.codes, 0).T.astype(kind), np.minimum(self.codes, 0).T.astype(kind)

    @cached_property
    def lengths(self) -> dict[bool, list[Int64[np.ndarray, " lane"]]]:
        """The squares of the lengths of what lets sums rise, and fall: with codes of one sign (True), or of any."""
        return {
            True: [squares(np.maximum(self.codes, 0)), squares(np.minimum(self.codes, 0))],
            False: [squares(self.codes)] * 2,
        }

    def far(self, lengths: Int64[np.ndarray, " word"], rising: bool, field: Field) -> Bool[np.ndarray, "word lane"]:
        """Return where sums could leave a field on the way, by Cauchy and Schwarz, in integers.

        `lengths` are the squares of those of the words, whose codes are not negative where `rising`.
        """
        ends = field.high, -field.low
        first, *others = (
            lengths[:, None] * mine > end**2 for mine, end in zip(self.lengths[rising], ends, strict=True)
        )
        return np.logical_or(first, *others)

    def leaving(
        self,
        moving: Integer[np.ndarray, "word term"],
        field: Field,
        sums: Integer[np.ndarray, "word lane"] | None,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return the word and the lane of each sum whose products of one sign make up more than the field holds.

        `sums` are the sums themselves, if they are known.
        """
        rising = bool(moving.min(initial=0) >= 0)
        far = self.far(squares(moving), rising, field)
        words = np.flatnonzero(far.any(axis=1))
        if not len(words):
            return words, words
        up, down = self.signs
        codes = moving[words].astype(up.dtype)
        above = np.maximum(codes, 0) @ up
        if not rising:
            above += np.minimum(codes, 0) @ down
        below = (codes @ up + codes @ down if sums is None else sums[words]) - above
        leaves, lanes = np.nonzero((above > field.high) | (below < field.low))
        return words[leaves], lanes


def squares(codes: Integer[np.ndarray, "vector term"]) -> Int64[np.ndarray, " vector"]:
    """Return the square of each vector's length."""
    exact = codes.astype(np.float64)  # which has every such sum of codes of 8 bits exactly
    return np.einsum("vt,vt->v", exact, exact).astype(np.int64)


def see_steps(
    moving: Integer[np.ndarray, "word term"],
    held: Held,
    bins: SumBins,
    wanted: Bins,
    found: Bins,
    step: int = 1,
    sums: Integer[np.ndarray, "word lane"] | None = None,
) -> None:
    """Put what each addition, of `step` terms at a time, hits of signs and overflow into `found`, if it is wanted.

    `sums` are the last ones, if they are known.
    """
    left = partial(_left, wanted, found)
    if bins.signs and left("sign").any():
        words, lanes = (x.reshape(-1) for x in np.indices((len(moving), len(held.codes))))
        for part in growing(len(words), moving.shape[1]):
            if not left("sign").any():
                break
            found["sign"] |= _signs(moving[words[part]].astype(np.int32) * held.codes[lanes[part]])
    if left("overflow").any():
        words, lanes = held.leaving(moving, bins.field, sums)
        for part in growing(len(words), moving.shape[1]):
            if not left("overflow").any():
                break
            terms = moving[words[part]].astype(np.int64) * held.codes[lanes[part]]
            found["overflow"] |= _events(terms.reshape(len(terms), -1, step).sum(axis=2), bins.field)


def _left(wanted: Bins, found: Bins, kind: str) -> np.ndarray:
    return wanted[kind] & ~found[kind]


def growing(count: int, size: int) -> Iterator[slice]:
    """Yield the places of `count` things of a size, a few at first and then ever more at once."""
    start, values = 0, _FEWEST
    while start < count:
        some = max(1, values // size)
        yield slice(start, start + some)
        start, values = start + some, min(_GROWTH * values, _MOST)


def _signs(products: Integer[np.ndarray, "sum term"]) -> Bool[np.ndarray, " step"]:
    results = np.cumsum(products, axis=1)
    places = 9 * np.sign(products) + 3 * np.sign(results - products) + np.sign(results) + 13
    return np.bincount(places.reshape(-1).astype(np.intp), minlength=27)[_SIGN_PLACES] > 0


def _events(terms: Integer[np.ndarray, "sum step"], field: Field) -> Bool[np.ndarray, " event"]:
    sums = np.cumsum(terms, axis=1)
    above, below = (sums > field.high).any(axis=1), (sums < field.low).any(axis=1)
    back = (sums[:, -1] >= field.low) & (sums[:, -1] <= field.high)
    return np.array([above.any(), below.any(), (above & back).any(), (below & back).any()])
