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
from jaxtyping import Integer, UInt8

from factory import bits
from factory.memfile.memory import Memory


@dataclass(frozen=True)
class Format:
    """One file format.

    `body(memory, codes, first)` gives the lines, uint8 `(word, byte)`, of words that begin at the place `first` of a
    file; a run that goes past a file's last word goes on with the next file's first. `radix` is that of the digits, 0
    where there are none. `extension` takes the place of a name's `.txt`. `header` says whether comments may come first.
    """

    radix: int
    extension: str
    header: bool
    prefix: Callable[[Memory], bytes]
    body: Callable[[Memory, Integer[np.ndarray, "word lane"], int], UInt8[np.ndarray, "word byte"]]
    suffix: bytes = b""


def digit_count(memory: Memory, radix: int) -> int:
    """Return the digits of a word: one a bit, or one for four bits."""
    return memory.word_bits if radix == 2 else -(-memory.word_bits // 4)


def address_digits(memory: Memory) -> int:
    """Return the hexadecimal digits of the memory's last address."""
    return len(f"{memory.base + memory.words - 1:x}")


def _digits(memory: Memory, codes: Integer[np.ndarray, "word lane"], radix: int) -> UInt8[np.ndarray, "word digit"]:
    return bits.digits(memory.pack(codes), radix, digit_count(memory, radix))


def _lines(*columns: UInt8[np.ndarray, "word _"] | bytes, words: int) -> UInt8[np.ndarray, "word byte"]:
    """Put arrays of columns, and bytes that every line has, side by side."""
    widths = [len(c) if isinstance(c, bytes) else c.shape[1] for c in columns]
    lines, start = np.empty((words, sum(widths)), np.uint8), 0
    for column, width in zip(columns, widths, strict=True):
        field = f"V{width}"  # one copy of `width` bytes a line, not `width` copies of a byte
        part = lines[:, start : start + width].view(field)
        part[:] = np.frombuffer(column, field) if isinstance(column, bytes) else column.view(field)
        start += width
    return lines


def _places(memory: Memory, count: int, first: int) -> np.ndarray:
    return (first + np.arange(count)) % memory.words


def _nothing(memory: Memory) -> bytes:
    return b""


def _text(radix: int, extension: str) -> Format:
    def body(memory, codes, first):
        return _lines(_digits(memory, codes, radix), b"\n", words=codes.shape[0])

    return Format(radix, extension, True, _nothing, body)


def _coe(radix: int) -> Format:
    head = b"memory_initialization_radix = %d;\nmemory_initialization_vector =\n" % radix

    def body(memory, codes, first):
        lines = _lines(_digits(memory, codes, radix), b",\n", words=codes.shape[0])
        lines[_places(memory, codes.shape[0], first) == memory.words - 1, -2] = ord(";")
        return lines

    return Format(radix, ".coe", False, lambda memory: head, body)


def _mif(radix: int) -> Format:
    name = {2: "BIN", 16: "HEX"}[radix]

    def prefix(memory):
        depth = memory.base + memory.words
        head = f"DEPTH = {depth};\nWIDTH = {memory.word_bits};\nADDRESS_RADIX = HEX;\nDATA_RADIX = {name};\n"
        return f"{head}CONTENT BEGIN\n".encode()

    def body(memory, codes, first):
        count, width = codes.shape[0], address_digits(memory)
        places = (_places(memory, count, first) + memory.base).astype(">u8").view(np.uint8).reshape(count, 8)
        address = bits.digits(places, 16, width)
        return _lines(address, b" : ", _digits(memory, codes, radix), b";\n", words=count)

    return Format(radix, ".mif", False, prefix, body, b"END;\n")


def _npy() -> Format:
    def dtype(memory):
        return bits.code_dtype(memory.lane_bits, memory.signed).newbyteorder("<")

    def prefix(memory):
        head = BytesIO()
        shape = (memory.words, memory.lanes)
        described = {"descr": np.lib.format.dtype_to_descr(dtype(memory)), "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(head, described)
        return head.getvalue()

    def body(memory, codes, first):
        held = bits.wrap(codes, memory.lane_bits, memory.signed).astype(dtype(memory), order="C")
        return held.view(np.uint8).reshape(codes.shape[0], memory.lanes * held.itemsize)

    return Format(0, ".npy", False, prefix, body)


def _raw() -> Format:
    def body(memory, codes, first):
        return np.ascontiguousarray(memory.pack(codes)[:, ::-1])

    return Format(0, ".raw", False, _nothing, body)


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


def encode(codes: Integer[np.ndarray, "word lane"], memory: Memory, format: str, header: bytes = b"") -> bytes:
    """Return one whole file's bytes; `header` comes first where the format takes comments."""
    made = FORMATS[format]
    return b"".join((header, made.prefix(memory), made.body(memory, codes, 0).tobytes(), made.suffix))
