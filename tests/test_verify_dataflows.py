"""The verifier's dataflows against plain loops, its positions with ragged splits, and its counts of inexact values."""

import ast
import hashlib
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import pytest

import factory.verify
from factory.spec import ComparisonError, ConvLayer, SystolicArray
from factory.store import StoredLayer
from factory.verify.contents import LayerCheck
from factory.verify.dataflows import DATAFLOW_RULES, ROLE_RULES
from factory.verify.decode import PADDING, positions
from factory.verify.listing import FileReader, ListedFiles
from factory.verify.reference import Adders
from factory.verify.result import Tally
from factory.verify.selected import ExpectedVectors, Known, SelectedLayer

SPEC = ConvLayer("x", "image", in_channels=5, out_channels=7, height=4, width=5, kernel=2, stride=2, padding=1, pool=2)
ARRAY = SystolicArray(3, 4)
RANDOM = np.random.default_rng(0)
WEIGHT = RANDOM.integers(-8, 8, SPEC.weight_shape)
CODES = RANDOM.integers(0, 16, (SPEC.in_channels, SPEC.height, SPEC.width))
THRESHOLD = np.sort(RANDOM.integers(-200, 200, (SPEC.out_channels, 15)))
DIRECTION = RANDOM.choice([-1, 1], SPEC.out_channels)
WHOLE = {"ws": dict(it=2, ot=2), "os": dict(ic=5, ot=2, pt=3), "is": dict(it=2, oc=7, pt=3)}
PARTS = {
    "ws": dict(kij=(0, 2, 3), it=(1,), ot=(1,)),
    "os": dict(kij=(0, 2, 3), ic=(0, 3), ot=(1,), pt=(0, 2)),
    "is": dict(kij=(0, 2, 3), it=(1,), oc=(0, 4, 6), pt=(0, 2)),
}
ADDERS = [Adders(16, "wrap"), Adders(7, "wrap"), Adders(7, "saturate")]


def selected(flow, part=False, block=(1, 1), activation=(4, False)):
    """Return all of a layer, or a part of it whose tiles are ragged."""
    whole = {"kij": tuple(range(SPEC.kij_count))} | {axis: tuple(range(n)) for axis, n in WHOLE[flow].items()}
    selection = PARTS[flow] if part else whole
    return SelectedLayer(SPEC, DATAFLOW_RULES[flow], ARRAY, selection, activation, (4, True), block)


def vectors(layer, adders=ADDERS[0], post="none"):
    quantizer = layer.cut_outputs("threshold", THRESHOLD, "level"), layer.cut_outputs("direction", DIRECTION)
    activation, weight = layer.cut_activation(CODES), layer.cut_weight(WEIGHT)
    return ExpectedVectors(layer, adders, post, activation, weight, quantizer)


def code(ic, onij, kij):
    """Return the code that an output pixel reads of an input channel, 0 in the border and beyond the last channel."""
    (oy, ox), (ki, kj) = divmod(onij, SPEC.out_width), divmod(kij, SPEC.kernel[1])
    y, x = oy * SPEC.stride[0] + ki - SPEC.padding[0], ox * SPEC.stride[1] + kj - SPEC.padding[1]
    inside = ic < SPEC.in_channels and 0 <= y < SPEC.height and 0 <= x < SPEC.width
    return int(CODES[ic, y, x]) if inside else 0


