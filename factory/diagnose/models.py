"""Wrong codes at the array's elements: hypotheses that compute the sums of other operands."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

import numpy as np

from factory.arithmetic.bits import Field
from factory.arithmetic.labelled import LabelledArray
from factory.dataflow import PIXELS
from factory.diagnose.case import Case, Guess, Words, changed, kernel_orders, moved, permuted

_ENDS = {"zero": "0 first", "wraps": "round the end", "stays": "the first stays"}


def signs(case: Case) -> Iterator[Guess]:
    """An operand is read as unsigned where it is signed, or the reverse."""
    for role, codes in case.operands.items():
        held = case.mapping.fields[role]
        values = Field(held.bits, not held.signed).wrap(codes.values)[0]
        taken = f"{role} codes taken as {'unsigned' if held.signed else 'signed'}"
        yield Guess(taken, case.values(**{role: changed(codes, values)}), len(case.operands))


def subtracted(case: Case) -> Iterator[Guess]:
    """Every product is subtracted."""
    weight = case.operands["weight"]
    yield Guess("", case.values(weight=changed(weight, -weight.values.astype(np.int16))))


def stale_weights(case: Case) -> Iterator[Guess]:
    """A pass has the weights of the one before, or after: of the kij, it or ot, or of the pass in the order of time."""
    weight = case.operands["weight"]
    axes = [axis for axis in ("kij", "it", "ot", "ic", "oc") if axis in weight.axes and weight.size(axis) > 1]
    choices = 6 * (len(axes) + 1)
    for axis, (by, word), fill in product(axes, ((1, "before"), (-1, "after")), _ENDS):
        values = changed(weight, moved(weight, axis, by, fill))
        yield Guess(f"of the {axis} {word}, {_ENDS[fill]}", case.values(weight=values), choices)
    outer = [axis for axis in ("ot", "it", "ic", "kij") if axis in weight.axes]
    order = [weight.axes.index(axis) for axis in outer]
    stream = np.moveaxis(weight.values, order, range(len(order)))
    flat = stream.reshape(-1, *stream.shape[len(order) :])
    for fill in ("zero", "wraps"):
        rolled = np.roll(flat, 1, axis=0)
        if fill == "zero":
            rolled[0] = 0
        back = np.moveaxis(rolled.reshape(stream.shape), range(len(order)), order)
        values = case.values(weight=changed(weight, back))
        yield Guess(f"of the pass before, {' '.join(outer)} in this order, {_ENDS[fill]}", values, choices)


def kernel_reordered(case: Case) -> Iterator[Guess]:
    """The kernel is transposed or flipped: the weights of one position meet the pixels of another."""
    weight = case.operands["weight"]
    if "kij" in weight.axes:
        for name, order in kernel_orders(case.mapping):
            yield Guess(name, case.values(weight=changed(weight, permuted(weight, "kij", order))), 4)


def lanes_of_operands(case: Case) -> Iterator[Guess]:
    """Rows or columns of one operand are reversed, rotated or exchanged."""
    for role, whole in case.operands.items():
        codes = case.by_tile(whole)
        for axis in [axis for axis in ("row", "col", "px") if axis in codes.axes and codes.size(axis) > 1]:
            for name, values in (
                ("reversed", np.flip(codes.values, codes.axes.index(axis))),
                ("rotated by 1", moved(codes, axis, 1, "wraps")),
                ("rotated by -1", moved(codes, axis, -1, "wraps")),
                ("shifted by 1", moved(codes, axis, 1, "zero")),
                ("shifted by -1", moved(codes, axis, -1, "zero")),
            ):
                yield Guess(f"{role}: {axis} {name}", _with(case, role, changed(codes, values)), 12)
        if "row" in codes.axes and "col" in codes.axes and codes.size("row") == codes.size("col"):
            values = np.swapaxes(codes.values, codes.axes.index("row"), codes.axes.index("col"))
            yield Guess(f"{role}: row and col exchanged", case.values(**{role: changed(codes, values)}), 12)


def _with(case: Case, role: str, tiled: LabelledArray) -> Words:
    """Return what the files would hold with another operand, whose pixels may be in tiles."""
    whole = case.operands[role]
    pixels = whole.size(PIXELS) if PIXELS in whole.axes else 0
    return case.values(**{role: changed(whole, case.untiled(tiled, pixels).values)})


def rows_missing(case: Case) -> Iterator[Guess]:
    """The products of one row, or of all but one of the input channels that share a row, are not added."""
    weight, simd = case.operands["weight"], case.group.plan.profile.simd
    if "row" not in weight.axes:
        return
    rows = weight.size("row")
    place = np.arange(rows)
    alone = [(f"row {row} of {rows}", place == row) for row in range(rows)] if rows > 1 else []
    for slot in range(simd if simd > 1 else 0):
        alone.append((f"all but channel {slot} of the {simd} in a row", place % simd != slot))
    shape = [-1 if axis == "row" else 1 for axis in weight.axes]
    for name, dead in alone:
        values = np.where(dead.reshape(shape), 0, weight.values)
        yield Guess(name, case.values(weight=changed(weight, values)), len(alone))


def operands_skewed(case: Case) -> Iterator[Guess]:
    """The codes of a lane enter a clock early or late, or no lane is delayed: products of codes that do not meet."""
    flow = case.mapping.dataflow
    for role, whole in case.operands.items():
        codes, lane = case.by_tile(whole), flow.words.get(role, "")
        if lane not in codes.axes or codes.size(lane) < 2:
            continue
        time = [axis for axis in codes.axes if axis in ("nij", *flow.terms) and axis != lane]
        if role not in _streaming(case) or not time:
            continue
        count = codes.size(lane)
        for name, delays in _delays(lane, count):
            values = changed(codes, _delayed(codes, lane, time, delays))
            yield Guess(f"{role}: {name}", _with(case, role, values), 2 * count + 2)


def _streaming(case: Case) -> set[str]:
    """Return the operands that move while sums are made: those that share an axis of time with the sums' terms."""
    flow = case.mapping.dataflow
    return {
        role
        for role, codes in case.operands.items()
        if "nij" in codes.axes or set(flow.terms) - {tiling.inner for tiling in flow.tilings.values()}
    }


