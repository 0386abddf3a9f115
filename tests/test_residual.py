"""Residual networks in integers: fixed point against its formula and a second path, the same bits everywhere, torch."""

import functools
import json
import math
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers_network import integer_network, random_pixels, residual_network, tiny_network, trained_network
from helpers_twin import twin_accumulators, twin_next_codes

from factory import InputError
from factory.arithmetic.integer import threshold_codes
from factory.checkpoint import import_checkpoint
from factory.engine import (
    add_stream,
    convolve,
    forward,
    layer_term,
    next_codes,
    outputs,
    prepare,
    results_digest,
    stem_term,
    stream_codes,
    stream_logits,
)
from factory.evaluate import compare_with_reference
from factory.lower import lower
from factory.lower.fixed import linear, stream_thresholds
from factory.lower.fixed import stream_codes as formula_codes
from factory.quant.host import requantized_codes
from factory.spec import (
    ConvLayer,
    IntegerNetwork,
    Network,
    Stem,
    Stream,
    TrainedNetwork,
    accumulator_ranges,
    load_network,
    resnet,
)
from factory.spec.layer import IMAGE
from factory.verify.streams import StreamArithmetic

F32 = np.float32
NETWORKS = [residual_network(), residual_network(quantized_stem=True)]


@functools.cache
def imported(reference: Path) -> TrainedNetwork:
    return import_checkpoint(reference / "resnet20_quant.pth.tar")


@functools.cache
def lowered(reference: Path) -> IntegerNetwork:
    return lower(imported(reference))


def readers(network: Network) -> list[ConvLayer]:
    streams = {stream.name for stream in network.streams}
    return [spec for spec in network.layers if spec.source in streams]


def twin(trained: TrainedNetwork, integer: IntegerNetwork, image: np.ndarray) -> dict[str, np.ndarray]:
    """Return the codes that enter each layer and each stream of an image, by plain loops and the second path."""
    arithmetic, maps, found = StreamArithmetic(trained), {}, {}
    if integer.input_table is not None:
        maps[IMAGE] = np.stack([integer.input_table[c][image[c]] for c in range(len(image))])
    for step in trained.network.steps:
        if isinstance(step, Stem):
            maps[step.name] = arithmetic.stem_term(image)
        elif isinstance(step, Stream):
            maps[step.name] = found[step.name] = np.maximum(sum(maps[name] for name in step.inputs), 0)
        else:
            layer, codes = integer.layers[step.name], maps[step.source][:, :: step.source_stride, :: step.source_stride]
            if step in readers(trained.network):
                real = arithmetic.values(codes) / trained.layers[step.name].alpha_a
                codes = np.rint(np.minimum(real, F32(1)) * F32(step.activation_qmax)).astype(np.int64)
            found[step.name], accumulator = codes, twin_accumulators(layer, codes)
            if step.name in trained.network.entering:
                maps[step.name] = arithmetic.layer_term(step.name, accumulator)
            elif trained.network.consumers(step.name):
                maps[step.name] = twin_next_codes(layer, accumulator)
    return found


@pytest.mark.parametrize("network", NETWORKS, ids=("float stem", "quantized stem"))
@pytest.mark.parametrize("seed", range(3))
def test_the_engine_is_the_second_path(network, seed):
    trained, pixels = trained_network(network, seed), random_pixels(network, 2, seed)
    integer = lower(trained)
    engine = prepare(integer)
    values = list(forward(engine, pixels))
    last = np.asarray(outputs(engine, pixels))
    for place, image in enumerate(pixels):
        expected = twin(trained, integer, image)
        for each in values:
            np.testing.assert_array_equal(each.activation[place], expected[each.layer.spec.name])
            np.testing.assert_array_equal(
                each.accumulator[place],
                twin_accumulators(integer.layers[each.layer.spec.name], expected[each.layer.spec.name]),
            )
        np.testing.assert_array_equal(last[place], expected[network.output])


