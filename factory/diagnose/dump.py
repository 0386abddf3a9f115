"""Dumps: what a simulator or a board gave, as integers and what of them was not given.

Sources: IEEE 1364 `$writememb`/`$writememh` (comments, `@address` in hex, digits x and z), Xilinx UG896 (coe), Intel's
memory initialisation files (mif), NumPy's npy, CSV with a word a row, and one value a line in decimal or hex.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from tokenize import TokenError

import numpy as np
from jaxtyping import Bool, Int64, UInt8

from factory.arithmetic import bits
from factory.diagnose.entries import Word, bits_of, entries_of
from factory.memfile import Memory, WordFormat
from factory.spec import InputError

GIVEN, UNDEFINED, MISSING, ASIDE = 0, 1, 2, 3
"""The state of a value: it was given; some bits of it are x or z; the dump does not have it; it need not have it."""
_COMMENTS = re.compile(rb"//[^\n]*|/\*.*?\*/|^\s*#[^\n]*|^\s*--[^\n]*", re.DOTALL | re.MULTILINE)
_DECIMAL = re.compile(rb"[+-]?\d+")
_UNKNOWN = b"xXzZ?"
_DAMAGED = (OSError, ValueError, EOFError, TypeError, SyntaxError, KeyError, MemoryError, OverflowError, TokenError)
"""What NumPy raises for a file that is no array, or is cut."""
_EITHER = "values could be decimal or hex: hex must begin with 0x, or decimal with a sign such as +12"
_MOST_ADDRESS = 1 << 48
_ROOM = 64
"""A dump may be this many bytes for each value that is wanted: far more than any text of one."""


@dataclass(frozen=True)
class GivenWords:
    """The words of a dump, lane 0 first; `extra` words came after the last that is wanted.

    A value is 0 where its `state` is not GIVEN.
    """

    values: Int64[np.ndarray, "word lane"]
    state: UInt8[np.ndarray, "word lane"]
    extra: int = 0


def nothing_given(memory: Memory) -> GivenWords:
    """Return the words of a dump that is empty."""
    shape = (memory.words, memory.word.lanes)
    return GivenWords(np.zeros(shape, np.int64), np.full(shape, MISSING, np.uint8))


def read_dump(path: Path, memory: Memory, radix: int = 0) -> GivenWords:
    """Read a dump of `memory.words` words; raise InputError, with the line, where it is none.

    `radix` is that of the export's own files (0: not known), for text that could be of several.
    """
    try:
        return _parsed(dump_bytes(path, memory), path.suffix.lower(), memory, radix)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: must be a dump: {error}") from None


def dump_bytes(path: Path, memory: Memory) -> bytes:
    """Return what a file holds; raise InputError for one that is far larger than any dump of the memory."""
    size, wanted = path.stat().st_size, memory.words * memory.word.lanes
    if size > (1 << 20) + wanted * max(_ROOM, 4 * memory.word.width):
        raise InputError(f"must be a dump of {memory.words} words, not {size} bytes")
    return path.read_bytes()


def _parsed(data: bytes, suffix: str, memory: Memory, radix: int) -> GivenWords:
    if not data:
        return nothing_given(memory)
    if suffix == ".npy":
        return _npy(data, memory)
    if suffix == ".raw":
        return _raw(data, memory)
    text = data.removeprefix(b"\xef\xbb\xbf")
    if suffix == ".csv":
        return _csv(text, memory)
    if (entries := entries_of(text)) is not None:
        return _fill_entries(memory, entries)
    if (grid := _grid(text)) is not None and (kind := _kind(grid, memory)) is not None:
        if not _is_decimal(grid, kind, memory, radix):
            return _fill(memory, _words(grid, kind, memory))
    return _tokens(text, memory, radix)


# ---- containers of integers -----------------------------------------------------------------------------------------


def _npy(data: bytes, memory: Memory) -> GivenWords:
    try:
        codes = np.lib.format.read_array(BytesIO(data), allow_pickle=False)
    except _DAMAGED as error:
        raise InputError(f"must be a NumPy array: {' '.join(str(error).split())}") from None
    lanes = memory.word.lanes
    if codes.dtype.kind not in "iu" or codes.ndim not in (1, 2) or codes.size % lanes or codes.shape[-1] not in (
        lanes, codes.size,
    ):  # fmt: skip
        raise InputError(f"must be integers (word, {lanes}), not {codes.dtype} {codes.shape}")
    return _integers(codes.reshape(-1, lanes), np.zeros((codes.size // lanes, lanes), bool), memory)


def _raw(data: bytes, memory: Memory) -> GivenWords:
    size = memory.word.bytes
    whole = np.frombuffer(data, np.uint8)[: len(data) // size * size].reshape(-1, size)
    return _fill(memory, (memory.word.unpack(whole[:, ::-1]), np.zeros((len(whole), memory.word.lanes), bool)))


def _csv(text: bytes, memory: Memory) -> GivenWords:
    lanes, rows = memory.word.lanes, [line.split(b",") for line in text.splitlines() if line.strip()]
    skipped = int(bool(rows) and not any(_is_number(cell) for cell in rows[0]))
    for number, row in enumerate(rows[skipped:], skipped + 1):
        if len(row) != lanes:
            raise InputError(f"line {number}: must have {lanes} columns, lane 0 first, not {len(row)}")
    cells = np.array([cell.strip() for row in rows[skipped:] for cell in row], dtype="S")
    values, unknown = _decimals(cells, text)
    return _integers(values.reshape(-1, lanes), unknown.reshape(-1, lanes), memory)


def _is_number(cell: bytes) -> bool:
    return bool(_DECIMAL.fullmatch(cell.strip())) or cell.strip().lower() in (b"x", b"z")


def _integers(values: np.ndarray, unknown: Bool[np.ndarray, "word lane"], memory: Memory) -> GivenWords:
    """Return integers as lanes hold them; raise InputError where one fits a lane neither signed nor unsigned."""
    field = memory.word.field
    least, most = -(1 << field.bits - 1), (1 << field.bits) - 1
    outside = (values < least) | (values > most)
    if outside.any():
        word, lane = map(int, np.argwhere(outside)[0])
        raise InputError(f"word {word}, lane {lane}: must be {least} to {most}, not {values[word, lane]}")
    return _fill(memory, (field.wrap(values.astype(np.int64))[0], unknown))


# ---- text -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Kind:
    """What a token is: the digits, of some radix, of a whole word or of one lane."""

    radix: int
    whole: bool


def _grid(text: bytes) -> UInt8[np.ndarray, "word digit"] | None:
    """Return the digits of lines of one width, after comment lines; None where the text is not that plain."""
    while text.startswith((b"//", b"#")):
        text = text.partition(b"\n")[2]
    width = text.find(b"\n") + 1
    if width < 2 or len(text) % width:
        return None
    lines = np.frombuffer(text, np.uint8).reshape(-1, width)
    plain = (lines[:, -1] == ord("\n")).all() and np.isin(
        lines[:, :-1], np.frombuffer(b"0123456789abcdefABCDEF" + _UNKNOWN, np.uint8)
    ).all()
    return lines[:, :-1] if plain else None


def _kind(grid: UInt8[np.ndarray, "token digit"], memory: Memory) -> _Kind | None:
    """Return what tokens of one length are; of several, what gives as many words as are wanted."""
    word, found = memory.word, []
    for width, whole in ((word.width, True), (word.field.bits, False)):
        for radix, count in ((2, width), (16, -(-width // 4))):
            allowed = b"01" if radix == 2 else b"0123456789abcdefABCDEF"
            if count == grid.shape[1] and np.isin(grid, np.frombuffer(allowed + _UNKNOWN, np.uint8)).all():
                found.append(_Kind(radix, whole))
    exact = [kind for kind in found if len(grid) == memory.words * (1 if kind.whole else word.lanes)]
    return next(iter(exact or found), None)


def _words(grid: UInt8[np.ndarray, "token digit"], kind: _Kind, memory: Memory):
    """Return the values of tokens, `(word, lane)` or `(token, 1)`, and where some bit is unknown."""
    word = memory.word if kind.whole else WordFormat(1, memory.word.field)
    unknown = np.isin(grid, np.frombuffer(_UNKNOWN, np.uint8))
    known = np.where(unknown, ord("0"), grid).astype(np.uint8) if unknown.any() else grid
    try:
        values = word.unpack(bits.from_digits(known, kind.radix))
    except ValueError as error:
        raise InputError(str(error)) from None
    mask = np.zeros(values.shape, bool)
    rows = np.flatnonzero(unknown.any(axis=1))
    if rows.size:
        each = unknown[rows] if kind.radix == 2 else np.repeat(unknown[rows], 4, axis=1)
        for lane in range(word.lanes):
            high = each.shape[1] - word.low_bit(lane)
            mask[rows, lane] = each[:, high - word.field.bits : high].any(axis=1)
    return values, mask


def _is_decimal(grid: UInt8[np.ndarray, "token digit"], kind: _Kind, memory: Memory, radix: int) -> bool:
    """Return whether digits that hex numbers could have are decimal; raise InputError where either may be meant."""
    lanes, zero, nine = memory.word.lanes, ord("0"), ord("9")
    if kind.radix != 16 or (kind.whole and radix == 16) or not ((grid >= zero) & (grid <= nine)).all():
        return False
    if kind.whole and lanes > 1:
        if (
            len(grid) == memory.words
            or int(max(map(bytes, grid)).lstrip(b"0")[:99] or b"0") >= 1 << memory.word.field.bits
        ):
            return False
        if len(grid) != memory.words * lanes:
            raise InputError(_EITHER)
    if radix == 10:
        return True
    if (grid[:, :-1] == zero).all() and not (kind.whole and lanes > 1):  # the same in either
        return False
    padded = bool((grid[:, 0] == zero).any())
    if lanes == 1 and padded:  # a word as $writememh writes it
        return False
    if lanes == 1 or padded:
        raise InputError(_EITHER)
    return True


def _tokens(text: bytes, memory: Memory, radix: int) -> GivenWords:
    body = _COMMENTS.sub(b" ", text).replace(b"_", b"")
    tokens = body.split()
    digits = np.array([token for token in tokens if not token.startswith(b"@")], dtype="S")
    if not digits.size:
        return nothing_given(memory)
    positions = _positions(tokens, text, memory)
    if not body[-1:].isspace() and _is_cut(digits, memory):
        digits, positions = digits[:-1], positions[:-1]
    prefixed = bool(np.char.startswith(np.char.lower(digits), b"0x").all())
    if prefixed:
        digits = np.char.replace(np.char.lower(digits), b"0x", b"")
    bitwise = _bitwise(digits, prefixed, memory, radix)
    if bitwise is None:
        values = _decimals(digits, text)
        if radix != 10 and any(re.match(rb"[+-]?0\d", token) for token in digits.tolist()):
            raise InputError(_EITHER)
    if memory.word.lanes > 1 and (bitwise is None or not bitwise[1].whole):
        several = next((line for line in body.splitlines() if len(line.split()) > 1 and b"@" not in line), None)
        if several is not None:
            place = _place(text, several.split()[0])
            raise InputError(f"{place}: must be one value of a lane a line, not {_shown(several.strip())}")
    if bitwise is None:
        return _fill_lanes(memory, *values, positions)
    return _fill(memory, _words(*bitwise, memory), positions)


def _positions(tokens: list[bytes], text: bytes, memory: Memory) -> Int64[np.ndarray, " word"]:
    """Return where each word lies: one after the other, from each address among them on."""
    ats = [at for at, token in enumerate(tokens) if token.startswith(b"@")]
    positions = np.arange(len(tokens) - len(ats))
    for count, at in enumerate(ats):
        if not re.fullmatch(rb"@[0-9a-fA-F]+", tokens[at]):
            raise InputError(f"{_place(text, tokens[at])}: must be an address such as @1f, not {_shown(tokens[at])}")
        address, first = int(tokens[at][1:], 16) - memory.base, at - count
        if not 0 <= address < _MOST_ADDRESS:
            wrong = f"not {_shown(tokens[at])}"
            raise InputError(f"{_place(text, tokens[at])}: addresses must begin with {memory.base:x}, {wrong}")
        positions[first:] += address - positions[first] if first < len(positions) else 0
    return positions


def _bitwise(
    digits: np.ndarray, prefixed: bool, memory: Memory, radix: int
) -> tuple[UInt8[np.ndarray, "token digit"], _Kind] | None:
    """Return tokens of digits that are bits, padded to one width, and what they are; None of decimal numbers."""
    lengths = np.char.str_len(digits)
    longest, even = int(lengths.max()), lengths.min() == lengths.max()
    if not (prefixed or even) and _all_decimal(digits):
        return None
    widths = (-(-memory.word.field.bits // 4), -(-memory.word.width // 4))
    width = longest if even and not prefixed else next((n for n in widths if n >= longest), longest)
    padded = np.char.rjust(digits, width, b"0")
    grid = np.frombuffer(padded.tobytes(), np.uint8).reshape(len(padded), padded.dtype.itemsize)
    kind = _kind(grid, memory)
    if kind is None and prefixed:
        raise InputError(f"hex numbers must be at most {widths[1]} digits, not {longest}")
    if kind is None or not prefixed and _is_decimal(grid, kind, memory, radix):
        return None
    return grid, kind


def _is_cut(tokens: np.ndarray, memory: Memory) -> bool:
    """Return whether the last token, which no newline ends, is the beginning of one like those before it."""
    lengths = np.char.str_len(tokens)
    if len(tokens) < 2 or lengths[:-1].min() < lengths[:-1].max() or lengths[-1] >= lengths[0]:
        return False
    grid = np.frombuffer(tokens[:-1].astype(f"S{lengths[0]}").tobytes(), np.uint8).reshape(len(tokens) - 1, -1)
    kind = _kind(grid, memory)
    return kind is not None and (kind.radix == 2 or kind.whole or not _all_decimal(tokens))


def _all_decimal(tokens: np.ndarray) -> bool:
    return all(_is_number(token) for token in tokens[:4096].tolist())


def _decimals(tokens: np.ndarray, text: bytes) -> tuple[Int64[np.ndarray, " token"], Bool[np.ndarray, " token"]]:
    unknown = np.isin(np.char.lower(tokens), [b"x", b"z"])
    most = 18  # digits that an int64 always holds
    each = tokens.tolist()
    wrong = next((token for token in each if not _is_number(token) or len(token.lstrip(b"+-0")) > most), None)
    if wrong is not None:
        raise InputError(f"{_place(text, wrong)}: must be a word of the memory or an integer, not {_shown(wrong)}")
    return np.where(unknown, b"0", tokens).astype(np.int64), unknown


def _place(text: bytes, token: bytes) -> str:
    """Return the line of a token."""
    return f"line {text.count(bytes([10]), 0, max(text.find(token), 0)) + 1}"


def _shown(token: bytes) -> str:
    return repr(token[:40].decode("latin-1"))


# ---- into the memory ------------------------------------------------------------------------------------------------


def _fill_lanes(memory: Memory, values: np.ndarray, unknown: np.ndarray, positions: np.ndarray) -> GivenWords:
    field = memory.word.field
    least, most = -(1 << field.bits - 1), (1 << field.bits) - 1
    outside = np.flatnonzero((values < least) | (values > most))
    if outside.size:
        raise InputError(f"value {outside[0]} must be {least} to {most}, not {values[outside[0]]}")
    return _fill(memory, (field.wrap(values)[0][:, None], unknown[:, None]), positions)


def _fill_entries(memory: Memory, entries: tuple[list[int], list[Word]]) -> GivenWords:
    """Return the memory with whole words, given by their addresses (none: one after the other) and their bits."""
    width = memory.word.width
    addresses, words = entries
    addresses = addresses or range(memory.base, memory.base + len(words))
    if not words:
        return nothing_given(memory)
    for address in addresses:
        if not 0 <= address - memory.base < _MOST_ADDRESS:
            raise InputError(f"addresses must begin with {memory.base:x}, not {address:x}")
    texts = {word: bits_of(word, width) for word in dict.fromkeys(words)}
    grid = np.frombuffer(b"".join(texts[word] for word in words), np.uint8).reshape(-1, width)
    return _fill(memory, _words(grid, _Kind(2, True), memory), np.array(addresses) - memory.base)


def _fill(memory: Memory, found: tuple[np.ndarray, np.ndarray], positions: np.ndarray | None = None) -> GivenWords:
    """Return the memory with words, or lanes one by one, at their positions; the later one counts."""
    values, unknown = found
    if positions is None:
        positions = np.arange(len(values))
    lanes = memory.word.lanes // values.shape[1]  # tokens of a word
    fits = positions < memory.words * lanes
    held = nothing_given(memory)
    flat = (memory.words * lanes, values.shape[1])
    held.values.reshape(flat)[positions[fits]] = np.where(unknown, 0, values)[fits]
    held.state.reshape(flat)[positions[fits]] = np.where(unknown, UNDEFINED, GIVEN)[fits]
    return GivenWords(held.values, held.state, -(-int(np.count_nonzero(~fits)) // lanes))
