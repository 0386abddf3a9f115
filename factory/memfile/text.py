"""Text formats as data: what a line is made of, rendered for many words at a time, and read back.

A file is its first lines, a line for each word, and its last lines. A line is an address (if any), numbers, and an
end. A number is a whole word or, with a separator or in brackets, one lane. Lines are made as a table of characters of
one width; where lines are not all as long, the byte `NOTHING` stands for what is not there, and is left out in the end.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod

import numpy as np
from jaxtyping import Bool, Int64, UInt8

from factory.arithmetic import bits
from factory.arithmetic.decimal import NOTHING, decimal_width, from_decimal, to_decimal
from factory.memfile.record import Codes, Format, Lines, check_count, fill_columns
from factory.memfile.word import Memory, WordFormat
from factory.spec import InputError

_FIELD = re.compile(r"\{(\w+)\}")
_SEPARATOR = re.compile(r"[ ,;:|_/]*")
_RADIX_PREFIX = re.compile(
    r"|(0|\\)?[bBhHxX]'?"  # C, Python
    r"|[$&%#][bBhHxX]?"  # assemblers
    r"|(\d+|\{\w+\})?('[sS]?[bBhH]|#)"  # Verilog, Ada
)
_OPEN_FIELD = re.compile(r"\{(\w+)(?![\w}])")
"""A field that nothing closes; a brace alone is one of C's."""
_LANE_FIELDS = ("lanes", "lane_bits")
_NUMBER_FIELDS = ("width", *_LANE_FIELDS, "radix")
_FILE_FIELDS = ("depth", "end", "words", *_NUMBER_FIELDS, "base", "file", "name", "NAME")
_COMMENTS = (b"#", b"//")
_ADDRESS_LINE = re.compile(rb"^@[0-9a-f]+\n", re.MULTILINE)
_PATTERNS = {2: rb"[01]+", 10: rb"-?[0-9]+", 16: rb"[0-9a-f]+"}

Table = UInt8[np.ndarray, "word column"]


