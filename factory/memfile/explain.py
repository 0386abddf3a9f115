"""Profiles in words: a list of them, one explained with a drawing of a line of each file, and what each key means."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from textwrap import wrap
from types import MappingProxyType

import numpy as np

from factory.arithmetic.bits import CODES
from factory.dataflow import DATAFLOWS, INCLUDES, PIXELS, ROLES, Dataflow
from factory.dataflow.schedule import CONTENTS, ORDERS, SKEWS, lay_in_time
from factory.memfile.formats import FORMATS, HEADERS
from factory.memfile.layout import ENDIANS, Layout, complete_template, template_fields
from factory.memfile.named import BIT, BORDERED, MAPS, WORD, named_axes, regroups
from factory.memfile.placement import Placement
from factory.memfile.profile import POSTS, Profile, load_profile, profile_names
from factory.memfile.written import check_written, format_of
from factory.spec import InputError, SystolicArray
from factory.tables import table

_EXAMPLE_TILES = 2
_DRAWN_LANES = 4
_DRAWN_SIDE, _MOST_DRAWN = 3, 30
_SAMPLE_WORDS = 3


def list_profiles(width: int = 0) -> str:
    """Return a table of the shipped profiles: dataflow, name, what it is; `width` is as `table` takes it."""
    shipped = [load_profile(name, flow) for flow in DATAFLOWS for name in profile_names(flow)]
    rows = [(profile.dataflow, profile.name, profile.about) for profile in shipped]
    return table((("flow", "profile", "what it is"),), rows, width)


def explain_profile(name: str, dataflow: str | None = None) -> str:
    """Return the explanation of a shipped profile, in each dataflow that has it or in one, or of a TOML file."""
    flows = [flow for flow in DATAFLOWS if name in profile_names(flow) and not dataflow] or [dataflow]
    return "\n\n".join(explain(load_profile(name, flow)) for flow in flows)


def explain(profile: Profile, array: SystolicArray | None = None) -> str:
    """Return a profile's files in words, with a drawing of one line of each, for an array (by default 8 x 8)."""
    tile = profile.tile_array(array or SystolicArray())
    profile = profile.configure(psum_bits=tile.psum_bits)
    each = f", {profile.simd} input channels on each row" if profile.simd > 1 else ""
    head = [
        f"{profile.name} ({profile.dataflow}): {profile.about}",
        f"drawn for {tile.rows // profile.simd} rows and {tile.cols} columns{each}, adders of {tile.psum_bits} bits; "
        f"outputs after {profile.post}",
    ]
    ordered = sorted(profile.layouts, key=lambda layout: INCLUDES.index(layout.include))
    return "\n".join(head + [line for layout in ordered for line in ("", *_explain_layout(layout, profile, tile))])


def _explain_layout(layout: Layout, profile: Profile, tile: SystolicArray) -> list[str]:
    placement = _example(layout, profile.flow, tile)
    template = complete_template(layout.file, layout.file_axes, layout.file_axes, ".txt")
    lanes = placement.lane_names()
    lines = ", ".join(str(axis).replace("-", "reversed ") for axis in layout.lines) or "one line"
    lane = placement.word.field.bits
    sign = f", {BIT} {layout.lane_bits - 1} its sign" if layout.signed else ""
    each = f"1 bit of {layout.field}{sign}" if BIT in placement.axes else layout.field
    return [
        f"{layout.include}: {layout.file}" + ("" if template == layout.file else f" (several: {template})"),
        f"  lines: {lines}; a line: {placement.word.width} bits, {len(lanes)} x {each}",
        *(f"  {line}" for line in _notes(layout, placement)),
        *(f"  {line}" for line in _draw(lanes, lane)),
        *(f"  {line}" for line in _draw_crossing(layout, profile.flow)),
        *(f"  {line}".rstrip() for line in _sample(placement)),
    ]


