"""Fixed point: the integers that a lowered residual network adds up, as records of NumPy arrays."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int32, Int64

from factory.spec.bounds import Range
from factory.spec.streams import Stem


@dataclass(frozen=True)
class FixedTerm:
    """What a layer's accumulators add to a stream, in its units.

        term[oc] == (multiplier[oc] * acc + offset[oc]) >> shift

    `offset` holds the half that rounds to the nearest. `shift` is a multiple of `digit_bits`, and an accumulator times
    a number of so many bits is within 30 bits: so the sum can be made of 32-bit integers, digit by digit.
    """

    multiplier: Int64[np.ndarray, " oc"]
    offset: Int64[np.ndarray, " oc"]
    shift: int
    digit_bits: int


@dataclass(frozen=True)
class FixedStem:
    """The stem in integers: what it adds to its stream, in its units.

        term[oc] == (convolution(pixels and ones, weight)[oc] + offset[oc]) >> shift

    The last input channel is 1 inside the image and, like the pixels, 0 on the border; its weights are what the
    pixels' mean subtracts, so that the border is the real 0. The rest is as in `FixedTerm`.
    """

    spec: Stem
    weight: Int64[np.ndarray, "oc colour_1 ki kj"]
    offset: Int64[np.ndarray, " oc"]
    shift: int
    digit_bits: int


@dataclass(frozen=True)
class FixedStreams:
    """The streams of a network in integers of 32 bits, whose unit stands for `2**-fraction_bits`.

        stream == max(0, term of the layer + (term or stream of the shortcut))
        code that enters a layer == (stream >= threshold).sum(level)

    `terms` are by the name of the layer that enters, `threshold` by that of the layer that reads, `reach` by that of
    the stream: the values that it can have.
    """

    fraction_bits: int
    stem: FixedStem | None
    terms: Mapping[str, FixedTerm]
    threshold: Mapping[str, Int32[np.ndarray, " level"]]
    reach: Mapping[str, Range]
