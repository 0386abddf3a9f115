"""Values that users give, in TOML files or as text: their kinds, their ranges, and the grammar of places."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from factory.spec.errors import InputError

_ITEM = re.compile(r"(?P<only>\d{1,18})|(?P<start>\d{0,18}):(?P<stop>\d{0,18})", re.ASCII)
_FLOAT32_MAX = (2 - 2**-23) * 2.0**127
_TYPES = {"str": str, "int": int, "float": (int, float), "bool": bool, "list": list}
_KINDS = {
    "str": "a string",
    "int": "a whole number",
    "float": "a number in float32's range",
    "bool": "true or false",
    "list": "a list",
    "tuple[str, ...]": "a list of strings",
    "tuple[int, ...]": "a list of whole numbers",
    "tuple[float, ...]": "a list of numbers in float32's range",
    "tuple[int, int]": "a list of two whole numbers",
    "tuple[int, int, int]": "a list of three whole numbers",
    "tuple[int, int, int, int]": "a list of four whole numbers",
}


def read_toml(path: Path, what: str) -> dict[str, Any]:
    """Return the data of a TOML file in UTF-8 that describes a `what`; raise InputError, without the path, for others.

    Every value can be shown in a message: none is nested too deeply for that, and no number has too many digits.
    """
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
        repr(data)
    except OSError as error:
        raise InputError(f"must be a {what}'s TOML file: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"must be TOML: {error}") from None
    except ValueError:  # what Python says of an integer of thousands of digits, decimal or not
        raise InputError("must be TOML without numbers of thousands of digits") from None
    except RecursionError:
        raise InputError("must be TOML without lists or tables nested hundreds deep") from None
    return data


def typed_values(
    values: Mapping[str, Any], kinds: Mapping[str, str], required: Collection[str], where: str = ""
) -> dict[str, Any]:
    """Return the values of a TOML table as the annotations `kinds` have them: lists as tuples, numbers as floats.

    Raise InputError for a key that is unknown, of another kind or, among the `required`, missing.
    """
    for name, value in values.items():
        if name not in kinds:
            raise InputError(f"{where}keys must be of {' '.join(kinds)}, not {name}")
        check_kind(f"{where}{name}", value, kinds[name])
    for name in required:
        if name not in values:
            raise InputError(f"{where}the key {name} must be there")
    return {name: _typed(value, kinds[name]) for name, value in values.items()}


def check_kind(name: str, value: Any, kind: str) -> None:
    """Raise InputError unless a value is of a kind, an annotation such as `tuple[int, ...]`; pass over records."""
    if kind in _KINDS and not is_kind(value, kind):
        raise InputError(f"{name} must be {_KINDS[kind]}, not {value!r}")


def is_kind(value: Any, kind: str) -> bool:
    """Return whether a value is of a kind: a bool is no number, a whole number is a float too, a list a tuple."""
    outer, _, inner = kind.removesuffix("]").partition("[")
    if outer == "tuple":
        item, *others = inner.split(", ")
        listed = isinstance(value, (list, tuple)) and all(is_kind(each, item) for each in value)
        return listed and (others == ["..."] or len(value) == 1 + len(others))
    if isinstance(value, bool) and kind != "bool":
        return False
    return isinstance(value, _TYPES[kind]) and (kind != "float" or abs(value) <= _FLOAT32_MAX)


def _typed(value: Any, kind: str) -> Any:
    if kind == "tuple[float, ...]":
        return tuple(map(float, value))
    return tuple(value) if kind.startswith("tuple") else value


def check_range(name: str, value: int, least: int, most: int) -> None:
    """Raise InputError unless a number is `least` to `most`."""
    if value < least:
        raise InputError(f"{name} must be at least {least}, not {value}")
    if value > most:
        raise InputError(f"{name} must be at most {most}, not {value}")


def parse_ranges(text: str, count: int, what: str) -> list[int]:
    """Return the places that `text` names of `0 .. count - 1`, in its order and as often as it names them.

    Items with commas: `7`, or `0:4` (0 to 3; an end left out is the first or the last); `all` is every place. Raise
    InputError, which begins with `what`, for another text, a place out of range and a selection of nothing.
    """
    if text.strip() == "all":
        return list(range(count))
    chosen: list[int] = []
    for item in filter(None, (part.strip() for part in text.split(","))):
        match = _ITEM.fullmatch(item)
        if not match:
            raise InputError(f"{what} must be all, or indices and ranges such as 0:4,7, not {text}")
        start = int(match["only"] or match["start"] or 0)
        places = range(start, start + 1 if match["only"] else int(match["stop"] or count))
        if places and places[-1] >= count:
            raise InputError(f"{what} must be 0 to {count - 1}, not {max(start, count)}")
        chosen += places
    if not chosen:
        raise InputError(f"{what} must select at least one index, {text!r} selects none")
    return chosen
