"""The float32 quantizers against plain loops of scalars, known answers, and what they refuse."""

import math

import numpy as np
import pytest
from helpers_network import odd_network, tiny_network, trained_network
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from factory import InputError
from factory.quant.host import (
    activation_codes,
    dequantize_accumulator,
    input_table,
    requantized_codes,
    scaled_weights,
    weight_codes,
)
from factory.spec import IMAGE, BatchNorm, ConvLayer, TrainedLayer, part1

F32 = np.float32
ALPHAS = st.floats(2.0**-20, 2.0**20, width=32).map(F32)
VALUES = arrays(F32, array_shapes(max_dims=3, max_side=5), elements=st.floats(-1e4, 1e4, width=32))


def slow_weight_codes(weight, alpha, bits):
    values = [float(w) for w in weight.flat]
    mean = math.fsum(values) / len(values)
    deviation = F32(math.sqrt(math.fsum((v - mean) ** 2 for v in values) / (len(values) - 1)))
    codes = []
    for w in weight.flat:
        x = max(F32(-1), min(F32(1), F32(F32(F32(w - F32(mean)) / deviation) / alpha)))
        code = round(float(F32(abs(x) * F32(2 ** (bits - 1) - 1))))
        codes.append(code if x > 0 else -code)
    return np.array(codes).reshape(weight.shape)


def slow_activation_code(value, alpha, bits):
    return round(float(F32(min(F32(value / alpha), F32(1)) * F32(2**bits - 1))))


def slow_output(acc, layer, oc):
    """One channel's real output for one accumulator, with one rounding to float32 a line."""
    y = F32(acc)
    y = F32(y * F32(layer.alpha_a / F32(2**layer.spec.activation_bits - 1)))
    y = F32(y * F32(layer.alpha_w / F32(2 ** (layer.spec.weight_bits - 1) - 1)))
    if layer.batch_norm:
        y = F32(y - layer.batch_norm.mean[oc])
        y = F32(y / F32(math.sqrt(F32(layer.batch_norm.var[oc] + F32(layer.batch_norm.eps)))))
        y = F32(y * layer.batch_norm.gamma[oc])
        y = F32(y + layer.batch_norm.beta[oc])
    return max(y, F32(0))


@settings(deadline=None)
@given(st.integers(0, 2**32), st.integers(2, 8), st.floats(0.25, 4, width=32).map(F32))
def test_weight_codes_equal_the_plain_loop(seed, bits, alpha):
    weight = np.random.default_rng(seed).normal(0.3, 0.05, (3, 2, 3, 3)).astype(F32)
    codes = weight_codes(weight, alpha, bits)
    assert codes.dtype == np.int8
    assert (codes == slow_weight_codes(weight, alpha, bits)).all()


def test_weight_codes_worked_by_hand():
    weight = np.array([-3, -1, 1, 3], F32)  # mean 0; deviation sqrt(20 / 3) = 2.582
    assert weight_codes(weight, 1.0, 4).tolist() == [-7, -3, 3, 7]  # 0.387 * 7 = 2.71
    assert weight_codes(weight, 2.0, 4).tolist() == [-4, -1, 1, 4]  # 0.581 * 7 = 4.07; 0.194 * 7 = 1.36
    assert weight_codes(weight, 1.0, 2).tolist() == [-1, 0, 0, 1]
    assert scaled_weights(weight, 1.0, 4)[[0, 3]].tolist() == [-7, 7]


@pytest.mark.parametrize(
    ("weight", "found"),
    [
        ([1, 1, 1], "mean 1.0 and deviation 0.0"),
        ([1], "mean 1.0 and deviation 0.0"),
        ([1, np.nan], "mean nan and deviation nan"),
        ([1, np.inf], "mean inf and deviation nan"),
    ],
)
def test_weights_without_spread_are_refused(weight, found):
    with pytest.raises(InputError) as error:
        weight_codes(np.array(weight, F32), 1.0, 4)
    assert str(error.value) == f"weights must be finite and spread out, not of {found}"


@settings(deadline=None)
@given(VALUES, ALPHAS, st.integers(1, 8))
def test_activation_codes_equal_the_plain_loop(values, alpha, bits):
    expected = [slow_activation_code(value, alpha, bits) for value in values.flat]
    if min(expected) < -32768:
        with pytest.raises(InputError, match="activation codes must be -32768 or more, not -"):
            activation_codes(values, alpha, bits)
    else:
        codes = activation_codes(values, alpha, bits)
        assert codes.dtype == np.int16
        assert codes.tolist() == np.array(expected).reshape(values.shape).tolist()


