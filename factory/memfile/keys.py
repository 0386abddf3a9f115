"""What each key of a profile's TOML file means, for those who write their own."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from textwrap import wrap
from types import MappingProxyType

from factory.memfile.formats import FORMATS
from factory.memfile.header import HEADERS
from factory.memfile.profile import POSTS
from factory.memfile.roles import DATAFLOWS, INCLUDES, ROLES


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
        "simd": "input channels that a row takes at a time (ws)",
        "post": f"what follows the sums in role out, {_of(POSTS)}",
        "pixel_block": "height and width of the blocks in which an array takes pixels (os); [1, 1]: ascending onij",
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
        ),
        "lane_bits": "width of a field; sums are as wide as the adders (--psum-bits) where these are wider",
        "signed": "whether fields are two's complement; the array reads codes with this lane_bits and signed",
        "lane0_left": "whether lane 0 is the leftmost of a word, not the rightmost",
        "word_bits": "least width of a word, zeros on its left; 0: as wide as its fields",
        "words": "least number of words of a file, zeros after the last line; 0: no more than there are lines",
        "base": "address of the first word, where the format states addresses; of role address: what is added to each",
        "format": _of(FORMATS),
        "header": (
            f"three lines before the words, {_of(HEADERS)} (three %s read tokens, $readmemb verilog, $fgets short)"
        ),
    }
)


def keys_as_comments(width: int = 120) -> str:
    """Return all keys, and the axes of each role, as TOML comments."""
    axes = {
        name: "; ".join(f"{' '.join(role.axes[flow])} ({flow})" for flow in DATAFLOWS if flow in role.axes)
        for name, role in ROLES.items()
    }
    axes["os"] = "where files, lines or lanes name pt, onij is divided into pt and px, the pixels of a tile"
    needed = "dataflow and layouts, and of a layout file, files, lines, lanes, lane_bits and signed"
    lines = [f"# There must be {needed}, or extends."]
    for title, table in (
        ("Keys of a profile", PROFILE_KEYS),
        ("Keys of a layout", LAYOUT_KEYS),
        ("Axes of a role", axes),
    ):
        lines.append(f"# {title}:")
        for name, text in table.items():
            lines += wrap(text, width, initial_indent=f"#   {name:<12} ", subsequent_indent=f"#   {'':<12} ")
    return "".join(f"{line}\n" for line in lines)
