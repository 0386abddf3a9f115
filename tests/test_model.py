"""The Flax model: its arithmetic against plain loops, against the integer network's formulas, and against torch."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from helpers_network import odd_network, random_pixels, tiny_network, trained_network

from factory.model import create_model, from_trained, layer_forward, logits, ops, predict, to_tensors
from factory.model.modules import QuantBatchNorm
from factory.quant import host
from factory.spec import IMAGE, BatchNorm, ConvLayer, InputError, Network, TrainedNetwork, part1, part2

SPECS = [
    ConvLayer("3x3", IMAGE, 3, 5, height=4, width=6),
    ConvLayer("5x5", IMAGE, 2, 3, height=5, width=3, kernel=5, padding=2),
    ConvLayer("1x1", IMAGE, 4, 2, height=3, width=3, kernel=1, padding=0),
    ConvLayer("stride", IMAGE, 2, 3, height=7, width=6, stride=2, padding=1),
    ConvLayer("small", IMAGE, 6, 4, height=2, width=2),
    ConvLayer("padded", IMAGE, 1, 2, height=2, width=3, kernel=2, stride=3, padding=2),
]
FORMS = [ops._convolve_xla, ops._convolve_patches]


def slow_convolution(activation: np.ndarray, weight: np.ndarray, spec: ConvLayer) -> np.ndarray:
    """Return int64 `(image, oc, oy, ox)` of integers `(image, ic, y, x)`, by a loop over output pixels and taps."""
    padded = np.pad(activation.astype(np.int64), ((0, 0), (0, 0)) + (spec.padding[::2], spec.padding[1::2]))
    out = np.zeros((len(activation), spec.out_channels, spec.out_height, spec.out_width), np.int64)
    for oy in range(spec.out_height):
        for ox in range(spec.out_width):
            for ki in range(spec.kernel[0]):
                for kj in range(spec.kernel[1]):
                    pixel = padded[:, :, oy * spec.stride[0] + ki, ox * spec.stride[1] + kj]
                    out[:, :, oy, ox] += pixel @ weight[:, :, ki, kj].astype(np.int64).T
    return out


def slow_max_pool(maps: np.ndarray, window: int) -> np.ndarray:
    *lead, height, width = maps.shape
    out = np.zeros((*lead, height // window, width // window), maps.dtype)
    for y in range(out.shape[-2]):
        for x in range(out.shape[-1]):
            square = maps[..., y * window : (y + 1) * window, x * window : (x + 1) * window]
            out[..., y, x] = square.max(axis=(-2, -1))
    return out


def slow_logits(trained: TrainedNetwork, pixels: np.ndarray) -> np.ndarray:
    """Return the logits by the host's formulas: codes, integer convolutions, steps."""
    network = trained.network
    table = host.pixel_values(network)
    maps = {IMAGE: np.stack([table[c][pixels[:, c]] for c in range(pixels.shape[1])], axis=1)}
    for spec in network.layers:
        layer = trained.layers[spec.name]
        codes = host.activation_codes(maps[spec.source], layer.alpha_a, spec.activation_bits)
        y = host.dequantize_accumulator(slow_convolution(codes, layer.weight_code, spec), layer)
        maps[spec.name] = slow_max_pool(y, spec.pool)
    features = maps[network.last.name].reshape(len(pixels), -1)
    return features @ trained.classifier_weight.T + trained.classifier_bias


def integers(spec: ConvLayer, images: int = 2) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(7)
    activation = random.integers(-8, 16, (images, spec.in_channels, spec.height, spec.width))
    return activation, random.integers(-7, 8, spec.weight_shape)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.name)
def test_convolution_is_the_plain_loops(form, spec):
    activation, weight = integers(spec)
    found = form(jnp.asarray(activation.transpose(0, 2, 3, 1), jnp.float32), jnp.asarray(weight, jnp.float32), spec)
    expected = slow_convolution(activation, weight, spec)
    np.testing.assert_array_equal(np.asarray(found).transpose(0, 3, 1, 2), expected)


@pytest.mark.parametrize("patch_bytes", [1, 1 << 30], ids=["image by image", "at once"])
@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.name)
def test_both_forms_of_convolution_have_the_same_gradients(spec, patch_bytes, monkeypatch):
    monkeypatch.setattr(ops, "_PATCH_BYTES", patch_bytes)
    activation, weight = integers(spec)
    arguments = jnp.asarray(activation.transpose(0, 2, 3, 1), jnp.float32), jnp.asarray(weight, jnp.float32)
    first, second = (jax.vjp(lambda a, w, form=form: form(a, w, spec), *arguments) for form in FORMS)
    g = jnp.asarray(np.random.default_rng(8).integers(-3, 4, first[0].shape), jnp.float32)
    for ours, theirs in zip(first[1](g), second[1](g), strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.name)
