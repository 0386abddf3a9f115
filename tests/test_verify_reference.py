"""The verifier's second path against plain loops, the package's own functions, and the reference accumulators."""

import numpy as np
import pytest
from helpers_network import odd_network, random_pixels, trained_network
from helpers_tiling import accumulate, untile_output
from hypothesis import given
from hypothesis import strategies as st

from factory.arithmetic import tiling
from factory.arithmetic.integer import max_pool, threshold_codes
from factory.lower import lower
from factory.quant.host import dequantize_accumulator, requantized_codes
from factory.spec import InputError, SystolicArray, part1
from factory.verify import reference
from factory.verify.stored import choose

ARRAYS = [SystolicArray(4, 4), SystolicArray(8, 16), SystolicArray(16, 4)]


def random_codes(conv, seed=0):
    low = -conv.activation_qmax if conv.signed else 0
    shape = (conv.in_channels, conv.height, conv.width)
    return np.random.default_rng(seed).integers(low, conv.activation_qmax + 1, shape)


@pytest.mark.parametrize("conv", odd_network().layers, ids=lambda conv: conv.name)
def test_convolution_equals_loops(conv):
    codes, weight = random_codes(conv), trained_network(odd_network()).layers[conv.name].weight_code
    expected = np.zeros((conv.out_channels, conv.out_height, conv.out_width), np.int64)
    for oc, oi, oj in np.ndindex(expected.shape):
        for ic, ki, kj in np.ndindex(weight.shape[1:]):
            y, x = oi * conv.stride[0] + ki - conv.padding[0], oj * conv.stride[1] + kj - conv.padding[1]
            if 0 <= y < conv.height and 0 <= x < conv.width:
                expected[oc, oi, oj] += int(codes[ic, y, x]) * int(weight[oc, ic, ki, kj])
    assert np.array_equal(reference.direct_convolution(codes, weight, conv), expected)


@pytest.mark.parametrize("array", ARRAYS, ids=lambda array: f"{array.rows}x{array.cols}")
@pytest.mark.parametrize("conv", odd_network().layers, ids=lambda conv: conv.name)
def test_tiles_and_psums_equal_the_tiling(conv, array):
    codes, weight = random_codes(conv), trained_network(odd_network()).layers[conv.name].weight_code
    weights, activations = tiling.tile_weight(weight, array), tiling.tile_activation(codes, conv, array)
    its, ots = range(weights.shape[0]), range(weights.shape[1])
    psum = np.zeros((len(its), len(ots), conv.kij_count, conv.nij_count, array.cols), np.int64)
    for it in its:
        entering = reference.activation_tile(codes, conv, array, it)
        assert np.array_equal(entering, activations[it])
        for ot in ots:
            tile = reference.weight_tile(weight, array, it, ot)
            assert np.array_equal(tile, weights[it, ot])
            psum[it, ot] = reference.psum_tile(entering, tile)
    accumulators = untile_output(accumulate(psum, conv), conv)
    assert np.array_equal(accumulators, reference.direct_convolution(codes, weight, conv))


def test_codes_equal_those_of_the_lowered_network():
    trained = trained_network(odd_network())
    network, integer, image = trained.network, lower(trained), random_pixels(odd_network(), 1)[0]
    codes = reference.input_codes(image, network, network.layers[0], trained.layers[network.layers[0].name].alpha_a)
    assert np.array_equal(codes, np.stack([integer.input_table[colour][image[colour]] for colour in range(len(image))]))
    for conv, following in zip(network.layers, network.layers[1:], strict=False):
        known, layer, alpha = (
            trained.layers[conv.name],
            integer.layers[conv.name],
            trained.layers[following.name].alpha_a,
        )
        accumulator = reference.direct_convolution(codes, layer.weight, conv)
        real = reference.real_outputs(accumulator, known)
        assert np.array_equal(real, dequantize_accumulator(accumulator, known))
        codes = reference.quantize(real, following, alpha)
        assert np.array_equal(codes, requantized_codes(accumulator, known, alpha, following.activation_bits))
        assert np.array_equal(codes, reference.count_thresholds(accumulator, layer.threshold, layer.direction))
        assert np.array_equal(codes, threshold_codes(accumulator, layer.threshold, layer.direction))
        pooled = reference.pool_codes(codes, conv.pool)
        assert np.array_equal(pooled, max_pool(codes, conv.pool))
        codes = pooled


@given(st.integers(1, 9), st.integers(1, 9), st.integers(1, 4), st.integers(0, 99))
def test_pool_drops_a_ragged_edge(height, width, window, seed):
    codes = np.random.default_rng(seed).integers(0, 16, (2, height, width))
    if height < window or width < window:
        return
    assert np.array_equal(reference.pool_codes(codes, window), max_pool(codes, window))


@pytest.mark.reference
def test_accumulators_equal_the_reference(request):
    with np.load(request.getfixturevalue("reference") / "reference_w4a4.npz") as known:
        for conv in part1().layers:
            weight, codes, accumulator = (
                known[f"{conv.name}.{name}"] for name in ("weight_code", "activation_code", "accumulator")
            )
            assert np.array_equal(reference.direct_convolution(codes[3], weight, conv), accumulator[3]), conv.name


def test_a_share_holds_every_layer_and_the_seed_decides():
    tiles = {"a": 3, "b": 100}
    five, again, other = (choose("5%", 4, tiles, seed) for seed in (1, 1, 2))
    assert list(five) == list(again) != list(other)
    assert len(five) == 1 + 20 and {unit.layer for unit in five} == {"a", "b"}
    assert [unit.image for unit in five] == sorted(unit.image for unit in five)


@given(st.integers(0, 40), st.integers(1, 5), st.integers(1, 4), st.integers(1, 4), st.integers(0, 9))
def test_a_count_chooses_that_many_without_repetition(count, images, first, second, seed):
    chosen = choose(count, images, {"a": first, "b": second}, seed)
    units = [(unit.image, unit.layer, ot) for unit in chosen for ot in unit.ots]
    assert len(units) == len(set(units)) == len(chosen) == min(count, images * (first + second))
    assert all(unit.image < images and max(unit.ots) < {"a": first, "b": second}[unit.layer] for unit in chosen)
    assert set(chosen.images_of("a")) == {unit.image for unit in chosen if unit.layer == "a"}


def test_all_is_everything():
    assert [(unit.image, unit.ots) for unit in choose("all", 2, {"a": 3})] == [(0, (0, 1, 2)), (1, (0, 1, 2))]


@pytest.mark.parametrize("sample", ["some", "-1", "101%", "-1%", "x%", "", "1.5", "nan%"])
def test_any_other_sample_is_an_error(sample):
    with pytest.raises(InputError) as error:
        choose(sample, 1, {"a": 1})
    expected = "sample must be all, a percentage from 0% to 100%, or a number of output tiles, not "
    assert str(error.value) == expected + sample
