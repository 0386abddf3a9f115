"""Five questions to a dataset, each a function of a few lines to begin one's own from: analyse_dataset.py DIR."""

import argparse

import numpy as np
import pandas

import factory


def accumulator_histogram(dataset, layer: str, images: slice = slice(0, 1000)) -> pandas.Series:
    """Return how often each value of an accumulator occurs, over 1,000 images, a few at a time."""
    accumulator = dataset.layer(layer).accumulator
    counts = pandas.Series(dtype="int64")
    places = range(dataset.image_count)[images]
    for first in range(places.start, places.stop, 64):
        values, found = np.unique(accumulator[first : min(first + 64, places.stop)], return_counts=True)
        counts = counts.add(pandas.Series(found, values), fill_value=0)
    return counts.astype("int64")


def image_with_largest_psum(dataset, layer: str) -> tuple[int, int]:
    """Return the global index of the image, and the psum."""
    highest = dataset.facts(layer).psum_high.max(axis=(1, 2))
    return int(highest.argmax()), int(highest.max())


def sparsity_by_tile(dataset, layer: str) -> pandas.Series:
    """Return the mean share of activation codes that are 0, for each tile of input channels."""
    return pandas.Series(dataset.facts(layer).zeros.mean(axis=0)).rename_axis("it")


def overflowing_tiles(dataset, layer: str, bits: int = 11) -> pandas.DataFrame:
    """Return every (image, it, ot) in which some addition leaves an adder of so many bits, and how often."""
    rows = pandas.DataFrame(dataset.find(layer, f"overflow_{bits} > 0"))
    return rows[["image", "it", "ot", f"overflow_{bits}"]]


def tile_frame(dataset, layer: str, image: int, it: int, ot: int) -> pandas.DataFrame:
    """Return the psums of one tile, a row for each kij and nij, a column for each of the array's."""
    psum = dataset.layer(layer).psum[image, it, ot]
    index = pandas.MultiIndex.from_product([range(size) for size in psum.shape[:2]], names=["kij", "nij"])
    return pandas.DataFrame(psum.reshape(-1, psum.shape[2]), index).rename_axis(columns="col")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("dataset", metavar="DIR")
    parser.add_argument("--layer", default="features.27")
    parser.add_argument("--bits", type=int, default=11)
    options = parser.parse_args()
    with factory.open_dataset(options.dataset) as dataset:
        counts = accumulator_histogram(dataset, options.layer)
        print(f"accumulators: {counts.index.min()} to {counts.index.max()}, most often {counts.idxmax()}")
        image, psum = image_with_largest_psum(dataset, options.layer)
        print(f"largest psum: {psum} in image {image}")
        print("zeros by it:", " ".join(f"{share:.2f}" for share in sparsity_by_tile(dataset, options.layer)))
        tiles = overflowing_tiles(dataset, options.layer, options.bits)
        print(f"tiles in which an adder of {options.bits} bits overflows: {len(tiles)}")
        print(tiles.head().to_string(index=False))
        print(tile_frame(dataset, options.layer, image, 0, 0).describe().round(1).to_string())


if __name__ == "__main__":
    main()
