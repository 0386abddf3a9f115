"""The points that a layer's geometry alone decides: full and ragged tiles, and the border under the kernel."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool

from factory.coverage.points import PIXELS, TILES
from factory.dataflow import LayerMapping
from factory.dataflow.record import Tiling
from factory.spec import window_pixels


def _divided(mapping: LayerMapping) -> list[tuple[Tiling, int]]:
    """Return each tiling of the dataflow with the number of places that it divides."""
    spec, flow = mapping.spec, mapping.dataflow
    places = {"ic": spec.in_channels, "oc": spec.out_channels}
    pixels = [] if flow.pixel_tiling is None else [(flow.pixel_tiling, spec.onij_count)]
    return [(tiling, places[dim]) for dim, tiling in flow.tilings.items()] + pixels


def tile_axes(mapping: LayerMapping) -> dict[str, tuple[str, ...]]:
    """Return the axes of the bins of tiles."""
    return {tiling.outer: TILES for tiling, _ in _divided(mapping)}


def tiles(mapping: LayerMapping, whole: bool) -> Bool[np.ndarray, "*tiling"]:
    """Return which tiles there are, full or ragged along each axis: of the `whole` layer, or of what is selected."""
    found = np.ones((), bool)
    for tiling, places in _divided(mapping):
        labels = range(tiling.count(places, mapping.array)) if whole else mapping.selection[tiling.outer]
        full = [(label + 1) * mapping.lanes(tiling) <= places for label in labels]
        found = found[..., None] & np.array([any(full), not all(full)])
    return found


def border_axes(mapping: LayerMapping) -> dict[str, tuple[str, ...]]:
    """Return the axes of the bins of borders: kernel positions `ki,kj`, and where the pixel lies."""
    kij = [divmod(kij, mapping.spec.kernel[1]) for kij in range(mapping.spec.kij_count)]
    return {"kij": tuple(f"{ki},{kj}" for ki, kj in kij), "pixel": PIXELS}


def borders(mapping: LayerMapping, whole: bool) -> Bool[np.ndarray, "kij pixel"]:
    """Return which pixels are read at each kernel position, by any output pixel or by those that are selected."""
    spec = mapping.spec
    (top, left, _, _), (y, x) = spec.padding, window_pixels(spec)
    outside = [y < top, x < left, y >= top + spec.height, x >= left + spec.width]
    found = np.stack([~np.logical_or.reduce(outside), *outside])
    if whole:
        return found.any(axis=1).T
    kept = np.isin(np.arange(spec.kij_count), mapping.selection["kij"])
    return (found[:, mapping.pixels].any(axis=1) & kept).T
