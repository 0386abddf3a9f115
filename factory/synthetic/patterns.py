"""Patterns of weight and of activation codes: each an id that never changes, flags, a note, and a function of places.

The notes say which kind of bug a pattern catches and how that shows. An id is never given to other codes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType

import numpy as np
from jaxtyping import Bool, Int64

from factory.spec import ConvLayer, Pattern, SystolicArray


@dataclass(frozen=True)
class WeightPlaces:
    """Where each weight of a layer goes on an array, as arrays that broadcast to `(oc, ic, ki, kj)`.

    `most` is the largest code, `-most` the least that a symmetric quantizer makes.
    """

    oc: Int64[np.ndarray, "oc 1 1 1"]
    ic: Int64[np.ndarray, "1 ic 1 1"]
    ki: Int64[np.ndarray, "1 1 ki 1"]
    kj: Int64[np.ndarray, "1 1 1 kj"]
    row: Int64[np.ndarray, "1 ic 1 1"]
    col: Int64[np.ndarray, "oc 1 1 1"]
    kij: Int64[np.ndarray, "1 1 ki kj"]
    most: int

    @classmethod
    def of(cls, spec: ConvLayer, array: SystolicArray) -> WeightPlaces:
        """Return the places of a layer's weights."""
        oc, ic, ki, kj = np.ogrid[tuple(map(slice, spec.weight_shape))]
        return cls(oc, ic, ki, kj, ic % array.rows, oc % array.cols, ki * spec.kernel[1] + kj, spec.weight_qmax)

    def only(self, chosen: Bool[np.ndarray, "#oc #ic #ki #kj"]) -> Int64[np.ndarray, "#oc #ic #ki #kj"]:
        """Return the largest code where a place is chosen, 0 elsewhere."""
        return np.where(chosen, self.most, 0)

    def signs(self, odd: Int64[np.ndarray, "#oc #ic #ki #kj"]) -> Int64[np.ndarray, "#oc #ic #ki #kj"]:
        """Return the largest code, negative where a number is odd."""
        return np.where(odd % 2 == 0, self.most, -self.most)


@dataclass(frozen=True)
class MapPlaces:
    """Where each activation of a layer goes on an array, as arrays that broadcast to `(ic, y, x)`.

    `low`, `high` are the ends of the codes' range; `peak` is the end that is farther from 0 among those that a product
    can have with any sign: `high`, or `low` where that is 0. `border` numbers the map's outermost pixels, row-major,
    and is -1 inside; `borders` says how many they are.
    """

    ic: Int64[np.ndarray, "ic 1 1"]
    row: Int64[np.ndarray, "ic 1 1"]
    pixel: Int64[np.ndarray, "1 y x"]
    parity: Int64[np.ndarray, "1 y x"]
    border: Int64[np.ndarray, "1 y x"]
    borders: int
    low: int
    high: int
    peak: int

    @classmethod
    def of(cls, spec: ConvLayer, array: SystolicArray) -> MapPlaces:
        """Return the places of a layer's activations."""
        ic, y, x = np.ogrid[: spec.in_channels, : spec.height, : spec.width]
        outer = (y == 0) | (y == spec.height - 1) | (x == 0) | (x == spec.width - 1)
        border = np.where(outer, outer.cumsum().reshape(outer.shape) - 1, -1)
        low, high = spec.code_range
        return cls(ic, ic % array.rows, y * spec.width + x, y + x, border, int(outer.sum()), low, high, high or low)

    def only(self, chosen: Bool[np.ndarray, "#ic #y #x"]) -> Int64[np.ndarray, "#ic #y #x"]:
        """Return the peak where a place is chosen, 0 elsewhere."""
        return np.where(chosen, self.peak, 0)

    def ends(self, odd: Int64[np.ndarray, "#ic #y #x"]) -> Int64[np.ndarray, "#ic #y #x"]:
        """Return the range's high end, its low end where a number is odd."""
        return np.where(odd % 2 == 0, self.high, self.low)

    def ramp(self, step: int) -> Int64[np.ndarray, "ic y x"]:
        """Return all codes one after the other, pixel by pixel, each channel beginning elsewhere."""
        codes = self.high - self.low + 1
        return self.low + (step * self.pixel + 3 * self.ic) % codes

    def binary(self) -> Int64[np.ndarray, "ic 1 1"]:
        """Return the peak, but 1, 2, 4, ... (with its sign) in the last channels: as many as its bits."""
        bits = abs(self.peak).bit_length()
        place = self.ic - self.ic.size + bits
        return np.where(place < 0, self.peak, np.sign(self.peak) << place.clip(0))


WeightCodes = Callable[[WeightPlaces], np.ndarray]
MapCodes = Callable[[MapPlaces], np.ndarray]

