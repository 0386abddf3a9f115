"""Integer codes and the bits of memory words: fields, packed words, digits, and the way back.

A *word* is lanes of equal width side by side, lane 0 least significant. A *packed* word is the fewest whole bytes that
hold it, big-endian, zero-extended on the left; every format, text or binary, is made from packed words.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Integer, UInt8

MOST_BITS = 32
CODES = ("twos_complement", "offset", "sign_magnitude")
"""How the bits of a signed field stand for its value; see `Field`."""
_HEX = np.frombuffer(b"".join(b"%02x" % byte for byte in range(256)), np.uint16)
_NOT_A_DIGIT = 255
_DIGIT_VALUE = np.full(256, _NOT_A_DIGIT, np.uint8)
for _digits in (b"0123456789abcdef", b"0123456789ABCDEF"):
    _DIGIT_VALUE[np.frombuffer(_digits, np.uint8)] = range(16)


def field_range(bits: int, signed: bool) -> tuple[int, int]:
    """Return the least and the largest value of a field: two's complement where `signed`."""
    return (-(1 << (bits - 1)), (1 << (bits - 1)) - 1) if signed else (0, (1 << bits) - 1)


def code_dtype(bits: int, signed: bool) -> np.dtype:
    """Return the narrowest integer dtype that holds every value of a field of 1 to 32 bits."""
    width = next(width for width in (8, 16, 32) if bits <= width)
    return np.dtype(f"{'i' if signed else 'u'}{width // 8}")


def wrap(values: Integer[np.ndarray, "*shape"], bits: int, signed: bool) -> Integer[np.ndarray, "*shape"]:
    """Return what a field reads back that took the low `bits` of each value, in `code_dtype(bits, signed)`."""
    dtype, held_bits = code_dtype(bits, signed), np.iinfo(values.dtype).bits
    if _fits(values.dtype, *field_range(bits, signed)):
        return values.astype(dtype, copy=False)
    field = (values if bits < held_bits else values.astype(np.int64)) & ((1 << bits) - 1)
    if signed:
        field = (field ^ (1 << (bits - 1))) - (1 << (bits - 1))
    return field.astype(dtype)


@dataclass(frozen=True)
class Field:
    """A lane: `bits` wide, with negative values where `signed`; `low <= value <= high` is what it holds as it is.

    The bits of a signed field are, by its `code`, the value's two's complement; `offset`: the value plus
    `2**(bits - 1)`; `sign_magnitude`: a 1 on the left of negative values, then the magnitude; 0 has no sign.
    """

    bits: int
    signed: bool
    code: str = CODES[0]

    @property
    def low(self) -> int:
        """The least value."""
        return -self.high if self.code == "sign_magnitude" else field_range(self.bits, self.signed)[0]

    @property
    def high(self) -> int:
        """The largest value."""
        return field_range(self.bits, self.signed)[1]

    @property
    def dtype(self) -> np.dtype:
        """The narrowest integer dtype that holds every value."""
        return code_dtype(self.bits, self.signed)

    def holds(self, values: Integer[np.ndarray, "*shape"]) -> bool:
        """Return whether the field holds all values as they are."""
        return _within(values, self.low, self.high)

    def wrap(self, values: Integer[np.ndarray, "*shape"]) -> tuple[Integer[np.ndarray, "*shape"], int]:
        """Return what the field reads back of each value's low bits, in `dtype`, and how many are others then."""
        if self.holds(values):
            return values.astype(self.dtype, copy=False), 0
        held = self._wrap_magnitude(values) if self.code == "sign_magnitude" else wrap(values, self.bits, self.signed)
        return held, int(np.count_nonzero(held != values))

    def _wrap_magnitude(self, values: Integer[np.ndarray, "*shape"]) -> Integer[np.ndarray, "*shape"]:
        """Return the values whose sign is kept and whose magnitudes are cut to their low bits."""
        exact = values.astype(np.int64)
        return (np.sign(exact) * (np.abs(exact) & self.high)).astype(self.dtype)

    @property
    def _half(self) -> int:
        return 1 << (self.bits - 1)

    def encode(self, values: Integer[np.ndarray, "*shape"]) -> Integer[np.ndarray, "*shape"]:
        """Return the bits of values that the field holds, as integers that `pack` takes."""
        if self.code == "offset":
            return (values.astype(np.int64) + self._half).astype(code_dtype(self.bits, False))
        if self.code == "sign_magnitude":
            exact = values.astype(np.int64)
            return np.where(exact < 0, self._half - exact, exact).astype(code_dtype(self.bits, False))
        return values

    def decode(self, fields: Integer[np.ndarray, "*shape"]) -> Integer[np.ndarray, "*shape"]:
        """Invert `encode`, for bits as unsigned integers; raise ValueError for a zero that has a sign."""
        if self.code == "offset":
            return (fields.astype(np.int64) - self._half).astype(self.dtype)
        if self.code == "sign_magnitude":
            exact = fields.astype(np.int64)
            if (exact == self._half).any():
                raise ValueError(f"a code in sign and magnitude must be 0 without a sign, not {self._half:b}")
            return np.where(exact > self._half, self._half - exact, exact).astype(self.dtype)
        return wrap(fields, self.bits, self.signed)

    def saturate(self, values: Integer[np.ndarray, "*shape"]) -> Integer[np.ndarray, "*shape"]:
        """Return the nearest value that the field holds, in the dtype of `values`."""
        return np.clip(values, self.low, self.high)

    def to_record(self) -> dict[str, int | bool | str]:
        """Return the field as plain values, its code where that is not two's complement."""
        code = {} if self.code == CODES[0] else {"code": self.code}
        return {"bits": self.bits, "signed": self.signed} | code

    def __str__(self) -> str:
        code = "" if self.code == CODES[0] else f" in {self.code.replace('_', ' ')}"
        return f"{self.bits} bits {'signed' if self.signed else 'unsigned'}{code}"


