"""Writers of every file format, as pure functions from codes to bytes.

A file is `prefix`, a body of lines of one width, and `suffix`. The body is made for any run of words, so that files of
any size are written piece by piece, and thousands of small files are formatted at once.
Sources: IEEE 1364 `$readmemb`/`$readmemh` (bin, hex), Xilinx UG896 (coe), Intel Quartus memory initialisation (mif),
NumPy's format 1.0 (npy); raw is each word in the fewest bytes, little-endian.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from io import BytesIO
from types import MappingProxyType

import numpy as np
from jaxtyping import Int64, Integer, UInt8

from factory.arithmetic import bits
from factory.memfile.memory import Memory

Codes = Integer[np.ndarray, "word lane"]
Lines = UInt8[np.ndarray, "word byte"]


@dataclass(frozen=True)
class Format:
    """One file format.

    `fill(memory, codes, first, lines)` writes the lines, `width(memory)` bytes each, of words that begin at the place
    `first` of a file; a run that goes past a file's last word goes on with the next file's first. `radix` is that of
    the digits, 0 where there are none. `extension` takes the place of a name's `.txt`. `header` says whether comments
    may come first.
    """

    radix: int
    extension: str
    header: bool
    prefix: Callable[[Memory], bytes]
    width: Callable[[Memory], int]
    fill: Callable[[Memory, Codes, int, Lines], None]
    suffix: bytes = b""

    def body(self, memory: Memory, codes: Codes, first: int = 0) -> Lines:
        """Return the lines of words that begin at the place `first` of a file."""
        lines = np.empty((codes.shape[0], self.width(memory)), np.uint8)
        self.fill(memory, codes, first, lines)
        return lines


def digit_count(memory: Memory, radix: int) -> int:
    """Return the digits of a word: one a bit, or one for four bits."""
    return memory.word_bits if radix == 2 else -(-memory.word_bits // 4)


def address_digits(memory: Memory) -> int:
    """Return the hexadecimal digits of the memory's last address."""
    return len(f"{memory.base + memory.words - 1:x}")


def _digits(memory: Memory, codes: Codes, radix: int) -> Lines:
    return bits.digits(memory.pack(codes), radix, digit_count(memory, radix))


def _fill_columns(lines: Lines, *columns: UInt8[np.ndarray, "word _"] | bytes) -> None:
    """Put arrays of columns, and bytes that every line has, side by side."""
    start = 0
    for column in columns:
        width = len(column) if isinstance(column, bytes) else column.shape[1]
        field = f"V{width}"  # one copy of `width` bytes a line, not `width` copies of a byte
        part = lines[:, start : start + width].view(field)
        part[:] = np.frombuffer(column, field) if isinstance(column, bytes) else column.view(field)
        start += width


def _places(memory: Memory, count: int, first: int) -> Int64[np.ndarray, " word"]:
    return (first + np.arange(count)) % memory.words


def _nothing(memory: Memory) -> bytes:
    return b""


def _text(radix: int, extension: str) -> Format:
    def width(memory):
        return digit_count(memory, radix) + 1

    def fill(memory, codes, first, lines):
        _fill_columns(lines, _digits(memory, codes, radix), b"\n")

    return Format(radix, extension, True, _nothing, width, fill)


def _coe(radix: int) -> Format:
    head = b"memory_initialization_radix = %d;\nmemory_initialization_vector =\n" % radix

    def width(memory):
        return digit_count(memory, radix) + 2

    def fill(memory, codes, first, lines):
        _fill_columns(lines, _digits(memory, codes, radix), b",\n")
        lines[_places(memory, codes.shape[0], first) == memory.words - 1, -2] = ord(";")

    return Format(radix, ".coe", False, lambda memory: head, width, fill)


def _mif(radix: int) -> Format:
    name = {2: "BIN", 16: "HEX"}[radix]

    def prefix(memory):
        depth = memory.base + memory.words
        head = f"DEPTH = {depth};\nWIDTH = {memory.word_bits};\nADDRESS_RADIX = HEX;\nDATA_RADIX = {name};\n"
        return f"{head}CONTENT BEGIN\n".encode()

    def width(memory):
        return address_digits(memory) + len(" : ") + digit_count(memory, radix) + 2

    def fill(memory, codes, first, lines):
        places = (_places(memory, codes.shape[0], first) + memory.base).astype(">u8")
        address = bits.digits(places.view(np.uint8).reshape(-1, 8), 16, address_digits(memory))
        _fill_columns(lines, address, b" : ", _digits(memory, codes, radix), b";\n")

    return Format(radix, ".mif", False, prefix, width, fill, b"END;\n")


def _npy() -> Format:
    def dtype(memory):
        return bits.code_dtype(memory.lane_bits, memory.signed).newbyteorder("<")

    def prefix(memory):
        head = BytesIO()
        shape = (memory.words, memory.lanes)
        described = {"descr": np.lib.format.dtype_to_descr(dtype(memory)), "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(head, described)
        return head.getvalue()

    def width(memory):
        return memory.lanes * dtype(memory).itemsize

    def fill(memory, codes, first, lines):
        lines.view(dtype(memory))[:] = bits.wrap(codes, memory.lane_bits, memory.signed)

    return Format(0, ".npy", False, prefix, width, fill)


def _raw() -> Format:
    def fill(memory, codes, first, lines):
        lines[:] = memory.pack(codes)[:, ::-1]

    return Format(0, ".raw", False, _nothing, lambda memory: memory.word_bytes, fill)


FORMATS: Mapping[str, Format] = MappingProxyType(
    {
        "bin": _text(2, ".txt"),
        "hex": _text(16, ".hex"),
        "coe": _coe(2),
        "coe-hex": _coe(16),
        "mif": _mif(2),
        "mif-hex": _mif(16),
        "npy": _npy(),
        "raw": _raw(),
    }
)


def encode(codes: Codes, memory: Memory, format: str, header: bytes = b"") -> bytes:
    """Return one whole file's bytes; `header` comes first where the format takes comments."""
    made = FORMATS[format]
    return b"".join((header, made.prefix(memory), made.body(memory, codes).tobytes(), made.suffix))
