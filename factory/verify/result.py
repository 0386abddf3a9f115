"""What a verification found: counts of equal values, what was left unchecked, and the first mismatch as an error."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from factory.spec import ComparisonError


@dataclass(frozen=True)
class Recovered:
    """How far a layer's real outputs, recovered from its accumulators, are from the Flax model's on the same codes.

    `largest` is the largest output of the float model; `max_error` and `mean_error` are absolute differences
    relative to it, over `values` outputs.
    """

    layer: str
    values: int
    largest: float
    max_error: float
    mean_error: float

    def __str__(self) -> str:
        return (
            f"{self.layer}: {self.values} recovered outputs are at most {self.max_error:.1e}, "
            f"on average {self.mean_error:.1e} of the largest, {self.largest:.6g}"
        )


@dataclass(frozen=True)
class VerifyReport:
    """A passed verification: `counts` of values found equal, by what they are, and in words what was not checked."""

    path: Path
    counts: Mapping[str, int]
    unchecked: tuple[str, ...] = ()
    recovered: tuple[Recovered, ...] = ()

    @property
    def compared(self) -> int:
        """Number of values that were compared, all of them equal."""
        return sum(self.counts.values())

    def __str__(self) -> str:
        equal = ", ".join(f"{what} {count}" for what, count in self.counts.items())
        lines = [f"{self.path}: {self.compared} values are equal: {equal}"]
        lines += [f"not checked: {what}" for what in self.unchecked]
        lines += [str(item) for item in self.recovered]
        return "\n".join(lines)


class Tally:
    """Compares arrays and counts the equal values; the first difference is a ComparisonError with its address."""

    def __init__(self, path: Path):
        self.path = path
        self.counts: Counter[str] = Counter()
        self.unchecked: dict[str, None] = {}

    def equal(
        self, what: str, address: str, axes: Sequence[str], expected: np.ndarray, found: np.ndarray, count_as: str = ""
    ) -> None:
        """Compare two integer arrays whose axes are called `axes`, such as `("kij", "nij", "col")`."""
        if expected.shape != found.shape:
            raise ComparisonError(f"{self.path}: {address}: {what} must have shape {expected.shape}, not {found.shape}")
        wrong = np.argwhere(expected != found)
        if len(wrong):
            place = tuple(int(i) for i in wrong[0])
            where = ", ".join([address, *(f"{axis} {index}" for axis, index in zip(axes, place, strict=True))])
            raise ComparisonError(
                f"{self.path}: {where}: {what} must be {expected[place]}, not {found[place]} "
                f"({len(wrong)} of {expected.size} values here differ)"
            )
        self.counts[count_as or what] += expected.size

    def skip(self, reason: str) -> None:
        """Note, once, something that could not be checked."""
        self.unchecked.setdefault(reason)

    def report(self, recovered: tuple[Recovered, ...] = ()) -> VerifyReport:
        """Return the report; raise ComparisonError where nothing was compared."""
        if not self.counts.total():
            raise ComparisonError(f"{self.path}: nothing was compared")
        return VerifyReport(self.path, dict(self.counts), tuple(self.unchecked), recovered)
