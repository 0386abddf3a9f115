"""Fields, packed words and digits, against Python's own integers."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from factory.arithmetic import bits


@st.composite
def fields(draw):
    """Return `(codes (word, lane), bits, signed)` that hold the ends of the field's range."""
    width, signed = draw(st.integers(1, 32)), draw(st.booleans())
    words, lanes = draw(st.integers(0, 5)), draw(st.integers(1, 9))
    low, high = bits.field_range(width, signed)
    values = draw(
        st.lists(st.integers(low, high) | st.sampled_from([low, high]), min_size=words * lanes, max_size=words * lanes)
    )
    return np.array(values, bits.code_dtype(width, signed)).reshape(words, lanes), width, signed


def word_of(codes: np.ndarray, width: int) -> str:
    """Return a word's bits, lane 0 rightmost, by Python's formatting."""
    return "".join(format(int(code) % (1 << width), f"0{width}b") for code in codes[::-1])


@given(fields())
def test_packed_words_are_pythons_and_read_back(case):
    codes, width, signed = case
    packed = bits.pack(codes, width)
    assert packed.shape == (len(codes), -(-codes.shape[1] * width // 8))
    assert [int.from_bytes(word.tobytes(), "big") for word in packed] == [
        int(word_of(word, width), 2) for word in codes
    ]
    back = bits.unpack(packed, codes.shape[1], width, signed)
    assert back.dtype == codes.dtype
    np.testing.assert_array_equal(back, codes)


@given(fields())
def test_digits_are_pythons_and_read_back(case):
    codes, width, _ = case
    packed, count = bits.pack(codes, width), codes.shape[1] * width
    binary, hexadecimal = bits.digits(packed, 2, count), bits.digits(packed, 16, -(-count // 4))
    words = [word_of(word, width) for word in codes]
    assert [text.tobytes().decode() for text in binary] == words
    assert [text.tobytes().decode() for text in hexadecimal] == [f"{int(w, 2):0{-(-count // 4)}x}" for w in words]
    np.testing.assert_array_equal(bits.from_digits(binary, 2), packed)
    np.testing.assert_array_equal(bits.from_digits(hexadecimal, 16), packed)


@given(st.sampled_from(["i1", "u1", "i2", "u2", "i4", "u4", "i8"]), st.integers(1, 32), st.booleans(), st.data())
def test_wrapping_keeps_the_low_bits(dtype, width, signed, data):
    info = np.iinfo(dtype)
    values = np.array(data.draw(st.lists(st.integers(info.min, info.max), max_size=8)), dtype)
    expected = []
    for value in values.tolist():
        low = value % (1 << width)
        expected.append(low - (1 << width) if signed and low >> (width - 1) else low)
    wrapped, (held, count) = bits.wrap(values, width, signed), bits.Field(width, signed).wrap(values)
    assert wrapped.dtype == held.dtype == bits.code_dtype(width, signed)
    assert wrapped.tolist() == held.tolist() == expected
    assert count == sum(a != b for a, b in zip(values.tolist(), expected, strict=True))


@pytest.mark.parametrize("bad", [-9, 16])
def test_packing_never_wraps(bad):
    with pytest.raises(ValueError, match=rf"^codes in 4 bits must be -8 to 15, not {min(bad, 0)} to {max(bad, 0)}$"):
        bits.pack(np.array([[0, bad]], np.int16), 4)


@given(st.sampled_from(bits.CODES[1:]), st.integers(2, 32), st.data())
def test_biased_and_signed_codes_read_back_and_wrap(code, width, data):
    field, half = bits.Field(width, True, code), 1 << width - 1
    values = np.array(data.draw(st.lists(st.integers(-3 * half, 3 * half), max_size=8)), np.int64)
    held, count = field.wrap(values)
    expected = [
        (value + half) % (2 * half) - half if code == "offset" else (abs(value) % half) * (-1 if value < 0 else 1)
        for value in values.tolist()
    ]
    assert held.tolist() == expected and count == sum(a != b for a, b in zip(values.tolist(), expected, strict=True))
    assert held.dtype == field.dtype and field.holds(held) and count == np.count_nonzero(held != values)
    fields = field.encode(held)
    offset = [value + half if code == "offset" else value if value >= 0 else half - value for value in expected]
    assert fields.tolist() == offset
    np.testing.assert_array_equal(field.decode(fields), held)


def test_a_zero_in_sign_and_magnitude_has_no_sign():
    with pytest.raises(ValueError, match="^a code in sign and magnitude must be 0 without a sign, not 1000$"):
        bits.Field(4, True, "sign_magnitude").decode(np.array([1, 8], np.uint8))
    assert str(bits.Field(4, True, "sign_magnitude")) == "4 bits signed in sign magnitude"


def test_other_characters_are_no_digits():
    text = np.frombuffer(b"0101x101", np.uint8).reshape(2, 4)
    with pytest.raises(ValueError, match=r"^word 1 must be 4 digits of radix 2, not b'x101'$"):
        bits.from_digits(text, 2)


def test_a_field_holds_its_range():
    assert bits.field_range(4, signed=True) == (-8, 7)
    assert bits.field_range(4, signed=False) == (0, 15)
    assert bits.field_range(1, signed=True) == (-1, 0)
    assert [bits.code_dtype(width, True).itemsize for width in (8, 9, 16, 17, 32)] == [1, 2, 2, 4, 4]
