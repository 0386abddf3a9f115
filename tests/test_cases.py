"""Small inputs that failed once: each with its right answer, so that the whole kind stays mended."""

import json
from dataclasses import replace

import numpy as np
import pytest
from helpers_bench import random_store
from helpers_export import files_of, odd_store

from factory.cocotb import Scoreboard, Vectors
from factory.export import export
from factory.spec import ComparisonError, InputError, SystolicArray
from factory.verify import verify, verify_export

STORE = odd_store(images=2)
LAYER = "features.9"


def profile(folder, text: str, dataflow: str = "ws") -> str:
    path = folder / "mine.toml"
    path.write_text(f'extends = "notebook"\ndataflow = "{dataflow}"\n{text}')
    return str(path)


def manifest(folder) -> dict:
    return json.loads((folder / "manifest.json").read_text())


def sets(folder, layout: str) -> list[dict]:
    return [one for group in manifest(folder)["groups"] for one in group["sets"] if one["layout"] == layout]


# What a field or an adder changed is said wherever a written vector depends on it


@pytest.mark.parametrize("include", ["out", "psum", "accumulator", "next"])
@pytest.mark.parametrize("dataflow", ["ws", "os", "is"])
def test_misread_operands_are_said_without_their_files(tmp_path, include, dataflow):
    if (include, dataflow) == ("psum", "os"):
        return
    options = dict(dataflow=dataflow, layers=LAYER, images="all", pe_activation="signed")
    whole = export(STORE, tmp_path / "whole", include=f"activation,weight,{include}", **options)
    alone = export(STORE, tmp_path / "alone", include=include, **options)
    assert files_of(tmp_path / "whole").items() >= files_of(tmp_path / "alone").items()
    (count,) = {int(line.split()[1]) for line in whole.warnings if "activation codes" in line}
    (said,) = [line for line in alone.warnings if "activation codes" in line]
    assert said == (
        f"{LAYER}: {count} activation codes do not fit 4 bits signed; the array reads their low bits, and the outputs "
        "follow from those"
    )
    dependent = [one for group in manifest(tmp_path / "alone")["groups"] for one in group["sets"]]
    per_layout = {}
    for one in dependent:
        per_layout[one["layout"]] = per_layout.get(one["layout"], 0) + one["inexact_operands"]
    assert set(per_layout.values()) == {count}
    assert alone.inexact == count * len(per_layout)
    assert verify_export(tmp_path / "alone").unchecked


def test_misread_weights_are_said_without_their_files(tmp_path):
    mine = profile(tmp_path, "[layouts.weight]\nsigned = false\n")
    summary = export(STORE, tmp_path / "x", layers=LAYER, profile=mine, include="out")
    assert any("weight codes do not fit 4 bits unsigned" in line for line in summary.warnings)


def test_wrapped_sums_are_the_cause_of_next_codes_not_their_lanes(tmp_path):
    summary = export(STORE, tmp_path / "x", layers=LAYER, psum_bits=7, include="next")
    (line,) = summary.warnings
    assert line.endswith("sums of next do not fit 7 bits and were wrapped")
    assert 0 < int(line.split()[1]) <= 9 * 20  # of output channels x pixels
    assert verify_export(tmp_path / "x").unchecked


# Accepted or ignored in silence


def test_a_base_is_stated_or_refused(tmp_path):
    text = '[layouts.weight]\nbase = 1024\nformat = "{}"\n'
    for format in ("coe", "raw", "npy"):
        with pytest.raises(InputError) as caught:
            export(STORE, tmp_path / "x", layers=LAYER, profile=profile(tmp_path, text.format(format)))
        assert str(caught.value) == (
            f"layout weight: base must be 0 in format {format}, which states no addresses, not 1024"
        )
    export(STORE, tmp_path / "mif", layers=LAYER, profile=profile(tmp_path, text.format("mif")))
    for format in ("hex", "bin"):
        mine, folder = profile(tmp_path, text.format(format) + 'header = "verilog"\n'), tmp_path / format
        export(STORE, folder, layers=LAYER, profile=mine)
        export(STORE, tmp_path / f"{format} plain", layers=LAYER, format=format)
        plain = files_of(tmp_path / f"{format} plain")
        for path, data in files_of(folder).items():
            if "weight" in path:
                *comments, address, words = data.split(b"\n", 4)
                assert address == b"@400" and words == plain[path] and all(x.startswith(b"//") for x in comments)
        verify_export(folder)
        with pytest.raises(InputError, match="^testbench: layout weight: base must be 0, because files"):
            export(STORE, tmp_path / "bench", layers=LAYER, profile=mine, testbench=True)


