"""Small inputs that failed once: each with its right answer, so that the whole kind stays mended."""

import json
from dataclasses import replace

import numpy as np
import pytest
from helpers_bench import Builds, export_bench, random_store
from helpers_export import files_of, odd_store, plain_conv
from helpers_verify import build_small, repair

from factory.arithmetic.integer import max_pool, threshold_codes
from factory.arithmetic.labelled import Address
from factory.cocotb import Scoreboard, Vectors
from factory.export import export
from factory.fileplan import read_plan
from factory.memfile import explain_profile, load_profile
from factory.spec import ComparisonError, InputError, LayerSet, SystolicArray, vgg
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


def one_file(folder, role: str) -> bytes:
    """Return the bytes of the one file of a role."""
    (path,) = [path for path in sorted(folder.rglob("*")) if path.name.startswith(role)]
    return path.read_bytes()


def made(folder, store, text: str, dataflow: str = "ws", **options):
    """Export the layer of a store in a profile of some layouts, check it by its own files, and return its folder."""
    out = folder / f"x{len(list(folder.iterdir()))}"
    export(store, out, profile=profile(folder, text, dataflow), **{"layers": "layer", "images": "0"} | options)
    assert verify_export(out).counts["files"]
    return out


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    layers = [11, dict(channels=10, kernel=2), "M", dict(channels=3, kernel=1, padding=0)]
    network = vgg("small", layers, image=(3, 4, 6))
    return build_small(tmp_path_factory.mktemp("stored"), network, array=SystolicArray(8, 8)).store


def map_layout(role: str, lines: str, **keys: object) -> str:
    more = "".join(f"{key} = {json.dumps(value)}\n" for key, value in keys.items())
    axes = json.dumps(lines.split())
    return f'[layouts.{role}]\nfile = "{role}.txt"\nfiles = []\nlines = {axes}\nlanes = []\n{more}'


@pytest.mark.parametrize(
    ("geometry", "zero_point"), [({}, 0), (dict(padding=0), 0), (dict(padding=(0, 2, 1, 3), stride=(2, 1)), 5)]
)
def test_a_map_without_its_border_is_the_layers_own(tmp_path, geometry, zero_point):
    store = random_store(SystolicArray(8, 8), **geometry)
    layer = replace(store.layer("layer"), spec=replace(store.layer("layer").spec, zero_point=zero_point))
    store = replace(store, network=LayerSet("given", (layer.spec,)), layers={"layer": layer})
    keys = dict(lane_bits=8, border=False, format="raw")
    nhwc = made(tmp_path, store, map_layout("activation", "y x ic", **keys), include="activation", images="1")
    assert one_file(nhwc, "activation") == layer.activation[1].transpose(1, 2, 0).tobytes()
    nchw = made(tmp_path, store, map_layout("activation", "ic y x", **keys), include="activation", images="1")
    assert one_file(nchw, "activation") == layer.activation[1].tobytes()
    keys["border"] = True
    whole = made(tmp_path, store, map_layout("activation", "y x ic", **keys), include="activation")
    top, left, bottom, right = layer.spec.padding
    padded = np.pad(layer.activation[0], ((0, 0), (top, bottom), (left, right)), constant_values=layer.spec.zero_point)
    assert one_file(whole, "activation") == padded.transpose(1, 2, 0).tobytes()
    groups = (
        '[layouts.activation]\nfile = "a.txt"\nfiles = []\nlines = ["ic", "y", "x"]\nlanes = ["lane"]\nborder = false\n'
    )
    groups += 'split = [{ axis = "ic", outer = "ic", inner = "lane", size = 4 }]\nlane_bits = 8\nformat = "raw"\n'
    blocked = np.zeros((8, *layer.activation.shape[2:]), np.uint8)
    blocked[:5] = layer.activation[0]
    blocks = made(tmp_path, store, groups, include="activation")
    assert one_file(blocks, "a") == blocked.reshape(2, 4, *blocked.shape[1:]).transpose(0, 2, 3, 1).tobytes()
    pixels = '[layouts.activation]\nfile = "a{nij}.txt"\nfiles = ["nij"]\nlines = ["it"]\nborder = false\n'
    made(tmp_path, store, pixels, include="activation,weight,out")


