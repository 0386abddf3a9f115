"""Right values at wrong places or with wrong bits: hypotheses that need only the words that are expected."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations

import numpy as np
from jaxtyping import Bool, Int64

from factory.arithmetic.bits import Field
from factory.dataflow import CYCLE, PIXELS
from factory.diagnose.case import Case, Guess, changed, kernel_orders, moved, permuted
from factory.diagnose.dump import GIVEN
from factory.spec import Range

_LATE = 8
_PAIRS = 6
_JUMP = 8
_MOST_ALIGNED = 1 << 14
_FILLS = {"zero": "0 at the end", "wraps": "round the end", "stays": "the end stays"}


def _wrong_lanes(case: Case) -> list[int]:
    return np.flatnonzero(case.wrong.any(axis=(0, 1))).tolist()


def lanes_reversed(case: Case) -> Iterator[Guess]:
    """Lane l holds lane L-1-l."""
    yield Guess("", case.expected[..., ::-1])


def lanes_rotated(case: Case) -> Iterator[Guess]:
    """Lane l holds lane l-n, the last ones coming first."""
    lanes = case.expected.shape[2]
    for by in range(1, lanes):
        yield Guess(f"by {by}", np.roll(case.expected, by, 2), lanes - 1)


def lanes_shifted(case: Case) -> Iterator[Guess]:
    """Lane l holds lane l-n, and what has none holds 0."""
    lanes = case.expected.shape[2]
    for by in (sign * n for n in range(1, min(lanes, _LATE)) for sign in (1, -1)):
        values = np.roll(case.expected, by, 2)
        values[..., :by] = 0 if by > 0 else values[..., :by]
        if by < 0:
            values[..., by:] = 0
        yield Guess(f"by {by:+d}", values, 2 * (lanes - 1))


def lanes_swapped(case: Case) -> Iterator[Guess]:
    """Two lanes hold each other's values, or each even lane those of the odd one beside it."""
    lanes, wrong = case.expected.shape[2], _wrong_lanes(case)
    order = np.arange(lanes)
    if lanes % 2 == 0 and lanes > 2:
        yield Guess("each even one with its odd neighbour", case.expected[..., order ^ 1], lanes)
    if len(wrong) <= _PAIRS:
        for first, second in combinations(wrong, 2):
            swapped = order.copy()
            swapped[[first, second]] = second, first
            yield Guess(f"{first} and {second}", case.expected[..., swapped], lanes * (lanes - 1) // 2)


def exchanged(case: Case) -> Iterator[Guess]:
    """Lines and lanes are exchanged in each square block, or y and x in the map of pixels."""
    files, lines, lanes = case.expected.shape
    if lines % lanes == 0 and lanes > 1:
        blocks = case.expected.reshape(files, lines // lanes, lanes, lanes)
        yield Guess("lines and lanes", blocks.swapaxes(2, 3).reshape(case.expected.shape), 2)
    spec, whole = case.mapping.spec, case.group.vector(case.expected)
    for axis, height, width in (
        (PIXELS, spec.out_height, spec.out_width), ("nij", spec.padded_height, spec.padded_width),
    ):  # fmt: skip
        if axis in whole.axes and whole.size(axis) == height * width and height == width > 1:
            order = np.arange(height * width).reshape(height, width).T.reshape(-1)
            values = permuted(whole, axis, order)
            yield Guess("y and x of the map", case.group.arrange(changed(whole, values)), 2)


def lines_reversed(case: Case) -> Iterator[Guess]:
    """The last word of each file comes first."""
    yield Guess("", case.expected[:, ::-1])


def late(case: Case) -> Iterator[Guess]:
    """Each word comes n words late (early: -n), in each run of the innermost axis, each file, or all files together."""
    files, lines, lanes = case.expected.shape
    placement = case.group.files.placement
    inner = placement.placed[placement.layout.lines[-1].name] if placement.layout.lines else 1
    runs = {run: None for run in (inner, lines, files * lines) if run > 1}
    most = 2 if case.on_top else _LATE
    choices = 2 * min(most, max(runs, default=1) - 1) * len(runs) * (len(_FILLS) + 1)
    for run in runs:
        words = case.expected.reshape(-1, run, lanes)
        span = {lines: "", files * lines: " through all files"}.get(
            run, f" in each run of {placement.layout.lines[-1]}"
        )
        for by in (sign * n for n in range(1, min(most, run - 1) + 1) for sign in (1, -1)):
            new = slice(0, by) if by > 0 else slice(by, None)
            rolled = np.roll(words, by, 1)
            what = f"{'late' if by > 0 else 'early'} by {abs(by)} {'word' if abs(by) == 1 else 'words'}{span}"
            zero, stays, unknown = rolled.copy(), rolled.copy(), np.zeros(rolled.shape, bool)
            zero[:, new], stays[:, new], unknown[:, new] = 0, words[:, new], True
            for values, fill, mask in (
                (zero, "0 first" if by > 0 else "0 last", None), (stays, "the ends stay", None),
                (rolled, "round the end", None), (zero, "x there", unknown.reshape(case.expected.shape)),
            ):  # fmt: skip
                yield Guess(f"{what}, {fill}", values.reshape(case.expected.shape), choices, mask)


def lanes_skewed(case: Case) -> Iterator[Guess]:
    """Lane l comes l words late or early: a skew that is missing, or made twice."""
    files, lines, lanes = case.expected.shape
    if lanes == 1 or lines <= lanes:
        return
    for name, delays in (
        ("lane l late by l", np.arange(lanes)),
        ("lane l early by l", -np.arange(lanes)),
        ("lane l late by L-1-l", np.arange(lanes)[::-1]),
        ("lane l early by L-1-l", -np.arange(lanes)[::-1]),
    ):
        yield from _delayed(case, name, delays, 8)
    for lane in _wrong_lanes(case):
        for by in (1, -1):
            delays = np.zeros(lanes, np.int64)
            delays[lane] = by
            yield from _delayed(case, f"lane {lane} {'late' if by > 0 else 'early'} by 1", delays, 4 * lanes)


def _delayed(case: Case, name: str, delays: np.ndarray, choices: int) -> Iterator[Guess]:
    lines = case.expected.shape[1]
    source = np.arange(lines)[:, None] - delays
    values = np.take_along_axis(case.expected, np.broadcast_to(source % lines, case.expected.shape), axis=1)
    yield Guess(f"{name}, round the end", values, choices)
    yield Guess(f"{name}, 0 at the end", np.where((source >= 0) & (source < lines), values, 0), choices)


def stuck_bit(case: Case) -> Iterator[Guess]:
    """One bit of every value is always 0, always 1, or inverted; only bits that the given values do not disprove."""
    bits, given = case.lane_bits, case.given[case.differs]
    if not given.size:
        return
    differing = given ^ case.expected[case.differs]
    for bit in range(bits):
        mask = 1 << bit
        ones = int(np.count_nonzero(given & mask))
        for stuck, agreeing in ((1, ones), (0, given.size - ones)):
            if agreeing > 0.9 * given.size:
                values = case.expected | mask if stuck else case.expected & ~mask
                yield Guess(f"bit {bit} at {stuck}", case.wrapped(values), 3 * bits)
        if np.count_nonzero(differing & ((1 << bits) - 1) == mask) > 0.5 * given.size:
            yield Guess(f"bit {bit} inverted", case.wrapped(case.expected ^ mask), 3 * bits)


def bits_reordered(case: Case) -> Iterator[Guess]:
    """The bits of each value are reversed, its bytes swapped, its value shifted, negated, or sign and magnitude."""
    bits, plain = case.lane_bits, case.expected & ((1 << case.lane_bits) - 1)
    reversed_bits = np.zeros_like(plain)
    for bit in range(bits):
        reversed_bits |= (plain >> bit & 1) << (bits - 1 - bit)
    yield Guess("bits reversed", case.wrapped(reversed_bits), 12)
    if bits % 8 == 0 and bits > 8:
        swapped = sum((plain >> low & 255) << (bits - 8 - low) for low in range(0, bits, 8))
        yield Guess("bytes swapped", case.wrapped(swapped), 12)
    for by in (1, 2, 4, 8):
        if by < bits:
            yield Guess(f"shifted left by {by}", case.wrapped(case.expected << by), 12)
            yield Guess(f"shifted right by {by}", case.wrapped(case.expected >> by), 12)
    yield Guess("negated", case.wrapped(-case.expected), 12)
    magnitude = np.where(case.expected < 0, -case.expected | 1 << (bits - 1), case.expected)
    yield Guess("sign and magnitude", case.wrapped(magnitude), 12)


def narrow(case: Case) -> Iterator[Guess]:
    """A result is cut, or clamped, to fewer bits, the number being what the given values need."""
    given = case.given[case.differs]
    if not given.size:
        return
    needed = Range(int(given.min(initial=0)), int(given.max(initial=0))).bits
    for bits in range(needed, min(needed + 2, case.lane_bits)):
        held = Field(bits, True)
        yield Guess(f"wrapped to {bits} bits", held.wrap(case.expected)[0].astype(np.int64), 2 * case.lane_bits)
        yield Guess(f"clamped to {bits} bits", held.saturate(case.expected), 2 * case.lane_bits)
    for bits in range(needed - 1, min(needed + 1, case.lane_bits)):
        if bits:
            values = Field(bits, False).saturate(case.expected)
            yield Guess(f"clamped to {bits} bits, unsigned", values, 2 * case.lane_bits)


def not_written(case: Case) -> Iterator[Guess]:
    """The words are x, 0, all ones, or all the same."""
    yield Guess("x", case.expected, 3, np.ones(case.expected.shape, bool))
    yield Guess("0", np.zeros_like(case.expected), 3)
    yield Guess("all ones", case.wrapped(np.full_like(case.expected, -1)), 3)


def places_moved(case: Case) -> Iterator[Guess]:
    """The words of one tile, kernel position or pass lie where those of the next, or of another, must lie."""
    named = case.named
    placement = case.group.files.placement
    lanes = {axis.name for axis in placement.layout.lanes}
    tiling = case.mapping.dataflow.pixel_tiling
    time = {PIXELS, "nij", CYCLE} | ({tiling.inner} if tiling else set())
    outer = [axis for axis in named.axes if axis not in lanes | time and named.size(axis) > 1]
    choices = 6 * len(outer) + 4
    for axis in outer:
        for by, word in ((1, "before"), (-1, "after")):
            for fill in _FILLS:
                values = moved(named, axis, by, fill)
                yield Guess(f"those of the {axis} {word}, {_FILLS[fill]}", values.reshape(case.expected.shape), choices)
        for label in range(named.size(axis) if named.size(axis) <= _LATE else 0):
            order = np.full(named.size(axis), label)
            values = permuted(named, axis, order)
            yield Guess(f"those of {axis} {label}", values.reshape(case.expected.shape), choices * named.size(axis))
    if "kij" in named.axes:
        for name, order in kernel_orders(case.mapping):
            yield Guess(f"kij {name}", permuted(named, "kij", order).reshape(case.expected.shape), choices)


def other_words(case: Case) -> Iterator[Guess]:
    """The words are right ones, of another image or layer."""
    for name, values in case.others.items():
        yield Guess(name, values, len(case.others))


def handshake(case: Case) -> Iterator[Guess]:
    """Words are lost or taken twice: what comes are the right words, in their order, but not each one once."""
    lanes = case.expected.shape[2]
    words, given = case.expected.reshape(-1, lanes), case.given.reshape(-1, lanes)
    known = (case.state.reshape(-1, lanes) == GIVEN).all(axis=1)
    if case.on_top or not 2 <= len(words) <= _MOST_ALIGNED:
        return
    files, lines, _ = case.expected.shape
    for name, step in (("lost", 1), ("taken twice", -1)):
        values, jumps = _aligned(words, given, known, step, lines)
        # a jump may be after any word and of any length: each one costs as many bits as a choice among them
        yield Guess(name, values.reshape(case.expected.shape), 2 * (_JUMP * max(lines, 2)) ** jumps)


def _aligned(
    words: Int64[np.ndarray, "word lane"],
    given: Int64[np.ndarray, "word lane"],
    known: Bool[np.ndarray, " word"],
    step: int,
    run: int,
) -> tuple[Int64[np.ndarray, "word lane"], int]:
    """Follow the given words: each is the right one, or one further on (`step` 1) or back, for good, in its run."""
    values, jumps, ahead = words.copy(), 0, 0
    for place in range(len(words)):
        if place % run == 0:
            ahead = 0
        first, last = place // run * run, place // run * run + run
        if not known[place]:
            continue
        for more in range(_JUMP + 1):
            source = place + ahead + step * more
            if first <= source < last and np.array_equal(words[source], given[place]):
                jumps, ahead = jumps + (more > 0), ahead + step * more
                break
        source = place + ahead
        values[place] = words[source] if first <= source < last else values[place]
    return values, jumps
