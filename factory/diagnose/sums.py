"""Wrong sums of the right codes: hypotheses about adders, passes, accumulators, and what follows them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import product

import numpy as np

from factory.arithmetic.adders import Adder
from factory.arithmetic.bits import Field
from factory.arithmetic.labelled import LabelledArray
from factory.dataflow import PIXELS, KnownLayer
from factory.dataflow.pixels import activate
from factory.dataflow.sums import arranged
from factory.diagnose.case import Case, Guess, at_places, changed
from factory.diagnose.dump import GIVEN
from factory.memfile import POSTS
from factory.spec import Range

_MOST_PASSES = 144
_MOST_CODES = 32
_LEAKY_SHIFT = 6
_WIDE = 48
"""Bits that hold every exact sum."""


def _pass_axes(case: Case) -> list[str]:
    flow, weight = case.mapping.dataflow, case.operands["weight"]
    inner = [axis for axis in flow.terms if axis not in [tiling.inner for tiling in flow.tilings.values()]]
    return [axis for axis in (*flow.parts, *flow.passes, *inner) if weight.size(axis) > 1]


def _masked(weight: LabelledArray, places: Mapping[str, int], times: int) -> LabelledArray:
    """Return the weights with those at some places multiplied."""
    values = weight.values.astype(np.int16)
    values[at_places(weight, places)] *= times
    return changed(weight, values)


def _only(weight: LabelledArray, places: Mapping[str, int]) -> LabelledArray:
    """Return the weights of some places alone, 0 elsewhere."""
    index, kept = at_places(weight, places), np.zeros_like(weight.values)
    kept[index] = weight.values[index]
    return changed(weight, kept)


def passes_counted(case: Case) -> Iterator[Guess]:
    """A pass is missing or added twice: of one kij, one it, or one it and kij."""
    if not case.group.files.role.totals:
        return
    weight, axes = case.operands["weight"], _pass_axes(case)
    places = [{axis: place} for axis in axes for place in range(weight.size(axis))]
    if len(axes) == 2:
        places += [dict(zip(axes, at, strict=True)) for at in np.ndindex(*(weight.size(axis) for axis in axes))]
    for at in places[:_MOST_PASSES]:
        name = ", ".join(f"{axis} {weight.label(axis)[place]}" for axis, place in at.items())
        for times, what in ((0, "missing"), (2, "added twice")):
            yield Guess(f"{name} {what}", case.values(weight=_masked(weight, at, times)), 2 * len(places))


def restarted(case: Case) -> Iterator[Guess]:
    """The accumulator is cleared again inside the sum: only its last it, or its last pass, is left."""
    weight, axes = case.operands["weight"], _pass_axes(case)
    if not case.group.files.role.totals:
        return
    for axis in axes:
        if axis in case.group.axes:  # a sum after each part: that part's alone
            (sums,) = case.group.files.role.values(case.vectors(), "")
            values = sums.values.copy()
            for place in range(weight.size(axis)):
                alone, index = case.vectors(weight=_only(weight, {axis: place})), at_places(sums, {axis: place})
                (part,) = case.group.files.role.values(alone, "")
                values[index] = part.values[index]
            yield Guess(f"by each {axis}", case.group.arrange(changed(sums, values)), 3)
        else:
            yield Guess(f"by each {axis}", case.values(weight=_only(weight, {axis: -1})), 3)
    if len(axes) == 2 and not set(axes) & set(case.group.axes):
        last = _only(weight, dict.fromkeys(axes, -1))
        yield Guess(f"by each {' and '.join(axes)}", case.values(weight=last), 3)


def not_cleared(case: Case) -> Iterator[Guess]:
    """Each tile is added to what the tiles before it left."""
    role, flow = case.group.files.role, case.mapping.dataflow
    if not role.totals or role.of_next:
        return
    yield Guess("on top of x", case.expected, 4, np.ones(case.expected.shape, bool))
    running = case.vectors().running_sum if set(flow.parts) & set(case.group.axes) else case.accumulators
    if not case.totals and running is case.accumulators:
        return
    jobs = [tiling.outer for tiling in (flow.pixel_tiling, flow.tilings.get("oc")) if tiling is not None]
    totals = case.by_tile(case.accumulators)
    axes = (*jobs, *(axis for axis in totals.axes if axis not in jobs))
    shape = [totals.size(axis) for axis in axes]
    one_job = (-1, *shape[len(jobs) :])
    flat = arranged(totals, *axes).astype(np.int64).reshape(one_job)
    previous = np.concatenate([np.zeros_like(flat[:1]), flat[:-1]])
    found = {"all tiles before": np.cumsum(previous, axis=0), "the tile before": previous}
    if not role.posts and running is case.accumulators:  # what is left of another image, or layer, too
        given = arranged(case.by_tile(case.group.vector(case.given)), *axes).astype(np.int64).reshape(one_job)
        found["what the tile before gave"] = np.concatenate([np.zeros_like(given[:1]), given[:-1]])
    for name, left in found.items():
        back = changed(totals, left.reshape(shape).transpose([axes.index(axis) for axis in totals.axes]))
        added = case.untiled(back, case.accumulators.size(PIXELS)).values
        values = changed(running, running.values.astype(np.int64) + added)
        yield Guess(f"on top of {name}", case.from_sums(values, partial(activate, post=case.post)), 4)


@dataclass(frozen=True)
class FaultyAdder(Adder):
    """An adder that gives `function` of each exact sum."""

    function: Callable[[np.ndarray], np.ndarray] = field(default=np.asarray)

    def holds(self, *sums: np.ndarray) -> bool:
        """Return that every sum has to be taken on its own."""
        return False

    def settle(self, sums: np.ndarray, where: object) -> np.ndarray:
        """Return what the adder gives."""
        return self.function(sums).astype(np.int64)


def adders(case: Case) -> Iterator[Guess]:
    """Every addition wraps where it must saturate or the reverse, at the adders' width or the one that is needed."""
    bits = case.mapping.adder.bits
    given = case.given[case.state == GIVEN]
    needed = Range(int(given.min(initial=0)), int(given.max(initial=0))).bits
    widths = sorted({bits, max(2, needed), max(2, needed - 1)})
    for width, overflow in product(widths, ("wrap", "saturate")):
        adder = Adder(width, overflow)
        if adder != case.mapping.adder:
            word = "wraps" if adder.wraps else "saturates"
            yield Guess(f"each addition {word} at {width} bits", case.values(adder), 2 * bits)
    held = Field(bits, True)
    for name, above, below in (
        ("to the other end", held.low, held.high), ("with the wrong sign bit, to -1 and 0", -1, 0),
    ):  # fmt: skip
        adder = FaultyAdder(bits, "saturate", partial(_clamped, held, above, below))
        yield Guess(f"a sum that is too large is clamped {name}", case.values(adder), 2 * bits)