def test_activation_codes_round_half_to_even_and_clip_from_above_only():
    values = np.array([-2.5, -1.5, -0.5, 0.5, 1.5, 2.5, 14.5, 15.5, np.inf], F32)
    assert activation_codes(values, 15.0, 4).tolist() == [-2, -2, 0, 0, 2, 2, 14, 15, 15]


@pytest.mark.parametrize(("value", "found"), [(np.nan, "nan"), (-np.inf, "-inf"), (-1e6, "-1.5e+07")])
def test_activations_without_a_code_are_refused(value, found):
    with pytest.raises(InputError) as error:
        activation_codes(np.array([[0, 0], [0, value]], F32), 1.0, 4)
    assert str(error.value) == f"activation codes must be -32768 or more, not {found} at [1, 1]"


@pytest.mark.parametrize("alpha", [0.0, -1.0, np.nan, np.inf, 1e300, 1e-300])
def test_an_alpha_that_is_no_positive_float32_is_refused(alpha):
    expected = f"alpha must be finite and more than 0 in float32, not {alpha}"
    for quantize in (activation_codes, weight_codes):
        with pytest.raises(InputError) as error:
            quantize(np.array([1, 2], F32), alpha, 4)
        assert str(error.value) == expected


def test_the_input_table_is_the_formula_at_every_pixel_value():
    network, alpha = part1(), F32(3.8049774)
    table = input_table(network, alpha)
    assert (table.dtype, table.shape) == (np.int8, (3, 256))
    for colour in range(3):
        mean, std = F32(network.mean[colour]), F32(network.std[colour])
        for pixel in range(256):
            value = F32(F32(F32(pixel) / F32(255) - mean) / std)
            assert table[colour, pixel] == slow_activation_code(value, alpha, 4)
    assert table[:, [0, 255]].tolist() == [[-8, 8], [-8, 8], [-7, 8]]  # (0 - 0.491) / 0.247 / 3.805 * 15 = -7.84


def test_input_codes_beyond_int8_are_refused():
    with pytest.raises(InputError) as error:
        input_table(part1(), 0.2)
    assert str(error.value) == "input codes must be -128 to 127, not -149 to 15"


@pytest.mark.parametrize("spec", [odd_network().layers[0], odd_network().last], ids=["batch norm", "none"])
@settings(deadline=None)
@given(data=st.data())
def test_outputs_and_requantized_codes_equal_the_plain_loop(spec, data):
    layer = trained_network(odd_network()).layers[spec.name]
    shape = (2, layer.spec.out_channels, 2, 1)
    acc = data.draw(arrays(np.int32, shape, elements=st.integers(-(2**31), 2**31 - 1) | st.integers(-300, 300)))
    y = dequantize_accumulator(acc, layer)
    codes = requantized_codes(acc, layer, F32(1.5), 3)
    assert (y.dtype, codes.dtype) == (np.float32, np.int16)
    for (image, oc, row, col), value in np.ndenumerate(acc):
        expected = slow_output(value, layer, oc)
        assert y[image, oc, row, col] == expected
        assert codes[image, oc, row, col] == slow_activation_code(expected, F32(1.5), 3)


def test_an_output_that_is_no_number_is_refused_with_its_channel_and_accumulator():
    spec = ConvLayer("c", IMAGE, 1, 2, 1, 1)
    norm = BatchNorm(*np.array([[0, 0], [1, 1], [1, 0], [0, 0]], F32))
    layer = TrainedLayer(spec, np.ones(spec.weight_shape, np.int8), F32(1e38), F32(1e38), norm)
    acc = np.array([[[3, 4]], [[0, 5]]])  # acc * 1e38 / 15 * 1e38 / 7 is infinite, and infinity * gamma of 0 is NaN
    with pytest.raises(InputError) as error:
        requantized_codes(acc, layer, 1.0, 4)
    assert str(error.value) == "the output of oc 1 must be a number at accumulator 5, not nan"


def test_a_deviation_of_zero_is_refused():
    layer = trained_network(tiny_network()).layers["features.0"]
    norm = BatchNorm(*np.array([[0] * 5, [1, 1, 1, 0, 0], [1] * 5, [0] * 5], F32), eps=0.0)
    broken = TrainedLayer(layer.spec, layer.weight_code, layer.alpha_w, layer.alpha_a, norm)
    with pytest.raises(InputError) as error:
        dequantize_accumulator(np.zeros((5, 1, 1), np.int32), broken)
    assert str(error.value) == "var + eps of oc 3 must be more than 0, not 0.0"
