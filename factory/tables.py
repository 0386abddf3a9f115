"""Tables for people: any list of records as text, as wide as it needs to be or cut to fit a terminal, and as HTML."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Sequence

from factory.spec import Range


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


def table(groups: Sequence[Sequence[str]], rows: Iterable[Sequence[object]], width: int = 0) -> str:
    """Return a table as text: one line of headings, one line a row, two blanks between columns.

    `groups` are the headings, of which those that belong together share a group. Where the lines would be longer than
    `width` (0: no limit), the table is cut between groups into tables one below the other, each of which begins with
    the columns of the first group. A group that is wider than that by itself stays whole.
    """
    lines = [[heading for group in groups for heading in group], *([str(cell) for cell in row] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    numbers = iter(range(len(widths)))
    key, *others = [[next(numbers) for _ in group] for group in groups]
    tables = [list(key)]
    for group in others:
        fits = sum(widths[n] + 2 for n in (*tables[-1], *group)) - 2 <= width or not width
        if fits or tables[-1] == key:
            tables[-1] += group
        else:
            tables.append([*key, *group])
    return "\n\n".join(
        "\n".join("  ".join(line[n].ljust(widths[n]) for n in chosen).rstrip() for line in lines) for chosen in tables
    )
