"""The share of a store that is verified: a seeded choice of (image, layer, output tiles)."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int64

from factory.spec import InputError

_MAX_DIGITS, _MAX_SHOWN = 18, 40


@dataclass(frozen=True)
class Unit:
    """Output tiles `ot` of one layer for one image: their psums at every `it` and `kij`, and their accumulators."""

    image: int
    layer: str
    ots: tuple[int, ...]


@dataclass(frozen=True)
class Sample:
    """A choice among `images` x `tiles[layer]` output tiles; `chosen[layer]` holds sorted `image * tiles + ot`."""

    images: int
    tiles: Mapping[str, int]
    chosen: Mapping[str, Int64[np.ndarray, " unit"]]

    def images_of(self, layer: str) -> Int64[np.ndarray, " image"]:
        """Return the images of which a tile of this layer is chosen, in their order."""
        return np.unique(self.chosen[layer] // self.tiles[layer])

    def __len__(self) -> int:
        return sum(len(indices) for indices in self.chosen.values())

    def __iter__(self) -> Iterator[Unit]:
        """Yield the choice image by image, the layers in their order."""
        for image in range(self.images):
            for layer, tiles in self.tiles.items():
                first, last = np.searchsorted(self.chosen[layer], (image * tiles, (image + 1) * tiles))
                ots = self.chosen[layer][first:last] - image * tiles
                if ots.size:
                    yield Unit(image, layer, tuple(ots.tolist()))


def choose(sample: str | int, images: int, tiles: Mapping[str, int], seed: int = 0) -> Sample:
    """Choose output tiles of each layer and image, without repetition.

    `sample` is `all`, a percentage of every layer's tiles (rounded up, so that every layer is there), or a number of
    tiles over all layers. A choice of nothing is allowed here: comparing nothing is what fails. Raise InputError for
    any other sample.
    """
    rng = np.random.default_rng(seed)
    sizes = {layer: images * count for layer, count in tiles.items()}
    text = str(sample).strip()
    if text == "all":
        chosen = {layer: np.arange(size) for layer, size in sizes.items()}
    elif text.endswith("%"):
        share = _percentage(text) / 100
        chosen = {x: np.sort(rng.choice(size, math.ceil(share * size), replace=False)) for x, size in sizes.items()}
    elif text.isdecimal() and len(text) <= _MAX_DIGITS:
        chosen = _any_of(sizes, int(text), rng)
    else:
        raise _wrong(text)
    return Sample(images, tiles, chosen)


def _any_of(sizes: Mapping[str, int], count: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
    total, chosen = sum(sizes.values()), {}
    picked = np.sort(rng.choice(total, min(count, total), replace=False))
    for layer, size in sizes.items():
        chosen[layer], picked = picked[picked < size], picked[picked >= size] - size
    return chosen


def _percentage(text: str) -> float:
    try:
        share = float(text[:-1])
    except ValueError:
        raise _wrong(text) from None
    if not 0 <= share <= 100:
        raise _wrong(text)
    return share


def _wrong(text: str) -> InputError:
    found = text if len(text) <= _MAX_SHOWN else f"{text[:_MAX_SHOWN]}..."
    return InputError(f"sample must be all, a percentage from 0% to 100%, or a number of output tiles, not {found}")
