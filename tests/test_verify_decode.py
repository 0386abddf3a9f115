"""The verifier's readers: the package's writer is read back, and everything else is refused with its line."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from factory.arithmetic.bits import Field
from factory.memfile import FORMATS, Memory, WordFormat, encode
from factory.memfile.formats import header
from factory.spec import ComparisonError
from factory.verify.decode import check_name, decode
from factory.verify.rule import RADIX, WordRule


def rule(format="bin", header="none", **fields) -> WordRule:
    """Return two words of two signed 4-bit lanes, or what `fields` say."""
    words = dict(words=2, lanes=2, lane_bits=4, word_bits=8, signed=True, lane0_left=False, base=0) | fields
    return WordRule(format=format, header=header, **words)


@st.composite
def memories(draw):
    lane_bits, lanes, signed = draw(st.integers(1, 32)), draw(st.integers(1, 9)), draw(st.booleans())
    word_bits = lanes * lane_bits + draw(st.integers(0, 9))
    word = WordFormat(lanes, Field(lane_bits, signed), draw(st.booleans()), word_bits)
    memory = Memory(draw(st.integers(1, 20)), word, draw(st.integers(0, 300)))
    low = -(1 << lane_bits - 1) if signed else 0
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    return memory, rng.integers(low, low + (1 << lane_bits), (memory.words, lanes))


@given(memories(), st.sampled_from(sorted(FORMATS)))
def test_the_writers_files_are_read_back(drawn, format):
    memory, codes = drawn
    word = memory.word
    fields = dict(
        words=memory.words, lanes=word.lanes, lane_bits=word.field.bits, word_bits=word.width,
        signed=word.field.signed, lane0_left=word.lane0_left, base=memory.base,
    )  # fmt: skip
    data = encode(codes, memory, format)
    assert np.array_equal(decode(data, WordRule(format=format, header="none", **fields)), codes)
    with pytest.raises(ComparisonError):
        decode(data[:-1], WordRule(format=format, header="none", **fields))
    with pytest.raises(ComparisonError):
        decode(data + data[-1:], WordRule(format=format, header="none", **fields))


def test_every_format_has_a_reader():
    assert set(RADIX) == set(FORMATS)
    assert all(RADIX[name] == format.radix for name, format in FORMATS.items())


@pytest.mark.parametrize("style", ["tokens", "verilog", "short"])
@pytest.mark.parametrize("format", ["bin", "hex"])
def test_headers_are_three_lines(style, format):
    head = header(style, "time", ("row1", "row0"))
    memory = Memory(2, WordFormat(2, Field(4, True)))
    data = encode(np.array([[1, -2], [3, -4]]), memory, format, head)
    assert decode(data, rule(format, style)).tolist() == [[1, -2], [3, -4]]
    with pytest.raises(ComparisonError):
        decode(data, rule(format))
    with pytest.raises(ComparisonError):
        decode(data.split(b"\n", 1)[1], rule(format, style))


@pytest.mark.parametrize(
    ("style", "line"), [("tokens", b"#a b#"), ("verilog", b"#a#"), ("short", b"#" + b"a" * 29), ("tokens", b"a")]
)
def test_a_header_that_a_reader_would_trip_on_is_refused(style, line):
    with pytest.raises(ComparisonError, match=r"^line 2: must match "):
        decode(b"#a#\n".replace(b"#", b"//" if style == "verilog" else b"#", 1) + line + b"\n#c#\n", rule("bin", style))


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"00010010\n0011010", "must end in a newline"),
        (b"00010010\n00110100", "must end in a newline"),
        (b"00010010\n0011010\n", "line 2: must be 8 characters, not 7"),
        (b"00010010\r\n00110100\r\n", "line 1: must be 8 characters, not 9"),
        (b"00010010\n", "must hold 2 words, not 1"),
        (b"00010010\n00110100\n00110100\n", "must hold 2 words, not 3"),
        (b"00010010\n\n00110100\n", "line 2: must be 8 characters, not 0"),
        (b"00010010\n0011x100\n", "line 2: must hold digits of radix 2 only, not '0011x100'"),
        (b"0001_010\n00110100\n", "line 1: must hold digits of radix 2 only, not '0001_010'"),
        (b"00010010\n00120100\n", "line 2: must hold digits of radix 2 only, not '00120100'"),
        (b"\xef\xbb\xbf00010010\n00110100\n", "line 1: must be 8 characters, not 11"),
        (b"0001001000110100\n\n", "line 1: must be 8 characters, not 16"),
        (b"", "must hold 2 words, not 0"),
    ],
)
def test_a_broken_rule_is_named(data, said):
    with pytest.raises(ComparisonError) as error:
        decode(data, rule())
    assert str(error.value) == said


def test_values_by_hand():
    assert decode(b"00011111\n01111000\n", rule()).tolist() == [[-1, 1], [-8, 7]]
    assert decode(b"00011111\n01111000\n", rule(signed=False)).tolist() == [[15, 1], [8, 7]]
    assert decode(b"00011111\n01111000\n", rule(lane0_left=True)).tolist() == [[1, -1], [7, -8]]
    assert decode(b"1f\n7A\n", rule("hex")).tolist() == [[-1, 1], [-6, 7]]
    assert decode(b"\x1f\x78", rule("raw")).tolist() == [[-1, 1], [-8, 7]]
    assert decode(b"01f\n078\n", rule("hex", word_bits=9)).tolist() == [[-1, 1], [-8, 7]]
    head = b"memory_initialization_radix = 16;\nmemory_initialization_vector =\n"
    assert decode(head + b"1f,\n78;\n", rule("coe-hex")).tolist() == [[-1, 1], [-8, 7]]
    head = b"DEPTH = 17;\nWIDTH = 8;\nADDRESS_RADIX = HEX;\nDATA_RADIX = HEX;\nCONTENT BEGIN\n"
    assert decode(head + b"0f : 1f;\n10 : 78;\nEND;\n", rule("mif-hex", base=15)).tolist() == [[-1, 1], [-8, 7]]


@pytest.mark.parametrize(
    ("format", "data", "said"),
    [
        ("hex", b"1g\n78\n", "line 1: must hold digits of radix 16 only, not '1g'"),
        ("raw", b"\x1f", "must be 2 words of 1 bytes, not 1 bytes"),
        ("coe-hex", b"1f,\n78;\n", "line 1: must match memory_initialization_radix = 16;, not be '1f,'"),
        ("mif", b"DEPTH = 2;\n", "must begin with 5 lines before its words, not 1"),
        ("npy", b"\x93NUMPY", "must be a NumPy file: "),
    ],
)
def test_other_formats_rules_are_named(format, data, said):
    with pytest.raises(ComparisonError) as error:
        decode(data, rule(format))
    assert str(error.value).startswith(said)


def test_separators_and_addresses_are_checked():
    head = b"memory_initialization_radix = 2;\nmemory_initialization_vector =\n"
    with pytest.raises(ComparisonError, match=r"^line 4: must be WORD;, not '00000001,'$"):
        decode(head + b"00000001,\n00000001,\n", rule("coe"))
    head = b"DEPTH = 2;\nWIDTH = 8;\nADDRESS_RADIX = HEX;\nDATA_RADIX = BIN;\nCONTENT BEGIN\n"
    with pytest.raises(ComparisonError, match=r"^line 7: must be 1 : WORD;, not '2 : 00000001;'$"):
        decode(head + b"0 : 00000001;\n2 : 00000001;\nEND;\n", rule("mif"))
    with pytest.raises(ComparisonError, match=r"^must end in the line END;, not in 'end;\\n'$"):
        decode(head + b"0 : 00000001;\n1 : 00000001;\nend;\n", rule("mif"))


def test_what_lies_left_of_the_lanes_must_be_zero():
    with pytest.raises(ComparisonError, match=r"^word 1: must be zero left of its lanes$"):
        decode(b"000000001\n100000001\n", rule(word_bits=9))
    with pytest.raises(ComparisonError, match=r"^codes must be -8 to 7, not 0 to 8$"):
        decode(encode(np.array([[0, 1], [8, 0]]), Memory(2, WordFormat(2, Field(8, True))), "npy"), rule("npy"))


@pytest.mark.parametrize(
    ("name", "template", "format", "axes"),
    [
        ("activation_tile3.txt", "activation_tile{it}.txt", "bin", ("it",)),
        ("activation_tile3.hex", "activation_tile{it}.txt", "hex", ("it",)),
        ("out.txt", "out.txt", "bin", ("ot",)),
        ("out_otile7.coe", "out.txt", "coe-hex", ("ot",)),
        ("acc_tile1_otile7.txt", "acc[_tile{pt}]_otile{ot}.txt", "bin", ("pt", "ot")),
        ("acc_otile7.txt", "acc[_tile{pt}]_otile{ot}.txt", "bin", ("pt", "ot")),
        ("w_tile31_octile7_ictile3.txt", "w_tile{tile}_octile{ot}_ictile{it}.txt", "bin", ("ot", "it")),
        ("weight_os_8ic_otile7.txt", "weight_os_{n}ic.txt", "bin", ("ot",)),
        ("psum2.dat", "psum{image}.dat", "hex", ()),
        ("words", "words", "bin", ()),
    ],
)
def test_names_say_what_files_hold(name, template, format, axes):
    numbers = dict(it=3, ot=7, pt=1, tile=31, n=8, image=2)
    check_name(name, template, format, axes, numbers)
    digits = [place for place, letter in enumerate(name) if letter.isdigit()]
    for place in digits:
        other = f"{name[:place]}9{name[place + 1 :]}"
        with pytest.raises(ComparisonError):
            check_name(other, template, format, axes, numbers)
    with pytest.raises(ComparisonError) as error:
        check_name(f"x{name}", template, format, axes, numbers)
    assert str(error.value) == f"x{name}: the name must be made from {template}"


def test_a_name_that_says_another_tile_is_named():
    with pytest.raises(ComparisonError) as error:
        check_name("activation_tile1.txt", "activation_tile{it}.txt", "bin", ("it",), {"it": 0})
    assert str(error.value) == "activation_tile1.txt: the name must have it 0, not 1"
