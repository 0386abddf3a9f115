"""Figures of a network and its layers: the graph, histograms beside exact bounds, heat maps of a tile."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Int64, Integer, Shaped

from factory.audit import LayerAudit, audit
from factory.plot.style import (
    BLUE,
    CODES,
    EDGE,
    FAINT,
    GREY,
    ORANGE,
    PAPER,
    RED,
    SIGNED,
    bare,
    drawn,
    new_figure,
    placed,
)
from factory.spec import IMAGE, ConvLayer, InputError, LayerSet, Network, Range, Stem, SystolicArray, step_inputs
from factory.store import LayerStore

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_BINS = 256
_FOLDED = 144
"""Pixels of a padded map from which on it is drawn as a map for each lane, not as a line."""
_PER_LINE = 5
_BOX = 0.76
"""Width of a layer's box, the next one's beginning 1 further on."""


@drawn
def network(described: LayerSet | LayerStore, array: SystolicArray | None = None) -> Figure:
    """Draw a network as a graph, in the order of its layers: shapes, bits, tiles, and what reads what.

    A layer whose codes are given has nothing before it. The array is by default the store's, or one of 8 x 8.
    """
    if not isinstance(described, LayerSet):
        array, described = array or described.array, described.network
    array = array or SystolicArray()
    steps = list(described.steps if isinstance(described, Network) else described.layers)
    lines = -(-len(steps) // _PER_LINE)
    figure = new_figure(0.2 + 0.95 * lines)
    axes = figure.add_subplot()
    axes.set(xlim=(-0.06, _PER_LINE - 0.2), ylim=(0.36 - lines, 0.56))
    bare(axes)
    places = {step.name: (n % _PER_LINE, -(n // _PER_LINE)) for n, step in enumerate(steps)}
    for step in steps:
        x, y = places[step.name]
        _box(axes, x, y, step, described, array)
        for source in step_inputs(step):
            if source in places:
                _arrow(axes, places[source], (x, y))
            elif source == IMAGE:
                axes.text(x, y + 0.37, "image ↓", color=FAINT, fontsize=7.5, va="bottom")
    return figure


def _arrow(axes: Axes, start: tuple[int, int], end: tuple[int, int]) -> None:
    """Draw an arrow between boxes: straight to the next one, over the boxes between, or down the gap between lines."""
    from matplotlib.patches import FancyArrowPatch
    from matplotlib.path import Path

    (x, y), (to_x, to_y) = start, end
    if y == to_y and x + 1 == to_x:
        corners = [(x + _BOX, y), (to_x, y)]
    elif y == to_y:
        corners = [(x + 0.55, y + 0.33), (x + 0.55, y + 0.43), (to_x + 0.15, y + 0.43), (to_x + 0.15, y + 0.33)]
    else:
        gap = to_y + 0.5
        corners = [(x + 0.4, y - 0.33), (x + 0.4, gap), (to_x + 0.25, gap), (to_x + 0.25, to_y + 0.33)]
    axes.add_patch(FancyArrowPatch(
        path=Path(corners), arrowstyle="-|>", mutation_scale=7, color=GREY, linewidth=1, fill=False, joinstyle="round",
    ))  # fmt: skip


def _box(axes: Axes, x: int, y: int, step: Any, described: LayerSet, array: SystolicArray) -> None:
    from matplotlib.patches import FancyBboxPatch

    layer = isinstance(step, ConvLayer)
    axes.add_patch(FancyBboxPatch(
        (x + 0.02, y - 0.31), _BOX - 0.04, 0.62, boxstyle="round,pad=0.02,rounding_size=0.04", facecolor=PAPER,
        edgecolor=BLUE if layer else ORANGE, linewidth=1.1,
    ))  # fmt: skip
    axes.text(x + 0.05, y + 0.16, step.name, weight="bold", va="center", fontsize=8 if len(step.name) < 18 else 6)
    if not layer:
        channels, height, width = described.map_shape(step.name)
        texts = ["stem" if isinstance(step, Stem) else "stream", f"{channels} ch · {height}×{width}"]
    else:
        pool = f" · pool {step.pool}" if step.pool > 1 else ""
        sign = "s" if step.signed else "u"
        tiles = array.input_tiles(step.in_channels), array.output_tiles(step.out_channels)
        texts = [
            f"{step.in_channels} → {step.out_channels} · {step.height}×{step.width}",
            f"{step.kernel[0]}×{step.kernel[1]} · a {sign}{step.activation_bits} · w s{step.weight_bits}",
            f"it × ot {tiles[0]}×{tiles[1]}{pool}",
        ]
    for line, text in enumerate(texts):
        axes.text(x + 0.05, y + 0.03 - 0.13 * line, text, va="center", fontsize=7, color=FAINT)


def value_counts(parts: Iterable[Integer[np.ndarray, ...]], held: Range) -> tuple[Int64[np.ndarray, " bin"], int]:
    """Return how many values lie in each bin of a range, and a bin's width, a power of two that gives few bins.

    Bin `n` holds `held.low + n * width` and the `width - 1` values above it.
    """
    shift = max(0, (held.high - held.low) // _BINS).bit_length()
    counts = np.zeros(((held.high - held.low) >> shift) + 1, np.int64)
    for part in parts:
        places = (part.astype(np.int64) - held.low) >> shift
        counts += np.bincount(places.reshape(-1), minlength=len(counts))
    return counts, 1 << shift


@drawn
def histograms(
    store: LayerStore, layer: str, images: Sequence[int] = (0,), audited: LayerAudit | None = None
) -> Figure:
    """Draw how often a layer's codes, psums and accumulators have each value, beside what they can have at all.

    Counts have a logarithmic axis. The band is the exact range, lines are the ends of adders, head-room is that of the
    array's. `audited` is the layer's own of `factory.audit.audit`.
    """
    held = store.layer(layer)
    audited = audited or next(found for found in audit(store, observe=False) if found.name == layer)
    weights = held.weight[...]
    figure = new_figure(3.95)
    for axes, name, parts, span in zip(
        (placed(figure, 0.45 + 4.5 * (n % 2), 0.25 + 1.8 * (n // 2), 3.95, 1.3) for n in range(4)),
        ("activation codes", "weight codes", "psums", "accumulators"),
        (
            (held.activation[image] for image in images),
            (weights,),
            (held.psum[image, it] for image in images for it in range(held.psum.shape[1])),
            (held.accumulator[image] for image in images),
        ),
        (audited.activation, Range(int(weights.min()), int(weights.max())), audited.psum, audited.accumulator),
        strict=True,
    ):
        _histogram(axes, *value_counts(parts, span), span)
        axes.set_title(f"{name}  {span.low}..{span.high}, {_bits(span.bits)}" if "codes" not in name else name)
    for axes, span in zip(figure.axes[2:], (audited.psum, audited.accumulator), strict=True):
        _adder_lines(axes, span, audited.psum_bits)
    spare = f"{_bits(abs(audited.headroom))} {'of head-room' if audited.headroom >= 0 else 'too few'}"
    running = f"running sums need {_bits(audited.running.bits)}, adders have {audited.psum_bits}"
    figure.axes[3].set_xlabel(f"{running}: {spare}")
    return figure


def _bits(count: int) -> str:
    return f"{count} bit" if count == 1 else f"{count} bits"


def _histogram(axes: Axes, counts: Int64[np.ndarray, " bin"], width: int, span: Range) -> None:
    edges = span.low - 0.5 + width * np.arange(len(counts) + 1)
    axes.stairs(counts, edges, fill=True, color=BLUE, baseline=0.5)
    axes.set_yscale("log", nonpositive="clip")
    axes.set_ylim(0.5, max(2, counts.max()) * 2)
    axes.axvspan(span.low - 0.5, span.high + 0.5, color=EDGE, alpha=0.35, linewidth=0, zorder=0)
    axes.minorticks_off()
    axes.yaxis.set_major_formatter(lambda value, _: _count_text(int(value)))
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.margins(x=0.04)


def _count_text(value: int) -> str:
    for unit, scale in (("G", 10**9), ("M", 10**6), ("k", 10**3)):
        if value >= scale:
            return f"{value // scale}{unit}"
    return str(value)


def _adder_lines(axes: Axes, span: Range, psum_bits: int) -> None:
    """Draw the ends of adders: of the narrowest that holds the range, of the two below it, and of the array's."""
    left, right = axes.get_xlim()
    most = max(abs(left), abs(right), 2.0 ** (span.bits - 1))
    axes.set_xlim(-1.12 * most, 1.12 * most)
    for bits in sorted({span.bits - 2, span.bits - 1, span.bits, psum_bits}):
        end = 2.0 ** (bits - 1)
        if bits < 2 or end > 1.1 * most:
            continue
        colour = RED if bits == psum_bits else ORANGE
        for x in (-end - 0.5, end - 0.5):
            axes.axvline(x, color=colour, linewidth=1, linestyle="-" if bits == psum_bits else (0, (3, 2)))
        axes.annotate(
            f"{bits}b", (end, 1), (-2, 0), axes.get_xaxis_transform(), "offset points", ha="right", va="top",
            fontsize=7, color=colour,
        )  # fmt: skip


