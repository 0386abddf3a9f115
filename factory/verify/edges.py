"""What crosses an array's edges, by a path of its own: each lane's words put into the cycles in which they cross.

The cycles follow from the array: a word meets each row as long after the row above as a sum needs there, each column a
cycle after the one on its left, and a sum is seen some cycles after the last row.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from itertools import accumulate, product, repeat
from math import prod
from typing import Any, NamedTuple

import numpy as np

from factory.manifest import MANIFEST
from factory.spec import ComparisonError, InputError
from factory.verify.dataflows import Values
from factory.verify.reference import Adders
from factory.verify.rule import ADDRESSES, VALID
from factory.verify.selected import EXACT_BITS, ExpectedVectors, SelectedLayer, pick

DEFAULTS: Mapping[str, Any] = {
    "content": "value", "skew": "diagonal", "order": "map", "sequence": [], "gap": 0, "load": 0, "row0_first": False,
    "depth": 1, "drain": 1, "double_buffered": False, "offset": 0,
}  # fmt: skip
"""The keys of a layout's `edge`, which `factory.dataflow.EdgeSchedule` describes, and what they are where absent."""
KNOWN = {
    "content": ("value", VALID, "value+valid", ADDRESSES), "skew": ("diagonal", "none"),
    "order": ("map", "pixels", "window"),
}  # fmt: skip
COUNTS, MOST_CYCLES = ("gap", "load", "depth", "drain"), 1 << 16
GEOMETRY = (VALID, ADDRESSES)
"""Contents that no code changes."""
SOUTH = "south"
Vectors = dict[str, tuple[tuple[str, ...], Values]]
"""The names of axes and the array of each role."""


class Stream(NamedTuple):
    """An edge's streams, of which those in sequence are one; `layer` is what their passes are of."""

    layer: SelectedLayer
    axes: tuple[str, ...]
    values: Values
    inexact: int = 0


def schedule_of(layout: Mapping[str, Any], layer: SelectedLayer) -> dict[str, Any]:
    """Return all keys of a layout's `edge`; raise ComparisonError for what cannot be one."""
    given, passes = layout.get("edge", {}), layer.dataflow.passes
    wrong = [key for key, value in given.items() if type(value) is not type(DEFAULTS.get(key))]
    schedule = {**DEFAULTS, **given}
    wrong += [key for key, known in KNOWN.items() if schedule[key] not in known]
    wrong += [key for key in COUNTS if not wrong and not 0 <= schedule[key] <= MOST_CYCLES]
    if not wrong and len(set(schedule["sequence"]) & set(passes)) < len(schedule["sequence"]):
        wrong = ["sequence"]
    if wrong:
        what = f"{wrong[0]} {given[wrong[0]]!r}"
        raise ComparisonError(f"{MANIFEST}: layouts: {layout['name']}: edge must be a schedule, not have {what}")
    return schedule


def blank_vectors(layer: SelectedLayer, adders: Adders, post: str) -> ExpectedVectors:
    """Return the vectors of a layer whose codes are all 0."""
    spec = layer.spec
    activation = layer.cut_activation(np.zeros((spec.in_channels, spec.height, spec.width), np.int64))
    weight = layer.cut_weight(np.zeros(spec.weight_shape, np.int64))
    return ExpectedVectors(layer, adders, post, activation, weight)


def edge_stream(name: str, schedule: Mapping[str, Any], made: ExpectedVectors) -> Stream:
    """Return the streams of an edge, `west`, `north` or `south`, of one image."""
    content, layer = schedule["content"], made.layer
    numbers = {} if content == "value" else _numbers(schedule, layer)
    if schedule["order"] == "window":
        layer = window_layer(layer)
    crossing = numbers if content in GEOMETRY else _values(name, schedule, made)
    stream = _in_time(name, schedule, layer, crossing)
    if content == VALID:
        return stream._replace(values=np.minimum(stream.values, 1))
    if content == ADDRESSES:
        return stream._replace(values=np.where(stream.values > 0, stream.values + schedule["offset"] - 1, -1))
    if name == SOUTH:
        exact = _values(name, schedule, replace(made, adders=Adders(EXACT_BITS, "wrap")))
        differs = _in_time(name, schedule, layer, exact).values != stream.values
        stream = stream._replace(inexact=int(np.count_nonzero(differs)))
    if content == "value":
        return stream
    valid = np.minimum(_in_time(name, schedule, layer, numbers).values, 1)
    return stream._replace(values=stream.values * 2 + valid)


