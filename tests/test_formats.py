"""Formats that layouts say more of: decimals, lanes apart, blocks at addresses, arrays of languages, own lines, raw."""

import json
import shutil
import subprocess
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from helpers_bench import Builds, random_store
from helpers_export import files_of, odd_store
from helpers_simulator import need
from hypothesis import given, settings
from hypothesis import strategies as st

import factory.verify.decode as verifier
from factory.export import export
from factory.fileplan import read_plan
from factory.manifest import open_manifest
from factory.memfile import decode, explain_profile, load_profile, profile_to_toml
from factory.memfile.layout import FORMAT_KEYS
from factory.spec import ComparisonError, InputError, SystolicArray
from factory.verify import verify_export
from factory.verify.listing import listed_files

TEXT = 'format = "{}"\nsplit = [{{ axis = "kij", outer = "ki", inner = "kj", size = 3 }}]\n'
ARRAY = (
    'file = "weight_l0.txt"\nfiles = []\nlines = ["ot", "col", "it", "row", "ki"]\nlanes = ["kj"]\n'
    'shape = ["ot col", "it row", "ki", "kj"]\n'
)
KERNELS = 'files = []\nfile = "weight.mem"\nlines = ["it", "ot", "kij", "col"]\nlanes = ["row"]\n'


@pytest.fixture(scope="module")
def layer(cases):
    """Return the store of the cases' layer, on an array that holds all of its channels, and its accumulators."""
    with np.load(cases / "values.npz") as values:
        return layer_store(values["weight"], values["activation"]), values["accumulator"]


def layer_store(weight, activation):
    shape = dict(in_channels=activation.shape[1], height=activation.shape[2], width=activation.shape[3])
    store = random_store(SystolicArray(5, 3), 1, out_channels=weight.shape[0], **shape)
    values = replace(store.layers["layer"], weight=weight, activation=activation)
    return replace(store, layers={"layer": values}, images=SimpleNamespace(source_index=np.arange(1)))


def random_layer(seed=0):
    rng = np.random.default_rng(seed)
    weight = rng.integers(-8, 8, (3, 5, 3, 3)).astype(np.int8)
    return layer_store(weight, rng.integers(0, 16, (1, 5, 4, 4)).astype(np.uint8))


def profile(folder, text: str, dataflow: str = "ws") -> str:
    path = folder / "mine.toml"
    path.write_text(f'extends = "notebook"\ndataflow = "{dataflow}"\n{text}')
    return str(path)


def written(store, folder, text: str, include="weight", **options) -> dict[str, bytes]:
    """Export with a profile, read all of it back in every way, and return the files."""
    mine, out = profile(folder, text), folder / "out"
    shutil.rmtree(out, ignore_errors=True)
    export(store, out, layers="layer", profile=mine, include=include, flat=True, **options)
    verify_export(out)
    assert_read_back(out)
    again = load_profile(mine)
    (folder / "again.toml").write_text(profile_to_toml(again))
    assert load_profile(str(folder / "again.toml")) == replace(again, name=again.name)
    explain_profile(mine)
    return files_of(out)


def assert_read_back(folder):
    """Read every file with the product's reader: values, and the address of each of them, lie where the plan says."""
    plan = read_plan(folder)
    for of_layer, image in plan.groups():
        for files in of_layer.sets(image):
            directory = folder / plan.directory(of_layer, image, files)
            for number, (name, labels) in enumerate(files.files(image)):
                assert files.labels_of(number) == labels
                data = (directory / name).read_bytes()
                decode(data, files.memory, files.format, name, number)
                for wrong in (data[:-1], data + b"\n", *[data.replace(data[-3:-2], b"q")] * bool(files.format.radix)):
                    with pytest.raises(InputError):
                        decode(wrong, files.memory, files.format, name, number)


# Decimal numbers


def test_decimal_accumulators_are_the_cases_answer(tmp_path, layer, cases):
    store, _ = layer
    text = '[layouts.acc]\nformat = "dec"\nlane0_left = true\n'
    files = written(store, tmp_path, text, "accumulator")
    assert files["acc_otile0.txt"] == (cases / "decimal" / "expected.txt").read_bytes()


def test_lanes_stand_apart_as_a_layout_says(tmp_path):
    store = random_layer()
    values = store.layers["layer"].weight[:, :, 0, 0]
    lines = [[int(values[col, row]) for row in reversed(range(5))] for col in range(3)]
    kept = dict(kij="0")
    for separator in (",", " | "):
        (data,) = written(
            store, tmp_path, f'[layouts.weight]\nformat = "dec"\nseparator = "{separator}"\n', **kept
        ).values()
        assert data.decode() == "".join(f"{separator.join(map(str, line))}\n" for line in lines)
    (data,) = written(store, tmp_path, '[layouts.weight]\nformat = "bin"\nseparator = "_"\n', **kept).values()
    assert data.decode() == "".join("_".join(f"{x % 16:04b}" for x in line) + "\n" for line in lines)
    text = '[layouts.weight]\nformat = "hex"\nseparator = ", "\nradix_prefix = "0x"\n'
    (data,) = written(store, tmp_path, text, **kept).values()
    assert data.decode() == "".join(", ".join(f"0x{x % 16:x}" for x in line) + "\n" for line in lines)
    (data,) = written(
        store, tmp_path, '[layouts.weight]\nformat = "hex"\nradix_prefix = "{width}\'h"\n', **kept
    ).values()
    assert data.decode() == "".join("20'h" + "".join(f"{x % 16:x}" for x in line) + "\n" for line in lines)


