"""The bins of sums: which could be hit, where it is worth to look for them, and which are hit.

A set of bins has a bool array for each of the kinds `range`, `octave`, `toggle`, `overflow` and, of the sums inside the
array, `sign`. Since a bin counts once for a layer and image, nothing is looked at again for a bin that is hit, and
nothing where bounds say that no bin which is still wanted can be. Those of an image's sums follow from the lengths of
its vectors, by Cauchy and Schwarz: of VGG16's psums 0.6 % are left to be made, so that most of the time goes to its
accumulators, which are all made, and to calls of NumPy.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Bool, Integer

from factory.arithmetic.bits import Field
from factory.coverage import steps
from factory.coverage.bounds import Bounds, could_be, could_flip, could_leave, octave_ends
from factory.coverage.points import EDGES, ENDS, EVENTS, STEPS
from factory.coverage.steps import Products, growing

Bins = dict[str, np.ndarray]
_SIDE_BY_SIDE = 64
"""Words of few lanes that are taken as one, which is faster."""


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

    @cached_property
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
        for first, last in self._ranges(wanted):
            found |= could_be(outer, first, last)
        if wanted["overflow"].any():
            found |= (could_leave(outer, self.field) & wanted["overflow"]).any(axis=-1)
        for bit in np.flatnonzero(wanted["toggle"].any(axis=(0, 2))).tolist():
            if not found.all():
                found |= (self._flips(bounds, bit) & wanted["toggle"][:, bit]).any(axis=(2, 3, 4))
        return found

    def _ranges(self, wanted: Bins) -> list[tuple[int, int]]:
        """Return the ranges of sums in which an octave or an end is that is wanted: few, since octaves are in order."""
        ranges = [(self.ends[place],) * 2 for place in np.flatnonzero(wanted["range"])]
        joined: list[tuple[int, int]] = []
        for first, last in sorted(ranges + [self._octaves[place] for place in np.flatnonzero(wanted["octave"])]):
            if joined and first <= joined[-1][1] + 1:
                joined[-1] = joined[-1][0], max(joined[-1][1], last)
            else:
                joined.append((first, last))
        return joined

    def see(self, sums: Integer[np.ndarray, "pass word lane"], wanted: Bins, found: Bins) -> None:
        """Put the bins of some that are wanted which sums hit, into `found`, but for overflow and signs."""
        low, high = int(sums.min()), int(sums.max())
        for place in np.flatnonzero(wanted["range"]):
            found["range"][place] |= self.ends[place] in (low, high)
        self._see_octaves(sums, low, high, wanted["octave"], found["octave"])
        if wanted["toggle"].any() and sums.shape[1] > 1:
            before, after = sums[:, :-1], sums[:, 1:]
            changed = before ^ after
            for edge, words in enumerate((after, before)):
                flips = _common(changed & words)
                found["toggle"][..., edge] |= (flips[:, None] >> np.arange(self.bits) & 1).astype(bool)

    def _see_octaves(self, sums: np.ndarray, low: int, high: int, wanted: np.ndarray, found: np.ndarray) -> None:
        """Put the octaves of sums of `low .. high` that are wanted into `found`."""
        first, last = octave_ends(self.bits)
        for end in (low, high):  # an octave at an end is mostly all that is left
            found |= (first <= end) & (end <= last)
        if (wanted & ~found & (first <= high) & (last >= low)).any():
            ordered = np.sort(sums, axis=None)
            found |= np.searchsorted(ordered, first) < np.searchsorted(ordered, last, side="right")

    def see_stream(self, sums: Integer[np.ndarray, "pass word lane"], wanted: Bins, found: Bins) -> None:
        """Do what `see` does with ever more passes at once, and take what was found from what is wanted."""
        for part in growing(len(sums), sums[0].size):
            self.see(sums[part], wanted, found)
            _close(wanted, found)

    def see_steps(self, products: Products, wanted: Bins, found: Bins) -> None:
        """Put what the additions of products hit of signs and overflow into `found`, if it is wanted."""
        if self.signs:
            found["sign"] |= products.signs(wanted["sign"] & ~found["sign"])
        found["overflow"] |= products.events(self.field, wanted["overflow"] & ~found["overflow"])

    def look(self, see: Callable[[np.ndarray, Bins, Bins], None], size: int, bounds: Bounds, wanted: Bins) -> Bins:
        """Return which of the bins that are wanted the sums of all blocks hit.

        `see(blocks, wanted, found)` puts what the sums of some blocks hit into `found`, each of which has `size` sums.
        `bounds` are those of each block, with axes `(loop, pass, 1, 1)`. The widest blocks come first: a few of them
        are enough for most bins, and leave little that others could hit.
        """
        found, narrow, count = self.none(), (bounds.low - bounds.high).reshape(-1), steps.FEWEST
        left = np.ones(len(narrow), bool)
        while left.any():
            (blocks,), some = left.nonzero(), max(1, count // size)
            if some < len(blocks):
                blocks = blocks[np.argpartition(narrow[blocks], some)[:some]]
            see(blocks, wanted, found)
            _close(wanted, found)
            left[blocks] = False
            left &= self.worth(bounds, wanted).reshape(-1)
            count = min(steps.GROWTH * count, steps.MOST)
        return found


def _close(wanted: Bins, found: Bins) -> None:
    """Take what was found from what is wanted."""
    for kind, bins in wanted.items():
        bins &= ~found[kind]


def _common(words: Integer[np.ndarray, "pass word lane"]) -> Integer[np.ndarray, " lane"]:
    """Return the bits of each lane that are 1 in any word."""
    rows = words.reshape(-1, words.shape[2])
    many = len(rows) // _SIDE_BY_SIDE * _SIDE_BY_SIDE
    side_by_side = np.bitwise_or.reduce(rows[:many].reshape(-1, _SIDE_BY_SIDE * rows.shape[1]), axis=0)
    return np.bitwise_or.reduce(np.vstack([side_by_side.reshape(-1, rows.shape[1]), rows[many:]]), axis=0)
