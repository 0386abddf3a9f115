"""Layers of any geometry against plain loops in Python: accumulators, psums, bounds, the audit; and their exports."""

import dataclasses
import itertools

import jax.numpy as jnp
import numpy as np
import pytest
from helpers_bench import given_store, random_weight
from hypothesis import given, settings
from hypothesis import strategies as st

from factory.arithmetic.adders import Adder
from factory.arithmetic.bits import Field
from factory.arithmetic.labelled import Selection
from factory.audit import running_extremes
from factory.dataflow import DATAFLOWS, LayerMapping, LayerVectors
from factory.dataflow.sums import arranged
from factory.engine import convolve, layer_psums, prepare_layer
from factory.export import export
from factory.spec import (
    ConvLayer,
    IntegerLayer,
    SystolicArray,
    accumulator_range,
    accumulator_ranges,
    psum_range,
)
from factory.verify import reference, verify_export

CODES = dict(activation=Field(9, True), weight=Field(8, True))
"""What processing elements read: every code as it is."""


@st.composite
def geometries(draw, most=3):
    """Fields of a layer, which hold its kernel; a ConvLayer is made of them where beartype may use `random`."""

    def size(low, high):
        return draw(st.integers(low, high))

    kernel, stride, dilation = ([size(1, most) for _ in "yx"] for _ in range(3))
    padding = [size(0, 2) for _ in range(4)]
    borders = padding[0] + padding[2], padding[1] + padding[3]
    spans = (gap * (taps - 1) + 1 for gap, taps in zip(dilation, kernel, strict=True))
    height, width = (max(1, span - border) + size(0, 2) for span, border in zip(spans, borders, strict=True))
    groups, bits, signed = size(1, 3), size(1, 8), draw(st.booleans())
    low = -(2 ** (bits - 1)) if signed else 0
    return dict(
        name="c", source="given", in_channels=groups * size(1, 2), out_channels=groups * size(1, 2), height=height,
        width=width, kernel=kernel, stride=stride, padding=padding, dilation=dilation, groups=groups,
        weight_bits=size(2, 8), activation_bits=bits, signed=signed, zero_point=size(low, low + 2**bits - 1),
    )  # fmt: skip


ARRAYS = st.tuples(st.integers(1, 4), st.integers(1, 4))
SEEDS = st.integers(0, 2**32 - 1)


def given_layer(fields, array, seed):
    """Return a store's only layer of random codes for two images, and the array."""
    array = SystolicArray(*array, psum_bits=32)
    return given_store(array, seed=seed, **fields).layer("c"), array


# The plain loops: no tile, no index table, nothing but the definition of a layer.


def padded_code(spec, codes, ic, y, x):
    """Return the code at a place of the padded map; 0 for a channel that only fills up a tile."""
    top, left, _, _ = spec.padding
    if ic >= spec.in_channels:
        return 0
    inside = top <= y < top + spec.height and left <= x < left + spec.width
    return int(codes[ic, y - top, x - left]) if inside else spec.zero_point


def taps(spec, oi, oj):
    """Yield `(ki, kj, y, x)`: each kernel position, and the place of the padded map that an output pixel reads."""
    for ki, kj in itertools.product(range(spec.kernel[0]), range(spec.kernel[1])):
        yield ki, kj, oi * spec.stride[0] + ki * spec.dilation[0], oj * spec.stride[1] + kj * spec.dilation[1]


def plain_accumulators(spec, weight, codes):
    """Return `(oc, oi, oj)`."""
    sums = np.zeros((spec.out_channels, spec.out_height, spec.out_width), np.int64)
    for oc, oi, oj in np.ndindex(sums.shape):
        for ki, kj, y, x in taps(spec, oi, oj):
            for ic in range(spec.in_channels):
                sums[oc, oi, oj] += int(weight[oc, ic, ki, kj]) * padded_code(spec, codes, ic, y, x)
    return sums


def plain_psums(spec, weight, codes, array):
    """Return `(it, ot, kij, nij, col)`."""
    its, ots = array.input_tiles(spec.in_channels), array.output_tiles(spec.out_channels)
    sums = np.zeros((its, ots, spec.kij_count, spec.nij_count, array.cols), np.int64)
    for it, ot, kij, nij, col in np.ndindex(sums.shape):
        oc, (ki, kj), (y, x) = ot * array.cols + col, divmod(kij, spec.kernel[1]), divmod(nij, spec.padded_width)
        for ic in range(it * array.rows, min((it + 1) * array.rows, spec.in_channels)):
            if oc < spec.out_channels:
                sums[it, ot, kij, nij, col] += int(weight[oc, ic, ki, kj]) * padded_code(spec, codes, ic, y, x)
    return sums