def test_words_of_coe_and_mif_can_be_decimal(tmp_path):
    store = random_layer()
    weight = store.layers["layer"].weight[:, :, 0, 0]
    words = [sum(int(weight[col, row]) % 16 << 4 * row for row in range(5)) for col in range(3)]
    (coe,) = written(store, tmp_path, '[layouts.weight]\nformat = "coe-dec"\n', kij="0").values()
    head = "memory_initialization_radix = 10;\nmemory_initialization_vector =\n"
    assert coe.decode() == head + ",\n".join(map(str, words)) + ";\n"
    head = "DEPTH = 3;\nWIDTH = 20;\nADDRESS_RADIX = HEX;\nDATA_RADIX = {};\nCONTENT BEGIN\n"
    signed = [word - (1 << 20) if word >> 19 else word for word in words]
    assert min(signed) < 0
    for format, name, shown in (("mif-uns", "UNS", words), ("mif-dec", "DEC", signed)):
        (mif,) = written(store, tmp_path, f'[layouts.weight]\nformat = "{format}"\n', kij="0").values()
        lines = [f"{at} : {word};\n" for at, word in enumerate(shown)]
        assert mif.decode() == head.format(name) + "".join(lines) + "END;\n"


def test_a_line_can_be_one_value(tmp_path):
    store = random_layer()
    axes = 'files = []\nfile = "w.txt"\nlines = ["ot", "it", "kij", "col", "row"]\nlanes = []\n'
    text = f'[layouts.weight]\nformat = "dec"\n{axes}'
    (data,) = written(store, tmp_path, text).values()
    expected = store.layers["layer"].weight.reshape(3, 5, 9).transpose(2, 0, 1)
    np.testing.assert_array_equal(np.array(data.split(), int), expected.ravel())


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("1 -2 3 -4 x", "line 2: must hold numbers such as 0|-?[1-9][0-9]*, not 'x'"),
        ("1 -2 3 -4", "line 2: must hold 5 lanes, not 4: '1 -2 3 -4'"),
        ("1 -2 3 -4  5", "line 2: must hold 5 lanes, not 6: '1 -2 3 -4  5'"),
        ("1 -2 3 -4 8", "line 2: must hold numbers of -8 to 7, not 8"),
        ("1 -2 3 -4 -0", "line 2: must hold numbers such as 0|-?[1-9][0-9]*, not '-0'"),
    ],
)
def test_the_verifier_says_which_line_is_wrong(tmp_path, line, message):
    written(random_layer(), tmp_path, '[layouts.weight]\nformat = "dec"\n', kij="0")
    (path,) = (tmp_path / "out").glob("weight*")
    lines = path.read_text().split("\n")
    rewrite(tmp_path / "out", path.name, "\n".join([lines[0], line, *lines[2:]]).encode())
    with pytest.raises(ComparisonError) as caught:
        verify_export(tmp_path / "out")
    assert str(caught.value) == f"{tmp_path / 'out'}: {path.name}: {message}"


def rewrite(folder, name: str, data: bytes) -> None:
    """Replace a file of an export, and its digests."""
    import hashlib

    (folder / name).write_bytes(data)
    path = folder / "manifest.json"
    said = json.loads(path.read_text())
    listing = []
    for group in said["groups"]:
        for one in group["sets"]:
            for entry in one["files"]:
                entry["sha256"] = hashlib.sha256((folder / entry["name"]).read_bytes()).hexdigest()
                listing.append(f"{entry['sha256']}  {entry['name']}\n")
    said["pack_id"] = hashlib.sha256("".join(listing).encode()).hexdigest()
    path.write_text(json.dumps(said))


# Blocks at addresses


def test_blocks_at_addresses_are_the_cases_answer(tmp_path, layer, cases):
    text = f'[layouts.weight]\nformat = "hex"\n{KERNELS}blocks = ["it", "ot", "kij"]\nblock_stride = 16\n'
    files = written(layer[0], tmp_path, text, kij="0:3")
    assert files["weight.mem"] == (cases / "at-addresses" / "expected.mem").read_bytes()


