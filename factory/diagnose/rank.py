"""Which causes explain a mismatch: the share of the wrong values that each predicts, less what its freedom costs.

All in bits, as a description's length. A guess gains the wrong values that it predicts, and loses the right ones that
it predicts otherwise; a value is worth -log2 of how often it is there, so that a 0 among zeros says little. Freedom
costs log2 of the guesses that there are and, where a guess is held against the region of the wrong values alone, log2
of the regions. So a hypothesis with a free parameter cannot win by fitting noise, and few values name no cause.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations
from math import comb, log2

import numpy as np

from factory.diagnose.case import Case, Guess
from factory.diagnose.dump import GIVEN, UNDEFINED
from factory.diagnose.hypotheses import Hypothesis

LEAST = 0.5
"""The share of the wrong values, less the costs, that a cause must explain to be named."""
_ASIDE = 12
"""How many of the best single guesses are tried in pairs."""
_PART = 10_000
"""Values, about, of the part on which changes of words are tried on top of other sums."""
_NO_VALUE = 1 << 40


@dataclass(frozen=True)
class Finding:
    """A cause that explains `explained` of `wrong` values; `contradicted` right ones would be others.

    `hypotheses` are one, or the two of a pair. `score` is the share after costs. `same` are names of other causes that
    predict the same bits.
    """

    hypotheses: tuple[Hypothesis, ...]
    detail: str
    explained: int
    wrong: int
    contradicted: int
    score: float
    same: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The cause in words."""
        names = " and ".join(hypothesis.name for hypothesis in self.hypotheses)
        return f"{names}: {self.detail}" if self.detail else names

    @property
    def share(self) -> float:
        """The share of the wrong values that it explains."""
        return self.explained / self.wrong


@dataclass(frozen=True)
class _Tried:
    """A guess against a case, what it costs in bits, and where it is what was given."""

    finding: Finding
    bits: float
    guess: Guess
    matches: np.ndarray


@dataclass(frozen=True)
class _Region:
    """The smallest box of labels that holds all wrong values, and the bits that it takes to say which it is."""

    mask: np.ndarray
    bits: float


def _region(case: Case) -> _Region:
    wrong = case.group.vector(case.wrong.astype(np.int8)).values.astype(bool)
    mask, bits = np.ones(wrong.shape, bool), 0.0
    for axis, size in enumerate(wrong.shape):
        kept = wrong.any(axis=tuple(at for at in range(wrong.ndim) if at != axis))
        bits += 1 + log2(comb(size, int(kept.sum())))  # whether the axis has a part, and which
        mask &= kept.reshape([-1 if at == axis else 1 for at in range(wrong.ndim)])
    return _Region(case.group.place(case.group.labelled(mask.astype(np.int8))).astype(bool), bits)


def _worth(case: Case) -> np.ndarray:
    """Return the bits of each given value: -log2 of how often it is there, wanted or given."""
    given = np.where(case.state == GIVEN, case.given, _NO_VALUE)
    known = case.state <= UNDEFINED
    _, place, times = np.unique(
        np.concatenate([given[known], case.expected[known]]), return_inverse=True, return_counts=True
    )
    worth = np.zeros(given.shape, np.float32)
    worth[known] = -np.log2(times[place[: np.count_nonzero(known)]] / len(place))
    return worth.clip(1, case.lane_bits)


def smaller(case: Case, most: int, whole_kernels: bool = True) -> dict[str, tuple[int, ...]]:
    """Return the labels that make about `most` values of a case, those that have most wrong ones.

    Two of an axis where kernels stay whole, so that there is one before the other, else one.
    """
    role, flow = case.group.files.role, case.mapping.dataflow
    fixed = set(flow.parts) if role.totals else set()
    wrong, kept = case.group.vector(case.wrong.astype(np.int8)), {}
    size, count = wrong.values.size, 2 if whole_kernels else 1
    for axis in wrong.axes:
        labels = case.mapping.selection.get(axis, ())
        if size <= most or axis in fixed or len(labels) <= count or whole_kernels and axis == "kij":
            continue
        each = wrong.values.sum(axis=tuple(at for at, name in enumerate(wrong.axes) if name != axis), dtype=np.int64)
        last = max(int(each.argmax()), count - 1)
        kept[axis] = tuple(labels[last - count + 1 : last + 1])
        size = size * count // len(labels)
    return kept


def rank(case: Case, table: Sequence[Hypothesis], top: int) -> tuple[Finding, ...]:
    """Return the best causes of a mismatch, the best first; none where none explains enough."""
    kept = _Kept()
    ranking = _Ranking(case, _region(case), _worth(case), tuple(table))
    for tried in ranking.singles():
        kept.add(tried, ranking.digest)
    best = kept.best(1)
    if not best or best[0].explained < best[0].wrong or best[0].contradicted:
        least = best[0].score if best else LEAST
        for tried in ranking.pairs(kept.aside):
            if tried.finding.score > least:
                kept.add(tried, ranking.digest)
    return kept.best(top)


