"""The section of a regression: its board, what went wrong alike, and how to run each failed case again."""

from __future__ import annotations

from html import escape
from pathlib import Path

from factory import plot
from factory.dataset.outcomes import RESULTS, Results, load_results
from factory.report.page import Pictures, Section, facts
from factory.tables import html_table

_MOST_CASES = 50


def regression_section(folder: Path, pictures: Pictures) -> Section:
    """Return what a page shows of the results in a regression's folder."""
    results = load_results(folder)
    words = sum(case.compared for case in results.cases)
    counts = {state: f"{count:,}" for state, count in results.counts.items()}
    cards = facts({"cases": f"{len(results.cases):,}", **counts, "words compared": f"{words:,}"})
    board = pictures.html(plot.board(states_of(results)), "board", "cases by layer and images, and how each ended")
    return Section("regression", "Regression", f'{cards}<div class="card">{board}</div>{_failures(results)}')


def states_of(results: Results) -> list[tuple[str, str, str]]:
    """Return the layer, the images and the state of each case."""
    return [(case.layer, case.name.rpartition("/")[2], case.state) for case in results.cases]


def _failures(results: Results) -> str:
    if not results.failed:
        return "<p>Every case passed.</p>"
    rows = [(bucket.cases, bucket.name, bucket.cause or "unknown", bucket.first) for bucket in results.buckets]
    parts = [
        f'<div class="card wide">{html_table(("cases", "what they have in common", "cause", "first"), rows)}</div>'
    ]
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
