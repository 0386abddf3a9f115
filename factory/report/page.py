"""The page itself: sections as one HTML file, or as files beside each other for servers that forbid inline parts."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from html import escape
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from factory.plot.style import CODES, SIGNED, colours, png_bytes, svg_text

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass
class Pictures:
    """How figures get into a page: as elements of it, or as `files` of a `folder` beside it."""

    folder: str = ""
    files: dict[str, bytes] = field(default_factory=dict)

    def html(self, figure: Figure, name: str, text: str, kind: str = "") -> str:
        """Return a `<figure>`; `name` is its own in the page, `text` says what it shows, `kind` is a class."""
        if self.folder:
            self.files[f"{name}.png"] = png_bytes(figure, name)
            shown = f'<img src="{escape(self.folder)}/{name}.png" alt="{escape(text)}" loading="lazy">'
        else:
            shown = svg_text(figure, name).replace("<svg", f'<svg role="img" aria-label="{escape(text)}"', 1)
        return f'<figure class="{kind}">{shown}</figure>' if kind else f"<figure>{shown}</figure>"


@dataclass(frozen=True)
class Section:
    """A part of a page: `id` is its place in links, `html` what stands below its title."""

    id: str
    title: str
    html: str


def facts(values: Mapping[str, object]) -> str:
    """Return facts as a row of small cards."""
    cards = (f"<div><dt>{escape(name)}</dt><dd>{escape(str(value))}</dd></div>" for name, value in values.items())
    return f'<dl class="facts">{"".join(cards)}</dl>'


def card(html: str, kind: str = "") -> str:
    """Return a part of a section on a card; `kind` is a class beside, such as `wide`."""
    return f'<div class="{f"card {kind}".strip()}">{html}</div>'


def page(title: str, lead: str, sections: Iterable[Section], absent: Iterable[str], data: Mapping[str, Any]) -> str:
    """Return the page but for its style and its script, which `whole` and `parts` add; `absent` are lines of HTML."""
    sections = list(sections)
    links = "".join(f'<a href="#{section.id}">{escape(section.title)}</a>' for section in sections)
    bodies = "\n".join(
        f'<section id="{x.id}"><h2>{escape(x.title)}</h2>\n{x.html}\n</section>' for x in sections
    )  # fmt: skip
    lines = "".join(f"<li>{line}</li>" for line in absent)
    rest = f'<section id="absent"><h2>Not in this report</h2><ul class="faint">{lines}</ul></section>' if lines else ""
    record = (
        {"layers": data, "colours": {"codes": _packed(CODES), "signed": _packed(SIGNED)}} if data else {"layers": {}}
    )
    text = json.dumps(record, separators=(",", ":")).replace("</", "<\\/")
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{escape(title)}</title>
<!--style-->
</head>
<body>
<header><h1>{escape(title)}</h1><p class="faint">{lead}</p></header>
<nav aria-label="sections">{links}</nav>
<main>
{bodies}
{rest}
</main>
<script type="application/json" id="data">{text}</script>
<!--script-->
</body>
</html>
"""


def _packed(name: str) -> str:
    return "".join(colour[1:] for colour in colours(name))


def _own(name: str) -> str:
    return (files("factory.report") / name).read_text(encoding="utf-8")


def whole(text: str) -> bytes:
    """Return a page as one file."""
    style, script = f"<style>\n{_own('page.css')}</style>", f"<script>\n{_own('page.js')}</script>"
    return text.replace("<!--style-->", style, 1).replace("<!--script-->", script, 1).encode()


def parts(text: str, path: Path, pictures: Pictures) -> dict[Path, bytes]:
    """Return a page as files: itself, and in a folder of its name style, script and figures, with no inline part."""
    folder = path.with_suffix("")
    style = f'<link rel="stylesheet" href="{folder.name}/page.css">'
    script = f'<script src="{folder.name}/page.js" defer></script>'
    text = text.replace("<!--style-->", style, 1).replace("<!--script-->", script, 1)
    own = {folder / name: _own(name).encode() for name in ("page.css", "page.js")}
    return own | {folder / name: data for name, data in pictures.files.items()} | {path: text.encode()}
