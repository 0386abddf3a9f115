"""The integer network equals the float32 formula at every reachable accumulator, and torch's codes where it must."""

from dataclasses import replace

import numpy as np
import pytest
from helpers_network import odd_network, tiny_network, trained_network
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from factory import InputError, load_weights
from factory.arithmetic.integer import max_pool, threshold_codes
from factory.lower import find_thresholds, lower
from factory.quant.host import dequantize_accumulator, input_table, requantized_codes
from factory.spec import IMAGE, BatchNorm, ConvLayer, Network, TrainedLayer, accumulator_ranges, part1, vgg

F32 = np.float32
CHUNK = 1 << 16  # values that stay in the cache


@pytest.fixture(scope="module")
def shipped():
    return load_weights()


def reachable(least, most):
    """Yield every accumulator of `least .. most` in chunks `(oc, value, 1)`; a shorter channel repeats its last one."""
    count, size = int((most - least).max()) + 1, CHUNK // least.size
    for start in range(0, count, size):
        steps = np.arange(start, min(start + size, count))
        yield np.minimum(least[:, None] + steps, most[:, None])[..., None]


def ranges(integer):
    return accumulator_ranges(integer.spec, integer.weight, integer.activation_low, integer.activation_high)


def assert_equal_everywhere(layer, taker, threshold, direction, least, most):
    for acc in reachable(least, most):
        expected = requantized_codes(acc, layer, taker.alpha_a, taker.spec.activation_bits)
        wrong = threshold_codes(acc.astype(np.int32), threshold, direction) != expected
        assert not wrong.any(), f"{layer.spec.name}: {acc[wrong][:5]} of oc {np.argwhere(wrong)[:5, 0]}"


def assert_lowered_exactly(trained, name):
    integer = lower(trained).layers[name]
    taker = trained.layers[trained.network.consumers(name)[0].name]
    assert_equal_everywhere(trained.layers[name], taker, integer.threshold, integer.direction, *ranges(integer))


@pytest.mark.parametrize("name", [layer.name for layer in part1().layers[:-1]])
def test_every_row_of_the_shipped_network_is_the_formula_everywhere(shipped, name):
    assert_lowered_exactly(shipped, name)


def test_a_chunk_wise_range_holds_every_value_of_every_channel():
    least, most = np.array([-3, 70_000]), np.array([100_000, 70_000])
    chunks = list(reachable(least, most))
    assert np.unique(np.concatenate(chunks, axis=1)[0]).tolist() == list(range(-3, 100_001))
    assert all((chunk[1] == 70_000).all() for chunk in chunks)


def test_the_last_layer_has_no_thresholds_and_the_others_one_for_each_level(shipped):
    lowered = lower(shipped)
    for spec in shipped.network.layers[:-1]:
        layer = lowered.layers[spec.name]
        assert (layer.threshold.shape, layer.threshold.dtype) == ((spec.out_channels, 15), np.int32)
        assert (layer.direction.shape, layer.direction.dtype) == ((spec.out_channels,), np.int8)
    last = lowered.layers[shipped.network.last.name]
    assert last.threshold is None and last.direction is None


def test_activation_ranges_are_those_of_the_table_and_of_the_code_width():
    trained = trained_network(vgg("wide", [5, {"channels": 4, "activation_bits": 3}], image=(3, 4, 4)))
    lowered = lower(trained)
    image, inner = lowered.layers["features.0"], lowered.layers["features.3"]
    assert (lowered.input_table == input_table(trained.network, trained.layers["features.0"].alpha_a)).all()
    assert image.activation_low.tolist() == lowered.input_table[:, 0].tolist()
    assert image.activation_high.tolist() == lowered.input_table[:, 255].tolist()
    assert (image.activation_low.dtype, inner.activation_high.dtype) == (np.int16, np.int16)
    assert (inner.activation_low.tolist(), inner.activation_high.tolist()) == ([0] * 5, [7] * 5)


def one_layer(norm, alpha_w, alpha_a, seed=0):
    """Return a layer of 2 input channels, 4 bits, and as many output channels as `norm` has."""
    spec = ConvLayer("c", IMAGE, 2, len(norm.mean) if norm else 5, 4, 4, kernel=2, padding=0, batch_norm=bool(norm))
    code = np.random.default_rng(seed).integers(-7, 8, spec.weight_shape).astype(np.int8)
    return TrainedLayer(spec, code, F32(alpha_w), F32(alpha_a), norm)


def extremes(*values):
    return st.sampled_from([F32(sign * value) for value in values for sign in (1, -1)]) | st.floats(-4, 4, width=32)


CHANNELS = 6
MEAN = extremes(0, 1e-45, 1e-20, 40, 1e20, 3e38)
GAMMA = extremes(0, 1e-45, 1e-40, 1e-20, 1, 1e4, 1e20, 3e38)
VAR = st.sampled_from([0, 1e-45, 1e-30, 1e-7, 1e7, 3e38]).map(F32) | st.floats(0, 4, width=32)
ALPHA = st.sampled_from([1e-45, 1e-38, 1e-30, 1e-3, 1, 50, 1e6, 1e30, 3e38]).map(F32) | st.floats(0.5, 8, width=32)