@dataclass(frozen=True)
class Text(Format):
    """A format of lines of text.

    `begin` and `suffix` are the format's own first and last lines, `head` and `foot` those before and after them, and
    `radix_prefix` comes before each number; but for `suffix` they have fields in braces (`template_values`). A word's
    numbers are its lanes, leftmost first, with `separator` between them; without one, a word is one number, two's
    complement where `signed_words` (in radix 10). `brackets` open and close each dimension of an array of all lanes,
    lane 0 first. A line ends in `end`, the last one in `last`. `address` stands between an address, with which each
    line then begins, and the word: in hexadecimal, or decimal where it `counts` words; a format without it states
    addresses as lines such as `@1f`. Lane 0 comes first where `lane0_first`, whatever the layout says.
    """

    begin: str = ""
    head: tuple[str, ...] = ()
    foot: tuple[str, ...] = ()
    separator: str = ""
    radix_prefix: str = ""
    signed_words: bool = False
    brackets: tuple[str, str] | None = None
    end: bytes = b"\n"
    last: bytes = b"\n"
    address: str = ""
    counts: bool = False
    lane0_first: bool = False

    def prefix(self, memory: Memory, file: str = "") -> bytes:
        """Return what comes before the words; without blocks, an `@` line for an address that is not 0."""
        values = template_values(memory, self.radix, file)
        lines = "".join(f"{line}\n" for line in self.head)
        stated = "base" in self.keys and not self.address and not memory.blocks
        at = f"@{memory.base:x}\n" if memory.base and stated else ""
        return (fill_template(lines + self.begin, values) + at).encode()

    def ending(self, memory: Memory, file: str = "") -> bytes:
        """Return what comes after the words."""
        lines = "".join(f"{line}\n" for line in self.foot)
        return self.suffix + fill_template(lines, template_values(memory, self.radix, file)).encode()

    def names_file(self) -> bool:
        """Return whether what comes before or after the words depends on the file's name."""
        used = _FIELD.findall("".join((self.begin, *self.head, *self.foot)))
        return bool({"file", "name", "NAME"} & set(used))

    @property
    def is_lanewise(self) -> bool:
        """Whether the numbers are lanes, not whole words."""
        return bool(self.separator or self.brackets)

    @property
    def has_dimensions(self) -> bool:
        """Whether the words are an array with a shape."""
        return bool(self.brackets)

    def is_ragged(self, memory: Memory) -> bool:
        """Return whether lines are not all as long."""
        return bool(self.radix == 10 or self.brackets or (memory.blocks and not self.address))

    def _number(self, memory: Memory) -> tuple[WordFormat, bool]:
        """Return a number's format, as a word of its own, and whether it is signed."""
        word = memory.word
        return (WordFormat(1, word.field), word.field.signed) if self.is_lanewise else (word, self.signed_words)

    def _count(self, memory: Memory) -> int:
        """Return the numbers of a line."""
        return memory.word.lanes if self.is_lanewise else 1

    def _digit_count(self, memory: Memory) -> int:
        number, signed = self._number(memory)
        return decimal_width(number.width, signed) if self.radix == 10 else digit_count(number.width, self.radix)

    def _before(self, memory: Memory) -> int:
        """Return the columns before the first number."""
        digits = address_digits(memory)
        if self.counts:
            return decimal_width(_last_address(memory).bit_length(), False) + len(self.address)
        if self.address:
            return digits + len(self.address)
        return len("@") + digits + len("\n") if memory.blocks else 0

    def _step(self, memory: Memory) -> int:
        """Return the columns from one number of a line to the next one."""
        brackets = len(memory.dimensions) * len("".join(self.brackets or ()))
        return brackets + len(self._number_prefix(memory)) + self._digit_count(memory) + len(self.separator)

    def _number_prefix(self, memory: Memory) -> bytes:
        return fill_template(self.radix_prefix, template_values(memory, self.radix, "")).encode()

    def width(self, memory: Memory) -> int:
        """Return the columns of a line."""
        numbers = self._count(memory) * self._step(memory) - len(self.separator)
        return self._before(memory) + numbers + len(self.end)

    def fill(self, memory: Memory, codes: Codes, first: int, lines: Lines) -> None:
        """Write the lines of words, `first` being the place of the first word, counted through all files."""
        position = first + np.arange(codes.shape[0])
        columns = [self._digits(memory, codes, position), self.end]
        if self.counts:
            bits = _last_address(memory).bit_length()
            columns = [to_decimal(_packed(memory.addresses(position)), bits, False), self.address.encode(), *columns]
        elif self.address:
            columns = [_hex(memory.addresses(position), address_digits(memory)), self.address.encode(), *columns]
        elif memory.blocks:
            columns.insert(0, _address_lines(memory, position))
        fill_columns(lines, *columns)
        if self.last != self.end:
            last = self.last.ljust(len(self.end), bytes([NOTHING]))
            lines[position % memory.words == memory.words - 1, -len(self.end) :] = np.frombuffer(last, np.uint8)

    def _forward(self, memory: Memory) -> bool:
        """Return whether lane 0 is the first number of a line."""
        return bool(self.brackets) or self.lane0_first or memory.word.lane0_left

    def _digits(self, memory: Memory, codes: Codes, position: Int64[np.ndarray, " word"]) -> Table:
        number, signed = self._number(memory)
        if self.is_lanewise:
            codes = (codes if self._forward(memory) else codes[:, ::-1]).reshape(-1, 1)
        packed = number.pack(codes)
        if self.radix == 10:
            digits = to_decimal(packed, number.width, signed)
        else:
            digits = bits.digits(packed, self.radix, digit_count(number.width, self.radix))
        if not (self.is_lanewise or self.radix_prefix):
            return digits
        parts = [self._number_prefix(memory), digits, self.separator.encode()]
        if self.brackets:
            lanes = memory.word.lanes
            element = (position % memory.words)[:, None] * lanes + np.arange(lanes)
            opening, closing = (side.encode() for side in self.brackets)
            sizes = [prod(memory.dimensions[at:]) for at in range(len(memory.dimensions))]
            opens = _repeated(opening, element.ravel()[:, None] % sizes == 0)
            closes = _repeated(closing, (element.ravel()[:, None] + 1) % sizes[::-1] == 0)
            parts = [opens, *parts[:-1], closes, parts[-1]]
        table = np.empty((len(digits), self._step(memory)), np.uint8)
        fill_columns(table, *parts)
        columns = self._count(memory) * self._step(memory)
        return table.reshape(len(position), columns)[:, : columns - len(self.separator)]

    def read(self, data: bytes, memory: Memory, file: str = "", number: int = 0) -> Codes:
        """Return the codes of a file, the `number`-th of its set; raise ValueError for what `fill` would not write."""
        prefix, suffix = self.prefix(memory, file), self.ending(memory, file)
        body, skipped = data, prefix.count(b"\n")
        while "header" in self.keys and body.startswith(_COMMENTS) and not (prefix and body.startswith(prefix)):
            body, skipped = body.partition(b"\n")[2], skipped + 1
        if not body.startswith(prefix):
            raise ValueError(f"the file must begin with {prefix.decode()!r}")
        if not body.endswith(suffix):
            raise ValueError(f"the file must end with {suffix.decode()!r}")
        body = body[len(prefix) : len(body) - len(suffix)]
        packed = self._ragged(body, memory) if self.is_ragged(memory) else self._table(body, memory, skipped)
        if self.is_lanewise:
            codes = self._number(memory)[0].unpack(packed).reshape(memory.words, -1)
            codes = codes if self._forward(memory) else codes[:, ::-1]
        else:
            codes = memory.word.unpack(packed)
        written = self.body(memory, codes, number * memory.words).tobytes()
        if written != body:
            pairs = enumerate(zip(written.splitlines(True), body.splitlines(True), strict=False), skipped + 1)
            for line, (expected, found) in pairs:
                if expected != found:
                    raise ValueError(f"line {line} must be {expected!r}, not {found!r}")
            raise ValueError("the last line must end in a newline")
        return codes

    def _table(self, body: bytes, memory: Memory, skipped: int) -> UInt8[np.ndarray, "number byte"]:
        """Return the packed numbers of lines of one width, the first of which comes after `skipped` lines."""
        lines = _lines(body, self.width(memory), skipped)
        check_count(lines.shape[0], memory)
        start, step, count = self._before(memory), self._step(memory), self._digit_count(memory)
        places = start + len(self._number_prefix(memory)) + np.arange(self._count(memory)) * step
        if len(places) == 1:
            return bits.from_digits(lines[:, places[0] : places[0] + count], self.radix)
        return bits.from_digits(lines[:, (places[:, None] + np.arange(count)).ravel()].reshape(-1, count), self.radix)

    def _ragged(self, body: bytes, memory: Memory) -> UInt8[np.ndarray, "number byte"]:
        """Return the packed numbers of lines of any length, as far as they can be told apart."""
        if memory.blocks:
            body = _ADDRESS_LINE.sub(b"", body)
        if self.address:
            body = re.sub(rb"^[0-9a-f]*" + re.escape(self.address.encode()), b"", body, flags=re.MULTILINE)
        tokens = re.findall(re.escape(self._number_prefix(memory)) + b"(" + _PATTERNS[self.radix] + b")", body)
        numbers = self._count(memory)
        if len(tokens) != memory.words * numbers:
            raise ValueError(f"the file must hold {memory.words} words, not {len(tokens) / numbers:g}")
        count = self._digit_count(memory)
        if self.radix == 10:
            if (longest := max(map(len, tokens))) > count:
                raise ValueError(f"numbers must be of at most {count} characters, not {longest}")
            return from_decimal(tokens, self._number(memory)[0].width)
        for place, token in enumerate(tokens):
            if len(token) != count:
                raise ValueError(f"number {place} must be {count} digits, not {token.decode()}")
        return bits.from_digits(np.frombuffer(b"".join(tokens), np.uint8).reshape(-1, count), self.radix)


