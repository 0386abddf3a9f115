"""One word of a memory, and a memory of such words."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Int64, Integer, UInt8

from factory.arithmetic import bits
from factory.arithmetic.bits import Field
from factory.spec import InputError


@dataclass(frozen=True)
class WordFormat:
    """A word of `lanes` lanes, each one `field`, side by side.

    Lane 0 is the least significant (rightmost) lane, or the most significant one where `lane0_left`. `width` is the
    word's, at least that of its lanes (0: theirs); the bits beyond the lanes are zeros on the left. Codes are integers
    `(word, lane)`, lane 0 first.
    """

    lanes: int
    field: Field
    lane0_left: bool = False
    width: int = 0

    def __post_init__(self):
        if not self.width:
            object.__setattr__(self, "width", self.lane_width)
        if self.width < self.lane_width:
            raise InputError(
                f"word_bits must be at least {self.lane_width} for {self.lanes} lanes of {self.field.bits} bits, "
                f"not {self.width}"
            )

    @property
    def lane_width(self) -> int:
        """Bits of all lanes."""
        return self.lanes * self.field.bits

    @property
    def bytes(self) -> int:
        """The fewest bytes that hold a word."""
        return -(-self.width // 8)

    def low_bit(self, lane: int) -> int:
        """Return the least significant bit of a lane, bit 0 being the word's rightmost."""
        return self.field.bits * (self.lanes - 1 - lane if self.lane0_left else lane)

    def lane_at(self, bit: int) -> int | None:
        """Return the lane that a bit is part of; None for the zeros left of the lanes."""
        lane = bit // self.field.bits
        if lane >= self.lanes:
            return None
        return self.lanes - 1 - lane if self.lane0_left else lane

    def pack(self, codes: Integer[np.ndarray, "word lane"]) -> UInt8[np.ndarray, "word byte"]:
        """Return the codes' words, big-endian, in `bytes` bytes each."""
        fields = self.field.encode(codes)
        packed = bits.pack(fields[:, ::-1] if self.lane0_left else fields, self.field.bits)
        missing = self.bytes - packed.shape[1]
        return np.pad(packed, ((0, 0), (missing, 0))) if missing else packed

    def unpack(self, packed: UInt8[np.ndarray, "word byte"]) -> Integer[np.ndarray, "word lane"]:
        """Invert `pack`; raise ValueError that names the first word whose bits beyond the lanes are not zero."""
        extra = np.unpackbits(packed, axis=1)[:, : packed.shape[1] * 8 - self.lane_width].any(axis=1)
        if extra.any():
            raise ValueError(f"word {extra.argmax()} must be zero left of its {self.lane_width} lane bits")
        codes = self.field.decode(bits.unpack(packed, self.lanes, self.field.bits, signed=False))
        return codes[:, ::-1] if self.lane0_left else codes


@dataclass(frozen=True)
class Beats:
    """A bus that takes a word in `count` beats of `bits` each, the lowest bits first, or the highest.

    The word is zero-extended on the left to `count * bits`; its fields may straddle beats.
    """

    bits: int
    count: int
    highest_first: bool = False

    def spot(self, bit: int) -> tuple[int, int]:
        """Return the beat, of a word's, and the bit in it that a word's bit is."""
        beat, at = divmod(bit, self.bits)
        return (self.count - 1 - beat if self.highest_first else beat), at

    def bit(self, beat: int, at: int) -> int:
        """Invert `spot`."""
        return (self.count - 1 - beat if self.highest_first else beat) * self.bits + at

    @property
    def word(self) -> WordFormat:
        """The format of a beat: its lanes are its bits."""
        return WordFormat(self.bits, Field(1, False))

    def cut(self, packed: UInt8[np.ndarray, "word byte"]) -> UInt8[np.ndarray, "beat bit"]:
        """Return the beats of packed words, bit 0 first."""
        held = np.unpackbits(packed, axis=1)[:, ::-1]  # lowest bit first
        size = self.count * self.bits
        held = np.pad(held, ((0, 0), (0, max(size - held.shape[1], 0))))[:, :size].reshape(-1, self.count, self.bits)
        return (held[:, ::-1] if self.highest_first else held).reshape(-1, self.bits)

    def bits_of(self, beats: Integer[np.ndarray, "beat bit"]) -> Integer[np.ndarray, "word word_bit"]:
        """Return the bits of words, bit 0 first, or what there is for each of them, from their beats."""
        held = beats.reshape(-1, self.count, self.bits)
        return (held[:, ::-1] if self.highest_first else held).reshape(len(held), -1)

    def join(self, beats: UInt8[np.ndarray, "beat bit"]) -> UInt8[np.ndarray, "word byte"]:
        """Invert `cut`, but for zero bytes on the left."""
        held = self.bits_of(beats)
        return np.packbits(np.pad(held, ((0, 0), (0, -held.shape[1] % 8)))[:, ::-1], axis=1)


@dataclass(frozen=True)
class Blocks:
    """Runs of `size` words, each of which begins `stride` addresses after the one before, through all files of a set.

    The blocks of a file follow each other. `files` has, for each axis of files that counts blocks, how many files a
    step on it skips, its steps, and how many blocks a step skips.
    """

    size: int
    stride: int
    files: tuple[tuple[int, int, int], ...] = ()

    def last_in(self, words: int) -> int:
        """Return the number of the last block of files of `words` words."""
        return (words - 1) // self.size + sum((steps - 1) * blocks for _, steps, blocks in self.files)


@dataclass(frozen=True)
class Memory:
    """A memory of `words` words, the first one at address `base`, as each file of a set describes it.

    With `blocks`, words lie at other addresses than one after the other. `depth` is how many words the memory has room
    for (0: those that are there), `shape` the dimensions of its values as an array, by default words and lanes.
    """

    words: int
    word: WordFormat
    base: int = 0
    blocks: Blocks | None = None
    shape: tuple | None = None
    depth: int = 0

    def addresses(self, position: Int64[np.ndarray, " word"]) -> Int64[np.ndarray, " word"]:
        """Return the addresses of words, `position` being counted through all files of the set."""
        file, word = np.divmod(position, self.words)
        if self.blocks is None:
            return self.base + word
        block, within = np.divmod(word, self.blocks.size)
        for skipped, steps, blocks in self.blocks.files:
            block = block + file // skipped % steps * blocks
        return self.base + block * self.blocks.stride + within

    @property
    def extent(self) -> int:
        """Addresses from the first word to the last, those between blocks included."""
        if self.blocks is None:
            return self.words
        last = self.blocks.last_in(self.words)
        return last * self.blocks.stride + (self.words - 1) % self.blocks.size + 1

    @property
    def dimensions(self) -> tuple[int, ...]:
        """The dimensions of the values as an array."""
        return (self.words, self.word.lanes) if self.shape is None else self.shape
