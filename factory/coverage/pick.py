"""The fewest tiles that cover what all tiles cover: greedy set cover with lazy evaluation, and a bound from below.

A tile is what an array takes at a time: one `it` and `ot` (`ws`), `pt` and `ot` (`os`), `it` and `pt` (`is`) of a
layer and image. The bins are those that one tile decides. At each step the tile is picked that hits the most new bins
for its cost; among equals that of the first layer, image, tile. How many new bins a tile can hit only falls, so a tile
is looked at only when its bound is the best of all (lazy evaluation), whenever that was made. In the end the picks are
left out whose bins all others hit.

No choice of tiles covers `left` bins for less than `left * cost / new`, where `cost / new` is the least cost of a new
bin of any tile: so each step gives a bound from below for the whole, and the largest of them is the `least_cost`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from math import prod
from operator import index
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float64, Int64, UInt8

from factory.coverage.layer import LayerCounter, images_done
from factory.coverage.passes import Codes, presence
from factory.coverage.record import LayerCoverage, PointCoverage, union
from factory.spec import InputError, Progress, check_range

SCHEMA = "factory-selection-1"
SELECTION = "selection.json"
"""The picks, in the folder of the exports that are made of them."""
COSTS = ("cycles", "words")


@dataclass(frozen=True)
class Pick:
    """A tile that was picked: how many bins it hit first, and how many no other pick hits (`sole`)."""

    layer: str
    image: int
    tiles: dict[str, int]
    cost: int
    new: int
    sole: int = 0


@dataclass(frozen=True)
class PickedTiles:
    """The tiles that were picked, in their order, which cover `covered` of the `reachable` bins that all tiles hit.

    No choice that covers `reachable` bins costs less than `least_cost`.
    """

    source: str
    dataflow: str
    rows: int
    cols: int
    cost: str
    candidates: int
    reachable: int
    least_cost: int
    picks: tuple[Pick, ...]

    @property
    def covered(self) -> int:
        """Bins that the picks hit."""
        return sum(pick.new for pick in self.picks)

    @property
    def total_cost(self) -> int:
        """What the picks cost."""
        return sum(pick.cost for pick in self.picks)

    @property
    def curve(self) -> list[tuple[int, int]]:
        """The cost and the bins that are covered after each pick."""
        costs, bins = (np.cumsum([getattr(pick, name) for pick in self.picks], dtype=int) for name in ("cost", "new"))
        return list(zip(costs.tolist(), bins.tolist(), strict=True))

    def to_json(self) -> dict[str, Any]:
        """Return the selection as plain JSON types."""
        names = ("source", "dataflow", "rows", "cols", "cost", "candidates", "reachable", "covered", "total_cost")
        facts = {name: getattr(self, name) for name in (*names, "least_cost")}
        return {"schema": SCHEMA, **facts, "picks": [vars(pick) for pick in self.picks]}


def read_picks(path: Path) -> PickedTiles:
    """Read a selection that was written as JSON; raise InputError for anything else."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        if data["schema"] != SCHEMA:
            raise InputError(f"{path}: must be a selection of schema {SCHEMA}, not {data['schema']}")
        kinds = dict(source=str, dataflow=str, rows=index, cols=index, cost=str, candidates=index, reachable=index,
                     least_cost=index)  # fmt: skip
        picks = []
        for pick in data["picks"]:
            tiles = {str(axis): index(label) for axis, label in pick["tiles"].items()}
            picks.append(
                Pick(
                    str(pick["layer"]), index(pick["image"]), tiles, *(index(pick[x]) for x in ("cost", "new", "sole"))
                )
            )
        return PickedTiles(*(kind(data[name]) for name, kind in kinds.items()), tuple(picks))
    except OSError as error:
        raise InputError(f"{path}: must be a selection: {error.strerror}") from None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise InputError(f"{path}: must be a selection in JSON: {error!r}") from None


