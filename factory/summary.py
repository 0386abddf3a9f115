"""What a table says of a network's or a store's layers, of synthetic patterns and of an audit."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice, product

import h5py
import numpy as np

from factory.audit import LayerAudit
from factory.coverage import POINTS, Activity, Coverage, PickedTiles
from factory.dataflow import DATAFLOWS, EDGES, EdgeSchedule, LayerMapping, LayerVectors, operand_fields
from factory.dataflow.edges import edge_toggles, edge_traffic
from factory.lower import lower
from factory.spec import (
    ConvLayer,
    InputError,
    IntegerLayer,
    Progress,
    Range,
    SystolicArray,
    TrainedLayer,
    TrainedNetwork,
    accumulator_range,
    psum_range,
)
from factory.store import LayerStore, Store, StoredLayer
from factory.tables import bytes_text, span, table, wrapped

_FIRST_BINS = 3
"""How many of the bins that are missing are shown."""
_GEOMETRY = ("stride", "padding", "dilation")


@dataclass(frozen=True)
class LayerSummary:
    """What a table says of one layer; ranges are exact bounds from the layer's own weight codes.

    `size` is the bytes that the layer's arrays take in the file; None where there is no store.
    """

    spec: ConvLayer
    array: SystolicArray
    alpha_a: np.float32 | None
    alpha_w: np.float32 | None
    activation: Range
    weight: Range
    psum: Range
    accumulator: Range
    size: int | None

    @property
    def tiles(self) -> tuple[int, int]:
        """`(it, ot)` counts."""
        return self.array.input_tiles(self.spec.in_channels), self.array.output_tiles(self.spec.out_channels)


def summarize(source: TrainedNetwork | LayerStore) -> list[LayerSummary]:
    """Summarize every layer of a trained network (on an 8x8 array) or of a store (on its own)."""
    if not isinstance(source, TrainedNetwork):
        return [_summary(layer, layer, source.array, _storage(layer)) for layer in source.layers.values()]
    integer = lower(source)
    return [_summary(integer.layers[name], layer, SystolicArray(), None) for name, layer in source.layers.items()]


def _summary(
    integer: IntegerLayer | StoredLayer, alphas: TrainedLayer | StoredLayer, array: SystolicArray, size: int | None
) -> LayerSummary:
    weight, low, high = integer.weight[...], integer.activation_low, integer.activation_high
    return LayerSummary(
        spec=integer.spec,
        array=array,
        alpha_a=alphas.alpha_a,
        alpha_w=alphas.alpha_w,
        activation=Range(int(low.min()), int(high.max())),
        weight=Range(int(weight.min()), int(weight.max())),
        psum=psum_range(array, weight, low, high, integer.spec.zero_point),
        accumulator=accumulator_range(integer.spec, weight, low, high),
        size=size,
    )


def _storage(layer: StoredLayer) -> int | None:
    values = (getattr(layer, field.name) for field in dataclasses.fields(layer))
    return sum(value.id.get_storage_size() for value in values if isinstance(value, h5py.Dataset)) or None


def layer_table(summaries: Iterable[LayerSummary], width: int = 0) -> str:
    """Return the table of layers that `factory show` prints; `width` is as `table` takes it."""
    groups = (
        ("layer",),
        ("channels", "map", "kernel", "it x ot", "bits a/w"),
        ("alpha a", "alpha w", "a codes", "w codes"),
        ("psum", "accumulator", "size"),
    )
    rows = []
    for item in summaries:
        spec = item.spec
        sign = "s" if spec.signed else "u"
        rows.append(
            (
                spec.name,
                f"{spec.in_channels} -> {spec.out_channels}",
                f"{spec.height}x{spec.width}",
                kernel_text(spec),
                "{} x {}".format(*item.tiles),
                f"{sign}{spec.activation_bits}/s{spec.weight_bits}",
                _alpha(item.alpha_a),
                _alpha(item.alpha_w),
                span(item.activation),
                span(item.weight),
                f"{span(item.psum)} ({item.psum.bits}b)",
                f"{span(item.accumulator)} ({item.accumulator.bits}b)",
                "-" if item.size is None else bytes_text(item.size),
            )
        )
    return table(groups, rows, width)


def cycle_table(
    source: TrainedNetwork | Store, width: int = 0, toggles: bool = False, progress: Progress | None = None
) -> str:
    """Return the table of `factory show --cycles`: what crosses the edges of the array, by layer and dataflow.

    All passes of a layer come back to back, each loading what it holds by itself, as `EdgeSchedule` has it by default.
    Bytes are those of the values alone. With `toggles`, of a store, there is also how many bits of a lane flip in a
    cycle, on average, for the first image. `width` is as `table` takes it.
    """
    if toggles and not isinstance(source, Store):
        raise InputError("toggles must be of a store, whose codes flip bits, not of weights")
    array = source.array if isinstance(source, Store) else SystolicArray()
    groups = (
        ("layer", "dataflow"),
        ("passes", "cycles", "utilisation"),
        EDGES,
        tuple(f"{name}/cycle" for name in EDGES),
        tuple(f"{name} flips" for name in EDGES) if toggles else (),
    )
    rows, all_rows = [], list(product(source.layers.values(), DATAFLOWS.values()))
    for layer, flow in all_rows:
        spec, mapping = layer.spec, LayerMapping.whole(flow, layer.spec, array)
        traffic = edge_traffic(mapping, EdgeSchedule())
        known = {"activation": spec.activation_bits, "weight": spec.weight_bits}
        bits = {name: known.get(flow.edges[name].role, array.psum_bits) for name in EDGES}
        sizes = [traffic.values[name] * bits[name] / 8 for name in EDGES]
        flips = {}
        if toggles:
            mapping = dataclasses.replace(mapping, fields=operand_fields({}))
            flips = edge_toggles(LayerVectors(mapping, source.layer(spec.name), image=0), bits)
        rows.append(
            (
                spec.name, flow.name, traffic.passes, traffic.cycles, f"{traffic.products:.1%}",
                *(bytes_text(math.ceil(size)) for size in sizes), *(f"{size / traffic.cycles:.2f} B" for size in sizes),
                *(f"{flip:.2f}" for flip in flips.values()),
            )
        )  # fmt: skip
        if progress:
            progress(len(rows), len(all_rows), f"{spec.name} {flow.name}")
    return table(groups, rows, width)


def pattern_table(store: Store, width: int = 0) -> str:
    """Return the table of a synthetic store's patterns: its layers' and images' ids, flags and notes.

    Empty for any other store. `width` is as `table` takes it.
    """
    layers = [layer.pattern for layer in store.layers.values() if layer.pattern]
    patterns = [("weights", layers), ("activations", store.images.patterns)]
    rows = [(x.id, kind, ",".join(x.flags), x.note) for kind, held in patterns for x in held]
    return table((("id",), ("of", "flags"), ("note",)), rows, width) if rows else ""


def _alpha(value: np.float32 | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def audit_table(audits: Sequence[LayerAudit], width: int = 0) -> str:
    """Return the table of an overflow audit that `factory audit` prints; `width` is as `table` takes it."""
    groups = (
        ("layer",),
        ("psum", "bits", "accumulator", "bits"),
        ("running", "bits", "head-room", "adder"),
        ("psum seen", "accumulator seen"),
        ("codes that do not fit",),
        ("first wrap at",),
    )
    rows = []
    for item in audits:
        worst = [cell for x in (item.psum, item.accumulator, item.running) for cell in (span(x), x.bits)]
        seen = item.observed
        found = ("-", "-") if seen is None else (span(seen.psum), span(seen.accumulator))
        unfit = f"{item.unfit_values} values" if seen is None else f"{seen.unfit} of {seen.codes}"
        adder = f"{item.psum_bits}b"
        rows.append((item.name, *worst, item.headroom, adder, *found, unfit, item.first_wrap or "never"))
    return table(groups, rows, width)


def coverage_table(coverage: Coverage, width: int = 0) -> str:
    """Return what `factory coverage` prints: all layers as one, and lines on what is missing, and what cannot be."""
    total = coverage.total
    rows, lines = [], []
    for name, point in total.points.items():
        counts = point.counts
        numbers = (counts.bins, counts.hit, counts.unreachable, counts.missing)
        meaning = POINTS[name].meaning if name in POINTS else ""
        rows.append((name, *numbers, f"{math.floor(1000 * counts.share) / 10:.1f} %", meaning))
        lines += [f"unreachable: {name}: {bins.sum()}: {reason}" for reason, bins in point.reasons.items()]
        if counts.missing:
            first = list(islice(point.labels(point.missing), _FIRST_BINS))
            shown = "; ".join(" ".join(f"{axis} {label}" for axis, label in bin.items()) for bin in first)
            lines.append(f"missing: {name}: {shown}{'; ...' if counts.missing > len(first) else ''}")
    array = coverage.array
    on = f"{coverage.source}: {coverage.dataflow} on {array.rows} x {array.cols}, adders of {array.psum_bits} bits, "
    of = f"layers: {len(coverage.layers)}, images: {total.images}"
    groups = (("point",), ("bins", "hit", "unreachable", "missing", "of reachable"), ("what",))
    return "\n".join([on + of, table(groups, rows, width), *(wrapped(line, width) for line in lines)])


def selection_table(selection: PickedTiles, width: int = 0) -> str:
    """Return what `factory coverage --pick` prints: the picks with the curve of coverage over cost, and the bound."""
    share = [f"{math.floor(10000 * bins / max(1, selection.reachable)) / 100:.2f} %" for _, bins in selection.curve]
    rows = [
        (pick.layer, pick.image, *pick.tiles.values(), cost, pick.new, pick.sole, part)
        for pick, (cost, _), part in zip(selection.picks, selection.curve, share, strict=True)
    ]
    axes = list(selection.picks[0].tiles) if selection.picks else []
    groups = (("layer", "image", *axes), (selection.cost, "new bins", "alone", "covered"))
    return "\n".join([
        table(groups, rows, width),
        wrapped(
            f"{len(selection.picks)} of {selection.candidates} tiles cover {selection.covered} of the "
            f"{selection.reachable} bins that all of them hit, for {selection.total_cost} {selection.cost}; all that "
            f"they hit cannot be had for less than {selection.least_cost}",
            width,
        ),
    ])  # fmt: skip


def activity_table(activity: Activity, width: int = 0) -> str:
    """Return the table of buses that `factory coverage --activity` prints, beside that of random activations."""
    rows = []
    for bus, real in activity.buses.items():
        random = activity.random[bus]
        untouched = int((real.toggles == 0).sum())
        ratio = f"{random.hamming / real.hamming:.2f}" if real.hamming else "-"
        bits = f"{real.toggles.size - untouched} of {real.toggles.size}"
        shares = (f"{100 * x.zero_share:.1f} %" for x in (real, random))
        rows.append((bus, bits, f"{real.hamming:.3f}", f"{random.hamming:.3f}", ratio, *shares))
    groups = (("bus",), ("bits that toggle",), ("bits a word", "random", "ratio"), ("zeros", "random"))
    return table(groups, rows, width)


def kernel_text(spec: ConvLayer) -> str:
    """Return a layer's geometry, `3x3/1+1`: kernel, stride, padding, then dilation (`*2`) and groups (`g8`) if any.

    `@2`: of its source's map it reads one pixel in 2 of each axis.
    """
    sides = {name: ",".join(map(str, np.atleast_1d(x))) for name, x in spec.to_dict().items() if name in _GEOMETRY}
    text = f"{spec.kernel[0]}x{spec.kernel[1]}/{sides['stride']}+{sides['padding']}"
    dilated = f"*{sides['dilation']}" if "dilation" in sides else ""
    read = f" @{spec.source_stride}" if spec.source_stride > 1 else ""
    return text + dilated + (f" g{spec.groups}" if spec.groups > 1 else "") + read
