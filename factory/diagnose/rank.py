"""Which causes explain a mismatch: the share of the wrong values that each predicts, less what its freedom costs.

All in bits, as a description's length. A guess gains the wrong values that it predicts, and loses the right ones that
it predicts otherwise; a value is worth -log2 of how often it is there, so that a 0 among zeros says little. Freedom
costs log2 of the guesses that there are and, where a guess is held against the region of the wrong values alone, log2
of the regions. So a hypothesis with a free parameter cannot win by fitting noise, and few values name no cause. One
fault shows in many layers and images: a guess costs its freedom once, and gains in all of them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import combinations
from math import comb, log2

import numpy as np

from factory.diagnose.case import Case, Guess, changed
from factory.diagnose.dump import GIVEN, UNDEFINED
from factory.diagnose.hypotheses import Hypothesis

LEAST = 0.5
"""The share of the wrong values, less the costs, that a cause must explain to be named."""
_HOPE = 0.25
"""The share of the first case's wrong values that a hypothesis must explain to be tried on the others."""
_ASIDE = 12
"""How many of the best single guesses are tried in pairs."""
_PART = 10_000
"""Values, about, of the part on which changes of words are tried on top of other sums."""
_NO_VALUE = 1 << 40


@dataclass(frozen=True)
class Finding:
    """A cause that explains `explained` of `wrong` values; `contradicted` right ones would be others.

    `hypotheses` are one, or the two of a pair. `score` is the share after costs. `same` are names of other causes that
    predict the same bits. The values are those of so many `groups`: of a layer, image and role each.
    """

    hypotheses: tuple[Hypothesis, ...]
    detail: str
    explained: int
    wrong: int
    contradicted: int
    score: float
    groups: int = 1
    same: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The cause in words."""
        return _named(self.hypotheses, self.detail)

    @property
    def share(self) -> float:
        """The share of the wrong values that it explains."""
        return self.explained / self.wrong

    @property
    def is_whole(self) -> bool:
        """Whether it explains every wrong value and changes no right one."""
        return self.explained == self.wrong and not self.contradicted


def _named(hypotheses: tuple[Hypothesis, ...], detail: str) -> str:
    names = " and ".join(hypothesis.name for hypothesis in hypotheses)
    return f"{names}: {detail}" if detail else names


@dataclass(frozen=True)
class _Against:
    """How many right values a guess contradicts, and the bits that they are worth."""

    count: int = 0
    bits: float = 0.0

    def __add__(self, other: _Against) -> _Against:
        return _Against(self.count + other.count, self.bits + other.bits)


@dataclass(frozen=True)
class _Result:
    """A guess against a case: what its freedom costs, and what it explains and contradicts, anywhere and `inside`.

    `inside` is the region of the wrong values. `digest` tells predictions apart, None of those that explain little.
    """

    hypotheses: tuple[Hypothesis, ...]
    detail: str
    cost: float
    explained: int
    gain: float
    anywhere: _Against
    inside: _Against
    digest: bytes | None = None

    @property
    def name(self) -> str:
        return _named(self.hypotheses, self.detail)


@dataclass(frozen=True)
class _Tried:
    """A guess with its result, and where it is what was given."""

    result: _Result
    guess: Guess
    matches: np.ndarray


@dataclass(frozen=True)
class _Region:
    """The smallest box of labels that holds all wrong values, and the bits that it takes to say which it is."""

    mask: np.ndarray
    bits: float

    @cached_property
    def key(self) -> bytes:
        """What tells regions apart."""
        return self.mask.tobytes()


def _region(case: Case) -> _Region:
    vector = case.group.vector(case.wrong.astype(np.int8))
    wrong = vector.values.astype(bool)
    mask, bits = np.ones(wrong.shape, bool), 0.0
    for axis, size in enumerate(wrong.shape):
        kept = wrong.any(axis=tuple(at for at in range(wrong.ndim) if at != axis))
        bits += 1 + log2(comb(size, int(kept.sum())))  # whether the axis has a part, and which
        mask &= kept.reshape([-1 if at == axis else 1 for at in range(wrong.ndim)])
    return _Region(case.group.place(changed(vector, mask.astype(np.int8))).astype(bool), bits)


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


def rank(cases: Sequence[Case], table: Sequence[Hypothesis], top: int) -> tuple[Finding, ...]:
    """Return the best causes of a mismatch, the best first; none where none explains enough.

    The cases are groups of one role in which words are wrong. Pairs of causes are tried on the first one, where no
    single cause explains all of it.
    """
    first, *others = (_Ranking.of(case, tuple(table)) for case in cases)
    kept = _Kept(first)
    for tried in first.singles():
        kept.add(tried)
    hopeful = tuple(dict.fromkeys(kept.hopeful()))
    every = [kept]
    for ranking in others if hopeful else ():
        every.append(more := _Kept(ranking))
        for tried in replace(ranking, table=hopeful).singles():
            more.add(tried)
    together = _best(every, top)
    if together and together[0].is_whole:
        return together
    alone = _best([kept], 1)
    if not alone or not alone[0].is_whole:
        least = alone[0].score if alone else LEAST
        for tried in first.pairs([tried for _, tried in kept.aside]):
            if first.score(tried.result) > least:
                kept.add(tried)
    alone = _best([kept], top)
    return together if together and (not alone or together[0].score >= alone[0].score) else alone


def _best(every: Sequence[_Kept], top: int) -> tuple[Finding, ...]:
    """Return the best of what was tried on some cases, each with the names of those that predict the same."""
    rankings, found = [kept.ranking for kept in every], {}
    for name in dict.fromkeys(name for kept in every for name in kept.results):
        results = [kept.results.get(name) for kept in every]
        finding = _finding(rankings, results)
        if finding.score >= LEAST and finding.share >= LEAST:
            same = tuple(name if each is None or each.digest is None else each.digest for each in results)
            found.setdefault(same, []).append(finding)
    best = []
    for first, *others in found.values():  # in the table's order
        names = tuple(dict.fromkeys(other.name for other in others if other.name != first.name))
        best.append(replace(first, same=names, score=max(each.score for each in (first, *others))))
    return tuple(sorted(best, key=lambda finding: -finding.score)[:top])


def _finding(rankings: Sequence[_Ranking], results: Sequence[_Result | None]) -> Finding:
    """Return what one guess explains of some cases; None: it says nothing of that case."""
    known = [result for result in results if result is not None]
    regions = {ranking.region.key: ranking.region.bits for ranking in rankings}
    anywhere, inside = (sum(each, _Against()) for each in zip(*((x.anywhere, x.inside) for x in known), strict=True))
    lost = min(anywhere, inside + _Against(0, sum(regions.values())), key=lambda against: against.bits)
    gained = sum(result.gain for result in known) - lost.bits - max(result.cost for result in known)
    return Finding(
        known[0].hypotheses,
        known[0].detail,
        sum(result.explained for result in known),
        sum(ranking.wrong for ranking in rankings),
        lost.count,
        gained / sum(ranking.total for ranking in rankings),
        len(rankings),
    )


@dataclass(frozen=True)
class _Ranking:
    case: Case
    region: _Region
    worth: np.ndarray
    table: tuple[Hypothesis, ...]
    among: int

    @classmethod
    def of(cls, case: Case, table: tuple[Hypothesis, ...]) -> _Ranking:
        return cls(case, _region(case), _worth(case), table, len(table))

    @cached_property
    def wrong(self) -> int:
        """How many values are wrong."""
        return int(np.count_nonzero(self.case.wrong))

    @cached_property
    def total(self) -> float:
        """What all wrong values are worth."""
        return float(self.worth[self.case.wrong].sum())

    def score(self, result: _Result) -> float:
        """Return the share of the wrong values that a guess explains, after costs."""
        return _finding([self], [result]).score

    def _matches(self, guess: Guess) -> np.ndarray:
        """Return where a guess is what was given."""
        case = self.case
        matches = (case.state == GIVEN) & (case.given == guess.values)
        if guess.undefined is not None:
            matches &= ~guess.undefined
            matches |= (case.state == UNDEFINED) & guess.undefined
        return matches

    def _tried(self, hypotheses: tuple, cost: float, guess: Guess, matches: np.ndarray) -> _Tried:
        explained, against = matches & self.case.wrong, self.case.right & ~matches
        result = _Result(
            hypotheses,
            guess.detail,
            cost,
            int(np.count_nonzero(explained)),
            float(self.worth[explained].sum()),
            self._against(against),
            self._against(against & self.region.mask),
        )
        return _Tried(result, guess, matches)

    def _against(self, mask: np.ndarray) -> _Against:
        return _Against(int(np.count_nonzero(mask)), float(self.worth[mask].sum()))

    def singles(self) -> Iterator[_Tried]:
        """Yield every guess of every hypothesis that applies."""
        for hypothesis in self.table:
            if self.case.recomputes or not hypothesis.computes:
                for guess in hypothesis.predict(self.case):
                    yield self._tried((hypothesis,), log2(guess.choices * self.among), guess, self._matches(guess))

    def pairs(self, best: Sequence[_Tried]) -> Iterator[_Tried]:
        """Yield two causes at different values, and changes of words on top of other sums."""
        for first, second in combinations(best, 2):
            # which of the two a value follows is a bit more for each
            one, other = first.result, second.result
            values = np.where(first.matches, first.guess.values, second.guess.values)
            names, cost = one.hypotheses + other.hypotheses, one.cost + other.cost + self.wrong
            guess = Guess(_joined(one.detail, other.detail), values)
            yield self._tried(names, cost, guess, first.matches | second.matches)
        yield from self._stacked()

    def _stacked(self) -> Iterator[_Tried]:
        """Yield changes of words on top of other sums: tried on a part, and those that explain it on the whole."""
        case = self.case
        if not case.recomputes:
            return
        part, pick = case.part(smaller(case, _PART, whole_kernels=False))
        few = _Ranking.of(part, self.table)
        for inner in self.table:
            for base in inner.predict(case) if inner.computes else ():
                below = replace(part, expected=pick(base.values), on_top=True)
                for tried in few.on_top(inner, base, below):
                    if few.score(tried.result) >= LEAST:
                        yield from self._whole(inner, base, tried.result)

    def on_top(self, inner: Hypothesis, base: Guess, below: Case) -> Iterator[_Tried]:
        """Yield what each change of words makes of what one guess expects, where it explains enough."""
        for outer in self.table:
            for guess in outer.predict(below) if not outer.computes else ():
                matches = self._matches(guess)
                if np.count_nonzero(matches & self.case.wrong) >= LEAST * self.wrong:  # few of thousands do
                    cost = log2(base.choices * guess.choices * self.among**2)
                    both = replace(guess, detail=_joined(base.detail, guess.detail))
                    yield self._tried((inner, outer), cost, both, matches)

    def _whole(self, inner: Hypothesis, base: Guess, found: _Result) -> Iterator[_Tried]:
        """Yield what was found on a part, on the whole."""
        below = replace(self.case, expected=base.values, on_top=True)
        for tried in replace(self, table=(found.hypotheses[1],)).on_top(inner, base, below):
            if tried.result.detail == found.detail:
                yield tried

    def digest(self, guess: Guess) -> bytes:
        """Return what tells predictions apart, where something was given."""
        values = guess.values if guess.undefined is None else np.where(guess.undefined, _NO_VALUE, guess.values)
        return hashlib.blake2b(values[self.case.state <= UNDEFINED].tobytes()).digest()


def _joined(first: str, second: str) -> str:
    return " + ".join(filter(None, (first, second)))


@dataclass
class _Kept:
    """What was tried on one case, by name, and a few of the best whole guesses, to be tried in pairs."""

    ranking: _Ranking
    results: dict[str, _Result] = field(default_factory=dict)
    aside: list[tuple[float, _Tried]] = field(default_factory=list)

    def add(self, tried: _Tried) -> None:
        """Keep what was tried."""
        result, score = tried.result, self.ranking.score(tried.result)
        if result.explained and len(result.hypotheses) == 1:
            self.aside = sorted([*self.aside, (score, tried)], key=lambda item: -item[0])[:_ASIDE]
        if result.explained >= _HOPE * self.ranking.wrong:
            result = replace(result, digest=self.ranking.digest(tried.guess))
        known = self.results.get(result.name)
        if known is None or score > self.ranking.score(known):
            self.results[result.name] = result

    def hopeful(self) -> Iterator[Hypothesis]:
        """Yield the hypotheses that explain some of the case."""
        for result in self.results.values():
            if result.digest is not None:
                yield result.hypotheses[0]
