"""How much random tiles of a store cover, beside the tiles that `factory coverage --pick` chooses."""

import argparse
from pathlib import Path

import numpy as np

from factory.coverage import opened, read_picks
from factory.coverage.pick import Cover, Tiles, coverage_of_tiles


def main() -> None:
    """Print the share of the bins that are covered after 1, 2, 4, ... random tiles, and after all picks."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("store", type=Path)
    parser.add_argument("--selection", type=Path, help="What `factory coverage --pick all --selection` wrote.")
    parser.add_argument("--most", type=int, default=10000, help="Random tiles.")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    with opened(given.store) as counted:
        layers = [Tiles(counter, counted.images) for counter in counted.counters]
        cover = Cover([coverage_of_tiles(tiles) for tiles in layers])
        reachable, ends = int(cover.target.sum()), np.cumsum([np.prod(tiles.shape) for tiles in layers])
        if given.selection:
            picks = read_picks(given.selection)
            print(f"{len(picks.picks)} picked tiles cover {picks.covered} of {reachable} bins")
        order = np.random.default_rng(given.seed).permutation(int(ends[-1]))[: given.most]
        for number, tile in enumerate(order.tolist(), 1):
            layer = int(np.searchsorted(ends, tile, side="right"))
            tiles, place = layers[layer], tile - (int(ends[layer - 1]) if layer else 0)
            image, *at = (int(x) for x in np.unravel_index(place, tiles.shape))
            hits = tiles.hits(tiles.images[image], at, cover.wanted(layer))
            cover.left &= ~cover.bits(layer, hits)
            if number & (number - 1) == 0 or number == len(order) or not cover.left.any():
                covered = reachable - int(cover.left.sum())
                print(f"{number} random tiles cover {covered}, {100 * covered / reachable:.2f} %", flush=True)
            if not cover.left.any():
                break


if __name__ == "__main__":
    main()