def _example(layout: Layout, flow: Dataflow, tile: SystolicArray) -> Placement:
    """Return the placement of a small layer, two of everything that is not as wide as the array."""
    named, pixel = named_axes(layout, flow), flow.pixel_tiling
    lanes = {tiling.inner: getattr(tile, tiling.lanes) for tiling in flow.tilings.values()}
    sizes = dict.fromkeys((*named.vector, *named.repeated), _EXAMPLE_TILES) | lanes
    sizes |= {BIT: layout.lane_bits, WORD: layout.pixel_words}
    if pixel is not None:
        sizes[pixel.inner] = getattr(tile, pixel.lanes)
        sizes[PIXELS] = max(sizes.get(PIXELS, 0), sizes[pixel.inner] * _EXAMPLE_TILES)
    for part in layout.split:
        sizes[part.axis] = max(sizes.get(part.axis, 0), part.size * (1 if part.axis in lanes else _EXAMPLE_TILES))
    widths = {axis: sizes.get(parts[1], _EXAMPLE_TILES) for axis, parts in MAPS.items()}
    sizes |= {axis: widths[axis] * _EXAMPLE_TILES for axis in named.mapped}
    for dim in named.joined:
        sizes[dim] = sizes[flow.tilings[dim].outer] * sizes[flow.tilings[dim].inner]
    return Placement(layout, named.vector, sizes, made=regroups(named, flow, sizes, widths))


def _notes(layout: Layout, placement: Placement) -> Iterator[str]:
    """Yield a line for each thing that is not seen in the drawing."""
    if not layout.border:
        yield "the map without its border"
    for axis in placement.copies:
        yield f"the same words for each {axis}"
    for align in layout.align:
        yield f"each {align.axis} begins at a multiple of {align.words} words"
    if placement.beats is not None:
        first = "highest" if layout.highest_beat_first else "lowest"
        beats = placement.beats
        yield f"a bus takes a line in beats of {beats.bits} bits, the {first} first; here there are {beats.count}"
    if layout.stride > 1:
        yield f"pixels are {layout.stride} addresses apart, {layout.pixel_words} for each"


def _sample(placement: Placement) -> list[str]:
    """Return a file of zeros in a text format, its first words alone, where that is more than lines of digits."""
    layout, made = placement.layout, format_of(placement.layout)
    if not made.radix or not (layout.format_keys() or layout.format != Layout.format):
        return []
    try:
        check_written(layout)
        memory = placement.memory
    except InputError as error:  # what is drawn is an example, and not of the size that the layout is for
        return [f"{layout.format}, not shown for this array: {error}"]
    file = complete_template(layout.file, layout.file_axes, (), made.extension)
    file = file.format(**dict.fromkeys(template_fields(file), 0))
    zeros = np.zeros((min(memory.words, _SAMPLE_WORDS), memory.word.lanes), memory.word.field.dtype)
    more = b"...\n" if memory.words > _SAMPLE_WORDS else b""
    parts = placement.header_lines(), made.prefix(memory, file), made.body(memory, zeros).tobytes(), more
    text = b"".join((*parts, made.ending(memory, file))).decode()
    return [f"{layout.format}, such as {file}:", *(f"  {line}" for line in text.splitlines())]


def _draw(lanes: Sequence[str], lane_bits: int) -> list[str]:
    """Draw a word: bit numbers above the first and the last bit of each lane."""
    top = len(lanes) * lane_bits
    ends = [top - at * lane_bits for at in range(len(lanes))]
    fields = [(name or "value", f"{end - 1}", f"{end - lane_bits}") for name, end in zip(lanes, ends, strict=True)]
    if len(fields) > _DRAWN_LANES:
        fields = [*fields[: _DRAWN_LANES - 1], ("...", "", ""), fields[-1]]
    widths = [max(len(name) + 2, len(high) + len(low) + 1) for name, high, low in fields]
    bits = " ".join(high + low.rjust(width - len(high)) for (_, high, low), width in zip(fields, widths, strict=True))
    names = "|".join(name.center(width) for (name, _, _), width in zip(fields, widths, strict=True))
    rule = "+" + "+".join("-" * width for width in widths) + "+"
    return [f" {bits}".rstrip(), rule, f"|{names}|", rule]


