"""A layout's files as they are written: the format with what the layout says of it, and the memory of each file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, replace
from math import prod

from factory.dataflow import ROLES
from factory.memfile.formats import FORMATS
from factory.memfile.layout import FORMAT_KEYS, Layout
from factory.memfile.record import Format
from factory.memfile.word import Blocks, Memory, WordFormat
from factory.spec import InputError

_DEFAULTS = {key.name: key.default for key in fields(Layout)}
_REASONS = {
    "separator": "which has no lines of numbers alone",
    "radix_prefix": "which has no lines of numbers alone",
    "head": "which is no text",
    "foot": "which is no text",
    "shape": "which has no dimensions",
    "endian": "which is no raw bytes",
    "align_bytes": "which is no raw bytes",
    "align": "whose dimensions have no room between lines",
    "code": "which holds values, not bits",
}
"""Why a format has not got a key."""


def check_written(layout: Layout) -> None:
    """Raise InputError where a layout asks for what its format cannot state."""
    allowed = {*FORMATS[layout.format].keys, *["base"] * ROLES[layout.role].states, *["code"] * layout.has_bits}
    if layout.bus_bits and "bus_bits" not in allowed:
        raise InputError(
            f"layout {layout.name}: bus_bits must be 0 in format {layout.format}, which holds lanes, not bits"
        )
    given = layout.to_record()
    for key in ("base", "align", "code", *FORMAT_KEYS):
        if getattr(layout, key) != _DEFAULTS[key] and key not in allowed:
            reason = _REASONS.get(key, "which states no addresses")
            raise InputError(
                f"layout {layout.name}: {key} must be {_shown(_DEFAULTS[key])} in format {layout.format}, {reason}, "
                f"not {_shown(given[key])}"
            )


def _shown(value: object) -> str:
    """Return a value of a key as messages show it."""
    return str(list(value)) if isinstance(value, tuple) else str(value) if str(value).strip() else repr(value)


def format_of(layout: Layout) -> Format:
    """Return a layout's format, with what the layout says of it in place of the format's own."""
    made = FORMATS[layout.format]
    own = {key: getattr(layout, key) for key in FORMAT_KEYS if key in made.keys and hasattr(made, key)}
    return replace(made, **{key: value for key, value in own.items() if value != _DEFAULTS[key]})


def memory_of(layout: Layout, lines: int, word: WordFormat, sizes: Mapping[str, int]) -> Memory:
    """Return the memory that a file of `lines` lines as written describes, `sizes` being those of the layout's axes.

    With a bus, these lines are beats, and so is `word`.

    Raise InputError where it is not deep enough, or where words or blocks have no place of their own in it.
    """
    try:
        return _memory(layout, lines, word, sizes)
    except InputError as error:
        raise InputError(f"layout {layout.name}: {error}") from None


def _memory(layout: Layout, lines: int, word: WordFormat, sizes: Mapping[str, int]) -> Memory:
    made, words = format_of(layout), max(lines, layout.words)
    if words > lines and (layout.blocks or made.has_dimensions):
        what = "blocks" if layout.blocks else f"the dimensions of format {layout.format}"
        raise InputError(f"words must be at most {lines}, because of {what}, not {words}")
    if word.width > word.lane_width and made.is_lanewise:
        raise InputError(f"word_bits must be at most {word.lane_width} where lanes stand apart, not {word.width}")
    base = 0 if ROLES[layout.role].states else layout.base
    memory = Memory(words, word, base, _blocks(layout, lines, sizes), _dimensions(layout, sizes), layout.depth)
    if layout.depth and memory.extent > layout.depth:
        raise InputError(f"the memory's depth must be at least {memory.extent}, not {layout.depth}")
    return memory


def _dimensions(layout: Layout, sizes: Mapping[str, int]) -> tuple[int, ...]:
    counted = [names.split() for names in layout.shape] or [[axis.name] for axis in (*layout.lines, *layout.lanes)]
    return tuple(prod(sizes[name] for name in names) for names in counted)


def _blocks(layout: Layout, lines: int, sizes: Mapping[str, int]) -> Blocks | None:
    if not (layout.blocks or layout.block_lines):
        return None
    blocks = prod(sizes[axis.name] for axis in layout.lines if axis.name in layout.blocks)
    inside = lines // blocks  # aligned lines and beats among them
    size, stride = layout.block_lines or inside, layout.block_stride or layout.block_lines or inside
    if stride < size:
        raise InputError(f"block_stride must be at least the words of a block, {size}, not {stride}")
    files, skipped = [], 1
    for axis in reversed(layout.files):
        if axis.name in layout.blocks:
            files.append((skipped, sizes[axis.name], blocks))
            blocks *= sizes[axis.name]
        skipped *= sizes[axis.name]
    return Blocks(size, stride, tuple(files))
