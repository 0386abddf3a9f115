"""Figures of results: coverage and what is missing of it, the choice of vectors, the board of a regression."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from factory.coverage import Coverage, PickedTiles, PointCoverage
from factory.plot.style import BLUE, EDGE, FAINT, GREEN, GREY, INK, ORANGE, PAPER, RED, drawn, new_figure
from factory.simulate import PASS
from factory.spec import InputError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PARTS = {"hit": BLUE, "unreachable": GREY, "missing": RED}


@drawn
def coverage(found: Coverage, layer: str | None = None) -> Figure:
    """Draw a bar for each cover point of a coverage: the bins that were hit, are proved unreachable, are missing.

    `layer` is one layer's name; None: all as one.
    """
    points = _points(found, layer)
    figure = new_figure(0.6 + 0.24 * len(points))
    axes = figure.add_subplot()
    places = np.arange(len(points))
    left = np.zeros(len(points))
    for part, colour in PARTS.items():
        shares = np.array([getattr(point.counts, part) / max(1, point.counts.bins) for point in points.values()])
        axes.barh(places, shares, left=left, height=0.62, color=colour, label=part, linewidth=0)
        left += shares
    for place, point in enumerate(points.values()):
        counts = point.counts
        text = f"{counts.hit:,} of {counts.bins - counts.unreachable:,}" + (
            f", {counts.missing:,} missing" if counts.missing else ""
        )
        axes.text(1.01, place, text, va="center", fontsize=7.5, color=INK if counts.missing else FAINT)
    axes.set(xlim=(0, 1.32), ylim=(len(points) - 0.4, -0.6), yticks=places, xticks=(0, 0.5, 1))
    axes.set_yticklabels(points, color=INK)
    axes.set_xticklabels(("0", "50 %", "100 % of the bins"))
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    figure.legend(loc="outside lower left", ncols=3)
    return figure


def _points(found: Coverage, layer: str | None) -> Mapping[str, PointCoverage]:
    layers = {each.layer: each for each in found.layers}
    if layer is not None and layer not in layers:
        raise InputError(f"{found.source}: layer must be one of {' '.join(layers)}, not {layer}")
    return (found.total if layer is None else layers[layer]).points


@drawn
def pairs(found: Coverage, layer: str | None = None) -> Figure:
    """Draw, for each processing element, the activation x weight pairs that it multiplied.

    Each square is one processing element, rows down and columns to the right; in it weights go down and activations
    to the right. Where the coverage does not tell elements apart, there is one square. Darker is more often; grey is
    proved unreachable, red is missing.
    """
    from matplotlib.colors import to_rgb

    point = _points(found, layer)["pair"]
    operands = ("weight", "activation")
    lanes = [axis for axis in point.axes if axis not in operands]
    order = [list(point.axes).index(axis) for axis in (*lanes, *operands)]
    arrays = point.hits, point.missing, point.unreachable & (point.hits == 0)
    hits, missing, unreachable = (values.transpose(order) for values in arrays)
    if not lanes:
        hits, missing, unreachable = (values[None, None] for values in (hits, missing, unreachable))
    rows, cols, weights, activations = hits.shape
    colours = _hit_colours(hits)
    colours[unreachable], colours[missing] = to_rgb(EDGE), to_rgb(RED)
    sheet = np.full((rows, weights + 1, cols, activations + 1, 4), 0.0)
    sheet[:, :weights, :, :activations, :3] = colours.transpose(0, 2, 1, 3, 4)
    sheet[:, :weights, :, :activations, 3] = 1
    figure = new_figure(9.0 * rows * (weights + 1) / (cols * (activations + 1)) + 0.5)
    axes = figure.add_subplot()
    axes.imshow(sheet.reshape(rows * (weights + 1), cols * (activations + 1), 4)[:-1, :-1], aspect="equal")
    where = f"each processing element: {lanes[0]} ↓ × {lanes[1]} →, in each" if lanes else "any processing element:"
    axes.set_title(f"pairs in {where} weight ↓ × activation →")
    axes.set(xticks=[], yticks=[])
    for axis, name, count, size in zip(
        (axes.yaxis, axes.xaxis), lanes, (rows, cols), (weights, activations), strict=False
    ):
        axis.set_ticks([n * (size + 1) + size / 2 for n in range(count)], [f"{name} {n}" for n in range(count)])
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    return figure


def _hit_colours(hits: np.ndarray) -> np.ndarray:
    """Return colours of counts, from light to dark with their logarithm."""
    from matplotlib import colormaps

    share = np.log1p(hits) / max(1.0, float(np.log1p(hits.max())))
    return colormaps["Blues"](0.2 + 0.8 * share)[..., :3]


@drawn
def selection_curve(picked: PickedTiles) -> Figure:
    """Draw what picked tiles cover after each of them, over their cost, and the least cost of any choice."""
    figure = new_figure(2.4)
    axes = figure.add_subplot()
    costs, bins = zip((0, 0), *picked.curve, strict=True)
    axes.step(
        costs, [100 * count / max(1, picked.reachable) for count in bins], where="post", color=BLUE, linewidth=1.8
    )
    axes.axvline(picked.least_cost, color=ORANGE, linewidth=1, linestyle=(0, (3, 2)))
    axes.text(picked.least_cost, 4, f" all of it costs {picked.least_cost:,} at least", color=ORANGE, fontsize=8)
    axes.set(xlabel=f"{picked.cost} of the picked tiles, in their order", ylim=(0, 104), xlim=(0, None))
    axes.yaxis.set_major_formatter("{x:.0f} %")
    axes.set_title(f"{len(picked.picks)} of {picked.candidates} tiles cover {picked.covered:,} bins")
    return figure


@drawn
def board(states: Sequence[tuple[str, str, str]]) -> Figure:
    """Draw the board of a regression: layers x batches, from `(layer, batch, state)` of each case.

    Green cases passed; others have a colour and the first letter of what they ended with, for who sees no colours.
    """
    layers = list(dict.fromkeys(layer for layer, _, _ in states))
    batches = list(dict.fromkeys(batch for _, batch, _ in states))
    figure = new_figure(0.75 + 0.27 * len(layers))
    axes = figure.add_subplot()
    axes.set(xlim=(-0.05, len(batches) + 0.05), ylim=(len(layers), 0))
    axes.set_yticks(np.arange(len(layers)) + 0.5, layers, color=INK)
    step = -(-len(batches) // 24)
    axes.set_xticks(np.arange(0, len(batches), step) + 0.5, batches[::step])
    axes.tick_params(length=0, top=False)
    axes.spines[:].set_visible(False)
    axes.set_xlabel("images")
    for layer, batch, state in states:
        _cell(axes, batches.index(batch), layers.index(layer), state)
    return figure


def _cell(axes: Axes, x: int, y: int, state: str) -> None:
    from matplotlib.patches import Rectangle

    colour = GREEN if state == PASS else RED
    axes.add_patch(Rectangle((x + 0.04, y + 0.08), 0.92, 0.84, facecolor=colour, edgecolor=PAPER, linewidth=0))
    if state != PASS:
        axes.text(x + 0.5, y + 0.5, state[:1].upper(), ha="center", va="center", color=PAPER, weight="bold")
