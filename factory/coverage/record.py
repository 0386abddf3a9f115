"""What a coverage result is: for each layer and cover point the bins, which were hit, and which no input can hit."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from operator import index
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Int64

from factory.coverage import pairs
from factory.dataflow import dataflow_named
from factory.spec import InputError, SystolicArray, parse_ranges

SCHEMA = "factory-coverage-1"
Label = int | str
_SHOWN = 3
"""How many sources of merged coverages are named."""


@dataclass(frozen=True)
class Counts:
    """How the bins of a point divide: `bins == hit + unreachable + missing`."""

    bins: int
    hit: int
    unreachable: int

    @property
    def missing(self) -> int:
        """Bins that were not hit, and of which nothing proves that they cannot be."""
        return self.bins - self.hit - self.unreachable

    @property
    def share(self) -> float:
        """The hit share of what is not proved unreachable; 1 where nothing is left."""
        reachable = self.bins - self.unreachable
        return self.hit / reachable if reachable else 1.0


@dataclass(frozen=True)
class PointCoverage:
    """The bins of one cover point: one for each combination of its axes' labels.

    - `axes`: each axis' labels, in the arrays' order, such as `{"bit": (0, 1, 2), "edge": ("rise", "fall")}`.
    - `hits`: how many vectors (a layer of one image) hit each bin.
    - `unreachable`: bins that no input can hit, with the layer's weights; `reasons` says why, each for some of them.
      A reason's bins are disjoint from those of others, and all reasons' bins are those that are unreachable.
    """

    point: str
    axes: Mapping[str, tuple[Label, ...]]
    hits: Int64[np.ndarray, "*bins"]
    reasons: Mapping[str, Bool[np.ndarray, "*bins"]]

    @property
    def unreachable(self) -> Bool[np.ndarray, "*bins"]:
        """Where a bin is proved unreachable."""
        return reduce(np.logical_or, self.reasons.values(), np.zeros(self.hits.shape, bool))

    @property
    def missing(self) -> Bool[np.ndarray, "*bins"]:
        """Where a bin was not hit, and nothing proves that it cannot be."""
        return (self.hits == 0) & ~self.unreachable

    @property
    def counts(self) -> Counts:
        """How the bins divide."""
        unreachable = self.unreachable & (self.hits == 0)
        return Counts(self.hits.size, int(np.count_nonzero(self.hits)), int(unreachable.sum()))

    def labels(self, where: Bool[np.ndarray, "*bins"]) -> Iterable[dict[str, Label]]:
        """Yield the labels of some bins, by axis."""
        for place in np.argwhere(where):
            yield {axis: labels[i] for (axis, labels), i in zip(self.axes.items(), place.tolist(), strict=True)}

    def over(self, names: Sequence[str]) -> PointCoverage:
        """Return the same with some of the axes alone.

        A bin is hit where it is at any place of the other axes, by as many vectors as at the one where most hit it, and
        unreachable where it is so at all of them.
        """
        others = tuple(at for at, axis in enumerate(self.axes) if axis not in names)
        if not others:
            return self
        none, reasons = self.unreachable.all(axis=others), {}
        for reason, bins in self.reasons.items():
            if (here := bins.any(axis=others) & none).any():
                reasons[reason], none = here, none & ~here
        return PointCoverage(self.point, {axis: self.axes[axis] for axis in names}, self.hits.max(axis=others), reasons)

    def spread(self, axes: Mapping[str, tuple[Label, ...]]) -> PointCoverage:
        """Return the same on axes with more labels; the bins that are new have no hits, and are not there: `NO_BIN`."""
        if axes == self.axes:
            return self
        places = np.ix_(*(list(map(axes[axis].index, labels)) for axis, labels in self.axes.items()))
        shape = tuple(map(len, axes.values()))

        def onto(values: np.ndarray, fill: bool | int) -> np.ndarray:
            wide = np.full(shape, fill, values.dtype)
            wide[places] = values
            return wide

        reasons = {reason: onto(bins, False) for reason, bins in self.reasons.items()}
        none = onto(np.zeros(self.hits.shape, bool), True)
        return PointCoverage(self.point, axes, onto(self.hits, 0), reasons | {NO_BIN: none} if none.any() else reasons)


NO_BIN = "there is no such bin"
"""The reason for bins that only other layers have."""


@dataclass(frozen=True)
class LayerCoverage:
    """The coverage of one layer, or of several as one: `images` were counted."""

    layer: str
    images: int
    points: Mapping[str, PointCoverage]


@dataclass(frozen=True)
class Coverage:
    """What vectors reached: `source` says of what, in which dataflow and on which array (`psum_bits` being audited)."""

    source: str
    dataflow: str
    array: SystolicArray
    layers: tuple[LayerCoverage, ...]

    @property
    def total(self) -> LayerCoverage:
        """All layers as one: a bin is hit where one hits it, and unreachable where it is so in all."""
        images = max((layer.images for layer in self.layers), default=0)
        return replace(union("all", self.layers), images=images)

    def to_json(self) -> dict[str, Any]:
        """Return the result as plain JSON types, which `from_json` takes.

        `hits` are the bins' counts in C order of the axes; the bins of a reason are ranges of places in that order.
        """
        return {
            "schema": SCHEMA,
            "source": self.source,
            "dataflow": self.dataflow,
            "array": {name: getattr(self.array, name) for name in _ARRAY},
            "layers": [
                {"layer": x.layer, "images": x.images, "points": list(map(_to_json, x.points.values()))}
                for x in self.layers
            ],
            "total": {name: _counted(point) for name, point in self.total.points.items()},
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Coverage:
        """Invert `to_json`; raise InputError for anything else."""
        if not isinstance(data, dict) or data.get("schema") != SCHEMA:
            found = data.get("schema", "none") if isinstance(data, dict) else "none"
            raise InputError(f"must be a coverage of schema {SCHEMA}, not {found}")
        try:
            layers = [
                LayerCoverage(x["layer"], index(x["images"]), {p["point"]: _from_json(p) for p in x["points"]})
                for x in data["layers"]
            ]
            array = SystolicArray(*(index(data["array"][name]) for name in _ARRAY))
            return cls(str(data["source"]), dataflow_named(data["dataflow"]).name, array, tuple(layers))
        except (KeyError, TypeError, ValueError, OverflowError, AttributeError) as error:
            raise InputError(f"must be a whole coverage: {error!r}") from None


_ARRAY = ("rows", "cols", "psum_bits")


def read_coverage(path: Path) -> Coverage:
    """Read a coverage that was written as JSON; raise InputError, which begins with the path, for anything else."""
    try:
        return Coverage.from_json(json.loads(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise InputError(f"{path}: must be a coverage: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: must be a coverage in JSON: {error}") from None
    except InputError as error:
        raise InputError(f"{path}: {error}") from None


def merge(coverages: Sequence[Coverage]) -> Coverage:
    """Return several coverages as one, layers of one name being one; raise InputError for other arrays or dataflows.

    A bin is unreachable in a layer where all that have the layer say so: others may have had other weights.
    """
    first, *others = coverages
    for other in others:
        if (other.dataflow, other.array) != (first.dataflow, first.array):
            raise InputError(f"{other.source}: must be of {_on(first)} as {first.source}, not of {_on(other)}")
    by_name: dict[str, list[LayerCoverage]] = {}
    for coverage in coverages:
        for layer in coverage.layers:
            by_name.setdefault(layer.layer, []).append(layer)
    names = list(dict.fromkeys(coverage.source for coverage in coverages))
    source = " + ".join(names[:_SHOWN]) + (f" + {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")
    return replace(first, source=source, layers=tuple(union(name, held) for name, held in by_name.items()))


def _on(coverage: Coverage) -> str:
    array = coverage.array
    return f"{coverage.dataflow} on {array.rows} x {array.cols} with {array.psum_bits} bits"


def union(name: str, layers: Sequence[LayerCoverage]) -> LayerCoverage:
    """Return layers as one of a name: hits and images are added, what is unreachable in all of them stays so."""
    points: dict[str, list[PointCoverage]] = {}
    for layer in layers:
        for point in layer.points.values():
            points.setdefault(point.point, []).append(point)
    joined = {point: _joined(held) for point, held in points.items()}
    return LayerCoverage(name, sum(layer.images for layer in layers), joined)


def _joined(points: Sequence[PointCoverage]) -> PointCoverage:
    if len(points) == 1:
        return points[0]
    axes = {axis: _labels(point.axes.get(axis, ()) for point in points) for axis in points[0].axes}
    # pairs have no processing elements where they have none in one of the layers, or where all codes are too many
    own = pairs.own_axes(axes) if points[0].point == "pair" else axes
    axes = {axis: labels for axis, labels in axes.items() if axis in own and all(axis in x.axes for x in points)}
    points = [point.over(list(axes)) for point in points]
    wide = [point.spread(axes) for point in points]
    hits = np.sum([point.hits for point in wide], axis=0)
    left = np.logical_and.reduce([point.unreachable for point in wide]) & (hits == 0)
    reasons = {}
    said = [each for point in wide for each in point.reasons.items()]
    for reason, bins in sorted(said, key=lambda each: each[0] == NO_BIN):  # a layer that has the bin knows better why
        here = bins & left
        if here.any():
            reasons[reason] = reasons.get(reason, False) | here
            left &= ~here
    return PointCoverage(points[0].point, axes, hits, reasons)


def _labels(each: Iterable[tuple[Label, ...]]) -> tuple[Label, ...]:
    """Return the labels of an axis in any of some layers: numbers ascending, words in the order of the first."""
    found = list(dict.fromkeys(label for labels in each for label in labels))
    return tuple(sorted(found) if all(isinstance(label, int) for label in found) else found)


def _counted(point: PointCoverage) -> dict[str, int]:
    counts = point.counts
    return {name: getattr(counts, name) for name in ("bins", "hit", "unreachable", "missing")}


def _to_json(point: PointCoverage) -> dict[str, Any]:
    return {
        "point": point.point,
        **_counted(point),
        "axes": {axis: list(labels) for axis, labels in point.axes.items()},
        "hits": point.hits.reshape(-1).tolist(),
        "reasons": {reason: _ranges(bins) for reason, bins in point.reasons.items()},
    }


def _from_json(data: Mapping[str, Any]) -> PointCoverage:
    axes = {axis: tuple(labels) for axis, labels in data["axes"].items()}
    shape = tuple(map(len, axes.values()))
    hits = np.array([index(count) for count in data["hits"]], np.int64).reshape(shape)
    if hits.size and hits.min() < 0:
        raise InputError(f"{data['point']}: hits must be 0 or more, not {hits.min()}")
    reasons = {}
    for reason, text in data["reasons"].items():
        bins = np.zeros(hits.size, bool)
        bins[parse_ranges(text, hits.size, f"{data['point']}: bins")] = True
        reasons[reason] = bins.reshape(shape)
    return PointCoverage(data["point"], axes, hits, reasons)


def _ranges(bins: Bool[np.ndarray, "*bins"]) -> str:
    """Return places as text that `parse_ranges` reads, such as `0:4,7`."""
    edges = np.flatnonzero(np.diff(bins.reshape(-1), prepend=False, append=False)).reshape(-1, 2).tolist()
    return ",".join(str(first) if last == first + 1 else f"{first}:{last}" for first, last in edges)