def side_by_side(maps: Shaped[np.ndarray, "map y x"]) -> np.ma.MaskedArray:
    """Return maps beside each other with a masked column between them, `(y, map * (x + 1) - 1)`."""
    padded = np.pad(maps, ((0, 0), (0, 0), (0, 1)))
    joined = np.ma.masked_array(padded, np.zeros(padded.shape, bool))
    joined[..., -1] = np.ma.masked
    return joined.transpose(1, 0, 2).reshape(maps.shape[1], -1)[:, :-1]


@drawn
def tile(store: LayerStore, layer: str, image: int = 0, it: int = 0, ot: int = 0, kij: int | None = None) -> Figure:
    """Draw heat maps of a tile: the activations of each row, the weights, the psums of each column, the outputs.

    Activations and psums are lane x nij, or for large maps a padded map for each lane; `kij` (None: the middle one)
    chooses the psums. Weights are col x row for each kij, outputs the accumulators of the tile's channels.
    """
    held, array = store.layer(layer), store.array
    spec, its, ots = held.spec, *held.weight_tile.shape[:2]
    kij = spec.kij_count // 2 if kij is None else kij
    for name, given, count in (("image", image, store.image_count), ("it", it, its), ("ot", ot, ots),
                               ("kij", kij, spec.kij_count)):  # fmt: skip
        if not 0 <= given < count:
            raise InputError(f"{layer}: {name} must be 0 to {count - 1}, not {given}")
    channels = slice(ot * array.cols, (ot + 1) * array.cols)
    sums, outputs = held.psum[image, it, ot, kij].T, held.accumulator[image, channels]
    codes, weight = held.activation_tile[image, it].T, held.weight_tile[it, ot]
    figure = new_figure(5.75)
    where = f"image {image}, it {it}"
    _lanes(figure, 0, codes, spec, "row", code_ends(spec), f"activation  {where}")
    title = f"weight  col ↓ × row →, it {it}, ot {ot}"
    _maps(figure, 1, weight, "kij", title, (-spec.weight_qmax, spec.weight_qmax))
    _lanes(figure, 2, sums, spec, "col", _ends(sums), f"psum  {where}, ot {ot}, kij {kij}")
    _maps(figure, 3, outputs, "col", f"accumulator  image {image}, ot {ot}, before ReLU", _ends(outputs))
    return figure


