"""One memory, as a file describes it: how many words, how wide, which lanes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Integer, UInt8

from factory.arithmetic import bits
from factory.spec import InputError


@dataclass(frozen=True)
class Memory:
    """`words` memory words of `lanes` lanes of `lane_bits` each, the first word at address `base`.

    Lane 0 is the least significant (rightmost) lane, or the most significant one where `lane0_left`. `word_bits` is
    the width of the word, at least `lanes * lane_bits`; the bits beyond the lanes are zeros on the left. Codes are
    integers `(word, lane)`, lane 0 first, read back as two's complement where `signed`.
    """

    words: int
    lanes: int
    lane_bits: int
    signed: bool
    lane0_left: bool = False
    word_bits: int = 0
    base: int = 0

    def __post_init__(self):
        needed = self.lanes * self.lane_bits
        if not self.word_bits:
            object.__setattr__(self, "word_bits", needed)
        if self.word_bits < needed:
            raise InputError(
                f"word_bits must be at least {needed} for {self.lanes} lanes of {self.lane_bits} bits, "
                f"not {self.word_bits}"
            )

    @property
    def word_bytes(self) -> int:
        """The fewest bytes that hold a word."""
        return -(-self.word_bits // 8)

    def pack(self, codes: Integer[np.ndarray, "word lane"]) -> UInt8[np.ndarray, "word byte"]:
        """Return the codes' words, big-endian, in `word_bytes` bytes each."""
        packed = bits.pack(codes[:, ::-1] if self.lane0_left else codes, self.lane_bits)
        missing = self.word_bytes - packed.shape[1]
        return np.pad(packed, ((0, 0), (missing, 0))) if missing else packed

    def unpack(self, packed: UInt8[np.ndarray, "word byte"]) -> Integer[np.ndarray, "word lane"]:
        """Invert `pack`; raise ValueError that names the first word whose bits beyond the lanes are not zero."""
        used = self.lanes * self.lane_bits
        extra = np.unpackbits(packed, axis=1)[:, : packed.shape[1] * 8 - used].any(axis=1)
        if extra.any():
            raise ValueError(f"word {extra.argmax()} must be zero left of its {used} lane bits")
        codes = bits.unpack(packed, self.lanes, self.lane_bits, self.signed)
        return codes[:, ::-1] if self.lane0_left else codes
