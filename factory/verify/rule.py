"""How one file of an export holds its words, as the manifest says; `factory.memfile` describes the keys."""

from __future__ import annotations

from dataclasses import dataclass

RADIX = {
    "bin": 2, "hex": 16, "dec": 10, "csv": 10, "coe": 2, "coe-hex": 16, "coe-dec": 10, "mif": 2, "mif-hex": 16,
    "mif-dec": 10, "mif-uns": 10, "c": 10, "sv": 10, "sv-packed": 16, "npy": 0, "raw": 0,
}  # fmt: skip
"""The radix of each format's digits; 0 where there are none."""
TWOS_COMPLEMENT = "twos_complement"
VALID, ADDRESSES = "valid", "address"
"""Contents of streams that cross an array's edges: valid bits alone, addresses."""
SEPARATED = ("dec", "csv", "c", "sv", "sv-packed")
"""Formats in which lanes are numbers of their own, whatever the layout says."""


@dataclass(frozen=True)
class WordRule:
    """How one file holds its words.

    A word is `lanes` fields of `lane_bits`, zero-extended on the left to `word_bits`; lane 0 is the rightmost field, or
    the leftmost with `lane0_left`. `base` is the address of the first word. A bus takes each of the first `lines` words
    in `beats` of `bus_bits`, which are then the words of the file. Blocks of `block_words` words of the file (0: there
    are none) lie `block_stride` addresses apart, and the file's first one is the `first_block`-th; no file's words
    reach address `base + extent` (0: they follow each other). `dimensions` are those of the values as an array (none:
    words, lanes). The bytes of a raw file are a multiple of `align_bytes`.
    """

    format: str
    header: str
    words: int
    lanes: int
    lane_bits: int
    word_bits: int
    signed: bool
    lane0_left: bool
    base: int
    code: str = TWOS_COMPLEMENT
    bus_bits: int = 0
    beats: int = 1
    highest_beat_first: bool = False
    lines: int = 0
    separator: str = ""
    radix_prefix: str = ""
    head: tuple[str, ...] = ()
    foot: tuple[str, ...] = ()
    endian: str = "little"
    align_bytes: int = 1
    dimensions: tuple[int, ...] | None = None
    depth: int = 0
    block_words: int = 0
    block_stride: int = 0
    first_block: int = 0
    extent: int = 0
    file: str = "memory"

    @property
    def width(self) -> int:
        """Bits of a word of the file."""
        return self.bus_bits or self.word_bits

    @property
    def digits(self) -> int:
        """Characters of a word in a text format."""
        return self.width if RADIX[self.format] == 2 else (self.width + 3) // 4

    @property
    def is_plain(self) -> bool:
        """Whether lines are all as long and hold one word each, as the formats alone have it."""
        styled = self.separator or self.radix_prefix or self.head or self.foot or self.block_words
        return RADIX[self.format] in (2, 16) and self.format not in SEPARATED and not styled

    @property
    def lanes_apart(self) -> bool:
        """Whether each lane is a number of its own."""
        return bool(self.separator) or self.format in SEPARATED

    def address(self, word: int) -> int:
        """Return the address of a word."""
        if not self.block_words:
            return self.base + word
        block, rest = divmod(word, self.block_words)
        return self.base + (self.first_block + block) * self.block_stride + rest

    @property
    def end(self) -> int:
        """The address that no file's words reach."""
        return self.base + (self.extent or self.words)
