"""The sections of results: what vectors cover, which were picked, and the board of a regression."""

from __future__ import annotations

import json
from collections.abc import Callable
from html import escape
from pathlib import Path

from factory import plot
from factory.coverage import Coverage, read_coverage, read_picks
from factory.dataset.outcomes import RESULTS, Results, load_results
from factory.report.page import Pictures, Section, card, facts
from factory.summary import first_missing, meaning_of
from factory.tables import html_table

_MOST_CASES = 50
_FIRST_BINS = 4


def coverage_section(path: Path, pictures: Pictures) -> Section:
    """Return what a page shows of a coverage that `factory coverage --json` printed."""
    found = read_coverage(path)
    total, array = found.total, found.array
    cards = facts({
        "of": found.source,
        "layers": len(found.layers),
        "images": f"{total.images:,}",
        "array": f"{found.dataflow}, {array.rows} × {array.cols}, adders of {array.psum_bits} bits",
    })  # fmt: skip
    parts = [cards, card(pictures.html(plot.coverage(found), "coverage", "bins of each cover point that were hit"))]
    if "pair" in total.points:
        parts.append(card(pictures.html(plot.pairs(found), "pairs", "pairs that each processing element multiplied")))
    return Section("coverage", "Coverage", "\n".join([*parts, _bins(found)]))


def _bins(found: Coverage) -> str:
    """Return what is missing of each point, and why the rest cannot be hit."""
    rows = [
        (name, meaning_of(name), first_missing(point, _FIRST_BINS, "…"),
         "; ".join(f"{bins.sum():,}: {reason}" for reason, bins in point.reasons.items()))
        for name, point in found.total.points.items()
    ]  # fmt: skip
    return card(html_table(("point", "what", "missing", "unreachable"), rows), "wide text")


def selection_section(path: Path, pictures: Pictures) -> Section:
    """Return what a page shows of tiles that `factory coverage --pick --selection` wrote."""
    picked = read_picks(path)
    curve = card(pictures.html(plot.selection_curve(picked), "selection", "coverage after each picked tile"))
    rows = [
        (pick.layer, pick.image, " ".join(f"{axis} {label}" for axis, label in pick.tiles.items()), cost, pick.new)
        for pick, (cost, _) in zip(picked.picks, picked.curve, strict=True)
    ]
    table = html_table(("layer", "image", "tile", picked.cost, "new bins"), rows[:_MOST_CASES])
    return Section("selection", "Selection", f"{curve}{card(table, 'wide')}")


def has_schema(start: str) -> Callable[[Path], bool]:
    """Return what tells whether a file is JSON whose schema begins so."""

    def has(path: Path) -> bool:
        try:
            data = json.loads(path.read_bytes()) if path.suffix == ".json" else None
        except (OSError, ValueError, RecursionError):
            return False
        return isinstance(data, dict) and str(data.get("schema")).startswith(start)

    return has


def regression_section(folder: Path, pictures: Pictures) -> Section:
    """Return what a page shows of the results in a regression's folder."""
    results = load_results(folder)
    words = sum(case.compared for case in results.cases)
    counts = {state: f"{count:,}" for state, count in results.counts.items()}
    cards = facts({"cases": f"{len(results.cases):,}", **counts, "words compared": f"{words:,}"})
    states = [(case.layer, case.name.removeprefix(f"{case.layer}/"), case.state) for case in results.cases]
    board = pictures.html(plot.board(states), "board", "cases by layer and images, and how each ended")
    return Section("regression", "Regression", f"{cards}{card(board)}{_failures(results)}")


def _failures(results: Results) -> str:
    if not results.failed:
        return "<p>Every case passed.</p>"
    rows = [(bucket.cases, bucket.name, bucket.cause or "unknown", bucket.first) for bucket in results.buckets]
    parts = [card(html_table(("cases", "what they have in common", "cause", "first"), rows), "wide")]
    for case in results.failed[:_MOST_CASES]:
        parts.append(
            f"<details><summary>{escape(case.name)}: {escape(case.state)}</summary><p>{escape(case.first)}<br>"
            f"<code>{escape(case.rerun)}</code></p></details>"
        )
    if len(results.failed) > _MOST_CASES:
        parts.append(f'<p class="faint">and {len(results.failed) - _MOST_CASES:,} more</p>')
    return "\n".join(parts)


def is_regression(path: Path) -> bool:
    """Return whether a folder has the results of a regression."""
    return (path / RESULTS).is_file()
