"""Every file format both ways, as pure functions: codes to bytes, and bytes back to codes.

A file is `prefix`, a body of lines of one width, and `suffix`. The body is made for any run of words, so that files of
any size are written piece by piece, and thousands of small files are formatted at once.
Sources: IEEE 1364 `$readmemb`/`$readmemh` (bin, hex), Xilinx UG896 (coe), Intel Quartus memory initialisation (mif),
NumPy's format 1.0 (npy); raw is each word in the fewest bytes, little-endian.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from types import MappingProxyType

import numpy as np
from jaxtyping import Int64, Integer, UInt8

from factory.arithmetic import bits
from factory.memfile.word import Memory
from factory.spec import InputError

HEADERS = ("none", "tokens", "verilog", "short")
"""What three comment lines a file may begin with; see `header`."""
SHORT_WIDTH = 29
_LAST_LINE = "#................#"
_COMMENTS = (b"#", b"//")

Codes = Integer[np.ndarray, "word lane"]
Lines = UInt8[np.ndarray, "word byte"]


@dataclass(frozen=True)
class Format:
    """One file format.

    `fill(memory, codes, first, lines)` writes the lines, `width(memory)` bytes each, of words that begin at the place
    `first` of a file; a run that goes past a file's last word goes on with the next file's first. `radix` is that of
    the digits, 0 where there are none. `extension` takes the place of a name's `.txt`. `header` says whether comments
    may come first, `addresses` whether it states the address of a word.
    """

    radix: int
    extension: str
    header: bool
    prefix: Callable[[Memory], bytes]
    width: Callable[[Memory], int]
    fill: Callable[[Memory, Codes, int, Lines], None]
    suffix: bytes = b""
    addresses: bool = False

    def body(self, memory: Memory, codes: Codes, first: int = 0) -> Lines:
        """Return the lines of words that begin at position `first` of a file."""
        lines = np.empty((codes.shape[0], self.width(memory)), np.uint8)
        self.fill(memory, codes, first, lines)
        return lines


def digit_count(memory: Memory, radix: int) -> int:
    """Return the digits of a word: one a bit, or one for four bits."""
    return memory.word.width if radix == 2 else -(-memory.word.width // 4)


def address_digits(memory: Memory) -> int:
    """Return the hexadecimal digits of the memory's last address."""
    return len(f"{memory.base + memory.words - 1:x}")


def _digits(memory: Memory, codes: Codes, radix: int) -> Lines:
    return bits.digits(memory.word.pack(codes), radix, digit_count(memory, radix))


def _fill_columns(lines: Lines, *columns: UInt8[np.ndarray, "word _"] | bytes) -> None:
    """Put arrays of columns, and bytes that every line has, side by side."""
    start = 0
    for column in columns:
        width = len(column) if isinstance(column, bytes) else column.shape[1]
        field = f"V{width}"  # one copy of `width` bytes a line, not `width` copies of a byte
        part = lines[:, start : start + width].view(field)
        part[:] = np.frombuffer(column, field) if isinstance(column, bytes) else column.view(field)
        start += width


def _positions(memory: Memory, count: int, first: int) -> Int64[np.ndarray, " word"]:
    return (first + np.arange(count)) % memory.words


def _nothing(memory: Memory) -> bytes:
    return b""


def _text(radix: int, extension: str) -> Format:
    def width(memory):
        return digit_count(memory, radix) + 1

    def fill(memory, codes, first, lines):
        _fill_columns(lines, _digits(memory, codes, radix), b"\n")

    def prefix(memory):  # an address is hexadecimal in $readmemb too
        return b"@%x\n" % memory.base if memory.base else b""

    return Format(radix, extension, True, prefix, width, fill, addresses=True)


def _coe(radix: int) -> Format:
    head = b"memory_initialization_radix = %d;\nmemory_initialization_vector =\n" % radix

    def width(memory):
        return digit_count(memory, radix) + 2

    def fill(memory, codes, first, lines):
        _fill_columns(lines, _digits(memory, codes, radix), b",\n")
        lines[_positions(memory, codes.shape[0], first) == memory.words - 1, -2] = ord(";")

    return Format(radix, ".coe", False, lambda memory: head, width, fill)


def _mif(radix: int) -> Format:
    name = {2: "BIN", 16: "HEX"}[radix]

    def prefix(memory):
        depth = memory.base + memory.words
        head = f"DEPTH = {depth};\nWIDTH = {memory.word.width};\nADDRESS_RADIX = HEX;\nDATA_RADIX = {name};\n"
        return f"{head}CONTENT BEGIN\n".encode()

    def width(memory):
        return address_digits(memory) + len(" : ") + digit_count(memory, radix) + 2

    def fill(memory, codes, first, lines):
        positions = (_positions(memory, codes.shape[0], first) + memory.base).astype(">u8")
        address = bits.digits(positions.view(np.uint8).reshape(-1, 8), 16, address_digits(memory))
        _fill_columns(lines, address, b" : ", _digits(memory, codes, radix), b";\n")

    return Format(radix, ".mif", False, prefix, width, fill, b"END;\n", addresses=True)


