"""Edge streams: the words that cross the west, north and south edge of the array, cycle by cycle."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from math import prod

import numpy as np
from jaxtyping import Integer

from factory.arithmetic.labelled import Axis, LabelledArray, Selection
from factory.arithmetic.tiling import nij_of_onij, pad_map
from factory.dataflow.mapping import LayerMapping
from factory.dataflow.record import PIXELS, Dataflow, Edge
from factory.dataflow.schedule import EdgeSchedule, PassTimes, lay_in_time
from factory.dataflow.sums import LayerSums, read_pixels
from factory.dataflow.vectors import KnownLayer, LayerVectors
from factory.spec import ConvLayer, InputError

CYCLE = "cycle"
EDGES = ("west", "north", "south")


def edge_axes(name: str) -> Callable[[Dataflow], tuple[str, ...]]:
    """Return the axes of an edge's streams by dataflow, each pass being a stream."""
    return lambda flow: (*flow.pass_axes, CYCLE, flow.edges[name].lane)


def edge_values(name: str) -> Callable[[LayerVectors, str], Iterator[LabelledArray]]:
    """Return what gives an edge's streams, those of one label of the axis `outer` at a time where it is of passes."""

    def values(vectors: LayerVectors, outer: str) -> Iterator[LabelledArray]:
        spec, vectors = vectors.mapping.spec, _in_order(vectors)
        flow, selection = vectors.mapping.dataflow, vectors.mapping.selection
        if outer not in flow.pass_axes or outer in vectors.edge.sequence:
            yield _stream(name, spec, vectors)
            return
        for label in selection[outer]:
            part = replace(vectors.mapping, selection=Selection({**selection, outer: (label,)}))
            yield _stream(name, spec, replace(vectors, mapping=part, own=None))

    return values


def ordered_mapping(mapping: LayerMapping, edge: EdgeSchedule) -> LayerMapping:
    """Return the mapping whose passes the streams are of.

    In the order of windows it is that of a 1x1 convolution of the output map, whose input channels are the kernel's
    window. Raise InputError where only part of the window is selected.
    """
    if edge.order != "window":
        return mapping
    flow, spec, kept = mapping.dataflow, mapping.spec, mapping.selection
    if not mapping.sums_all:
        raise InputError(f"{spec.name}: order window must have every kij and input channel, not a part of them")
    window = replace(
        spec, in_channels=spec.kij_count * spec.in_channels, height=spec.out_height, width=spec.out_width, kernel=1,
        stride=1, padding=0, dilation=1, groups=1,
    )  # fmt: skip
    summed = {*flow.axes(("ic",)), "kij"}
    whole = {axis: tuple(range(count)) for axis, count in flow.counts(window, mapping.array).items()}
    selection = Selection({axis: whole[axis] if axis in summed else kept[axis] for axis in whole})
    return replace(mapping, spec=window, selection=selection)


def pass_times(mapping: LayerMapping, edge: EdgeSchedule) -> tuple[PassTimes, int]:
    """Return the cycles of a pass, and how many passes a stream has, of an `ordered_mapping`."""
    array, words = mapping.array, pass_words(mapping, edge)
    times = edge.times(array.rows, array.cols, words, mapping.dataflow.has_psums)
    return times, prod(len(mapping.selection[axis]) for axis in edge.sequence)


def pass_words(mapping: LayerMapping, edge: EdgeSchedule) -> int:
    """Return how many words enter a lane from the west in a pass, of an `ordered_mapping`."""
    flow, sizes = mapping.dataflow, _sizes(mapping)
    return prod(sizes[axis] for axis in _ordered(flow.edges["west"], flow, edge).words)


def crossing_values(name: str, mapping: LayerMapping, edge: EdgeSchedule) -> int:
    """Return how many values cross an edge in the selected passes of an `ordered_mapping`.

    Lanes that have no channel or pixel have none.
    """
    flow, sizes = mapping.dataflow, _sizes(mapping)
    crossing = _ordered(flow.edges[name], flow, edge)
    axes = {axis: sizes[axis] for axis in (*flow.pass_axes, *crossing.words, crossing.lane)}
    for dim, tiling in {**flow.tilings, PIXELS: flow.pixel_tiling}.items():
        if tiling is not None and tiling.inner in axes:
            real = len(mapping.pixels) if dim == PIXELS else len(mapping.channels_of(dim))
            axes |= {tiling.outer: 1, tiling.inner: real}
    return prod(axes.values())


