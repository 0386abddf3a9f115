"""Every shipped profile against loops that write its files as FORMATS describes them, and profiles as TOML."""

import re
import tomllib
from collections.abc import Callable
from dataclasses import MISSING, dataclass, fields, replace

import numpy as np
import pytest
from helpers_export import SHIPPED, files_of, odd_store, plain_conv, read_back

from factory.arithmetic.labelled import axes
from factory.dataflow import DATAFLOWS
from factory.export import export
from factory.memfile import (
    Layout,
    Profile,
    explain,
    explain_profile,
    keys_as_comments,
    list_profiles,
    load_profile,
    profile_to_toml,
)
from factory.memfile.explain import LAYOUT_KEYS, PROFILE_KEYS
from factory.spec import InputError

STORE = odd_store(images=2)
LAYER = STORE.layers["features.9"]
SPEC = LAYER.spec
COLS = 8
NIJ, ONIJ, KIJ, OT = range(9 * 11), range(4 * 5), range(9), range(2)
assert (SPEC.in_channels, SPEC.out_channels, SPEC.nij_count, SPEC.onij_count) == (20, 9, len(NIJ), len(ONIJ))


@dataclass(frozen=True)
class Plain:
    """One image of the layer as an array reads it, by channel; channels beyond the last are 0."""

    image: int
    bits: int = 4
    signed: bool = False
    weight_bits: int = 4
    sum_bits: int = 16

    def __post_init__(self):
        read = np.vectorize(lambda code: read_back(code, self.bits, self.signed))(LAYER.activation[self.image])
        padded = np.pad(read, ((0, 12), (2, 2), (2, 2))).reshape(32, -1)
        weight = np.pad(LAYER.weight.reshape(9, 20, 9), ((0, 7), (0, 12), (0, 0)))
        acc = np.pad(plain_conv(SPEC, LAYER.weight, read).reshape(9, -1), ((0, 7), (0, 0)))
        for name, values in (("act", padded), ("weight", weight), ("acc", acc)):
            object.__setattr__(self, name, values.tolist())

    def needed(self, ic: int, kij: int, onij: int) -> int:
        (oi, oj), (ki, kj) = divmod(onij, 5), divmod(kij, 3)
        return self.act[ic][(oi * 2 + ki) * 11 + oj * 2 + kj] if onij < 20 else 0

    def relu(self, oc: int, onij: int) -> int:
        return max(self.acc[oc][onij], 0) if onij < 20 else 0


def line(values: list[int], bits: int, lane0_left: bool = False) -> str:
    """Return a line of lanes, lane 0 first among the values."""
    fields = [format(value % (1 << bits), f"0{bits}b") for value in values]
    return "".join(fields if lane0_left else fields[::-1]) + "\n"


def activations(v: Plain, name: str, rows: int = 8, its: range = range(3), **how) -> dict[str, str]:
    return {
        name.format(it=it): "".join(
            line([v.act[it * rows + r][nij] for r in range(rows)], v.bits, **how) for nij in NIJ
        )
        for it in its
    }


def weight_line(v: Plain, channels: range, ot: int, kij: int, col: int, **how) -> str:
    return line([v.weight[ot * COLS + col][ic][kij] for ic in channels], v.weight_bits, **how)


def weights(v: Plain, name: str, rows: int = 8, its: range = range(3), **how) -> dict[str, str]:
    return {
        name.format(it=it, ot=ot, kij=kij): "".join(
            weight_line(v, range(it * rows, it * rows + rows), ot, kij, col, **how) for col in range(COLS)
        )
        for it in its for ot in OT for kij in KIJ
    }  # fmt: skip


def one_weight_file(v: Plain, name: str, rows: int = 8, its: range = range(3)) -> dict[str, str]:
    return {
        name.format(it=it, ot=ot, tile=ot * 3 + it): "".join(
            weight_line(v, range(it * rows, it * rows + rows), ot, kij, col) for kij in KIJ for col in range(COLS)
        )
        for it in its for ot in OT
    }  # fmt: skip