def window_layer(layer: SelectedLayer) -> SelectedLayer:
    """Return the 1x1 convolution of the output map whose input channels are a layer's window."""
    spec, tile = layer.spec, layer.dataflow.inputs
    if not layer.is_whole_sum:
        raise ComparisonError("edge: order window must have every kij and input channel")
    try:
        window = replace(
            spec, in_channels=spec.in_channels * spec.kij_count, height=spec.out_height, width=spec.out_width, kernel=1,
            stride=1, padding=0, dilation=1, groups=1,
        )  # fmt: skip
    except InputError as error:
        raise ComparisonError(str(error)) from None
    tiles = tuple(range(tile.count(window.in_channels, layer.array)))
    return replace(layer, spec=window, selection={**layer.selection, "kij": (0,), tile.axes[0]: tiles})


def _values(name: str, schedule: Mapping[str, Any], made: ExpectedVectors) -> Vectors:
    """Return the codes that the array reads, or its sums, with the axes that passes, words and lanes are of."""
    layer, activation, weight = made.layer, made.activation, made.weight
    if schedule["order"] == "window":
        activation, weight = _window(layer, activation, weight)
        layer = window_layer(layer)
        made = replace(made, layer=layer, activation=activation, weight=weight)
    role, known = layer.dataflow.edges[name].role, layer.dataflow.axes
    found = {"activation": activation, "weight": weight}
    if role not in found:
        found[role] = made.psum if layer.dataflow.psum else made.accumulator
    return _by_pixel(schedule, layer, {role: (known[role], values) for role, values in found.items()})


def _numbers(schedule: Mapping[str, Any], layer: SelectedLayer) -> Vectors:
    """Return one more than the addresses of codes and sums, and 0 where a lane has none; axes are as of `_values`."""
    spec, flow = layer.spec, layer.dataflow
    channels, outputs = spec.in_channels, spec.out_channels
    maps = np.arange(1, spec.nij_count * channels + 1).reshape(-1, channels).T
    weight = np.arange(1, spec.out_channels * spec.kij_count * channels + 1)
    weight = layer.cut_weight(weight.reshape(outputs, *spec.kernel, channels).transpose(0, 3, 1, 2))
    activation = flow.stream(layer, pick(maps, layer.inputs, 0))
    if schedule["order"] == "window":
        activation, weight = _window(layer, activation, weight)
        layer = window_layer(layer)
    found = {"activation": (flow.axes["activation"], activation), "weight": (flow.axes["weight"], weight)}
    found = _by_pixel(schedule, layer, found)
    by_map = not any("onij" in axes for axes, _ in found.values())
    pixels = range(layer.spec.nij_count) if by_map else layer.pixels
    sums = np.arange(1, outputs * max(layer.spec.nij_count, spec.onij_count) + 1).reshape(-1, outputs)
    sums = pick(sums[list(pixels)].T, layer.outputs, 0)
    tiles = (len(layer.selection[flow.outputs.axes[0]]), flow.outputs.lanes(layer.array))[: len(flow.outputs.axes)]
    axes = (*flow.outputs.axes, "nij" if by_map else "onij")
    return found | {flow.edges[SOUTH].role: (axes, sums.reshape(*tiles, -1))}


def _window(layer: SelectedLayer, activation: Values, weight: Values) -> tuple[Values, Values]:
    """Return both operands of a layer as those of its `window_layer`."""
    flow, ordered = layer.dataflow, window_layer(layer)
    maps = layer.join("activation", activation, ("ic", "kij", "onij") if flow.pixels else ("ic", "nij"))
    maps = maps if flow.pixels else maps[:, layer.reads]  # (ic, kij, onij)
    kernel = layer.join("weight", weight, ("ic", "kij", "oc"))
    laid = []
    for operand in (maps, kernel):
        rows = operand[: layer.spec.in_channels].swapaxes(0, 1).reshape(ordered.spec.in_channels, -1)
        laid.append(pick(rows, ordered.inputs, 0))
    first = (laid[0][:, None], ("ic", "kij", "onij")) if flow.pixels else (laid[0], ("ic", "nij"))
    return ordered.lay("activation", *first), ordered.lay("weight", laid[1][:, None], ("ic", "kij", "oc"))


