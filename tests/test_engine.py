import functools
from dataclasses import replace

import jax.numpy as jnp
import numpy as np
import pytest
from helpers_network import integer_network, odd_network, random_pixels, trained_network
from helpers_tiling import accumulate, untile_output
from helpers_twin import twin_accumulators, twin_next_codes, twin_psums

from factory.arithmetic.tiling import tile_activation
from factory.engine import (
    activation_tiles,
    convolve,
    forward,
    input_codes,
    layer_psums,
    logits,
    needed_layers,
    next_codes,
    prepare,
    prepare_layer,
)
from factory.engine.parameters import FLOAT32_EXACT
from factory.lower import lower
from factory.quant.host import dequantize_accumulator
from factory.spec import ConvLayer, IntegerLayer, SystolicArray, accumulator_range

ARRAYS = [SystolicArray(4, 4), SystolicArray(8, 8), SystolicArray(8, 16), SystolicArray(16, 4)]
LAYERS = [conv.name for conv in odd_network().layers]
lowered = functools.cache(integer_network)


def random_codes(layer: IntegerLayer, count: int, seed: int = 0) -> np.ndarray:
    low, high = (x[:, None, None] for x in (layer.activation_low, layer.activation_high))
    shape = (count, layer.spec.in_channels, layer.spec.height, layer.spec.width)
    codes = np.random.default_rng(seed).integers(low, high + 1, shape)
    return codes.astype(np.int8 if layer.spec.signed else np.uint8)


def single_layer(low=0, high=15, **fields) -> IntegerLayer:
    conv = ConvLayer(**dict(name="c", source="image", in_channels=3, out_channels=4, height=4, width=5) | fields)
    levels = conv.weight_qmax
    weight = np.random.default_rng(1).integers(-levels, levels + 1, conv.weight_shape).astype(np.int8)
    low, high = (np.full(conv.in_channels, x, np.int16) for x in (low, high))
    return IntegerLayer(conv, weight, low, high, accumulator_range(conv, weight, low, high), None, None)


# The fast path equals the notebook's plain loops.


@pytest.mark.parametrize("array", ARRAYS, ids=lambda a: f"{a.rows}x{a.cols}")
@pytest.mark.parametrize("name", LAYERS)
def test_every_layer_equals_the_plain_loops(name, array):
    layer = lowered(odd_network()).layers[name]
    engine, codes = prepare_layer(layer, array), random_codes(layer, 2)
    psum = np.asarray(layer_psums(engine, jnp.asarray(codes)))
    assert psum.dtype == np.int16
    np.testing.assert_array_equal(psum, np.stack([twin_psums(layer, array, image) for image in codes]))
    accumulator = np.asarray(convolve(engine, jnp.asarray(codes)))
    np.testing.assert_array_equal(accumulator, np.stack([twin_accumulators(layer, image) for image in codes]))
    sums = accumulate(psum, layer.spec)
    np.testing.assert_array_equal(untile_output(sums, layer.spec), accumulator)
    tiles = np.asarray(activation_tiles(engine, jnp.asarray(codes)))
    assert tiles.dtype == codes.dtype
    np.testing.assert_array_equal(tiles, tile_activation(codes, layer.spec, array))


def test_psums_take_the_memory_of_psums_that_are_done_with():
    layer = single_layer()
    engine, (first, second) = prepare_layer(layer, SystolicArray()), random_codes(layer, 2)
    old = layer_psums(engine, jnp.asarray(first[None]))
    place = old.unsafe_buffer_pointer()
    new = layer_psums(engine, jnp.asarray(second[None]), old)
    assert old.is_deleted() and new.unsafe_buffer_pointer() == place
    np.testing.assert_array_equal(new[0], twin_psums(layer, SystolicArray(), second))


def test_psums_that_are_still_read_are_not_overwritten():
    layer = single_layer()
    engine, (first, second) = prepare_layer(layer, SystolicArray()), random_codes(layer, 2)
    old = layer_psums(engine, jnp.asarray(first[None]))
    view = np.from_dlpack(old)
    layer_psums(engine, jnp.asarray(second[None]), old)
    np.testing.assert_array_equal(view[0], twin_psums(layer, SystolicArray(), first))


@pytest.mark.parametrize("name", LAYERS[:-1])
def test_next_codes_equal_the_plain_loops(name):
    layer = lowered(odd_network()).layers[name]
    assert set(layer.direction) == {-1, 1}
    accumulator = np.stack([twin_accumulators(layer, image) for image in random_codes(layer, 3)]).astype(np.int32)
    codes = np.asarray(next_codes(prepare_layer(layer, SystolicArray()), jnp.asarray(accumulator)))
    assert codes.dtype == np.uint8
    np.testing.assert_array_equal(codes, np.stack([twin_next_codes(layer, image) for image in accumulator]))
    assert len(np.unique(codes)) > 4


def test_thresholds_at_their_very_values():
    threshold, direction = np.array([[-5, 0, 7]] * 4, np.int32), np.array([1, -1, 1, -1], np.int8)
    layer = replace(single_layer(), threshold=threshold, direction=direction)
    values = np.array([-6, -5, -4, -1, 0, 1, 6, 7, 8] + [0] * 11, np.int32)
    accumulator = np.broadcast_to(values.reshape(1, 1, 4, 5), (1, 4, 4, 5))
    codes = np.asarray(next_codes(prepare_layer(layer, SystolicArray()), jnp.asarray(accumulator)))
    assert codes[0, 0].ravel()[:9].tolist() == [0, 1, 1, 1, 2, 2, 2, 3, 3]
    assert codes[0, 1].ravel()[:9].tolist() == [3, 3, 2, 2, 2, 1, 1, 1, 0]