def weight_code(oc, ic, kij):
    inside = oc < SPEC.out_channels and ic < SPEC.in_channels
    return int(WEIGHT[oc, ic, kij // SPEC.kernel[1], kij % SPEC.kernel[1]]) if inside else 0


def settle(value, adders):
    half = 1 << (adders.bits - 1)
    if adders.overflow == "saturate":
        return max(-half, min(value, half - 1))
    return (value + half) % (2 * half) - half


def loops(layer, adders):
    """Return `(psums by (it, kij, oc, onij), sums after each outer step by (it, oc, onij))` of any dataflow."""
    chosen, psums, running = layer.selection, {}, {}
    stepped = chosen.get("it", chosen.get("ic"))
    for oc, onij in product(set(layer.outputs), layer.pixels):
        total = 0
        for step in stepped:
            for kij in chosen["kij"]:
                channels = range(step * 3, step * 3 + 3) if "it" in chosen else [step]
                psum = 0
                for ic in channels:
                    term = code(ic, onij, kij) * weight_code(oc, ic, kij)
                    psum = settle(psum + term, adders) if "it" in chosen else term
                psums[step, kij, oc, onij] = psum
                total = settle(total + psum, adders)
            running[step, oc, onij] = total
    return psums, running


@pytest.mark.parametrize("adders", ADDERS, ids=lambda adders: f"{adders.overflow}{adders.bits}")
@pytest.mark.parametrize("part", [False, True])
def test_input_stationary_vectors_equal_loops(part, adders):
    layer = selected("is", part, block=(2, 2))
    made, (psums, running) = vectors(layer, adders), loops(layer, adders)
    its, kijs, pixels, outputs = layer.selection["it"], layer.selection["kij"], layer.pixels, layer.selection["oc"]
    shape = len(its), len(kijs), len(pixels)
    assert layer.axes("activation") == ("it", "kij", "onij", "row")
    assert np.array_equal(
        made.activation,
        [[[[code(it * 3 + row, onij, kij) for row in range(3)] for onij in pixels] for kij in kijs] for it in its],
    )
    assert np.array_equal(
        made.weight,
        [[[[weight_code(oc, it * 3 + row, kij) for row in range(3)] for oc in outputs] for kij in kijs] for it in its],
    )
    expected = [[[[psums[it, kij, oc, onij] for onij in pixels] for oc in outputs] for kij in kijs] for it in its]
    assert np.array_equal(made.psum, expected) and made.psum.shape == (*shape[:2], len(outputs), shape[2])
    expected = [[[running[it, oc, onij] for onij in pixels] for oc in outputs] for it in its]
    assert np.array_equal(made.running_sum, expected)
    assert np.array_equal(made.accumulator, expected[-1])
    addresses = layer.addresses()
    assert layer.axes("address") == ("onij", "kij") and addresses.shape == (shape[2], shape[1])
    if adders.bits == 16 and not part:
        (oy, ox), (ki, kj) = divmod(pixels[3], SPEC.out_width), divmod(3, 2)
        assert addresses[3, 3] == 3 * SPEC.nij_count + (2 * oy + ki) * SPEC.padded_width + 2 * ox + kj


@pytest.mark.parametrize("adders", ADDERS, ids=lambda adders: f"{adders.overflow}{adders.bits}")
@pytest.mark.parametrize("part", [False, True])
@pytest.mark.parametrize("flow", DATAFLOW_RULES)
def test_accumulators_of_every_dataflow_equal_loops(flow, part, adders):
    layer = selected(flow, part)
    running = loops(layer, adders)[1]
    last = max(step for step, *_ in running)
    expected = [[running[last, oc, onij] for onij in layer.pixels] for oc in layer.outputs]
    made = layer.join("accumulator", vectors(layer, adders).accumulator, ("oc", "onij"))
    assert np.array_equal(made, expected)
    exact = loops(layer, Adders(60, "wrap"))[1]
    wrong = sum(running[last, oc, onij] != exact[last, oc, onij] for oc in layer.outputs for onij in layer.pixels)
    for role in ("accumulator", "out", "next"):
        assert vectors(layer, adders).inexact(ROLE_RULES[role]) == wrong
    assert wrong or adders.bits == 16


@pytest.mark.parametrize("flow", DATAFLOW_RULES)
def test_next_codes_equal_loops(flow):
    layer = selected(flow)
    running, made = loops(layer, ADDERS[0])[1], vectors(layer)
    last = max(step for step, *_ in running)
    found = layer.join("next", made.next_codes, ("oc", "onij"))
    assert found.shape == (len(layer.outputs), SPEC.next_height * SPEC.next_width)
    for place, oc in enumerate(layer.outputs):
        for y, x in np.ndindex(SPEC.next_height, SPEC.next_width):
            codes = [0]
            for oy, ox in product((2 * y, 2 * y + 1), (2 * x, 2 * x + 1)):
                if oc < SPEC.out_channels:
                    total, way = running[last, oc, oy * SPEC.out_width + ox], int(DIRECTION[oc])
                    codes.append(sum(way * total >= way * int(level) for level in THRESHOLD[oc]))
            assert found[place, y * SPEC.next_width + x] == max(codes)


@pytest.mark.parametrize("post", ["relu", "leaky", "none", "relu+maxpool2"])
def test_outputs_of_all_dataflows_agree(post):
    made = {}
    for flow in DATAFLOW_RULES:
        layer = selected(flow)
        values = vectors(layer, post=post).out
        made[flow] = layer.join("out", values, ("oc", "onij"))[: SPEC.out_channels]
        assert values.shape == layer.occupied("out", post, 1).shape
    assert np.array_equal(made["is"], made["os"]) and np.array_equal(made["is"], made["ws"])


@pytest.mark.parametrize("part", [False, True])
@pytest.mark.parametrize("flow", DATAFLOW_RULES)
def test_what_is_laid_is_joined_again(flow, part):
    layer = selected(flow, part)
    for role in layer.dataflow.axes.keys() - layer.dataflow.edges.keys():
        values = np.arange(layer.occupied(role, "none", 15).size).reshape(layer.occupied(role, "none", 15).shape)
        whole = {"row": "ic", "col": "oc"}
        order = [whole.get(axis, axis) for axis in layer.axes(role) if axis not in ("it", "ot")]
        if ("it" in layer.axes(role)) == ("row" in layer.axes(role)):
            assert np.array_equal(layer.lay(role, layer.join(role, values, order), order), values)


def layout(role="activation", **fields):
    """Return a layout record of one line for each place and one lane."""
    record = dict(
        name=role, role=role, include=role, file=f"{role}.txt", files=[], lines=["it", "nij"], lanes=["-row"], split=[],
        lane_bits=4, signed=False, lane0_left=False, word_bits=0, words=0, depth=0, base=0, format="bin", header="none",
    )  # fmt: skip
    return record | fields


def split(axis, outer, inner, size):
    return dict(axis=axis, outer=outer, inner=inner, size=size)


def test_a_ragged_split_is_padded_at_the_end_of_its_axis():
    record = layout(lines=["block"], lanes=["step", "row"], split=[split("nij", "block", "step", 3)])
    found, sizes = positions(record, ("nij", "row"), (4, 2))
    assert sizes == {"block": 2, "step": 3, "row": 2}
    assert found.tolist() == [[0, 1, 2, 3, 4, 5], [6, 7, PADDING, PADDING, PADDING, PADDING]]
    record["lanes"] = ["-step", "row"]
    assert positions(record, ("nij", "row"), (4, 2))[0].tolist()[1] == [PADDING] * 4 + [6, 7]
    record |= dict(files=["block"], lines=["a", "row"], lanes=["b"])
    record["split"] = [split("nij", "block", "step", 3), split("step", "a", "b", 2)]
    assert positions(record, ("nij", "row"), (4, 2))[0].tolist() == [
        [[0, 2], [1, 3], [4, PADDING], [5, PADDING]],
        [[6, PADDING], [7, PADDING], [PADDING] * 2, [PADDING] * 2],
    ]


@pytest.mark.parametrize("size", range(1, 9))
def test_every_value_has_one_position(size):
    record = layout(lines=["a", "row"], lanes=["-b"], split=[split("nij", "a", "b", size)])
    found, sizes = positions(record, ("nij", "row"), (6, 2))
    assert sorted(found[found != PADDING]) == list(range(12)) and sizes["a"] == -(-6 // size)


def write(root, layer, record, values, *, image=0, **changed):
    """Write a vector to one file of bit strings, value by value; return its set, whose facts are those `changed`."""
    found, sizes = positions(record, layer.axes(record["role"]), values.shape)
    bits = record["lane_bits"]
    words = [[0 if at == PADDING else int(values.ravel()[at]) % (1 << bits) for at in line] for line in found]
    text = "".join("".join(f"{lane:0{bits}b}" for lane in reversed(line)) + "\n" for line in words).encode()
    (root / record["file"]).write_bytes(text)
    rule = ROLE_RULES[record["role"]]
    source = {"dataset": f"layers/x/{rule.dataset}"} | ({"image": image} if rule.per_image else {})
    facts = dict(
        layout=record["name"], role=record["role"], directory="", source=source if rule.dataset else None, radix=2,
        words=len(found), lines=len(found), lanes=found.shape[1], lane_bits=bits, word_bits=bits * found.shape[1],
        signed=record["signed"], axes=sizes, inexact=0, inexact_operands=0,
        files=[{"name": record["file"], "sha256": hashlib.sha256(text).hexdigest()}],
    )  # fmt: skip
    return ListedFiles("x", image if rule.per_image else None, record, facts | changed, None)


def stored_layer():
    """Return what a store has of the layer; only what verification of an export reads is true."""
    known = dict(
        spec=SPEC, array=ARRAY, weight=WEIGHT, activation=CODES[None], threshold=THRESHOLD, direction=DIRECTION
    )
    shapes = dict(
        activation_low=(len(CODES),), activation_high=(len(CODES),), weight_tile=(1,) * 5, row_count=(1,),
        col_count=(1,), activation_tile=(1,) * 4, psum=(1,) * 6,
        accumulator=(1, SPEC.out_channels, SPEC.out_height, SPEC.out_width),
    )  # fmt: skip
    one, rest = np.float32(1), {name: np.zeros(shape, np.int64) for name, shape in shapes.items()}
    return StoredLayer(**known, alpha_w=one, alpha_a=one, **rest)


def check(root, layer, sets, stored=True, adders=ADDERS[0]):
    held = stored_layer() if stored else None
    tally = Tally(root)
    LayerCheck(layer, adders, "none", True, held, FileReader(root, len(sets), None), tally).check(sets)
    return tally


IS_LAYOUTS = {
    "weight": layout("weight", lines=["it", "kij", "oc"], signed=True),
    "activation": layout(lines=["it", "kij", "onij"]),
    "psum": layout("psum", lines=["it", "kij", "onij"], lanes=["oc"], lane_bits=16, signed=True),
    "running_sum": layout("running_sum", lines=["it", "onij"], lanes=["oc"], lane_bits=16, signed=True),
    "accumulator": layout("accumulator", lines=["onij"], lanes=["oc"], lane_bits=16, signed=True),
    "next": layout("next", lines=["onij"], lanes=["-oc"]),
}


def is_sets(root, layer, changed=None):
    made = vectors(layer)
    values = dict(weight=made.weight, activation=made.activation)
    values |= {role: ROLE_RULES[role].follows(made) for role in ("psum", "running_sum", "accumulator", "next")}
    return [write(root, layer, IS_LAYOUTS[role], values[role], **(changed or {}).get(role, {})) for role in values]


@pytest.mark.parametrize("stored", [True, False])
def test_input_stationary_files_are_checked(tmp_path, stored):
    layer = selected("is")
    tally = check(tmp_path, layer, is_sets(tmp_path, layer), stored)
    assert {"psum", "accumulator"} <= set(tally.counts) and ("weight" in tally.counts) == stored
    sets = is_sets(tmp_path, layer)
    path = tmp_path / "psum.txt"
    path.write_bytes(path.read_bytes()[:-2] + (b"0\n" if path.read_bytes()[-2:] == b"1\n" else b"1\n"))
    sets[2].record["files"][0]["sha256"] = hashlib.sha256(path.read_bytes()).hexdigest()
    with pytest.raises(ComparisonError, match=r"^psum\.txt: word 71, lane 0 \(it 1, kij 3, oc 0, onij 8\): must be "):
        check(tmp_path, layer, sets, stored)


def test_pixel_tiles_of_input_stationary_have_cols_pixels(tmp_path):
    layer = selected("is", part=True)
    record = layout("accumulator", lines=["pt", "oc"], lanes=["-px"], lane_bits=16, signed=True)
    made = vectors(layer).accumulator
    padded = np.zeros((3, 2, 4), np.int64)
    padded[:, 0], padded[:, 1, 0] = made[:, :4], made[:, 4]
    axes = "oc", "pt", "px"
    found, sizes = positions(record, axes, padded.shape)
    lines = ["".join(f"{int(padded.ravel()[at]) % 65536:016b}" for at in reversed(line)) for line in found]
    (tmp_path / "accumulator.txt").write_text("\n".join(lines) + "\n")
    files = write(tmp_path, layer, record | dict(lines=["oc", "onij"], lanes=[]), made)
    (tmp_path / "accumulator.txt").write_text("\n".join(lines) + "\n")
    digest = hashlib.sha256((tmp_path / "accumulator.txt").read_bytes()).hexdigest()
    facts = files.record | dict(
        axes=sizes, lines=6, words=6, lanes=4, word_bits=64, files=[{"name": "accumulator.txt", "sha256": digest}]
    )
    assert check(tmp_path, layer, [replace(files, layout=record, record=facts)]).counts["accumulator"] == 24


@pytest.mark.parametrize("stored", [True, False])
def test_padding_of_a_ragged_split_must_be_zero(tmp_path, stored):
    layer = selected("ws")
    record = layout(lines=["it", "block"], lanes=["-step", "row"], split=[split("nij", "block", "step", 5)])
    files = write(tmp_path, layer, record, layer.cut_activation(CODES))
    assert files.record["axes"]["block"] == 9 and SPEC.nij_count == 42
    check(tmp_path, layer, [files], stored)
    path = tmp_path / "activation.txt"
    lines = path.read_text().split("\n")
    assert lines[8][-36:] == "0" * 36
    lines[8] = lines[8][:-1] + "1"
    path.write_text("\n".join(lines))
    files.record["files"][0]["sha256"] = hashlib.sha256(path.read_bytes()).hexdigest()
    with pytest.raises(ComparisonError, match=r"^activation\.txt: word 8, lane 0 \(padding\): must be 0,.* not 1"):
        check(tmp_path, layer, [files], stored)


@pytest.mark.parametrize("stored", [True, False])
def test_inexact_operands_are_checked_wherever_they_are_known(tmp_path, stored):
    layer = selected("is", activation=(4, True))
    codes = layer.cut_activation(CODES)
    inexact = int((codes > 7).sum())
    known = {"activation": Known(codes, inexact), "weight": Known(codes, 3)}
    assert layer.inexact_operands(known, []) == inexact + 3
    assert layer.inexact_operands(known, ["weight"]) == inexact  # whose own set counts the others
    assert layer.inexact_operands({"weight": known["weight"]}, ["weight"]) is None
    read = np.where(codes > 7, codes - 16, codes)
    made = replace(vectors(layer), activation=read)
    weight = write(tmp_path, layer, IS_LAYOUTS["weight"], made.weight)
    signed = IS_LAYOUTS["activation"] | {"signed": True}
    activation = write(tmp_path, layer, signed, read, inexact=inexact)

    def psums(**changed):
        return write(tmp_path, layer, IS_LAYOUTS["psum"], made.psum, **changed)

    check(tmp_path, layer, [weight, activation, psums(inexact_operands=0)], stored)
    with pytest.raises(ComparisonError) as error:
        check(tmp_path, layer, [weight, activation, psums(inexact_operands=1)], stored)
    assert str(error.value) == "manifest.json: x, image 0, psum: inexact_operands must be 0, not 1"
    with pytest.raises(ComparisonError, match=r"x, weight: inexact_operands must be 0, not 1$"):
        check(tmp_path, layer, [replace(weight, record=weight.record | {"inexact_operands": 1})], stored)


def test_inexact_operands_are_passed_over_where_nothing_tells(tmp_path):
    layer = selected("is", activation=(4, True))
    files = write(tmp_path, layer, IS_LAYOUTS["psum"], vectors(layer).psum, inexact_operands=5)
    tally = check(tmp_path, layer, [files], stored=False)
    assert tally.unchecked and not tally.counts
    files = write(tmp_path, layer, IS_LAYOUTS["weight"], vectors(layer).weight)
    del files.record["inexact_operands"]  # as in a manifest of before there was such a count
    assert check(tmp_path, layer, [files]).counts["weight"]


@pytest.mark.parametrize("path", sorted(Path(factory.verify.__file__).parent.glob("*.py")), ids=lambda path: path.name)
def test_nothing_is_compared_with_the_name_of_a_role_or_a_dataflow(path):
    names = {*ROLE_RULES, *DATAFLOW_RULES}
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, (ast.Compare, ast.match_case)):
            found = {leaf.value for leaf in ast.walk(getattr(node, "pattern", node)) if isinstance(leaf, ast.Constant)}
            assert not {name for name in found if isinstance(name, str)} & names, f"{path}: line {node.lineno}"