def test_bfloat16_products_are_summed_in_float32(spec):
    """Codes are exact in bfloat16, and so are their sums."""
    activation, weight = integers(spec)
    arguments = jnp.asarray(activation.transpose(0, 2, 3, 1), jnp.bfloat16), jnp.asarray(weight, jnp.bfloat16)
    found = ops.convolve_float(*arguments, spec)
    assert found.dtype == jnp.float32
    np.testing.assert_array_equal(np.asarray(found).transpose(0, 3, 1, 2), slow_convolution(activation, weight, spec))


@pytest.mark.parametrize(("spec", "gathers"), [(SPECS[0], False), (SPECS[4], True)], ids=["large", "small"])
def test_small_maps_on_a_cpu_are_multiplied_as_a_matrix(spec, gathers, monkeypatch):
    activation, weight = integers(spec)
    arguments = jnp.asarray(activation.transpose(0, 2, 3, 1), jnp.float32), jnp.asarray(weight, jnp.float32)
    for backend, expected in (("cpu", gathers), ("gpu", False)):
        monkeypatch.setattr(jax, "default_backend", lambda backend=backend: backend)
        text = str(jax.make_jaxpr(lambda *arrays: ops.convolve_float(*arrays, spec))(*arguments))
        assert ("conv_general_dilated" not in text) == expected


@pytest.mark.parametrize("window", [1, 2, 3])
def test_max_pool_takes_whole_squares(window):
    maps = np.random.default_rng(0).normal(size=(2, 5, 7, 3)).astype(np.float32)
    expected = slow_max_pool(maps.transpose(0, 3, 1, 2), window)
    np.testing.assert_array_equal(ops.max_pool_float(jnp.asarray(maps), window).transpose(0, 3, 1, 2), expected)


def test_batch_norm_in_training_uses_the_batch_and_learns_its_statistics():
    y = np.random.default_rng(0).normal(3, 2, (4, 2, 3, 5)).astype(np.float32)
    start = {name: np.full(5, value, np.float32) for name, value in dict(mean=1, var=2, gamma=3, beta=4).items()}
    norm = QuantBatchNorm(BatchNorm(**start))
    mean, var = y.mean((0, 1, 2), dtype=np.float64), y.var((0, 1, 2), dtype=np.float64)
    found = norm(jnp.asarray(y), train=True)
    np.testing.assert_allclose(found, (y - mean) / np.sqrt(var + 1e-5) * 3 + 4, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(norm.mean[...], 0.9 * 1 + 0.1 * mean, rtol=1e-5)
    np.testing.assert_allclose(norm.var[...], 0.9 * 2 + 0.1 * var * 24 / 23, rtol=1e-5)


@pytest.mark.parametrize("network", [odd_network(), odd_network(2), tiny_network()], ids=["odd4", "odd2", "tiny"])
def test_logits_are_those_of_the_integer_formulas(network):
    trained, pixels = trained_network(network), random_pixels(network, 3)
    expected = slow_logits(trained, pixels)
    np.testing.assert_allclose(logits(from_trained(trained), pixels), expected, rtol=1e-4, atol=1e-4)


def test_layers_take_the_map_that_their_source_names():
    """A graph is not a list: the second layer of this one is a side branch, and the third one reads the first."""
    tiny = tiny_network()
    first = tiny.layers[0]
    branch, last = (dataclasses.replace(tiny.layers[1], name=name, source=first.name) for name in ("branch", "last"))
    trained = trained_network(Network("graph", (first, branch, last), classes=3))
    pixels = random_pixels(tiny, 2)
    np.testing.assert_allclose(
        logits(from_trained(trained), pixels), slow_logits(trained, pixels), rtol=1e-4, atol=1e-4
    )


@pytest.mark.parametrize("batch", [1, 2, 3, 100])
def test_logits_do_not_depend_on_the_batch(batch):
    network = tiny_network()
    model, pixels = from_trained(trained_network(network)), random_pixels(network, 5)
    np.testing.assert_allclose(logits(model, pixels, batch), logits(model, pixels, 5), rtol=1e-5)
    np.testing.assert_array_equal(predict(model, pixels, batch), logits(model, pixels, 5).argmax(axis=1))


def test_no_images_have_no_logits():
    network = tiny_network()
    assert logits(from_trained(trained_network(network)), random_pixels(network, 0)).shape == (0, 3)


def test_evaluation_changes_nothing_in_the_model():
    network = tiny_network()
    model = from_trained(trained_network(network))
    before = jax.tree.map(np.asarray, nnx.to_pure_dict(nnx.state(model)))
    logits(model, random_pixels(network, 4))
    jax.tree.map(np.testing.assert_array_equal, nnx.to_pure_dict(nnx.state(model)), before)


@pytest.mark.parametrize("network", [odd_network(), odd_network(2)], ids=["4 bits", "2 bits"])
def test_codes_go_through_a_model_unchanged(network):
    trained = trained_network(network)
    tensors = to_tensors(from_trained(trained))
    for name, layer in trained.layers.items():
        np.testing.assert_array_equal(tensors[f"{name}.weight_code"], layer.weight_code)
        assert tensors[f"{name}.weight_code"].dtype == np.int8
        for field in ("alpha_w", "alpha_a"):
            np.testing.assert_array_equal(tensors[f"{name}.{field}"], getattr(layer, field))
        for field in ("mean", "var", "gamma", "beta") if layer.batch_norm else ():
            np.testing.assert_array_equal(tensors[f"{name}.batch_norm.{field}"], getattr(layer.batch_norm, field))
    np.testing.assert_array_equal(tensors["classifier.weight"], trained.classifier_weight)
    np.testing.assert_array_equal(tensors["classifier.bias"], trained.classifier_bias)


def test_float_weights_are_normalized_and_quantized_by_the_hosts_formula():
    trained = trained_network(tiny_network())
    random = np.random.default_rng(3)
    floats = {name: random.normal(5, 2, x.spec.weight_shape).astype(np.float32) for name, x in trained.layers.items()}
    tensors = to_tensors(from_trained(trained, floats))
    for name, layer in trained.layers.items():
        codes = host.weight_codes(floats[name], layer.alpha_w, layer.spec.weight_bits)
        np.testing.assert_array_equal(tensors[f"{name}.weight_code"], codes)


def test_a_layer_fed_codes_gives_the_recovered_accumulators():
    trained = trained_network(odd_network())
    model = from_trained(trained)
    for name, layer in trained.layers.items():
        spec = layer.spec
        codes = np.random.default_rng(4).integers(0, 16, (2, spec.in_channels, spec.height, spec.width))
        found = layer_forward(model, name, codes.astype(np.float32) * layer.activation_scale)
        accumulator = slow_convolution(codes, layer.weight_code, spec)
        expected = host.dequantize_accumulator(accumulator, layer)
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5 * expected.max())