def outputs(value: Callable[[int, int], int], name: str, bits: int = 16, **how) -> dict[str, str]:
    return {
        name.format(ot=ot): "".join(
            line([value(ot * COLS + c, onij) for c in range(COLS)], bits, **how) for onij in ONIJ
        )
        for ot in OT
    }


def outputs_side_by_side(v: Plain) -> dict[str, str]:
    return {"image1/out.txt": "".join(line([v.relu(oc, onij) for oc in range(2 * COLS)], 16) for onij in ONIJ)}


def notebook(v: Plain) -> dict[str, str]:
    return (
        activations(v, "image1/activation_tile{it}.txt")
        | weights(v, "weight_itile{it}_otile{ot}_kij{kij}.txt")
        | outputs(v.relu, "image1/out_otile{ot}.txt", v.sum_bits)
    )


def reversed_lanes(v: Plain) -> dict[str, str]:
    return (
        activations(v, "image1/activation_itile{it}.txt", lane0_left=True)
        | weights(v, "weight_k{kij}_itile{it}_otile{ot}.txt", lane0_left=True)
        | outputs(v.relu, "image1/output_otile{ot}.txt", lane0_left=True)
    )


def onefile(v: Plain) -> dict[str, str]:
    return (
        activations(v, "image1/activation_itile{it}.txt")
        | one_weight_file(v, "weight_itile{it}_otile{ot}.txt")
        | outputs(v.relu, "image1/output_otile{ot}.txt")
    )


def tiled(v: Plain) -> dict[str, str]:
    return (
        activations(v, "image1/activation_tile{it}.txt")
        | one_weight_file(v, "weight_tile{tile}_octile{ot}_ictile{it}.txt")
        | outputs(lambda oc, onij: v.acc[oc][onij], "image1/out_octile{ot}.txt")
        | outputs(v.relu, "image1/out_octile{ot}_relu.txt")
    )


def multimap(v: Plain) -> dict[str, str]:
    return (
        activations(v, "activation_tile1_itile{it}.txt")
        | weights(v, "weight_kij{kij}_itile{it}_otile{ot}.txt")
        | outputs(v.relu, "out1_otile{ot}.txt")
    )


def wide(v: Plain) -> dict[str, str]:
    return (
        activations(v, "image1/activation_tile{it}.txt", 16, range(2))
        | one_weight_file(v, "weight_itile{it}_otile{ot}.txt", 16, range(2))
        | outputs(v.relu, "image1/out_otile{ot}.txt")
    )


def simd(v: Plain, parities: tuple[int, int], out: dict[str, str]) -> dict[str, str]:
    """Two channels a row: lane r of an activation is channel 2r+1, then 2r; weights are two lines a column."""
    files = activations(v, "image1/activation_tile{it}.txt", 16, range(2)) | out
    for it in range(2):
        for ot in OT:
            for kij in KIJ:
                files[f"weight_itile{it}_otile{ot}_kij{kij}.txt"] = "".join(
                    weight_line(v, range(it * 16 + parity, it * 16 + 16, 2), ot, kij, col)
                    for col in range(COLS)
                    for parity in parities
                )
    return files


def simd_split(v: Plain) -> dict[str, str]:
    return (
        activations(v, "image1/activation_tile{it}.txt")
        | weights(v, "weight_itile{it}_otile{ot}_kij{kij}.txt")
        | outputs_side_by_side(v)
    )


def output_stationary(v: Plain, activation: str, weight: str, out: str) -> dict[str, str]:
    files = {}
    for pt in range(3):
        pixels = range(pt * 8, pt * 8 + 8)
        files["image1/" + activation.format(pt=pt)] = "".join(
            line([v.needed(ic, kij, onij) for onij in pixels], v.bits) for ic in range(20) for kij in KIJ
        )
        for ot in OT:
            files["image1/" + out.format(pt=pt, ot=ot)] = "".join(
                line([v.relu(ot * COLS + col, onij) for col in range(COLS)], v.sum_bits) for onij in pixels
            )
    for ot in OT:
        files[weight.format(ot=ot)] = "".join(
            line([v.weight[ot * COLS + col][ic][kij] for col in range(COLS)], v.weight_bits)
            for ic in range(20)
            for kij in KIJ
        )
    return files


