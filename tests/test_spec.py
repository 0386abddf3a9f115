"""Networks, arrays and exact bounds: known answers, equations and the errors' words."""

import itertools
import json
import subprocess
import sys

import numpy as np
import pytest

from factory.spec import (
    Array,
    ConvLayer,
    InputError,
    Network,
    Range,
    accumulator_ranges,
    load_network,
    part1,
    part2,
    psum_range,
    vgg,
)

NAMES = [f"features.{n}" for n in (0, 3, 7, 10, 14, 17, 20, 24, 27, 29, 32, 35, 38)]


@pytest.mark.parametrize(("network", "squeezed", "bits"), [(part1(), 8, 4), (part2(), 16, 2)])
def test_named_networks_are_the_notebooks(network, squeezed, bits):
    assert [layer.name for layer in network.layers] == NAMES
    assert network.squeezed.name == "features.27"
    assert (network.squeezed.in_channels, network.squeezed.out_channels) == (squeezed, squeezed)
    assert [layer.name for layer in network.layers if not layer.batch_norm] == ["features.27", "features.29"]
    assert [layer.name for layer in network.layers if layer.signed] == ["features.0"]
    assert {layer.activation_bits for layer in network.layers} == {bits}
    assert network.classifier_shape == (10, 512)


def test_part1_has_the_known_number_of_weights():
    assert sum(np.prod(layer.weight_shape) for layer in part1().layers) == 8_868_096


def test_a_description_survives_json():
    network = vgg("odd", [{"channels": 20, "kernel": 5, "stride": 2, "padding": 2}, "M", 3], image=(3, 9, 13))
    assert Network.from_dict(json.loads(json.dumps(network.to_dict()))) == network


def test_a_toml_file_describes_a_network(tmp_path):
    path = tmp_path / "tiny.toml"
    path.write_text('widths = [4, "M", {channels = 20, kernel = 5, padding = 0}]\nimage = [3, 16, 16]\nclasses = 2\n')
    network = load_network(str(path))
    assert network.name == "tiny"
    assert [layer.weight_shape for layer in network.layers] == [(4, 3, 3, 3), (20, 4, 5, 5)]
    assert network.classifier_shape == (2, 20 * 4 * 4)


def test_selections_of_layers():
    network = part1()
    assert [x.name for x in network.select("all")] == NAMES
    assert [x.name for x in network.select("features.3, squeezed")] == ["features.3", "features.27"]


@pytest.mark.parametrize(
    ("act", "message"),
    [
        (lambda: part1().layer("features.1"), f"layer must be one of {' '.join(NAMES)}, not features.1"),
        (lambda: part1().select(" ,"), "the selection of layers must hold at least one layer, it is empty"),
        (lambda: Array(0, 8), "array rows must be at least 1, not 0"),
        (lambda: Array(10**11), "array rows must be at most 4096, not 100000000000"),
        (lambda: Array(8, -1), "array cols must be at least 1, not -1"),
        (lambda: Array(psum_bits=64), "array psum_bits must be 2 to 32, not 64"),
        (lambda: vgg("v", ["M", 8]), "network v: widths must begin with a convolution, not M"),
        (lambda: vgg("v", ["X"]), "network v: a width must be a number of channels, M or a table, not 'X'"),
        (lambda: vgg("v", [0]), "features.0: out_channels must be at least 1, not 0"),
        (
            lambda: vgg("v", [{"channels": 8, "name": "x"}]),
            "network v: the keys of a width must be of channels kernel stride padding weight_bits activation_bits "
            "batch_norm, not name",
        ),
        (
            lambda: Network("n", (ConvLayer("../evil", "image", 3, 4, 8, 8),)),
            "network n: a layer's name must be of letters, digits, _, . and -, and not image, not '../evil'",
        ),
        (
            lambda: Network("n", (ConvLayer("a", "image", 3, 4, 8, 8), ConvLayer("b", "a", 4, 4, 8, 8, signed=True))),
            "b: its codes must be unsigned, because they follow a ReLU",
        ),
        (lambda: vgg("v", [4], classes=0), "network v: classes must be at least 1, not 0"),
        (
            lambda: vgg("v", [4], std=(1.0, 0.0, 1.0)),
            "network v: it must have a mean and a std > 0 for each colour, and eps > 0",
        ),
        (lambda: load_network("part9"), "network must be one of part1 part2 or a TOML file, not part9"),
        (
            lambda: vgg("v", [{"channels": 4, "kernel": 5, "padding": 0}], image=(3, 4, 4)),
            "features.0: a 4x4 map with padding 0 must hold the 5x5 kernel and the 1x1 pool",
        ),
        (
            lambda: Network("n", (ConvLayer("b", "a", 3, 4, 8, 8),)),
            "b: its source must be image or an earlier layer, not a",
        ),
        (
            lambda: Network("n", (ConvLayer("a", "image", 3, 4, 8, 8), ConvLayer("b", "a", 5, 4, 8, 8))),
            "b: its input must be (4, 8, 8) from a, not (5, 8, 8)",
        ),
    ],
)
def test_mistakes_say_what_must_be(act, message):
    with pytest.raises(InputError) as error:
        act()
    assert str(error.value) == message


@pytest.mark.parametrize(
    ("low", "high", "bits"), [(0, 0, 1), (-1, 0, 1), (0, 1, 2), (-8, 7, 4), (-9, 7, 5), (-8, 8, 5)]
)
def test_bits_of_a_range(low, high, bits):
    assert Range(low, high).bits == bits
    assert Range(low, high).fits(bits) and not Range(low, high).fits(bits - 1)


def test_the_dtype_of_a_range_never_narrows():
    assert Range(-32768, 32767).dtype() == np.int16
    assert Range(-32768, 32768).dtype() == np.int32
    with pytest.raises(OverflowError, match="needs 33 bits"):
        Range(0, 2**31).dtype()


@pytest.mark.parametrize("padding", [0, 1])
def test_bounds_are_reached_and_never_passed(padding):
    """Try every activation of a one-channel 2x2 map: the extremes are the bounds themselves."""
    conv = ConvLayer("c", "image", 1, 2, 2, 2, kernel=2, padding=padding, signed=True)
    weight = np.array([[[[3, -7], [2, -1]]], [[[-5, 4], [0, 6]]]], np.int8)
    low, high = np.array([-2]), np.array([3])
    extremes = [[10**9] * 2, [-(10**9)] * 2]
    for values in itertools.product(range(-2, 4), repeat=4):
        padded = np.pad(np.array(values).reshape(2, 2), padding)
        for y, x in itertools.product(range(conv.out_height), range(conv.out_width)):
            for oc in range(2):
                acc = int((padded[y : y + 2, x : x + 2] * weight[oc, 0]).sum())
                extremes[0][oc] = min(extremes[0][oc], acc)
                extremes[1][oc] = max(extremes[1][oc], acc)
    products = [int(w) * a for w in weight.ravel() for a in range(-2, 4)]
    least, most = accumulator_ranges(conv, weight, low, high)
    assert (least.tolist(), most.tolist()) == tuple(extremes)
    assert psum_range(Array(1, 1), weight, low, high) == Range(min(products), max(products))


def test_a_fraction_is_no_size():
    """Run where no test machinery checks the types first."""
    code = "from factory.spec import vgg; vgg('v', [{'channels': 8, 'stride': 1.5}])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stderr.splitlines()[-1].endswith("InputError: features.0: stride must be a whole number, not 1.5")