def code_ends(spec: ConvLayer) -> tuple[int, int]:
    """Return the ends of the colours of activation codes: from 0 on, or as far down as up."""
    low, high = spec.code_range
    return (-max(-low, high), max(-low, high)) if low < 0 else (low, high)


def _ends(values: Integer[np.ndarray, ...]) -> tuple[int, int]:
    most = max(1, int(np.abs(values.astype(np.int64)).max(initial=0)))
    return -most, most


def is_folded(spec: ConvLayer) -> bool:
    """Return whether a layer's pixels are drawn as a map for each lane, because a line would be too long."""
    return spec.nij_count >= _FOLDED


def _lanes(
    figure: Figure, line: int, values: np.ndarray, spec: ConvLayer, lane: str, ends: tuple[int, int], title: str
) -> None:
    if is_folded(spec):
        maps = values.reshape(-1, spec.padded_height, spec.padded_width)
        _maps(figure, line, maps, lane, f"{title}: y ↓ × x → for each {lane}", ends)
        return
    axes = _heat(figure, line, values, ends)
    axes.set(title=f"{title}: {lane} ↓ × nij →", yticks=range(0, len(values), max(1, len(values) // 4)))


def _maps(figure: Figure, line: int, maps: np.ndarray, name: str, title: str, ends: tuple[int, int]) -> None:
    axes = _heat(figure, line, side_by_side(maps), ends, "equal")
    count, width = len(maps), maps.shape[2]
    shown = range(0, count, -(-count // 16))
    places = [n * (width + 1) + (width - 1) / 2 for n in shown]
    axes.set(title=title, yticks=[], xticks=places, xticklabels=[f"{name} {n}" for n in shown], anchor="NW")


def _heat(figure: Figure, line: int, values: np.ndarray, ends: tuple[int, int], aspect: str = "auto") -> Axes:
    """Draw the `line`-th heat map of a figure and its colours."""
    top = 0.25 + 1.42 * line
    axes = placed(figure, 0.3, top, 8.1, 1.0)
    colours = SIGNED if ends[0] < 0 else CODES
    axes.imshow(values, colours, vmin=ends[0], vmax=ends[1], aspect=aspect)
    bar = placed(figure, 8.5, top, 0.09, 1.0)
    bar.imshow(np.linspace(1, 0, 64)[:, None], colours, aspect="auto", extent=(0, 1, *ends))
    bar.set(xticks=[], yticks=sorted({*ends, 0}))
    bar.yaxis.tick_right()
    for each in (axes, bar):
        each.tick_params(length=0)
        each.spines[:].set_visible(False)
    return axes