def test_every_file_begins_at_its_own_address(tmp_path):
    text = '[layouts.weight]\nformat = "hex"\nbase = 256\nblocks = ["kij"]\nblock_stride = 8\n'
    files = written(random_layer(), tmp_path, text)
    assert [data.split()[0] for data in files.values()] == [b"@%x" % (256 + 8 * kij) for kij in range(9)]
    text = text.replace('["kij"]', '["ot"]')
    assert {data.split()[0] for data in written(random_layer(), tmp_path, text).values()} == {b"@100"}


def test_addresses_stand_at_every_line_or_every_n(tmp_path):
    text = f'[layouts.weight]\nformat = "bin"\n{KERNELS}block_lines = {{}}\n'
    plain = written(random_layer(), tmp_path, text.format(0))["weight.mem"].split()
    every = written(random_layer(), tmp_path, text.format(1))["weight.mem"].split()
    assert every == [x for at, word in enumerate(plain) for x in (b"@%x" % at, word)]
    several = written(random_layer(), tmp_path, text.format(4) + "block_stride = 32\nbase = 5\n")["weight.mem"].split()
    expected = [x for at, word in enumerate(plain) for x in ([b"@%x" % (5 + at // 4 * 32)] * (at % 4 == 0) + [word])]
    assert several == expected


def test_a_mif_has_the_addresses_of_its_blocks(tmp_path):
    text = f'[layouts.weight]\nformat = "mif-hex"\n{KERNELS}blocks = ["it", "ot", "kij"]\nblock_stride = 16\n'
    lines = written(random_layer(), tmp_path, text)["weight.mem"].decode().splitlines()
    assert lines[0] == "DEPTH = 131;"
    assert [line.split(" : ")[0] for line in lines[5:-1]] == [
        f"{k * 16 + col:02x}" for k in range(9) for col in range(3)
    ]


def test_a_simulator_loads_blocks_where_they_say(tmp_path):
    need("icarus")
    store = random_layer()
    text = f'[layouts.weight]\nformat = "hex"\n{KERNELS}blocks = ["it", "ot", "kij"]\nblock_stride = 16\n'
    written(store, tmp_path, text)
    (tmp_path / "top.sv").write_text(
        'module top;\n  logic [19:0] m [0:130];\n  initial begin\n    $readmemh("out/weight.mem", m);\n'
        '    for (int k = 0; k < 9; k = k + 1) for (int c = 0; c < 3; c = c + 1) $display("%h", m[k * 16 + c]);\n'
        "  end\nendmodule\n"
    )
    run(tmp_path, "iverilog", "-g2012", "-o", "top.vvp", "top.sv")
    weight = store.layers["layer"].weight.reshape(3, 5, 9)
    expected = ["".join(f"{weight[c, row, k] % 16:x}" for row in range(4, -1, -1)) for k in range(9) for c in range(3)]
    assert run(tmp_path, "vvp", "-n", "top.vvp").split() == expected


def run(folder, *command: str) -> str:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


REFUSED = {
    'format = "coe"\nblocks = ["kij"]': "blocks must be [] in format coe, which states no addresses, not ['kij']",
    'format = "dec"\nblock_lines = 2': "block_lines must be 0 in format dec, which states no addresses, not 2",
    'blocks = ["kij"]\nblock_stride = 2': "block_stride must be at least the words of a block, 3, not 2",
    'blocks = ["col", "kij"]': (
        "blocks must be axes of files (it ot kij), and then the first of lines (col), not col kij"
    ),
    'blocks = ["kij"]\nblock_lines = 2': "one of blocks and block_lines must be given, not ['kij'] and 2",
    "block_stride = 2": "block_stride must be given with blocks or block_lines, 2 is alone",
    'blocks = ["kij"]\nwords = 4': "words must be at most 3, because of blocks, not 4",
    'blocks = ["kij"]\nblock_stride = 16\ndepth = 100': "the memory's depth must be at least 131, not 100",
    'separator = "x"': "separator must be of blanks and , ; : | _ /, not 'x'",
    'format = "mif"\nseparator = " "': (
        "separator must be '' in format mif, which has no lines of numbers alone, not ' '"
    ),
    'separator = "_"\nword_bits = 32': "word_bits must be at most 20 where lanes stand apart, not 32",
    'radix_prefix = "{bits}"': "fields of radix_prefix must be of width lanes lane_bits radix, not bits",
    'radix_prefix = "zz"': "radix_prefix must be such as 0x, $ or {lane_bits}'h, not 'zz'",
    'head = ["#Depth={depth"]': "fields of head must be in braces, such as {depth}, not '#Depth={depth'",
    'head = ["{ctype}"]': "fields of head must be of depth end words width lanes lane_bits radix base file name",
    'format = "dec"\nradix_prefix = "0x"': "radix_prefix must be '' in format dec",
    'head = ["a\\tb"]': "head must be lines of printable ASCII, not 'a\\tb'",
    'format = "raw"\nhead = ["a"]': "head must be [] in format raw, which is no text, not ['a']",
    'endian = "big"': "endian must be little in format bin, which is no raw bytes, not big",
    'endian = "middle"': "endian must be one of little big, not middle",
    'shape = ["col", "row"]': "shape must be [] in format bin, which has no dimensions, not ['col', 'row']",
    'format = "c"\nshape = ["row", "col"]': (
        "shape must be the axes of lines and lanes, col row, in dimensions, not ['row', 'col']"
    ),
    'format = "c"\nwords = 4': "words must be at most 3, because of the dimensions of format c, not 4",
}


@pytest.mark.parametrize("text", REFUSED)
def test_what_a_format_cannot_state_is_one_line(tmp_path, text):
    mine = profile(tmp_path, f"[layouts.weight]\n{text}\n")
    with pytest.raises(InputError) as caught:
        export(random_layer(), tmp_path / "x", layers="layer", include="weight", profile=mine)
    assert REFUSED[text] in str(caught.value) and "\n" not in str(caught.value)
    assert "layout weight: " in str(caught.value) and not (tmp_path / "x").exists()


@pytest.mark.parametrize(
    "text", ['separator = "_"\n', 'blocks = ["kij"]\n', 'head = ["// mine"]\n', 'format = "dec"\n']
)
def test_a_testbench_reads_words_alone(tmp_path, text):
    mine = profile(tmp_path, f"[layouts.weight]\n{text}")
    with pytest.raises(InputError, match="^testbench: layout weight: "):
        export(random_layer(), tmp_path / "x", layers="layer", profile=mine, testbench=True)


# Arrays of languages


def test_a_c_compiler_reads_the_cases_weights(tmp_path, layer):
    store, _ = layer
    files = written(store, tmp_path, "[layouts.weight]\n" + TEXT.format("c") + ARRAY)
    text = files["weight_l0.h"].decode()
    assert text.startswith(
        "#ifndef WEIGHT_L0_H\n#define WEIGHT_L0_H\n\n#include <stdint.h>\n\n"
        "static const int8_t weight_l0[3][5][3][3] =\n{{{{"
    )
    assert text.endswith("}}}};\n\n#endif\n")
    (tmp_path / "main.c").write_text(
        '#include <stdio.h>\n#include "out/weight_l0.h"\n#include "out/weight_l0.h"\nint main(void) {\n'
        "  const int8_t *p = (const int8_t *)weight_l0;\n"
        '  for (unsigned i = 0; i < sizeof weight_l0; i++) printf("%d\\n", p[i]);\n  return 0;\n}\n'
    )
    run(tmp_path, "gcc", "-std=c99", "-Wall", "-Wextra", "-Wpedantic", "-Werror", "-o", "main", "main.c")
    printed = np.array(run(tmp_path, "./main").split(), int)
    np.testing.assert_array_equal(printed.reshape(3, 5, 3, 3), store.layers["layer"].weight)


def test_the_type_of_a_c_array_is_as_wide_as_its_values(tmp_path):
    store = random_layer()
    files = written(store, tmp_path, "", "activation,accumulator,out", format="c")
    assert "static const uint8_t activation_tile0[36][5] =" in files["activation_tile0.h"].decode()
    assert "static const int16_t acc_otile0[16][3] =" in files["acc_otile0.h"].decode()
    files = written(store, tmp_path, "", "accumulator", format="c", psum_bits=32)
    assert "static const int32_t acc_otile0[16][3] =" in files["acc_otile0.h"].decode()


@pytest.mark.parametrize(
    ("format", "declared"),
    [
        ("sv", "localparam logic signed [3:0] WEIGHT_L0 [3][5][3][3] =\n'{'{'{'{"),
        ("sv-packed", "localparam logic [0:2][0:4][0:2][0:2][3:0] WEIGHT_L0 =\n{{{{4'h"),
    ],
)
def test_verilator_reads_arrays_that_are_included(tmp_path, format, declared):
    need("verilator")
    store = random_layer()
    files = written(store, tmp_path, f"[layouts.weight]\n{TEXT.format(format)}{ARRAY}")
    assert declared in files["weight_l0.svh"].decode()
    weight = store.layers["layer"].weight
    place = "function automatic int at(int o, int i, int k, int l); return int'($signed(WEIGHT_L0[o][i][k][l]));"
    for wrong in (0, 1):  # each value is compared while the module is elaborated
        checks = "".join(
            f"  if (at{at} != {weight[at] + wrong * (at == (2, 4, 1, 0))}) $error;\n" for at in np.ndindex(weight.shape)
        )
        include = '`include "out/weight_l0.svh"\n' * 2
        (tmp_path / "top.sv").write_text(f"{include}module top;\n  {place} endfunction\n{checks}endmodule\n")
        command = ["verilator", "--lint-only", "-Wall", "-Wno-LITENDIAN", "top.sv"]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
        assert (done.returncode != 0) == bool(wrong), done.stderr
        assert done.stderr.count("Elaboration system task message") == wrong


# Lines of one's own


def test_own_lines_come_before_and_after_the_words(tmp_path):
    head = '["#Format=Hex", "#Depth={depth}", "#Width={width}", "#AddrRadix=3", "#DataRadix=3", "#Data"]'
    text = f'[layouts.weight]\nformat = "hex"\nfile = "w_k{{kij}}.mem"\ndepth = 4\nhead = {head}\n'
    plain = written(random_layer(), tmp_path, '[layouts.weight]\nformat = "hex"\nfile = "w_k{kij}.mem"\n')
    for name, data in written(random_layer(), tmp_path, text).items():
        own = b"#Format=Hex\n#Depth=4\n#Width=20\n#AddrRadix=3\n#DataRadix=3\n#Data\n"
        assert data == own + plain[name]
    text = '[layouts.weight]\nformat = "dec"\nhead = ["{words} {lanes}", "{file}"]\nfoot = ["end of {name}, {radix}"]\n'
    for name, data in written(random_layer(), tmp_path, text).items():
        first, second, *_, last = data.decode().splitlines()
        assert (first, second, last) == ("3 5", name, f"end of {name.removesuffix('.txt')}, 10")


def test_own_lines_of_files_that_are_cut_in_pieces_have_their_names(tmp_path, monkeypatch):
    text = '[layouts.psum]\nformat = "dec"\nhead = ["{file}"]\nfoot = ["{file}"]\n'
    whole = written(random_layer(), tmp_path, text, "psum", kij="3:5")
    monkeypatch.setattr("factory.export.render.RUN_BYTES", 100)
    assert written(random_layer(), tmp_path, text, "psum", kij="3:5") == whole
    for name, data in whole.items():
        assert data.decode().splitlines()[0] == data.decode().splitlines()[-1] == name


# Raw bytes


def test_raw_words_have_an_order_of_bytes_a_size_and_an_alignment(tmp_path):
    store = random_layer()
    text = '[layouts.weight]\nformat = "raw"\n{}'
    for size in (40, 512):
        little = written(store, tmp_path, text.format(f"word_bits = {size}\n"), kij="0")
        big = written(store, tmp_path, text.format(f'word_bits = {size}\nendian = "big"\nalign_bytes = 128\n'), kij="0")
        for name, data in little.items():
            words = [data[at : at + size // 8] for at in range(0, len(data), size // 8)]
            assert len(words) == 3
            aligned = b"".join(word[::-1] for word in words)
            assert big[name] == aligned + bytes(-len(aligned) % 128)


# Round trips of everything that can be said together


@given(st.data())
@settings(max_examples=15)
def test_whatever_a_layout_says_is_read_back(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("said")
    format = data.draw(
        st.sampled_from(["bin", "hex", "dec", "mif", "mif-dec", "coe-dec", "c", "sv", "sv-packed", "raw"])
    )
    lines = data.draw(st.permutations(["it", "ot", "kij", "col"]))
    files = data.draw(st.integers(0, 2))
    keys = [f"files = {json.dumps(lines[:files])}", f"lines = {json.dumps(lines[files:])}", 'file = "w.txt"']
    if format in ("bin", "hex", "dec") and data.draw(st.booleans()):
        keys.append(f"separator = {json.dumps(data.draw(st.sampled_from([' ', ',', '_', ' | '])))}")
    if format in ("bin", "hex") and data.draw(st.booleans()):
        keys.append('radix_prefix = "{lane_bits}\'h"')
    if format != "raw" and data.draw(st.booleans()):
        keys += ['head = ["# {file} {depth}"]', 'foot = ["{words}"]']
    if format in ("bin", "hex", "mif", "mif-dec"):
        keys.append(f"base = {data.draw(st.sampled_from([0, 7]))}")
        if data.draw(st.booleans()):
            counted = data.draw(st.integers(0, len(lines) - 1))
            keys.append(f"blocks = {json.dumps(lines[data.draw(st.integers(0, files)) : counted])}")
        elif data.draw(st.booleans()):
            keys.append(f"block_lines = {data.draw(st.integers(1, 5))}\nblock_stride = 9")
    if format == "raw":
        keys.append(f'endian = "big"\nalign_bytes = {data.draw(st.integers(1, 9))}')
    plain = ["[layouts.weight]", *keys[:3]]
    keys += [f'format = "{format}"', f"lane0_left = {json.dumps(data.draw(st.booleans()))}"]
    store = random_store(SystolicArray(2, 2), 1, in_channels=3, out_channels=3, kernel=2, height=2, width=2, padding=0)
    options = dict(layers="layer", include="weight", flat=True)
    mine = profile(folder, "\n".join(["[layouts.weight]", *keys, ""]))
    export(store, folder / "out", profile=mine, **options)
    verify_export(folder / "out")
    export(store, folder / "npy", profile=profile(folder, "\n".join([*plain, 'format = "npy"\n'])), **options)
    (files,), (listed,) = read_plan(folder / "out").layers[0].own, listed_files(open_manifest(folder / "out"))
    for number, ((name, _), entry) in enumerate(zip(files.files(None), listed.record["files"], strict=True)):
        content = (folder / "out" / name).read_bytes()
        expected = np.load(folder / "npy" / f"{name.partition('.')[0]}.npy")
        np.testing.assert_array_equal(decode(content, files.memory, files.format, name, number), expected)
        np.testing.assert_array_equal(verifier.decode(content, listed.rule_of(entry, {})), expected)


def test_a_manifest_has_no_keys_that_say_nothing(tmp_path):
    export(random_layer(), tmp_path / "x", layers="layer")
    (keys,) = {tuple(layout) for layout in json.loads((tmp_path / "x/manifest.json").read_text())["layouts"].values()}
    assert not set(keys) & set(FORMAT_KEYS)


def test_a_profile_is_drawn_with_its_text(tmp_path):
    keys = 'format = "hex"\nseparator = "_"\nblocks = ["it", "ot", "kij"]\nhead = ["// {words} words"]\n'
    text = f"[layouts.weight]\n{KERNELS}{keys}"
    drawn = explain_profile(profile(tmp_path, text))
    lines = ["hex, such as weight.mem:", "  // 64 words", "  @0", *["  0_0_0_0_0_0_0_0"] * 3, "  ..."]
    assert "".join(f"  {line}\n" for line in lines) in drawn
    assert "such as" not in explain_profile("notebook")
    drawn = explain_profile(profile(tmp_path, f"{text}depth = 2\n"))
    assert "  hex, not shown for this array: layout weight: the memory's depth must be at least 64, not 2\n" in drawn


# Fixed names


def test_a_testbench_with_fixed_names_runs_any_tile(tmp_path):
    options = dict(layers="features.9", flat=True, images="1", tiles="it=1:3,ot=1", kij="0,3")
    export(odd_store(), tmp_path / "labels", **options)
    export(odd_store(), tmp_path / "places", **options, renumber=True)
    labels, places = files_of(tmp_path / "labels"), files_of(tmp_path / "places")
    assert list(places) == [
        "activation_tile0.txt", "activation_tile1.txt", "out.txt",
        *(f"weight_itile{it}_otile0_kij{kij}.txt" for it in range(2) for kij in range(2)),
    ]  # fmt: skip
    assert places["weight_itile1_otile0_kij1.txt"] == labels["weight_itile2_otile1_kij3.txt"]
    assert list(places.values()) == list(labels.values())
    verify_export(tmp_path / "places")
    said = json.loads((tmp_path / "places" / "manifest.json").read_text())
    entries = [entry for group in said["groups"] for one in group["sets"] for entry in one["files"]]
    weights = [(x["it"], x["ot"], x["kij"]) for x in entries if x["name"].startswith("weight")]
    assert weights == [(1, 1, 0), (1, 1, 3), (2, 1, 0), (2, 1, 3)]
    assert {group["image"] for group in said["groups"]} == {None, 1}
    plan = read_plan(tmp_path / "places")
    sets = [(files, image) for of_layer, image in plan.groups() for files in of_layer.sets(image)]
    assert [name for files, image in sets for name, _ in files.files(image)] == [x["name"] for x in entries]


def test_images_are_numbered_from_0_in_names_and_folders(tmp_path):
    store = odd_store(images=4)
    options = dict(layers="features.9", images="1,3", tiles="ot=1", include="activation,out", renumber=True)
    for name in ("notebook", "ws-multimap"):
        export(store, tmp_path / name, profile=name, rows=8, cols=8, **options)
        verify_export(tmp_path / name)
    assert {path.split("/")[1] for path in files_of(tmp_path / "notebook")} == {"image0", "image1"}
    assert {path.split("/")[1] for path in files_of(tmp_path / "ws-multimap")} >= {"out0.txt", "out1.txt"}
    path = tmp_path / "notebook" / "manifest.json"
    path.write_text(path.read_text().replace('"renumber": true', '"renumber": false'))
    with pytest.raises(ComparisonError, match="directory must be features.9/image1, not features.9/image0"):
        verify_export(tmp_path / "notebook")


def test_a_testbench_reads_renumbered_files(tmp_path):
    need("icarus")
    store = random_store(SystolicArray(3, 4), images=3)
    export(store, tmp_path / "x", images="1:3", tiles="it=1", testbench=True, renumber=True)
    assert Builds(tmp_path).run(tmp_path / "x").jobs == 4


def test_a_header_is_for_the_roles_that_are_named(tmp_path):
    store = random_layer()
    options = dict(layers="layer", include="activation,weight,address,out", flat=True, kij="0", header="tokens")
    export(store, tmp_path / "x", header_roles="activation,weight,out", **options)
    verify_export(tmp_path / "x")
    headed = {name: data.startswith(b"#") for name, data in files_of(tmp_path / "x").items()}
    assert [name for name, has in headed.items() if not has] == ["address.txt"] and sum(headed.values()) == 3
    for roles, message in (
        ("activation,x", "header_roles must be of activation weight out psum accumulator"),
        ("", "header_roles must name at least one role, it is empty"),
    ):
        with pytest.raises(InputError, match=message):
            export(store, tmp_path / "y", header_roles=roles, **options)
    with pytest.raises(InputError, match="^header_roles must be given with header$"):
        export(store, tmp_path / "y", header_roles="weight", layers="layer")


# Layouts and formats together


def test_a_bus_takes_words_at_addresses_of_beats(tmp_path):
    store = random_layer()  # words of 20 bits, three for each kij: 3 beats of 8 bits each
    text = f"[layouts.weight]\n{KERNELS}bus_bits = 8\n"
    (plain,) = written(store, tmp_path, f"{text}format = 'hex'\n", kij="0:2").values()
    beats = plain.split()
    assert len(beats) == 2 * 3 * 3
    blocks = "blocks = ['it', 'ot', 'kij']\nblock_stride = 16\nbase = 1\n"
    (data,) = written(store, tmp_path, f"{text}format = 'hex'\n{blocks}", kij="0:2").values()
    assert data.split() == [b"@1", *beats[:9], b"@11", *beats[9:]]
    (data,) = written(store, tmp_path, f"{text}format = 'mif-uns'\n{blocks}", kij="0:2").values()
    lines = data.decode().splitlines()
    assert lines[:2] == ["DEPTH = 26;", "WIDTH = 8;"]
    places = [*range(1, 10), *range(17, 26)]
    assert lines[5:-1] == [f"{at:02x} : {int(beat, 16)};" for at, beat in zip(places, beats, strict=True)]
    text += "format = 'hex'\nradix_prefix = \"{width}'h\"\nhead = ['{words} of {width}']\nblock_lines = 3\n"
    (data,) = written(store, tmp_path, text, kij="0:2").values()
    prefixed = [b"8'h" + beat for beat in beats]
    expected = [x for at, beat in enumerate(prefixed) for x in ([b"@%x" % at] * (at % 3 == 0) + [beat])]
    assert data.split() == [b"18", b"of", b"8", *expected]


def test_blocks_hold_the_words_between_aligned_lines(tmp_path):
    text = f"[layouts.weight]\n{KERNELS}align = [{{ axis = 'kij', words = 4 }}]\nformat = 'hex'\nblock_stride = 8\n"
    plain = written(random_layer(), tmp_path, f"[layouts.weight]\n{KERNELS}format = 'hex'\n", kij="0:2")
    (data,) = written(random_layer(), tmp_path, f"{text}blocks = ['it', 'ot', 'kij']\n", kij="0:2").values()
    words = plain["weight.mem"].split()
    assert data.split() == [b"@0", *words[:3], b"00000", b"@8", *words[3:], b"00000"]
    mine = profile(tmp_path, text.replace("'kij', w", "'it', w") + "blocks = ['it', 'ot', 'kij']\n")
    with pytest.raises(InputError, match="align must not be of an axis of blocks but the last, kij, so that .* of it$"):
        export(random_layer(), tmp_path / "x", layers="layer", include="weight", profile=mine)


def test_bits_of_codes_stand_apart(tmp_path):
    store = random_layer()
    weight = store.layers["layer"].weight[:, ::-1, 0, 0].tolist()
    text = '[layouts.weight]\ncode = "{}"\nformat = "{}"\nseparator = " "\n'
    for code, bits in (("offset", lambda x: x + 8), ("sign_magnitude", lambda x: 8 - x if x < 0 else x)):
        fitting = [[max(x, -7) if code == "sign_magnitude" else x for x in line] for line in weight]
        store.layers["layer"].weight[:, ::-1, 0, 0] = fitting
        (data,) = written(store, tmp_path, text.format(code, "hex"), kij="0").values()
        lines = [" ".join(f"{bits(x):x}" for x in line) for line in fitting]
        assert data.decode().splitlines() == lines
        packed = text.replace('separator = " "\n', "").format(code, "sv-packed")
        (data,) = written(store, tmp_path, packed, kij="0").values()
        assert f"{{4'h{bits(fitting[0][-1]):x}, 4'h" in data.decode()
    planes = '[layouts.weight]\nlines = ["col", "row"]\nlanes = ["-bit"]\nlane0_left = true\nformat = "dec"\n'
    (data,) = written(store, tmp_path, planes, kij="0").values()
    assert data.decode().splitlines() == [" ".join(f"{x % 16:04b}") for line in fitting for x in line[::-1]]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        *((f'format = "{x}"\nbus_bits = 8', f"bus_bits must be 0 in format {x}, which holds lanes, not bits")
          for x in ("dec", "c", "sv", "sv-packed", "npy")),
        ('bus_bits = 8\nseparator = "_"', "separator must be '' with bus_bits, whose beats have no lanes, not '_'"),
        ('bus_bits = 8\nhead = ["{lanes}"]', "NAME where a bus takes words in beats, not lanes"),
        *((f'format = "{x}"\ncode = "offset"', f"code must be twos_complement in format {x}, which holds values, "
           "not bits, not offset") for x in ("dec", "c", "sv")),
        *((f'format = "{x}"\nalign = [{{ axis = "col", words = 2 }}]', f"align must be [] in format {x}, whose "
           "dimensions have no room between lines, not [{'axis': 'col', 'words': 2}]") for x in ("c", "sv-packed")),
        ('format = "hex"\nalign_bytes = 4', "align_bytes must be 1 in format hex, which is no raw bytes, not 4"),
        ("bus_bits = 8\nblocks = ['kij']\nblock_stride = 8", "block_stride must be at least the words of a block, 9, "),
        ("bus_bits = 8\ndepth = 8", "the memory's depth must be at least 9, not 8"),
    ],
)  # fmt: skip
def test_what_a_layout_and_its_format_contradict_is_one_line(tmp_path, text, message):
    mine = profile(tmp_path, f"[layouts.weight]\n{text}\n")
    with pytest.raises(InputError) as caught:
        export(random_layer(), tmp_path / "x", layers="layer", include="weight", profile=mine)
    assert message in str(caught.value) and "layout weight: " in str(caught.value) and "\n" not in str(caught.value)


@given(st.data())
@settings(max_examples=15)
def test_axes_and_formats_are_read_back_together(tmp_path_factory, data):
    folder, draw = tmp_path_factory.mktemp("both"), data.draw
    format = draw(st.sampled_from(["bin", "hex", "dec", "coe-hex", "mif-dec", "sv", "sv-packed", "npy", "raw"]))
    code = draw(st.sampled_from(["twos_complement", "sign_magnitude"]))
    own = ["ic", "kij", "oc"] if draw(st.booleans()) else ["ic", "kij", "ot", "col"]
    own += ["bit"] * draw(st.booleans()) + ["pt"] * draw(st.booleans())
    names, cuts = draw(st.permutations(own)), sorted(draw(st.tuples(st.integers(0, 2), st.integers(0, len(own)))))
    files, lines, lanes = names[: cuts[0]], names[cuts[0] : cuts[1]], names[cuts[1] :]
    keys = [f"files = {json.dumps(files)}", f"lines = {json.dumps(lines)}", f"lanes = {json.dumps(lanes)}"]
    aligned = [f'{{ axis = "{axis}", words = {draw(st.integers(1, 4))} }}' for axis in lines if draw(st.booleans())]
    plain = [*keys, 'file = "w.txt"', f"align = [{', '.join(aligned) if 'sv' not in format else ''}]"]
    if format not in ("dec", "sv") or "bit" in names:
        plain.append(f'code = "{code}"')
    keys = [*plain, f'format = "{format}"', f"lane0_left = {json.dumps(draw(st.booleans()))}"]
    if format in ("bin", "hex", "coe-hex", "mif-dec", "raw"):
        keys.append(f"bus_bits = {draw(st.integers(0, 9))}")
    if format in ("bin", "hex", "mif-dec"):
        keys.append(draw(st.sampled_from(["base = 3", "block_lines = 2\nblock_stride = 5"])))
    if format == "raw":
        keys.append(f'endian = "big"\nalign_bytes = {draw(st.integers(1, 9))}')
    store = random_store(SystolicArray(2, 2), 1, in_channels=3, out_channels=3, kernel=2, height=3, width=3, padding=0)
    store.layers["layer"].weight[store.layers["layer"].weight == -8] = 1
    options = dict(layers="layer", include="weight", flat=True)
    for name, said in (("said", keys), ("plain", [*plain, 'format = "npy"'])):
        mine = profile(folder, "\n".join(["[layouts.weight]", *said, ""]), "os")
        export(store, folder / name, profile=mine, **options)
        verify_export(folder / name)
    (files,) = read_plan(folder / "said").layers[0].own
    for number, (name, _) in enumerate(files.files(None)):
        expected = np.load(folder / "plain" / f"{name.partition('.')[0]}.npy")
        np.testing.assert_array_equal(files.read((folder / "said" / name).read_bytes(), number), expected)


def test_channels_are_numbered_from_0_in_names(tmp_path):
    mine = profile(tmp_path, '[layouts.weight]\nfile = "w{oc}.txt"\nfiles = ["oc"]\nlines = ["it", "kij"]\n')
    options = dict(layers="features.9", profile=mine, include="weight", tiles="it=1,ot=1", flat=True)
    for renumber in (False, True):
        export(odd_store(), tmp_path / f"{renumber}", **options, renumber=renumber)
        verify_export(tmp_path / f"{renumber}")
    labels, places = (files_of(tmp_path / f"{renumber}") for renumber in (False, True))
    first = min(int(name[1:].partition(".")[0]) for name in labels)
    assert first and places == {f"w{int(name[1:-4]) - first}.txt": data for name, data in labels.items()}
