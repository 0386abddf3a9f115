"""What is wrong, and where: words that were wanted against words that were given."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import UInt8

from factory.arithmetic.labelled import Address, LabelledArray
from factory.dataflow import PIXELS
from factory.diagnose.case import Case
from factory.diagnose.dump import ASIDE, GIVEN, MISSING, UNDEFINED
from factory.diagnose.golden import Group
from factory.memfile.named import BIT

KINDS = ("right", "wrong", "undefined", "missing", "padding")
"""What a value of a dump can be."""


@dataclass(frozen=True)
class Counts:
    """How many words of memory there are of each kind: a word counts as what its worst value is.

    `expected` is what the export has. Of those `missing` are not in the dump, some bit of `undefined` is x or z,
    `wrong` have another value and `equal` do not. `extra` came beyond them.
    """

    expected: int = 0
    equal: int = 0
    wrong: int = 0
    undefined: int = 0
    missing: int = 0
    extra: int = 0

    @property
    def given(self) -> int:
        """Words of which every bit is known."""
        return self.equal + self.wrong

    @property
    def passes(self) -> bool:
        """Whether every word is there and is right."""
        return self.expected > 0 and self.equal == self.expected and not self.extra

    def __add__(self, other: Counts) -> Counts:
        return Counts(**{name: value + getattr(other, name) for name, value in vars(self).items()})


@dataclass(frozen=True)
class First:
    """The first value that is wrong or undefined: its address, its place in the export's files, what it must be and is.

    `line` counts a text file's lines from 1, `word` its words from 0; the value lies in bits `high` to `low` of the
    word, `bits` are those of it that differ. `have` is None where it is undefined.
    """

    address: Address
    path: str
    line: int
    word: int
    high: int
    low: int
    bits: tuple[int, ...]
    must: int
    have: int | None


def count(case: Case, extra: int) -> Counts:
    """Return what the words of a case are."""
    state = np.where(case.group.padding & (case.state != ASIDE), GIVEN, case.state)
    differs = case.differs.any(axis=2)
    missing, undefined = (state == MISSING).any(axis=2), (state == UNDEFINED).any(axis=2)
    undefined &= ~missing
    wrong = differs & ~missing & ~undefined
    numbers = [int(np.count_nonzero(mask)) for mask in (wrong, undefined, missing)]
    expected = wrong.size - int(np.count_nonzero((state == ASIDE).all(axis=2)))
    return Counts(expected, expected - sum(numbers), *numbers, extra)


def kinds_of(case: Case) -> UInt8[np.ndarray, "time lane"]:
    """Return what each value of a dump is, as a place in `KINDS`: words in their order down, lane 0 first."""
    kinds = np.zeros(case.expected.shape, np.uint8)
    masks = case.differs, case.wrong & ~case.differs, case.absent, case.group.padding
    for place, where in enumerate(masks, 1):
        kinds[where] = place
    return kinds.reshape(-1, kinds.shape[-1])


def first_wrong(case: Case) -> First | None:
    """Return the first value, in the order of the files, their words and lanes, that is wrong or undefined."""
    if not case.wrong.any():
        return None
    at = tuple(map(int, np.unravel_index(int(case.wrong.argmax()), case.wrong.shape)))
    must, have, known = int(case.expected[at]), int(case.given[at]), case.state[at] == GIVEN
    one, other = case.group.files.layout.field.encode(np.array([must, have])).tolist()
    bits = tuple(bit for bit in range(case.lane_bits) if known and (one ^ other) >> bit & 1)
    file, word, lane = at
    group, shown, where = case.group, case.group.shown, Address(case.group.layer.name, case.group.image)
    low = group.files.placement.word.low_bit(lane)
    name, width = group.paths[file].rpartition("/")[2], case.lane_bits
    address = group.files.address_at(where, name, word, low)
    if shown is not group:
        first = next(iter(bits), 0)
        name, word, low, width = _place_in(shown, address, first, case.lane_bits)
    return First(
        address=address,
        path=next(path for path in shown.paths if path.rpartition("/")[2] == name),
        line=shown.header_lines + word + 1,
        word=word,
        high=low + width - 1,
        low=low,
        bits=bits,
        must=must,
        have=have if known else None,
    )


def _place_in(group: Group, address: Address, bit: int, bits: int) -> tuple[str, int, int, int]:
    """Return the file and its word in which a bit of a value lies, and the value's bits there: the lowest, how many."""
    spots, beats = list(group.files.spots(address)), group.files.placement.beats
    if BIT in group.files.placement.axes:  # each bit has a place of its own
        return *spots[bit], 1
    name, word, low = spots[0]
    if beats is None:
        return name, word, low, bits
    line, beat = divmod(word, beats.count)
    low = beats.bit(beat, low)
    beat, at = beats.spot(low + bit)
    begin = at - min(bit, at)
    left = bits - bit + at - begin  # of the value, from there on
    return name, line * beats.count + beat, begin, min(left, beats.bits - begin)


def by_axis(case: Case) -> dict[str, tuple[LabelledArray, LabelledArray]]:
    """Return for each axis how many values of each label are wrong (missing, where none is), and how many there are.

    A map's pixels are counted by their `y` and `x` too.
    """
    wrong = case.group.vector(case.looked_at.astype(np.int8))
    spec, found = case.mapping.spec, {}
    for axis in wrong.axes:
        found[axis] = _along(wrong, axis)
        width = {PIXELS: spec.out_width, "nij": spec.padded_width}.get(axis)
        if width:
            found |= _by_row_and_column(found[axis], axis, width)
    return found


def only_on_border(case: Case, axes: Mapping[str, tuple[LabelledArray, LabelledArray]]) -> bool:
    """Return whether the wrong values are pixels of the map's border, and the map has others."""
    spec, wide = case.mapping.spec, {PIXELS: ("out_height", "out_width"), "nij": ("padded_height", "padded_width")}
    for axis, names in wide.items():
        if axis in axes:
            height, width = (getattr(spec, name) for name in names)
            wrong = np.asarray(axes[axis][0].label(axis))[axes[axis][0].values > 0]
            y, x = np.divmod(wrong, width)
            inside = (y > 0) & (y < height - 1) & (x > 0) & (x < width - 1)
            return min(height, width) > 2 and not inside.any()
    return False


def _along(wrong: LabelledArray, axis: str) -> tuple[LabelledArray, LabelledArray]:
    at = wrong.axes.index(axis)
    counted = wrong.values.sum(axis=tuple(i for i in range(wrong.values.ndim) if i != at), dtype=np.int64)
    each = np.full_like(counted, wrong.values.size // max(len(counted), 1))
    labels = {axis: wrong.label(axis)}
    return LabelledArray(counted, (axis,), labels), LabelledArray(each, (axis,), labels)


def _by_row_and_column(
    counts: tuple[LabelledArray, LabelledArray], axis: str, width: int
) -> Mapping[str, tuple[LabelledArray, LabelledArray]]:
    pixels = np.asarray(counts[0].label(axis))
    found = {}
    for name, place in (("y", pixels // width), ("x", pixels % width)):
        kept = np.unique(place)
        sums = [np.array([int(each.values[place == at].sum()) for at in kept]) for each in counts]
        found[name] = tuple(LabelledArray(total, (name,), {name: tuple(map(int, kept))}) for total in sums)
    return found
