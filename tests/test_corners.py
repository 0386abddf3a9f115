import dataclasses
import json
import sys

import numpy as np
import pytest
from helpers_bench import random_store
from helpers_corners import accumulators, psums, running_sums

import factory
from factory.build.codes import integer_layer
from factory.cli.app import main
from factory.export import export
from factory.spec import ComparisonError, ConvLayer, InputError, SystolicArray, accumulator_range, psum_range
from factory.synthetic import Draw, base_layer, corner_network
from factory.verify import verify_export, verify_store

LAYERS = """
conv.zeros conv.all-max conv.all-min conv.lowest conv.alternating conv.checkerboard-row-col conv.checkerboard-kij
conv.identity conv.ramp taps.kij-0 taps.kij-1 taps.kij-2 taps.kij-3 taps.kij-4 taps.kij-5 taps.kij-6 taps.kij-7
taps.kij-8 strided.all-max strided.checkerboard-kij strided.ramp axes.all-max axes.checkerboard-kij axes.ramp
point.all-max point.lowest point.alternating point.identity point.ramp point.first-input point.last-input
point.first-output point.last-output point.row-0 point.row-1 point.row-2 point.row-3 point.row-4 point.col-0 point.col-1
point.col-2 tile.adder-ends tile.adder-return sum.adder-ends sum.adder-return steps.thresholds
""".split()
IMAGES = """
zeros all-min all-max alternating alternating-odd checkerboard-pixel checkerboard-row-pixel ramp ramp-down binary
first-channel last-channel row-0 row-1 row-2 row-3 row-4 border-0 border-1 border-2 border-3 border-4 border-5 border-6
border-7 border-8 border-9
""".split()
ODD = SystolicArray(5, 3, psum_bits=7)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    path = factory.corners(tmp_path_factory.mktemp("corners") / "c.h5", SystolicArray(3, 2, psum_bits=10))
    with factory.open_store(path) as opened:
        yield opened


def layers_of(network):
    return {layer.spec.name: layer for layer in network.layers}


def test_ids_never_change():
    network = corner_network(ODD)
    assert [layer.spec.name for layer in network.layers] == LAYERS
    assert [layer.pattern.id for layer in network.layers] == LAYERS
    assert list(network.images) == [pattern.id for pattern in network.patterns] == IMAGES


def test_codes_never_change():
    """An id stands for the same codes for ever: pinned for a small array."""
    network = corner_network(SystolicArray(2, 2), base_layer(SystolicArray(2, 2)))
    layers = layers_of(network)
    assert layers["conv.ramp"].weight[:, :, 0].tolist() == [
        [[-7, -3, 1], [-6, -2, 2], [-5, -1, 3]],
        [[-5, -1, 3], [-4, 0, 4], [-3, 1, 5]],
        [[-3, 1, 5], [-2, 2, 6], [-1, 3, 7]],
    ]
    codes = dict(zip(network.images, layers["conv.ramp"].activation, strict=True))
    assert codes["ramp"].tolist() == [
        [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 11]],
        [[3, 4, 5, 6], [7, 8, 9, 10], [11, 12, 13, 14]],
        [[6, 7, 8, 9], [10, 11, 12, 13], [14, 15, 0, 1]],
    ]
    assert codes["binary"][:, 0, 0].tolist() == [2, 4, 8]
    assert codes["border-5"][0].tolist() == [[0, 0, 0, 0], [0, 0, 0, 15], [0, 0, 0, 0]]
    assert codes["alternating"][:, 1, 1].tolist() == [15, 0, 15]


def test_all_pairs_are_there_and_verified(store):
    assert set(store.layers) == {layer.spec.name for layer in corner_network(store.array).layers}
    ids = {store.vector(name, image).id for name in store.layers for image in range(store.image_count)}
    assert len(ids) == len(store.layers) * store.image_count
    assert {"conv.lowest/all-max", "steps.thresholds/border-9", "sum.adder-ends/binary"} <= ids
    for layer in store.layers.values():
        assert layer.activation.shape[0] == store.image_count == len(store.images.patterns)
        assert layer.pattern.id == layer.spec.name and layer.pattern.note and layer.pattern.flags
    assert store.origin == "synthetic"
    assert store.images.origin == tuple(pattern.id for pattern in store.images.patterns)
    assert verify_store(store.path, sample="all").counts["psum"] > 0


