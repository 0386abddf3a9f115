"""Dumps in every form that simulators, boards and scripts write, and what none of them may be."""

import re
import shutil
from dataclasses import replace

import numpy as np
import pytest
from helpers_bench import random_store

from factory.arithmetic.bits import Field
from factory.diagnose import diagnose
from factory.diagnose.dump import GIVEN, MISSING, UNDEFINED, read_dump
from factory.diagnose.report import report
from factory.export import export
from factory.memfile import FORMATS, Memory, WordFormat
from factory.spec import InputError, SystolicArray

WORD = WordFormat(3, Field(16, True))
MEMORY = Memory(16, WORD)
VALUES = np.random.default_rng(3).integers(-600, 600, (16, 3))


def binary(word) -> str:
    return "".join(format(int(value) % 65536, "016b") for value in reversed(word))


def hexadecimal(word) -> str:
    return "".join(format(int(value) % 65536, "04x") for value in reversed(word))


def lines(words) -> str:
    return "".join(f"{word}\n" for word in words)


FORMS = {
    "binary": lines(map(binary, VALUES)),
    "hex": lines(map(hexadecimal, VALUES)),
    "upper case, CRLF": lines(f"{hexadecimal(word).upper()}\r" for word in VALUES),
    "writememb": "// 0x00000000\n" + lines(map(binary, VALUES)),
    "comments": "/* a\nb */\n" + lines(f"{hexadecimal(word)} // word {n}" for n, word in enumerate(VALUES)),
    "underscores": lines(re.sub("(....)(?=.)", r"\1_", hexadecimal(word)) for word in VALUES),
    "addresses": "@8\n" + lines(map(hexadecimal, VALUES[8:])) + "@0\n" + lines(map(hexadecimal, VALUES[:8])),
    "several on a line": " ".join(map(hexadecimal, VALUES)),
    "decimal": lines(VALUES.reshape(-1).tolist()),
    "a hex value a line": lines(format(value % 65536, "04x") for value in VALUES.reshape(-1).tolist()),
    "hex without zeros": lines(format(value % 65536, "x") for value in VALUES.reshape(-1).tolist()),
    "0x": lines(f"0x{value % 65536:x}" for value in VALUES.reshape(-1).tolist()),
    "coe": "memory_initialization_radix = 16;\nmemory_initialization_vector =\n"
    + ",\n".join(map(hexadecimal, VALUES)) + ";\n",
    "mif": "DEPTH = 16;\nWIDTH = 48;\nADDRESS_RADIX = HEX;\nDATA_RADIX = HEX;\nCONTENT BEGIN\n"
    + lines(f"{n:x} : {hexadecimal(word)};" for n, word in enumerate(VALUES)) + "END;\n",
}  # fmt: skip


@pytest.mark.parametrize("form", FORMS)
def test_text_gives_the_words(tmp_path, form):
    path = tmp_path / "dump.txt"
    path.write_text(FORMS[form], newline="")
    found = read_dump(path, MEMORY)
    assert np.array_equal(found.values, VALUES) and (found.state == GIVEN).all() and not found.extra


def test_arrays_and_tables_give_the_words(tmp_path):
    np.save(tmp_path / "a.npy", VALUES)
    np.save(tmp_path / "b.npy", VALUES.astype(np.int16).reshape(-1))
    (tmp_path / "c.csv").write_text("col0,col1,col2\n" + lines(",".join(map(str, word)) for word in VALUES.tolist()))
    (tmp_path / "d.raw").write_bytes(b"".join(int(binary(word), 2).to_bytes(6, "little") for word in VALUES))
    for path in sorted(tmp_path.iterdir()):
        found = read_dump(path, MEMORY)
        assert np.array_equal(found.values, VALUES) and (found.state == GIVEN).all(), path


