"""Readers of every file format: a file's bytes back to codes, strictly, with the line or word of what is wrong."""

from __future__ import annotations

from io import BytesIO

import numpy as np
from jaxtyping import Integer, UInt8

from factory.arithmetic import bits
from factory.memfile.formats import FORMATS, address_digits, digit_count
from factory.memfile.memory import Memory
from factory.spec import InputError

_COMMENTS = (b"#", b"//")


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
    if not data.startswith(prefix):
        raise ValueError(f"the file must begin with {prefix.decode()!r}")
    if not data.endswith(made.suffix):
        raise ValueError(f"the file must end with {made.suffix.decode()!r}")
    body, skipped = data[len(prefix) : len(data) - len(made.suffix)], prefix.count(b"\n")
    while made.header and body.startswith(_COMMENTS):
        body, skipped = body.partition(b"\n")[2], skipped + 1
    lines = _table(body, made.width(memory), skipped)
    _check_count(lines.shape[0], memory)
    start = address_digits(memory) + len(" : ") if format.startswith("mif") else 0
    digits = lines[:, start : start + digit_count(memory, made.radix)]
    codes = memory.unpack(bits.from_digits(digits, made.radix))
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
    dtype, shape = bits.code_dtype(memory.lane_bits, memory.signed), (memory.words, memory.lanes)
    if codes.dtype != dtype or codes.shape != shape:
        raise ValueError(f"the array must be {dtype} {shape}, not {codes.dtype} {codes.shape}")
    return codes


def _read_raw(data: bytes, memory: Memory) -> Integer[np.ndarray, "word lane"]:
    if len(data) % memory.word_bytes:
        raise ValueError(f"the file must hold whole words of {memory.word_bytes} bytes, not {len(data)} bytes")
    words = np.frombuffer(data, np.uint8).reshape(-1, memory.word_bytes)
    _check_count(words.shape[0], memory)
    return memory.unpack(words[:, ::-1])