def test_a_vector_has_the_flags_and_notes_of_both_patterns(store):
    vector = store.vector("conv.lowest", store.images.origin.index("border-3"))
    assert vector.id == "conv.lowest/border-3"
    assert vector.flags == ("extreme", "bound", "non-symmetric", "ragged", "padding", "one-hot", "border")
    assert vector.note.startswith("-2^(bits-1), which no") and vector.note.endswith("outputs move or are lost")


CASES = [
    (SystolicArray(8, 8), {}),
    (ODD, dict(signed=True)),
    (SystolicArray(5, 3, psum_bits=8), dict(weight_bits=2, activation_bits=1)),
    (SystolicArray(4, 6, psum_bits=9), dict(weight_bits=3, activation_bits=1, signed=True)),
    (SystolicArray(1, 1, psum_bits=6), dict(weight_bits=5, activation_bits=2, kernel=1, padding=0)),
    (SystolicArray(3, 4, psum_bits=11), dict(weight_bits=6, activation_bits=3, signed=True, stride=(1, 2), height=5)),
    (SystolicArray(2, 5, psum_bits=18), dict(weight_bits=8, activation_bits=8)),
    (SystolicArray(16, 4, psum_bits=12), dict(weight_bits=7, activation_bits=8, signed=True, kernel=(2, 1))),
    (SystolicArray(40, 4, psum_bits=9), dict(weight_bits=2, activation_bits=5, in_channels=7, out_channels=1)),
]
IDS = [f"{array.rows}x{array.cols}-{given}" for array, given in CASES]


@pytest.mark.parametrize(("array", "given"), CASES, ids=IDS)
def test_every_layer_is_one_and_what_is_flagged_as_a_bound_reaches_both_ends(array, given):
    network = corner_network(array, base_layer(array, **given))
    for layer in network.layers:
        integer = integer_layer(layer, len(network.images))
        ends = layer.spec, integer.weight, integer.activation_low, integer.activation_high
        sums = accumulators(layer)
        bound = accumulator_range(*ends)
        assert bound.low <= sums.min() and sums.max() <= bound.high
        if "bound" in layer.pattern.flags:
            found, exact = psums(layer, array), psum_range(array, *ends[1:])
            assert (found.min(), found.max()) == (exact.low, exact.high), layer.spec.name


@pytest.mark.parametrize(("array", "given"), CASES, ids=IDS)
def test_sums_reach_the_adders_ends_and_go_one_beyond(array, given):
    network = corner_network(array, base_layer(array, **given))
    most = 2 ** (array.psum_bits - 1) - 1
    found = [layer for layer in network.layers if layer.spec.name.endswith("adder-ends")]
    assert any(layer.spec.name == "sum.adder-ends" for layer in found)
    for layer in found:
        image = network.images.index("binary")
        sums = accumulators(layer)[image, :, 0, 0].tolist()
        assert sums == [most, most + 1, -most - 1, -most - 2]
        running = np.abs(running_sums(layer, array)[image])
        assert (np.diff(running, axis=1) >= 0).all()  # they go straight there
        tiles = array.input_tiles(layer.spec.in_channels)
        assert tiles == 1 if layer.spec.name.startswith("tile.") else tiles > 1


@pytest.mark.parametrize(("array", "given"), CASES, ids=IDS)
def test_sums_leave_the_adders_range_and_come_back(array, given):
    network = corner_network(array, base_layer(array, **given))
    half = 2 ** (array.psum_bits - 1)
    one_bit = (given.get("signed"), given.get("activation_bits")) == (True, 1)  # its codes are -1 and 0
    image = network.images.index("all-min" if one_bit else "all-max")
    found = [layer for layer in network.layers if "return" in layer.pattern.flags]
    assert found
    for layer in found:
        running = running_sums(layer, array)[image]
        up, down = running.max(axis=1), running.min(axis=1)
        assert (up >= half).any() and (down < -half).any()
        assert (running[:, -1] == 0).all()


@pytest.mark.parametrize(("array", "given"), CASES, ids=IDS)
def test_thresholds_are_hit_one_before_at_and_one_after(array, given):
    network = corner_network(array, base_layer(array, **given))
    layer = layers_of(network)["steps.thresholds"]
    sums = accumulators(layer)
    hit = 0
    for channel, thresholds in enumerate(layer.threshold.astype(np.int64)):
        near = [np.isin(thresholds + step, sums[:, channel]) for step in (-1, 0, 1)]
        hit += all(x.all() for x in near)
        rising = layer.direction[channel] * thresholds
        assert (np.diff(rising) >= 0).all()
    assert hit >= 2
    assert set(layer.direction.tolist()) == {1, -1}
    assert layer.threshold.shape == (4, 2**layer.spec.activation_bits - 1)