@st.composite
def batch_norms(draw):
    def values(elements):
        return np.array(draw(st.lists(elements, min_size=CHANNELS, max_size=CHANNELS)), F32)

    return BatchNorm(values(MEAN), values(VAR), values(GAMMA), values(MEAN), draw(st.sampled_from([1e-5, 1e-30, 1.0])))


@settings(max_examples=300, deadline=None)
@given(st.none() | batch_norms(), ALPHA, ALPHA, ALPHA, st.integers(1, 8), st.integers(0, 99))
def test_generated_rows_are_the_formula_everywhere(norm, alpha_w, alpha_a, next_alpha, bits, seed):
    layer = one_layer(norm, alpha_w, alpha_a, seed)
    low, high = np.zeros(2, np.int16), np.full(2, 15, np.int16)
    least, most = accumulator_ranges(layer.spec, layer.weight_code, low, high)
    every = np.concatenate(list(reachable(least, most)), axis=1)
    if np.isnan(dequantize_accumulator(every, layer)).any():
        with pytest.raises(InputError, match=r"the output of oc \d must be a number at accumulator -?\d+, not nan"):
            find_thresholds(layer, F32(next_alpha), bits, least, most)
        return
    threshold, direction = find_thresholds(layer, F32(next_alpha), bits, least, most)
    codes = requantized_codes(every, layer, F32(next_alpha), bits)
    assert (threshold_codes(every.astype(np.int32), threshold, direction) == codes).all()
    assert threshold.tolist() == slow_thresholds(every[..., 0], codes[..., 0], direction, 2**bits - 1)


def slow_thresholds(acc, codes, direction, levels):
    """Walk each channel in the order in which its code rises; one beyond its last accumulator means never."""
    rows = []
    for values, reached, sign in zip(acc.tolist(), codes.tolist(), direction.tolist(), strict=True):
        row = []
        for value, code in sorted(zip(values, reached, strict=True), reverse=sign < 0):
            row += [value] * (code - len(row))
        rows.append(row + [value + sign] * (levels - len(row)))
    return rows


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 2**32))
def test_generated_networks_lower_exactly(seed):
    trained = trained_network(odd_network(), seed)
    for spec in trained.network.layers[:-1]:
        assert_lowered_exactly(trained, spec.name)


def test_one_row_of_each_direction_worked_by_hand():
    # One input channel of codes 0..15, one weight of code 2: accumulators 0..30. The steps are 15 / 15 and 7 / 7, so
    # y = gamma * acc + beta, and with alpha 3 in 2 bits the code is y rounded: 1 from 0.5 (a tie, to 0) on, and so on.
    spec = ConvLayer("c", IMAGE, 1, 5, 1, 1, kernel=1, padding=0)
    gamma, beta = np.array([[0.25, -0.25, 0, 0, 0.01], [0, 3, 2, 0, 0]], F32)
    norm = BatchNorm(np.zeros(5, F32), np.ones(5, F32), gamma, beta, eps=0.0)
    layer = TrainedLayer(spec, np.full(spec.weight_shape, 2, np.int8), F32(7), F32(15), norm)
    least, most = np.zeros(5, np.int64), np.full(5, 30, np.int64)
    threshold, direction = find_thresholds(layer, F32(3), 2, least, most)
    assert direction.tolist() == [1, -1, 1, 1, 1]
    assert threshold.tolist() == [
        [3, 6, 11],  # 0.75 -> 1; 1.5 -> 2; 2.5 is a tie and goes to 2, 2.75 -> 3
        [9, 6, 1],  # 3 - 2.25 = 0.75 -> 1; 3 - 1.5 = 1.5 -> 2; 3 - 0.25 = 2.75 -> 3
        [0, 0, 31],  # always 2
        [31, 31, 31],  # always 0
        [31, 31, 31],  # 0.3 at most
    ]


@settings(deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 8), st.sampled_from([np.int16, np.int32, np.int64]))
def test_threshold_codes_equal_the_plain_loop(seed, bits, dtype):
    rng = np.random.default_rng(seed)
    acc = rng.integers(-20, 20, (2, 3, 2, 4)).astype(dtype)
    threshold = np.sort(rng.integers(-20, 20, (3, 2**bits - 1)), axis=1).astype(np.int32)
    direction = rng.choice([-1, 1], 3).astype(np.int8)
    codes = threshold_codes(acc, threshold, direction)
    assert codes.dtype == np.uint8
    for (image, oc, y, x), value in np.ndenumerate(acc):
        row = threshold[oc].tolist()
        met = [value >= level if direction[oc] == 1 else value <= level for level in row]
        assert codes[image, oc, y, x] == sum(met)