def test_the_last_layer_has_no_next_codes():
    engine = prepare_layer(single_layer(), SystolicArray())
    with pytest.raises(ValueError, match="c: it has no thresholds, because no layer follows it"):
        next_codes(engine, jnp.zeros((1, 4, 4, 5), jnp.int32))


def test_one_tile_worked_by_hand():
    conv = ConvLayer("c", "image", 2, 1, 1, 2, kernel=1, padding=0)
    weight, range16 = np.array([3, -7], np.int8).reshape(1, 2, 1, 1), np.array([15, 15], np.int16)
    reachable = accumulator_range(conv, weight, range16 * 0, range16)
    layer = IntegerLayer(conv, weight, range16 * 0, range16, reachable, None, None)
    codes = jnp.asarray(np.array([[[[1, 2]], [[15, 0]]]], np.uint8))
    psum = layer_psums(prepare_layer(layer, SystolicArray(2, 2)), codes)
    assert psum.tolist() == [[[[[[3 - 105, 0], [6, 0]]]]]]


# Types: int16 where the exact bound fits, else int32; float32 only where it is exact.


@pytest.mark.parametrize(
    ("bits", "rows", "dtype"), [(4, 8, np.int16), (8, 1, np.int16), (8, 2, np.int32), (8, 64, np.int32)]
)
def test_psums_are_int16_only_where_the_bound_fits(bits, rows, dtype):
    layer = single_layer(high=2**bits - 1, in_channels=70, weight_bits=bits, activation_bits=bits)
    codes = jnp.asarray(np.full((1, 70, 4, 5), 2**bits - 1, np.uint8))
    psum = np.asarray(layer_psums(prepare_layer(layer, SystolicArray(rows, 8)), codes))
    assert psum.dtype == dtype
    np.testing.assert_array_equal(psum[0], twin_psums(layer, SystolicArray(rows, 8), np.asarray(codes[0])))


def test_accumulators_beyond_float32_are_split_into_exact_parts():
    layer = single_layer(high=255, in_channels=300, weight_bits=8, activation_bits=8, out_channels=2)
    layer.weight[0], layer.weight[1] = 127, np.where(np.arange(300)[:, None, None] % 2, 127, -127)
    engine, codes = prepare_layer(layer, SystolicArray()), np.full((1, 300, 4, 5), 255, np.uint8)
    codes[0, 0, 0, 0] = 254
    assert engine.matmul_groups > 1
    found = np.asarray(convolve(engine, jnp.asarray(codes)))
    assert found.max() > FLOAT32_EXACT
    np.testing.assert_array_equal(found[0], twin_accumulators(layer, codes[0]))


def test_float32_psums_beyond_the_bound_are_refused():
    layer = single_layer(high=255, in_channels=600, weight_bits=8, activation_bits=8)
    layer.weight[...] = 127
    with pytest.raises(ValueError, match=r"^c: psums must be within 16777216 for float32, not 0\.\.19431000$"):
        prepare_layer(layer, SystolicArray(600, 8), "float32")
    assert prepare_layer(layer, SystolicArray(600, 8)).row_weight.dtype == np.int32


# The network


def test_forward_equals_the_plain_loops():
    integer, pixels = lowered(odd_network()), random_pixels(odd_network(), 2)
    codes = [np.stack([integer.input_table[c][image[c]] for c in range(3)]) for image in pixels]
    for values in forward(prepare(integer), pixels):
        layer = integer.layers[values.layer.spec.name]
        np.testing.assert_array_equal(values.activation, np.stack(codes))
        sums = [twin_accumulators(layer, image) for image in codes]
        np.testing.assert_array_equal(values.accumulator, np.stack(sums))
        codes = [twin_next_codes(layer, image) for image in sums] if layer.threshold is not None else []
    assert values.layer.spec == odd_network().last


def test_input_codes_look_up_every_pixel_value():
    table = np.arange(-128, 128).astype(np.int8) * np.array([[1], [-1]], np.int8)
    pixels = np.arange(256).astype(np.uint8).reshape(1, 1, 16, 16).repeat(2, axis=1)
    codes = np.asarray(input_codes(jnp.asarray(table), jnp.asarray(pixels)))
    np.testing.assert_array_equal(codes.reshape(2, 256), table)


def test_only_the_needed_layers_are_computed():
    network = odd_network()
    chosen = network.select(network.layers[2].name)
    assert needed_layers(network, chosen) == network.layers[:3]
    engine, pixels = prepare(lowered(network)), random_pixels(network, 1)
    (only,) = forward(engine, pixels, chosen)
    assert only.layer.spec == network.layers[2]
    np.testing.assert_array_equal(only.accumulator, list(forward(engine, pixels))[2].accumulator)


def test_logits_are_the_classifier_of_the_last_layer():
    network = odd_network()
    trained = trained_network(network)
    *_, last = forward(prepare(lower(trained)), random_pixels(network, 3))
    accumulator = np.asarray(last.accumulator)
    found = logits(trained, accumulator)
    assert (found.shape, found.dtype) == ((3, network.classes), np.float32)
    features = dequantize_accumulator(accumulator, trained.layers[network.last.name]).astype(np.float64)
    for image, row in zip(features, found, strict=True):
        expected = trained.classifier_weight.astype(np.float64) @ image.ravel() + trained.classifier_bias
        assert np.abs(row - expected).max() <= 1e-5 * np.abs(expected).max()
