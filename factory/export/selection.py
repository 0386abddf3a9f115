"""The grammar of selections: `all`, `3`, `0:4,7`, and `it=0:2,ot=5` for tiles."""

from __future__ import annotations

from collections.abc import Mapping

from factory.spec import InputError, parse_ranges


def parse_indices(text: str, count: int, what: str) -> tuple[int, ...]:
    """Return the indices that `parse_ranges` gives for `text` of `0 .. count - 1`, ascending and each once."""
    return tuple(sorted(set(parse_ranges(text, count, what))))


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