def _clamped(held: Field, above: int, below: int, sums: np.ndarray) -> np.ndarray:
    return np.where(sums > held.high, above, np.where(sums < held.low, below, sums))


def adder_bits(case: Case) -> Iterator[Guess]:
    """One bit of every sum inside the array is stuck, so that later sums are wrong too."""
    bits = case.mapping.adder.bits
    given = case.given[case.differs]
    held = Field(bits, True)
    for bit, stuck in product(range(bits if given.size else 0), (1, 0)):
        mask = 1 << bit
        # the last sum shows the stuck bit, unless a post-op hides it
        if np.count_nonzero(given & mask if stuck else ~given & mask) < 0.9 * given.size:
            continue
        adder = FaultyAdder(bits, "saturate", partial(_forced, held, case.mapping.adder.wraps, mask, stuck))
        yield Guess(f"bit {bit} at {stuck}", case.values(adder), 2 * bits)


def _forced(held: Field, wraps: bool, mask: int, stuck: int, sums: np.ndarray) -> np.ndarray:
    forced = sums | mask if stuck else sums & ~mask
    return held.wrap(forced)[0] if wraps else held.saturate(forced)


def carries(case: Case) -> Iterator[Guess]:
    """Every addition drops the carry out of one bit.

    The bits above it are then the sum of the terms' own high bits, those below the sum of the low ones, modulo: so what
    is lost is `(sum of (product mod 2^bit)) >> bit << bit`, in whatever order the terms are added.
    """
    sums = _sums(case)
    if sums is None:
        return
    bits = case.mapping.adder.bits
    fewest = min(case.operands, key=lambda role: len(np.unique(case.operands[role].values)))
    codes = case.operands[fewest]
    each = np.unique(codes.values)
    (other,) = (role for role in case.operands if role != fewest)
    for bit in _dropped_bits(case) if len(each) <= _MOST_CODES else ():
        low = np.zeros(sums.values.shape, np.int64)
        for code in each.tolist():
            products = case.operands[other].values.astype(np.int64) * code % (1 << bit)
            here = {fewest: changed(codes, (codes.values == code).astype(np.int8))}
            here[other] = changed(case.operands[other], products)
            low += _sums(case, **here).values
        lost = changed(sums, sums.values - (low >> bit << bit))
        yield Guess(f"from bit {bit - 1} to {bit}", case.from_sums(lost, partial(activate, post=case.post)), bits)