def assert_terms_are_the_formula(trained: TrainedNetwork, integer: IntegerNetwork) -> None:
    """Every reachable accumulator: the term is its formula's, rounded to the nearest, in the engine and in int64."""
    streams, engine = integer.streams, prepare(integer)
    assert set(streams.terms) == {spec.name for spec in trained.network.layers} & trained.network.entering
    for name, term in streams.terms.items():
        layer, known = integer.layers[name], trained.layers[name]
        least, most = accumulator_ranges(layer.spec, layer.weight, layer.activation_low, layer.activation_high)
        every = np.minimum(least[:, None] + np.arange((most - least).max() + 1), most[:, None])
        found = (term.multiplier[:, None] * every + term.offset[:, None]) >> term.shift
        on_device = layer_term(engine.streams.terms[name], jnp.asarray(every[None, :, :, None], jnp.int32))
        np.testing.assert_array_equal(np.asarray(on_device)[0, :, :, 0], found)
        factor, offset = linear(name, known.batch_norm, layer.spec.out_channels)
        factor = factor * np.float64(known.activation_scale) * np.float64(known.weight_scale)
        exact = (factor[:, None] * every + offset[:, None]) * 2.0**streams.fraction_bits
        assert np.abs(found - exact).max() <= 0.76  # a half of rounding, a quarter of the multiplier's
        assert np.abs(found).max() <= 2**30


@pytest.mark.parametrize("network", NETWORKS, ids=("float stem", "quantized stem"))
def test_every_term_is_the_formula(network):
    trained = trained_network(network, 5)
    assert_terms_are_the_formula(trained, lower(trained))


@pytest.mark.reference
def test_every_term_of_the_courses_network_is_the_formula(reference):
    assert_terms_are_the_formula(imported(reference), lowered(reference))


@pytest.mark.reference
def test_every_row_of_the_courses_network_is_the_formula_everywhere(reference):
    trained, integer = imported(reference), lowered(reference)
    for spec in trained.network.layers:
        layer, takers = integer.layers[spec.name], trained.network.consumers(spec.name)
        assert (layer.threshold is None) == (not takers) == (spec.name in trained.network.entering)
        if takers:
            least, most = accumulator_ranges(spec, layer.weight, layer.activation_low, layer.activation_high)
            every = np.minimum(least[:, None] + np.arange((most - least).max() + 1), most[:, None])[..., None]
            taker = trained.layers[takers[0].name]
            expected = requantized_codes(every, trained.layers[spec.name], taker.alpha_a, taker.spec.activation_bits)
            assert (threshold_codes(every.astype(np.int32), layer.threshold, layer.direction) == expected).all()


@pytest.mark.reference
def test_every_reader_of_a_stream_has_the_formulas_codes(reference):
    """Beside every threshold and at both ends, which is everywhere, as the formula is monotone; one reader wholly."""
    trained, streams = imported(reference), lowered(reference).streams
    assert streams.fraction_bits == 23
    chosen = readers(trained.network)
    assert set(streams.threshold) == {spec.name for spec in chosen} and len(chosen) == 11
    for spec in chosen:
        row, most = streams.threshold[spec.name].astype(np.int64), streams.reach[spec.source].high
        near = (row[:, None] + np.arange(-300, 300)).ravel()
        places = np.unique(np.concatenate([near, [0, most]]).clip(0, most))
        if spec == chosen[0]:
            places = np.concatenate([np.arange(row[-1] + 300), [most]])
        alpha = trained.layers[spec.name].alpha_a
        expected = formula_codes(places, alpha, spec.activation_bits, streams.fraction_bits)
        np.testing.assert_array_equal(np.searchsorted(row, places, side="right"), expected)
        assert (np.diff(expected) >= 0).all() and expected[-1] == 15


def test_a_row_of_thresholds_worked_by_hand():
    # 2 fraction bits, alpha 3 in 2 bits: the code is the value rounded, a tie to the even one, at most 3
    assert stream_thresholds(F32(3), 2, 2, 100).tolist() == [3, 6, 11]
    assert stream_thresholds(F32(3), 2, 2, 7).tolist() == [3, 6, 8]
    codes = stream_codes(jnp.arange(13, dtype=jnp.int32)[None, None, None], jnp.array([3, 6, 11], jnp.int32), 1)
    assert np.asarray(codes).ravel().tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2, 2, 2, 3, 3]


def test_the_streams_stay_within_their_reach_and_near_the_float_network():
    from factory.model import from_trained, real_maps

    for network in NETWORKS:
        trained, pixels = trained_network(network, 1), random_pixels(network, 3)
        integer = lower(trained)
        stream = np.asarray(outputs(prepare(integer), pixels))
        assert 0 <= stream.min() and stream.max() <= integer.streams.reach[network.output].high < 2**30
        logits = stream_logits(trained, stream, integer.streams.fraction_bits)
        real = real_maps(from_trained(trained), pixels)
        np.testing.assert_allclose(stream * 2.0**-integer.streams.fraction_bits, real[network.output], atol=1e-4)
        assert logits.shape == (3, 4) and logits.dtype == F32


