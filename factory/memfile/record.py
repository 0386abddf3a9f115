"""What every file format is: first bytes, a table with a line for each word, last bytes, and the way back."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
from jaxtyping import Integer, UInt8

from factory.arithmetic.decimal import NOTHING
from factory.memfile.word import Memory

Codes = Integer[np.ndarray, "word lane"]
Lines = UInt8[np.ndarray, "word byte"]


@dataclass(frozen=True)
class Format(ABC):
    """One file format.

    `fill` writes the lines, `width` bytes each, of words that begin at the place `first`, counted through all files of
    a set; where the format `is_ragged`, the bytes `NOTHING` are then left out. `radix` is that of the digits, 0 where
    there are none. `extension` takes the place of a name's `.txt`. `keys` are the keys of a layout that not every
    format has, and this one has. `suffix` is what every file ends with.
    """

    radix: int
    extension: str
    keys: Collection[str] = ()
    suffix: bytes = b""

    def prefix(self, memory: Memory, file: str = "") -> bytes:
        """Return what comes before the words in the file of that name."""
        return b""

    def ending(self, memory: Memory, file: str = "") -> bytes:
        """Return what comes after the words in the file of that name."""
        return self.suffix

    def names_file(self) -> bool:
        """Return whether what comes before or after the words depends on the file's name."""
        return False

    @property
    def is_lanewise(self) -> bool:
        """Whether lanes stand apart as numbers, not side by side in words."""
        return False

    @property
    def has_dimensions(self) -> bool:
        """Whether the words are an array with a shape."""
        return False

    def is_ragged(self, memory: Memory) -> bool:
        """Return whether lines are not all as long."""
        return False

    @abstractmethod
    def width(self, memory: Memory) -> int:
        """Return the bytes of a line."""

    @abstractmethod
    def fill(self, memory: Memory, codes: Codes, first: int, lines: Lines) -> None:
        """Write the lines of words that begin at the place `first`."""

    @abstractmethod
    def read(self, data: bytes, memory: Memory, file: str = "", number: int = 0) -> Codes:
        """Return the codes of a file, the `number`-th of its set; raise ValueError for what `fill` would not write."""

    def body(self, memory: Memory, codes: Codes, first: int = 0) -> UInt8[np.ndarray, "*_"]:
        """Return the bytes of words that begin at the place `first`, as a table where all lines are as long."""
        lines = np.empty((codes.shape[0], self.width(memory)), np.uint8)
        self.fill(memory, codes, first, lines)
        return self.compact(memory, lines)

    def compact(self, memory: Memory, lines: Lines) -> UInt8[np.ndarray, "*_"]:
        """Return the bytes of lines that `fill` wrote."""
        return lines[lines != NOTHING] if self.is_ragged(memory) else lines


def fill_columns(lines: Lines, *columns: UInt8[np.ndarray, "word _"] | bytes) -> None:
    """Put arrays of columns, and bytes that every line has, side by side."""
    start = 0
    for column in columns:
        width = len(column) if isinstance(column, bytes) else column.shape[1]
        if not width:
            continue
        field = f"V{width}"  # one copy of `width` bytes a line, not `width` copies of a byte
        part = lines[:, start : start + width].view(field)
        part[:] = np.frombuffer(column, field) if isinstance(column, bytes) else column.view(field)
        start += width


def check_count(words: int, memory: Memory) -> None:
    """Raise ValueError unless a file has as many words as its memory."""
    if words != memory.words:
        raise ValueError(f"the file must hold {memory.words} words, not {words}")