def test_what_an_adder_cannot_reach_is_said():
    skipped = corner_network(SystolicArray(8, 8, psum_bits=32)).skipped
    assert skipped == {
        "tile.adder-ends": "a tile of 8 rows cannot leave the 32 bits of an adder with products up to 105",
        "tile.adder-return": "a tile of 8 rows cannot leave the 32 bits of an adder with products up to 105",
        "sum.adder-ends": "a layer of 16384 channels cannot leave the 32 bits of an adder with products up to 105",
        "sum.adder-return": "a layer of 16384 channels cannot leave the 32 bits of an adder with products up to 105",
    }


def test_one_hot_patterns_are():
    array = ODD
    network = corner_network(array)
    layers = layers_of(network)
    images = dict(zip(network.images, layers["conv.ramp"].activation, strict=True))
    for row in range(array.rows):
        lit = layers[f"point.row-{row}"].weight.any(axis=(0, 2, 3))
        assert (
            set(np.flatnonzero(lit) % array.rows)
            == {row}
            == set(np.flatnonzero(images[f"row-{row}"].any(axis=(1, 2))) % array.rows)
        )
    for col in range(array.cols):
        assert set(np.flatnonzero(layers[f"point.col-{col}"].weight.any(axis=(1, 2, 3))) % array.cols) == {col}
    for kij in range(9):
        assert np.flatnonzero(layers[f"taps.kij-{kij}"].weight.any(axis=(0, 1)).ravel()).tolist() == [kij]
    border = [name for name in images if name.startswith("border-")]
    pixels = [np.flatnonzero(images[name].any(axis=0).ravel()).tolist() for name in border]
    assert pixels == [[0], [1], [2], [3], [4], [7], [8], [9], [10], [11]]


@pytest.mark.parametrize("name", ["groups", "pool"])
def test_a_layer_of_groups_or_a_pool_is_refused(name):
    spec = ConvLayer("conv", "given", 4, 4, 3, 4, **{name: 2})
    with pytest.raises(InputError, match=f"^conv: {name} must be 1 in synthetic layers, not 2$"):
        corner_network(SystolicArray(2, 2), spec)


