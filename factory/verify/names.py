"""File names of an export against the templates of its layouts: a name must say what the file is said to hold."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache

from factory.spec import ComparisonError

_SUFFIXES = {"it": "itile", "ot": "otile", "pt": "tile"}


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
    return ".txt" if format == "bin" else f".{format.removesuffix('-hex')}"
