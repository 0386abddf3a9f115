"""Switching activity: how often each bit of each bus toggles, in stream order, for real activations and random ones.

A bus has lanes; words follow one another in a pass, and what is between passes is not counted. `activation` and
`weight` are what enters (again for each pass that needs it), `psum` and `accumulator` what leaves, in two's complement.
Where rows add, a word of an operand has a code for each row; where they do not, one for each term.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int64, Integer

from factory.arithmetic.adders import exact_product
from factory.arithmetic.labelled import LabelledArray
from factory.coverage.layer import LayerCounter, images_done
from factory.coverage.passes import Codes
from factory.spec import InputError, Progress
from factory.synthetic.seeded import Histogram, random_words

SCHEMA = "factory-activity-1"
_MOST_PASSES = 255
"""Passes whose bits are counted at once: the counts of a bit fit a byte."""
_MOST_SUMS = 1 << 18
_OPERANDS = ("activation", "weight")


@dataclass(frozen=True)
class BusActivity:
    """What was counted of one bus: `words`, and `pairs` of words that follow one another.

    `toggles` of those pairs and `ones` of the words are by lane and bit, `zeros` are the lanes' values that are 0.
    """

    words: int
    pairs: int
    toggles: Int64[np.ndarray, "lane bit"]
    ones: Int64[np.ndarray, "lane bit"]
    zeros: Int64[np.ndarray, " lane"]

    def __add__(self, other: BusActivity) -> BusActivity:
        each = ((getattr(x, name) for x in (self, other)) for name in ("words", "pairs", "toggles", "ones", "zeros"))
        return BusActivity(*(a + b for a, b in each))

    def times(self, count: int) -> BusActivity:
        """Return the same words, so many times."""
        return BusActivity(*(count * x for x in (self.words, self.pairs, self.toggles, self.ones, self.zeros)))

    @property
    def zero_share(self) -> float:
        """The share of values that are 0."""
        return float(self.zeros.sum() / max(1, self.words * len(self.zeros)))

    @property
    def hamming(self) -> float:
        """How many bits of a lane differ from one word to the next, on average."""
        return float(self.toggles.sum() / max(1, self.pairs * len(self.zeros)))


@dataclass(frozen=True)
class Activity:
    """The activity of each bus, of all layers and images together; `random` is that of random activations."""

    source: str
    dataflow: str
    buses: Mapping[str, BusActivity]
    random: Mapping[str, BusActivity]

    def to_json(self) -> dict[str, Any]:
        """Return the counts and what follows from them as plain JSON types."""
        return {"schema": SCHEMA, "source": self.source, "dataflow": self.dataflow} | {
            name: {
                bus: {
                    "words": x.words, "pairs": x.pairs, "zero_share": x.zero_share, "hamming": x.hamming,
                    "toggles": x.toggles.tolist(), "ones": x.ones.tolist(), "zeros": x.zeros.tolist(),
                }
                for bus, x in buses.items()
            }
            for name, buses in (("real", self.buses), ("random", self.random))
        }  # fmt: skip

    def to_csv(self) -> str:
        """Return a line for each bit: its bus, lane and place, the words, toggles and ones, real and random."""
        text = io.StringIO()
        lines = csv.writer(text, lineterminator="\n")
        lines.writerow(("codes", "bus", "lane", "bit", "words", "pairs", "toggles", "ones"))
        for codes, buses in (("real", self.buses), ("random", self.random)):
            for bus, x in buses.items():
                for lane, bit in np.ndindex(x.toggles.shape):
                    lines.writerow((codes, bus, lane, bit, x.words, x.pairs, x.toggles[lane, bit], x.ones[lane, bit]))
        return text.getvalue()

    def to_saif(self) -> str:
        """Return the real activity as SAIF 2.0, a time unit being a word: T0, T1 and TC of each bit.

        A bus that has fewer words than the longest is 0 for the rest.
        """
        longest = max(x.words for x in self.buses.values())
        lines = [
            '(SAIFILE (SAIFVERSION "2.0") (DIRECTION "backward")', '(PROGRAM_NAME "factory")', "(DIVIDER / )",
            f"(TIMESCALE 1 ns) (DURATION {longest})", "(INSTANCE array (NET",
        ]  # fmt: skip
        for bus, x in self.buses.items():
            for lane, bit in np.ndindex(x.toggles.shape):
                ones, toggles = int(x.ones[lane, bit]), int(x.toggles[lane, bit])
                lines.append(f"({bus}_{lane}\\[{bit}\\] (T0 {longest - ones}) (T1 {ones}) (TX 0) (TC {toggles}))")
        return "\n".join([*lines, ")))", ""])


def write_activity(activity: Activity, path: Path) -> str:
    """Return the text of a file of an activity: CSV or SAIF by its suffix `.csv` or `.saif`, or else JSON."""
    written = {".csv": activity.to_csv, ".saif": activity.to_saif}.get(path.suffix.lower())
    return written() if written else json.dumps(activity.to_json())


def switching_activity(
    counters: Iterable[LayerCounter],
    images: Iterable[int],
    source: str,
    seed: int = 0,
    progress: Progress | None = None,
) -> Activity:
    """Return the activity of some layers' buses for some images, and for one random image of the same weights.

    Random activations are uniform over each layer's codes, by the generator of `factory.synthetic`. Raise InputError
    where there is no image.
    """
    images, counters, real, random = list(images), list(counters), {}, {}
    if not images or not counters:
        raise InputError(f"activity must be of at least one image and layer, not {len(images)} and {len(counters)}")
    fields = [[counter.pairs.field(which) for counter in counters] for which in (True, False)]
    widths = dict(zip(_OPERANDS, (max(field.bits for field in each) for each in fields), strict=True))
    for at, counter in enumerate(counters):
        mapping, spec = counter.form.mapping, counter.form.mapping.spec
        step = images_done(progress, f"activity of {counter.name}", at, len(counters), len(images))
        for place, image in enumerate(images):
            step(place)
            _add(real, _buses(counter, counter.vectors.of_image(image).activation, widths))
        shape = (spec.in_channels, spec.height, spec.width)
        words = random_words(seed, 2 * prod(shape)).reshape(-1, 2)
        codes = Histogram.uniform(*spec.code_range).drawn(words, Fraction(1)).reshape(shape).astype(np.int16)
        _add(random, _buses(counter, mapping.read("activation", mapping.cut_activation(codes)), widths))
    return Activity(source, counters[0].form.mapping.dataflow.name, real, random)


def _add(buses: dict[str, BusActivity], found: Iterable[tuple[str, BusActivity]]) -> None:
    for bus, activity in found:
        buses[bus] = buses[bus] + activity if bus in buses else activity


def _buses(
    counter: LayerCounter, activation: LabelledArray, widths: Mapping[str, int]
) -> Iterator[tuple[str, BusActivity]]:
    """Yield what crosses each bus, part by part."""
    form = counter.form
    moving, held = form.sort(form.arrange(activation, True), counter.weight)
    repeats = held.shape[1], moving.shape[1]
    for name, codes, count in zip(form.sort(*_OPERANDS), (moving, held), repeats, strict=True):
        yield name, _counted(_words(codes, form.rows_add), widths[name]).times(count)
    leaving = counter.point_name("").rstrip("_")
    for sums in _sums(moving, held):
        yield leaving, _counted(sums, counter.bits)
    if counter.outside is not None:
        yield "accumulator", _counted(counter.outputs(activation), counter.bits)


def _words(codes: Codes, rows_add: bool) -> Integer[np.ndarray, "pass word lane"]:
    codes = codes if rows_add else codes.swapaxes(2, 3)
    return codes.reshape(-1, *codes.shape[2:])


def _sums(moving: Codes, held: Codes) -> Iterator[Integer[np.ndarray, "pass word lane"]]:
    each = moving.shape[2] * held.shape[2]
    size = max(1, min(_MOST_PASSES, _MOST_SUMS // each))
    for loop, outer in np.ndindex(*moving.shape[:2]):
        words = moving[loop, outer]
        for start in range(0, held.shape[1], size):
            some = held[loop, start : start + size]
            sums = exact_product(words, some.reshape(-1, some.shape[2]).T)
            yield sums.reshape(len(words), *some.shape[:2]).swapaxes(0, 1)


def _counted(words: Integer[np.ndarray, "pass word lane"], bits: int) -> BusActivity:
    """Return the activity of some passes, of whose values the low `bits` are on the bus."""
    passes, count, lanes = words.shape
    kind = next(np.dtype(f"u{size}") for size in (1, 2, 4) if 8 * size >= bits)
    on_bus = kind.type((1 << bits) - 1)
    zeros = np.zeros(lanes, np.int64)
    toggles, ones = (np.zeros((lanes, bits), np.int64) for _ in range(2))
    for start in range(0, passes, _MOST_PASSES):
        some = np.ascontiguousarray(words[start : start + _MOST_PASSES]).astype(kind) & on_bus
        zeros += (some == 0).sum(axis=(0, 1))
        ones += _bits(some, bits)
        toggles += _bits(some[:, 1:] ^ some[:, :-1], bits)
    return BusActivity(passes * count, passes * (count - 1), toggles, ones, zeros)


def _bits(words: Integer[np.ndarray, "pass word lane"], bits: int) -> Int64[np.ndarray, "lane bit"]:
    """Return how often each bit is 1, of unsigned words of at most 255 passes.

    One bit of each byte at a time is added up over the passes, where its count fits the byte.
    """
    passes, count, lanes = words.shape
    size, flat = words.dtype.itemsize, words.reshape(passes, -1)
    mask = words.dtype.type(int.from_bytes(b"\x01" * size, "little"))
    found = np.zeros((lanes, size, 8), np.int64)
    for bit in range(min(8, bits)):
        added = ((flat >> words.dtype.type(bit)) & mask).sum(axis=0, dtype=words.dtype)
        found[:, :, bit] = (
            added.astype(words.dtype.newbyteorder("<")).view(np.uint8).reshape(count, lanes, size).sum(axis=0)
        )
    return found.reshape(lanes, -1)[:, :bits]