WEIGHTS: Mapping[str, tuple[str, str, WeightCodes]] = MappingProxyType({
    "zeros": ("zero", "what is left of the tile before, or of reset: any output that is not 0",
              lambda at: np.zeros(1, np.int64)),
    "all-max": ("extreme bound", "a sum or a weight that lacks a high bit: outputs too small by a power of two",
                lambda at: np.full(1, at.most)),
    "all-min": ("extreme bound", "a weight's sign that is lost, a product taken as unsigned: outputs are positive",
                lambda at: np.full(1, -at.most)),
    "lowest": ("extreme bound non-symmetric", "-2^(bits-1), which no symmetric quantizer makes and whose negative its "
               "bits cannot hold, as in a sign-and-magnitude multiplier: outputs of the wrong sign, or 0",
               lambda at: np.full(1, -at.most - 1)),
    "alternating": ("sign bound", "rows that are reversed, shifted or skewed: outputs change their sign",
                    lambda at: at.signs(at.row)),
    "checkerboard-row-col": ("sign bound", "rows or columns that are off by one: every output changes its sign",
                             lambda at: at.signs(at.row + at.col)),
    "checkerboard-kij": ("sign bound kij", "kernel positions that are off by one: outputs change their sign",
                         lambda at: at.signs(at.ki + at.kj)),
    "identity": ("identity", "lanes in a wrong order: output channel c is not input channel c at the kernel's centre",
                 lambda at: 1 * ((at.oc == at.ic) & (at.ki == at.ki.size // 2) & (at.kj == at.kj.size // 2))),
    "ramp": ("ramp", "any two rows, columns or kernel positions that are exchanged or late, stuck bits: outputs differ",
             lambda at: (at.ic + 2 * at.oc + 4 * at.kij) % (2 * at.most + 1) - at.most),
    "first-input": ("channel", "a first input channel that is lost or comes again: outputs are 0 or doubled",
                    lambda at: at.only(at.ic == 0)),
    "last-input": ("channel", "a last input channel that is lost, a tile too few: outputs are 0",
                   lambda at: at.only(at.ic == at.ic.size - 1)),
    "first-output": ("channel", "a first output channel that is lost or shifted: it is 0, another is not",
                     lambda at: at.only(at.oc == 0)),
    "last-output": ("channel", "a last output channel that is lost, a tile too few: it is 0",
                    lambda at: at.only(at.oc == at.oc.size - 1)),
})  # fmt: skip
"""Weight patterns by id: flags, note and codes."""

MAPS: Mapping[str, tuple[str, str, MapCodes]] = MappingProxyType({
    "zeros": ("zero", "what is left of the image before, or of reset: any output that is not 0",
              lambda at: np.zeros(1, np.int64)),
    "all-min": ("extreme bound", "a sign that is read where there is none, or the reverse: outputs of the wrong sign",
                lambda at: np.full(1, at.low)),
    "all-max": ("extreme bound", "an activation's top bit taken as a sign, a sum too narrow: outputs of the wrong sign",
                lambda at: np.full(1, at.high)),
    "alternating": ("sign bound", "rows that are reversed, shifted or not skewed: even rows high, odd rows low",
                    lambda at: at.ends(at.row)),
    "alternating-odd": ("sign bound", "the same, odd rows high: the other end of the sums' range",
                        lambda at: at.ends(at.row + 1)),
    "checkerboard-pixel": ("sign bound pixel", "pixels that are off by one, or lines of another width: high for low",
                           lambda at: at.ends(at.parity)),
    "checkerboard-row-pixel": ("sign bound pixel", "a row that is a word late: high for low",
                               lambda at: at.ends(at.row + at.parity)),
    "ramp": ("ramp", "any two rows or pixels that are exchanged or late, stuck bits: outputs differ",
             lambda at: at.ramp(1)),
    "ramp-down": ("ramp", "the same, codes falling: carries and borrows of other bits",
                  lambda at: at.ramp(-1)),
    "binary": ("extreme", "a carry that is dropped: all max, but 1, 2, 4, ... in the last channels",
               lambda at: at.binary()),
    "first-channel": ("channel", "a first input channel that is lost or comes again: outputs are 0 or doubled",
                      lambda at: at.only(at.ic == 0)),
    "last-channel": ("channel", "a last input channel that is lost, a ragged tile's lanes: outputs are 0",
                     lambda at: at.only(at.ic == at.ic.size - 1)),
})  # fmt: skip
"""Activation patterns by id: flags, note and codes."""


def row_weights(array: SystolicArray) -> Iterator[tuple[Pattern, WeightCodes]]:
    """Yield the weights of one row alone, for each row."""
    note = "a weight that is loaded into another row than {}, or moves on from it: outputs follow other channels"
    return _one_hot("row", array.rows, note)


def col_weights(array: SystolicArray) -> Iterator[tuple[Pattern, WeightCodes]]:
    """Yield the weights of one column alone, for each column."""
    note = "a weight that is loaded into another column than {}: other output channels are not 0"
    return _one_hot("col", array.cols, note)


def kij_weights(spec: ConvLayer) -> Iterator[tuple[Pattern, WeightCodes]]:
    """Yield the weights of one kernel position alone, for each."""
    note = "kernel position {} taken for another, added twice or left out: the map is shifted, doubled or 0"
    return _one_hot("kij", spec.kij_count, note)


def row_maps(array: SystolicArray) -> Iterator[tuple[Pattern, MapCodes]]:
    """Yield the activations of one row alone, for each row."""
    note = "an activation that enters another row than {}, or a clock late: outputs follow other weights"
    return _one_hot("row", array.rows, note)


def _one_hot(axis: str, count: int, note: str) -> Iterator[tuple[Pattern, Callable]]:
    """Yield the codes of one place alone on an axis of places, for each; its number fills the braces of the note."""
    for place in range(count):
        yield Pattern(f"{axis}-{place}", ("one-hot", axis), note.format(place)), partial(_only_at, axis, place)


def _only_at(axis: str, place: int, at: WeightPlaces | MapPlaces) -> np.ndarray:
    return at.only(getattr(at, axis) == place)


def border_maps(spec: ConvLayer, array: SystolicArray) -> Iterator[tuple[Pattern, MapCodes]]:
    """Yield one border pixel alone, for each of the map of `spec`; a smaller map begins anew after its last one."""
    for number in range(MapPlaces.of(spec, array).borders):
        note = f"padding that is missing or on the wrong side at border pixel {number}: outputs move or are lost"
        yield Pattern(f"border-{number}", ("one-hot", "border"), note), partial(_at_border, number)


def code_weights(codes: Iterable[int], spec: ConvLayer) -> Iterator[tuple[Pattern, np.ndarray]]:
    """Yield weights of one code alone, for each of some."""
    for code in codes:
        note = f"a product of the weight {code} that is wrong in one processing element: its column's outputs differ"
        yield Pattern(str(code), ("constant",), note), np.full(spec.weight_shape, code)


def blink_weights(spec: ConvLayer) -> tuple[Pattern, np.ndarray]:
    """Return weights of -1 in the first row of every other output channel."""
    weight = np.zeros(spec.weight_shape, np.int64)
    weight[1::2, 0] = -1
    note = "a bit of an output's word that sticks: words alternate between 0 and -1 from channel to channel"
    return Pattern("blink", ("constant", "toggle"), note), weight


def code_maps(codes: Iterable[int]) -> Iterator[tuple[Pattern, MapCodes]]:
    """Yield maps of one code alone, for each of some."""
    for code in codes:
        note = (
            f"a product of the activation {code} that is wrong in one processing element: its column's outputs differ"
        )
        yield Pattern(f"code-{code}", ("constant",), note), partial(_constant, code)


def sum_maps() -> Iterator[tuple[Pattern, MapCodes]]:
    """Yield a map whose channels add up to 1, 2, 4, ... from pixel to pixel, and one whose first channel blinks."""
    note = "a carry or a high bit that is lost: sums of every magnitude, one after the other"
    yield Pattern("sums", ("magnitude",), note), _magnitudes
    note = "a bit of an output's word that sticks: words alternate between 0 and the first weight"
    yield Pattern("blink", ("toggle",), note), _blinking


def _constant(code: int, at: MapPlaces) -> np.ndarray:
    return np.full(1, code)


def _magnitudes(at: MapPlaces) -> np.ndarray:
    # the first channels have the largest code, the next what is left of the sum
    left = np.left_shift(1, np.minimum(at.pixel, 40)) - at.ic * abs(at.peak)
    return np.sign(at.peak) * np.clip(left, 0, abs(at.peak))


def _blinking(at: MapPlaces) -> np.ndarray:
    return np.where((at.ic == 0) & (at.pixel % 2 == 1), np.sign(at.peak), 0)


def _at_border(number: int, at: MapPlaces) -> np.ndarray:
    return at.only(at.border == number % at.borders)


def table_weights(ids: tuple[str, ...]) -> Iterator[tuple[Pattern, WeightCodes]]:
    """Yield weight patterns of the table."""
    for name in ids:
        flags, note, codes = WEIGHTS[name]
        yield Pattern(name, tuple(flags.split()), note), codes


def image_patterns(spec: ConvLayer, array: SystolicArray) -> list[tuple[Pattern, MapCodes]]:
    """Return all activation patterns of an array and of maps of the size of `spec`'s."""
    table = [(Pattern(name, tuple(flags.split()), note), codes) for name, (flags, note, codes) in MAPS.items()]
    return [*table, *row_maps(array), *border_maps(spec, array)]