def test_what_is_unknown_or_not_there_is_said(tmp_path):
    text = lines(map(binary, VALUES[:14]))
    words = [*text.split(), "x" * 48]
    words[3] = words[3][:20] + "z" + words[3][21:]  # bit 27: lane 1
    (tmp_path / "d.txt").write_text("// 0x00000000\n" + lines(words))
    found = read_dump(tmp_path / "d.txt", MEMORY)
    assert found.state[3].tolist() == [GIVEN, UNDEFINED, GIVEN]
    assert (found.state[14] == UNDEFINED).all() and (found.state[15] == MISSING).all()
    assert found.values[3].tolist() == [VALUES[3][0], 0, VALUES[3][2]]
    (tmp_path / "e.txt").write_text(lines(["@2", hexadecimal(VALUES[2]), "@11", "0" * 12]))
    found = read_dump(tmp_path / "e.txt", MEMORY)
    assert (found.state[2] == GIVEN).all() and found.extra == 1
    assert (np.delete(found.state, 2, axis=0) == MISSING).all()
    (tmp_path / "f.txt").write_text("-5\nx\n7\n12")
    found = read_dump(tmp_path / "f.txt", MEMORY)
    assert found.values[0].tolist() == [-5, 0, 7] and found.state[0].tolist() == [GIVEN, UNDEFINED, GIVEN]
    assert found.state[1].tolist() == [GIVEN, MISSING, MISSING]
    for empty in ("", "\n\n", "// nothing\n"):
        (tmp_path / "g.txt").write_text(empty)
        assert (read_dump(tmp_path / "g.txt", MEMORY).state == MISSING).all()


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.txt", "12\nhello\n", "line 2: must be a word of the memory or an integer, not 'hello'"),
        ("a.txt", "@zz\n1\n", "line 1: must be an address such as @1f, not '@zz'"),
        ("a.txt", "12\n-70000\n", "value 1 must be -32768 to 65535, not -70000"),
        ("a.csv", "1,2,3\n4,5\n", "line 2: must have 3 columns, lane 0 first, not 2"),
        ("a.csv", "1,2,70000\n", "word 0, lane 2: must be -32768 to 65535, not 70000"),
        ("a.txt", "0" * 2_000_000, "must be a dump of 16 words, not 2000000 bytes"),
    ],
)
def test_what_is_no_dump_is_one_line(tmp_path, name, text, message):
    (tmp_path / name).write_text(text)
    with pytest.raises(InputError) as caught:
        read_dump(tmp_path / name, MEMORY)
    assert str(caught.value) == f"{tmp_path / name}: {message}"


def test_an_npy_of_other_words_is_one_line(tmp_path):
    np.save(tmp_path / "a.npy", np.zeros((4, 5)))
    with pytest.raises(InputError, match=r"a.npy: must be integers \(word, 3\), not float64 \(4, 5\)$"):
        read_dump(tmp_path / "a.npy", MEMORY)


def test_a_memory_that_writememh_wrote(tmp_path):
    store = random_store(SystolicArray(3, 3), 1, in_channels=3, out_channels=3, height=4, width=4)
    folder = tmp_path / "x"
    export(store, folder, include="activation,weight,accumulator", tiles="it=0", rows=3, cols=3)
    (accumulators,) = (path for path in folder.rglob("acc*.txt") if "itile" not in path.name)
    text = [format(int(line, 2), "012x") for line in accumulators.read_text().split()]
    text[6] = format(int(text[6], 16) ^ 1 << 16, "012x")
    text[-2:] = ["x" * 12] * 2
    (tmp_path / "dump.hex").write_text("// 0x00000000\n" + lines(text))
    found = diagnose(folder, [tmp_path / "dump.hex"], role="accumulator")
    counts = found.counts
    assert (counts.expected, counts.given, counts.undefined, counts.wrong, counts.equal) == (16, 14, 2, 1, 13)
    assert str(found.first.address) == "layer, image 0, ot 0, onij 6, col 1" and found.first.bits == (0,)
    said = report(found)
    assert "all: 16 words expected, 14 given, 13 equal, 1 wrong, 2 undefined, 0 missing" in said
    assert "bits 31 to 16; of its bits 0 differ" in said.replace("\n    ", " ")


def written(path, text: str | bytes):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.txt", "12\n" + "1" * 60 + "\n", f"line 2: must be a word of the memory or an integer, not '{'1' * 40}'"),
        ("a.csv", f"1,2,{'9' * 30}\n", f"line 1: must be a word of the memory or an integer, not '{'9' * 30}'"),
        ("a.txt", "@" + "f" * 20 + "\n1\n", "line 1: addresses must begin with 0, not '@" + "f" * 20 + "'"),
        ("a.txt", "1 2 -3\n", "line 1: must be one value of a lane a line, not '1 2 -3'"),
        ("a.txt", "0012\n0034\n00", "values could be decimal or hex: "),
        ("a.csv", "1,2,\n", "line 1: must be a word of the memory or an integer, not ''"),
        ("a.npy", b"\x93NUMPY\x01", "must be a NumPy array: "),
        ("a.coe", "memory_initialization_radix = 8;\nmemory_initialization_vector =\n7;\n",
         "memory_initialization_radix must be 2, 10 or 16, not 8"),
        ("a.mif", "DATA_RADIX = ROM;\nCONTENT BEGIN\n0 : 1;\nEND;\n",
         "DATA_RADIX must be one of BIN OCT DEC UNS HEX, not ROM"),
        ("a.mif", "CONTENT BEGIN\nx : 1;\nEND;\n", "must be an address, a colon and words, not 'x : 1'"),
        ("a.mif", "DATA_RADIX = OCT;\nCONTENT BEGIN\n0 : 9;\nEND;\n", "must be words of 48 bits in radix 8, not '9'"),
        ("a.txt", "0012\n" * 48, "values could be decimal or hex: hex must begin with 0x, or decimal with"),
    ],
)  # fmt: skip
def test_what_cannot_be_read_is_one_line(tmp_path, name, text, message):
    with pytest.raises(InputError) as caught:
        read_dump(written(tmp_path / name, text), MEMORY)
    said = str(caught.value)
    assert "\n" not in said and said.startswith(f"{tmp_path / name}: {message}")