@dataclass(frozen=True)
class Tiles:
    """The tiles of one layer: their axes, and where each lies among the arranged operands."""

    counter: LayerCounter
    images: tuple[int, ...]

    @property
    def axes(self) -> tuple[str, str]:
        """The axes that tell tiles apart."""
        flow = self.counter.form.mapping.dataflow
        tilings = (*flow.tilings.values(), *filter(None, (flow.pixel_tiling,)))
        first, last = (axis for axis in flow.tile_axes if axis in {tiling.outer for tiling in tilings})
        return first, last

    @property
    def shape(self) -> tuple[int, int, int]:
        """How many images, and tiles along each axis, there are."""
        kept = self.counter.form.mapping.selection
        return len(self.images), *(len(kept[axis]) for axis in self.axes)

    def labels(self, place: Sequence[int]) -> dict[str, int]:
        """Return the labels of the tile at a place of each axis."""
        kept = self.counter.form.mapping.selection
        return {axis: kept[axis][at] for axis, at in zip(self.axes, place, strict=True)}

    def part(self, codes: Codes, activation: bool, place: Sequence[int]) -> Codes:
        """Return what a tile has of an arranged operand."""
        form, kept = self.counter.form, self.counter.form.mapping.selection
        at = dict(zip(self.axes, place, strict=True))
        for axis, names in enumerate((form.loops, form.outer_axes(activation))):
            counts = np.arange(codes.shape[axis]).reshape([len(kept[name]) for name in names])
            index = tuple(at.get(name, slice(None)) for name in names)
            codes = codes.take(counts[index].reshape(-1), axis=axis)
        return codes

    @property
    def cost(self) -> dict[str, int]:
        """What any tile costs: cycles, and words of both operands.

        A pass takes `rows` cycles to load or to unload what stays, one a word that moves (a term, where sums stay), and
        `rows + cols - 2` to drain.
        """
        counter, array = self.counter, self.counter.form.mapping.array
        ends = [self.part(codes, which, (0, 0)) for codes, which in zip(counter.operands, (True, False), strict=True)]
        (loops, outer, words, terms), (_, passes, lanes, _) = (x.shape for x in counter.form.sort(*ends))
        moved = words if counter.form.rows_add else terms
        held = lanes if counter.form.rows_add else terms
        cycles = loops * outer * passes * (moved + 2 * array.rows + array.cols - 2)
        return {"cycles": cycles, "words": loops * (outer * moved + passes * held)}

    def hits(self, image: int, place: Sequence[int], wanted: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Return which bins a tile of an image hits: all pairs, and of those of sums at least the ones wanted."""
        counter, pairs, bins = self.counter, self.counter.pairs, self.counter.inside
        codes = [
            self.part(codes, which, place)
            for codes, which in zip((counter.arranged(image), counter.weight), (True, False), strict=True)
        ]
        sides = [pairs.side(pairs.mask(x, which), which) for x, which in zip(codes, (True, False), strict=True)]
        names = {kind: counter.point_name(kind) for kind in bins.none()}
        found, left = bins.none(), {kind: wanted[name].copy() for kind, name in names.items()}
        counter.see(*codes, np.arange(prod(codes[1].shape[:2])), left, found)
        return {"pair": pairs.pairs(*sides)} | {names[kind]: there for kind, there in found.items()}

    @cached_property
    def _weights_there(self) -> UInt8[np.ndarray, "first last lane term code"] | None:
        """Which weights each tile has at each place; None where a tile is more than one loop's passes."""
        counter, kept = self.counter, self.counter.form.mapping.selection
        if counter.form.loops != self.axes[:1] or not counter.pairs.each:
            return None
        loops, passes, lanes, terms = counter.weight.shape
        tiles = counter.weight.reshape(loops, len(kept[self.axes[1]]), -1, lanes, terms)
        codes = counter.pairs.codes(False)
        return presence(tiles, (0, 1, 3, 4), codes[0], len(codes)).astype(np.uint8)

    @cached_property
    def _codes_there(self) -> UInt8[np.ndarray, "image first term code"]:
        """Which activations each image has in each tile's rows."""
        pairs = self.counter.pairs
        masks = [pairs.mask(self.counter.arranged(image), True)[:, 0] for image in self.images]
        return np.stack(masks).astype(np.uint8)

    def most(self, wanted: dict[str, np.ndarray]) -> Float64[np.ndarray, "image first last"]:
        """Return for each tile a bound of how many of the bins that are wanted it hits."""
        sums = self._most_sums(wanted)
        there = self._weights_there
        if there is None:
            return np.full(self.shape, np.count_nonzero(wanted["pair"]), np.float64) + sums
        images, loops, rows, codes = self._codes_there.shape
        left = wanted["pair"].astype(np.float32)  # (row, col, activation, weight)
        by_row = self._codes_there.transpose(2, 0, 1, 3).reshape(rows, -1, codes).astype(np.float32)
        met = by_row @ left.transpose(0, 2, 1, 3).reshape(rows, codes, -1)
        met = met.reshape(rows, images, loops, -1, left.shape[3]).transpose(
            2, 1, 0, 3, 4
        )  # (it, image, row, col, code)
        found = np.empty(self.shape)
        for loop, (mine, weights) in enumerate(zip(met, there, strict=True)):
            columns = weights.transpose(0, 2, 1, 3).reshape(len(weights), -1).astype(np.float32)
            found[:, loop] = mine.reshape(images, -1) @ columns.T
        return found + sums

    def _most_sums(self, wanted: dict[str, np.ndarray]) -> Float64[np.ndarray, "first last"] | int:
        """Return a bound of how many of the bins of sums each tile hits, from the bounds of any input."""
        counter, bins = self.counter, self.counter.inside
        names = {kind: counter.point_name(kind) for kind in bins.none()}
        count = sum(int(np.count_nonzero(wanted[name])) for name in names.values())
        if count > _FEW or not count or counter.form.loops != self.axes[:1]:
            return count
        found = np.zeros(self.shape[1:])
        for kind, name in names.items():
            for place in np.argwhere(wanted[name]):
                one = bins.none()
                one[kind][tuple(place)] = True
                could = np.broadcast_to(bins.worth(counter.bounds, one), counter.weight.shape[:2])
                found += could.reshape(*found.shape, -1).any(axis=2)
        return found


class Cover:
    """The bins of all layers together, and those of them that are still to be hit."""

    def __init__(self, layers: Sequence[LayerCoverage]):
        self.total = union("all", layers)
        sizes = [point.hits.size for point in self.total.points.values()]
        starts = dict(zip(self.total.points, np.cumsum([0, *sizes]).tolist(), strict=False))
        self.target = np.concatenate([(point.hits > 0).reshape(-1) for point in self.total.points.values()])
        self.left = self.target.copy()
        self.places = [
            {name: starts[name] + self._places(point, self.total.points[name]) for name, point in layer.points.items()}
            for layer in layers
        ]

    @staticmethod
    def _places(point: PointCoverage, total: PointCoverage) -> Int64[np.ndarray, "*bins"]:
        counted = np.arange(total.hits.size).reshape(total.hits.shape)
        places = counted[np.ix_(*(list(map(labels.index, point.axes[axis])) for axis, labels in total.axes.items()))]
        others = [at for at, axis in enumerate(point.axes) if axis not in total.axes]
        return np.broadcast_to(np.expand_dims(places, others), point.hits.shape)

    def wanted(self, layer: int) -> dict[str, np.ndarray]:
        """Return the bins of a layer that are still to be hit."""
        return {name: self.left[places] for name, places in self.places[layer].items()}

    def bits(self, layer: int, hits: dict[str, np.ndarray]) -> Bool[np.ndarray, " bin"]:
        """Return bins of a layer as those of all layers, as far as they are to be covered."""
        found = np.zeros(len(self.target), bool)
        for name, places in self.places[layer].items():
            found[places[hits[name]]] = True
        return found & self.target


def pick_tiles(
    counters: Sequence[LayerCounter],
    images: Sequence[int],
    source: str,
    cost: str = COSTS[0],
    count: int | None = None,
    progress: Progress | None = None,
) -> PickedTiles:
    """Return the tiles of some layers and images that cover what all of their tiles hit, or the first `count` of them.

    `cost` is what a tile costs, `cycles` or `words`. Raise InputError for another, and for a count below 1.
    """
    if cost not in COSTS:
        raise InputError(f"cost must be one of {' '.join(COSTS)}, not {cost}")
    if count is not None:
        check_range("pick", count, 1, 1 << 30)
    layers = [Tiles(counter, tuple(images)) for counter in counters]
    cover = Cover([
        coverage_of_tiles(x, images_done(progress, f"coverage of {x.counter.name}", at, len(layers), len(images)))
        for at, x in enumerate(layers)
    ])  # fmt: skip
    search = _Search(layers, cover, cost)
    chosen, bound = [], 0
    while cover.left.any() and (count is None or len(chosen) < count):
        layer, place, bits = search.best()
        left, new = np.count_nonzero(cover.left), np.count_nonzero(bits & cover.left)
        price = layers[layer].cost[cost]
        bound = max(bound, -(-left * price // new))
        chosen.append((layer, place, price))
        cover.left &= ~bits
        if progress:
            done = int(np.count_nonzero(cover.target & ~cover.left))
            progress(done, int(np.count_nonzero(cover.target)), f"{len(chosen)} tiles picked")
    mapping = counters[0].form.mapping
    return PickedTiles(
        source, mapping.dataflow.name, mapping.array.rows, mapping.array.cols, cost,
        sum(prod(tiles.shape) for tiles in layers), int(np.count_nonzero(cover.target)), int(bound),
        _picks(layers, cover, chosen),
    )  # fmt: skip


def coverage_of_tiles(tiles: Tiles, step: Callable[[int], None] | None = None) -> LayerCoverage:
    """Return the coverage of a layer's points that one tile decides, but for what pairs imply."""
    found = tiles.counter.coverage(tiles.images, of_tile=True, step=step)
    return replace(found, points={name: point for name, point in found.points.items() if name not in _IMPLIED})


_IMPLIED = ("activation", "weight")
"""Points whose bins are all hit where those of pairs are."""
_FEW = 32
"""Up to how many bins of sums each is looked for by itself in the bounds of each tile."""


class _Search:
    """Which tile hits the most new bins for its cost, as far as this was looked at."""

    def __init__(self, layers: Sequence[Tiles], cover: Cover, cost: str):
        self.layers, self.cover = layers, cover
        self.prices = [tiles.cost[cost] for tiles in layers]
        self.most = [np.full(tiles.shape, np.inf) for tiles in layers]  # bounds of new bins for the cost, from any time
        self.known: list[dict[int, np.ndarray]] = [{} for _ in layers]  # the bins of tiles that were looked at, packed

    def best(self) -> tuple[int, tuple[int, ...], np.ndarray]:
        """Return the layer, the place and the bins of the best tile."""
        fresh: set[int] = set()
        while True:
            layer = int(np.argmax([most.max() for most in self.most]))
            if layer not in fresh:
                self._refresh(layer)
                fresh.add(layer)
                continue
            flat = int(self.most[layer].argmax())
            place = tuple(int(x) for x in np.unravel_index(flat, self.most[layer].shape))
            if flat in self.known[layer]:
                return layer, place, np.unpackbits(self.known[layer][flat], count=len(self.cover.left)).astype(bool)
            self._look(layer, flat, place)

    def _refresh(self, layer: int) -> None:
        """Lower the bounds of a layer's tiles to what is left now."""
        most = self.layers[layer].most(self.cover.wanted(layer)).reshape(-1)
        if self.known[layer]:
            left = np.packbits(self.cover.left)
            each = np.stack(list(self.known[layer].values()))
            most[list(self.known[layer])] = np.bitwise_count(each & left).sum(axis=1)
        self.most[layer] = (most / self.prices[layer]).reshape(self.most[layer].shape)

    def _look(self, layer: int, flat: int, place: tuple[int, ...]) -> None:
        tiles = self.layers[layer]
        hits = tiles.hits(tiles.images[place[0]], place[1:], self.cover.wanted(layer))
        bits = self.cover.bits(layer, hits)
        self.known[layer][flat] = np.packbits(bits)
        self.most[layer][place] = np.count_nonzero(bits & self.cover.left) / self.prices[layer]


def _picks(layers: Sequence[Tiles], cover: Cover, chosen: Sequence[tuple]) -> tuple[Pick, ...]:
    """Return the picks that are needed, the last ones being left out first, and what each hits first, and alone."""
    whole = not cover.left.any()
    cover.left = cover.target
    bits = [
        cover.bits(layer, layers[layer].hits(layers[layer].images[place[0]], place[1:], cover.wanted(layer)))
        for layer, place, _ in chosen
    ]
    often, kept = np.sum(bits, axis=0, dtype=np.int64), list(range(len(chosen)))
    for pick in reversed(kept if whole else ()):
        if not (bits[pick] & (often == 1)).any():
            often = often - bits[pick]
            kept.remove(pick)
    picks, seen = [], np.zeros(len(cover.target), bool)
    for layer, place, price, mine in ((*chosen[pick], bits[pick]) for pick in kept):
        tiles = layers[layer]
        new, sole = np.count_nonzero(mine & ~seen), np.count_nonzero(mine & (often == 1))
        image = tiles.images[place[0]]
        picks.append(Pick(tiles.counter.name, image, tiles.labels(place[1:]), price, int(new), int(sole)))
        seen |= mine
    return tuple(picks)