def per_kij(v: Plain) -> dict[str, str]:
    both = output_stationary(v, "activation_tile{pt}.txt", "-{ot}", "-{pt}{ot}")
    files = {name: text for name, text in both.items() if "activation" in name}
    for ot in OT:
        for kij in KIJ:
            files[f"weight_kij{kij}_otile{ot}.txt"] = "".join(
                line([v.weight[ot * COLS + col][ic][kij] for col in range(COLS)], v.weight_bits) for ic in range(20)
            )
    return files | outputs(v.relu, "image1/out_otile{ot}.txt")


def input_stationary(v: Plain) -> dict[str, str]:
    """A tile of 8 channels x 8 pixels stays for each kij, and a line of weights for each output channel streams."""
    files = {}
    for it in range(3):
        channels = range(it * 8, it * 8 + 8)
        for kij in KIJ:
            files[f"weight_itile{it}_kij{kij}.txt"] = "".join(
                line([v.weight[oc][ic][kij] for ic in channels], v.weight_bits) for oc in range(9)
            )
            for pt in range(3):
                files[f"image1/act_itile{it}_tile{pt}_kij{kij}.txt"] = "".join(
                    line([v.needed(ic, kij, onij) for ic in channels], v.bits) for onij in range(pt * 8, pt * 8 + 8)
                )
    for pt in range(3):
        pixels = range(pt * 8, pt * 8 + 8)
        files[f"image1/out_tile{pt}.txt"] = "".join(
            line([v.relu(oc, x) for x in pixels], v.sum_bits) for oc in range(9)
        )
    return files


INT8 = Plain(1, bits=8, signed=True, weight_bits=8, sum_bits=32)
EXPECTED = {
    ("ws", "int8"): lambda: notebook(INT8),
    ("os", "int8"): lambda: output_stationary(
        INT8,
        "activation_os_20ic_tile{pt}.txt",
        "weight_os_20ic_otile{ot}.txt",
        "out_tile{pt}_otile{ot}.txt",
    ),
    ("is", "int8"): lambda: input_stationary(INT8),
    ("ws", "notebook"): lambda: notebook(Plain(1)),
    ("ws", "ws-reversed"): lambda: reversed_lanes(Plain(1)),
    ("ws", "ws-onefile"): lambda: onefile(Plain(1)),
    ("ws", "ws-tiled"): lambda: tiled(Plain(1)),
    ("ws", "ws-multimap"): lambda: multimap(Plain(1)),
    ("ws", "ws-wide"): lambda: wide(Plain(1)),
    ("ws", "simd2-even"): lambda: simd(Plain(1, bits=2), (0, 1), outputs_side_by_side(Plain(1, bits=2))),
    ("ws", "simd2-even-otile"): lambda: simd(
        Plain(1, bits=2), (0, 1), outputs(Plain(1, bits=2).relu, "image1/out_otile{ot}.txt")
    ),
    ("ws", "simd2-odd"): lambda: simd(
        Plain(1, bits=2), (1, 0), outputs(Plain(1, bits=2).relu, "image1/out_otile{ot}.txt")
    ),
    ("ws", "simd2-split"): lambda: simd_split(Plain(1, bits=2)),
    ("os", "notebook"): lambda: output_stationary(
        Plain(1, signed=True),
        "activation_os_20ic_tile{pt}.txt",
        "weight_os_20ic_otile{ot}.txt",
        "out_tile{pt}_otile{ot}.txt",
    ),
    ("os", "os-all"): lambda: output_stationary(
        Plain(1), "activation_os_tile{pt}.txt", "weights_os_otile{ot}.txt", "out_relu_tile{pt}_otile{ot}.txt"
    ),
    ("os", "os-perkij"): lambda: per_kij(Plain(1)),
    ("is", "notebook"): lambda: input_stationary(Plain(1)),
}  # fmt: skip
EXPECTED |= {(flow, "edges"): EXPECTED[flow, "notebook"] for flow in DATAFLOWS}  # with streams beside it
EVERYWHERE = {"notebook", "edges", "int8"}


