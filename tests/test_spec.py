"""Networks, arrays and exact bounds: known answers, equations and the errors' words."""

import itertools
import json
import os
import subprocess
import sys

import numpy as np
import pytest

from factory.spec import (
    NAMED,
    ConvLayer,
    InputError,
    Network,
    Range,
    SystolicArray,
    accumulator_ranges,
    load_network,
    part1,
    part2,
    psum_range,
    read_toml,
    vgg,
)

AXES = "a whole number, or a list (y, x) of some"
SIDES = "a whole number, or lists (y, x) or (top, left, bottom, right) of some"
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


def test_a_toml_network_may_have_whole_numbers_and_any_text(tmp_path):
    path = tmp_path / "tiny.toml"
    path.write_text(
        'name = "träge 𝟚"\nwidths = [{channels = 4, batch_norm = false}]\nmean = [0, 0.5, 1]\nstd = [1, 1, 2]\n',
        "utf-8",
    )
    network = load_network(str(path))
    assert (network.name, network.mean, network.std) == ("träge 𝟚", (0.0, 0.5, 1.0), (1.0, 1.0, 2.0))
    assert all(type(value) is float for value in (*network.mean, *network.std))
    assert not network.layers[0].batch_norm


def test_a_toml_network_is_utf8_whatever_the_locale(tmp_path):
    path = tmp_path / "tiny.toml"
    path.write_text('name = "träge"\nwidths = [4]\n', encoding="utf-8")
    code = "import sys; from factory.spec import load_network; print(ascii(load_network(sys.argv[1]).name))"
    done = subprocess.run(
        [sys.executable, "-X", "utf8=0", "-c", code, str(path)],
        env=os.environ | {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0"},
        capture_output=True, text=True,
    )  # fmt: skip
    assert (done.stdout, done.stderr) == ("'tr\\xe4ge'\n", "")


KEYS = "name widths weight_bits activation_bits no_batch_norm_inputs image classes mean std"
WIDTH_KEYS = "channels kernel stride padding weight_bits activation_bits batch_norm"
RANGE = "a list of numbers in float32's range"
HUGE = 10**23


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("widths = ", "must be TOML: Invalid value (at end of document)"),
        ("classes = 1" + "0" * 5000, "must be TOML without numbers of thousands of digits"),
        ("classes = 0b" + "1" * 50_000, "must be TOML without numbers of thousands of digits"),
        ("widths = " + "[" * 20_000 + "]" * 20_000, "must be TOML without lists or tables nested hundreds deep"),
        ("widths" + ".a" * 2_000 + " = 1", "must be TOML without lists or tables nested hundreds deep"),
        ("", "the key widths must be there"),
        ("widths = 5", "widths must be a list, not 5"),
        ("widths = []", "network tiny: it must have at least one layer"),
        ("widths = [4]\nfoo = 1", f"keys must be of {KEYS}, not foo"),
        ("widths = [4]\nname = 5", "name must be a string, not 5"),
        ("widths = [4]\nclasses = 1.5", "classes must be a whole number, not 1.5"),
        ("widths = [4]\nclasses = true", "classes must be a whole number, not True"),
        (f"widths = [4]\nclasses = {HUGE}", f"network tiny: classes must be at most 65536, not {HUGE}"),
        ("widths = [4]\nweight_bits = '4'", "weight_bits must be a whole number, not '4'"),
        ("widths = [4]\nactivation_bits = 4.0", "activation_bits must be a whole number, not 4.0"),
        ("widths = [4]\nactivation_bits = 9", "features.0: activation_bits must be 1 to 8, not 9"),
        ("widths = [4]\nno_batch_norm_inputs = 3", "no_batch_norm_inputs must be a list of whole numbers, not 3"),
        (
            "widths = [4]\nno_batch_norm_inputs = [false]",
            "no_batch_norm_inputs must be a list of whole numbers, not [False]",
        ),
        ("widths = [4]\nimage = 3", "image must be a list of three whole numbers, not 3"),
        ("widths = [4]\nimage = [3, 4]", "image must be a list of three whole numbers, not [3, 4]"),
        ("widths = [4]\nimage = [3, 4, 4.5]", "image must be a list of three whole numbers, not [3, 4, 4.5]"),
        (f"widths = [4]\nimage = [3, {HUGE}, 4]", f"features.0: height must be at most 65536, not {HUGE}"),
        ("widths = [4]\nmean = 0.5", f"mean must be {RANGE}, not 0.5"),
        ("widths = [4]\nmean = ['a', 'b', 'c']", f"mean must be {RANGE}, not ['a', 'b', 'c']"),
        ("widths = [4]\nmean = [0, true, 0]", f"mean must be {RANGE}, not [0, True, 0]"),
        ("widths = [4]\nmean = [0, nan, 0]", f"mean must be {RANGE}, not [0, nan, 0]"),
        ("widths = [4]\nstd = [1, inf, 1]", f"std must be {RANGE}, not [1, inf, 1]"),
        ("widths = [4]\nstd = [1, 1e39, 1]", f"std must be {RANGE}, not [1, 1e+39, 1]"),
        (f"widths = [4]\nstd = [1, {10**400}, 1]", f"std must be {RANGE}, not [1, {10**400}, 1]"),
        (
            "widths = [4]\nstd = [1, 0, 1]",
            "network tiny: it must have a mean and a std > 0 for each colour, and eps > 0",
        ),
        ("widths = [true]", "network tiny: a width must be a number of channels, M or a table, not True"),
        (f"widths = [{HUGE}]", f"features.0: out_channels must be at most 65536, not {HUGE}"),
        (
            "widths = [{channels = 4, name = 'x'}]",
            f"network tiny: the keys of a width must be of {WIDTH_KEYS}, not name",
        ),
        (
            "widths = [{kernel = 4}]",
            "network tiny: the table of a width must have the key channels, not {'kernel': 4}",
        ),
        ("widths = [{}]", "network tiny: the table of a width must have the key channels, not {}"),
        ("widths = [{channels = 4, kernel = true}]", f"features.0: kernel must be {AXES}, not True"),
        (f"widths = [{{channels = 4, padding = {HUGE}}}]", f"features.0: padding must be at most 65536, not {HUGE}"),
    ],
)  # fmt: skip
def test_toml_networks_say_what_is_wrong_with_them(text, message, tmp_path):
    path = tmp_path / "tiny.toml"
    path.write_text(text)
    with pytest.raises(InputError) as error:
        load_network(str(path))
    assert str(error.value) == f"{path}: {message}"


