"""The three comment lines that a memory file may begin with."""

from __future__ import annotations

from collections.abc import Sequence

HEADERS = ("none", "tokens", "verilog", "short")
SHORT_WIDTH = 29
_LAST = "#................#"


def header(style: str, line_axis: str, lanes: Sequence[str]) -> bytes:
    """Return the header of a file whose lines count along `line_axis`, `lanes` being the lanes' names, leftmost first.

    `tokens`: the notebook's lines, each one token without a blank, for three `%s` reads. `verilog`: the same, beginning
    with `//`. `short`: at most 29 characters a line, for `$fgets` into 30 bytes. `none`: nothing.
    """
    if style == "none":
        return b""
    lines = [_short(line_axis, line, lanes) if style == "short" else _full(line_axis, line, lanes) for line in (0, 1)]
    lines.append(_LAST)
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
