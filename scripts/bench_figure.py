"""Figures, each beside its reference of the same run, how they are timed, and where."""

import argparse
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np


@dataclass(frozen=True)
class Figure:
    """One figure and its reference, in `unit`; `target` is what their ratio must reach, or not pass where `at_most`.

    A figure without a target is there to be known. Where the `reference` is None it could not be measured, `against`
    says why, and nothing is passed or failed.
    """

    name: str
    measured: float
    reference: float | None
    unit: str
    against: str
    target: float | None = None
    at_most: bool = False

    @property
    def ratio(self) -> float | None:
        """How many times the reference was measured."""
        return None if self.reference is None else self.measured / self.reference

    @property
    def passed(self) -> bool | None:
        """Whether the target is met; None where there is none, or nothing to compare with."""
        if self.target is None or self.ratio is None:
            return None
        return self.ratio <= self.target if self.at_most else self.ratio >= self.target

    def record(self) -> dict:
        """Return the figure as JSON holds it."""
        return asdict(self) | dict(ratio=self.ratio, passed=self.passed)


def limit(name: str, measured: float, most: float, unit: str) -> Figure:
    """Return a figure that must not be more than `most`."""
    return Figure(name, measured, most, unit, "the limit", 1, at_most=True)


def best_seconds(rounds: int, tasks: Mapping[str, Callable[[], object]]) -> dict[str, float]:
    """Return the fewest seconds that each task took; every round runs all of them, one after the other."""
    taken: dict[str, list[float]] = {name: [] for name in tasks}
    for _ in range(rounds):
        for name, task in tasks.items():
            start = time.perf_counter()
            task()
            taken[name].append(time.perf_counter() - start)
    return {name: min(seconds) for name, seconds in taken.items()}


def slope(sizes: Sequence[float], values: Sequence[float]) -> float:
    """Return the exponent with which `values` grow with `sizes`: the slope of a line through their logarithms."""
    return float(np.polyfit(np.log(sizes), np.log(values), 1)[0])


def growth(name: str, sizes: Sequence[float], values: Sequence[float], nbytes: Sequence[float]) -> Figure:
    """Return the exponent with which `values` grow with `sizes`, beside that of the bytes that they are of."""
    return Figure(f"growth {name}", slope(sizes, values), slope(sizes, nbytes), "log-log", "that of the bytes")


def table(figures: Iterable[Figure]) -> str:
    """Return the figures as a Markdown table."""
    lines = ["| figure | measured | reference | ratio | target | pass |", "| --- | ---: | --- | ---: | ---: | --- |"]
    for figure in figures:
        target = "" if figure.target is None else f"{'at most ' if figure.at_most else ''}{figure.target:,g}"
        cells = (
            figure.name,
            _amount(figure.measured, figure.unit),
            *_reference_cells(figure),
            target,
            {None: "", True: "yes", False: "no"}[figure.passed],
        )
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _reference_cells(figure: Figure) -> tuple[str, str]:
    if figure.ratio is None:
        return figure.against, ""
    ratio = f"{figure.ratio:,.0f}" if figure.ratio >= 100 else f"{figure.ratio:.2f}"
    return f"{_amount(figure.reference, figure.unit)}, {figure.against}", ratio


def add_folder_option(parser: argparse.ArgumentParser) -> None:
    """Add `--dir`, the disk that is measured; one line and exit code 2 where it is no folder."""

    class Folder(argparse.Action):
        def __call__(self, parser, namespace, value, option=None):
            if not value.is_dir():
                parser.exit(2, f"--dir must be a folder that exists, not {value}\n")
            namespace.dir = value

    text = "the disk to measure; default: the system's temporary directory"
    parser.add_argument("--dir", type=Path, action=Folder, help=text)


def _amount(value: float, unit: str) -> str:
    return f"{value:,.{0 if abs(value) >= 100 else 2}f} {unit}".rstrip()
