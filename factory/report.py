"""Tables for people: a network's layers, an overflow audit, and any other list of records."""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from factory.spec import Array, ConvLayer, IntegerNetwork, Range, accumulator_range, psum_range
from factory.store import Store


@dataclass(frozen=True)
class LayerSummary:
    """What a table says of one layer; ranges are exact bounds from the layer's own weight codes.

    `size` is the bytes that the layer's arrays take in the file; None where there is no store.
    """

    spec: ConvLayer
    array: Array
    alpha_a: float
    alpha_w: float
    activation: Range
    weight: Range
    psum: Range
    accumulator: Range
    size: int | None

    @property
    def tiles(self) -> tuple[int, int]:
        """`(it, ot)` counts."""
        return self.array.input_tiles(self.spec.in_channels), self.array.output_tiles(self.spec.out_channels)


def summarize_layer(
    spec: ConvLayer,
    array: Array,
    weight: np.ndarray,
    low: np.ndarray,
    high: np.ndarray,
    alphas: tuple[float, float],
    size: int | None = None,
) -> LayerSummary:
    """Summarize one layer from its weight codes `(oc, ic, ki, kj)` and its activation codes' range `(ic,)`.

    `alphas` are those of the activations and of the weights.
    """
    return LayerSummary(
        spec=spec,
        array=array,
        alpha_a=float(alphas[0]),
        alpha_w=float(alphas[1]),
        activation=Range(int(low.min()), int(high.max())),
        weight=Range(int(weight.min()), int(weight.max())),
        psum=psum_range(spec, array, weight, low, high),
        accumulator=accumulator_range(spec, weight, low, high),
        size=size,
    )


def summarize_store(store: Store) -> list[LayerSummary]:
    """Summarize every layer that a store holds."""
    return [
        summarize_layer(
            layer.spec,
            store.array,
            layer.weight[...],
            layer.activation_low,
            layer.activation_high,
            (layer.alpha_a, layer.alpha_w),
            layer.storage_size,
        )
        for layer in store.layers.values()
    ]


def summarize_network(integer: IntegerNetwork, alphas: Mapping[str, tuple[float, float]]) -> list[LayerSummary]:
    """Summarize every layer of a lowered network on an 8x8 array; `alphas` are `(alpha_a, alpha_w)` by layer name."""
    return [
        summarize_layer(
            layer.spec, Array(), layer.weight, layer.activation_low, layer.activation_high, alphas[layer.spec.name]
        )
        for layer in integer.layers.values()
    ]


def layer_table(summaries: Iterable[LayerSummary]) -> str:
    """Return the table of layers that `factory show` prints."""
    columns = ("layer", "channels", "map", "kernel", "it x ot", "bits a/w", "alpha a", "alpha w", "a codes", "w codes")
    rows = []
    for item in summaries:
        spec = item.spec
        sign = "s" if spec.signed else "u"
        rows.append(
            (
                spec.name,
                f"{spec.in_channels} -> {spec.out_channels}",
                f"{spec.height}x{spec.width}",
                f"{spec.kernel}x{spec.kernel}/{spec.stride}+{spec.padding}",
                "{} x {}".format(*item.tiles),
                f"{sign}{spec.activation_bits}/s{spec.weight_bits}",
                f"{item.alpha_a:.4f}",
                f"{item.alpha_w:.4f}",
                span(item.activation),
                span(item.weight),
                f"{span(item.psum)} ({item.psum.bits}b)",
                f"{span(item.accumulator)} ({item.accumulator.bits}b)",
                "-" if item.size is None else bytes_text(item.size),
            )
        )
    return table((*columns, "psum", "accumulator", "size"), rows)


def span(values: Range) -> str:
    """Return a range as `low..high`."""
    return f"{values.low}..{values.high}"


def bytes_text(size: int) -> str:
    """Return a number of bytes in decimal units, such as `13.2 MB`."""
    for unit, scale in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if size >= scale:
            return f"{size / scale:.1f} {unit}"
    return f"{size} B"


def table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Return a table as text of its natural width: one line of headings, one line a row, two blanks between columns."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    grid = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for column in columns:
        grid.add_column(column, no_wrap=True)
    for row in rows:
        grid.add_row(*(Text(str(cell)) for cell in row))
    text = io.StringIO()
    Console(file=text, width=1000, color_system=None).print(grid)
    return "\n".join(line.rstrip() for line in text.getvalue().splitlines())