def test_every_shipped_profile_has_its_loops():
    assert set(EXPECTED) == set(SHIPPED)


@pytest.mark.parametrize(("dataflow", "name"), SHIPPED)
def test_profiles_write_what_their_loops_write(dataflow, name, tmp_path):
    export(STORE, tmp_path / "x", dataflow=dataflow, profile=name, layers="features.9", images="1")
    expected = {f"features.9/{path}": text.encode() for path, text in EXPECTED[dataflow, name]().items()}
    assert files_of(tmp_path / "x") == expected


@pytest.mark.parametrize(("dataflow", "name"), SHIPPED)
def test_profiles_read_back_from_their_own_toml(dataflow, name, tmp_path):
    profile = load_profile(name, dataflow)
    path = tmp_path / "mine.toml"
    path.write_text(profile_to_toml(profile))
    assert load_profile(str(path)) == profile
    assert load_profile(str(path), dataflow) == profile
    assert explain(profile) in explain_profile(name)
    assert explain(profile) == explain_profile(name, dataflow)
    assert f"{dataflow}    {name} " in list_profiles()


@pytest.mark.parametrize(("flow", "name"), [pair for pair in SHIPPED if pair[1] not in EVERYWHERE])
def test_a_profile_of_the_other_dataflow_is_named(flow, name):
    other = "os" if flow == "ws" else "ws"
    with pytest.raises(InputError) as error:
        load_profile(name, other)
    assert str(error.value) == f"profile {name} is for dataflow {flow}, not {other}"


def test_any_text_of_a_profile_reads_back(tmp_path):
    profile = replace(load_profile("ws-wide"), about='two 𝟚 lanes, "quoted" \\ and \x7f \n')
    (tmp_path / "ws-wide.toml").write_text(profile_to_toml(profile), encoding="utf-8")
    assert load_profile(str(tmp_path / "ws-wide.toml")) == profile


def test_the_default_names_fit_the_registers_of_testbenches():
    for flow in DATAFLOWS:
        for layout in load_profile("notebook", flow).layouts:
            assert len(layout.file.format(it=9, ot=9, pt=9, kij=8, n=512).replace("[_tile9]", "")) <= 30, layout.file


