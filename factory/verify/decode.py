"""Readers of memory files that share nothing with their writer: bytes to codes, by the formats' rules alone."""

from __future__ import annotations

import re
from dataclasses import dataclass
from io import BytesIO

import numpy as np
from jaxtyping import Integer, UInt8

from factory.spec import ComparisonError

RADIX = {"bin": 2, "hex": 16, "coe": 2, "coe-hex": 16, "mif": 2, "mif-hex": 16, "npy": 0, "raw": 0}
_HEADER_LINES = 3
_SHORT = 29


@dataclass(frozen=True)
class Form:
    """How one file holds its words, as the manifest says; `factory.memfile` describes the fields.

    A word is `lanes` fields of `lane_bits`, zero-extended on the left to `word_bits`; lane 0 is the rightmost field, or
    the leftmost with `lane0_left`. `base` is the address of the first word.
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

    @property
    def digits(self) -> int:
        """Characters of a word in a text format."""
        return self.word_bits if RADIX[self.format] == 2 else (self.word_bits + 3) // 4


def decode(data: bytes, form: Form) -> Integer[np.ndarray, "word lane"]:
    """Return the codes of a whole file, lane 0 first; raise ComparisonError at the first line that breaks a rule."""
    if form.format == "npy":
        return _read_npy(data, form)
    if form.format == "raw":
        return _codes(_read_raw(data, form), form)
    return _codes(_read_text(data, form), form)


def _read_npy(data: bytes, form: Form) -> Integer[np.ndarray, "word lane"]:
    file = BytesIO(data)
    try:
        codes = np.lib.format.read_array(file, allow_pickle=False)
    except ValueError as error:
        raise ComparisonError(f"must be a NumPy file: {error}") from None
    if rest := len(file.read()):
        raise ComparisonError(f"must end with its array, not {rest} bytes after it")
    if codes.dtype.kind not in "iu" or codes.shape != (form.words, form.lanes):
        expected = f"integers {(form.words, form.lanes)}"
        raise ComparisonError(f"must be a NumPy file of {expected}, not of {codes.dtype} {codes.shape}")
    half = 1 << (form.lane_bits - 1)
    low, high = (-half, half) if form.signed else (0, 2 * half)
    if ((codes < low) | (codes >= high)).any():
        raise ComparisonError(f"codes must be {low} to {high - 1}, not {codes.min()} to {codes.max()}")
    return codes.astype(np.int64)


def _read_raw(data: bytes, form: Form) -> UInt8[np.ndarray, "word bit"]:
    size = (form.word_bits + 7) // 8
    if len(data) != form.words * size:
        raise ComparisonError(f"must be {form.words} words of {size} bytes, not {len(data)} bytes")
    words = np.frombuffer(data, np.uint8).reshape(form.words, size)
    return np.unpackbits(words[:, ::-1], axis=1)


def _read_text(data: bytes, form: Form) -> UInt8[np.ndarray, "word bit"]:
    head, body, tail = _sections(data, form)
    for number, (pattern, line) in enumerate(head, 1):
        if not re.fullmatch(pattern, line):
            raise ComparisonError(f"line {number}: must match {pattern.decode()}, not be {_shown(line)}")
    before, after = _frame(form, 0)
    start, stop = len(before), len(before) + form.digits
    text = _grid(body, form.words, stop + len(after), len(head))
    if tail not in (None, b"END;\n"):
        raise ComparisonError(f"must end in the line END;, not in {_shown(tail)}")
    if before or after:
        _check_frames(text, form, len(head))
    return _bits(text[:, start:stop], form, len(head))


def _sections(data: bytes, form: Form) -> tuple[list[tuple[bytes, bytes]], bytes, bytes | None]:
    """Return the lines that come first, each with what it must be, the lines of words, and what follows them."""
    patterns = _head_patterns(form)
    *head, body = data.split(b"\n", len(patterns))
    if len(head) < len(patterns):
        raise ComparisonError(f"must begin with {len(patterns)} lines before its words, not {len(head)}")
    if not form.format.startswith("mif"):
        return list(zip(patterns, head, strict=True)), body, None
    end = body.rfind(b"\n", 0, len(body) - 1) + 1
    return list(zip(patterns, head, strict=True)), body[:end], body[end:]


def _head_patterns(form: Form) -> list[bytes]:
    name = {2: b"BIN", 16: b"HEX"}.get(RADIX[form.format], b"")
    if form.format.startswith("coe"):
        return [b"memory_initialization_radix = %d;" % RADIX[form.format], b"memory_initialization_vector ="]
    if form.format.startswith("mif"):
        depth = b"DEPTH = %d;" % (form.base + form.words)
        radixes = [b"ADDRESS_RADIX = HEX;", b"DATA_RADIX = %s;" % name]
        return [depth, b"WIDTH = %d;" % form.word_bits, *radixes, b"CONTENT BEGIN"]
    header = {
        "none": [],
        "tokens": [rb"#[!-~]+#"] * _HEADER_LINES,
        "verilog": [rb"//[ -~]+"] * _HEADER_LINES,
        "short": [rb"#[!-~]{1,%d}" % (_SHORT - 1)] * _HEADER_LINES,
    }
    return header[form.header]


def _frame(form: Form, word: int) -> tuple[bytes, bytes]:
    """Return what stands before and after the digits of a word: a coe's comma, a mif's address."""
    last = form.words - 1
    if form.format.startswith("coe"):
        return b"", b"," if word < last else b";"
    if form.format.startswith("mif"):
        return b"%0*x : " % (len(f"{form.base + last:x}"), form.base + word), b";"
    return b"", b""


def _check_frames(text: UInt8[np.ndarray, "line column"], form: Form, skipped: int) -> None:
    for word, line in enumerate(map(bytes, text)):
        before, after = _frame(form, word)
        if not (line.startswith(before) and line.endswith(after)):
            expected = f"{before.decode()}WORD{after.decode()}"
            raise ComparisonError(f"line {skipped + word + 1}: must be {expected}, not {_shown(line)}")


def _grid(body: bytes, words: int, width: int, skipped: int) -> UInt8[np.ndarray, "line column"]:
    """Return the characters of `words` lines of one width, each ended by a newline, after `skipped` lines."""
    text = np.frombuffer(body, np.uint8)
    if text.size == words * (width + 1):
        lines = text.reshape(words, width + 1)
        if (lines[:, -1] == ord("\n")).all() and not (lines[:, :-1] == ord("\n")).any():
            return lines[:, :-1]
    lines = body.split(b"\n")
    for number, line in enumerate(lines[:-1], skipped + 1):
        if len(line) != width:
            raise ComparisonError(f"line {number}: must be {width} characters, not {len(line)}")
    if lines[-1]:
        raise ComparisonError("must end in a newline")
    raise ComparisonError(f"must hold {words} words, not {len(lines) - 1}")


def _bits(digits: UInt8[np.ndarray, "word digit"], form: Form, skipped: int) -> UInt8[np.ndarray, "word bit"]:
    radix, values = RADIX[form.format], np.full(256, 255, np.uint8)
    for value in range(radix):
        values[[ord(f"{value:x}"), ord(f"{value:X}")]] = value
    found = values[digits]
    wrong = (found == 255).any(axis=1)
    if wrong.any():
        line = int(wrong.argmax())
        raise ComparisonError(
            f"line {skipped + line + 1}: must hold digits of radix {radix} only, not {_shown(digits[line].tobytes())}"
        )
    if radix == 2:
        return found
    bits = np.stack([found >> place & 1 for place in (3, 2, 1, 0)], axis=-1)
    return bits.reshape(len(found), -1)


def _codes(bits: UInt8[np.ndarray, "word bit"], form: Form) -> Integer[np.ndarray, "word lane"]:
    extra = bits.shape[1] - form.lanes * form.lane_bits
    if bits[:, :extra].any():
        word = int(bits[:, :extra].any(axis=1).argmax())
        raise ComparisonError(f"word {word}: must be zero left of its lanes")
    fields = bits[:, extra:].reshape(len(bits), form.lanes, form.lane_bits)
    if not form.lane0_left:
        fields = fields[:, ::-1]
    codes = np.zeros(fields.shape[:2], np.int64 if form.lane_bits > 30 else np.int32)
    for place in range(form.lane_bits):
        codes = codes * 2 + fields[..., place]
    if form.signed:
        codes -= fields[..., 0].astype(codes.dtype) << form.lane_bits
    return codes


def _shown(line: bytes) -> str:
    return repr(line[:80].decode("latin-1"))