@dataclass(frozen=True)
class EdgeTraffic:
    """What crosses the edges in all passes of a layer, back to back.

    `values` are those of each edge, lanes that have no channel or pixel having none; `products` is how many of the
    layer's products an element makes in a cycle: 1 where every element always works on one.
    """

    passes: int
    cycles: int
    values: Mapping[str, int]
    products: float


def edge_traffic(mapping: LayerMapping, edge: EdgeSchedule) -> EdgeTraffic:
    """Return what crosses the edges in all selected passes of a layer."""
    spec, array, flow = mapping.spec, mapping.array, mapping.dataflow
    kept = prod(map(len, (mapping.channels, mapping.pixels, mapping.channels_of("ic"), mapping.selection["kij"])))
    edge = replace(edge, sequence=flow.pass_axes)
    mapping = ordered_mapping(mapping, edge)
    times, passes = pass_times(mapping, edge)
    values = {name: crossing_values(name, mapping, edge) for name in EDGES}
    cycles = times.cycles(passes)
    return EdgeTraffic(passes, cycles, values, kept / spec.groups / (cycles * array.rows * array.cols))


def edge_toggles(vectors: LayerVectors, bits: Mapping[str, int]) -> dict[str, float]:
    """Return how many of a lane's bits flip from one cycle to the next, on average, in all passes back to back.

    `bits` are those of each edge's lanes, two's complement; lanes hold 0 where nothing crosses.
    """
    edge = replace(vectors.edge, content="value", sequence=vectors.mapping.dataflow.pass_axes)
    found = {}
    for name in EDGES:
        (stream,) = edge_values(name)(replace(vectors, edge=edge), "")
        flips = np.bitwise_count((stream.values[1:] ^ stream.values[:-1]).astype(np.int64) & (1 << bits[name]) - 1)
        found[name] = float(flips.sum(dtype=np.int64)) / max(flips.size, 1)
    return found


def last_address(spec: ConvLayer, edge: EdgeSchedule) -> int:
    """Return the last address of any edge of a layer."""
    window = spec.kij_count * spec.in_channels
    sizes = (spec.nij_count * spec.in_channels, spec.out_channels * window, spec.nij_count * spec.out_channels)
    return edge.offset + max(*sizes, spec.onij_count * spec.out_channels) - 1


def _sizes(mapping: LayerMapping) -> dict[str, int]:
    return mapping.sizes(pixels=len(mapping.pixels), tile_pixels=mapping.tile_pixels, levels=0)


def _ordered(edge: Edge, flow: Dataflow, schedule: EdgeSchedule) -> Edge:
    """Return an edge whose words are output pixels, where those are streamed in place of the map's."""
    if schedule.order != "pixels":
        return edge
    return replace(edge, words=tuple(PIXELS if axis == "nij" else axis for axis in edge.words))


def _in_order(vectors: LayerVectors) -> LayerVectors:
    """Return the vectors of the `ordered_mapping`."""
    mapping, spec = vectors.mapping, vectors.mapping.spec
    ordered = ordered_mapping(mapping, vectors.edge)
    if ordered is mapping:
        return vectors
    codes = _window_map(pad_map(vectors.source.activation[vectors.image], spec), spec)
    maps = codes.reshape(-1, spec.out_height, spec.out_width)
    source = KnownLayer(ordered.spec, _window_weight(vectors.source.weight[...]), {vectors.image: maps})
    return replace(vectors, mapping=ordered, source=source, tiled=False, own=None)


def _window_map(padded: Integer[np.ndarray, "ic nij"], spec: ConvLayer) -> Integer[np.ndarray, "window onij"]:
    """Return what each output pixel reads, `kij` outside and the input channel inside."""
    return padded[:, nij_of_onij(spec).T].swapaxes(0, 1).reshape(-1, spec.onij_count)


def _window_weight(weight: Integer[np.ndarray, "oc ic ki kj"]) -> Integer[np.ndarray, "oc window 1 1"]:
    return weight.transpose(0, 2, 3, 1).reshape(len(weight), -1, 1, 1)


