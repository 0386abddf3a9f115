"""How long the coverage of one image takes, beside computing its psums: all layers, in one run on one machine."""

import argparse
import time
from pathlib import Path

import jax
import numpy as np

from factory.coverage.sources import opened
from factory.engine import layer_psums, prepare_layer
from factory.spec import IntegerLayer, accumulator_range
from factory.store import Store, StoredLayer, open_store


def now() -> np.ndarray:
    """Return the seconds on the clock, and of CPU."""
    return np.array([time.perf_counter(), time.process_time()])


def engine_of(layer: StoredLayer, store: Store):
    weight, ends = layer.weight[...], (layer.activation_low, layer.activation_high)
    sums = accumulator_range(layer.spec, weight, *ends)
    return prepare_layer(IntegerLayer(layer.spec, weight, *ends, sums, None, None), store.array)


def main() -> None:
    """Print the least seconds of several rounds, and their ratio."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("store", type=Path, help="A store of all layers.")
    parser.add_argument("--image", type=int, default=0)
    parser.add_argument("--dataflow", default="ws")
    parser.add_argument("--rounds", type=int, default=10)
    given = parser.parse_args()
    with open_store(given.store) as store, opened(store, given.dataflow) as counted:
        counters = list(counted.counters)
        layers = [store.layer(counter.name) for counter in counters]
        begun = time.perf_counter()
        for counter in counters:
            counter.count(given.image)
        prepared = time.perf_counter() - begun
        engines = [(engine_of(layer, store), jax.numpy.asarray(layer.activation[[given.image]])) for layer in layers]
        spare = [layer_psums(*each) for each in engines]
        psums, lazy, coverage = [], [], []
        for _ in range(given.rounds):
            begun = now()
            spare = [layer_psums(*each, old) for each, old in zip(engines, spare, strict=True)]
            jax.block_until_ready(spare)
            psums.append(now() - begun)
            begun = now()
            if store.keep != "psums":
                for layer in layers:
                    layer.psum[given.image]
            lazy.append(now() - begun)
            begun = now()
            for counter in counters:
                counter.count(given.image)
            coverage.append(now() - begun)
    (wall, cpu), (read, used), (took, worked) = (np.min(x, axis=0) * 1e3 for x in (psums, lazy, coverage))
    print(
        f"psums     {wall:7.1f} ms ({cpu:.1f} ms of CPU), {sum(x.nbytes for x in spare) / 1e6:.1f} MB, into warm memory"
    )
    if read > 1:
        print(f"          {read:7.1f} ms ({used:.1f} ms of CPU), by slicing a store of codes")
    print(f"coverage  {took:7.1f} ms ({worked:.1f} ms of CPU), {took / wall:.2f} times ({worked / cpu:.2f}) the first")
    print(f"bounds    {1e3 * prepared:7.1f} ms, once for any number of images")


if __name__ == "__main__":
    main()