@settings(deadline=None)
@given(st.integers(1, 9), st.integers(1, 9), st.integers(1, 3), st.integers(0, 2**32))
def test_max_pool_equals_the_plain_loop(height, width, window, seed):
    assume(window <= min(height, width))
    codes = np.random.default_rng(seed).integers(0, 256, (2, 3, height, width)).astype(np.uint8)
    pooled = max_pool(codes, window)
    assert (pooled.dtype, pooled.shape) == (np.uint8, (2, 3, height // window, width // window))
    for (image, oc, y, x), code in np.ndenumerate(pooled):
        square = [codes[image, oc, y * window + i, x * window + j] for i in range(window) for j in range(window)]
        assert code == max(square)


def message(trained):
    with pytest.raises(InputError) as error:
        lower(trained)
    return str(error.value)


def with_layer(trained, name, **changes):
    return replace(trained, layers=trained.layers | {name: replace(trained.layers[name], **changes)})


def test_a_formula_without_a_number_is_refused_with_its_address():
    trained = trained_network(tiny_network())
    norm = trained.layers["features.0"].batch_norm
    gamma, var = norm.gamma.copy(), norm.var.copy()
    gamma[4], var[2] = 0, 0
    low, _ = ranges(lower(trained).layers["features.0"])
    huge = with_layer(trained, "features.0", alpha_w=F32(3e38), batch_norm=replace(norm, gamma=gamma))
    assert message(huge) == f"features.0: the output of oc 4 must be a number at accumulator {low[4]}, not nan"
    flat = with_layer(trained, "features.0", batch_norm=replace(norm, var=var, eps=0.0))
    assert message(flat) == "features.0: var + eps of oc 2 must be more than 0, not 0.0"


def test_an_input_that_does_not_fit_its_codes_is_refused():
    trained = trained_network(tiny_network())
    small = with_layer(trained, "features.0", alpha_a=F32(0.2))
    assert message(small) == "network tiny: input codes must be -128 to 127, not -149 to 15"
    first, second = trained.network.layers
    unsigned = replace(trained, network=replace(trained.network, layers=(replace(first, signed=False), second)))
    low = lower(trained).input_table.min()
    assert message(unsigned) == f"features.0: an unsigned layer's input codes must be 0 or more, not {low}"


def test_accumulators_beyond_32_bits_are_refused():
    layer = one_layer(None, 1, 1)
    least, most = np.array([0, 0, -(2**31), 0, 0]), np.array([1, 1, 5, 2**31, 1])
    with pytest.raises(InputError) as error:
        find_thresholds(layer, F32(1), 4, least, most)
    assert str(error.value) == "accumulators of oc 2 must fit in 32 bits, not reach -2147483648 to 5"


def test_no_accumulator_beyond_the_reachable_ones_is_looked_at():
    # 30 steps of 3.4e38 / 30 are finite and 31 are not, so that a gamma of 0 gives 0 up to 30 and then no number.
    norm = BatchNorm(*np.array([[0, 0], [1, 1], [0, 1], [0, 0]], F32))
    layer = one_layer(norm, 7, 15 * 3.4e38 / 30)
    threshold, direction = find_thresholds(layer, F32(1), 2, np.array([0, -1000]), np.array([30, 30]))
    assert (threshold.tolist(), direction.tolist()) == ([[31, 31, 31], [1, 1, 1]], [1, 1])


def forked(activation_bits):
    """Return a network of which the first layer's output goes to two others, and one layer's output to none."""
    first, second = tiny_network().layers
    branch = replace(second, name="branch", activation_bits=activation_bits)
    trained = trained_network(Network("forked", (first, branch, second), classes=3))
    return with_layer(with_layer(trained, "branch", alpha_a=F32(2)), "features.3", alpha_a=F32(1.5))


def test_layers_that_share_an_input_must_quantize_it_alike():
    alike = lower(with_layer(forked(4), "branch", alpha_a=F32(1.5)))
    assert alike.layers["features.0"].threshold.shape == (5, 15)
    assert alike.layers["branch"].threshold is None
    assert message(forked(3)) == (
        "features.0: the layers that take its output must quantize it alike for now, "
        "not branch 2.0 in 3 bits, features.3 1.5 in 4 bits"
    )


@pytest.mark.reference
def test_each_layers_codes_are_torchs_but_for_rounding_boundaries(shipped, reference):
    lowered, total, different = lower(shipped), 0, 0
    with np.load(reference / "reference_w4a4.npz") as file:
        codes = lowered.input_table[np.arange(3)[:, None, None], file["pixels"]]
        assert (codes == file["features.0.activation_code"]).all()
        for spec in shipped.network.layers[:-1]:
            (taker,) = shipped.network.consumers(spec.name)
            layer, acc = lowered.layers[spec.name], file[f"{spec.name}.accumulator"]
            codes = max_pool(threshold_codes(acc, layer.threshold, layer.direction), spec.pool)
            wrong = codes != file[f"{taker.name}.activation_code"]
            real = dequantize_accumulator(acc, shipped.layers[spec.name]) / shipped.layers[taker.name].activation_scale
            images, channels, height, width = codes.shape
            real = real.reshape(images, channels, height, spec.pool, width, spec.pool).max(axis=(3, 5))
            assert (np.abs(real[wrong] % 1 - F32(0.5)) < 1e-4).all()
            total, different = total + codes.size, different + int(wrong.sum())
    assert total == 1_329_152
    assert different <= total / 100_000