def test_a_maps_rows_begin_at_multiples_of_words(tmp_path):
    store = random_store(SystolicArray(8, 8), height=5)
    text = '[layouts.activation]\nlines = ["y", "x"]\nalign = [{ axis = "y", words = 8 }]\nformat = "hex"\n'
    lines = one_file(made(tmp_path, store, text, include="activation"), "activation").split()
    export(store, tmp_path / "plain", include="activation", format="hex")
    plain = one_file(tmp_path / "plain", "activation").split()
    assert len(plain) == 7 * 5  # rows of 3 pixels and the border
    assert lines == [word for y in range(7) for word in (*plain[5 * y : 5 * y + 5], *[b"00000000"] * 3)]
    with pytest.raises(InputError, match="activation: align must be of the axes of lines, nij, each once, not y$"):
        export(store, tmp_path / "x", profile=profile(tmp_path, text.replace('lines = ["y", "x"]\n', "")))


@pytest.mark.parametrize("dataflow", ["ws", "os", "is"])
@pytest.mark.parametrize("first", [True, False])
def test_one_profile_names_the_maps_of_every_layer(tmp_path, dataflow, first):
    order = "oc oy ox" if first else "oy ox oc"
    text = "".join(map_layout(role, order, lane_bits=24, signed=True) for role in ("accumulator", "out", "next"))
    mine = profile(tmp_path, f"pixel_block = [2, 2]\n{text}" if dataflow == "os" else text, dataflow)
    options = dict(include="accumulator,out,next", images="1", pe_activation="signed")
    store, folder = replace(STORE, array=SystolicArray(4, 4)), tmp_path / "x"
    export(store, folder, layers="all", profile=mine, **options)
    verify_export(folder)
    for name, layer in STORE.layers.items():
        codes = (layer.activation[1].astype(int) + 8) % 16 - 8
        sums = plain_conv(layer.spec, layer.weight, codes)
        held = one_file(folder / name, "accumulator").split()
        whole = sums if first else sums.transpose(1, 2, 0)
        assert [int(word, 2) for word in held] == (whole % (1 << 24)).ravel().tolist()
        if layer.threshold is not None:
            codes = max_pool(threshold_codes(sums, layer.threshold, layer.direction), layer.spec.pool)
            expected = (codes if first else codes.transpose(1, 2, 0)).ravel().tolist()
            assert [int(word, 2) for word in one_file(folder / name, "next").split()] == expected


@pytest.mark.parametrize("dataflow", ["ws", "os", "is"])
def test_each_channel_has_a_file(tmp_path, dataflow):
    text = '[layouts.out]\nfile = "final_out_ch{oc}.txt"\nfiles = ["oc"]\nlines = ["oy"]\nlanes = ["ox"]\n'
    text += "lane0_left = true\n"
    text += '[layouts.weight]\nfile = "w_{oc}_{ic}.txt"\nfiles = ["oc", "ic"]\nlines = ["kij"]\nlanes = []\n'
    tiles = {"ws": "ot=0,2", "os": "ot=0,2", "is": "oc=0:4,8"}[dataflow]  # of 9 channels, 4 to a tile
    store, folder = replace(STORE, array=SystolicArray(4, 4)), tmp_path / "x"
    mine, options = profile(tmp_path, text, dataflow), dict(tiles=tiles, include="activation,weight,out")
    export(store, folder, layers=LAYER, profile=mine, pe_activation="unsigned", **options)
    verify_export(folder)
    layer = STORE.layers[LAYER]
    sums = np.maximum(plain_conv(layer.spec, layer.weight, layer.activation[0]), 0)
    names = {path.name for path in folder.rglob("final*")}
    assert names == {f"final_out_ch{oc}.txt" for oc in (0, 1, 2, 3, 8)}
    for oc in (3, 8):
        lines = one_file(folder, f"final_out_ch{oc}.").split()
        rows = [[int(line[at : at + 16], 2) for at in range(0, len(line), 16)] for line in lines]
        assert rows == sums[oc].tolist()
        weights = one_file(folder, f"w_{oc}_19.").split()
        assert [int(word, 2) for word in weights] == (layer.weight[oc, 19].ravel() % 16).tolist()