def test_an_unknown_layer_is_named():
    model = from_trained(trained_network(tiny_network()))
    with pytest.raises(InputError, match=r"^layer must be one of features\.0 features\.3, not features\.1$"):
        layer_forward(model, "features.1", np.zeros((1, 5, 4, 4), np.float32))


@pytest.mark.parametrize(("network", "count"), [(part1(), 8_878_644), (part2(), 8_935_684)], ids=["part1", "part2"])
def test_parameter_counts(network, count):
    """Convolutions, two alphas each, gamma and beta, classifier: what torch counts for the notebook's classes."""
    model = nnx.eval_shape(lambda: create_model(network))
    assert sum(int(np.prod(x.shape)) for x in jax.tree.leaves(nnx.state(model, nnx.Param))) == count


def test_an_untrained_model_is_its_seeds():
    states = [nnx.to_pure_dict(nnx.state(create_model(tiny_network(), seed))) for seed in (1, 1, 2)]
    jax.tree.map(np.testing.assert_array_equal, states[0], states[1])
    weights = [state["layers"]["features.3"]["conv"]["weight"] for state in states]
    assert (np.asarray(weights[0]) != np.asarray(weights[2])).mean() > 0.9
    assert np.abs(weights[0]).max() <= 45**-0.5


def test_bfloat16_products_are_close_to_float32():
    network = tiny_network()
    model, pixels = from_trained(trained_network(network)), jnp.asarray(random_pixels(network, 4))
    exact, rounded = model(pixels), model(pixels, dtype=jnp.bfloat16)
    assert rounded.dtype == jnp.float32
    assert 0 < np.abs(exact - rounded).max() < 0.1 * np.abs(exact).max()


@pytest.mark.reference
@pytest.mark.torch
@pytest.mark.parametrize(
    ("checkpoint", "npz"),
    [("model_best.pth.tar", "reference_w4a4.npz"), ("model_part2.pth.tar", "reference_w4a2.npz")],
    ids=["part1", "part2"],
)
def test_the_reference_predictions_are_torchs(reference, checkpoint, npz):
    from factory.checkpoint import import_checkpoint, import_float_weights

    trained, floats = import_checkpoint(reference / checkpoint), import_float_weights(reference / checkpoint)
    data = np.load(reference / npz)
    for model in (from_trained(trained), from_trained(trained, floats)):
        found = logits(model, data["pixels"])
        np.testing.assert_array_equal(found.argmax(axis=1), data["logits"].argmax(axis=1))
        assert np.abs(found - data["logits"]).max() < 0.2
        tensors = to_tensors(model)
        for name, layer in trained.layers.items():
            np.testing.assert_array_equal(tensors[f"{name}.weight_code"], layer.weight_code)


def test_a_model_to_train_has_weights_as_small_as_untrained_ones():
    """Else a learning rate would hardly move them; their codes and what the network gives do not depend on it."""
    trained = trained_network(odd_network())
    plain, small, fresh = from_trained(trained), from_trained(trained, to_train=True), create_model(trained.network)
    for name, layer in small.layers.items():
        np.testing.assert_array_equal(layer.conv.quantized_weight(), plain.layers[name].conv.quantized_weight())
        deviation, untrained = (float(jnp.std(x.conv.weight[...])) for x in (layer, fresh.layers[name]))
        assert untrained / 3 < deviation < untrained * 3
    for name, array in to_tensors(plain).items():
        np.testing.assert_array_equal(to_tensors(small)[name], array)
