"""The grammar of selections: `all`, `3`, `0:4,7`, and `it=0:2,ot=5` for tiles."""

from __future__ import annotations

import re
from collections.abc import Mapping

from factory.spec import InputError

_ITEM = re.compile(r"(\d+)|(\d*):(\d*)")


def parse_indices(text: str, count: int, what: str) -> tuple[int, ...]:
    """Return the indices, ascending and each once, that `text` selects of `0 .. count - 1`.

    Items with commas: `7`, or `0:4` (0 to 3; an end left out is the first or the last); `all` is every index. Raise
    InputError, which begins with `what`, for another text, an index out of range and a selection of nothing.
    """
    if text.strip() == "all":
        return tuple(range(count))
    chosen: set[int] = set()
    for item in filter(None, (part.strip() for part in text.split(","))):
        match = _ITEM.fullmatch(item)
        if not match:
            raise InputError(f"{what} must be all, or indices and ranges such as 0:4,7, not {text}")
        single, start, stop = match.groups()
        first, end = (int(single), int(single) + 1) if single else (int(start or 0), int(stop) if stop else count)
        for index in (first, end - 1):
            if first < end and index >= count:
                raise InputError(f"{what} must be 0 to {count - 1}, not {index}")
        chosen.update(range(first, end))
    if not chosen:
        raise InputError(f"{what} must select at least one index, {text!r} selects none")
    return tuple(sorted(chosen))


def parse_tiles(text: str, counts: Mapping[str, int], what: str) -> dict[str, tuple[int, ...]]:
    """Return the tiles of each axis of `counts` that `text` selects, such as `it=0:2,ot=5`; an axis not named is whole.

    Raise InputError, which begins with `what`, for an axis that is not of `counts` and as `parse_indices` does.
    """
    if text.strip() == "all":
        return {axis: tuple(range(count)) for axis, count in counts.items()}
    chosen: dict[str, list[str]] = {}
    axis = None
    for item in text.split(","):
        name, equals, rest = item.partition("=")
        if equals:
            axis, item = name.strip(), rest
        if axis not in counts:
            known = " and ".join(f"{known}=..." for known in counts)
            raise InputError(f"{what}tiles must be all or of {known}, not {text}")
        chosen.setdefault(axis, []).append(item)
    return {
        axis: parse_indices(",".join(chosen.get(axis, ["all"])), count, f"{what}{axis}")
        for axis, count in counts.items()
    }
