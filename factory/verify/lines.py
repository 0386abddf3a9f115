"""The reader of lines of numbers: decimals, lanes apart, address lines, arrays of C and SystemVerilog, own lines.

It goes through a file line by line, and shares nothing with the package's writer.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from factory.spec import ComparisonError
from factory.verify.rule import RADIX, WordRule

_HEADER_LINES = 3
_SHORT = 29
_SEPARATORS = {"dec": " ", "csv": ","}
_BRACKETS = {"c": ("{", "}"), "sv": ("'{", "}"), "sv-packed": ("{", "}")}
_DECIMAL = r"0|-?[1-9][0-9]*"


def read_numbers(data: bytes, rule: WordRule) -> list[int]:
    """Return the numbers of a file's words: its lanes, lane 0 first, or each whole word as one, from 0 upwards.

    Lanes are values in decimal, and their bits, from 0 upwards, in other radixes.
    Raise ComparisonError at the first line that breaks a rule.
    """
    try:
        text = data.decode("ascii")
    except UnicodeDecodeError as error:
        raise ComparisonError(f"must be ASCII, not {data[error.start : error.start + 1]!r}") from None
    *lines, rest = text.split("\n")
    if rest:
        raise ComparisonError("must end in a newline")
    first, last = first_lines(rule), _last_lines(rule)
    if len(lines) < len(first) + len(last):
        raise ComparisonError(f"must have {len(first) + len(last)} lines beside its words, not {len(lines)}")
    stop = len(lines) - len(last)
    for number, (pattern, line) in enumerate(zip(first + last, lines[: len(first)] + lines[stop:], strict=True)):
        check_line(pattern, line, 1 + (number if number < len(first) else number - len(first) + stop))
    body = _without_addresses(lines[len(first) : stop], rule, len(first))
    numbers, values, word = _Numbers(rule), [], 0  # one list of integers, which the garbage collector passes over
    for word, (number, line) in enumerate(body, 1):
        values += numbers.row(line, word - 1, number)
    if word != rule.words:
        raise ComparisonError(f"must hold {rule.words} words, not {word}")
    if rule.format in _BRACKETS:
        _check_brackets("".join(lines[len(first) : stop]), rule)
    return values


def check_line(pattern: str, line: str, number: int) -> None:
    """Raise ComparisonError unless a line is what it must be."""
    if not re.fullmatch(pattern, line):
        expected = pattern.replace("\\", "")
        raise ComparisonError(f"line {number}: must match {expected}, not be {line[:80]!r}")


def first_lines(rule: WordRule) -> list[str]:
    """Return what each line before the words must match."""
    header = {
        "none": [],
        "tokens": [r"#[!-~]+#"] * _HEADER_LINES,
        "verilog": [r"//[ -~]+"] * _HEADER_LINES,
        "short": [rf"#[!-~]{{1,{_SHORT - 1}}}"] * _HEADER_LINES,
    }[rule.header]
    kind, radix = rule.format.partition("-")[0], RADIX[rule.format]
    own: list[str] = []
    if kind == "coe":
        own = [f"memory_initialization_radix = {radix};", "memory_initialization_vector ="]
    elif kind == "mif":
        name = "UNS" if rule.format == "mif-uns" else {2: "BIN", 10: "DEC", 16: "HEX"}[radix]
        own = [f"DEPTH = {rule.end};", f"WIDTH = {rule.width};"]
        own += ["ADDRESS_RADIX = HEX;", f"DATA_RADIX = {name};", "CONTENT BEGIN"]
    elif kind in ("c", "sv"):
        own = _declaration(rule)
    elif rule.base and not rule.block_words and rule.format in ("bin", "hex"):
        own = [f"@{rule.base:x}"]
    return header + [re.escape(line) for line in (*_filled(rule.head, rule), *own)]


def _last_lines(rule: WordRule) -> list[str]:
    own = {"mif": ["END;"], "c": ["", "#endif"], "sv": ["", "`endif"]}.get(rule.format.partition("-")[0], [])
    return [re.escape(line) for line in (*own, *_filled(rule.foot, rule))]


def _name(rule: WordRule) -> str:
    name = "".join(x if x.isalnum() or x == "_" else "_" for x in rule.file.split(".")[0])
    return f"_{name}" if name[:1].isdigit() else name


def _declaration(rule: WordRule) -> list[str]:
    """Return the lines before an array of C or SystemVerilog."""
    name, sizes = _name(rule), (rule.words, rule.lanes) if rule.dimensions is None else rule.dimensions
    each = "".join(f"[{size}]" for size in sizes)
    if rule.format == "c":
        width = min(width for width in (8, 16, 32) if width >= rule.lane_bits)
        kind = f"{'int' if rule.signed else 'uint'}{width}_t"
        guard = [f"#ifndef {name.upper()}_H", f"#define {name.upper()}_H", "", "#include <stdint.h>", ""]
        return [*guard, f"static const {kind} {name}{each} ="]
    guard = [f"`ifndef {name.upper()}_SVH", f"`define {name.upper()}_SVH", ""]
    if rule.format == "sv":
        sign = "signed " if rule.signed else ""
        return [*guard, f"localparam logic {sign}[{rule.lane_bits - 1}:0] {name.upper()} {each} ="]
    each = "".join(f"[0:{size - 1}]" for size in sizes)
    return [*guard, f"localparam logic {each}[{rule.lane_bits - 1}:0] {name.upper()} ="]


def _filled(lines: Sequence[str], rule: WordRule) -> list[str]:
    """Return lines with what their fields in braces stand for."""
    values = {
        "depth": rule.depth or rule.end, "words": rule.words, "width": rule.width, "lanes": rule.lanes,
        "lane_bits": rule.lane_bits, "radix": RADIX[rule.format], "base": rule.base, "file": rule.file,
        "name": _name(rule), "NAME": _name(rule).upper(), "end": rule.end,
    }  # fmt: skip
    filled = []
    for line in lines:
        for name, value in values.items():
            line = line.replace(f"{{{name}}}", str(value))
        filled.append(line)
    return filled


def _without_addresses(lines: Sequence[str], rule: WordRule, skipped: int) -> Iterator[tuple[int, str]]:
    """Yield the number and the text of each line of a word, where the addresses before it are its own."""
    word, stated = 0, False
    apart = rule.block_words and not rule.format.startswith("mif")
    for number, line in enumerate(lines, skipped + 1):
        if apart and not stated and word % rule.block_words == 0:
            expected = f"@{rule.address(word):x}"
            if line != expected:
                raise ComparisonError(f"line {number}: must be {expected}, not {line[:80]!r}")
            stated = True
            continue
        yield number, line
        word, stated = word + 1, False


class _Numbers:
    """The numbers of lines: each is `pattern`, `separator` between them, from `low` to `high`."""

    def __init__(self, rule: WordRule):
        radix, bits = RADIX[rule.format], rule.lane_bits if rule.lanes_apart else rule.width
        count = bits if radix == 2 else -(-bits // 4)
        digits = {2: f"[01]{{{count}}}", 10: _DECIMAL, 16: f"[0-9a-f]{{{count}}}"}[radix]
        self._rule, self._radix, self._bits, self._count = rule, radix, bits, rule.lanes if rule.lanes_apart else 1
        signed = radix == 10 and (rule.signed if rule.lanes_apart else rule.format == "mif-dec")
        self._high = (1 << bits - signed) - 1
        self._low = -self._high - 1 if signed else 0
        self._separator = rule.separator or _SEPARATORS.get(rule.format, "")
        self._prefix, self._digits = _prefix(rule), digits
        number = f"{re.escape(self._prefix)}(?:{digits})"
        others = f"(?:{re.escape(self._separator)}{number}){{{self._count - 1}}}"
        self._pattern, self._line, self._any = map(re.compile, (number, number + others, _number(rule)))

    def row(self, line: str, word: int, number: int) -> list[int]:
        """Return the numbers of one word's line: lanes, lane 0 first, or the word from 0 upwards."""
        rule = self._rule
        before, after = self._frame(word)
        if not (line.startswith(before) and line.endswith(after)):
            raise ComparisonError(f"line {number}: must be {before}WORD{after}, not {line[:80]!r}")
        text = line[len(before) : len(line) - len(after)]
        if rule.format in _BRACKETS:
            tokens = self._any.findall(text)
        else:
            tokens = text.split(self._separator) if self._separator else [text]
        if len(tokens) != self._count:
            raise ComparisonError(f"line {number}: must hold {rule.lanes} lanes, not {len(tokens)}: {line[:80]!r}")
        if not self._line.fullmatch(text):
            for token in tokens:
                if not self._pattern.fullmatch(token):
                    expected = f"{self._prefix}{self._digits}"
                    raise ComparisonError(f"line {number}: must hold numbers such as {expected}, not {token[:80]!r}")
        skipped = len(self._prefix)
        values = [int(token[skipped:], self._radix) for token in tokens]
        if min(values) < self._low or max(values) > self._high:
            wrong = next(value for value in values if not self._low <= value <= self._high)
            raise ComparisonError(f"line {number}: must hold numbers of {self._low} to {self._high}, not {wrong}")
        if not rule.lanes_apart:
            return [values[0] % (1 << self._bits)]
        return values if rule.lane0_left or rule.format in ("csv", *_BRACKETS) else values[::-1]

    def _frame(self, word: int) -> tuple[str, str]:
        """Return what stands before and after the numbers of a word."""
        rule = self._rule
        if rule.format.startswith("mif"):
            return f"{rule.address(word):0{len(f'{rule.end - 1:x}')}x} : ", ";"
        if rule.format == "csv":
            return f"{rule.base + word},", ""
        if rule.format.startswith("coe") or rule.format in _BRACKETS:
            return "", ";" if word == rule.words - 1 else ","
        return "", ""


def _number(rule: WordRule) -> str:
    return rf"{re.escape(_prefix(rule))}-?[0-9a-f]+"


def _prefix(rule: WordRule) -> str:
    if rule.format == "sv-packed":
        return f"{rule.lane_bits}'h"
    return _filled([rule.radix_prefix], rule)[0]


def _check_brackets(text: str, rule: WordRule) -> None:
    """Raise ComparisonError unless the brackets of an array are those of its dimensions."""
    opening, closing = _BRACKETS[rule.format]
    sizes = (rule.words, rule.lanes) if rule.dimensions is None else rule.dimensions
    whole = "#"
    for size in reversed(sizes):
        whole = opening + ",".join([whole] * size) + closing
    if re.sub(_number(rule), "#", text).replace(" ", "") != whole + ";":
        raise ComparisonError(f"must be an array of {' x '.join(map(str, sizes)) or 'one'} in {opening} and {closing}")
