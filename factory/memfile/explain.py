"""Profiles in words: a list of them, and one explained with a drawing of a line of each file."""

from __future__ import annotations

from collections.abc import Sequence

from factory.memfile.layout import Layout
from factory.memfile.names import complete_template
from factory.memfile.profile import Profile
from factory.memfile.roles import AXES, DATAFLOWS, INCLUDES
from factory.memfile.toml import load_profile, profile_names
from factory.spec import SystolicArray

_EXAMPLE_TILES = 2
_DRAWN_LANES = 4


def list_profiles() -> str:
    """Return a line for each shipped profile: dataflow, name, what it is."""
    shipped = [load_profile(name, flow) for flow in DATAFLOWS for name in profile_names(flow)]
    width = max(len(profile.name) for profile in shipped)
    return "\n".join(f"{profile.dataflow}  {profile.name:{width}}  {profile.about}" for profile in shipped)


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
    sizes = dict.fromkeys(AXES, _EXAMPLE_TILES) | dict(row=tile.rows, px=tile.rows, col=tile.cols)
    ordered = sorted(profile.layouts, key=lambda layout: INCLUDES.index(layout.include))
    return "\n".join(head + [line for layout in ordered for line in ("", *_explain_layout(layout, sizes))])


def _explain_layout(layout: Layout, sizes: dict[str, int]) -> list[str]:
    sizes = sizes | {
        split.axis: split.size * _EXAMPLE_TILES for split in layout.split if sizes[split.axis] % split.size
    }
    template = complete_template(layout.file, layout.file_axes, layout.file_axes, ".txt")
    lanes = layout.lane_names(layout.sizes(sizes))
    sign = "signed" if layout.signed else "unsigned"
    word = layout.memory(1, len(lanes)).word_bits
    lines = ", ".join(axis.replace("-", "reversed ") for axis in layout.lines) or "one line"
    return [
        f"{layout.include}: {layout.file}" + ("" if template == layout.file else f" (several: {template})"),
        f"  lines: {lines}; a line: {word} bits, {len(lanes)} x {layout.lane_bits} bits {sign}",
        *(f"  {line}" for line in _draw(lanes, layout.lane_bits)),
    ]


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
