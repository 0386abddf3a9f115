"""The table of file formats, and codes to bytes and back with any of them.

Sources: IEEE 1364 `$readmemb`/`$readmemh` (bin, hex), Xilinx UG896 (coe), Intel Quartus memory initialisation (mif),
SCALE-Sim's traces (csv), C99's `stdint.h` (c), IEEE 1800 assignment patterns (sv) and concatenations (sv-packed),
NumPy's format 1.0 (npy).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from types import MappingProxyType

import numpy as np
from jaxtyping import Integer

from factory.memfile.record import Codes, Format, Lines, check_count
from factory.memfile.text import Text
from factory.memfile.word import Memory
from factory.spec import InputError

HEADERS = ("none", "tokens", "verilog", "short")
"""What three comment lines a file may begin with; see `header`."""
SHORT_WIDTH = 29
_LAST_LINE = "#................#"

_LINES = frozenset({"head", "foot"})
_PLAIN = _LINES | {"header", "separator"}
_WORDS = frozenset({"align", "bus_bits", "code"})
_ADDRESSES = frozenset({"base", "blocks", "block_lines", "block_stride"})


def _coe(radix: int) -> Text:
    begin = f"memory_initialization_radix = {radix};\nmemory_initialization_vector =\n"
    return Text(radix, ".coe", _LINES | _WORDS, begin=begin, end=b",\n", last=b";\n")


def _mif(radix: int, name: str, signed_words: bool = False) -> Text:
    begin = "DEPTH = {end};\nWIDTH = {width};\nADDRESS_RADIX = HEX;\nDATA_RADIX = " + f"{name};\nCONTENT BEGIN\n"
    return Text(
        radix, ".mif", _LINES | _ADDRESSES | _WORDS, b"END;\n", begin, signed_words=signed_words, end=b";\n",
        last=b";\n", address=" : ",
    )  # fmt: skip


def _array(radix: int, extension: str, declaration: str, brackets: tuple[str, str], radix_prefix: str = "") -> Text:
    hash, guard = ("#", "H") if extension == ".h" else ("`", "SVH")
    begin = f"{hash}ifndef {{NAME}}_{guard}\n{hash}define {{NAME}}_{guard}\n\n{declaration} =\n"
    coded = {"code"} if radix_prefix else set()  # whose numbers are bits, not values
    return Text(
        radix, extension, _LINES | {"shape"} | coded, f";\n\n{hash}endif\n".encode(), begin, separator=", ",
        radix_prefix=radix_prefix, brackets=brackets, end=b",\n", last=b"",
    )  # fmt: skip


@dataclass(frozen=True)
class Npy(Format):
    """NumPy's format 1.0: integers `(word, lane)`, lane 0 first, in the narrowest dtype of a lane."""

    def prefix(self, memory: Memory, file: str = "") -> bytes:
        """Return NumPy's header."""
        head = BytesIO()
        shape = (memory.words, memory.word.lanes)
        described = {"descr": np.lib.format.dtype_to_descr(_dtype(memory)), "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(head, described)
        return head.getvalue()

    def width(self, memory: Memory) -> int:
        """Return the bytes of a word's lanes."""
        return memory.word.lanes * _dtype(memory).itemsize

    def fill(self, memory: Memory, codes: Codes, first: int, lines: Lines) -> None:
        """Write the words' lanes."""
        lines.view(_dtype(memory))[:] = memory.word.field.wrap(codes)[0]

    def read(self, data: bytes, memory: Memory, file: str = "", number: int = 0) -> Codes:
        """Return the array; raise ValueError for one of another dtype or shape."""
        codes = np.load(BytesIO(data), allow_pickle=False)
        dtype, shape = memory.word.field.dtype, (memory.words, memory.word.lanes)
        if codes.dtype != dtype or codes.shape != shape:
            raise ValueError(f"the array must be {dtype} {shape}, not {codes.dtype} {codes.shape}")
        return codes


def _dtype(memory: Memory) -> np.dtype:
    return memory.word.field.dtype.newbyteorder("<")


@dataclass(frozen=True)
class Raw(Format):
    """Words alone, each in the fewest bytes, of which the least significant comes first where `endian` is little.

    Zeros follow until the file is a multiple of `align_bytes` bytes.
    """

    endian: str = "little"
    align_bytes: int = 1

    def ending(self, memory: Memory, file: str = "") -> bytes:
        """Return the zeros after the words."""
        return bytes(-memory.words * memory.word.bytes % self.align_bytes)

    def width(self, memory: Memory) -> int:
        """Return the bytes of a word."""
        return memory.word.bytes

    def fill(self, memory: Memory, codes: Codes, first: int, lines: Lines) -> None:
        """Write the words' bytes."""
        lines[:] = self._ordered(memory.word.pack(codes))

    def _ordered(self, words: Lines) -> Lines:
        return words[:, ::-1] if self.endian == "little" else words

    def read(self, data: bytes, memory: Memory, file: str = "", number: int = 0) -> Codes:
        """Return the words' codes; raise ValueError for another number of bytes, or other bytes after the words."""
        body, zeros = data, self.ending(memory)
        if zeros:
            if not data.endswith(zeros):
                raise ValueError(f"the file must end with {len(zeros)} bytes of zeros")
            body = data[: -len(zeros)]
        if len(body) % memory.word.bytes:
            raise ValueError(f"the file must hold whole words of {memory.word.bytes} bytes, not {len(body)} bytes")
        words = np.frombuffer(body, np.uint8).reshape(-1, memory.word.bytes)
        check_count(words.shape[0], memory)
        return memory.word.unpack(self._ordered(words))


FORMATS: Mapping[str, Format] = MappingProxyType(
    {
        "bin": Text(2, ".txt", _PLAIN | _ADDRESSES | _WORDS | {"radix_prefix"}),
        "hex": Text(16, ".hex", _PLAIN | _ADDRESSES | _WORDS | {"radix_prefix"}),
        "dec": Text(10, ".txt", _PLAIN | {"align"}, separator=" "),
        "csv": Text(
            10, ".csv", frozenset({"align", "base"}), separator=",", address=",", counts=True, lane0_first=True
        ),
        "coe": _coe(2),
        "coe-hex": _coe(16),
        "coe-dec": _coe(10),
        "mif": _mif(2, "BIN"),
        "mif-hex": _mif(16, "HEX"),
        "mif-dec": _mif(10, "DEC", signed_words=True),
        "mif-uns": _mif(10, "UNS"),
        "c": _array(10, ".h", "#include <stdint.h>\n\nstatic const {ctype} {name}{dimensions}", ("{", "}")),
        "sv": _array(10, ".svh", "localparam {logic} {NAME} {dimensions}", ("'{", "}")),
        "sv-packed": _array(16, ".svh", "localparam logic {packed} {NAME}", ("{", "}"), "{lane_bits}'h"),
        "npy": Npy(0, ".npy", frozenset({"align", "code"})),
        "raw": Raw(0, ".raw", _WORDS | {"endian", "align_bytes"}),
    }
)


def encode(
    codes: Codes, memory: Memory, format: str | Format, header: bytes = b"", file: str = "", number: int = 0
) -> bytes:
    """Return the bytes of one whole file, called `file`, the `number`-th of its set; `header` comes first."""
    made = FORMATS[format] if isinstance(format, str) else format
    body = made.body(memory, codes, number * memory.words).tobytes()
    return b"".join((header, made.prefix(memory, file), body, made.ending(memory, file)))


def decode(
    data: bytes, memory: Memory, format: str | Format, file: str = "", number: int = 0
) -> Integer[np.ndarray, "word lane"]:
    """Return the codes that a file of `memory` holds, lane 0 first, in the narrowest dtype of a lane.

    The file is called `file`, and is the `number`-th of its set. Comment lines before the first word are skipped where
    the format takes them. Raise InputError, with the line or the word (from 0), for anything that the writer would not
    have written.
    """
    made = FORMATS[format] if isinstance(format, str) else format
    try:
        return made.read(data, memory, file, number)
    except (ValueError, EOFError) as error:
        raise InputError(str(error)) from None


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