@pytest.fixture
def command(tmp_path, monkeypatch, capsys):
    """Run a command in this process; return its exit code, and what it printed to either stream."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "1000")

    def run(*words):
        monkeypatch.setattr(sys, "argv", ["factory", *map(str, words)])
        with pytest.raises(SystemExit) as stopped:
            main()
        return (stopped.value.code or 0, *capsys.readouterr())

    return run


def test_show_lists_what_each_pattern_is_for(store, command):
    code, out, err = command("show", store.path)
    assert (code, err) == (0, "")
    layers, patterns = out.split("\n\n")
    assert "conv.all-max" in layers and "sum.adder-return" in layers
    lines = patterns.splitlines()
    assert lines[0].split() == ["id", "of", "flags", "note"]
    assert len(lines) == 1 + len(store.layers) + store.image_count
    assert any(line.startswith("border-3 ") and " one-hot,border " in line for line in lines)
    assert "a clamp makes another value of 0, a wrap does not" in patterns


def test_the_command_writes_what_the_library_does(command, tmp_path):
    words = ("--rows", 2, "--cols", 2, "--map", "2,2", "--kernel", "1,2", "--padding", 0, "--channels", "3,1")
    code, out, err = command("corners", "-o", "c.h5", *words, "--random", 5, "--count", 1, "--activation-bits", 3)
    assert (code, err) == (0, "") and out.startswith("c.h5  ")
    spec = dict(height=2, width=2, kernel=(1, 2), padding=0, in_channels=3, out_channels=1, activation_bits=3)
    again = factory.corners(tmp_path / "d.h5", SystolicArray(2, 2), random=Draw(5, 1), **spec)
    assert again.read_bytes() == (tmp_path / "c.h5").read_bytes()
    with factory.open_store(again) as found:
        assert (found.network.name, found.image_source, found.origin) == ("random-5", "random-5", "synthetic")
    taken = "factory: c.h5: must be a new file, this one is there already (--force replaces a store)\n"
    assert command("corners", "-o", "c.h5", "--rows", 2, "--random", 5) == (2, "", taken)


BAD = [
    (["--count", "3"], "--count must be given with --random"),
    (["--like", "a.h5:x"], "--like must be given with --random"),
    (["--random", "1", "--like", "a.h5"], "--like must be STORE:LAYER, not a.h5"),
    (["--random", "1", "--density", "1.5"], "density must be 0 to 1, not 1.5"),
    (["--random", "1", "--count", "0"], "count must be at least 1, not 0"),
    (["--kernel", "x"], "--kernel must be whole numbers with commas, not x"),
    (["--channels", "3"], "--channels must be 2 whole numbers with a comma, not 3"),
    (["--map", "3,"], "--map must be 2 whole numbers with a comma, not 3,"),
    (["--padding", "0,0,0"], "lists (y, x) or (top, left, bottom, right) of some, not [0, 0, 0]"),
    (["--kernel", "9"], "must hold the 9x9 kernel"),
    (["--weight-bits", "1"], "conv: weight_bits must be 2 to 8, not 1"),
    (["--rows", "0"], "rows must be at least 1, not 0"),
]


@pytest.mark.parametrize(("words", "said"), BAD, ids=[" ".join(words) for words, _ in BAD])
def test_errors_are_one_line(words, said, command, tmp_path):
    code, out, err = command("corners", "-o", "c.h5", *words)
    assert (code, out) == (2, "") and said in err and err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


FLAGGED = [
    (dict(flags="overflow,border"), ["sum.adder-ends", "sum.adder-return"], "border"),
    (dict(flags="threshold"), ["steps.thresholds"], ""),
    (dict(flags="stride", images="1:3"), ["strided.", "axes."], "all-"),
    (dict(flags="border", layers="conv.ramp"), ["conv.ramp"], "border"),
]


@pytest.mark.parametrize(("options", "layers", "images"), FLAGGED, ids=[str(options) for options, _, _ in FLAGGED])
def test_flags_select_layers_and_images(store, tmp_path, options, layers, images):
    export(store, tmp_path / "x", dataflow="ws", **options)
    facts = json.loads((tmp_path / "x/manifest.json").read_text())
    assert all(any(name.startswith(wanted) for wanted in layers) for name in facts["layers"])
    vectors = [(group["layer"], group["image"], group["vector"]) for group in facts["groups"] if "vector" in group]
    assert vectors and len(facts["layers"]) >= len(layers)
    for layer, image, vector in vectors:
        assert vector["id"] == f"{layer}/{store.images.origin[image]}" and images in vector["id"]
        expected = store.vector(layer, image)
        assert (vector["flags"], vector["note"]) == (list(expected.flags), expected.note)
    assert verify_export(tmp_path / "x", store=store).counts["out"] > 0
    assert verify_export(tmp_path / "x").counts["out"] > 0


def test_a_wrong_vector_in_a_manifest_is_found(store, tmp_path):
    export(store, tmp_path / "x", dataflow="ws", layers="point.ramp", images="1")
    path = tmp_path / "x/manifest.json"
    text = path.read_text()
    path.write_text(text.replace("point.ramp/all-min", "point.ramp/all-max"))
    with pytest.raises(ComparisonError, match="manifest.json: point.ramp, image 1: vector must be {'id': 'point.ramp/"):
        verify_export(tmp_path / "x", store=store)
    path.write_text(text.replace("point.ramp/all-min", "conv.ramp/all-min"))
    with pytest.raises(ComparisonError, match="vector must be of an image and of its layer, not conv.ramp/all-min$"):
        verify_export(tmp_path / "x")
    path.write_text(text.replace('"flags"', '"flag"'))
    with pytest.raises(ComparisonError, match=r"groups\[1\].vector: must have the key flags"):
        verify_export(tmp_path / "x")


def test_flags_that_are_not_there_are_refused(store, tmp_path):
    with pytest.raises(InputError, match="^flags must be of adder border .* zero, not overflow,x$"):
        export(store, tmp_path / "x", dataflow="ws", flags="overflow,x")
    with pytest.raises(InputError, match="flags must select at least one of the chosen layers, overflow selects none$"):
        export(store, tmp_path / "x", dataflow="ws", flags="overflow", layers="conv.ramp")
    with pytest.raises(InputError, match="flags must select at least one of the chosen images, border selects none$"):
        export(store, tmp_path / "x", dataflow="ws", flags="border", images="0:2")
    with pytest.raises(InputError, match="^flags must be of a synthetic store, not border$"):
        export(random_store(SystolicArray(2, 2)), tmp_path / "x", dataflow="ws", flags="border")


def test_records_are_frozen(store):
    with pytest.raises(dataclasses.FrozenInstanceError):
        store.images.patterns[0].id = "x"