def _npy() -> Format:
    def dtype(memory):
        return memory.word.field.dtype.newbyteorder("<")

    def prefix(memory):
        head = BytesIO()
        shape = (memory.words, memory.word.lanes)
        described = {"descr": np.lib.format.dtype_to_descr(dtype(memory)), "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(head, described)
        return head.getvalue()

    def width(memory):
        return memory.word.lanes * dtype(memory).itemsize

    def fill(memory, codes, first, lines):
        lines.view(dtype(memory))[:] = memory.word.field.wrap(codes)[0]

    return Format(0, ".npy", False, prefix, width, fill)


def _raw() -> Format:
    def fill(memory, codes, first, lines):
        lines[:] = memory.word.pack(codes)[:, ::-1]

    return Format(0, ".raw", False, _nothing, lambda memory: memory.word.bytes, fill)


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


def header(style: str, line_axis: str, lanes: Sequence[str]) -> bytes:
    """Return the header of a file whose lines count along `line_axis`, `lanes` being the lanes' names, leftmost first.

    `tokens`: the notebook's lines, each one token without a blank, for three `%s` reads. `verilog`: the same, beginning
    with `//`. `short`: at most 29 characters a line, for `$fgets` into 30 bytes. `none`: nothing.
    """
    if style == "none":
        return b""
    lines = [_short(line_axis, line, lanes) if style == "short" else _full(line_axis, line, lanes) for line in (0, 1)]
    lines.append(_LAST_LINE)
    if style == "verilog":
        lines = ["//" + line.removeprefix("#") for line in lines]
    return "".join(f"{line}\n" for line in lines).encode()


def _full(axis: str, line: int, lanes: Sequence[str]) -> str:
    names = [f"{axis}{line}{lane}" for lane in lanes]
    fields = [f"{names[0]}[msb-lsb]", *(f"{name}[msb-lst]" for name in names[1:2])]
    if len(names) > 2:
        fields += ["....", f"{names[-1]}[msb-lst]"]
    return f"#{','.join(fields)}#"


def _short(axis: str, line: int, lanes: Sequence[str]) -> str:
    return f"#{axis}{line}:{lanes[0]}..{lanes[-1]}"[: SHORT_WIDTH - 1] + "#"


def decode(data: bytes, memory: Memory, format: str) -> Integer[np.ndarray, "word lane"]:
    """Return the codes that a file of `memory` holds, lane 0 first, in the narrowest dtype of a lane.

    Comment lines before the first word are skipped where the format takes them. Raise InputError, with the line or the
    word (from 0), for anything that the writer would not have written.
    """
    try:
        if format == "npy":
            return _read_npy(data, memory)
        if format == "raw":
            return _read_raw(data, memory)
        return _read_digits(data, memory, format)
    except ValueError as error:
        raise InputError(str(error)) from None


def _read_digits(data: bytes, memory: Memory, format: str) -> Integer[np.ndarray, "word lane"]:
    made = FORMATS[format]
    prefix = made.prefix(memory)
    body, skipped = data, prefix.count(b"\n")
    while made.header and body.startswith(_COMMENTS):
        body, skipped = body.partition(b"\n")[2], skipped + 1
    if not body.startswith(prefix):
        raise ValueError(f"the file must begin with {prefix.decode()!r}")
    if not body.endswith(made.suffix):
        raise ValueError(f"the file must end with {made.suffix.decode()!r}")
    body = body[len(prefix) : len(body) - len(made.suffix)]
    lines = _table(body, made.width(memory), skipped)
    _check_count(lines.shape[0], memory)
    start = address_digits(memory) + len(" : ") if format.startswith("mif") else 0
    digits = lines[:, start : start + digit_count(memory, made.radix)]
    codes = memory.word.unpack(bits.from_digits(digits, made.radix))
    written = made.body(memory, codes)
    wrong = (written != lines).any(axis=1)
    if wrong.any():
        line = int(wrong.argmax())
        expected, found = written[line].tobytes(), lines[line].tobytes()
        raise ValueError(f"line {skipped + line + 1} must be {expected!r}, not {found!r}")
    return codes


def _table(body: bytes, width: int, skipped: int) -> UInt8[np.ndarray, "line byte"]:
    """Return the lines of a body, `width` bytes each with their newlines, that begins after `skipped` lines."""
    text = np.frombuffer(body, np.uint8)
    newlines = np.flatnonzero(text == ord("\n"))
    if not np.array_equal(newlines, np.arange(width - 1, text.size, width)) or text.size % width:
        for number, line in enumerate(body.split(b"\n"), skipped + 1):
            if len(line) != width - 1:
                raise ValueError(f"line {number} must be {width - 1} characters, not {len(line)}")
        raise ValueError("the last line must end in a newline")
    return text.reshape(-1, width)


def _check_count(words: int, memory: Memory) -> None:
    if words != memory.words:
        raise ValueError(f"the file must hold {memory.words} words, not {words}")


def _read_npy(data: bytes, memory: Memory) -> Integer[np.ndarray, "word lane"]:
    codes = np.load(BytesIO(data), allow_pickle=False)
    dtype, shape = memory.word.field.dtype, (memory.words, memory.word.lanes)
    if codes.dtype != dtype or codes.shape != shape:
        raise ValueError(f"the array must be {dtype} {shape}, not {codes.dtype} {codes.shape}")
    return codes


def _read_raw(data: bytes, memory: Memory) -> Integer[np.ndarray, "word lane"]:
    if len(data) % memory.word.bytes:
        raise ValueError(f"the file must hold whole words of {memory.word.bytes} bytes, not {len(data)} bytes")
    words = np.frombuffer(data, np.uint8).reshape(-1, memory.word.bytes)
    _check_count(words.shape[0], memory)
    return memory.word.unpack(words[:, ::-1])