PIXELS = random_pixels(residual_network(), 12)
DIGEST = "1518bf98214ba01418b647250ebdc108dfa96b3292630688cc3693a0b85cd797"


@functools.cache
def digest(batch: int, arithmetic="fastest") -> str:
    engine = prepare(integer_network(residual_network()), arithmetic=arithmetic)
    return results_digest(engine, [PIXELS[first : first + batch] for first in range(0, len(PIXELS), batch)])


def test_the_digest_is_known_whatever_the_batch_and_the_arithmetic():
    assert {digest(12), digest(5), digest(12, "int32")} == {DIGEST}


def test_jit_does_not_matter():
    network = resnet("tiny", (2, 3), 6, activation_bits=2, image=(3, 4, 4), classes=2)
    engine, pixels = prepare(integer_network(network)), random_pixels(network, 1)
    with jax.disable_jit():
        eager = results_digest(engine, [pixels])
    assert eager == results_digest(engine, [pixels])


def test_devices_do_not_matter():
    code = "import sys; sys.path[:0] = sys.argv[1:]; from test_residual import digest; print(digest(12))"
    environment = os.environ | {"XLA_FLAGS": "--xla_force_host_platform_device_count=2"}
    arguments = [sys.executable, "-c", code, str(Path(__file__).parent), str(Path.cwd())]
    found = subprocess.run(arguments, env=environment, capture_output=True, text=True, timeout=300)
    assert (found.stdout.strip(), found.stderr) == (DIGEST, "")


@pytest.mark.reference
def test_fed_torchs_codes_the_network_makes_torchs(reference):
    trained = imported(reference)
    network, engine = trained.network, prepare(lowered(reference))
    with np.load(reference / "reference_resnet20.npz") as file:
        arrays = dict(file)
    maps = {network.stem.name: stem_term(engine.streams.stem, jnp.asarray(arrays["pixels"]))}
    total, wrong, far = 0, 0, 0.0
    for step in network.steps[1:]:
        if isinstance(step, Stream):
            maps[step.name] = add_stream(maps[step.layer], maps.get(step.shortcut))
            if f"{step.name}.stream" in arrays:
                real = np.asarray(maps[step.name])[:2] * 2.0**-engine.streams.fraction_bits
                assert np.abs(real - arrays[f"{step.name}.stream"]).max() < 5e-6
            continue
        layer, stride = engine.layers[step.name], step.source_stride
        codes = arrays[f"{step.name}.activation_code"][:, :, ::stride, ::stride].astype(np.uint8)
        if step.source in engine.streams.terms.keys() | {stream.name for stream in network.streams}:
            made = stream_codes(maps[step.source], engine.streams.threshold[step.name], stride)
            real = np.asarray(maps[step.source])[:, :, ::stride, ::stride] * 2.0**-engine.streams.fraction_bits
            scaled = real / float(trained.layers[step.name].alpha_a) * 15
        else:
            made, scaled = maps[step.source]
        differ = np.asarray(made) != codes
        total, wrong = total + differ.size, wrong + int(differ.sum())
        far = max(far, float(np.abs(scaled - np.floor(scaled) - 0.5)[differ].max(initial=0)))
        np.testing.assert_array_equal(trained.layers[step.name].weight_code, arrays[f"{step.name}.weight_code"])
        accumulator = convolve(layer, jnp.asarray(codes))
        np.testing.assert_array_equal(accumulator, arrays[f"{step.name}.accumulator"])
        if step.name in network.entering:
            maps[step.name] = layer_term(engine.streams.terms[step.name], accumulator)
        else:
            maps[step.name] = next_codes(layer, accumulator), boundary_units(trained, step, np.asarray(accumulator))
    assert total == 1_523_712 and wrong <= total / 100_000 and far < 1e-4


def boundary_units(trained: TrainedNetwork, spec: ConvLayer, accumulator: np.ndarray) -> np.ndarray:
    """Return what the next layer's quantizer rounds, in float64."""
    layer, (taker,) = trained.layers[spec.name], trained.network.consumers(spec.name)
    factor, offset = linear(spec.name, layer.batch_norm, spec.out_channels)
    factor = factor * float(layer.activation_scale) * float(layer.weight_scale)
    real = accumulator * factor[:, None, None] + offset[:, None, None]
    return np.maximum(real, 0) / float(trained.layers[taker.name].alpha_a) * taker.activation_qmax


