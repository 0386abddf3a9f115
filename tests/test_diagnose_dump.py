"""Dumps in every form that simulators, boards and scripts write, and what none of them may be."""

import re

import numpy as np
import pytest
from helpers_bench import random_store

from factory.arithmetic.bits import Field
from factory.diagnose import diagnose
from factory.diagnose.dump import GIVEN, MISSING, UNDEFINED, read_dump
from factory.diagnose.report import report
from factory.export import export
from factory.memfile import Memory, WordFormat
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