def test_a_memory_has_a_depth(tmp_path):
    for depth, fits in ((98, False), (99, True)):
        mine = profile(tmp_path, f"[layouts.activation]\ndepth = {depth}\n")
        if fits:
            export(STORE, tmp_path / "x", layers=LAYER, profile=mine)
        else:
            with pytest.raises(InputError) as caught:
                export(STORE, tmp_path / "x", layers=LAYER, profile=mine)
            assert str(caught.value) == f"{LAYER}: layout activation: the memory's depth must be at least 99, not 98"
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_pixels_are_divided_into_y_and_x_by_the_maps_own_width(tmp_path):
    text = (
        '[layouts.out]\nfile = "out{{ot}}_{{col}}.txt"\nfiles = ["ot", "col"]\nlines = ["{0}"]\nlanes = ["{1}"]\n'
        'split = [{{ axis = "onij", outer = "{0}", inner = "{1}", size = {2} }}]\n'
    )
    options = dict(layers=LAYER, include="out")  # whose map is 4 x 5
    with pytest.raises(InputError) as caught:
        export(STORE, tmp_path / "x", profile=profile(tmp_path, text.format("y", "x", 4)), **options)
    assert str(caught.value) == (
        f"{LAYER}: layout out: split: onij must be divided into y and x by the width of the map, 5, not by 4; other "
        "names divide it by any size"
    )
    export(STORE, tmp_path / "x", profile=profile(tmp_path, text.format("y", "x", 5)), **options)
    export(STORE, tmp_path / "z", profile=profile(tmp_path, text.format("beat", "word", 4)), **options)
    assert all(len(data.split()) == 4 for data in files_of(tmp_path / "x").values())


@pytest.mark.parametrize("kij", ["8", "1,4:6"])
def test_addresses_count_the_words_of_the_same_export(tmp_path, kij):
    export(STORE, tmp_path / "x", layers=LAYER, kij=kij, files="layer", include="address,psum,out", tiles="it=0,ot=0")
    folder = tmp_path / "x" / LAYER
    psums = (folder / "image0" / "psum.txt").read_text().split()
    addresses = [int(line, 2) for line in (folder / "address.txt").read_text().split()]
    sums = (folder / "image0" / "out.txt").read_text().split()
    count = len(addresses) // len(sums)
    for place, out in enumerate(sums):
        words = [psums[address] for address in addresses[place * count : (place + 1) * count]]
        for col in range(8):
            lanes = [int(word[(7 - col) * 16 : (8 - col) * 16], 2) for word in words]
            total = sum(lane - 65536 if lane >= 32768 else lane for lane in lanes)
            assert int(out[(7 - col) * 16 : (8 - col) * 16], 2) == max(total, 0)
    verify_export(tmp_path / "x")


# Scoreboards take what simulators give


