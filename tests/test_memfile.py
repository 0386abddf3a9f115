"""Every format: exact texts, round trips over all widths, pieces that equal the whole, and what readers refuse."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from factory.arithmetic import bits
from factory.arithmetic.bits import Field
from factory.arithmetic.labelled import LabelledArray, axes
from factory.memfile import FORMATS, Memory, WordFormat, complete_template, decode, encode
from factory.memfile.formats import header
from factory.memfile.layout import check_template
from factory.spec import InputError

CODES = np.array([[1, -2], [-8, 7], [0, 3]], np.int8)


def memory_of(words: int, lanes: int, bits: int, signed: bool, lane0_left=False, word_bits=0, base=0) -> Memory:
    return Memory(words, WordFormat(lanes, Field(bits, signed), lane0_left, word_bits), base)


SMALL = memory_of(3, 2, 4, True)


@st.composite
def memories(draw):
    """Return a memory of any width, with codes that fill it."""
    lane_bits, signed, lanes = draw(st.integers(1, 32)), draw(st.booleans()), draw(st.integers(1, 9))
    memory = memory_of(
        words=draw(st.integers(1, 17)),
        lanes=lanes,
        bits=lane_bits,
        signed=signed,
        lane0_left=draw(st.booleans()),
        word_bits=lanes * lane_bits + draw(st.sampled_from([0, 1, 7, 32])),
        base=draw(st.sampled_from([0, 1, 250])),
    )
    low, high = bits.field_range(lane_bits, signed)
    random = np.random.default_rng(draw(st.integers(0, 2**32)))
    codes = random.integers(low, high, (memory.words, lanes), endpoint=True)
    return memory, codes.astype(bits.code_dtype(lane_bits, signed))


@pytest.mark.parametrize("format", FORMATS)
@settings(max_examples=30)
@given(case=memories())
def test_every_format_reads_back_what_it_writes(format, case):
    memory, codes = case
    back = decode(encode(codes, memory, format), memory, format)
    assert back.dtype == codes.dtype
    np.testing.assert_array_equal(back, codes)


@pytest.mark.parametrize("format", FORMATS)
@settings(max_examples=15)
@given(case=memories(), cut=st.integers(0, 20), files=st.integers(1, 3))
def test_pieces_of_bodies_are_the_whole_body(format, case, cut, files):
    memory, codes = case
    codes = np.concatenate([codes] * files)
    made = FORMATS[format]
    pieces = [made.body(memory, part, first % memory.words) for part, first in ((codes[:cut], 0), (codes[cut:], cut))]
    one = encode(codes[: memory.words], memory, format)
    prefix, suffix = made.prefix(memory), made.suffix
    assert b"".join(piece.tobytes() for piece in pieces) == one[len(prefix) : len(one) - len(suffix)] * files


def test_text_formats_hold_digits_and_newlines_alone():
    assert encode(CODES, SMALL, "bin") == b"11100001\n01111000\n00110000\n"
    assert encode(CODES, SMALL, "hex") == b"e1\n78\n30\n"
    assert encode(CODES[:, :1], memory_of(3, 1, 5, True), "hex") == b"01\n18\n00\n"


def test_lane_0_can_be_leftmost_and_words_wider_than_their_lanes():
    assert encode(CODES, memory_of(3, 2, 4, True, lane0_left=True), "bin") == b"00011110\n10000111\n00000011\n"
    assert encode(CODES, memory_of(3, 2, 4, True, word_bits=10), "bin") == b"0011100001\n0001111000\n0000110000\n"


def test_coe_is_what_ug896_describes():
    head = b"memory_initialization_radix = %d;\nmemory_initialization_vector =\n"
    assert encode(CODES, SMALL, "coe") == head % 2 + b"11100001,\n01111000,\n00110000;\n"
    assert encode(CODES, SMALL, "coe-hex") == head % 16 + b"e1,\n78,\n30;\n"


def test_mif_is_what_quartus_reads():
    head = b"DEPTH = 3;\nWIDTH = 8;\nADDRESS_RADIX = HEX;\nDATA_RADIX = BIN;\nCONTENT BEGIN\n"
    assert encode(CODES, SMALL, "mif") == head + b"0 : 11100001;\n1 : 01111000;\n2 : 00110000;\nEND;\n"
    based = encode(CODES, memory_of(3, 2, 4, True, base=15), "mif-hex")
    head = head.replace(b"BIN", b"HEX").replace(b"= 3;", b"= 18;")
    assert based == head + b"0f : e1;\n10 : 78;\n11 : 30;\nEND;\n"


def test_raw_is_little_endian_in_the_fewest_bytes():
    wide = memory_of(2, 3, 4, signed=False)
    assert encode(np.array([[1, 2, 3], [15, 0, 8]], np.uint8), wide, "raw") == bytes([0x21, 0x03, 0x0F, 0x08])


def test_npy_is_lines_by_lanes_lane_0_first(tmp_path):
    (tmp_path / "a.npy").write_bytes(encode(CODES, memory_of(3, 2, 4, True, lane0_left=True), "npy"))
    loaded = np.load(tmp_path / "a.npy")
    assert loaded.dtype == np.int8
    np.testing.assert_array_equal(loaded, CODES)


@pytest.mark.parametrize(
    ("format", "data", "message"),
    [
        ("bin", b"11100001\n01111000\n00110000", "the last line must end in a newline"),
        ("bin", b"11100001\r\n01111000\r\n00110000\r\n", "line 1 must be 8 characters, not 9"),
        ("bin", b"11100001\n0111100\n00110000\n", "line 2 must be 8 characters, not 7"),
        ("bin", b"11100001\n01111000\n", "the file must hold 3 words, not 2"),
        ("bin", b"# head\n11100001\n01111x00\n00110000\n", "word 1 must be 8 digits of radix 2, not b'01111x00'"),
        ("hex", b"e1\n7g\n30\n", "word 1 must be 2 digits of radix 16, not b'7g'"),
        ("coe", b"", "the file must begin with 'memory_initialization_radix = 2;\\nmemory_initialization_vector =\\n'"),
        (
            "coe",
            b"memory_initialization_radix = 2;\nmemory_initialization_vector =\n11100001,\n01111000;\n00110000;\n",
            "line 4 must be b'01111000,\\n', not b'01111000;\\n'",
        ),
        ("npy", encode(CODES[:2], memory_of(2, 2, 4, True), "npy"), "the array must be int8 (3, 2), not int8 (2, 2)"),
        ("raw", b"12", "the file must hold 3 words, not 2"),
    ],
)
def test_readers_say_what_is_wrong_and_where(format, data, message):
    with pytest.raises(InputError) as caught:
        decode(data, SMALL, format)
    assert str(caught.value) == message


def test_bits_beyond_the_lanes_must_be_zero():
    with pytest.raises(InputError, match=r"^word 1 must be zero left of its 8 lane bits$"):
        decode(b"0011100001\n0101111000\n", memory_of(2, 2, 4, True, word_bits=10), "bin")
    with pytest.raises(InputError, match=r"^word_bits must be at least 8 for 2 lanes of 4 bits, not 7$"):
        memory_of(3, 2, 4, True, word_bits=7)


def test_headers_are_the_notebooks_lines():
    lanes = [f"row{row}" for row in range(7, -1, -1)]
    tokens = (
        "#time0row7[msb-lsb],time0row6[msb-lst],....,time0row0[msb-lst]#\n"
        "#time1row7[msb-lsb],time1row6[msb-lst],....,time1row0[msb-lst]#\n"
        "#................#\n"
    )
    assert header("tokens", "time", lanes).decode() == tokens
    assert header("verilog", "time", lanes).decode() == "".join(f"//{line[1:]}\n" for line in tokens.splitlines())
    assert header("none", "time", lanes) == b""
    assert header("tokens", "col", ["row0"]).decode().splitlines()[0] == "#col0row0[msb-lsb]#"
    short = header("short", "time", [f"row{row}simd{simd}" for row in range(15, -1, -1) for simd in (1, 0)])
    assert short.decode() == "#time0:row15simd1..row0simd0#\n#time1:row15simd1..row0simd0#\n#................#\n"
    assert max(map(len, header("short", "time", ["ot123col4567", "ot0col0"]).splitlines())) == 29


@pytest.mark.parametrize("format", ["bin", "hex"])
@pytest.mark.parametrize("style", ["tokens", "verilog", "short"])
def test_readers_skip_headers(format, style):
    data = encode(CODES, SMALL, format, header(style, "time", ["row1", "row0"]))
    assert data.count(b"\n") == 6
    np.testing.assert_array_equal(decode(data, SMALL, format), CODES)


@pytest.mark.parametrize(
    ("template", "several", "expected"),
    [
        ("out.txt", (), "out.txt"),
        ("out.txt", ("ot",), "out_otile{ot}.txt"),
        ("out.txt", ("pt", "ot"), "out_tile{pt}_otile{ot}.txt"),
        ("weight_k{kij}.txt", ("it", "ot", "kij"), "weight_k{kij}_itile{it}_otile{ot}.txt"),
        ("weight.txt", ("kij",), "weight_kij{kij}.txt"),
        ("acc[_tile{pt}]_otile{ot}.txt", (), "acc_otile{ot}.txt"),
        ("acc[_tile{pt}]_otile{ot}.txt", ("pt",), "acc_tile{pt}_otile{ot}.txt"),
    ],
)
def test_an_axis_without_a_place_in_a_name_gets_one_where_it_holds_several(template, several, expected):
    axes = ("it", "pt", "ot", "kij")
    assert complete_template(template, axes, several, ".txt") == expected


def test_only_txt_gives_way_to_a_formats_extension():
    assert complete_template("out.txt", (), (), ".hex") == "out.hex"
    assert complete_template("out.mem", (), (), ".hex") == "out.mem"
    assert complete_template("out", ("ot",), ("ot",), ".hex") == "out_otile{ot}"


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("../out.txt", "file must be a plain file name with fields in braces, not '../out.txt'"),
        ("out {ot}.txt", "file must be a plain file name with fields in braces, not 'out {ot}.txt'"),
        ("out_{nij}.txt", "file must have fields of ot image, not nij"),
    ],
)
def test_templates_are_plain_names_of_known_fields(template, message):
    with pytest.raises(InputError) as caught:
        check_template(template, ("ot", "image"))
    assert str(caught.value) == message


def test_named_axes_split_reorder_reverse_and_keep_their_labels():
    named = LabelledArray(np.arange(12).reshape(2, 6), ("ot", "row"), {"ot": (3, 5)})
    arranged = named.split("row", "row", "simd", 2).arrange(axes("-simd", "row", "-ot"))
    assert arranged.axes == ("simd", "row", "ot")
    assert arranged.label("ot") == (5, 3)
    assert arranged.label("simd") == (1, 0)
    np.testing.assert_array_equal(arranged.values[0, :, 0], [7, 9, 11])
    np.testing.assert_array_equal(named.pick("ot", 5).values, [[6, 7, 8, 9, 10, 11]])