@pytest.mark.reference
def test_end_to_end_torchs_predictions_and_where_codes_begin_to_differ(reference):
    trained, integer = imported(reference), lowered(reference)
    with np.load(reference / "reference_resnet20.npz") as file:
        arrays = dict(file)
    engine, first, alike = prepare(integer), {}, np.ones(8, bool)
    for values in forward(engine, arrays["pixels"]):
        spec = values.layer.spec
        codes = arrays[f"{spec.name}.activation_code"][:, :, :: spec.source_stride, :: spec.source_stride]
        wrong = (np.asarray(values.activation) != codes).sum(axis=(1, 2, 3)) * alike
        first |= {spec.name: int(wrong.sum())} if wrong.any() else {}
        alike &= wrong == 0
    # where torch's sums and these meet a boundary in different ways, that image's codes differ from there on
    total = sum(arrays[f"{spec.name}.activation_code"].size for spec in trained.network.layers)
    assert sum(first.values()) <= total / 100_000 and alike.sum() == 3
    logits = stream_logits(trained, np.asarray(outputs(engine, arrays["pixels"])), integer.streams.fraction_bits)
    np.testing.assert_array_equal(logits.argmax(axis=1), arrays["logits"].argmax(axis=1))
    np.testing.assert_allclose(logits[alike], arrays["logits"][alike], atol=1e-4)
    assert np.abs(logits - arrays["logits"]).max() < 0.1


@pytest.mark.reference
def test_the_comparison_with_the_reference_counts_the_streams_readers(reference, tmp_path):
    from factory.checkpoint import save_weights

    save_weights(imported(reference), tmp_path / "r.safetensors")
    result = compare_with_reference(reference / "reference_resnet20.npz", tmp_path / "r.safetensors")
    assert {(x.weights_differ, x.accumulators_differ) for x in result.layers} == {(0, 0)}
    assert sum(x.fed_codes for x in result.layers) == 1_392_640
    assert sum(x.fed_differ for x in result.layers) <= 13 and max(x.fed_distance for x in result.layers) < 1e-4
    assert (result.float_predictions_differ, result.integer_predictions_differ) == (0, 0)


def changed(trained: TrainedNetwork, name: str, **changes) -> TrainedNetwork:
    return replace(trained, layers=trained.layers | {name: replace(trained.layers[name], **changes)})


def message(trained: TrainedNetwork) -> str:
    with pytest.raises(InputError) as error:
        lower(trained)
    return str(error.value)


def test_streams_that_32_bits_do_not_hold_are_refused():
    trained = trained_network(residual_network())
    name = "layer1.0.conv2"
    norm = trained.layers[name].batch_norm
    steep = message(changed(trained, name, batch_norm=replace(norm, gamma=norm.gamma * F32(1e5))))
    assert steep.startswith("layer1.0.conv1: the step of its codes must be at least 1024 units of the stream stem, of ")
    flat = changed(trained, name, batch_norm=replace(norm, var=np.zeros_like(norm.var), eps=0.0))
    assert message(flat) == f"{name}: var + eps of oc 0 must be more than 0, not 0.0"


def test_a_channel_without_weights_adds_its_offset_alone():
    trained = trained_network(residual_network())
    name = "layer1.0.conv2"
    layer = trained.layers[name]
    code, var = layer.weight_code.copy(), layer.batch_norm.var.copy()
    code[2], var[2] = 0, 1e-40
    empty = changed(
        trained, name, weight_code=code, batch_norm=replace(layer.batch_norm, var=var, mean=0 * var, eps=0.0)
    )
    integer = lower(empty)
    term = layer_term(prepare(integer).streams.terms[name], jnp.zeros((1, 5, 1, 1), jnp.int32))
    units = float(layer.batch_norm.beta[2]) * 2.0**integer.streams.fraction_bits
    assert abs(int(term[0, 2, 0, 0]) - units) <= 0.5


def test_the_named_residual_networks_are_widths_and_depths():
    for depth in (20, 32, 44, 56):
        network = load_network(f"resnet{depth}")
        assert network == resnet(f"resnet{depth}", (16, 32, 64), depth)
        assert len(network.layers) == depth - 2 + 2 and len(network.streams) == (depth - 2) // 2 + 1
        assert Network.from_dict(json.loads(json.dumps(network.to_dict()))) == network
    network = load_network("resnet20")
    assert [step.name for step in network.steps[:6]] == [
        "conv1", "stem", "layer1.0.conv1", "layer1.0.conv2", "layer1.0", "layer1.1.conv1"
    ]  # fmt: skip
    shortcut = network.layer("layer2.0.downsample.0")
    assert (shortcut.source, shortcut.source_stride, shortcut.stride, shortcut.height) == ("layer1.2", 2, (1, 1), 16)
    assert network.source_shape(shortcut) == (16, 32, 32)
    assert (network.classifier_shape, network.image_shape, network.output) == ((10, 64), (3, 32, 32), "layer3.2")
    assert math.prod(network.layer("layer3.2.conv2").weight_shape) == 36_864