def _sums(case: Case, **operands: LabelledArray) -> LabelledArray | None:
    """Return the exact sums that the words are, before any post-op; None where the words are something else."""
    role = case.group.files.role
    if role.posts and case.totals:
        return case.vectors(Adder(_WIDE), **operands).accumulator
    if not role.sums or role.posts:
        return None
    (sums,) = role.values(case.vectors(Adder(_WIDE), **operands), "")
    return sums


def _dropped_bits(case: Case) -> list[int]:
    """Return the bits whose multiples the wrong values are off by, half of them by odd ones."""
    shown = case.differs & (case.given != 0) & (case.expected != 0)  # a ReLU hides the others
    off = (case.given - case.expected)[shown] & ((1 << case.mapping.adder.bits) - 1)
    return [
        bit
        for bit in range(1, case.mapping.adder.bits)
        if off.size and np.mean(off % (1 << bit) == 0) > 0.9 and np.mean(off >> bit & 1) > 0.25
    ]


def post_ops(case: Case) -> Iterator[Guess]:
    """What follows the sums is another post-op, is missing, or comes before the sum is whole."""
    if not case.totals:
        return
    names = [name for name in POSTS if "pool" not in name]
    done = case.post if case.group.files.role.posts else "none"
    field = case.mapping.adder.field
    sums = case.accumulators.values.astype(np.int64)
    found = {f"{name} in place of {done}": activate(sums, name) for name in names if name != done}
    found["leaky, whose shift is not arithmetic"] = np.where(
        sums < 0, (sums & ((1 << field.bits) - 1)) >> _LEAKY_SHIFT, sums
    )
    found["the absolute value"] = abs(sums)
    for name, values in found.items():
        vector = LabelledArray(field.wrap(values)[0], case.accumulators.axes, case.accumulators.labels)
        yield Guess(name, case.group.arrange(vector), len(found) + 2)
    yield from _early_post(case, len(found) + 2)


def _early_post(case: Case, choices: int) -> Iterator[Guess]:
    """Yield the sums of passes each of which has had its ReLU."""
    weight, axes = case.operands["weight"], _pass_axes(case)
    for wanted in (axes, axes[:1]):
        if not wanted or np.prod([weight.size(axis) for axis in wanted]) > _MOST_PASSES:
            continue
        total = np.zeros(case.accumulators.values.shape, np.int64)
        for places in np.ndindex(*(weight.size(axis) for axis in wanted)):
            alone = case.vectors(weight=_only(weight, dict(zip(wanted, places, strict=True)))).accumulator
            total += activate(alone.values, POSTS[0])
        vector = changed(case.accumulators, total)
        yield Guess(f"ReLU on each {' and '.join(wanted)}", case.from_sums(vector, np.asarray), choices)


def thresholds(case: Case) -> Iterator[Guess]:
    """A threshold is compared with `>` in place of `>=`, or the levels are one off."""
    source, role = case.source, case.group.files.role
    if not role.of_next or source.threshold is None or source.direction is None:
        return
    step = source.direction[...].astype(np.int32)[:, None]
    for name, by in (("> for >=", 1), ("one too low", -1)):
        threshold = (source.threshold[...] + by * step).astype(np.int32)
        moved_source = KnownLayer(case.mapping.spec, threshold=threshold, direction=source.direction[...])
        (vector,) = role.values(replace(case.vectors(), source=moved_source), "")
        yield Guess(name, case.group.arrange(vector), 2)