def _draw_crossing(layout: Layout, flow: Dataflow) -> list[str]:
    """Draw the cycles in which the words of one pass of a 3 x 3 array cross its edge, the words counted from 0."""
    if not ROLES[layout.role].edge:
        return []
    crossing, load = flow.edges[layout.role], layout.edge.load
    edge = replace(layout.edge, load=load and max(load, _DRAWN_SIDE))  # which may be for an array of fewer rows
    times = edge.times(_DRAWN_SIDE, _DRAWN_SIDE, _DRAWN_SIDE, flow.has_psums)
    if times.length > _MOST_DRAWN:
        return [f"{edge.content}, one pass of a {_DRAWN_SIDE} x {_DRAWN_SIDE} array taking {times.length} cycles"]
    words = np.tile(np.arange(_DRAWN_SIDE)[:, None], (1, 1, _DRAWN_SIDE))
    cycles = lay_in_time(words, getattr(times, layout.role), times, -1).T
    width = len(str(len(cycles[0]) - 1)) + 1
    rows = [("cycle", range(len(cycles[0]))), *((f"{crossing.lane}{lane}", line) for lane, line in enumerate(cycles))]
    name = max(len(text) for text, _ in rows)
    lines = [f"{text:{name}}" + "".join(f"{'.' if x < 0 else x:>{width}}" for x in line) for text, line in rows]
    held = "" if not edge.sequence else f"; then each of {' '.join(edge.sequence)}, {times.period} cycles apart"
    return [
        f"{edge.content} of words 0 to {_DRAWN_SIDE - 1}, one pass of a {_DRAWN_SIDE} x {_DRAWN_SIDE} array{held}:",
        *lines,
    ]


def _of(words: Iterable[str]) -> str:
    return f"one of {' '.join(words)}"


PROFILE_KEYS: Mapping[str, str] = MappingProxyType(
    {
        "name": "what messages and manifests call the profile; default: the file's name",
        "extends": "a shipped profile, whose values hold where the file gives none",
        "dataflow": _of(DATAFLOWS),
        "about": "a sentence for people",
        "rows": "rows of the array, 0 for the store's",
        "cols": "columns of the array, 0 for the store's",
        "simd": "input channels that a row takes at a time",
        "post": f"what follows the sums in role out, {_of(POSTS)}",
        "pixel_block": "height and width of the blocks in which pixels with tiles are taken; [1, 1]: ascending onij",
        "layouts": "a table for each kind of file",
    }
)
LAYOUT_KEYS: Mapping[str, str] = MappingProxyType(
    {
        "role": f"what the files hold, {_of(ROLES)}; default: the table's name",
        "include": f"the word of --include that asks for them, {_of(INCLUDES)}; default: the role",
        "file": (
            "a name with {it} {ot} {pt} {kij} {image}, {tile} (ot * input tiles + it), {n} (input channels); "
            "a part in [] is left out where its axes have one place each; an axis without a field adds such as _otile3"
        ),
        "files": "axes that select a file; every axis of the role is here, in lines or in lanes, `-` reverses it",
        "lines": "axes that count the words of a file, the slowest first",
        "lanes": "axes that count the fields of a word, the most significant first",
        "split": (
            'divides axes: [{ axis = "row", outer = "row", inner = "simd", size = 2 }] makes row, simd = divmod(row, 2)'
            "; zeros follow the end where the size does not divide the axis"
        ),
        "lane_bits": "width of a field; sums are as wide as the adders (--psum-bits) where these are wider",
        "signed": "whether fields have a sign; the array reads codes with this lane_bits and signed",
        "lane0_left": "whether lane 0 is the leftmost of a word, not the rightmost",
        "word_bits": "least width of a word, zeros on its left; 0: as wide as its fields",
        "words": "least number of words of a file, zeros after the last line; 0: no more than there are lines",
        "depth": "words that the memory has; more of them are an error; 0: any number",
        "base": "address of the first word, as @hex in bin and hex, in a mif; of role address: what is added to each",
        "format": _of(FORMATS),
        "header": (
            f"three lines before the words, {_of(HEADERS)} (three %s read tokens, $readmemb verilog, $fgets short)"
        ),
        "code": f"how the bits of a signed field stand for its value, {_of(CODES)}",
        "border": f"false leaves the border of the map out of axis {BORDERED}, or {' and '.join(MAPS[BORDERED])}",
        "align": 'line strides: [{ axis = "y", words = 8 }] begins each y at a multiple of 8 words, zeros between',
        "bus_bits": "cuts each word into beats of so many bits, which are the words of the file; 0: no bus",
        "beats": "least number of beats of a word, zeros on its left; 0: no more than it needs",
        "beats_pow2": "whether the number of beats is a power of two",
        "highest_beat_first": "whether the highest bits of a word come in its first beat, not the lowest",
        "stride": "of role address: how many addresses pixels are apart",
        "pixel_words": f"of role address: words of each pixel, counted on an axis {WORD}; 1: no such axis",
        "edge": (
            'of roles west, north and south, such as { skew = "none", gap = 2 }: '
            f"content, {_of(CONTENTS)}, addresses counted from offset; skew, {_of(SKEWS)}; order, {_of(ORDERS)}; "
            "sequence, axes whose passes follow each other in a file; gap, cycles between passes; load, cycles to load "
            "what stays, row 0 first with row0_first; depth, cycles of an element's sum; drain, cycles until seen; "
            "double_buffered"
        ),
        "separator": 'what stands between lanes in bin, hex and dec, such as "_" or ", "; default: nothing, in dec " "',
        "radix_prefix": "what stands before each number in bin and hex, such as 0x or {lane_bits}'h",
        "head": (
            'lines before the words, in every text format, such as ["#Format=Bin", "#Depth={depth}"], with fields '
            "{depth} {words} {width} {lanes} {lane_bits} {radix} {base} {end} {file} {name} {NAME}"
        ),
        "foot": "lines after the words, like head",
        "blocks": (
            "axes of files, and then the first of lines, at each place of which a block of words begins: with its "
            "address as @hex in bin and hex; in a mif every word has its own"
        ),
        "block_lines": "words of a block, in place of blocks: 1 for an address line for every word",
        "block_stride": "addresses from a block to the next, the first being base; 0: as many as a block has words",
        "shape": (
            'dimensions of the array in c, sv and sv-packed, such as ["ot col", "it row", "kij"]: the axes of lines '
            "and lanes that each counts; default: one for each axis"
        ),
        "endian": _of(ENDIANS) + ": the order of the bytes of a word in raw",
        "align_bytes": "what the bytes of a raw file are a multiple of, zeros at the end",
    }
)