def test_a_plain_networks_description_has_nothing_of_streams():
    data = tiny_network().to_dict()
    assert list(data) == ["name", "layers", "classes", "mean", "std", "eps"]
    assert "source_stride" not in data["layers"][0] and "source_stride" not in tiny_network().layers[0].to_dict(True)


def test_a_toml_file_with_a_depth_is_a_residual_network(tmp_path):
    path = tmp_path / "small.toml"
    path.write_text("widths = [8, 16]\ndepth = 10\nactivation_bits = 2\nquantized_stem = true\nimage = [3, 16, 16]\n")
    network = load_network(str(path))
    assert network == resnet("small", (8, 16), 10, activation_bits=2, quantized_stem=True, image=(3, 16, 16))
    assert network.stem is None and network.layers[0].signed
    path.write_text("widths = [8, 16]\ndepth = 11\n")
    with pytest.raises(InputError) as error:
        load_network(str(path))
    assert str(error.value) == f"{path}: network small: depth must be 2 more than a multiple of 4, not 11"


def stream_network(**changes) -> Network:
    """Return one block after a stem, with other values of some of a network's fields."""
    first = ConvLayer("a", "s", 4, 4, 6, 6)
    fields = dict(
        layers=(first, ConvLayer("b", "a", 4, 4, 6, 6)), stem=Stem("c", 3, 4, 6, 6),
        streams=(Stream("s", "c"), Stream("t", "b", "s")), average_pool=6,
    )  # fmt: skip
    return Network("n", **fields | changes)


BLOCK = stream_network()
A, B = BLOCK.layers


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (dict(streams=BLOCK.streams[1:]), "a: its source must be image or an earlier layer, not s"),
        (
            dict(streams=(Stream("s", "c"), Stream("t", "b", "u"))),
            "stream t: it must add layers and earlier streams, not ('b', 'u')",
        ),
        (
            dict(streams=(Stream("s", "c"), Stream("a", "b", "s"))),
            "a: a stream or a stem must have a name of its own, of letters, digits, _, . and -",
        ),
        (
            dict(streams=(Stream("s", "c"), Stream("t", "s", "b"))),
            "stream t: it must begin with a layer, not with the stream s",
        ),
        (
            dict(layers=(A, ConvLayer("b", "a", 4, 5, 6, 6))),
            "stream t: its maps must be of one size, not (5, 6, 6) and (4, 6, 6)",
        ),
        (
            dict(streams=(*BLOCK.streams, Stream("u", "b", "t"))),
            "b: it must enter one stream at most, and then have no pool",
        ),
        (
            dict(streams=(Stream("s", "c"), Stream("image", "b", "s"))),
            "image: a stream or a stem must have a name of its own, of letters, digits, _, . and -",
        ),
        (dict(stem=Stem("c", 1, 4, 6, 6)), "c: it must read 3 colours, not 1"),
        (dict(average_pool=7), "network n: average_pool must be at most 6, not 7"),
        (
            dict(layers=(replace(A, source="image", in_channels=3), B)),
            "a: its source must be image or an earlier layer, not image",
        ),
        (
            dict(layers=(A, B, ConvLayer("d", "b", 4, 4, 6, 6))),
            "d: its source must be image or an earlier layer, not b",
        ),
        (
            dict(layers=(A, B, ConvLayer("d", "t", 4, 4, 6, 6, source_stride=2))),
            "d: its input must be (4, 3, 3) from t, not (4, 6, 6)",
        ),
    ],
)
def test_mistakes_in_a_graph_of_streams_say_what_must_be(changes, message):
    with pytest.raises(InputError) as error:
        stream_network(**changes)
    assert str(error.value) == message


def test_a_description_with_a_wrong_stream_is_refused():
    data = BLOCK.to_dict()
    data["streams"][0] = {"name": "s"}
    with pytest.raises(InputError) as error:
        Network.from_dict(data)
    assert str(error.value) == "the keys of a stream must be name layer shortcut, not {'name': 's'}"
    for changed in ({"streams": 5}, {"stem": None}, {"stem": BLOCK.to_dict()["stem"] | {"height": "6"}}):
        with pytest.raises(InputError):
            Network.from_dict(BLOCK.to_dict() | changed)