@pytest.mark.parametrize("suffix", [".npy", ".raw", ".csv", ".txt", ".mif", ".coe"])
def test_an_empty_file_is_an_empty_dump(tmp_path, suffix):
    assert (read_dump(written(tmp_path / f"a{suffix}", ""), MEMORY).state == MISSING).all()


@pytest.mark.parametrize("form", [binary, hexadecimal])
def test_a_last_word_that_is_cut_is_missing(tmp_path, form):
    found = read_dump(written(tmp_path / "a.txt", lines(map(form, VALUES))[:-4]), MEMORY)
    assert np.array_equal(found.values[:15], VALUES[:15]) and (found.state[:15] == GIVEN).all()
    assert (found.state[15] == MISSING).all()


def test_unsigned_values_beyond_an_int64_are_one_line(tmp_path):
    np.save(tmp_path / "a.npy", np.full((16, 3), 2**64 - 1, np.uint64))
    with pytest.raises(InputError, match="word 0, lane 0: must be -32768 to 65535, not 18446744073709551615$"):
        read_dump(tmp_path / "a.npy", MEMORY)


def test_values_of_digits_alone_are_decimal(tmp_path):
    values = 1000 + np.arange(48).reshape(16, 3)
    path = written(tmp_path / "a.txt", lines(values.reshape(-1).tolist()))
    assert np.array_equal(read_dump(path, MEMORY).values, values)
    pair = Memory(2, WordFormat(2, Field(4, False)))  # 12 is two lanes in hex, or one in decimal
    assert read_dump(written(tmp_path / "b.txt", "12\n13\n14\n15\n"), pair).values.tolist() == [[12, 13], [14, 15]]
    assert read_dump(written(tmp_path / "b.txt", "12\n13\n"), pair).values.tolist() == [[2, 1], [3, 1]]
    single = Memory(48, WordFormat(1, WORD.field))
    with pytest.raises(InputError, match="could be decimal or hex"):
        read_dump(path, single)
    assert read_dump(path, single, 10).values[1] == 1001 and read_dump(path, single, 16).values[1] == 0x1001


@pytest.mark.parametrize(
    ("address", "data", "entries"),
    [
        ("UNS", "DEC", "[0..9] : -1; 10 : 5 6; [12..15] : 7 8;"),
        ("HEX", "UNS", f"[0..9] : {2**48 - 1}; a : 5 6; [c..F] : 7 8;"),
        ("BIN", "HEX", f"[0..1001] : {'f' * 12}; 1010 : 5 6; [1100 .. 1111] : 7 8; -- 0 : 1;"),
        ("OCT", "OCT", f"[0..11] : {'7' * 16}; 12 : 5 6; [14..17] : 7 10; % 0 : 1; %"),
        ("DEC", "BIN", f"[0..9] : {'1' * 48}; 10 : 101 110; [12..15] : 111 1000;"),
    ],
)
def test_the_radices_and_ranges_of_a_mif(tmp_path, address, data, entries):
    text = f"WIDTH = 48;\nADDRESS_RADIX = {address};\nDATA_RADIX = {data};\nCONTENT BEGIN\n{entries}\nEND;\n"
    found = read_dump(written(tmp_path / "a.mif", text), MEMORY)
    assert (found.state == GIVEN).all() and (found.values[:10] == -1).all()
    assert found.values[10:].tolist() == [[low, 0, 0] for low in (5, 6, 7, 8, 7, 8)]


PROFILE = """extends = "notebook"
[layouts.psum]
lane_bits = 16
%s
[layouts.out]
lane_bits = 16
%s
"""