def whole_mapping(spec, flow, array):
    counts = flow.counts(spec, array)
    selection = Selection({axis: tuple(range(count)) for axis, count in counts.items()})
    return LayerMapping(flow, spec, array, selection, CODES, Adder(array.psum_bits))


@settings(max_examples=100)
@given(geometries(), ARRAYS, SEEDS)
def test_every_dataflow_computes_the_plain_loops(fields, array, seed):
    layer, array = given_layer(fields, array, seed)
    spec, codes = layer.spec, layer.activation[1]
    expected = plain_accumulators(spec, layer.weight, codes)
    np.testing.assert_array_equal(reference.direct_convolution(codes, layer.weight, spec), expected)
    for flow in DATAFLOWS.values():
        mapping = whole_mapping(spec, flow, array)
        found = arranged(mapping.untile(LayerVectors(mapping, layer, 1).accumulator), "oc", "onij")
        np.testing.assert_array_equal(found, expected.reshape(len(expected), -1))


@settings(max_examples=60)
@given(geometries(most=2), ARRAYS, SEEDS)
def test_psums_are_the_plain_loops(fields, array, seed):
    layer, array = given_layer(fields, array, seed)
    (psum,) = LayerVectors(whole_mapping(layer.spec, DATAFLOWS["ws"], array), layer, 1).psums("nij")
    expected = plain_psums(layer.spec, layer.weight, layer.activation[1], array)
    np.testing.assert_array_equal(arranged(psum, "it", "ot", "kij", "nij", "col"), expected)


@settings(max_examples=12)
@given(geometries(most=2), ARRAYS, SEEDS)
def test_the_engine_computes_the_plain_loops(fields, array, seed):
    layer, array = given_layer(fields, array, seed)
    spec = layer.spec
    low, high = (np.full(spec.in_channels, end, np.int16) for end in spec.code_range)
    reachable = accumulator_range(spec, layer.weight, low, high)
    engine = prepare_layer(IntegerLayer(spec, layer.weight, low, high, reachable, None, None), array)
    codes = jnp.asarray(layer.activation)
    sums, psums = np.asarray(convolve(engine, codes)), np.asarray(layer_psums(engine, codes))
    for image, maps in enumerate(layer.activation):
        np.testing.assert_array_equal(sums[image], plain_accumulators(spec, layer.weight, maps))
        np.testing.assert_array_equal(psums[image], plain_psums(spec, layer.weight, maps, array))


# Bounds: every map of codes of a tiny layer, tried.

TINY = {
    "1 x 2, padding on the right": dict(height=1, width=3, kernel=(1, 2), padding=(0, 0, 0, 1)),
    "2 x 1, stride and dilation": dict(
        height=3, width=1, kernel=(2, 1), stride=(2, 1), dilation=(2, 1), padding=(1, 0)
    ),
    "a border alone": dict(height=1, width=1, kernel=(1, 1), stride=(2, 2), padding=(2, 1, 0, 0)),
    "two groups": dict(height=1, width=2, kernel=(1, 2), in_channels=2, groups=2, padding=0),
}


@pytest.mark.parametrize("zero_point", [0, 2, -3])
@pytest.mark.parametrize("fields", TINY.values(), ids=TINY.keys())
def test_bounds_are_reached_and_never_passed(fields, zero_point):
    """The codes that enter are fewer than those of their bits: the border's may lie outside of them."""
    given = dict(name="c", source="given", in_channels=1, out_channels=2, signed=True, zero_point=zero_point)
    spec, rng, low, high = ConvLayer(**given | fields), np.random.default_rng(5), -1, 1
    weight, array = random_weight(rng, spec), SystolicArray(2, 2)
    shape = (spec.in_channels, spec.height, spec.width)
    maps = [np.array(x).reshape(shape) for x in itertools.product(range(low, high + 1), repeat=int(np.prod(shape)))]
    sums = np.stack([plain_accumulators(spec, weight, codes) for codes in maps])
    ends = np.full(spec.in_channels, low), np.full(spec.in_channels, high)
    least, most = accumulator_ranges(spec, weight, *ends)
    assert least.tolist() == sums.min(axis=(0, 2, 3)).tolist()
    assert most.tolist() == sums.max(axis=(0, 2, 3)).tolist()
    psums = np.stack([plain_psums(spec, weight, codes, array) for codes in maps])
    bound = psum_range(array, weight, *ends, zero_point)
    assert bound.low <= psums.min() and psums.max() <= bound.high