def test_rows_and_columns_are_of_a_whole_map(tmp_path):
    mine = profile(tmp_path, map_layout("out", "oy ox ot col"), "os")
    with pytest.raises(InputError) as caught:
        export(STORE, tmp_path / "x", layers=LAYER, profile=mine, include="out", tiles="pt=1")
    assert str(caught.value) == f"{LAYER}: layout out: oy and ox must be of a whole map, of 3 pt, not of 1"
    with pytest.raises(InputError, match="border must be true for role weight, which has no axis nij$"):
        export(STORE, tmp_path / "x", layers=LAYER, profile=profile(tmp_path, "[layouts.weight]\nborder = false\n"))


@pytest.mark.parametrize("dataflow", ["ws", "os"])
def test_a_pooled_map_has_rows_and_columns_whatever_the_order_of_its_tiles(tmp_path, dataflow):
    store = random_store(SystolicArray(8, 8), height=8, width=4)
    layer = store.layer("layer")
    text = "pixel_block = [4, 2]\n" if dataflow == "os" else ""
    text += map_layout("out", "oc oy ox", lane_bits=24)
    out = made(tmp_path, store, text, dataflow, include="out", post="relu+maxpool2", pe_activation="unsigned")
    sums = np.maximum(plain_conv(layer.spec, layer.weight, layer.activation[0]), 0)
    pooled = sums.reshape(6, 4, 2, 2, 2).max(axis=(2, 4))
    assert [int(word, 2) for word in one_file(out, "out").split()] == pooled.ravel().tolist()


BIASED = [-5, -5, 7, -3, 7]
"""Five weights of an output channel at kij 0, and what they are in either code, the last one left."""
CODES = {"offset": "11110101111100110011", "sign_magnitude": "01111011011111011101"}


@pytest.mark.parametrize("code", CODES)
def test_codes_are_biased_or_have_a_sign(tmp_path, stored, code):
    store = random_store(SystolicArray(5, 4))
    store.layer("layer").weight[0, :, 0, 0] = BIASED
    text = f'[layouts.weight]\ncode = "{code}"\n'
    out = made(tmp_path, store, text, include="activation,weight,out", tiles="ot=0")
    assert (out / "layer" / "weight_itile0_otile0_kij0.txt").read_text().split()[0] == CODES[code]
    assert manifest(out)["pe"]["weight_code"] == code
    (weight,) = [files for files in read_plan(out).layers[0].own if files.role.name == "weight"]
    codes = weight.read((out / "layer" / "weight_itile0_otile0_kij0.txt").read_bytes())
    assert codes.tolist() == store.layer("layer").weight[:4, :, 0, 0].tolist()
    verify_export(_exported(tmp_path / "s", stored, profile(tmp_path, text)), store=stored)
    narrow = made(tmp_path, store, text + "lane_bits = 3\n", include="activation,weight,out")
    assert sum(one["inexact"] for one in sets(narrow, "weight"))
    path = tmp_path / "unsigned.toml"
    path.write_text(f'extends = "notebook"\n[layouts.weight]\nsigned = false\ncode = "{code}"\n')
    with pytest.raises(InputError, match=f"code must be twos_complement where signed is false, not {code}$"):
        export(store, tmp_path / "y", profile=str(path))


def _exported(folder, store, mine: str, dataflow: str = "ws", **options):
    export(store, folder, layers="all", profile=mine, dataflow=dataflow, pe_activation="signed", **options)
    return folder