@dataclass(frozen=True)
class _Ranking:
    case: Case
    region: _Region
    worth: np.ndarray
    table: tuple[Hypothesis, ...]

    def _try(self, hypotheses: tuple[Hypothesis, ...], detail: str, bits: float, guess: Guess) -> _Tried:
        """Compare a guess with what was given."""
        case = self.case
        matches = (case.state == GIVEN) & (case.given == guess.values)
        if guess.undefined is not None:
            matches &= ~guess.undefined
            matches |= (case.state == UNDEFINED) & guess.undefined
        return self._tried(hypotheses, detail, bits, guess, matches)

    def _tried(self, hypotheses: tuple, detail: str, bits: float, guess: Guess, matches: np.ndarray) -> _Tried:
        case, worth = self.case, self.worth
        explained, against = matches & case.wrong, case.right & ~matches
        inside = against & self.region.mask
        lost, contradicted = min(
            (worth[against].sum() + bits, np.count_nonzero(against)),
            (worth[inside].sum() + bits + self.region.bits, np.count_nonzero(inside)),
        )
        total = worth[case.wrong].sum()
        score = float((worth[explained].sum() - lost) / total)
        counts = int(np.count_nonzero(explained)), int(np.count_nonzero(case.wrong)), int(contradicted)
        return _Tried(Finding(hypotheses, detail, *counts, score), bits, guess, matches)

    def singles(self) -> Iterator[_Tried]:
        """Yield every guess of every hypothesis that applies."""
        for hypothesis in self.table:
            if self.case.recomputes or not hypothesis.computes:
                for guess in hypothesis.predict(self.case):
                    yield self._try((hypothesis,), guess.detail, log2(guess.choices * len(self.table)), guess)

    def pairs(self, best: Sequence[_Tried]) -> Iterator[_Tried]:
        """Yield two causes at different values, and changes of words on top of other sums."""
        for first, second in combinations(best, 2):
            # which of the two a value follows is a bit more for each
            bits = first.bits + second.bits + first.finding.wrong
            values = np.where(first.matches, first.guess.values, second.guess.values)
            names = first.finding.hypotheses + second.finding.hypotheses
            detail = _joined(first.finding.detail, second.finding.detail)
            yield self._tried(names, detail, bits, Guess("", values), first.matches | second.matches)
        yield from self._stacked()

    def _stacked(self) -> Iterator[_Tried]:
        """Yield changes of words on top of other sums: tried on a part, and those that explain it on the whole."""
        case = self.case
        if not case.recomputes:
            return
        part, pick = case.part(smaller(case, _PART, whole_kernels=False))
        few = _Ranking(part, _region(part), _worth(part), self.table)
        for inner in self.table:
            for base in inner.predict(case) if inner.computes else ():
                below = replace(part, expected=pick(base.values), on_top=True)
                for tried in few.on_top(inner, base, below):
                    if tried.finding.score >= LEAST:
                        yield from self._whole(inner, base, tried)

    def on_top(self, inner: Hypothesis, base: Guess, below: Case) -> Iterator[_Tried]:
        """Yield what each change of words makes of what one guess expects."""
        for outer in self.table:
            for guess in outer.predict(below) if not outer.computes else ():
                bits = log2(base.choices * guess.choices * len(self.table) ** 2)
                yield self._try((inner, outer), _joined(base.detail, guess.detail), bits, guess)

    def _whole(self, inner: Hypothesis, base: Guess, found: _Tried) -> Iterator[_Tried]:
        """Yield what was found on a part, on the whole."""
        below = replace(self.case, expected=base.values, on_top=True)
        for tried in replace(self, table=(found.finding.hypotheses[1],)).on_top(inner, base, below):
            if tried.finding.detail == found.finding.detail:
                yield replace(tried, bits=found.bits)

    def digest(self, guess: Guess) -> bytes:
        """Return what tells predictions apart, where something was given."""
        values = guess.values if guess.undefined is None else np.where(guess.undefined, _NO_VALUE, guess.values)
        return hashlib.blake2b(values[self.case.state <= UNDEFINED].tobytes()).digest()


def _joined(first: str, second: str) -> str:
    return " + ".join(filter(None, (first, second)))


@dataclass
class _Kept:
    """The best of what was tried: findings by what they predict, and a few whole guesses to be tried in pairs."""

    aside: list[_Tried] = field(default_factory=list)
    _found: dict[bytes, list[Finding]] = field(default_factory=dict)

    def add(self, tried: _Tried, digest) -> None:
        """Keep what was tried where it is among the best."""
        finding = tried.finding
        if finding.explained and len(finding.hypotheses) == 1:
            self.aside = sorted([*self.aside, tried], key=lambda item: -item.finding.score)[:_ASIDE]
        if finding.score >= LEAST and finding.share >= LEAST:
            self._found.setdefault(digest(tried.guess), []).append(finding)

    def best(self, top: int) -> tuple[Finding, ...]:
        """Return the best findings, each with the names of those that predict the same."""
        found = []
        for same in self._found.values():
            first, *others = same  # in the table's order
            names = tuple(dict.fromkeys(other.name for other in others if other.name != first.name))
            found.append(replace(first, same=names, score=max(finding.score for finding in same)))
        return tuple(sorted(found, key=lambda finding: -finding.score)[:top])