def plain_running(spec, weight, codes, array):
    """Yield `(oc, it, kij, slot)` and the sum there, for every addition of every output pixel in hardware order."""
    for oc, oi, oj in np.ndindex(spec.out_channels, spec.out_height, spec.out_width):
        total = 0
        for it in range(array.input_tiles(spec.in_channels)):
            for kij, (ki, kj, y, x) in enumerate(taps(spec, oi, oj)):
                column = 0
                for row in range(array.rows):
                    ic = it * array.rows + row
                    own = int(weight[oc, ic, ki, kj]) if ic < spec.in_channels else 0
                    column += own * padded_code(spec, codes, ic, y, x)
                    yield (oc, it, kij, row), column
                total += column
                yield (oc, it, kij, array.rows), total


@settings(max_examples=100)
@given(geometries(most=2), ARRAYS, SEEDS, st.data())
def test_no_sum_passes_the_audits_extremes(fields, array, seed, data):
    """Draw the codes' range too; what is at the ends of it, channel by channel, comes as often as not."""
    low, high = (-(2 ** (fields["activation_bits"] - 1)), 2 ** (fields["activation_bits"] - 1) - 1)
    low, high = (low, high) if fields["signed"] else (0, high - low)
    ends = sorted(data.draw(st.tuples(st.integers(low, high), st.integers(low, high))))
    layer, array = given_layer(fields, array, seed)
    spec, rng = layer.spec, np.random.default_rng(seed)
    shape = layer.activation[0].shape
    inside = rng.integers(ends[0], ends[1] + 1, shape)
    codes = np.where(rng.random(shape) < 0.5, inside, rng.choice(ends, shape))
    bounds = [np.full(spec.in_channels, end) for end in ends]
    least, most = running_extremes(spec, array, layer.weight, *bounds)
    for at, value in plain_running(spec, layer.weight, codes, array):
        assert least[at] <= value <= most[at] or (value == 0 and at[-1] < array.rows)
    narrow = psum_range(array, layer.weight, *bounds, spec.zero_point)
    psums = plain_psums(spec, layer.weight, codes, array)
    assert narrow.low <= psums.min() and psums.max() <= narrow.high
    total = accumulator_ranges(spec, layer.weight, *bounds)
    np.testing.assert_array_equal(total[0], least[:, -1, -1, -1])
    np.testing.assert_array_equal(total[1], most[:, -1, -1, -1])


def test_the_border_may_be_read_as_another_code():
    spec = ConvLayer("c", "given", 3, 2, 3, 3, kernel=(2, 3), zero_point=9)
    rng, array, ends = np.random.default_rng(1), SystolicArray(2, 2), (np.zeros(3, np.int64), np.full(3, 4))
    weight = random_weight(rng, spec)
    other = dataclasses.replace(spec, zero_point=1)
    for extremes in (running_extremes, lambda spec, _, *rest: accumulator_ranges(spec, *rest)):
        found, expected = extremes(spec, array, weight, *ends, 1), extremes(other, array, weight, *ends)
        assert np.array_equal(found, expected) and not np.array_equal(found, extremes(spec, array, weight, *ends))


# Exports: given codes are written as they are, or not at all.


@pytest.mark.parametrize("dataflow", DATAFLOWS)
def test_an_export_is_verified(tmp_path, dataflow):
    fields = dict(kernel=(3, 2), stride=(2, 1), dilation=(1, 2), padding=(1, 2, 0, 3), groups=3, zero_point=6)
    store = given_store(SystolicArray(3, 4), in_channels=6, **fields)
    export(store, tmp_path / "x", dataflow=dataflow, pe_activation="unsigned", include="activation,weight,out,address")
    assert verify_export(tmp_path / "x").compared > 0


@pytest.mark.parametrize("dataflow", DATAFLOWS)
@pytest.mark.parametrize(("signed", "zero_point"), [(False, 255), (True, -128)])
def test_lanes_hold_given_codes_where_no_profile_is_named(tmp_path, dataflow, signed, zero_point):
    store = given_store(
        SystolicArray(4, 4, psum_bits=32), activation_bits=8, weight_bits=8, signed=signed, zero_point=zero_point
    )
    summary = export(store, tmp_path / "x", dataflow=dataflow)
    assert summary.inexact == 0 and verify_export(tmp_path / "x").compared > 0
    own, codes = ("signed" if dataflow == "os" else "unsigned"), ("signed" if signed else "unsigned")
    assert summary.warnings == (
        f"activation: its lanes are 8 bits {codes}, as the codes are, not the 4 bits {own} of profile notebook",
        "weight: its lanes are 8 bits signed, as the codes are, not the 4 bits signed of profile notebook",
    )
    assert store.layer("layer").weight.min() == -128


def test_a_profile_that_is_named_is_kept(tmp_path):
    summary = export(given_store(SystolicArray()), tmp_path / "x", dataflow="os", profile="notebook")
    (warning,) = summary.warnings
    assert "activation codes do not fit 4 bits signed; the files hold their low bits" in warning