@pytest.mark.parametrize(("axis", "places"), [("bit", [0, 1, 2, 3]), ("-bit", [3, 2, 1, 0])])
@pytest.mark.parametrize("code", ["twos_complement", "sign_magnitude"])
def test_a_word_is_one_bit_of_many_elements(tmp_path, stored, axis, places, code):
    store = random_store(SystolicArray(8, 4))
    text = (
        '[layouts.weight]\nfile = "weight_itile{it}_otile{ot}.txt"\nfiles = ["it", "ot"]\n'
        f'lines = ["kij", "{axis}", "col"]\nlanes = ["row"]\ncode = "{code}"\n'
    )
    out = made(tmp_path, store, text, include="activation,weight,out")
    lines = (out / "layer" / "weight_itile0_otile0.txt").read_text().split()
    weight = np.zeros((4, 8, 9), int)
    weight[:, :5] = store.layer("layer").weight[:4].reshape(4, 5, 9)
    fields = weight % 16 if code == "twos_complement" else np.where(weight < 0, 8 - weight, weight)
    expected = [
        "".join(str(fields[col, row, kij] >> bit & 1) for row in reversed(range(8)))
        for kij in range(9) for bit in places for col in range(4)
    ]  # fmt: skip
    assert lines == expected
    (one, *_) = sets(out, "weight")
    assert (one["lane_bits"], one["signed"], one["sign_bit"], one["axes"]["bit"]) == (1, False, 3, 4)
    assert "8 x 1 bit of 4 bits signed" in explain_profile(profile(tmp_path, text))
    (files,) = [files for files in read_plan(out).layers[0].own if files.role.name == "weight"]
    address = Address("layer", None, "weight", dict(it=0, ot=0, kij=2, col=1, row=3))
    at = [("weight_itile0_otile0.txt", 4 * (4 * 2 + places.index(bit)) + 1, 3) for bit in range(4)]
    assert list(files.spots(address)) == at and files.locate(address) == at[0]
    assert files.address_at(Address("layer"), *at[2]) == address.at(bit=2)
    with pytest.raises(InputError, match="code must be twos_complement or sign_magnitude where bits have an axis"):
        profile_of(tmp_path, text.replace(code, "offset"))
    verify_export(_exported(tmp_path / "s", stored, profile(tmp_path, text)), store=stored)


def test_a_split_may_make_an_axis_of_any_name(tmp_path):
    text = (
        '[layouts.weight]\nsplit = [{ axis = "row", outer = "bit", inner = "x", size = 2 }]\nlines = ["bit", "col"]\n'
        'lanes = ["x"]\ncode = "offset"\n'
    )
    store = random_store(SystolicArray(4, 4))
    out = made(tmp_path, store, text, include="weight")
    assert sets(out, "weight")[0]["axes"] == {"it": 2, "ot": 2, "kij": 9, "bit": 2, "col": 4, "x": 2}


def profile_of(folder, text: str, dataflow: str = "ws"):
    return load_profile(profile(folder, text, dataflow))


LANES = [
    [-11, 1, 15, -12, -12, 14, -9, 11, -5, 8, -15, 4, 11, -6],
    [4, -10, -11, -16, -1, 0, -14, -9, 3, -5, -9, -16, -15, 4],
]
BEATS = "dd4a3c35 b2451b5d 00000034 00000000 81f856c4 185f63bc 00000009 00000000".split()


