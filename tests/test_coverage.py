"""Coverage: counts equal plain loops, and what is called unreachable no input hits."""

from fractions import Fraction
from itertools import product
from unittest.mock import patch

import numpy as np
import pytest
from helpers_coverage import PlainCoverage, bins, counter_of, unreachable, with_image
from hypothesis import given, settings
from hypothesis import strategies as st

from factory.coverage import steps, sums
from factory.coverage.passes import presence
from factory.coverage.steps import lengths
from factory.spec import GIVEN, ConvLayer, SystolicArray

FLOWS = ("ws", "os", "is")


@st.composite
def layers(draw, flow):
    """Draw a small layer with codes, thresholds and an array with narrow adders."""
    kernel = draw(st.tuples(st.integers(1, 2), st.integers(1, 3)))
    signed = draw(st.booleans())
    bits = draw(st.integers(1 + signed, 3))
    low, high = (-(1 << (bits - 1)), (1 << (bits - 1)) - 1) if signed else (0, (1 << bits) - 1)
    spec = ConvLayer(
        "small", GIVEN, draw(st.integers(1, 5)), draw(st.integers(1, 4)), draw(st.integers(2, 3)),
        draw(st.integers(3, 4)), kernel=kernel, stride=draw(st.integers(1, 2)), padding=draw(st.integers(0, 1)),
        dilation=(1, 1), weight_bits=draw(st.integers(2, 4)), activation_bits=bits, signed=signed, batch_norm=False,
        zero_point=draw(st.integers(low, high)),
    )  # fmt: skip
    array = SystolicArray(draw(st.integers(1, 3)), draw(st.integers(1, 3)), draw(st.integers(4, 9)))
    random = np.random.default_rng(draw(st.integers(0, 2**32)))
    half = 1 << (spec.weight_bits - 1)
    weight = random.integers(-half, half, spec.weight_shape).astype(np.int8)
    activation = random.integers(low, high + 1, (spec.in_channels, spec.height, spec.width)).astype(np.int16)
    threshold = direction = None
    if draw(st.booleans()):
        threshold = np.sort(random.integers(-9, 9, (spec.out_channels, 2))).astype(np.int32)
        direction = random.choice([-1, 1], spec.out_channels).astype(np.int8)
    return PlainCoverage(spec, array, flow, weight, activation, threshold, direction)


def ends_of(counter) -> dict[str, tuple[int, int]]:
    if counter.outside is None:
        return {"accumulator": counter.inside.ends}
    return {"psum": counter.inside.ends, "accumulator": counter.outside.ends}


@pytest.mark.untyped
@pytest.mark.parametrize("flow", FLOWS)
@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_hits_are_those_of_plain_loops(flow, data):
    plain = data.draw(layers(flow))
    counter = counter_of(plain)
    hits = plain.hits(ends_of(counter))
    # looking at a few sums first leaves the others to the bounds, as in large layers
    few = data.draw(st.sampled_from([1, 16, 1 << 13]))
    with patch.multiple(steps, FEWEST=few, MOST=max(few, 32)), patch.object(sums, "_SIDE_BY_SIDE", 1 + few // 8):
        assert bins(counter, counter.count(0)) == hits
    assert not hits & unreachable(counter)


@settings(max_examples=20, deadline=None)
@given(data=st.data(), bits=st.integers(1, 8), signed=st.booleans())
def test_codes_that_there_are_at_each_place(data, bits, signed):
    low = -(1 << (bits - 1)) if signed else 0
    shape = data.draw(st.tuples(*[st.integers(1, 3)] * 4))
    kept = tuple(axis for axis in range(4) if data.draw(st.booleans()))
    codes = np.random.default_rng(data.draw(st.integers(0, 99))).integers(low, low + (1 << bits), shape, np.int16)
    plain = np.zeros([shape[axis] for axis in kept] + [1 << bits], bool)
    for place, code in np.ndenumerate(codes):
        plain[(*(place[axis] for axis in kept), code - low)] = True
    assert np.array_equal(presence(codes, kept, low, 1 << bits), plain)


def test_lengths_are_at_least_the_exact_ones():
    codes = np.random.default_rng(0).integers(-128, 128, (20, 3000))
    exact = [Fraction(int((row**2).sum())) for row in codes]
    for kind in (np.float32, np.float64):
        for length, square in zip(lengths(codes.astype(kind)), exact, strict=True):
            assert square <= Fraction(float(length)) ** 2 <= square * Fraction(101, 100)


@pytest.mark.parametrize("flow", ["ws", "is"])
def test_bounds_of_blocks_are_reached_by_words_along_their_weights(flow):
    spec = ConvLayer("one", GIVEN, 3, 2, 1, 1, kernel=1, padding=0, activation_bits=4, batch_norm=False)
    weight = np.array([[1, 2, 2], [-4, -3, 0]], np.int8).reshape(2, 3, 1, 1)
    for activation, ends in (((1, 2, 2), (-15, 9)), ((4, 3, 0), (-25, 15))):
        codes = np.array(activation, np.int16).reshape(3, 1, 1)
        counter = counter_of(PlainCoverage(spec, SystolicArray(3, 2, 8), flow, weight, codes))
        bounds = counter._bounds_of(counter.arranged(0).astype(np.float32))
        assert bounds.ends == ends


TINY = (
    dict(in_channels=2, out_channels=2, height=2, width=1, kernel=1, padding=0, activation_bits=2),
    dict(in_channels=3, out_channels=3, height=1, width=2, kernel=(1, 2), padding=(0, 1), activation_bits=1),
    dict(in_channels=1, out_channels=2, height=1, width=3, kernel=(1, 3), padding=0, activation_bits=2, signed=True),
    dict(in_channels=1, out_channels=1, height=2, width=1, kernel=1, padding=(1, 0), activation_bits=2, zero_point=2),
)
"""Layers with so few codes that all inputs can be tried."""


@pytest.mark.untyped
@pytest.mark.parametrize("flow", FLOWS)
@pytest.mark.parametrize("given_", TINY, ids=range(len(TINY)))
def test_no_input_hits_what_is_called_unreachable(flow, given_):
    spec = ConvLayer("tiny", GIVEN, weight_bits=3, batch_norm=False, **given_)
    codes = range(spec.code_range[0], spec.code_range[1] + 1)
    random = np.random.default_rng(0)
    for seed, (low, high) in product(range(2), ((codes[0], codes[-1]), (codes[1], codes[-1]))):
        weight = random.integers(-3 + seed, 4, spec.weight_shape).astype(np.int8)
        shape = (spec.in_channels, spec.height, spec.width)
        threshold = np.sort(random.integers(-4, 9, (spec.out_channels, 2))).astype(np.int32)
        plain = PlainCoverage(
            spec, SystolicArray(2, 2, 4), flow, weight, np.zeros(shape, np.int16), threshold,
            np.ones(spec.out_channels, np.int8),
        )  # fmt: skip
        ends = [np.full(spec.in_channels, end, np.int16) for end in (low, high)]
        counter = counter_of(plain, *ends)
        hits = set()
        for values in product(range(low, high + 1), repeat=int(np.prod(shape))):
            hits |= with_image(plain, np.array(values, np.int16).reshape(shape)).hits(ends_of(counter))
        never = unreachable(counter)
        everything = bins(counter, {name: np.ones_like(x.could) for name, x in counter.universes.items()})
        assert not hits & never
        assert 5 * len(everything - hits - never) < len(everything)  # most of what no input hits is proved, too