def keys_as_comments(width: int = 120) -> str:
    """Return all keys, and the axes of each role, as TOML comments."""
    axes = {
        name: "; ".join(f"{' '.join(role.axes(flow))} ({flow.name})" for flow in DATAFLOWS.values() if role.axes(flow))
        for name, role in ROLES.items()
    }
    axes |= {
        axis: f"may be {' and '.join(parts)} instead, the rows and columns of the layer's own map"
        for axis, parts in MAPS.items()
    }
    for tiling in ("it and row", "ot and col"):
        channel = {"i": "ic", "o": "oc"}[tiling[0]]
        axes[tiling] = f"may be {channel} instead, the channels of the layer without the padding of the last tile"
    axes[BIT] = f"the bits of each value, the least significant first ({BIT}) or last (-{BIT}); a lane is then one bit"
    axes["loops"] = "a loop of other roles (kij, it, ot, pt, ic, oc) repeats the words for each of its places"
    tiled = " ".join(flow.name for flow in DATAFLOWS.values() if flow.pixel_tiling)
    axes[PIXELS] += f"; or pt and px, the tiles of pixels and their places ({tiled})"
    needed = "dataflow and layouts, and of a layout file, files, lines, lanes, lane_bits and signed"
    lines = [f"# There must be {needed}, or extends."]
    for title, keys in (
        ("Keys of a profile", PROFILE_KEYS),
        ("Keys of a layout", LAYOUT_KEYS),
        ("Axes of a role", axes),
    ):
        lines.append(f"# {title}:")
        for name, text in keys.items():
            lines += wrap(text, width, initial_indent=f"#   {name:<12} ", subsequent_indent=f"#   {'':<12} ")
    return "".join(f"{line}\n" for line in lines)
