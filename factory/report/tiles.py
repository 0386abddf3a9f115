"""What a page holds of layers, so that a reader can choose image, tile and kernel position there."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from typing import Any

import numpy as np
from jaxtyping import Integer

from factory.plot.layers import code_ends, is_folded
from factory.store import LayerStore, StoredLayer

BUDGET = 1_200_000
"""Bytes of codes and accumulators of all layers together, before they become text, which takes a third more."""
_MOST_TILES = 4
_TYPES = {"int8": "i1", "uint8": "u1", "int16": "i2", "int32": "i4"}


def spread(count: int, most: int) -> list[int]:
    """Return at most so many places of `count`, evenly spread, the first and the last, which may be ragged, of them."""
    return sorted({round(place) for place in np.linspace(0, count - 1, min(count, most)).tolist()})


def layers_data(store: LayerStore, layers: Sequence[str], images: Sequence[int]) -> dict[str, Any]:
    """Return the plain values of some tiles of layers and images, as many as fit the `BUDGET`; {} for a large layer."""
    found = {}
    for name in layers:
        layer = store.layers[name]
        for kept, tiles in product(_fewer(images), range(_MOST_TILES, 0, -1)):
            chosen = _Chosen(layer, kept, tiles)
            if chosen.bytes <= BUDGET // len(layers):
                found[name] = chosen.record()
                break
    return found


def _fewer(images: Sequence[int]) -> Iterator[Sequence[int]]:
    for count in range(len(images), 0, -1):
        yield images[:count]


class _Chosen:
    """Some images and at most `tiles` tiles of each axis of a layer."""

    def __init__(self, layer: StoredLayer, images: Sequence[int], tiles: int):
        self.layer, self.images = layer, list(map(int, images))
        self.its, self.ots = (spread(count, tiles) for count in layer.weight_tile.shape[:2])

    @property
    def bytes(self) -> int:
        spec, array = self.layer.spec, self.layer.array
        weights = len(self.its) * len(self.ots) * spec.kij_count * array.rows * array.cols
        activations = len(self.its) * spec.nij_count * array.rows
        sums = len(self.ots) * array.cols * spec.onij_count
        return weights + len(self.images) * (activations + 2 * sums)

    def record(self) -> Mapping[str, Any]:
        """Return the values that page.js draws; of the sums the accumulators, since psums follow from the codes."""
        spec, array, layer = self.layer.spec, self.layer.array, self.layer
        weight = layer.weight_tile[...][np.ix_(self.its, self.ots)]
        activation = np.stack([layer.activation_tile[image][self.its] for image in self.images])
        sums = np.zeros((len(self.images), len(self.ots), array.cols, spec.onij_count), np.int32)
        for (at, image), (tile, ot) in product(enumerate(self.images), enumerate(self.ots)):
            maps = layer.accumulator[image, ot * array.cols : (ot + 1) * array.cols]
            sums[at, tile, : len(maps)] = maps.reshape(len(maps), -1)
        return {
            "images": self.images,
            "its": self.its,
            "ots": self.ots,
            "rows": array.rows,
            "cols": array.cols,
            "kijs": spec.kij_count,
            "padded": [spec.padded_height, spec.padded_width],
            "out": [spec.out_height, spec.out_width],
            "folded": is_folded(spec),
            "codes": list(code_ends(spec)),
            "weights": [-spec.weight_qmax, spec.weight_qmax],
            "activation": _text(activation),
            "weight": _text(weight),
            "accumulator": _text(sums),
        }


def _text(values: Integer[np.ndarray, ...]) -> list[str]:
    """Return integers as `[type, base64]`, in the fewest bytes of a type that hold them, little-endian."""
    low, high = int(values.min()), int(values.max())
    kind = next(kind for kind in _TYPES if np.iinfo(kind).min <= low and high <= np.iinfo(kind).max)
    return [_TYPES[kind], base64.b64encode(values.astype(np.dtype(kind).newbyteorder("<")).tobytes()).decode()]
