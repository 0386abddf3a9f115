"""Vectors for the bins that a coverage says are missing: the corner cases that hit them, or why none does."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
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

_FEW_CODES = 32
"""Up to how many codes there are layers, and images, of each, where the pairs of any are missing."""
_SHOWN = 3
"""How many of the bins that stay missing are named."""


def missing_network(coverage: Coverage, signed: bool | None = None) -> CodedNetwork:
    """Return the corner cases that hit what a coverage says is missing, with a note for each point that stays so.

    The layers have weights of their own. Codes have the bits of the coverage, and a sign where `signed` (None: where
    the coverage has no code that only unsigned ones have). Raise InputError where nothing is missing, or none of it can
    be hit.
    """
    points = coverage.total.points
    left, hit = (_flat([getattr(point, name) for point in points.values()]) > 0 for name in ("missing", "hits"))
    if not left.any():
        raise InputError(f"{coverage.source}: at least one bin must be missing, none is")
    spec = _spec(coverage, signed)
    most = {-spec.weight_qmax - 1, spec.weight_qmax}  # whose sums have the largest bounds there are
    weights, codes = (_codes(points["pair"], axis) for axis in ("weight", "activation"))
    low, high = spec.code_range
    network = dense_network(coverage.array, spec, sorted({*weights, *most}), [x for x in codes if low <= x <= high])
    counters, images = [_counter(layer, coverage) for layer in network.layers], range(len(network.images))
    could = [_hits(counter, points, None) for counter in counters]
    reach = list(could)  # of layers that were looked at what they hit, of the others what they could
    seen, layers, places = {}, {}, set()
    while (gains := [int(np.count_nonzero(bins & left)) for bins in reach]) and max(gains):
        best = gains.index(max(gains))
        if best not in seen:
            seen[best] = [_hits(counters[best], points, image) for image in images]
            reach[best] = np.logical_or.reduce(seen[best])
            continue
        layers[best] = seen[best]
        left |= could[best] & ~hit  # what other weights make reachable must be hit, too
        for image, hits in enumerate(layers[best]):
            if (hits & left).any():
                places.add(image)
                hit = np.logical_or.reduce([hit, *(of_layer[image] for of_layer in layers.values())])
                left &= ~hit
        hit = np.logical_or.reduce([hit, *(layers[best][image] for image in places)])
        left &= ~hit
    notes = tuple(_notes(points, left, counters))
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


def _codes(pairs: PointCoverage, axis: str) -> list[int]:
    """Return the codes of an operand of which a pair is missing, or all of few."""
    others = tuple(at for at, name in enumerate(pairs.axes) if name != axis)
    there = pairs.missing.any(axis=others)
    if there.any() and len(there) <= _FEW_CODES:
        return list(pairs.axes[axis])
    return [code for code, missing in zip(pairs.axes[axis], there, strict=True) if missing]


def _counter(layer: CodedLayer, coverage: Coverage) -> LayerCounter:
    low, high = (np.full(layer.spec.in_channels, end, np.int16) for end in layer.spec.code_range)
    known = KnownLayer(layer.spec, layer.weight, layer.activation, layer.threshold, layer.direction)
    return layer_counter(known, coverage.array, dataflow_named(coverage.dataflow), low, high)


def _hits(counter: LayerCounter, points: Mapping[str, PointCoverage], image: int | None) -> Bool[np.ndarray, " bin"]:
    """Return which bins of some points an image hits, or (None) any could, those of one point after the other."""
    could = {name: universe.could for name, universe in counter.universes.items()}
    found = could if image is None else counter.count(image)
    none = np.zeros((), bool)
    return _flat([
        _onto(point, counter.universes[name].axes, found[name])
        if name in found
        else np.broadcast_to(none, point.hits.shape)
        for name, point in points.items()
    ])  # fmt: skip


def _flat(bins: Sequence[np.ndarray]) -> np.ndarray:
    return np.concatenate([each.reshape(-1) for each in bins])


def _onto(point: PointCoverage, axes: dict[str, Sequence], bins: np.ndarray) -> np.ndarray:
    """Return bins with some axes as those of a point, of which they may lack labels, and have others."""
    for at, (axis, labels) in enumerate(point.axes.items()):
        places = [axes[axis].index(label) if label in axes[axis] else -1 for label in labels]
        there = np.array(places) >= 0
        bins = bins.take(places, axis=at) & there.reshape([-1 if axis == at else 1 for axis in range(bins.ndim)])
    return bins


def _notes(points: Mapping[str, PointCoverage], left: np.ndarray, counters: Sequence[LayerCounter]) -> Iterator[str]:
    """Yield a line for each point of which bins stay missing, with the reason."""
    start = 0
    for name, point in points.items():
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