def _fits(dtype: np.dtype, low: int, high: int) -> bool:
    """Return whether every value of an integer dtype is within a range."""
    held = np.iinfo(dtype)
    return low <= held.min and held.max <= high


def _within(values: Integer[np.ndarray, "*shape"], low: int, high: int) -> bool:
    """Return whether the values are within a range; a dtype that holds no others is not looked through."""
    return _fits(values.dtype, low, high) or not values.size or bool(values.min() >= low and values.max() <= high)


def pack(codes: Integer[np.ndarray, "word lane"], bits: int) -> UInt8[np.ndarray, "word byte"]:
    """Return the packed words of lanes of `bits`, in two's complement, lane 0 least significant.

    Raise ValueError where a code is in neither the signed nor the unsigned range of its lane: wrapping is `wrap`'s.
    """
    low, high = -(1 << (bits - 1)), (1 << bits) - 1
    if not _within(codes, low, high):
        raise ValueError(f"codes in {bits} bits must be {low} to {high}, not {codes.min()} to {codes.max()}")
    if bits in (1, 2, 4):  # fields that share a byte but never straddle one: joined pair by pair
        return _reverse(_join(codes.astype(np.uint8, copy=False) & np.uint8(high), bits))
    fields = np.ascontiguousarray(codes.astype(code_dtype(bits, False).newbyteorder("<"), copy=False)).view(np.uint8)
    if bits in (8, 16, 32):  # a field is whole bytes: the little-endian lanes, read backwards, are the word
        return _reverse(fields)
    words, lanes = codes.shape
    kept = np.unpackbits(_reverse(fields), axis=1).reshape(words, lanes, 8 * fields.shape[1] // lanes)[..., -bits:]
    return np.packbits(_extend(kept.reshape(words, lanes * bits), 8), axis=1)


def unpack(
    packed: UInt8[np.ndarray, "word byte"], lanes: int, bits: int, signed: bool
) -> Integer[np.ndarray, "word lane"]:
    """Invert `pack`: the codes of `lanes` lanes, in `code_dtype(bits, signed)`; what lies left of them is dropped."""
    dtype = code_dtype(bits, False)
    digits = np.unpackbits(packed, axis=1)[:, -lanes * bits :].reshape(-1, bits)
    fields = np.packbits(_extend(digits, 8 * dtype.itemsize), axis=1).view(dtype.newbyteorder(">"))
    return wrap(fields.reshape(-1, lanes)[:, ::-1].astype(dtype), bits, signed)


def _join(fields: UInt8[np.ndarray, "word lane"], bits: int) -> UInt8[np.ndarray, "word byte"]:
    """Put fields of 1, 2 or 4 bits side by side in bytes, the first field least significant."""
    missing = -fields.shape[1] % (8 // bits)
    fields = np.ascontiguousarray(np.pad(fields, ((0, 0), (0, missing))) if missing else fields)
    while bits < 8:
        pairs = fields.view("<u2")  # two fields, one in the low bits of each byte
        # the upper field moves down to just above the lower one; what of it stays in the high byte is cut off
        fields = (pairs | (pairs >> (8 - bits))).astype(np.uint8)
        bits *= 2
    return fields


def _reverse(words: UInt8[np.ndarray, "word byte"]) -> UInt8[np.ndarray, "word byte"]:
    """Reverse the bytes of each word, as many at a time as a machine word swaps."""
    unit = min(words.shape[1] & -words.shape[1], 8)
    return np.ascontiguousarray(words.view(f"u{unit}").byteswap()[:, ::-1]).view(np.uint8)


def _extend(columns: UInt8[np.ndarray, "word column"], multiple: int) -> UInt8[np.ndarray, "word wider"]:
    """Put zeros on the left until the number of columns is a multiple of `multiple`."""
    missing = -columns.shape[1] % multiple
    return np.pad(columns, ((0, 0), (missing, 0))) if missing else columns


def digits(packed: UInt8[np.ndarray, "word byte"], radix: int, count: int) -> UInt8[np.ndarray, "word digit"]:
    """Return the last `count` digits of packed words in radix 2 or 16, as ASCII."""
    if radix == 2:
        text = np.unpackbits(packed.reshape(-1))
        text |= ord("0")
    else:
        text = np.take(_HEX, packed).view(np.uint8)
    return text.reshape(packed.shape[0], packed.shape[1] * (8 if radix == 2 else 2))[:, -count:]


def from_digits(text: UInt8[np.ndarray, "word digit"], radix: int) -> UInt8[np.ndarray, "word byte"]:
    """Invert `digits`; raise ValueError that names the first word with something else than a digit of the radix."""
    values = _DIGIT_VALUE[text]
    wrong = (values >= radix).any(axis=1)
    if wrong.any():
        word = int(wrong.argmax())
        raise ValueError(f"word {word} must be {text.shape[1]} digits of radix {radix}, not {text[word].tobytes()!r}")
    return np.packbits(_extend(values, 8), axis=1) if radix == 2 else _reverse(_join(values[:, ::-1], 4))
