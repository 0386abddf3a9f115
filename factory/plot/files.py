"""Figures of memory files: how a word is built of its lanes, and where a dump differs from what it must be."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import UInt8

from factory.diagnose import Diagnosis
from factory.diagnose.evidence import KINDS, kinds_of
from factory.diagnose.golden import Group, groups
from factory.fileplan import read_plan
from factory.plot.style import BLUE, EDGE, FAINT, GREEN, GREY, INK, ORANGE, PAPER, RED, SKY, bare, drawn, new_figure
from factory.spec import InputError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_WORDS = 3
_MOST_BITS = 256
_MOST_DIGITS = 96
"""Bits of a word up to which they are digits; of a wider one the ones are dark bars."""
_TINTS = (SKY, ORANGE, GREEN, GREY)
"""Lanes beside each other have different colours."""
_KINDS = dict(zip(KINDS, (EDGE, RED, ORANGE, INK, PAPER), strict=True))
_COLUMNS = 4096


def memory_word(directory: str | Path, layout: str, layer: str | None = None) -> Figure:
    """Draw how an export's memory words are built: words of a layout's first file, their bits by lane.

    Lanes are named above, their values stand below the bits. `layer` is the first one that has the layout, if none is
    given.
    """
    directory = Path(directory)
    every = list(groups(directory, read_plan(directory)))
    found = [x for x in every if x.files.layout.name == layout and layer in (None, x.layer.name)]
    if not found:
        names = " ".join(dict.fromkeys(group.files.layout.name for group in every))
        raise InputError(f"{directory}: layout must be one of {names}, not {layout}")
    return word_figure(found[0])


@drawn
def word_figure(group: Group) -> Figure:
    """Return `memory_word` of an open export's files: its first words that are not all zeros."""
    placement, file = group.files.placement, group.paths[0]
    word, beats = placement.word, placement.beats
    codes = group.read_file(0)
    first = max(0, min(int(codes.any(axis=1).argmax()), len(codes) - _WORDS))  # zeros show little
    codes = codes[first : first + _WORDS]
    bits = np.unpackbits(word.pack(codes), axis=1)[:, -word.width :]
    shown = min(word.width, _MOST_BITS)
    figure = new_figure(0.62 + 0.42 * len(bits))
    axes = figure.add_subplot()
    axes.set(xlim=(-0.085 * shown, shown), ylim=(len(bits), -0.75))
    bare(axes)
    cut = "" if beats is None else f", in beats of {beats.bits}"
    more = "" if shown == word.width else f", the first {shown} drawn"
    axes.set_title(f"{file}: a word is {word.width} bits, {word.lanes} × {word.field}{cut}{more}")
    names = placement.lane_names()
    for place in range(word.lanes):
        lane = word.lanes - 1 - place if not word.lane0_left else place
        left = word.width - word.low_bit(lane) - word.field.bits
        if left >= shown:
            break
        centre = left + word.field.bits / 2
        _lane(axes, left, word.field.bits, bits, _TINTS[lane % len(_TINTS)])
        axes.text(centre, -0.12, names[place], ha="center", fontsize=min(8, 90 / word.lanes), color=INK)
        for line, value in enumerate(codes[:, lane].tolist()):
            axes.text(centre, line + 0.86, f"{value}".replace("-", "−"), ha="center", va="center", color=FAINT,
                      fontsize=min(7.5, 90 / word.lanes))  # fmt: skip
    for line in range(len(bits)):
        axes.text(
            -0.01 * shown, line + 0.38, f"word {first + line}", ha="right", va="center", fontsize=7.5, color=FAINT
        )
    axes.text(0, -0.55, f"bit {word.width - 1}", fontsize=6.5, color=FAINT)
    axes.text(shown, -0.55, f"bit {word.width - shown}", fontsize=6.5, color=FAINT, ha="right")
    return figure


def _lane(axes: Axes, left: int, width: int, bits: UInt8[np.ndarray, "word bit"], colour: str) -> None:
    from matplotlib.patches import Rectangle

    for line, word in enumerate(bits[:, left : left + width].tolist()):
        axes.add_patch(
            Rectangle((left, line + 0.12), width, 0.52, facecolor=colour, alpha=0.35, edgecolor=PAPER, linewidth=1)
        )
        if bits.shape[1] > _MOST_DIGITS:
            ones = [(left + place + 0.1, 0.8) for place, bit in enumerate(word) if bit]
            axes.broken_barh(ones, (line + 0.2, 0.36), color=INK, linewidth=0)
            continue
        for place, bit in enumerate(word):
            axes.text(left + place + 0.5, line + 0.38, str(bit), ha="center", va="center",
                      fontsize=min(8.0, 560 / bits.shape[1]), family="DejaVu Sans Mono")  # fmt: skip


@drawn
def mismatches(found: Diagnosis) -> Figure:
    """Draw a diagnosed dump as lane x time: which values are right, wrong, undefined or missing, and the first wrong.

    Of more words than a screen is wide, each column is the worst of some.
    """
    from matplotlib.colors import ListedColormap
    from matplotlib.patches import Patch

    if found.case is None:
        raise InputError(f"{found.directory}: the dump must have a mismatch to draw, every word is right")
    kinds = kinds_of(found.case)
    each = -(-len(kinds) // _COLUMNS)
    padded = np.pad(kinds, ((0, -len(kinds) % each), (0, 0)))
    image = padded.reshape(-1, each, kinds.shape[1]).max(axis=1).T
    figure = new_figure(1.15 + min(2.4, 0.17 * len(image)))
    axes = figure.add_subplot()
    axes.imshow(image, ListedColormap(list(_KINDS.values())), vmin=-0.5, vmax=len(_KINDS) - 0.5, aspect="auto",
                extent=(-0.5, len(padded) - 0.5, len(image) - 0.5, -0.5))  # fmt: skip
    group = found.case.group
    axes.set_title(f"{group.where}, {group.where.role}: lane ↓ × words of the files in their order →")
    axes.set(ylabel="lane", xlabel="word")
    if found.first is not None:
        files = {path: number for number, path in enumerate(group.paths)}
        time, bit = files.get(found.first.path, 0) * group.shape[1] + found.first.word, found.first.low
        lane = group.files.placement.word.lane_at(bit) or 0
        axes.plot(time, lane, marker="o", markersize=11, fillstyle="none", color=BLUE, markeredgewidth=1.8)
        axes.annotate("first", (time, lane), (9, -11), textcoords="offset points", color=BLUE, weight="bold")
    there = np.unique(kinds).tolist()
    handles = [Patch(facecolor=colour, edgecolor=EDGE, label=name) for n, (name, colour) in enumerate(_KINDS.items())
               if n in there]  # fmt: skip
    axes.legend(handles=handles, loc="upper left", bbox_to_anchor=(0, -0.28 if len(image) > 4 else -0.5), ncols=5)
    return figure
