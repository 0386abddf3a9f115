"""Layers whose sums are made to measure: at the ends of an adder's range, beyond it and back, at thresholds."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Int8, Int32, Int64

from factory.spec import ConvLayer

MOST_CHANNELS = 1 << 14
"""The most input channels that a layer gets so that its sums leave an adder's range."""


@dataclass(frozen=True)
class AdderCase:
    """Products up to `weight * peak` on adders of `bits`, where what counts is the sum after each `step` channels.

    The step is 1 inside a tile of input channels, whose sum goes from row to row; over tiles it is a tile.
    """

    weight: int
    peak: int
    bits: int
    step: int

    @property
    def most(self) -> int:
        """The adder's largest value; its least is one more than that below 0."""
        return 2 ** (self.bits - 1) - 1

    @property
    def product(self) -> int:
        """The largest product's magnitude."""
        return self.weight * abs(self.peak)

    @property
    def spare(self) -> int:
        """How many of the last channels make up the rest: `binary` gives them 1, 2, 4, ..., the peak in all."""
        return abs(self.peak).bit_length()

    @property
    def targets(self) -> tuple[int, int, int, int]:
        """The adder's largest and least value, and one beyond each."""
        return self.most, self.most + 1, -self.most - 1, -self.most - 2

    @property
    def end_channels(self) -> int:
        """The fewest channels, more than a step, whose sum reaches all targets."""
        return max(self.step, -(-((self.most + 2) // abs(self.peak)) // self.weight)) + self.spare

    @property
    def return_channels(self) -> int:
        """The fewest channels whose first half, some steps, leaves the range."""
        half = self.most // self.product + 1
        return 2 * self.step * -(-half // self.step)

    def ends(self, channels: int) -> Int64[np.ndarray, "target ic 1 1"]:
        """Return weights whose sums with the pattern `binary` are the targets, and grow evenly until they are."""
        near = channels - self.spare
        target = np.array(self.targets)[:, None]
        whole, rest = np.divmod(np.abs(target), abs(self.peak))
        even = np.diff(np.arange(near + 1) * whole // near, axis=1)
        weights = np.concatenate([even, rest >> np.arange(self.spare) & 1], axis=1)
        return (np.sign(target * self.peak) * weights)[..., None, None]

    def returns(self, channels: int) -> Int64[np.ndarray, "way ic 1 1"]:
        """Return weights whose sums with the pattern `all-max` leave the range above, or below, and come back to 0."""
        up = np.where(np.arange(channels) < channels // 2, self.weight, -self.weight)
        return np.stack([up, -up])[..., None, None]


def step_weights(spec: ConvLayer) -> Int64[np.ndarray, "oc ic 1 1"]:
    """Return weights of 1: of the first channel in even output channels, of all in odd ones."""
    oc, ic = np.ogrid[: spec.out_channels, : spec.in_channels]
    return ((oc % 2 == 1) | (ic == 0)).astype(np.int64)[..., None, None]


def step_thresholds(
    spec: ConvLayer, accumulator: Int64[np.ndarray, "image oc oy ox"]
) -> tuple[Int32[np.ndarray, "oc level"], Int8[np.ndarray, " oc"]]:
    """Return thresholds and directions for which accumulators are one before, at, and one after each threshold.

    A channel that has no three consecutive accumulators takes thresholds from those that it has. Codes rise with the
    accumulators of two channels, then fall with those of the next two.
    """
    direction = np.where(np.arange(spec.out_channels) // 2 % 2, -1, 1).astype(np.int8)
    levels = np.arange(spec.activation_qmax)
    thresholds = []
    for values, way in zip(accumulator.swapaxes(0, 1), direction, strict=True):
        found = np.unique(values)
        hit = found[np.isin(found - 1, found) & np.isin(found + 1, found)]
        among = hit if hit.size else found
        thresholds.append(among[levels * among.size // levels.size][::way])
    return np.stack(thresholds).astype(np.int32), direction
