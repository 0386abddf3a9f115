"""The figure of edge streams: the skewed diagonal in which values cross the edges of the array."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Bool, Integer

from factory.dataflow import ROLES
from factory.dataflow.edges import EDGES
from factory.dataflow.roles import operand_fields
from factory.export import layer_vectors, plan_export
from factory.fileplan import ExportOptions
from factory.memfile import load_profile
from factory.plot.style import DARK, EDGE, SIGNED, drawn, new_figure, placed
from factory.store import LayerStore

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_CYCLES = 40
_LANES = 16
_PROFILE = "edges"


def crossing(
    store: LayerStore, layer: str, image: int = 0, dataflow: str = "ws"
) -> dict[str, tuple[Integer[np.ndarray, "cycle lane"], Bool[np.ndarray, "cycle lane"]]]:
    """Return the values of one pass at each edge, and where there are any, by the edge's name.

    It is the pass of the first tiles and of the middle kernel position, where a pass has one; cycles are those of the
    profile `edges`.
    """
    flow, spec = load_profile(_PROFILE, dataflow).flow, store.layer(layer).spec
    options = ExportOptions(
        dataflow, layers=layer, images=str(image), tiles=",".join(f"{axis}=0" for axis in flow.tile_axes),
        kij=str(spec.kij_count // 2) if "kij" in flow.pass_axes else "all", include=",".join(EDGES), profile=_PROFILE,
        pe_activation="signed" if spec.signed else "unsigned",
    )  # fmt: skip
    plan = plan_export(store, options)
    vectors = layer_vectors(plan, store)[layer].of_image(image)
    exact = replace(vectors.mapping, fields=operand_fields({}))  # as the codes are, whatever the profile's lanes hold
    found: dict[str, dict[str, np.ndarray]] = {}
    for layout in plan.layouts:
        stream = next(iter(ROLES[layout.role].values(replace(vectors, mapping=exact, edge=layout.edge, own=None), "")))
        part = stream.values.reshape(-1, *stream.values.shape[-2:])[0]
        found.setdefault(layout.role, {})[layout.edge.content] = part
    return {name: (parts["value"], parts["valid"] > 0) for name, parts in found.items()}


@drawn
def edge_streams(store: LayerStore, layer: str, image: int = 0, dataflow: str = "ws") -> Figure:
    """Draw what crosses each edge of the array in the first cycles of one pass: lanes down, cycles to the right.

    Cells without a number are cycles in which nothing is valid; a lane's words begin a cycle, or some, after those of
    the lane before it.
    """
    edges = crossing(store, layer, image, dataflow)
    figure = new_figure(sum(_height(values.shape[1]) for values, _ in edges.values()))
    top = 0.0
    for name, (values, valid) in edges.items():
        cycles, lanes = min(len(values), _CYCLES), min(values.shape[1], _LANES)
        first = min(int(valid.any(axis=1).argmax()), len(values) - cycles)
        part = slice(first, first + cycles), slice(0, lanes)
        axes = placed(figure, 0.35, top + 0.3, 8.55, _height(lanes) - 0.65)
        _draw(axes, values[part].T, valid[part].T, first)
        more = f", {lanes} of {values.shape[1]} lanes" if lanes < values.shape[1] else ""
        axes.set_title(f"{name}  cycles {first} to {first + cycles - 1} of {len(values)}{more}: lane ↓ × cycle →")
        top += _height(lanes)
    return figure


def _height(lanes: int) -> float:
    return 0.65 + 0.17 * min(lanes, _LANES)


def _draw(
    axes: Axes, values: Integer[np.ndarray, "lane cycle"], valid: Bool[np.ndarray, "lane cycle"], first: int
) -> None:
    most = max(1, int(np.abs(values).max()))
    lanes, cycles = values.shape
    axes.imshow(np.ma.masked_array(values, ~valid), SIGNED, vmin=-2 * most, vmax=2 * most, aspect="auto",
                extent=(first - 0.5, first + cycles - 0.5, lanes - 0.5, -0.5), alpha=0.85)  # fmt: skip
    for lane, cycle in np.argwhere(valid).tolist():
        text = str(values[lane, cycle]).replace("-", "−")
        axes.text(first + cycle, lane, text, ha="center", va="center", fontsize=6.5 if len(text) < 4 else 5, color=DARK)
    axes.tick_params(length=0)
    axes.set_yticks(range(0, lanes, max(1, lanes // 4)))
    axes.spines[:].set_color(EDGE)
