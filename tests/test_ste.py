"""The trainable quantizers: values against the host's formulas, gradients against finite ones."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from factory.quant import host, ste

ALPHA = jnp.float32(1.5)


def random(seed: int, *shape: int, scale: float = 1.0) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, scale, shape).astype(np.float32)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 1000), st.integers(2, 8), st.floats(0.25, 4, width=32))
def test_weight_codes_are_the_hosts(seed, bits, alpha):
    weight = random(seed, 6, 5, 3, 3, scale=0.1)
    levels = 2 ** (bits - 1) - 1
    real = ste.quantize_weight(ste.normalize_weight(jnp.asarray(weight)), jnp.float32(alpha), bits)
    codes = np.rint(np.asarray(real) / (np.float32(alpha) / np.float32(levels)))
    away = np.abs(host.scaled_weights(weight, alpha, bits) % 1 - 0.5) > 1e-4  # from where mean's last bit decides
    np.testing.assert_array_equal(codes[away], host.weight_codes(weight, alpha, bits)[away])


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 1000), st.integers(1, 8), st.floats(0.25, 4, width=32))
def test_activation_codes_are_the_hosts(seed, bits, alpha):
    values = random(seed, 200, scale=2)
    real = ste.quantize_activation(jnp.asarray(values), jnp.float32(alpha), bits)
    codes = np.rint(np.asarray(real) / (np.float32(alpha) / np.float32(2**bits - 1)))
    np.testing.assert_array_equal(codes, host.activation_codes(values, alpha, bits))


def test_halves_round_to_even():
    halves = jnp.array([0.5, 1.5, 2.5, -0.5, -1.5, -2.5], jnp.float32)
    even = np.array([0, 2, 2, 0, -2, -2], np.float32)
    np.testing.assert_array_equal(ste.quantize_weight(halves, jnp.float32(7), 4), even)
    np.testing.assert_array_equal(ste.quantize_activation(halves, jnp.float32(15), 4), even)


def test_normalized_weight_divides_by_the_deviation_of_n_minus_1():
    weight = jnp.array([1.0, 2.0, 6.0], jnp.float32)
    np.testing.assert_allclose(ste.normalize_weight(weight), (np.array([1, 2, 6]) - 3) / 7**0.5, rtol=1e-6)


def test_normalizing_scales_the_gradient_by_one_over_the_deviation():
    weight, g = jnp.array([1.0, 2.0, 6.0], jnp.float32), jnp.array([1.0, -2.0, 3.0], jnp.float32)
    _, back = jax.vjp(ste.normalize_weight, weight)
    np.testing.assert_allclose(back(g)[0], np.asarray(g) / 7**0.5, rtol=1e-6)


@pytest.mark.parametrize("bits", [2, 4, 8])
def test_weight_gradient_is_straight_through_and_the_clipped_part_goes_to_alpha(bits):
    weight = np.concatenate([random(1, 50, scale=1.5), np.float32([1.5, -1.5, 0, 9, -9])])
    g = random(2, weight.size)
    _, back = jax.vjp(lambda w, a: ste.quantize_weight(w, a, bits), jnp.asarray(weight), ALPHA)
    to_weight, to_alpha = back(jnp.asarray(g))
    clipped = np.abs(weight) > 1.5
    assert 5 < clipped.sum() < 40
    np.testing.assert_array_equal(to_weight, np.where(clipped, 0, g))
    np.testing.assert_allclose(to_alpha, (g * np.sign(weight))[clipped].astype(np.float64).sum(), rtol=1e-5)


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_activation_gradient_is_straight_through_and_the_clipped_part_goes_to_alpha(bits):
    values = np.concatenate([random(3, 50, scale=1.5), np.float32([1.5, -1.5, 0, 9, -9])])
    g = random(4, values.size)
    _, back = jax.vjp(lambda a, alpha: ste.quantize_activation(a, alpha, bits), jnp.asarray(values), ALPHA)
    to_values, to_alpha = back(jnp.asarray(g))
    clipped = values > 1.5  # nothing is clipped from below
    assert 3 < clipped.sum() < 30
    np.testing.assert_array_equal(to_values, np.where(clipped, 0, g))
    np.testing.assert_allclose(to_alpha, g[clipped].astype(np.float64).sum(), rtol=1e-5)


@pytest.mark.parametrize(
    ("quantize", "sign"), [(ste.quantize_weight, 1.0), (ste.quantize_weight, -1.0), (ste.quantize_activation, 1.0)]
)
def test_alpha_gradient_is_the_finite_difference_of_the_clipped_values(quantize, sign):
    """Where every value is clipped, the function is smooth in alpha and its slope can be measured."""
    values, g = jnp.array([5.0, 6.0, 9.0], jnp.float32), jnp.array([1.0, -2.0, 4.0], jnp.float32)

    def total(alpha):
        return (g * quantize(sign * values, alpha, 4)).sum()

    slope = (total(ALPHA + 0.25) - total(ALPHA - 0.25)) / 0.5
    np.testing.assert_allclose(jax.grad(total)(ALPHA), slope, rtol=1e-5)
    np.testing.assert_allclose(slope, 3 * sign, rtol=1e-5)