def _by_pixel(schedule: Mapping[str, Any], layer: SelectedLayer, vectors: Vectors) -> Vectors:
    """Return the vectors with the pixel that each output reads at each `kij` where these stream in place of the map."""
    found = dict(vectors)
    for role, (axes, values) in vectors.items():
        if schedule["order"] == "pixels" and "nij" in axes:
            rest = tuple(axis for axis in axes if axis not in ("nij", "kij"))
            moved = values.transpose([axes.index(axis) for axis in (*({"kij"} & set(axes)), "nij", *rest)])
            by_kij = moved if "kij" in axes else repeat(moved)
            read = [part[places] for part, places in zip(by_kij, layer.reads, strict=False)]
            found[role] = ("kij", "onij", *rest), np.stack(read)
    return found


def _in_time(name: str, schedule: Mapping[str, Any], layer: SelectedLayer, vectors: Vectors) -> Stream:
    """Return an edge's streams of what crosses it, 0 where nothing does."""
    flow, rule = layer.dataflow, layer.dataflow.edges[name]
    axes, values = vectors[rule.role]
    if flow.pixels is not None and "onij" in axes:
        axes, values = layer.split_pixels(axes, values, layer.tile_pixels)
    words = [axis if axis in axes else "onij" for axis in rule.words]
    starts, period, cycles, last_first = _timing(name, schedule, layer)
    sizes = {axis: len(layer.selection[axis]) for axis in flow.passes}
    inner = list(schedule["sequence"])
    outer = [axis for axis in flow.passes if axis not in inner]
    out = np.zeros((*(sizes[axis] for axis in outer), cycles, len(starts)), np.int64)
    moved = values.transpose([axes.index(x) for x in (*(x for x in axes if x in sizes), *words, rule.lane)])
    fixed = [axis for axis in axes if axis in sizes]
    for at in product(*(range(sizes[axis]) for axis in outer)):
        for number, then in enumerate(product(*(range(sizes[axis]) for axis in inner))):
            place = dict(zip((*outer, *inner), (*at, *then), strict=True))
            table = moved[tuple(place[axis] for axis in fixed)].reshape(-1, len(starts))
            for lane, start in enumerate(starts):
                column = table[::-1, lane] if last_first else table[:, lane]
                begin = start + number * period
                out[(*at, slice(begin, begin + len(column)), lane)] = column
    return Stream(layer, (*outer, "cycle", rule.lane), out)


def _timing(name: str, schedule: Mapping[str, Any], layer: SelectedLayer) -> tuple[list[int], int, int, bool]:
    """Return an edge's first cycle in each lane, the cycles from pass to pass and in all, and whether words are turned.

    A word of the last lane is the last to cross.
    """
    array, flow, depth = layer.array, layer.dataflow, schedule["depth"]
    sizes = {axis: len(places) for axis, places in layer.selection.items()} | {"nij": layer.spec.nij_count}
    if schedule["order"] == "pixels":
        sizes["nij"] = layer.spec.onij_count
    words, rows, columns = prod(sizes[axis] for axis in flow.edges["west"].words), array.rows, array.cols
    skewed = schedule["skew"] == "diagonal"
    if flow.psum:
        load = schedule["load"] or rows
        meets = list(accumulate([load] + [depth] * (rows - 1)))  # the cycle in which column 0 of each row has a word
        enters, turned, leaving = [0] * columns, {"north": not schedule["row0_first"]}, words
        room = max(words, meets[-1] + columns - 1)
    else:
        load, leaving, turned = rows, rows, {SOUTH: True}
        meets = list(range(rows))
        enters = list(range(columns))
        room = words - 1 + meets[-1] + columns
    if load < rows:
        raise ComparisonError(f"edge: load must be at least {rows}, not {load}")
    seen = meets[-1] + depth - 1 + schedule["drain"] + (0 if flow.psum else words - 1)
    starts = {"west": meets, "north": enters, SOUTH: [seen + column for column in range(columns)]}
    if not skewed:
        starts = {edge: [(max if edge == SOUTH else min)(held)] * len(held) for edge, held in starts.items()}
    length = starts[SOUTH][-1] + leaving
    period = (room if schedule["double_buffered"] else length) + schedule["gap"]
    passes = prod(sizes[axis] for axis in schedule["sequence"])
    return starts[name], period, (passes - 1) * period + length, turned.get(name, False)
