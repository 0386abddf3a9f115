"""Speed of the engine: psums in memory against filling that memory, against other ways to them, and how it grows."""

import dataclasses
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from bench_figure import Figure, best_seconds, growth
from bench_rivals import HAS_TORCH, einsum_psums, notebook_loop, rival_weight, torch_psums

from factory.engine import EngineNetwork, LayerValues, activation_tiles, forward, layer_psums, prepare_layer
from factory.spec import ConvLayer, IntegerLayer, SystolicArray, accumulator_range

NOTEBOOK_CALLS = 3000


class Psums:
    """The psums of one image for some layers, computed anew into the memory of those before."""

    def __init__(self, values: Sequence[LayerValues]):
        self.values = values
        self.arrays = [layer_psums(layer.layer, layer.activation) for layer in values]

    @property
    def nbytes(self) -> int:
        """Bytes of all of them."""
        return sum(array.nbytes for array in self.arrays)

    def compute(self) -> None:
        """Compute all of them once more, and wait for them."""
        new = [layer_psums(x.layer, x.activation, old) for x, old in zip(self.values, self.arrays, strict=True)]
        self.arrays = jax.block_until_ready(new)


def engine_figures(engine: EngineNetwork, pixels: np.ndarray, rounds: int) -> list[Figure]:
    """Return the figures of one image, `pixels` `(1, colour, y, x)`, whose psums are int16."""
    values = list(forward(engine, pixels))
    psums = Psums(values)
    memory = np.ones(psums.nbytes // 2, np.int16)

    def from_pixels() -> None:
        psums.values = list(forward(engine, pixels))
        psums.compute()

    def into_new_memory() -> None:
        jax.block_until_ready([layer_psums(layer.layer, layer.activation) for layer in values])

    def fill() -> None:
        memory[:] = 1

    tasks = dict(fill=fill, psums=psums.compute, pixels=from_pixels, new=into_new_memory)
    seconds = best_seconds(rounds, tasks)
    speed = {name: psums.nbytes / taken / 1e9 for name, taken in seconds.items()}
    reference = speed["fill"], "GB/s", "array[:] = 1"
    whole = f"psums of {len(values)} layers, {psums.nbytes / 1e6:.0f} MB int16 in memory"
    figures = [
        Figure(whole, speed["psums"], *reference, 0.5),
        Figure("the same, from pixels, with all codes and accumulators", speed["pixels"], *reference),
        Figure("the same psums, into memory that is new", speed["new"], *reference),
    ]
    alone = [Psums([value]) for value in values]
    taken = [best_seconds(rounds, dict(compute=layer.compute))["compute"] for layer in alone]
    best = psums.nbytes / sum(taken) / 1e9
    figures.append(Figure("the same psums, the sum of each layer's best time", best, *reference))
    for layer, own in zip(alone, taken, strict=True):
        name = f"psums of {layer.values[0].layer.spec.name}, {layer.nbytes / 1e6:.2f} MB"
        figures.append(Figure(name, layer.nbytes / own / 1e9, *reference))
    return [*figures, *_rivals(values, psums, seconds["psums"])]


def _rivals(values: Sequence[LayerValues], psums: Psums, seconds: float) -> list[Figure]:
    count = psums.nbytes // 2 / seconds
    figures = [_against_notebook(values, psums, count)]

    def every_layer(rival: Callable, weights: Sequence[np.ndarray]) -> Callable[[], None]:
        def run() -> None:
            for x, array in zip(values, weights, strict=True):
                rival(np.asarray(x.activation[0]), array, x.layer.spec, x.layer.array)

        return run

    plain = [np.asarray(x.layer.row_weight).astype(np.float32) for x in values]
    tasks = {"NumPy's einsum in float32": every_layer(einsum_psums, plain)}
    if HAS_TORCH:
        tasks["torch, padding and one bmm a layer"] = every_layer(torch_psums, [rival_weight(x) for x in plain])
    for against, taken in best_seconds(2, tasks).items():
        figures.append(Figure("psums in a second", count, psums.nbytes // 2 / taken, "psums/s", against))
    return figures


def _against_notebook(values: Sequence[LayerValues], psums: Psums, count: float) -> Figure:
    """Return the psums in a second beside those of the notebook's loop, which needs torch."""
    if not HAS_TORCH:
        against = "the notebook's loop, an nn.Linear for every pixel: not measured: torch is not there"
        return Figure("psums in a second", count, None, "psums/s", against, 10_000)
    tile = next(x for x in values if x.layer.spec.in_channels >= x.layer.array.rows)
    activation = np.asarray(activation_tiles(tile.layer, tile.activation))[0, 0]
    weight = np.asarray(tile.layer.row_weight)[0, 0, 0].T
    sample = np.tile(activation, (-(-NOTEBOOK_CALLS // len(activation)), 1))
    found, taken = min((notebook_loop(sample, weight, NOTEBOOK_CALLS) for _ in range(3)), key=lambda pair: pair[1])
    ours = np.asarray(psums.arrays[values.index(tile)][0, 0, 0, 0])
    if not np.array_equal(found[: len(ours)], ours[: len(found)]):
        raise ValueError("the notebook's loop and the engine must give the same psums")
    against = f"the notebook's loop, an nn.Linear for every pixel, {NOTEBOOK_CALLS:,} calls timed"
    return Figure("psums in a second", count, found.size / taken, "psums/s", against, 10_000)


def growth_figures(rounds: int) -> list[Figure]:
    """Return how the time of a layer's psums grows, beside how their bytes grow."""
    base = ConvLayer("layer", "image", 64, 64, 32, 32)
    cases = {
        "images, 1 to 16": [(n, base, SystolicArray(), n) for n in (1, 2, 4, 8, 16)],
        "channels, 32 to 256": [
            (n, dataclasses.replace(base, in_channels=n, out_channels=n), SystolicArray(), 1)
            for n in (32, 64, 128, 256)
        ],
        "array size, 4 x 4 to 32 x 32": [
            (n, dataclasses.replace(base, in_channels=128, out_channels=128), SystolicArray(n, n), 1)
            for n in (4, 8, 16, 32)
        ],
    }
    figures = []
    for name, sizes in cases.items():
        jobs = [_random_layer(conv, array, images) for _, conv, array, images in sizes]
        tasks = {str(place): job.compute for place, job in enumerate(jobs)}
        seconds = best_seconds(rounds, tasks)
        places = [size for size, *_ in sizes]
        nbytes = [job.nbytes for job in jobs]
        figures.append(growth(f"of a layer's psums' time with {name}", places, list(seconds.values()), nbytes))
    return figures


def _random_layer(conv: ConvLayer, array: SystolicArray, images: int) -> Psums:
    random = np.random.default_rng(0)
    levels = conv.weight_qmax
    weight = random.integers(-levels, levels + 1, conv.weight_shape).astype(np.int8)
    low, high = (np.full(conv.in_channels, x, np.int16) for x in (0, 15))
    reachable = accumulator_range(conv, weight, low, high)
    layer = prepare_layer(IntegerLayer(conv, weight, low, high, reachable, None, None), array)
    codes = jnp.asarray(random.integers(0, 16, (images, conv.in_channels, conv.height, conv.width)).astype(np.uint8))
    return Psums([LayerValues(layer, codes, jnp.zeros((images, 1, 1, 1), jnp.int32))])