def test_a_profile_of_a_users_own_starts_from_a_shipped_one(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text(
        'extends = "ws-onefile"\nrows = 4\npost = "none"\n[layouts.out]\nfile = "gold.mem"\nlane_bits = 20\n'
        '[layouts.weight]\nlane0_left = true\nlines = ["kij", "-col"]\n'
    )
    profile, base = load_profile(str(path)), load_profile("ws-onefile")
    assert (profile.name, profile.dataflow, profile.rows, profile.cols, profile.post) == ("mine", "ws", 4, 0, "none")
    assert profile.layouts[0] == base.layouts[0]
    assert profile.layouts[2] == replace(base.layouts[2], file="gold.mem", lane_bits=20)
    assert profile.layouts[1] == replace(base.layouts[1], lane0_left=True, lines=axes("kij", "-col"))
    export(STORE, tmp_path / "x", profile=str(path), layers="features.9", images="1", tiles="it=4,ot=1", flat=True)
    assert sorted(files_of(tmp_path / "x")) == ["activation.txt", "gold.mem", "weight.txt"]
    plain = Plain(1)
    expected = (
        weight_line(plain, range(16, 20), 1, kij, col, lane0_left=True) for kij in KIJ for col in range(7, -1, -1)
    )
    assert (tmp_path / "x" / "weight.txt").read_text() == "".join(expected)


def test_files_come_in_the_order_of_a_reversed_axis(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text('extends = "notebook"\n[layouts.psum]\nfiles = ["-it", "ot", "-kij"]\n')
    options = dict(layers="features.9", include="psum", tiles="it=0:2,ot=1", kij="3:6")
    export(STORE, tmp_path / "plain", **options)
    export(STORE, tmp_path / "reversed", profile=str(path), **options)
    assert files_of(tmp_path / "reversed") == files_of(tmp_path / "plain")
    export(STORE, tmp_path / "one", profile=str(path), files="layer", **options)
    names = [f"psum_itile{it}_otile1_kij{kij}.txt" for it in (1, 0) for kij in (5, 4, 3)]
    folder = tmp_path / "plain" / "features.9" / "image0"
    merged = (tmp_path / "one" / "features.9" / "image0" / "psum.txt").read_bytes()
    assert merged == b"".join((folder / name).read_bytes() for name in names)


def test_padding_of_words_and_files_is_data(tmp_path):
    path = tmp_path / "padded.toml"
    path.write_text('extends = "notebook"\n[layouts.out]\nword_bits = 130\nwords = 32\n')
    export(STORE, tmp_path / "x", profile=str(path), layers="features.9", tiles="ot=0", include="out", flat=True)
    lines = (tmp_path / "x" / "out.txt").read_text().splitlines()
    plain = Plain(0)
    assert lines[:20] == ["00" + line([plain.relu(oc, onij) for oc in range(8)], 16).strip() for onij in ONIJ]
    assert lines[20:] == ["0" * 130] * 12


HUGE = 10**23
MINE = 'extends = "notebook"\n'
OUT = MINE + "[layouts.out]\n"
MISTAKES = [
    ("extends = 3", "extends must be a string, not 3"),
    ('dataflow = "ws"\nlayouts = {}', "profile mine: layouts must hold at least one layout, there is none"),
    ("dataflow = ", "must be TOML: Invalid value (at end of document)"),
    ('dataflow = "ws"', "the key layouts must be there"),
    (MINE + "row = 3", "keys must be of name dataflow layouts about rows cols simd post pixel_block, not row"),
    (MINE + 'rows = "3"', "rows must be a whole number, not '3'"),
    (MINE + "rows = true", "rows must be a whole number, not True"),
    (MINE + "about = 1", "about must be a string, not 1"),
    (MINE + "simd = 0", "profile mine: simd must be at least 1, not 0"),
    (MINE + 'dataflow = "os"\nsimd = 2', "profile mine: simd must be 1 in dataflow os, not 2"),
    (MINE + 'dataflow = "xs"', "profile mine: dataflow must be one of ws os is, not xs"),
    (MINE + 'post = "tanh"', "profile mine: post must be one of relu none leaky relu+maxpool2, not tanh"),
    (MINE + "pixel_block = [2]", "pixel_block must be a list of two whole numbers, not [2]"),
    (MINE + "pixel_block = [2, 0]", "profile mine: pixel_block must be two numbers of at least 1, not [2, 0]"),
    (MINE + f"rows = {HUGE}", f"profile mine: rows must be at most 4096, not {HUGE}"),
    (MINE + "cols = 4097", "profile mine: cols must be at most 4096, not 4097"),
    (MINE + f"simd = {HUGE}", f"profile mine: simd must be at most 4096, not {HUGE}"),
    (
        MINE + f"pixel_block = [{HUGE}, 1]",
        f"profile mine: pixel_block must be two numbers of at most 65536, not [{HUGE}, 1]",
    ),
    ("rows = 1" + "0" * 5000, "must be TOML without numbers of thousands of digits"),
    ("rows = 0x" + "f" * 5000, "must be TOML without numbers of thousands of digits"),
    ("rows = " + "[" * 20_000 + "]" * 20_000, "must be TOML without lists or tables nested hundreds deep"),
    ("rows" + ".a" * 2_000 + " = 1", "must be TOML without lists or tables nested hundreds deep"),
    (MINE + "layouts = 1", "layouts must be tables by name"),
    (MINE + "[layouts]\nout = 1", "layouts must be tables by name"),
    (
        MINE + '[layouts.weight]\nfile = "w{image}.txt"',
        "profile mine: layout weight: file must have fields of it ot kij n tile, not image",
    ),
    (OUT + "lane_bits = 40", "layout out: lane_bits must be 1 to 32, not 40"),
    (OUT + "signed = 1", "layout out: signed must be true or false, not 1"),
    (OUT + "words = -1", "layout out: words must be at least 0, not -1"),
    (OUT + f"words = {HUGE}", f"layout out: words must be at most 1048576, not {HUGE}"),
    (OUT + f"word_bits = {HUGE}", f"layout out: word_bits must be at most 1048576, not {HUGE}"),
    (OUT + f"word_bits = {10**10}", f"layout out: word_bits must be at most 1048576, not {10**10}"),
    (OUT + f"base = {HUGE}\nformat = 'mif'", f"layout out: base must be at most 4294967295, not {HUGE}"),
    (OUT + 'lines = "onij"', "layout out: lines must be a list of strings, not 'onij'"),
    (
        OUT + 'role = "rows"',
        "layout out: role must be one of activation weight psum running_sum accumulator out next threshold direction "
        "address west north south, not rows",
    ),
    (
        OUT + 'include = "x"',
        "layout out: include must be one of activation weight out psum accumulator threshold next address west north "
        "south, not x",
    ),
    (
        OUT + 'format = "xml"',
        "layout out: format must be one of bin hex dec csv coe coe-hex coe-dec mif mif-hex mif-dec mif-uns "
        "c sv sv-packed npy raw, not xml",
    ),
    (
        OUT + 'format = "mif"\nheader = "short"',
        "layout out: header must be none in format mif, which has no comments, not short",
    ),
    (OUT + 'file = "a b"', "profile mine: layout out: file must be a plain file name with fields in braces, not 'a b'"),
    (
        OUT + 'lines = ["nij"]',
        "profile mine: layout out: files, lines and lanes must be the axes col onij ot, not col nij ot",
    ),
    (MINE + '[layouts.mine]\nfile = "a"', "layout mine: the key files must be there"),
    (
        OUT + 'name = "mine"',
        "layout out: its name must be that of its table, the key name must not be there",
    ),
    (
        OUT + 'split = [{axis = "col", outer = "r", inner = "r", size = 4}]',
        "layout out: split must divide col into two axes, not into r twice",
    ),
    (OUT + 'lines = ["--onij"]', "layout out: axes must be of the letters a to z, or that after a -, not '--onij'"),
    (
        OUT + 'split = [{axis = "col", outer = "R", inner = "s-x", size = 4}]',
        "layout out: axes must be of the letters a to z, or that after a -, not 'R'",
    ),
    (
        OUT + 'files = ["ot", "pt"]\nlines = ["px"]',
        "profile mine: layout out: files, lines and lanes must be the axes col onij ot, not col ot pt px",
    ),
    (OUT + "split = [3]", "layout out: split must be a list of tables, not [3]"),
    (
        OUT + 'split = [{axis = "row", outer = "a", inner = "b", size = 2}]',
        "profile mine: layout out: split must divide one of ot onij col, not row",
    ),
    (
        OUT + 'split = [{axis = "col", outer = "a", inner = "b", size = 0}]',
        "layout out: split: size must be at least 1, not 0",
    ),
    (OUT + 'split = [{axis = "col"}]', "layout out: split: the key outer must be there"),
]


@pytest.mark.parametrize(("text", "message"), MISTAKES)
def test_profiles_say_what_is_wrong_with_them(text, message, tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text(text)
    with pytest.raises(InputError) as caught:
        load_profile(str(path))
    assert str(caught.value) == f"{path}: {message}"


def test_a_profile_that_is_not_utf8_is_refused(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_bytes(b'about = "\xff"')
    with pytest.raises(InputError) as caught:
        load_profile(str(path))
    assert (
        str(caught.value)
        == f"{path}: must be TOML: 'utf-8' codec can't decode byte 0xff in position 9: invalid start byte"
    )


def test_the_largest_numbers_of_a_profile_are_exported(tmp_path):
    path = tmp_path / "mine.toml"
    options = dict(profile=str(path), layers="features.9", tiles="ot=0", include="out", flat=True)
    path.write_text(OUT + f"words = {1 << 20}\nbase = {(1 << 32) - 1}\nformat = 'mif-hex'\n")
    export(STORE, tmp_path / "deep", **options)
    with (tmp_path / "deep" / "out.mif").open("rb") as file:
        assert file.readline() == b"DEPTH = %d;\n" % ((1 << 32) - 1 + (1 << 20))
    path.write_text(MINE + f"pixel_block = [65536, 65536]\n[layouts.out]\nword_bits = {1 << 20}\n")
    export(STORE, tmp_path / "wide", dataflow="os", kij="all", **options | dict(tiles="ot=0,pt=0"))
    lines = (tmp_path / "wide" / "out.txt").read_text().splitlines()
    assert [len(text) for text in lines] == [1 << 20] * 8


@pytest.mark.parametrize("name", ["my layout", "", "a.b", "a\nb", "ä"])
def test_a_layouts_name_is_a_key_of_toml(name):
    layout = load_profile("notebook").layouts[0]
    with pytest.raises(InputError) as caught:
        replace(layout, name=name)
    assert str(caught.value) == f"layout {name}: name must be of letters, digits, _ and -, not {name!r}"


def test_layouts_with_any_name_that_is_allowed_read_back(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text(
        MINE
        + "[layouts.-1_Z]\n"
        + 'role = "out"\ninclude = "out"\nfile = "z.txt"\n'
        + ('files = ["ot"]\nlines = ["onij"]\nlanes = ["col"]\nlane_bits = 16\nsigned = true\n')
    )
    profile = load_profile(str(path))
    assert profile.layouts[-1].name == "-1_Z"
    path.write_text(profile_to_toml(profile))
    assert load_profile(str(path)) == profile


@pytest.mark.parametrize(
    ("name", "dataflow", "message"),
    [
        ("os-all", "ws", "profile os-all is for dataflow os, not ws"),
        ("notebook", "xs", "dataflow must be one of ws os is, not xs"),
        ("no.toml", None, "no.toml: must be a profile's TOML file: No such file or directory"),
        (
            "mine",
            "os",
            "profile must be one of notebook edges int8 os-all os-perkij scalesim simd2-even simd2-even-otile "
            "simd2-odd simd2-split ws-multimap ws-onefile ws-reversed ws-tiled ws-wide or a TOML file, not mine",
        ),
    ],
)
def test_unknown_profiles_are_refused(name, dataflow, message):
    with pytest.raises(InputError) as caught:
        load_profile(name, dataflow)
    assert str(caught.value) == message


def test_an_explanation_draws_a_line():
    drawn = explain(load_profile("simd2-even")).splitlines()
    start = drawn.index("activation: activation_tile{it}.txt")
    assert drawn[start : start + 6] == [
        "activation: activation_tile{it}.txt",
        "  lines: nij; a line: 32 bits, 16 x 2 bits unsigned",
        "   31       30 29       28 27       26       1         0",
        "  +-----------+-----------+-----------+-----+-----------+",
        "  | row7simd1 | row7simd0 | row6simd1 | ... | row0simd0 |",
        "  +-----------+-----------+-----------+-----+-----------+",
    ]
    assert "out: out.txt (several: out_otile{ot}.txt)" in explain(load_profile("notebook"))


def test_every_key_of_a_profile_is_explained():
    names = {kind: {field.name for field in fields(kind)} for kind in (Profile, Layout)}
    assert names[Profile] | {"extends"} == set(PROFILE_KEYS)
    assert names[Layout] - {"name"} == set(LAYOUT_KEYS)
    needed = {field.name for kind in (Profile, Layout) for field in fields(kind) if field.default is MISSING}
    text = keys_as_comments()
    assert needed - {"name", "role"} == set(re.findall(r"\w+", text.splitlines()[0])) & (names[Profile] | names[Layout])
    assert all(line.startswith("# ") and len(line) <= 120 for line in text.splitlines())
    assert tomllib.loads(text) == {}
    assert all(f"#   {name} " in text for name in (*PROFILE_KEYS, *LAYOUT_KEYS))


def test_any_split_can_be_drawn(tmp_path):
    path = tmp_path / "mine.toml"
    split = '{axis = "nij", outer = "y", inner = "x", size = 6}'
    path.write_text(f'extends = "notebook"\n[layouts.activation]\nlines = ["y", "x"]\nsplit = [{split}]\n')
    assert "lines: y, x; a line: 32 bits, 8 x 4 bits unsigned" in explain_profile(str(path))
