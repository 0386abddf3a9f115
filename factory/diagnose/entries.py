"""Memory initialisation files: the whole words of Xilinx UG896 (coe) and of Intel Quartus (mif), by address."""

from __future__ import annotations

import re

from factory.spec import InputError

_COE = re.compile(rb"memory_initialization_radix\s*=\s*(\d+)\s*;\s*memory_initialization_vector\s*=", re.IGNORECASE)
_COMMENTS = re.compile(rb"--[^\n]*|%[^%]*%")
_MIF = re.compile(rb"CONTENT\s*BEGIN\b(.*)\bEND\s*;", re.DOTALL | re.IGNORECASE)
_RADIX = rb"\b%s_RADIX\s*=\s*(\w+)\s*;"
_RADICES = {"BIN": 2, "OCT": 8, "DEC": 10, "UNS": 10, "HEX": 16}
_MOST = 1 << 22
"""Words that ranges of addresses may stand for."""
_DIGITS = {2: 1, 8: 3, 16: 4}

Word = tuple[bytes, int]
"""Digits and their radix."""


def entries_of(text: bytes) -> tuple[list[int], list[Word]] | None:
    """Return the addresses (none: words are one after the other) and words of a coe or mif; None of other text."""
    if head := _COE.search(text):
        radix = int(head[1])
        if radix not in (2, 10, 16):
            raise InputError(f"memory_initialization_radix must be 2, 10 or 16, not {radix}")
        lines = (line.partition(b";")[0] for line in text[head.end() :].splitlines())
        return [], [(token, radix) for token in b" ".join(lines).replace(b",", b" ").split()]
    plain = _COMMENTS.sub(b" ", text)
    content = _MIF.search(plain)
    if content is None:
        return None
    head = plain[: content.start()]
    return _mif(content[1], _radix(head, b"ADDRESS"), _radix(head, b"DATA"))


def _radix(head: bytes, of: bytes) -> int:
    found = re.search(_RADIX % of, head, re.IGNORECASE)
    name = found[1].decode("latin-1").upper() if found else "HEX"
    if name not in _RADICES:
        raise InputError(f"{of.decode()}_RADIX must be one of {' '.join(_RADICES)}, not {name}")
    return _RADICES[name]


def _mif(content: bytes, address_radix: int, radix: int) -> tuple[list[int], list[Word]]:
    addresses: list[int] = []
    words: list[Word] = []
    for entry in filter(None, map(bytes.strip, content.split(b";"))):
        where, colon, held = entry.partition(b":")
        given = [(token, radix) for token in held.split()]
        bounds = re.fullmatch(rb"\[\s*(\w+)\s*\.\.\s*(\w+)\s*\]|(\w+)", where.strip())
        try:
            first, last = [int(bound, address_radix) for bound in (bounds[1] or bounds[3], bounds[2] or bounds[3])]
        except (TypeError, ValueError):
            bounds = None
        if bounds is None or not given or last < first:
            raise InputError(f"must be an address, a colon and words, not {entry[:40].decode('latin-1')!r}")
        count = last - first + 1 if bounds[1] else len(given)
        if len(words) + count > _MOST:
            raise InputError(f"must be at most {_MOST} words, not {len(words) + count}")
        addresses += range(first, first + count)
        words += [given[place % len(given)] for place in range(count)]
    return addresses, words


def bits_of(word: Word, width: int) -> bytes:
    """Return a word as so many digits of radix 2, x and z among them."""
    token, radix = word
    text = token.replace(b"_", b"").lower().decode("latin-1")
    if radix in _DIGITS and re.fullmatch("[0-9a-fxz]*[xz][0-9a-fxz]*", text):
        size = _DIGITS[radix]
        try:
            digits = "".join("x" * size if digit in "xz" else format(int(digit, radix), f"0{size}b") for digit in text)
        except ValueError:
            digits = ""
        kept = digits[-width:]
        if digits and (set(digits[:-width]) <= set("0x")):
            return kept.rjust(width, "0").encode()
    elif re.fullmatch("[0-9a-f]+" if radix != 10 else "[+-]?[0-9]+", text) and len(text) <= 4 * width + 64:
        try:
            value = int(text, radix)
        except ValueError:
            value = None
        if value is not None and -(1 << width - 1) <= value < 1 << width:
            return format(value % (1 << width), f"0{width}b").encode()
    raise InputError(f"must be words of {width} bits in radix {radix}, not {text[:40]!r}")
