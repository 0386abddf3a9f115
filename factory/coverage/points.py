"""The cover points: what each counts, as data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

SIGNS = ("-", "0", "+")
STEPS = tuple(
    f"{product} {held} {result}"
    for product in SIGNS
    for held in SIGNS
    for result in (SIGNS if {product, held} == {"-", "+"} else max(product, held, key=lambda sign: sign != "0"))
)
"""Signs of a product, of the sum before it and of the sum with it, as far as there are numbers that have them."""
ENDS = ("least", "largest")
EDGES = ("rise", "fall")
EVENTS = ("above", "below", "back from above", "back from below")
OFFSETS = (-1, 0, 1)
TILES = ("full", "ragged")
PIXELS = ("inner", "top", "left", "bottom", "right")


@dataclass(frozen=True)
class Point:
    """A cover point: `axes` are those of its bins, `{rows}`, `{cols}` being the names of the array's lanes.

    `of_tile` says that one tile decides its bins alone; the bins of others follow from the whole of a layer's output.
    """

    name: str
    meaning: str
    of_tile: bool = True


_SUMS = (
    ("range", "the least and the largest value that the layer's weights and codes allow"),
    ("octave", "0, and each power of two up to the next, of either sign, as far as the adder's bits go"),
    ("toggle", "each bit of each lane from 0 to 1 and back, between words that follow one another in a pass"),
    ("overflow", "a sum on the way that leaves the adder's range, and one that comes back into it"),
)
_TABLE = (
    Point("activation", "each code that a processing element can read"),
    Point("weight", "each code that a processing element can read"),
    Point("pair", "each activation code times each weight code, in each processing element"),
    Point("sign", "signs of a product, of the sum before it and of the sum with it, in the order of the additions"),
    *(Point(f"psum_{name}", f"psums: {meaning}") for name, meaning in _SUMS),
    *(Point(f"accumulator_{name}", f"accumulators: {meaning}", False) for name, meaning in _SUMS),
    Point("threshold", "an accumulator one below, at and one above each threshold, by the level", False),
    Point("tile", "tiles whose lanes are all in use, and ragged ones", False),
    Point("border", "at each kernel position a pixel of the map, or of its border on each side", False),
)
POINTS: Mapping[str, Point] = MappingProxyType({point.name: point for point in _TABLE})
"""Every cover point, by name."""


def octaves(bits: int) -> tuple[str, ...]:
    """Return the names of the octaves of a signed field, ascending: `-8..-5`, `-3..-2`, `-1`, `0`, `1`, `2..3`, ...

    The least value is an octave of its own, `-2^(bits-1)`.
    """
    above = [_octave(1 << k, (2 << k) - 1) for k in range(bits - 1)]
    below = [_octave(1 - (2 << k), -(1 << k)) for k in range(bits - 1)]
    return (str(-(1 << (bits - 1))), *reversed(below), "0", *above)


def _octave(low: int, high: int) -> str:
    return str(low) if low == high else f"{low}..{high}"
