"""The engine against an independent torch program's codes and accumulators, on the shipped weights."""

import functools

import jax.numpy as jnp
import numpy as np
import pytest
from helpers_tiling import accumulate, untile_output

from factory.checkpoint import load_weights
from factory.engine import convolve, forward, input_codes, layer_psums, logits, next_codes, prepare
from factory.lower import lower

pytestmark = pytest.mark.reference
trained = functools.cache(load_weights)


@functools.cache
def engine():
    return prepare(lower(trained()))


@pytest.fixture(scope="module")
def arrays(reference):
    with np.load(reference / "reference_w4a4.npz") as file:
        return dict(file)


def reference_codes(arrays, conv) -> np.ndarray:
    codes = arrays[f"{conv.name}.activation_code"]
    return codes if conv.signed else codes.astype(np.uint8)


def test_input_codes(arrays):
    codes = input_codes(engine().input_table, jnp.asarray(arrays["pixels"]))
    np.testing.assert_array_equal(codes, arrays["features.0.activation_code"])


@pytest.mark.parametrize("place", range(13))
def test_every_layer_fed_the_reference_codes(arrays, place):
    conv = trained().network.layers[place]
    layer, codes = engine().layers[conv.name], jnp.asarray(reference_codes(arrays, conv))
    np.testing.assert_array_equal(trained().layers[conv.name].weight_code, arrays[f"{conv.name}.weight_code"])
    accumulator = convolve(layer, codes)
    np.testing.assert_array_equal(accumulator, arrays[f"{conv.name}.accumulator"])
    psum = np.asarray(layer_psums(layer, codes[:2]))
    assert psum.dtype == np.int16
    np.testing.assert_array_equal(untile_output(accumulate(psum, conv), conv), arrays[f"{conv.name}.accumulator"][:2])
    if conv != trained().network.last:
        (following,) = trained().network.consumers(conv.name)
        differ = np.asarray(next_codes(layer, accumulator)) != reference_codes(arrays, following)
        assert differ.mean() <= 1e-5


def test_end_to_end_predictions(arrays):
    *_, last = forward(engine(), arrays["pixels"])
    found = logits(trained(), np.asarray(last.accumulator))
    np.testing.assert_array_equal(found.argmax(axis=1), arrays["logits"].argmax(axis=1))
    assert np.abs(found - arrays["logits"]).max() < 0.2
