"""Every vector of one layer and image, made from the codes that the array reads."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from jaxtyping import Int64, Integer

from factory.verify import plain
from factory.verify.hardware import Adders, after_post, pixels_read, stationary_output_sums, stationary_weight_sums
from factory.verify.part import Part

Codes = Int64[np.ndarray, "*_"]

EXACT_BITS = 62
"""Bits of adders that hold every sum."""


@dataclass(frozen=True)
class Vectors:
    """What follows from one image's codes, sums being made addition by addition, in hardware order.

    `activation` and `weight` are the codes that the array reads; `quantizer` is `(threshold, direction)` of the whole
    layer, needed for the role `next` alone.
    """

    part: Part
    adders: Adders
    post: str
    activation: Codes
    weight: Codes
    quantizer: tuple[Integer[np.ndarray, "oc level"], Integer[np.ndarray, " oc"]] | None = None

    def of(self, role: str) -> Codes:
        """Return what the files of a role that follows from others must hold, with the role's axes."""
        if role in ("psum", "partial"):
            return np.stack([sums[role == "partial"] for sums in self._weight_sums()])
        if role == "conv":
            return self._accumulators
        if role == "out":
            return after_post(self._accumulators, self.post, self.part.pixels, self.part.spec)
        return self._next()

    def wrapped(self, role: str) -> int:
        """Return how many sums that a role's values stand for the adders cannot hold."""
        summed = (0, 2, 4) if self.part.dataflow == "ws" else (1, 2)
        most = int(np.abs(self.activation).max()) * int(np.abs(self.weight).sum(axis=summed).max())
        if most < 1 << (self.adders.bits - 1):
            return 0
        exact, sums = replace(self, adders=Adders(EXACT_BITS, "wrap")), role if role in ("psum", "partial") else "conv"
        return int(np.count_nonzero(exact.of(sums) != self.of(sums)))

    @cached_property
    def _accumulators(self) -> Int64[np.ndarray, "ot onij col"]:
        if self.part.dataflow == "os":
            return stationary_output_sums(self.activation, self.weight, self.adders)
        return [total for _, total in self._weight_sums()][-1]

    def _weight_sums(self) -> Iterator[tuple[Codes, Codes]]:
        pixel = pixels_read(self.part.spec)[:, list(self.part.tiles["kij"])]
        return stationary_weight_sums(self.activation, self.weight, pixel, self.adders)

    def _next(self) -> Int64[np.ndarray, "ot onij col"]:
        """Return the codes that enter the next layer, of the map after the layer's own pool."""
        spec, (threshold, direction) = self.part.spec, self.quantizer
        maps = np.zeros((spec.out_channels, spec.onij_count), np.int64)
        maps[:, self.part.pixels] = self.part.to_channels(self._accumulators.swapaxes(1, 2))
        codes = plain.count_thresholds(maps, threshold, direction)
        pooled = plain.pool_codes(codes.reshape(-1, spec.out_height, spec.out_width), spec.pool)
        return self.part.by_channel(pooled.reshape(len(pooled), -1)).swapaxes(1, 2)
