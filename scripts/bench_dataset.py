"""How fast datasets are built: shards against the bare integer network, and two workers against one."""

import time
from pathlib import Path

import jax
from bench_figure import Figure, best_seconds
from bench_store import noise

from factory.build.sources import open_pictures
from factory.dataset import build_shard
from factory.dataset.engine import build_dataset
from factory.dataset.planning import PlanOptions, plan_dataset
from factory.engine import forward, prepare
from factory.spec import SystolicArray

_BATCH = 8


def dataset_figures(folder: Path, shard_images: int, rounds: int) -> list[Figure]:
    """Return the images a second of shards of the whole network, of `rounds` of them, and of a cluster's workers.

    The bare network goes through as many images and keeps nothing; functions are compiled before. A worker counts from
    when each has finished a shard, so that what it takes to start is left out.
    """
    images = noise(folder, shard_images * (rounds + 1))
    plan_dataset(folder / "shards", PlanOptions(images=str(images), shard_images=shard_images))
    source = open_pictures(None, images, "test", None, "all", SystolicArray())
    engine, pixels = prepare(source.integer), source.pictures.batch(0, _BATCH).pixels

    def bare() -> None:
        for _ in range(shard_images // _BATCH):
            for values in forward(engine, pixels):
                last = values.accumulator
            jax.block_until_ready(last)

    shards = iter(range(rounds + 1))
    for task in (bare, lambda: build_shard(folder / "shards", next(shards))):
        task()
    seconds = best_seconds(rounds, dict(bare=bare, shard=lambda: build_shard(folder / "shards", next(shards))))
    built, network = (shard_images / seconds[name] for name in ("shard", "bare"))
    one, two = (workers_rate(folder, images, shard_images // 2, workers) for workers in (1, 2))
    name = f"dataset: codes of the whole network, shards of {shard_images} images"
    return [
        Figure(name, built, network, "images/s", "the bare integer network", 0.8),
        Figure("dataset: two workers of one thread", two, one, "images/s", "one worker", 1.7),
    ]


def workers_rate(folder: Path, images: Path, shard_images: int, workers: int) -> float:
    """Return the images a second of a local cluster, without its start and its end."""
    events: list[tuple[float, int]] = []
    target = folder / f"workers{workers}"
    plan_dataset(target, PlanOptions(images=str(images), shard_images=shard_images))
    build_dataset(target, workers, progress=lambda done, *_: events.append((time.perf_counter(), done)))
    (start, first), (end, last) = events[2 * workers - 1], events[-1]
    return (last - first) / (end - start)