def test_a_toml_network_must_be_utf8_and_readable(tmp_path):
    path = tmp_path / "tiny.toml"
    path.write_bytes(b'name = "\xff"')
    with pytest.raises(InputError) as error:
        load_network(str(path))
    assert (
        str(error.value)
        == f"{path}: must be TOML: 'utf-8' codec can't decode byte 0xff in position 8: invalid start byte"
    )
    with pytest.raises(InputError) as error:
        read_toml(tmp_path / "none.toml", "network")
    assert str(error.value) == "must be a network's TOML file: No such file or directory"


def test_selections_of_layers():
    network = part1()
    assert [x.name for x in network.select("all")] == NAMES
    assert [x.name for x in network.select("features.3, squeezed")] == ["features.3", "features.27"]


@pytest.mark.parametrize(
    ("act", "message"),
    [
        (lambda: part1().layer("features.1"), f"layer must be one of {' '.join(NAMES)}, not features.1"),
        (lambda: part1().select(" ,"), "the selection of layers must hold at least one layer, it is empty"),
        (lambda: SystolicArray(0, 8), "rows must be at least 1, not 0"),
        (lambda: SystolicArray(10**11), "rows must be at most 4096, not 100000000000"),
        (lambda: SystolicArray(8, -1), "cols must be at least 1, not -1"),
        (lambda: SystolicArray(psum_bits=64), "psum_bits must be 2 to 32, not 64"),
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
            "network n: a layer's name must be of letters, digits, _, . and -, up to 128 of them, and not image "
            "or given, not '../evil'",
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
        (
            lambda: load_network("part9"),
            f"network must be one of {' '.join(NAMED)} or a TOML file, not part9",
        ),
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
    ("low", "high", "bits"),
    [(0, 0, 1), (-1, 0, 1), (0, 1, 2), (-8, 7, 4), (-9, 7, 5), (-8, 8, 5), (-8, -8, 4), (-9, -8, 5), (8, 9, 5)],
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
    assert psum_range(SystolicArray(1, 1), weight, low, high) == Range(min(products), max(products))


def test_values_of_other_types_are_refused():
    """Run where no test machinery checks the types first."""
    cases = {
        "vgg('v', [{'channels': 8, 'stride': 1.5}])": f"features.0: stride must be {AXES}, not 1.5",
        "vgg('v', [4, {'channels': 'x'}])": "features.3: out_channels must be a whole number, not 'x'",
        "vgg('v', [{'channels': 4, 'padding': []}])": f"features.0: padding must be {SIDES}, not []",
        "vgg('v', [{'channels': 4, 'kernel': True}])": f"features.0: kernel must be {AXES}, not True",
        "vgg('v', [{'channels': 4, 'batch_norm': 1}])": "features.0: batch_norm must be true or false, not 1",
        "vgg('v', [1.5])": "network v: a width must be a number of channels, M or a table, not 1.5",
        "vgg('v', [[4]])": "network v: a width must be a number of channels, M or a table, not [4]",
        "replace(part1(), name=5)": "network 5: name must be a string, not 5",
        "replace(part1(), classes=1.5)": "network part1: classes must be a whole number, not 1.5",
        "replace(part1(), mean=('a',))": f"network part1: mean must be {RANGE}, not ('a',)",
        "replace(part1(), std=1)": f"network part1: std must be {RANGE}, not 1",
        "replace(part1(), eps='x')": "network part1: eps must be a number in float32's range, not 'x'",
        "Network.from_dict(part1().to_dict() | {'classes': [10]})": (
            "network part1: classes must be a whole number, not (10,)"
        ),
        "replace(part1().layers[0], source=5)": "features.0: source must be a string, not 5",
    }
    code = (
        "import json, sys\nfrom dataclasses import replace\nfrom factory.spec import *\n"
        "def message(act):\n    try:\n        return repr(eval(act))\n"
        "    except InputError as error:\n        return str(error)\n"
        "print(json.dumps([message(act) for act in json.loads(sys.argv[1])]))"
    )
    done = subprocess.run([sys.executable, "-c", code, json.dumps(list(cases))], capture_output=True, text=True)
    assert json.loads(done.stdout) == list(cases.values()), done.stderr