def digit_count(width: int, radix: int) -> int:
    """Return the digits of a number of `width` bits: one a bit, or one for four bits."""
    return width if radix == 2 else -(-width // 4)


def address_digits(memory: Memory) -> int:
    """Return the hexadecimal digits of the memory's last address."""
    return len(f"{_last_address(memory):x}")


def _last_address(memory: Memory) -> int:
    return max(memory.base + memory.extent - 1, 1)


def _hex(values: Int64[np.ndarray, " word"], count: int) -> Table:
    return bits.digits(_packed(values), 16, count)


def _packed(values: Int64[np.ndarray, " word"]) -> UInt8[np.ndarray, "word 8"]:
    return values.astype(">u8").view(np.uint8).reshape(-1, 8)


def _address_lines(memory: Memory, position: Int64[np.ndarray, " word"]) -> Table:
    """Return a line such as `@1f` for each word that a block begins with, and nothing for the others."""
    digits = _hex(memory.addresses(position), address_digits(memory))
    leading = np.logical_and.accumulate(digits == ord("0"), axis=1)
    leading[:, -1] = False
    line = np.empty((len(digits), digits.shape[1] + 2), np.uint8)
    fill_columns(line, b"@", np.where(leading, np.uint8(NOTHING), digits), b"\n")
    line[position % memory.words % memory.blocks.size != 0] = NOTHING
    return line


def _repeated(text: bytes, where: Bool[np.ndarray, "number dimension"]) -> UInt8[np.ndarray, "number column"]:
    """Return a text as often as `where` says."""
    columns = np.where(where[..., None], np.frombuffer(text, np.uint8), np.uint8(NOTHING))
    return columns.reshape(len(where), where.shape[1] * len(text))


def _lines(body: bytes, width: int, skipped: int) -> UInt8[np.ndarray, "line byte"]:
    """Return the lines of a body, `width` bytes each with their newlines, that begins after `skipped` lines."""
    text = np.frombuffer(body, np.uint8)
    newlines = np.flatnonzero(text == ord("\n"))
    if not np.array_equal(newlines, np.arange(width - 1, text.size, width)) or text.size % width:
        for number, line in enumerate(body.split(b"\n"), skipped + 1):
            if len(line) != width - 1:
                raise ValueError(f"line {number} must be {width - 1} characters, not {len(line)}")
        raise ValueError("the last line must end in a newline")
    return text.reshape(-1, width)


def template_values(memory: Memory, radix: int, file: str) -> dict[str, object]:
    """Return what fields in the lines before and after the words stand for."""
    field, name = memory.word.field, re.sub(r"\W", "_", file.partition(".")[0], flags=re.ASCII) or "memory"
    name = f"_{name}" if name[0].isdigit() else name
    sign = "signed " if field.signed else ""
    return {
        "depth": memory.depth or memory.base + memory.extent,
        "end": memory.base + memory.extent,
        "words": memory.words,
        "width": memory.word.width,
        "lanes": memory.word.lanes,
        "lane_bits": field.bits,
        "radix": radix,
        "base": memory.base,
        "file": file,
        "name": name,
        "NAME": name.upper(),
        "ctype": f"{'' if field.signed else 'u'}int{8 * field.dtype.itemsize}_t",
        "dimensions": "".join(f"[{size}]" for size in memory.dimensions),
        "logic": f"logic {sign}[{field.bits - 1}:0]",
        "packed": "".join(f"[0:{size - 1}]" for size in memory.dimensions) + f"[{field.bits - 1}:0]",
    }


def fill_template(text: str, values: Mapping[str, object]) -> str:
    """Return a text with what its fields in braces stand for."""
    return _FIELD.sub(lambda match: str(values[match[1]]), text)


def check_texts(separator: str, radix_prefix: str, head: Sequence[str], foot: Sequence[str], beats: bool) -> None:
    """Raise InputError for texts of a layout that a file cannot have, whose words may be `beats` of a bus."""
    if not _SEPARATOR.fullmatch(separator):
        raise InputError(f"separator must be of blanks and , ; : | _ /, not {separator!r}")
    for key, lines in (("head", head), ("foot", foot)):
        for line in lines:
            if not (line.isascii() and line.isprintable()):
                raise InputError(f"{key} must be lines of printable ASCII, not {line!r}")
    given = [("radix_prefix", radix_prefix, _NUMBER_FIELDS)]
    given += [(key, line, _FILE_FIELDS) for key, lines in (("head", head), ("foot", foot)) for line in lines]
    for key, text, known in given:
        known = [name for name in known if not (beats and name in _LANE_FIELDS)]
        for name in _OPEN_FIELD.findall(text):
            if name in known:
                raise InputError(f"fields of {key} must be in braces, such as {{{name}}}, not {text!r}")
        for name in _FIELD.findall(text):
            if name not in known:
                where = " where a bus takes words in beats" if beats else ""
                raise InputError(f"fields of {key} must be of {' '.join(known)}{where}, not {name}")
    if not _RADIX_PREFIX.fullmatch(radix_prefix):
        raise InputError(f"radix_prefix must be such as 0x, $ or {{lane_bits}}'h, not {radix_prefix!r}")
