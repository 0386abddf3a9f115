"""Vectors for the bins that a coverage says are missing: the corner cases that hit them, or why none does."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import islice

import numpy as np
from jaxtyping import Bool

from factory.coverage.layer import LayerCounter
from factory.coverage.record import Coverage, PointCoverage
from factory.coverage.sources import layer_counter
from factory.dataflow import KnownLayer, dataflow_named
from factory.spec import CodedLayer, CodedNetwork, ConvLayer, InputError
from factory.synthetic import base_layer, dense_network

_SHOWN = 3
"""How many of the bins that stay missing are named."""


def missing_network(coverage: Coverage, signed: bool | None = None) -> CodedNetwork:
    """Return the corner cases that hit what a coverage says is missing, with a note for each point that stays so.

    The layers have weights of their own. Codes have the bits of the coverage, and a sign where `signed` (None: where
    the coverage has no code that only unsigned ones have). Raise InputError where nothing is missing, or none of it can
    be hit.
    """
    wanted = {name: point for name, point in coverage.total.points.items() if point.missing.any()}
    if not wanted:
        raise InputError(f"{coverage.source}: at least one bin must be missing, none is")
    spec = _spec(coverage, signed)
    weights, codes = (_codes(wanted, axis) for axis in ("weight", "activation"))
    low, high = spec.code_range
    most = {-spec.weight_qmax - 1, spec.weight_qmax}  # whose sums have the largest bounds there are
    network = dense_network(coverage.array, spec, sorted({*weights, *most}), [x for x in codes if low <= x <= high])
    counters = [_counter(layer, coverage) for layer in network.layers]
    images = range(len(network.images))
    left = np.concatenate([point.missing.reshape(-1) for point in wanted.values()])
    each = [np.logical_or.reduce([_hits(counter, image, wanted) for image in images]) for counter in counters]
    layers, places = [], set()
    while (gains := [int(np.count_nonzero(hits & left)) for hits in each]) and max(gains):
        layers.append(gains.index(max(gains)))
        for image in images:
            hits = _hits(counters[layers[-1]], image, wanted) & left
            if hits.any():
                places.add(image)
                left &= ~hits
    notes = tuple(_notes(wanted, left, counters))
    if not layers:
        raise InputError(f"{coverage.source}: no corner case hits what is missing: {'; '.join(notes)}")
    kept = sorted(places)
    return CodedNetwork(
        "missing",
        tuple(replace(x, activation=x.activation[kept]) for x in (network.layers[layer] for layer in sorted(layers))),
        tuple(network.images[place] for place in kept),
        notes=notes,
        patterns=tuple(network.patterns[place] for place in kept),
    )


def _spec(coverage: Coverage, signed: bool | None) -> ConvLayer:
    """Return the layer that corner cases are made for: with the bits that the coverage's pairs have."""
    axes = coverage.total.points["pair"].axes
    codes = axes["activation"]
    signed = codes[0] < 0 and codes[-1] < -codes[0] if signed is None else signed
    bits = (-codes[0] - 1 if signed else codes[-1]).bit_length() + signed
    fields = dict(weight_bits=axes["weight"][-1].bit_length() + 1, activation_bits=max(bits, 1 + signed))
    return base_layer(coverage.array, signed=signed, **fields)


def _codes(wanted: dict[str, PointCoverage], axis: str) -> list[int]:
    """Return the codes of an operand of which a pair is missing."""
    if "pair" not in wanted:
        return []
    point = wanted["pair"]
    others = tuple(at for at, name in enumerate(point.axes) if name != axis)
    return [code for code, there in zip(point.axes[axis], point.missing.any(axis=others), strict=True) if there]


def _counter(layer: CodedLayer, coverage: Coverage) -> LayerCounter:
    low, high = (np.full(layer.spec.in_channels, end, np.int16) for end in layer.spec.code_range)
    known = KnownLayer(layer.spec, layer.weight, layer.activation, layer.threshold, layer.direction)
    return layer_counter(known, coverage.array, dataflow_named(coverage.dataflow), low, high)


def _hits(counter: LayerCounter, image: int, wanted: dict[str, PointCoverage]) -> Bool[np.ndarray, " bin"]:
    """Return which bins of some points an image hits, those of one point after the other."""
    found = counter.count(image)
    return np.concatenate([
        _onto(point, counter.universes[name].axes, found[name]).reshape(-1)
        if name in found
        else np.zeros(point.hits.size, bool)
        for name, point in wanted.items()
    ])  # fmt: skip


def _onto(point: PointCoverage, axes: dict[str, Sequence], bins: np.ndarray) -> np.ndarray:
    """Return bins with some axes as those of a point, of which they may lack labels, and have others."""
    for at, (axis, labels) in enumerate(point.axes.items()):
        places = [axes[axis].index(label) if label in axes[axis] else -1 for label in labels]
        there = np.array(places) >= 0
        bins = bins.take(places, axis=at) & there.reshape([-1 if axis == at else 1 for axis in range(bins.ndim)])
    return bins


def _notes(wanted: dict[str, PointCoverage], left: np.ndarray, counters: Sequence[LayerCounter]) -> Iterator[str]:
    """Yield a line for each point of which bins stay missing, with the reason."""
    start = 0
    for name, point in wanted.items():
        bins = left[start : start + point.hits.size].reshape(point.hits.shape)
        start += point.hits.size
        if bins.any():
            shown = ["{" + ", ".join(map(str, labels.values())) + "}" for labels in islice(point.labels(bins), _SHOWN)]
            more = ", ..." if bins.sum() > _SHOWN else ""
            yield f"{name}: {bins.sum()} stay missing ({', '.join(shown)}{more}): {_why(name, counters)}"


def _why(name: str, counters: Sequence[LayerCounter]) -> str:
    inside = {counter.point_name(kind) for counter in counters for kind in counter.inside.none()}
    if name in inside:
        ends = [counter.inside.ends for counter in counters]
        low, high = min(low for low, _ in ends), max(high for _, high in ends)
        return f"no corner case hits them; sums inside the array are {low}..{high} at most, whatever the weights"
    return "no corner case hits them"
