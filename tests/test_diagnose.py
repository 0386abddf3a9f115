"""Planted faults on a trained layer and the causes that are named; noise, which has none; what a dump lacks."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from helpers_bench import random_store
from helpers_diagnose import NOISE, SQUEEZED, plain_layer, write_words
from helpers_export import files_of
from mutants.faults import FAULTS, Fault, relu

from factory.build import build
from factory.diagnose import TABLE, Case, Guess, Hypothesis, diagnose
from factory.diagnose.report import report, to_json
from factory.export import export
from factory.spec import InputError, SystolicArray
from factory.store import open_store

pytestmark = pytest.mark.untyped  # but test_diagnose_dump and the tests of what a diagnosis calls


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> Path:
    """Two images of the squeezed layer and of one of 16 x 16 pixels, with the shipped weights."""
    path = tmp_path_factory.mktemp("store") / "store.h5"
    return build(path, images="samples", pick="0:2", layers="features.7,features.27")


@pytest.fixture(scope="module")
def exports(store, tmp_path_factory):
    """The squeezed layer for an array of 4 x 4, by dataflow, and its plain arithmetic."""
    found = {}
    for flow, options in SQUEEZED.items():
        folder = tmp_path_factory.mktemp(flow) / "x"
        export(store, folder, layers="features.27", images="all", rows=4, cols=4, **options)
        with open_store(store) as opened:
            found[flow] = folder, plain_layer(opened, folder)
    return found


def names_of(found) -> list[str]:
    return [found.causes[0].name, *found.causes[0].same] if found.causes else []


def planted(folder: Path, plain, fault: Fault, tmp_path: Path):
    words = fault.words(plain)
    dump = write_words(tmp_path / "given.txt", words, plain.tile)
    return diagnose(folder, [dump], role=fault.role)


@pytest.mark.parametrize("flow", SQUEEZED)
@pytest.mark.parametrize("what", ["output lanes are rotated", "kij 4 is missing", "accumulators are not cleared"])
def test_the_cause_of_a_planted_fault_is_named_first(exports, tmp_path, what, flow):
    fault = next(fault for fault in FAULTS if fault.what == what)
    found = planted(*exports[flow], fault, tmp_path)
    assert names_of(found)[0].split(":")[0] in fault.causes
    assert found.causes[0].explained == found.causes[0].wrong


def test_noise_has_no_cause(exports, tmp_path):
    noise = Fault("noise", (), lambda plain: NOISE["a bit of some"](np.random.default_rng(1), relu(plain.acc())))
    found = planted(*exports["os"], noise, tmp_path)
    assert found.causes == ()
    assert "cause: unknown, nothing explains half of it" in report(found)


def test_a_large_layer_is_looked_into_by_parts(store, tmp_path):
    options = dict(layers="features.7", images="all", tiles="it=0:4,ot=0:4", include="activation,weight,psum")
    export(store, tmp_path / "x", **options)
    with open_store(store) as opened:
        plain = plain_layer(opened, tmp_path / "x")
    fault = next(fault for fault in FAULTS if fault.what == "one row is not skewed")
    found = planted(tmp_path / "x", plain, fault, tmp_path)
    assert names_of(found)[0] == "missing skew: activation: row 2 is 1 early"
    assert found.notes == ("causes were tried on a part of it: it 0 1, ot 0 1",) or "part of it" in found.notes[0]


# Without causes: what is there, and what is not


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    folder = tmp_path_factory.mktemp("small") / "x"
    export(
        random_store(SystolicArray(3, 4)), folder, layers="layer", images="all", include="activation,weight,psum,out"
    )
    return folder


def test_a_right_dump_passes(small):
    found = diagnose(small, [small / "layer"])
    assert found.passes and found.causes == () and found.case is None
    counts = found.counts
    assert (counts.expected, counts.equal, counts.given) == (counts.expected,) * 3
    said = "all: 2,208 words expected, 2,208 given, 2,208 equal, 0 wrong, 0 undefined, 0 missing"
    assert " ".join(report(found).split()) == said


@pytest.mark.parametrize(("kept", "missing"), [(0, 12), (7, 5), (11, 1)])
def test_an_empty_or_short_dump_is_a_mismatch(small, tmp_path, kept, missing):
    lines = (small / "layer/image0/out_otile1.txt").read_text().splitlines()
    (tmp_path / "image0").mkdir()
    dump = tmp_path / "image0" / "out_otile1.txt"
    dump.write_text("".join(f"{line}\n" for line in lines[:kept]))
    (tmp_path / "layer").symlink_to(tmp_path)
    found = diagnose(small, [tmp_path / "layer" / "image0" / "out_otile1.txt"])
    assert not found.passes
    assert (found.counts.expected, found.counts.equal, found.counts.missing) == (12, kept, missing)
    assert "cause: words are missing, none is wrong" in report(found)


def test_words_too_many_are_a_mismatch(small, tmp_path):
    text = (small / "layer/image0/out_otile1.txt").read_text()
    dump = tmp_path / "layer/image0/out_otile1.txt"
    dump.parent.mkdir(parents=True)
    dump.write_text(text + text[: text.index("\n") + 1])
    found = diagnose(small, [dump])
    assert not found.passes and found.counts.extra == 1
    assert report(found).endswith("every word that is wanted is right, and more came")


def test_the_first_wrong_value_has_its_address_and_its_bits(small, tmp_path):
    path = "layer/image1/psum_itile1_otile0_kij2.txt"
    lines = (small / path).read_text().splitlines()
    lines[7] = format(int(lines[7], 2) ^ 1 << 17, "064b")
    dump = tmp_path / path
    dump.parent.mkdir(parents=True)
    dump.write_text("".join(f"{line}\n" for line in lines))
    found = diagnose(small, [dump])
    first = found.first
    assert str(first.address) == "layer, image 1, it 1, ot 0, kij 2, nij 7, col 1"
    assert (first.path, first.line, first.word, first.high, first.low, first.bits) == (path, 8, 7, 31, 16, (1,))
    wrong, each = found.axes["col"]
    assert wrong.values.tolist() == [0, 1, 0, 0]
    assert "   col: all in col 1" in report(found)
    assert found.causes == ()


def test_wrong_pixels_of_the_border_are_called_that(exports, tmp_path):
    fault = next(fault for fault in FAULTS if fault.what == "the border is 1 and not 0")
    found = planted(*exports["ws"], fault, tmp_path)
    assert found.on_border and "only pixels of the map's border" in report(found)
    assert not planted(*exports["ws"], FAULTS[0], tmp_path).on_border


def test_the_report_fits_80_columns_and_json_says_the_same(exports, tmp_path):
    for fault in FAULTS[:12]:
        found = planted(*exports["ws"], fault, tmp_path)
        assert max(map(len, report(found).splitlines())) <= 80
        data = json.loads(json.dumps(to_json(found)))
        assert data["causes"][0]["name"] == found.causes[0].name and not data["passes"]
        assert data["words"]["wrong"] == found.counts.wrong


def test_codes_that_the_export_lacks_are_a_store_s(store, exports, tmp_path):
    folder, plain = exports["ws"]
    export(store, tmp_path / "x", layers="features.27", rows=4, cols=4, include="out", dataflow="ws")
    fault = next(fault for fault in FAULTS if fault.what == "kij 4 is missing")
    dump = write_words(tmp_path / "given.txt", fault.words(plain), plain.tile)
    blind = diagnose(tmp_path / "x", [dump])
    assert blind.causes == ()
    assert blind.notes == (
        "causes inside the array were not tried: the export has no activation and weight; name its store",
    )
    assert names_of(diagnose(tmp_path / "x", [dump], store=store))[0] == "a pass missing or doubled: kij 4 missing"


def test_a_threshold_that_is_compared_wrongly(store, tmp_path):
    export(store, tmp_path / "x", layers="features.27", include="activation,weight,next,threshold", dataflow="ws")
    with open_store(store) as opened:
        layer = opened.layer("features.27")
        sign = layer.direction[...].astype(int)[:, None, None]
        acc = sign * layer.accumulator[0].astype(int)
        codes = sum((acc > sign * layer.threshold[:, [n]][:, :, None]).astype(int) for n in range(15))
    words = codes.reshape(8, -1).T[None]
    found = diagnose(tmp_path / "x", [write_words(tmp_path / "given.txt", words, 16, bits=4)], role="next")
    if found.passes:
        pytest.skip("no sum of this image is at a threshold")
    assert "threshold compared wrongly: > for >=" in [name for cause in found.causes for name in (cause.name,)] or (
        found.counts.wrong < 4
    )


def test_a_hypothesis_of_ones_own(exports, tmp_path):
    def plus_one(case: Case):
        yield Guess("one more", 3 * case.expected + 7)

    mine = Hypothesis("mine", "each is one more", "the increment", plus_one, computes=False)
    fault = Fault("", (), lambda plain: 3 * relu(plain.acc()) + 7)
    folder, plain = exports["ws"]
    dump = write_words(tmp_path / "given.txt", fault.words(plain), plain.tile)
    assert diagnose(folder, [dump], role="out").causes == ()
    assert names_of(diagnose(folder, [dump], role="out", hypotheses=(*TABLE, mine)))[0] == "mine: one more"


def test_a_dump_in_the_layout_of_another_profile(exports, tmp_path):
    folder, plain = exports["ws"]
    words = relu(plain.acc()).reshape(-1, 4)
    text = ["".join(format(int(value), "016b") for value in word) for word in words]  # lane 0 leftmost
    (tmp_path / "given.txt").write_text("".join(f"{line}\n" for line in text))
    found = diagnose(folder, [tmp_path / "given.txt"], role="out", profile="ws-reversed")
    assert found.counts.equal == found.counts.given == len(words)
    text[5] = text[5][:15] + str(1 - int(text[5][15])) + text[5][16:]
    (tmp_path / "given.txt").write_text("".join(f"{line}\n" for line in text))
    found = diagnose(folder, [tmp_path / "given.txt"], role="out", profile="ws-reversed")
    assert str(found.first.address) == "features.27, image 0, ot 0, onij 5, col 0"
    assert (found.first.high, found.first.low, found.first.bits) == (63, 48, (0,))
    with pytest.raises(InputError, match="^profile must be one of"):
        diagnose(folder, [tmp_path / "given.txt"], role="out", profile="none")


@pytest.mark.parametrize("dump", ["folder", "file"])
def test_what_crosses_an_edge_a_cycle_late(tmp_path, dump):
    store = random_store(SystolicArray(3, 4), 1, out_channels=4)
    export(store, tmp_path / "x", profile="edges", include="activation,weight,south", files="layer")
    (path,) = (path for path in (tmp_path / "x").rglob("south*") if "valid" not in path.name)
    lines, cycles = path.read_text().splitlines(), 20 + 3 + 4 - 1
    runs = [lines[first : first + cycles] for first in range(0, len(lines), cycles)]
    late = [line for run in runs for line in ("0" * len(run[0]), *run[:-1])]
    given = tmp_path / (path.relative_to(tmp_path / "x") if dump == "folder" else "given.txt")
    given.parent.mkdir(parents=True, exist_ok=True)
    given.write_text("".join(f"{line}\n" for line in late))
    found = diagnose(tmp_path / "x", [given], role="south")
    assert names_of(found)[0].startswith("words late: late by 1 word")


def test_values_and_their_valid_bits_are_told_apart(tmp_path):
    store = random_store(SystolicArray(3, 4), 1, out_channels=4)
    export(store, tmp_path / "x", profile="edges", include="activation,weight,south", files="layer")
    for path in (tmp_path / "x").rglob("south*"):
        given = tmp_path / "given" / path.relative_to(tmp_path / "x")
        given.parent.mkdir(parents=True, exist_ok=True)
        given.write_text("".join(f"{'0' * len(line)}\n" for line in path.read_text().splitlines()))
    found = diagnose(tmp_path / "x", [tmp_path / "given"])
    words = [line.partition(", image 0, ")[2] for line in report(found).splitlines() if "words expected" in line]
    assert [line.partition(":")[0] for line in words[1:]] == ["south", "south (south_valid)"]
    assert [group["layout"] for group in to_json(found)["groups"]] == ["south", "south_valid"]


# Bad input


def test_what_a_dump_must_be(small, tmp_path):
    def said(*dumps, **options) -> str:
        with pytest.raises(InputError) as caught:
            diagnose(small, dumps, **options)
        return str(caught.value)

    dump = tmp_path / "given.txt"
    dump.write_text("0\n")
    assert said() == "a dump must be given"
    (tmp_path / "bare").mkdir()
    called = "with files called as layer/image0/out_otile0.txt"
    assert said(tmp_path / "bare") == f"{tmp_path / 'bare'}: a dump must be given, {called}"
    assert said(tmp_path / "none") == f"{tmp_path / 'none'}: must be a dump, there is no such file or folder"
    assert said(dump) == f"{dump}: role must be given, one of out psum: no file of the export is called so"
    assert said(dump, role="next") == "role must be one that the export holds, out psum, not next"
    assert said(tmp_path).endswith(
        "given.txt: must be called as a file of the export, such as layer/image0/out_otile0.txt"
    )
    dump.rename(other := tmp_path / "out_otile0.txt")
    assert said(other) == (
        f"{other}: its folder must say which one it is, layer/image0/out_otile0.txt or layer/image1/out_otile0.txt"
    )
    with pytest.raises(InputError, match="must be an export, it has no manifest.json$"):
        diagnose(tmp_path, [dump])


def command(*words) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, "-m", "factory", *map(str, words)], capture_output=True, text=True)


def test_the_command_and_its_exit_codes(small, tmp_path):
    right = command("diagnose", small, small / "layer")
    assert (right.returncode, right.stderr) == (0, "") and right.stdout.startswith("all: 2,208 words expected")
    given = tmp_path / "given"
    for path, data in files_of(small).items():
        if "/out" in path:
            (given / path).parent.mkdir(parents=True, exist_ok=True)
            (given / path).write_bytes(b"".join(b"%s\n" % line[::-1] for line in data.split()))
    wrong = command("diagnose", small, given, "--json")
    assert wrong.returncode == 1
    assert json.loads(wrong.stdout)["causes"][0]["name"]
    bad = command("diagnose", small, tmp_path / "none")
    assert bad.returncode == 2 and bad.stderr.startswith("factory: ") and bad.stderr.count("\n") == 1
    assert command("diagnose", small).returncode == 2


def test_psums_that_are_right_leave_the_accumulator(exports, tmp_path):
    folder, plain = exports["ws"]
    given = tmp_path / "given"
    for path, data in files_of(folder).items():
        if "psum" in path and "image0" in path:
            (given / path).parent.mkdir(parents=True, exist_ok=True)
            (given / path).write_bytes(data)
    moved = replace(plain, shift=1)
    for ot, words in enumerate(relu(moved.acc())):
        write_words(given / "features.27" / "image0" / f"out_otile{ot}.txt", words[None], 16)
    found = diagnose(folder, [given])
    assert found.case.group.files.role.name == "out"
    assert names_of(found)[0] == "window moved: the window is 0 rows and 1 columns off"
