"""Readers of memory files that share nothing with their writer: bytes to codes, positions of codes, names of files."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import cache
from io import BytesIO
from typing import Any

import numpy as np
from jaxtyping import Int64, Integer, UInt8

from factory.spec import ComparisonError
from factory.verify.lines import check_line, first_lines, read_numbers
from factory.verify.named import NamedAxes
from factory.verify.rule import RADIX, WordRule

MOST_ALIGNED = 1 << 16
PADDING = -1
"""The position of what holds nothing."""
_SUFFIXES = {"it": "itile", "ot": "otile", "pt": "tile"}

LayoutRecord = Mapping[str, Any]
"""A layout of a manifest."""


def decode(data: bytes, rule: WordRule) -> Integer[np.ndarray, "word lane"]:
    """Return the codes of a whole file, lane 0 first; raise ComparisonError at the first line that breaks a rule."""
    if rule.format == "npy":
        return _read_npy(data, rule)
    if rule.format == "raw":
        return _codes(_words(_read_raw(data, rule), rule), rule)
    if rule.is_plain:
        return _codes(_words(_read_text(data, rule), rule), rule)
    numbers = read_numbers(data, rule)
    if rule.lanes_apart and RADIX[rule.format] == 10:
        return np.array(numbers, np.int64).reshape(rule.words, rule.lanes)
    if rule.lanes_apart:
        lanes = np.array(numbers, ">u4").view(np.uint8).reshape(rule.words, rule.lanes, 4)
        return _values(np.unpackbits(lanes, axis=2)[..., -rule.lane_bits :], rule)
    size = (rule.width + 7) // 8
    words = np.frombuffer(b"".join(word.to_bytes(size, "big") for word in numbers), np.uint8)
    return _codes(_words(np.unpackbits(words.reshape(rule.words, size), axis=1), rule), rule)


def _read_npy(data: bytes, rule: WordRule) -> Integer[np.ndarray, "word lane"]:
    file = BytesIO(data)
    try:
        codes = np.lib.format.read_array(file, allow_pickle=False)
    except ValueError as error:
        raise ComparisonError(f"must be a NumPy file: {error}") from None
    if rest := len(file.read()):
        raise ComparisonError(f"must end with its array, not {rest} bytes after it")
    if codes.dtype.kind not in "iu" or codes.shape != (rule.words, rule.lanes):
        expected = f"integers {(rule.words, rule.lanes)}"
        raise ComparisonError(f"must be a NumPy file of {expected}, not of {codes.dtype} {codes.shape}")
    half = 1 << (rule.lane_bits - 1)
    low, high = (-half, half) if rule.signed else (0, 2 * half)
    if rule.code == "sign_magnitude":
        low = 1 - half
    if ((codes < low) | (codes >= high)).any():
        raise ComparisonError(f"codes must be {low} to {high - 1}, not {codes.min()} to {codes.max()}")
    return codes.astype(np.int64)


def _read_raw(data: bytes, rule: WordRule) -> UInt8[np.ndarray, "word bit"]:
    size = (rule.width + 7) // 8
    length = -(-rule.words * size // rule.align_bytes) * rule.align_bytes
    if len(data) != length:
        aligned = f", aligned to {length}" if rule.align_bytes > 1 else ""
        raise ComparisonError(f"must be {rule.words} words of {size} bytes{aligned}, not {len(data)} bytes")
    if any(data[rule.words * size :]):
        raise ComparisonError(f"must be zero after its {rule.words} words of {size} bytes")
    words = np.frombuffer(data, np.uint8)[: rule.words * size].reshape(rule.words, size)
    return np.unpackbits(words if rule.endian == "big" else words[:, ::-1], axis=1)


def _read_text(data: bytes, rule: WordRule) -> UInt8[np.ndarray, "word bit"]:
    head, body, tail = _sections(data, rule)
    for number, (pattern, line) in enumerate(head, 1):
        check_line(pattern, line.decode("latin-1"), number)
    before, after = _frame(rule, 0)
    start, stop = len(before), len(before) + rule.digits
    text = _grid(body, rule.words, stop + len(after), len(head))
    if tail not in (None, b"END;\n"):
        raise ComparisonError(f"must end in the line END;, not in {_shown(tail)}")
    if before or after:
        _check_frames(text, rule, len(head))
    return _bits(text[:, start:stop], rule, len(head))


def _sections(data: bytes, rule: WordRule) -> tuple[list[tuple[str, bytes]], bytes, bytes | None]:
    """Return the lines that come first, each with what it must be, the lines of words, and what follows them."""
    patterns = first_lines(rule)
    *head, body = data.split(b"\n", len(patterns))
    if len(head) < len(patterns):
        raise ComparisonError(f"must begin with {len(patterns)} lines before its words, not {len(head)}")
    if not rule.format.startswith("mif"):
        return list(zip(patterns, head, strict=True)), body, None
    end = body.rfind(b"\n", 0, len(body) - 1) + 1
    return list(zip(patterns, head, strict=True)), body[:end], body[end:]


def _frame(rule: WordRule, word: int) -> tuple[bytes, bytes]:
    """Return what stands before and after the digits of a word: a coe's comma, a mif's address."""
    last = rule.words - 1
    if rule.format.startswith("coe"):
        return b"", b"," if word < last else b";"
    if rule.format.startswith("mif"):
        return b"%0*x : " % (len(f"{rule.base + last:x}"), rule.base + word), b";"
    return b"", b""


def _check_frames(text: UInt8[np.ndarray, "line column"], rule: WordRule, skipped: int) -> None:
    for word, line in enumerate(map(bytes, text)):
        before, after = _frame(rule, word)
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


def _bits(digits: UInt8[np.ndarray, "word digit"], rule: WordRule, skipped: int) -> UInt8[np.ndarray, "word bit"]:
    radix, values = RADIX[rule.format], np.full(256, 255, np.uint8)
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


def _words(bits: UInt8[np.ndarray, "beat bit"], rule: WordRule) -> UInt8[np.ndarray, "word bits"]:
    """Return the words of a file whose beats are put side by side again."""
    if not rule.bus_bits:
        return bits
    extra = bits.shape[1] - rule.bus_bits  # of a last byte or digit that a beat does not fill
    if bits[:, :extra].any():
        raise ComparisonError(f"word {int(bits[:, :extra].any(axis=1).argmax())}: must be zero left of its beat")
    held, rest = bits[: rule.lines * rule.beats, extra:], bits[rule.lines * rule.beats :]
    if rest.any():
        word = rule.lines * rule.beats + int(rest.any(axis=1).argmax())
        raise ComparisonError(f"word {word}: must be zero, it is beyond the last line")
    places = range(rule.beats) if rule.highest_beat_first else range(rule.beats - 1, -1, -1)
    return np.concatenate([held[place :: rule.beats] for place in places], axis=1)


def _codes(bits: UInt8[np.ndarray, "word bit"], rule: WordRule) -> Integer[np.ndarray, "word lane"]:
    extra = bits.shape[1] - rule.lanes * rule.lane_bits
    if bits[:, :extra].any():
        word = int(bits[:, :extra].any(axis=1).argmax())
        raise ComparisonError(f"word {word}: must be zero left of its lanes")
    fields = bits[:, extra:].reshape(len(bits), rule.lanes, rule.lane_bits)
    return _values(fields if rule.lane0_left else fields[:, ::-1], rule)


def _values(fields: Integer[np.ndarray, "word lane bit"], rule: WordRule) -> Integer[np.ndarray, "word lane"]:
    """Return what the bits of lanes, the most significant first, stand for."""
    codes = np.zeros(fields.shape[:2], np.int64 if rule.lane_bits > 30 else np.int32)
    for place in range(rule.lane_bits):
        codes = codes * 2 + fields[..., place]
    half = 1 << (rule.lane_bits - 1)
    if rule.code == "offset":
        codes -= half
    elif rule.code == "sign_magnitude":
        if (codes == half).any():
            word = int((codes == half).any(axis=1).argmax())
            raise ComparisonError(f"word {word}: zero must have no sign in sign and magnitude")
        codes = np.where(fields[..., 0] == 1, half - codes, codes)
    elif rule.signed:
        codes -= fields[..., 0].astype(codes.dtype) << rule.lane_bits
    return codes


def _shown(line: bytes) -> str:
    return repr(line[:80].decode("latin-1"))


def layout_axes(layout: LayoutRecord) -> tuple[str, ...]:
    """Return the axes that a layout places: those of its files, of its lines, of its lanes."""
    return tuple(axis.removeprefix("-") for part in ("files", "lines", "lanes") for axis in layout[part])


def positions(
    layout: LayoutRecord, axes: Sequence[str], shape: Sequence[int], named: NamedAxes | None = None
) -> tuple[Int64[np.ndarray, "*_"], dict[str, int]]:
    """Return `(position, sizes)`: `position[file axes..., line, lane]` is a flat index in the vector.

    `axes` and `shape` are the vector's, `named` what the layout may take them as. A position is `PADDING` where nothing
    is: after the end of an axis that a split does not divide, and between aligned lines. `sizes` are those of the
    layout's axes, after its splits. The axes of files are in ascending order, whatever their signs. Raise
    ComparisonError where the layout does not place every axis once.
    """
    position, names = np.arange(int(np.prod(shape))).reshape(shape), list(axes)
    if named is not None:
        position, names = named.take(layout, position, names)
    for split in layout["split"]:
        if split["axis"] not in names:
            raise ComparisonError(f"layout {layout['name']} must split an axis of {' '.join(names)}, not {split}")
        at, room = names.index(split["axis"]), [(0, 0)] * position.ndim
        room[at] = (0, -position.shape[at] % split["size"])  # up to the next whole multiple of the size
        position = np.pad(position, room, constant_values=PADDING)
        position = position.reshape(*position.shape[:at], -1, split["size"], *position.shape[at + 1 :])
        names[at : at + 1] = [split["outer"], split["inner"]]
    wanted = layout_axes(layout)
    if sorted(wanted) != sorted(names):
        raise ComparisonError(f"layout {layout['name']} must place the axes {' '.join(names)}, not {' '.join(wanted)}")
    position = position.transpose([names.index(axis) for axis in wanted])
    sizes = dict(zip(wanted, position.shape, strict=True))
    files, lines = len(layout["files"]), len(layout["lines"])
    for at, axis in enumerate((*layout["lines"], *layout["lanes"]), files):
        if axis.startswith("-"):
            position = np.flip(position, at)
    held, shape = position.shape[:files], position.shape[files : files + lines]
    position = position.reshape(*held, int(np.prod(shape)), -1)
    if "align" not in layout:
        return position, sizes
    at, count = _line_numbers(layout, shape)
    placed = np.full((*held, count, position.shape[-1]), PADDING)
    placed[..., at, :] = position
    return placed, sizes


def _line_numbers(layout: LayoutRecord, shape: Sequence[int]) -> tuple[Int64[np.ndarray, " line"], int]:
    """Return the line of each place on the axes of lines, the last axis fastest, and how many lines there are."""
    words = {align["axis"]: align["words"] for align in layout["align"]}
    number, count = np.zeros(1, np.int64), 1
    for axis, size in zip(reversed(layout["lines"]), reversed(shape), strict=True):
        least = words.get(axis.removeprefix("-"), 1)
        if least > MOST_ALIGNED:
            raise ComparisonError(f"layout {layout['name']} must align to {MOST_ALIGNED} words at most, not {least}")
        stride = (count + least - 1) // least * least
        number = (np.arange(size)[:, None] * stride + number).ravel()
        count = stride * size
    return number, count


def check_name(name: str, template: str, format: str, axes: tuple[str, ...], numbers: Mapping[str, int]) -> None:
    """Raise ComparisonError unless `name` is made from `template` and every number in it is that of `numbers`.

    In a template `{it}` stands for a number and `[...]` for a part that may be left out. `axes`, which select the file,
    may each add a suffix such as `_otile2` where the template does not name them.
    """
    try:
        match = re.fullmatch(_pattern(template, format, axes), name)
    except re.error:
        expected = "fields such as {it} and parts in []"
        raise ComparisonError(f"{name}: the template of the name must have {expected}, not {template}") from None
    if match is None:
        raise ComparisonError(f"{name}: the name must be made from {template}")
    for field, number in match.groupdict().items():
        if number is not None and int(number) != numbers[field]:
            raise ComparisonError(f"{name}: the name must have {field} {numbers[field]}, not {number}")


@cache
def _pattern(template: str, format: str, axes: tuple[str, ...]) -> str:
    stem, dot, extension = template.rpartition(".")
    if not dot:
        stem, extension = template, ""
    named = re.findall(r"\{(\w+)\}", template)
    stem += "".join(f"[_{_SUFFIXES.get(axis, axis)}{{{axis}}}]" for axis in axes if axis not in named)
    ending = _extension(format) if dot + extension == ".txt" else dot + extension
    pattern, seen = "", set()
    for part in re.split(r"(\{\w+\}|\[|\])", stem):
        if part == "[":
            pattern += "(?:"
        elif part == "]":
            pattern += ")?"
        elif part.startswith("{"):
            field = part[1:-1]
            pattern += f"(?P={field})" if field in seen else rf"(?P<{field}>0|[1-9][0-9]*)"
            seen.add(field)
        else:
            pattern += re.escape(part)
    return pattern + re.escape(ending)


def _extension(format: str) -> str:
    own = {"bin": ".txt", "dec": ".txt", "c": ".h", "sv": ".svh", "sv-packed": ".svh"}
    return own.get(format, f".{format.partition('-')[0]}")
