"""Tables for people: any list of records as text, as wide as it needs to be or cut to fit a terminal, and as HTML."""

from __future__ import annotations

import os
import re
import shutil
import sys
import textwrap
from collections.abc import Iterable, Sequence
from html import escape

from factory.spec import Range

_NUMBER = re.compile(r"[-+]?\d[\d.,e+-]*( ?(%|b|B|kB|MB|GB))?( \(\d+b\))?", re.ASCII)
"""A number, a range `low..high` or a size; a column of nothing else is aligned at its right end."""
_NO_VALUE = ("", "-")
_LEAST_WRAPPED = 20
_BOLD, _PLAIN = "\x1b[1m", "\x1b[0m"


def span(values: Range) -> str:
    """Return a range as `low..high`."""
    return f"{values.low}..{values.high}"


def bytes_text(size: int) -> str:
    """Return a number of bytes in decimal units, such as `13.2 MB`."""
    for unit, scale in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if size >= scale:
            return f"{size / scale:.1f} {unit}"
    return f"{size} B"


def terminal_width() -> int:
    """Return the columns of the terminal, or what COLUMNS says; 0 in a pipe, where a line may have any length."""
    return shutil.get_terminal_size(fallback=(0, 0)).columns


def styled(table: str) -> str:
    """Return a table with bold headings where standard output is a terminal, unless NO_COLOR is set; else as it is."""
    if not sys.stdout.isatty() or os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb":
        return table
    parts = (part.partition("\n") for part in table.split("\n\n"))
    return "\n\n".join(f"{_BOLD}{heading}{_PLAIN}{newline}{rows}" for heading, newline, rows in parts)


def wrapped(text: str, width: int = 0) -> str:
    """Return a line as lines of at most `width` characters (0: no limit), the later ones indented."""
    return textwrap.fill(text, width, subsequent_indent="  ", break_on_hyphens=False) if width else text


def table(groups: Sequence[Sequence[str]], rows: Iterable[Sequence[object]], width: int = 0) -> str:
    """Return a table as text: one line of headings, one line a row, two blanks between columns, numbers at the right.

    `groups` are the headings, of which those that belong together share a group. Where the lines would be longer than
    `width` (0: no limit), the table is cut between groups into tables one below the other, each of which begins with
    the columns of the first group. Of a group that is wider than that by itself the widest column of text is wrapped.
    """
    lines = [[heading for group in groups for heading in group], *([str(cell) for cell in row] for row in rows)]
    columns = list(zip(*lines, strict=True))
    widths = [max(map(len, column)) for column in columns]
    numbers = iter(range(len(widths)))
    key, *others = [[next(numbers) for _ in group] for group in groups]
    tables = [list(key)]
    for group in others:
        fits = sum(widths[n] + 2 for n in (*tables[-1], *group)) - 2 <= width or not width
        if fits or tables[-1] == key:
            tables[-1] += group
        else:
            tables.append([*key, *group])
    return "\n\n".join(_text([columns[n] for n in chosen], [widths[n] for n in chosen], width) for chosen in tables)


def _text(columns: Sequence[Sequence[str]], widths: list[int], width: int) -> str:
    over = sum(width + 2 for width in widths) - 2 - width if width else 0
    right = [is_numeric(column[1:]) for column in columns]
    texts = [n for n, numeric in enumerate(right) if not numeric]
    cells = [[[cell] for cell in column] for column in columns]
    if over > 0 and texts:
        widest = max(texts, key=widths.__getitem__)
        widths[widest] = max(widths[widest] - over, min(widths[widest], _LEAST_WRAPPED))
        cells[widest] = [textwrap.wrap(cell, widths[widest]) or [""] for cell in columns[widest]]
    lines = []
    for row in zip(*cells, strict=True):
        for line in range(max(map(len, row))):
            parts = ((cell[line] if line < len(cell) else "") for cell in row)
            padded = (
                part.rjust(size) if at_right else part.ljust(size)
                for part, size, at_right in zip(parts, widths, right, strict=True)
            )  # fmt: skip
            lines.append("  ".join(padded).rstrip())
    return "\n".join(lines)


def is_numeric(cells: Sequence[str]) -> bool:
    """Return whether a column holds numbers, ranges or sizes, and at most `-` or nothing beside them."""
    return any(cell not in _NO_VALUE for cell in cells) and all(
        cell in _NO_VALUE or _NUMBER.fullmatch(cell) for cell in cells
    )


def html_table(headings: Sequence[str], rows: Iterable[Sequence[object]], caption: str = "") -> str:
    """Return a table as HTML, its texts escaped; cells of numbers have the class `n`.

    Alignment is an attribute too, because notebooks and mails keep no style sheet.
    """
    lines = [[str(cell) for cell in row] for row in rows]
    right = [is_numeric(column) for column in zip(*lines, strict=True)] if lines else [False] * len(headings)
    marks = [' class="n" align="right"' if numeric else ' align="left"' for numeric in right]

    def row(tag: str, cells: Sequence[str]) -> str:
        return "<tr>" + "".join(f"<{tag}{m}>{escape(c)}</{tag}>" for c, m in zip(cells, marks, strict=True)) + "</tr>"

    head = f"<caption>{escape(caption)}</caption>" if caption else ""
    body = "\n".join(row("td", line) for line in lines)
    return f"<table>{head}<thead>{row('th', headings)}</thead>\n<tbody>\n{body}\n</tbody></table>"
