"""Tiling and its inverse: round trips over odd shapes, NumPy and JAX alike, against plain loops."""

import jax.numpy as jnp
import numpy as np
import pytest
from helpers_tiling import accumulate, tile_output, untile_activation, untile_output, untile_weight
from hypothesis import given
from hypothesis import strategies as st

from factory.arithmetic import tiling
from factory.spec import ConvLayer, SystolicArray


@st.composite
def layers(draw):
    def size(low, high):
        return draw(st.integers(low, high))

    kernel, padding = size(1, 5), size(0, 2)
    least = max(1, kernel - 2 * padding)
    return ConvLayer(
        "c", "image", size(1, 20), size(1, 20), size(least, 9), size(least, 9),
        kernel=kernel, stride=size(1, 3), padding=padding,
    )  # fmt: skip


ARRAYS = st.builds(SystolicArray, rows=st.integers(1, 16), cols=st.integers(1, 16))


def values(conv, shape, seed=0):
    return np.random.default_rng(seed).integers(-7, 16, shape).astype(np.int8)


@given(layers(), ARRAYS)
def test_weight_tiles_join_to_the_weight(conv, array):
    weight = values(conv, conv.weight_shape)
    tiles = tiling.tile_weight(weight, array)
    grid = array.input_tiles(conv.in_channels), array.output_tiles(conv.out_channels)
    assert tiles.shape == (*grid, conv.kij_count, array.cols, array.rows)
    assert np.array_equal(untile_weight(tiles, conv), weight)
    assert int(np.abs(tiles.astype(int)).sum()) == int(np.abs(weight.astype(int)).sum())  # padding lanes are zero


@given(layers(), ARRAYS)
def test_activation_tiles_join_to_the_map(conv, array):
    maps = values(conv, (2, conv.in_channels, conv.height, conv.width))
    tiles = tiling.tile_activation(maps, conv, array)
    assert tiles.shape == (2, array.input_tiles(conv.in_channels), conv.nij_count, array.rows)
    assert np.array_equal(untile_activation(tiles, conv), maps)
    assert int(np.abs(tiles.astype(int)).sum()) == int(np.abs(maps.astype(int)).sum())


@given(layers(), ARRAYS)
def test_output_tiles_join_to_the_output(conv, array):
    output = values(conv, (2, conv.out_channels, conv.out_height, conv.out_width))
    tiles = tile_output(output, array)
    assert tiles.shape == (2, array.output_tiles(conv.out_channels), conv.onij_count, array.cols)
    assert np.array_equal(untile_output(tiles, conv), output)


@given(layers())
def test_each_output_pixel_reads_the_pixels_of_its_window(conv):
    table = tiling.nij_of_onij(conv)
    for oi in range(conv.out_height):
        for oj in range(conv.out_width):
            for ki in range(conv.kernel[0]):
                for kj in range(conv.kernel[1]):
                    nij = table[oi * conv.out_width + oj, ki * conv.kernel[1] + kj]
                    assert divmod(nij, conv.padded_width) == (oi * conv.stride[0] + ki, oj * conv.stride[1] + kj)


def test_accumulators_are_the_psums_sum():
    conv = ConvLayer("c", "image", 3, 5, 5, 7, kernel=3, stride=2, padding=1)
    array = SystolicArray(2, 4)
    maps, weight = values(conv, (2, 3, 5, 7)), values(conv, conv.weight_shape, 1)
    psum = np.einsum(
        "bInr,IOkcr->bIOknc",
        tiling.tile_activation(maps, conv, array).astype(np.int32),
        tiling.tile_weight(weight, array).astype(np.int32),
    )
    padded = np.pad(maps.astype(np.int64), ((0, 0), (0, 0), (1, 1), (1, 1)))
    expected = np.zeros((2, 5, conv.out_height, conv.out_width), np.int64)
    for image, oc, y, x in np.ndindex(expected.shape):
        expected[image, oc, y, x] = (padded[image, :, 2 * y : 2 * y + 3, 2 * x : 2 * x + 3] * weight[oc]).sum()
    found = untile_output(accumulate(psum, conv), conv)
    assert found.dtype == np.int32
    assert np.array_equal(found, expected)


@pytest.mark.parametrize("name", ["tile_activation", "tile_weight"])
def test_jax_arrays_stay_jax_arrays(name):
    conv, array = ConvLayer("c", "image", 3, 5, 5, 7), SystolicArray(2, 4)
    given_array = values(conv, (2, 3, 5, 7) if name == "tile_activation" else conv.weight_shape)
    arguments = (conv, array) if name == "tile_activation" else (array,)
    expected = getattr(tiling, name)(given_array, *arguments)
    found = getattr(tiling, name)(jnp.asarray(given_array), *arguments)
    assert isinstance(found, jnp.ndarray) and found.dtype == expected.dtype
    assert np.array_equal(found, expected)
