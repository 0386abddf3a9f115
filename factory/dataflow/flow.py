"""A dataflow: the part of a layer that an array works on, in the order in which the hardware takes it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int8, Int64, Integer

from factory.arithmetic import bits
from factory.arithmetic.adders import Adder
from factory.arithmetic.labelled import LabelledArray
from factory.spec import ConvLayer, SystolicArray

Field = tuple[int, bool]
"""A lane: its bits, and whether it is two's complement."""


@dataclass(frozen=True)
class Tiles:
    """What a selection keeps of a layer, as ascending indices; `it` is of WS, `pt` and `ic` are of OS."""

    kij: tuple[int, ...]
    ot: tuple[int, ...]
    it: tuple[int, ...] = ()
    pt: tuple[int, ...] = ()
    ic: tuple[int, ...] = ()


@dataclass(frozen=True)
class Sums:
    """Sums as they are (`exact`) and as the adders give them (`held`), integers of one shape."""

    exact: np.ndarray
    held: np.ndarray

    @property
    def wrapped(self) -> int:
        """How many sums the adders could not hold."""
        return 0 if self.held is self.exact else int(np.count_nonzero(self.held != self.exact))


def read_as(codes: Integer[np.ndarray, "*shape"], axes: tuple[str, ...], field: Field, **labels) -> LabelledArray:
    """Return codes as a field reads them back; `wrapped` is how many are others then."""
    held, wrapped = bits.hold(codes, *field)
    return LabelledArray(held, axes, labels, wrapped)


def take(array: np.ndarray, *places: tuple[int, ...]) -> np.ndarray:
    """Return the places kept of the leading axes; the array itself where all of them are kept."""
    if tuple(map(len, places)) == array.shape[: len(places)]:
        return array
    return array[np.ix_(*places)]


@dataclass(frozen=True)
class Dataflow(ABC):
    """The geometry and the arithmetic of one layer on one array.

    `array` is the tile that the array takes at a time, `weight_field` and `activation_field` what its processing
    elements read. `pixel_block` is the order of output pixels (OS).
    """

    spec: ConvLayer
    array: SystolicArray
    tiles: Tiles
    weight_field: Field
    activation_field: Field
    adder: Adder
    pixel_block: tuple[int, int] = (1, 1)

    @abstractmethod
    def read_weight(self, codes: Int8[np.ndarray, "oc ic ki kj"]) -> LabelledArray:
        """Return the selected weight codes as the array reads them."""

    @abstractmethod
    def read_activation(self, codes: Integer[np.ndarray, "ic y x"]) -> LabelledArray:
        """Return one image's selected activation codes as the array reads them."""

    @abstractmethod
    def accumulators(self, weight: LabelledArray, activation: LabelledArray, where: str) -> Sums:
        """Return the accumulators `(part, onij, channel)` after each part of the sum, the last being the whole.

        `channel` counts the columns of all selected `ot`; `where` is the address that an error begins with.
        """

    @abstractmethod
    def psums(self, weight: LabelledArray, activation: LabelledArray, where: str, axis: str) -> Iterator[LabelledArray]:
        """Yield the partial sums `(it, ot, kij, nij, col)`, one place of `axis` (a tile or `kij`) at a time."""

    @property
    @abstractmethod
    def pixels(self) -> Int64[np.ndarray, " onij"]:
        """The `onij` of each selected place, in order."""

    @property
    @abstractmethod
    def tile_pixels(self) -> int:
        """Output pixels that are computed together."""

    @property
    @abstractmethod
    def sums_all(self) -> bool:
        """Whether the accumulators are sums over the whole layer: every input channel and kernel position."""

    @property
    def channels(self) -> Int64[np.ndarray, " oc"]:
        """The output channels of the selected tiles."""
        tiles = np.asarray(self.tiles.ot, np.int64)[:, None]
        channels = (tiles * self.array.cols + np.arange(self.array.cols)).reshape(-1)
        return channels[channels < self.spec.out_channels]

    def address(self, where: str, pixel: int, channel: int, **terms: int) -> str:
        """Return the address of an accumulator, after the terms named; `channel` counts columns of selected `ot`."""
        tile, col = divmod(channel, self.array.cols)
        oc = self.tiles.ot[tile] * self.array.cols + col
        words = [f"{axis} {index}" for axis, index in terms.items()]
        return ", ".join([where, *words, f"onij {self.pixels[pixel]}", f"oc {oc}"])