@pytest.mark.parametrize(
    ("keys", "beats"),
    [
        ("beats_pow2 = true", BEATS),
        ("beats = 4", BEATS),
        ("", BEATS[:3] + BEATS[4:7]),
        ("beats_pow2 = true\nhighest_beat_first = true", BEATS[3::-1] + BEATS[:3:-1]),
    ],
)
@pytest.mark.parametrize("format", ["hex", "bin", "mif", "coe-hex", "raw"])
def test_a_bus_takes_a_word_in_beats(tmp_path, keys, beats, format):
    store = random_store(SystolicArray(14, 2), in_channels=14, out_channels=2, kernel=1, weight_bits=5)
    store.layer("layer").weight[:, :, 0, 0] = LANES
    lines = 'file = "weight.txt"\nfiles = []\nlines = ["it", "ot", "kij", "col"]'
    text = f"[layouts.weight]\n{lines}\nlane_bits = 5\nbus_bits = 32\n{keys}\n"
    out = made(tmp_path, store, text, include="weight", format=format)
    data = one_file(out, "weight")
    if format == "hex":
        assert data.decode().split() == beats
    if format == "raw":
        assert data == b"".join(int(beat, 16).to_bytes(4, "little") for beat in beats)
    (files,) = read_plan(out).layers[0].own
    assert files.read(data).tolist() == LANES
    address = Address("layer", None, "weight", dict(it=0, ot=0, kij=0, col=1, row=6))
    name, word, bit = files.locate(address)  # bits 30 to 34 of a word: two in its first beat
    count = len(beats) // 2
    assert (name, word, bit) == (name, 2 * count - 1 if "highest" in keys else count, 30)
    up = -1 if "highest" in keys else 1
    assert files.address_at(Address("layer"), name, word + up, 2) == address
    assert files.address_at(Address("layer"), name, word + up, 3).labels["row"] == 7
    damaged = data.replace(b"dd4a3c35", b"dd4a3c34")
    assert format != "hex" or files.read(damaged).tolist() != LANES


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ("beats = 4", "layout weight: bus_bits must be given with beats, beats_pow2 and highest_beat_first, it is 0"),
        ("bus_bits = 8\nbeats = 4\nbeats_pow2 = true", "layout weight: beats must be 0 with beats_pow2, not 4"),
        (
            "bus_bits = 8\nformat = 'npy'",
            "layout weight: bus_bits must be 0 in format npy, which holds lanes, not bits",
        ),
        (
            "bus_bits = 1024\nbeats = 2048",
            "features.9: layout weight: beats of a word must be of 1048576 bits at most, not 2048 of 1024",
        ),
        ("align = [{ axis = 'col', words = 65537 }]", "layout weight: align: words must be at most 65536, not 65537"),
        ("stride = 2", "layout weight: stride and pixel_words must be 1 for role weight, which holds no addresses"),
    ],
)
def test_keys_that_say_nothing_are_refused(tmp_path, keys, message):
    with pytest.raises(InputError) as caught:
        export(STORE, tmp_path / "x", layers=LAYER, profile=profile(tmp_path, f"[layouts.weight]\n{keys}\n"))
    assert str(caught.value).removeprefix(f"{tmp_path / 'mine.toml'}: ") == message


STREAM = '[layouts.activation]\nfile = "A.txt"\nfiles = []\nlines = ["pt", "ot", "ic", "kij"]\nlanes = ["px"]\n'


def test_words_come_again_for_each_tile_of_another_role(tmp_path, stored):
    store = random_store(SystolicArray(4, 2))  # of 12 pixels and 6 channels: 3 pt, 3 ot
    text = STREAM + '[layouts.weight]\nfile = "B.txt"\nfiles = []\nlines = ["pt", "ot", "ic", "kij"]\n'
    out = made(tmp_path, store, text, "os", include="activation,weight,out", pe_activation="unsigned", format="hex")
    options = dict(include="activation,weight", pe_activation="unsigned", format="hex")
    export(store, tmp_path / "plain", dataflow="os", **options)
    a, b = one_file(out, "A").split(), one_file(out, "B").split()
    plain = files_of(tmp_path / "plain")
    for pt in range(3):
        once = plain[f"layer/image0/activation_os_5ic_tile{pt}.hex"].split()
        for ot in range(3):
            at = slice((pt * 3 + ot) * 45, (pt * 3 + ot + 1) * 45)
            assert a[at] == once and b[at] == plain[f"layer/weight_os_5ic_otile{ot}.hex"].split()
    assert sets(out, "activation")[0]["axes"] == {"pt": 3, "ot": 3, "ic": 5, "kij": 9, "px": 4}
    (files, *_) = read_plan(out).layers[0].of_image
    address = Address("layer", 0, "activation", dict(ic=2, kij=7, onij=6))
    spots = [("A.hex", ((1 * 3 + ot) * 5 + 2) * 9 + 7, 8) for ot in range(3)]
    assert list(files.spots(address)) == spots and files.locate(address) == spots[0]
    assert {str(files.address_at(Address("layer", 0), *spot)) for spot in spots} == {str(address)}
    assert files.locate(address.at(ot=2)) == spots[2]
    assert "the same words for each ot" in explain_profile(profile(tmp_path, STREAM, "os"))
    verify_export(_exported(tmp_path / "s", stored, profile(tmp_path, text, "os"), "os"), store=stored)


