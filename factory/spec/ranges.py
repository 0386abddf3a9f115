"""The grammar of places: `all`, `3`, `0:4,7`."""

from __future__ import annotations

import re

from factory.spec.errors import InputError

_ITEM = re.compile(r"(?P<only>\d{1,18})|(?P<start>\d{0,18}):(?P<stop>\d{0,18})", re.ASCII)


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
