"""How figures look, and their bytes: few colours that colour-blind people tell apart, and no date in a file."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from factory.spec import InputError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK, FAINT, EDGE, PAPER = "#1f2933", "#66717d", "#c9d0d7", "#ffffff"
DARK = "#14181d"
"""Of texts on a light colour of a map, which is the same in the dark."""
BLUE, SKY, ORANGE, RED, GREEN, GREY = "#0072b2", "#56b4e9", "#e69f00", "#d55e00", "#009e73", "#9aa5b1"
"""The colours of Okabe and Ito, of which any two are told apart in any kind of colour-blindness."""
THEMED = {
    "ink": INK, "faint": FAINT, "edge": EDGE, "paper": PAPER,
    "blue": BLUE, "sky": SKY, "orange": ORANGE, "red": RED, "green": GREEN, "grey": GREY,
}  # fmt: skip
"""The names that a page's style sheet gives these colours, another shade of each in the dark."""
CODES, SIGNED = "viridis", "RdBu_r"
"""Colour maps of codes from 0 on, and of values of both signs, whose middle is 0."""
WIDTH = 9.0
"""Inches of a figure's width."""

_STYLE = {
    "font.family": "DejaVu Sans",  # matplotlib brings it: the same widths of letters everywhere
    "font.size": 8.5,
    "text.color": INK,
    "axes.labelcolor": FAINT,
    "axes.edgecolor": EDGE,
    "axes.facecolor": "none",
    "axes.titlesize": 9,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.titlecolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "figure.facecolor": "none",
    "figure.constrained_layout.use": True,
    "xtick.color": EDGE,
    "ytick.color": EDGE,
    "xtick.labelcolor": FAINT,
    "ytick.labelcolor": FAINT,
    "xtick.labelsize": 7.5,
    "ytick.labelsize": 7.5,
    "legend.frameon": False,
    "legend.fontsize": 8,
    "image.interpolation": "none",  # a value is a rectangle of one colour
    "svg.fonttype": "none",
}
_SHORTENED = tuple(
    (re.compile(pattern, re.DOTALL), shorter)
    for pattern, shorter in (
        (r"^.*?(?=<svg)|<metadata>.*?</metadata>\s*|<style type.*?</style>\s*|<defs>\s*</defs>", ""),
        (r' id="(?!p[0-9a-f]{10}"|m[0-9a-f]{10}")[^"]*"', ""),  # all names but those of clip paths and of markers
        (r' transform="rotate\(-0 [^"]*"', ""),
        (r"font-family: 'DejaVu Sans'; ", ""),
        (r"'DejaVu Sans Mono'", "var(--mono)"),
        (r"(?<=\d)(\.\d\d)\d+", r"\1"),
        (r"\s*\n\s*", "\n"),
    )
)
"""What a page does not need of a figure's text, and what stands for it."""

Given = ParamSpec("Given")
Made = TypeVar("Made")


def drawn(draw: Callable[Given, Made]) -> Callable[Given, Made]:
    """Let a function draw in this style, and say in one line where matplotlib is missing."""

    @wraps(draw)
    def in_style(*args: Given.args, **kwargs: Given.kwargs) -> Made:
        try:
            from matplotlib import rc_context
        except ImportError:
            raise InputError("figures need matplotlib: pip install 'factory[plot]'") from None
        with rc_context(_STYLE):
            return draw(*args, **kwargs)

    return in_style


def new_figure(height: float) -> Figure:
    """Return an empty figure, `height` inches high, that no window shows, but a notebook, with or without pyplot."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(WIDTH, height))
    figure._repr_png_ = lambda: png_bytes(figure, "figure")
    return figure


def placed(figure: Figure, left: float, top: float, width: float, height: float) -> Axes:
    """Return axes at a place of a figure, in inches from its left and its top, which no layout is computed for."""
    figure.set_layout_engine("none")  # constrained layout takes as long as all the rest of a figure
    wide, high = figure.get_size_inches()
    return figure.add_axes((left / wide, 1 - (top + height) / high, width / wide, height / high))


def bare(axes: Axes) -> None:
    """Leave an axes' ticks and lines out."""
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set_visible(False)


def colours(name: str) -> list[str]:
    """Return the 256 colours of a colour map as `#rrggbb`."""
    from matplotlib import colormaps
    from matplotlib.colors import to_hex

    return [to_hex(colormaps[name](value)) for value in range(256)]


def save(figure: Figure, path: str | Path) -> None:
    """Write a figure to an .svg, .png or .pdf; the same figure gives the same bytes."""
    path = Path(path)
    kinds = {".svg": {"Date": None}, ".png": {}, ".pdf": {"CreationDate": None}}
    if path.suffix not in kinds:
        raise InputError(f"{path}: a figure must be one of {' '.join(kinds)}, not {path.suffix or 'without a suffix'}")
    _write(figure, path, path.suffix[1:], path.stem, kinds[path.suffix], facecolor=PAPER)


def svg_text(figure: Figure, name: str) -> str:
    """Return a figure as an `<svg>` element for a page, whose style sheet has the colours as `--ink`, `--blue`, ...

    `name` is the page's own for it: what the element names inside itself has no other figure's name.
    """
    buffer = io.BytesIO()
    _write(figure, buffer, "svg", name, {"Date": None})
    text = buffer.getvalue().decode()
    for pattern, shorter in _SHORTENED:
        text = pattern.sub(shorter, text)
    for variable, colour in THEMED.items():
        text = text.replace(colour, f"var(--{variable})")
    return text.strip()


def png_bytes(figure: Figure, name: str) -> bytes:
    """Return a figure as a PNG on paper, twice as fine as a plain screen."""
    buffer = io.BytesIO()
    _write(figure, buffer, "png", name, {}, facecolor=PAPER, dpi=144)
    return buffer.getvalue()


@drawn
def _write(figure: Figure, target: Any, kind: str, salt: str, facts: dict, **options: Any) -> None:
    from matplotlib import rc_context

    with rc_context({"svg.hashsalt": salt}):  # names inside a file are random without one
        figure.savefig(target, format=kind, metadata=facts, **options)