def _stream(name: str, spec: ConvLayer, vectors: LayerVectors) -> LabelledArray:
    """Return an edge's streams, with the content that the schedule asks for."""
    mapping, edge, flow = vectors.mapping, vectors.edge, vectors.mapping.dataflow
    words, inexact = np.zeros((), np.int64), 0
    if edge.has_values:
        held = _words(name, mapping, edge, _values(name, vectors))
        words, inexact = held.values, held.inexact
    if edge.addresses:
        numbered = _words(name, mapping, edge, _addresses(spec, mapping, edge)).values
        words = np.where(numbered, numbered + (edge.offset - 1), -1)
    elif edge.content != "value":
        role, held = flow.edges[name].role, _addresses(spec, mapping, edge)
        there = replace(held[role], values=(held[role].values > 0).astype(np.int8))
        valid = _words(name, mapping, edge, {role: there}).values
        words = (words.astype(np.int64) << 1) + valid if edge.has_values else valid
    times, _ = pass_times(mapping, edge)
    streams = [axis for axis in flow.pass_axes if axis not in edge.sequence]
    split = words.reshape(*words.shape[: len(streams)], -1, *words.shape[-2:])
    values = lay_in_time(split, getattr(times, name), times, -1 if edge.addresses else 0)
    labels = {axis: mapping.selection[axis] for axis in streams}
    return LabelledArray(values, (*streams, CYCLE, flow.edges[name].lane), labels, inexact)


def _words(name: str, mapping: LayerMapping, edge: EdgeSchedule, held: Mapping[str, LabelledArray]) -> LabelledArray:
    """Return what crosses an edge, of the roles' arrays: axes of passes, those in sequence last; words; lanes."""
    flow, pixel = mapping.dataflow, mapping.dataflow.pixel_tiling
    crossing = _ordered(flow.edges[name], flow, edge)
    array = held[crossing.role]
    if pixel is not None and PIXELS in array.axes:
        array = array.split(PIXELS, pixel.outer, pixel.inner, mapping.lanes(pixel))
    for axis in flow.pass_axes:
        if axis not in array.axes:
            array = array.repeat(axis, len(mapping.selection[axis]))
    streams = [axis for axis in flow.pass_axes if axis not in edge.sequence]
    order = (*streams, *edge.sequence, *crossing.words, crossing.lane)
    values = array.arrange([Axis(axis) for axis in order]).values
    count = values.ndim - len(crossing.words) - 1
    values = values.reshape(*values.shape[:count], -1, values.shape[-1])
    return LabelledArray(values, (*order[:count], "word", crossing.lane), {}, array.inexact)


def _values(name: str, vectors: LayerVectors) -> dict[str, LabelledArray]:
    """Return the values of the role that crosses an edge; operands are those that the array reads, and so exact."""
    mapping, flow = vectors.mapping, vectors.mapping.dataflow
    role, activation = flow.edges[name].role, vectors.activation
    gathered = vectors.edge.order == "pixels" and PIXELS not in activation.axes
    if gathered:
        activation = read_pixels(mapping, activation)
    operands = {"activation": activation, "weight": vectors.weight}
    if role in operands:
        return {role: replace(operands[role], inexact=0)}
    if not flow.has_psums:
        return {role: vectors.accumulator}
    sums = LayerSums(mapping, activation, vectors.weight, vectors.where)
    return {role: next(iter(sums.psums("") if gathered else vectors.psums("")))}


def _addresses(spec: ConvLayer, mapping: LayerMapping, edge: EdgeSchedule) -> dict[str, LabelledArray]:
    """Return one more than the address of every value by its role, and 0 where a lane has no channel or pixel.

    Addresses are those of the layer itself, `spec`: `nij * in_channels + ic` on the padded map,
    `(oc * kij_count + kij) * in_channels + ic` of weights, `pixel * out_channels + oc` of sums.
    """
    flow, ordered = mapping.dataflow, mapping.spec
    dtype = np.int32 if last_address(spec, edge) < np.iinfo(np.int32).max else np.int64  # a layer has many passes
    channels, outputs = (
        np.arange(1, spec.in_channels + 1, dtype=dtype),
        np.arange(1, spec.out_channels + 1, dtype=dtype),
    )
    maps = np.arange(spec.nij_count, dtype=dtype) * spec.in_channels + channels[:, None]
    kernel = np.arange(spec.out_channels * spec.kij_count, dtype=dtype).reshape(spec.out_channels, 1, *spec.kernel)
    weight = kernel * spec.in_channels + channels[:, None, None]
    if ordered is not spec:
        maps, weight = _window_map(maps, spec), _window_weight(weight)
    activation = mapping.cut_map(maps)
    pixel, pixels = PIXELS, mapping.pixels
    if edge.order == "pixels" and PIXELS not in activation.axes:
        activation = read_pixels(mapping, activation)
    elif flow.reads[-1] != PIXELS:
        pixel, pixels = flow.reads[-1], np.arange(ordered.nij_count)
    sums = mapping.tile(LabelledArray(pixels.astype(dtype) * spec.out_channels + outputs[:, None], ("oc", pixel)))
    held = {"activation": activation, "weight": mapping.cut_weight(weight)}
    return held | {edge.role: sums for edge in flow.edges.values() if edge.role not in held}