@pytest.fixture(scope="module")
def vectors(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cocotb") / "x"
    export(random_store(SystolicArray(3, 4)), folder, include="activation,weight,psum,out,accumulator")
    return Vectors.read(folder)


def ports(kind: str, word, cols: int, bits: int):
    from cocotb.types import Array, LogicArray, Range

    lanes = [LogicArray(str(word)[len(word) - (col + 1) * bits : len(word) - col * bits]) for col in range(cols)]
    return {
        "flat": lambda: word,
        "ascending": lambda: LogicArray(str(word), Range(0, "to", len(word) - 1)),
        "array": lambda: Array(lanes, Range(0, "to", cols - 1)),
        "descending array": lambda: Array(lanes[::-1], Range(cols - 1, "downto", 0)),
        "list": lambda: lanes,
        "ints": lambda: [lane.to_signed() for lane in lanes],
        "unsigned ints": lambda: [lane.to_unsigned() for lane in lanes],
        "int": lambda: word.to_unsigned(),
        "signed int": lambda: word.to_signed(),
        "wider": lambda: LogicArray("".join(format(x.to_signed() & 0xFFFFF, "020b") for x in reversed(lanes))),
    }[kind]()


KINDS = [
    "flat",
    "ascending",
    "array",
    "descending array",
    "list",
    "ints",
    "unsigned ints",
    "int",
    "signed int",
    "wider",
]


@pytest.mark.parametrize("kind", KINDS)
def test_a_scoreboard_takes_any_port(vectors, kind):
    board = Scoreboard(vectors)
    for job in vectors.jobs():
        board.begin(job)
        for stream in ("psum", "partial", "acc", "out"):
            for word in job.words(stream):
                board.take(stream, ports(kind, word, 4, job.lane_bits(stream)))
    assert board.finish() == vectors.bench.compared
    wrong = Scoreboard(vectors)
    job = next(vectors.jobs())
    wrong.begin(job)
    word = next(job.words("psum"))
    word[19] = not word[19]
    wrong.take("psum", ports(kind, word, 4, 16))
    (said,) = wrong.mismatches
    assert said.startswith("layer, image 0, it 0, ot 0, kij 0, nij 0, col 1: psum must be ")


@pytest.mark.parametrize(
    ("word", "message"),
    [
        (None, "psum: a word must be a LogicArray, an int, or a list or unpacked array of such lanes, not NoneType"),
        ([1, 2], "psum: a word must have 4 lanes, not 2"),
        ([1, 2, 3, 0.5], "psum: a lane must be a LogicArray or an int, not float"),
        ("1" * 63, "psum: a word must have bits for each of 4 lanes, not 63 bits in all"),
    ],
)
def test_a_port_of_another_kind_is_one_line(vectors, word, message):
    board = Scoreboard(vectors)
    board.begin(next(vectors.jobs()))
    with pytest.raises(InputError) as caught:
        board.take("psum", word)
    assert str(caught.value) == message


def test_lanes_are_signed_integers(vectors):
    job = next(vectors.jobs())
    words = [word for word in job.words("psum")]
    expected = [[word[col * 16 + 15 : col * 16].to_signed() for col in range(4)] for word in words]
    assert list(job.lanes("psum")) == expected
    assert min(map(min, job.lanes("weight"))) < 0 <= min(map(min, job.lanes("act")))


# What layouts can say


def test_a_ragged_split_is_filled_with_zeros(tmp_path):
    text = (
        '[layouts.activation]\nsplit = [{ axis = "nij", outer = "beat", inner = "px", size = 8 }]\nlines = ["beat"]\n'
        'lanes = ["px", "row"]\nword_bits = 256\nformat = "hex"\n'
    )
    export(STORE, tmp_path / "x", layers=LAYER, profile=profile(tmp_path, text), include="activation", tiles="it=0")
    export(STORE, tmp_path / "plain", layers=LAYER, format="hex", include="activation", tiles="it=0")
    (beats,) = [data.decode().split() for data in files_of(tmp_path / "x").values()]
    (lines,) = [data.decode().split() for data in files_of(tmp_path / "plain").values()]
    assert len(lines) == 99 and len(beats) == 13
    padded = lines + ["0" * 8] * 5
    assert beats == ["".join(reversed(padded[at : at + 8])) for at in range(0, 104, 8)]
    (one,) = sets(tmp_path / "x", "activation")
    assert one["axes"] == {"it": 1, "beat": 13, "px": 8, "row": 8}
    assert verify_export(tmp_path / "x").counts["files"] == 1


def test_a_profile_has_the_roles_that_its_author_needs(tmp_path):
    path = tmp_path / "rom.toml"
    path.write_text(
        'name = "rom"\ndataflow = "ws"\n[layouts.weight]\nfile = "weights.mif"\nfiles = []\n'
        'lines = ["ot", "it", "kij", "col"]\nlanes = ["row"]\nlane_bits = 4\nsigned = true\nformat = "mif"\n'
    )
    export(STORE, tmp_path / "x", layers=LAYER, profile=str(path), include="weight", flat=True)
    assert list(files_of(tmp_path / "x")) == ["weights.mif"]
    verify_export(tmp_path / "x")
    with pytest.raises(InputError, match=r"^include must be of weight in profile rom \(ws\), not out$"):
        export(STORE, tmp_path / "y", layers=LAYER, profile=str(path), include="out")


def test_an_operand_without_a_layout_is_read_as_it_is(tmp_path):
    path = tmp_path / "outputs.toml"
    path.write_text(
        'dataflow = "ws"\n[layouts.accumulator]\nfile = "a.txt"\nfiles = ["ot"]\nlines = ["onij"]\nlanes = ["col"]\n'
        "lane_bits = 16\nsigned = true\n"
    )
    large = replace(STORE.layers[LAYER], activation=STORE.layers[LAYER].activation.astype(np.uint8) + np.uint8(240))
    store = replace(STORE, layers=STORE.layers | {LAYER: large})
    summary = export(store, tmp_path / "x", layers=LAYER, profile=str(path), include="conv", psum_bits=32)
    assert summary.inexact == 0 and not summary.warnings


def test_an_error_of_a_profile_names_the_key_that_is_wrong(tmp_path):
    text = '[layouts.weight]\nfiles = ["it", "ot"]\nlines = ["kij", "byte", "col"]\nlanes = ["row"]\n'
    with pytest.raises(InputError) as caught:
        export(STORE, tmp_path / "x", layers=LAYER, profile=profile(tmp_path, text))
    assert str(caught.value).endswith(
        "layout weight: files, lines and lanes must be the axes col it kij ot row, not byte col it kij ot row"
    )


# Messages


def test_what_is_not_there_is_what_a_verification_speaks_of(tmp_path):
    with pytest.raises(InputError) as caught:
        verify(tmp_path / "nowhere", store=tmp_path / "store.h5")
    assert str(caught.value) == f"{tmp_path / 'nowhere'}: must be a store or an export, there is no such file or folder"


def test_old_words_of_include_and_profiles_still_work(tmp_path):
    export(STORE, tmp_path / "old", layers=LAYER, include="conv,out")
    export(STORE, tmp_path / "new", layers=LAYER, include="accumulator,out")
    assert files_of(tmp_path / "old") == files_of(tmp_path / "new")
    mine = profile(tmp_path, '[layouts.mine]\nrole = "conv"\nfile = "mine.txt"\nfiles = []\nlines = ["ot", "onij"]\n'
                             'lanes = ["col"]\nlane_bits = 20\nsigned = true\n')  # fmt: skip
    export(STORE, tmp_path / "x", layers=LAYER, include="conv", profile=mine, flat=True)
    assert "mine.txt" in files_of(tmp_path / "x")


def test_a_manifest_of_the_schema_before_is_read(tmp_path):
    options = dict(layers=LAYER, images="all", pe_activation="signed", include="activation,weight,out,accumulator,psum")
    export(STORE, tmp_path / "x", **options)
    old = manifest(tmp_path / "x") | {"schema": "factory-pack-1"}
    names = {"accumulator": "conv", "running_sum": "partial"}
    old["counts"]["wrapped"] = old["counts"].pop("inexact")
    for layer in old["layers"].values():
        layer["conv"], layer["tiles"] = layer.pop("spec"), layer.pop("selection")
    for layout in old["layouts"].values():
        layout.pop("depth")
        layout |= {key: names.get(layout[key], layout[key]) for key in ("role", "include")}
    for one in (one for group in old["groups"] for one in group["sets"]):
        one["role"], one["wrapped"] = names.get(one["role"], one["role"]), one.pop("inexact")
        del one["inexact_operands"]
    new = verify_export(tmp_path / "x")
    (tmp_path / "x" / "manifest.json").write_text(json.dumps(old))
    assert verify_export(tmp_path / "x").counts == new.counts
    old["counts"]["wrapped"] += 1
    (tmp_path / "x" / "manifest.json").write_text(json.dumps(old))
    with pytest.raises(ComparisonError, match="counts: inexact must be"):
        verify_export(tmp_path / "x")
    export(STORE, tmp_path / "x", force=True, **options)
