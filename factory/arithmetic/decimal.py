"""Integers of any width as decimal digits, many at a time, and the way back.

An integer is a packed word (`factory.arithmetic.bits`), and is taken apart in limbs of 32 bits.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import UInt8, UInt64

NOTHING = 0
"""The byte in a table of characters that stands for no character, which makes its lines as long as they need be."""
_GROUP, _UNIT = 4, np.uint64(10**4)
_LIMB, _MASK = np.uint64(32), np.uint64(0xFFFFFFFF)
_POWERS = 10 ** np.arange(_GROUP - 1, -1, -1, dtype=np.uint64)
_DIGITS = np.frombuffer(b"".join(b"%04d" % value for value in range(10**_GROUP)), np.uint32)

Limbs = UInt64[np.ndarray, "limb number"]
"""The limbs of numbers, the most significant first."""


def decimal_width(bits: int, signed: bool) -> int:
    """Return the characters of the longest integer of `bits`, its sign among them."""
    return len(str(1 << (bits - 1))) + 1 if signed else len(str((1 << bits) - 1))


def to_decimal(packed: UInt8[np.ndarray, "number byte"], bits: int, signed: bool) -> UInt8[np.ndarray, "number column"]:
    """Return integers of `bits`, in two's complement where `signed`, as ASCII in `decimal_width` columns.

    Instead of leading zeros there is `NOTHING`; the first column is the sign's where `signed`.
    """
    limbs, width = _limbs(packed), decimal_width(bits, signed) - signed
    negative = _is_set(limbs, bits - 1) if signed else np.zeros(packed.shape[0], bool)
    limbs = _negated(limbs, bits, negative)
    groups = []
    for _ in range(-(-width // _GROUP)):  # what is left of a limb, less than 10**4, leaves room for the next limb
        rest = np.zeros(packed.shape[0], np.uint64)
        for at in range(len(limbs)):
            part = rest << _LIMB | limbs[at]
            limbs[at] = part // _UNIT
            rest = part - limbs[at] * _UNIT
        groups.append(np.take(_DIGITS, rest))
    columns = np.stack(groups[::-1], axis=1).view(np.uint8)
    text = np.empty((len(columns), width + signed), np.uint8)
    text[:, signed:] = columns[:, columns.shape[1] - width :]
    leading = np.ones(len(text), bool)
    for digit in text[:, signed:-1].T:
        leading &= digit == ord("0")
        digit[leading] = NOTHING
    if signed:
        text[:, 0] = np.where(negative, np.uint8(ord("-")), np.uint8(NOTHING))
    return text


def from_decimal(tokens: Sequence[bytes], bits: int) -> UInt8[np.ndarray, "number byte"]:
    """Invert `to_decimal`: the low `bits` of integers such as `-12`, as packed words."""
    text = np.array(tokens, np.bytes_)
    text = text.view(np.uint8).reshape(len(tokens), text.itemsize)
    width = -(-text.shape[1] // _GROUP) * _GROUP
    places = np.arange(width) - (width - np.count_nonzero(text, axis=1))[:, None]  # digits end in the last column
    digits = np.where(places < 0, 0, np.take_along_axis(text, np.maximum(places, 0), axis=1) - np.uint8(ord("0")))
    negative = text[:, 0] == ord("-")
    digits[np.where(places == 0, negative[:, None], False)] = 0
    groups = digits.reshape(len(tokens), -1, _GROUP).astype(np.uint64) @ _POWERS
    limbs = np.zeros((-(-bits // 32), len(tokens)), np.uint64)
    for group in groups.T:
        for at in reversed(range(len(limbs))):
            total = limbs[at] * _UNIT + group
            limbs[at], group = total & _MASK, total >> _LIMB
    packed = np.ascontiguousarray(_negated(limbs, bits, negative).astype(">u4").T).view(np.uint8)
    return packed[:, packed.shape[1] - -(-bits // 8) :]


def _limbs(packed: UInt8[np.ndarray, "number byte"]) -> Limbs:
    words = np.pad(packed, ((0, 0), (-packed.shape[1] % 4, 0)))
    return words.view(">u4").astype(np.uint64).T.copy()


def _is_set(limbs: Limbs, bit: int) -> np.ndarray:
    return limbs[len(limbs) - 1 - bit // 32] >> np.uint64(bit % 32) & np.uint64(1) != 0


def _negated(limbs: Limbs, bits: int, which: np.ndarray) -> Limbs:
    """Return the low `bits` of the numbers, of those of `which` their two's complement."""
    result, carry = np.empty_like(limbs), which.astype(np.uint64)
    for at in reversed(range(len(limbs))):
        kept = min(max(bits - 32 * (len(limbs) - 1 - at), 0), 32)
        total = np.where(which, limbs[at] ^ _MASK, limbs[at]) + carry
        result[at], carry = total & np.uint64((1 << kept) - 1), total >> _LIMB
    return result