@pytest.mark.parametrize(
    "keys",
    [f'format = "{name}"' for name in FORMATS]
    + [
        'format = "bin"\nseparator = " "',
        'format = "hex"\nblock_lines = 4\nblock_stride = 6',
        'format = "raw"\nendian = "big"',
        'format = "hex"\nradix_prefix = "0x"',
        'format = "bin"\nbase = 5',
    ],
)
def test_the_export_s_own_files_are_right(tmp_path, keys):
    store = random_store(SystolicArray(3, 3), 1, in_channels=3, out_channels=3, height=4, width=4)
    folder, profile = tmp_path / "x", written(tmp_path / "p.toml", PROFILE % (keys, keys))
    export(store, folder, include="psum,out", profile=profile)
    for dump in (folder, next(path for path in folder.rglob("out*") if path.is_file())):
        assert diagnose(folder, [dump]).passes
    renamed = written(tmp_path / f"given{dump.suffix}", dump.read_bytes())
    assert diagnose(folder, [renamed], role="out").passes
    if dump.suffix in (".txt", ".hex"):
        short = written(tmp_path / dump.name, b"".join(dump.read_bytes().splitlines(True)[:-1]))
        if "block" not in keys:
            assert (diagnose(folder, [short]).counts.missing, diagnose(folder, [short]).counts.wrong) == (1, 0)
    empty = written(tmp_path / dump.name, b"")
    assert diagnose(folder, [empty]).counts.missing == 16


PSUM_LINES = 'files = []\nfile = "psum.txt"\nlines = ["it", "ot", "kij", "nij"%s]\n'
UNUSUAL = {
    "beats": (PSUM_LINES % "" + "bus_bits = 16", 15),
    "beats that cut values, the highest first": (PSUM_LINES % "" + "bus_bits = 5\nhighest_beat_first = true", 2),
    "beats, a power of two": (PSUM_LINES % "" + "bus_bits = 16\nbeats_pow2 = true", 15),
    "lines apart": (PSUM_LINES % "" + 'align = [{ axis = "kij", words = 64 }]', 15),
    "bits on lines": (PSUM_LINES % ', "bit"', 0),
    "bits on lanes and in beats": (
        PSUM_LINES % "" + 'lanes = ["-bit", "col"]\ncode = "sign_magnitude"\nbus_bits = 32',
        0,
    ),
}
"""Layouts whose words are not a line with a lane for each value; the highest bit of what lies in bit 0 of a word."""


def unusual_export(tmp_path, keys: str, name: str = "x", reverse: bool = False):
    store = random_store(SystolicArray(3, 3), 1, in_channels=3, out_channels=3, height=4, width=4)
    if reverse:  # of the output channels: what an array gives whose lanes are reversed
        layer = store.layers["layer"]
        store = replace(store, layers={"layer": replace(layer, weight=layer.weight[::-1].copy())})
    profile = written(
        tmp_path / "p.toml", f'extends = "notebook"\ndataflow = "ws"\n[layouts.psum]\nlane_bits = 16\n{keys}\n'
    )
    export(store, tmp_path / name, include="activation,weight,psum", profile=profile)
    (path,) = (tmp_path / name).rglob("psum*")
    return tmp_path / name, path


@pytest.mark.untyped
@pytest.mark.parametrize("name", UNUSUAL)
def test_words_in_beats_lines_apart_and_planes_of_bits(tmp_path, name):
    keys, high = UNUSUAL[name]
    folder, path = unusual_export(tmp_path, keys)
    assert diagnose(folder, [folder]).passes
    lines_there = path.read_text().split()
    place = next(at for at in range(200, 400) if high == 15 or lines_there[at] != "0" * len(lines_there[at]))
    text = list(lines_there)
    text[place] = text[place][:-1] + "10"[int(text[place][-1])]
    dump = written(tmp_path / "given.txt", lines(text))
    first = diagnose(folder, [dump], role="psum").first
    assert first.path == "layer/image0/psum.txt"
    assert (first.line, first.word, first.low, first.high) == (place + 1, place, 0, high)
    assert len(first.bits) == 1 and first.must != first.have
    text[place] = "x" * len(text[place])
    found = diagnose(folder, [written(tmp_path / "given.txt", lines(text[:-2]))], role="psum")
    assert not found.passes and found.counts.undefined == 1 and found.counts.missing == (0 if "align" in keys else 1)
    _, other = unusual_export(tmp_path, keys, "y", reverse=True)
    assert diagnose(folder, [other], role="psum").causes[0].name == "lanes reversed"


def test_how_many_causes_are_named_is_at_least_one(tmp_path):
    with pytest.raises(InputError, match="top must be at least 1, not 0"):
        diagnose(tmp_path, [tmp_path], top=0)


def test_an_export_with_a_testbench_is_right_against_itself(tmp_path):
    store = random_store(SystolicArray(3, 3), 1, in_channels=3, out_channels=3, height=4, width=4)
    export(store, tmp_path / "x", dataflow="ws", testbench=True)
    shutil.copytree(tmp_path / "x", tmp_path / "y")
    assert diagnose(tmp_path / "x", [tmp_path / "x"]).passes and diagnose(tmp_path / "x", [tmp_path / "y"]).passes