def _delays(lane: str, count: int) -> Iterator[tuple[str, np.ndarray]]:
    yield f"{lane} l is l early (no skew)", -np.arange(count)
    yield f"{lane} l is l late (a skew too many)", np.arange(count)
    for place in range(count):
        for by in (-1, 1):
            delays = np.zeros(count, np.int64)
            delays[place] = by
            yield f"{lane} {place} is 1 {'late' if by > 0 else 'early'}", delays


def _delayed(codes: LabelledArray, lane: str, time: list[str], delays: np.ndarray) -> np.ndarray:
    """Return the codes with each lane's delayed along the axes of time, 0 where there is none."""
    order = [codes.axes.index(axis) for axis in (lane, *time)]
    moved_first = np.moveaxis(codes.values, order, range(len(order)))
    flat = moved_first.reshape(len(delays), -1, *moved_first.shape[len(order) :])
    late = np.zeros_like(flat)
    for place, by in enumerate(delays.tolist()):
        length = flat.shape[1]
        if abs(by) < length:
            late[place, max(by, 0) : length + min(by, 0)] = flat[place, max(-by, 0) : length - max(by, 0)]
    return np.moveaxis(late.reshape(moved_first.shape), range(len(order)), order)


def padding_codes(case: Case) -> Iterator[Guess]:
    """The border of the map holds another code than the padding's."""
    spec, codes = case.mapping.spec, case.operands["activation"]
    if not any(spec.padding):
        return
    inside = np.zeros((spec.padded_height, spec.padded_width), bool)
    top, left, bottom, right = spec.padding
    inside[top : spec.padded_height - bottom, left : spec.padded_width - right] = True
    border = ~inside.reshape(-1)
    if "nij" in codes.axes:
        mask, axes = border, ("nij",)
    else:
        pixels = case.mapping.windows
        mask, axes = border[pixels.T], ("kij", PIXELS)
    shape = [codes.size(axis) if axis in axes else 1 for axis in codes.axes]
    held = case.mapping.fields["activation"]
    found = [code for code in range(held.low, held.high + 1) if code != spec.zero_point]
    if len(found) > 32:
        found = [code for code in {1, -1, held.low, held.high, 0, 1 << held.bits - 1} if held.low <= code <= held.high]
    real = _real_lanes(case, codes)
    for code in found:
        values = np.where(mask.reshape(shape) & real, code, codes.values).astype(np.int16)
        yield Guess(f"code {code} for {spec.zero_point}", case.values(activation=changed(codes, values)), len(found))


def _real_lanes(case: Case, codes: LabelledArray) -> np.ndarray:
    """Return where an array of activations has channels, and not the lanes that fill up the last tile."""
    if "it" not in codes.axes or "row" not in codes.axes:
        return np.ones((1,) * codes.values.ndim, bool)
    rows = codes.size("row")
    channel = np.asarray(codes.label("it"))[:, None] * rows + np.arange(rows)
    shape = [codes.size(axis) if axis in ("it", "row") else 1 for axis in codes.axes]
    return (channel < case.mapping.spec.in_channels).reshape(shape)


def code_bits(case: Case) -> Iterator[Guess]:
    """One bit of every weight, or of every activation, is stuck."""
    choices = 2 * sum(held.bits for held in case.mapping.fields.values())
    for role, codes in case.operands.items():
        held = case.mapping.fields[role]
        for bit, stuck in product(range(held.bits), (1, 0)):
            plain = codes.values.astype(np.int32)
            values = held.wrap(plain | 1 << bit if stuck else plain & ~(1 << bit))[0]
            yield Guess(f"{role} bit {bit} at {stuck}", case.values(**{role: changed(codes, values)}), choices)