@pytest.mark.parametrize("files", ["[]", '["ot"]'])
def test_copies_must_be_equal(tmp_path, files):
    store = random_store(SystolicArray(4, 2))
    axes = '["pt", "ot", "ic", "kij"]' if files == "[]" else '["pt", "ic", "kij"]'
    text = STREAM.replace("[]", files).replace('["pt", "ot", "ic", "kij"]', axes)
    out = made(tmp_path, store, text, "os", include="activation,weight")
    path = sorted(out.rglob("A*.txt"))[-1]
    lines = path.read_text().split("\n")
    lines[-2] = lines[-2][:-1] + ("0" if lines[-2][-1] == "1" else "1")
    path.write_text("\n".join(lines))
    repair(out)
    with pytest.raises(ComparisonError, match="must be -?[0-9]+, as where the same value is too, not -?[0-9]+$"):
        verify_export(out)


@pytest.mark.simulator
def test_repeated_and_aligned_words_run_on_the_array(tmp_path):
    store = random_store(SystolicArray(4, 2))
    align = 'align = [{ axis = "ic", words = 16 }]\n'
    mine = profile(tmp_path, STREAM + align, "os")
    folder = export_bench(store, tmp_path / "x", dataflow="os", profile=mine, include="activation,weight,out")
    assert Builds(tmp_path).run(folder).compared == len(list(Vectors.read(folder).jobs())) * 4
    for key, message in (("border = false", "border must be True"), ("bus_bits = 8", "bus_bits must be 0")):
        mine = profile(tmp_path, f"[layouts.activation]\n{key}\n")
        with pytest.raises(InputError, match=f"^testbench: layout activation: {message}, as the reference array takes"):
            export(store, tmp_path / "y", profile=mine, testbench=True)


def test_pixels_have_several_words_a_stride_apart(tmp_path):
    lines = 'file = "addr.txt"\nlines = ["onij", "kij", "word"]'
    text = f"[layouts.address]\n{lines}\nstride = 2\npixel_words = 2\nbase = 3\n"
    store = random_store(SystolicArray(8, 8))
    spec = store.layer("layer").spec
    for kept in (range(9), (1, 8)):
        kij = ",".join(map(str, kept))
        out = made(tmp_path, store, text, include="address", kij=kij)
        addresses = [int(line, 2) for line in one_file(out, "addr").split()]
        expected = [
            3 + 2 * (at * spec.nij_count + (onij // 3 + kij // 3) * 5 + onij % 3 + kij % 3) + half
            for onij in range(12) for at, kij in enumerate(kept) for half in range(2)
        ]  # fmt: skip
        assert addresses == expected
    (files,) = read_plan(out).layers[0].own
    where = files.locate(Address("layer", None, "address", dict(onij=5, kij=8, word=1)))
    assert where == ("addr.txt", (5 * 2 + 1) * 2 + 1, 0)
    bytes_apart = text.replace(', "word"', "").replace("stride = 2\npixel_words = 2", "stride = 64")
    out = made(tmp_path, store, bytes_apart, include="address")
    assert {(int(line, 2) - 3) % 64 for line in one_file(out, "addr").split()} == {0}
    with pytest.raises(InputError, match="layout address: stride must be at least 2, not 1$"):
        made(tmp_path, store, text.replace("stride = 2", "stride = 1"), include="address")
    with pytest.raises(InputError, match="must be the axes kij onij word, not kij onij$"):
        made(tmp_path, store, text.replace(', "word"', ""), include="address")


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
