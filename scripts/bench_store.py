"""Speed of stores: building against `numpy.tofile`, reading against reading as many bytes, and compression's cost."""

import functools
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from bench_figure import Figure, best_seconds, growth

from factory.build import build
from factory.spec import TrainedNetwork
from factory.store import COMPRESSIONS, Store, open_store
from factory.store.variables import KEPT

QUERY = "features.3"
COMPUTED, FEW_BYTES = "features.29", 2**23
COMPRESSED = dict(layers="features.10,squeezed", pick="0:4")


def noise(folder: Path, count: int) -> Path:
    """Write a file of `count` images of noise, and return its path."""
    path = folder / f"noise{count}.npy"
    np.save(path, np.random.default_rng(0).integers(0, 256, (count, 32, 32, 3), dtype=np.uint8))
    return path


def build_figures(folder: Path, trained: TrainedNetwork, images: int, rounds: int) -> list[Figure]:
    """Return the speed of building a store of the whole network against `tofile` of as many bytes.

    A build ends when its store lies on the disk, so `tofile` has to get there too; how it compares with bytes that only
    the system has is there to be known. Functions are compiled before. Each file is removed before the next is written,
    so that both find the same memory free for the system's cache.

    What was learnt: the disk works while the rest is computed if another thread flushes what is written meanwhile
    (1.25 s for 16 images; 1.6 s with one flush at the end). Reserving the file's blocks first gave a few percent, and
    is slow on file systems that cannot.
    """
    path = folder / "build.h5"
    options = dict(weights=trained, images=noise(folder, images), pick=f"0:{images}")
    build(path, **options)
    data = np.ones(path.stat().st_size, np.uint8)
    path.unlink()
    seconds: dict[str, list[float]] = {}
    for _ in range(rounds):
        for name, write in (("build", lambda: build(path, **options)), ("tofile", lambda: data.tofile(path))):
            for kind, taken in zip(("", " to the disk"), _write_seconds(path, write), strict=True):
                seconds.setdefault(name + kind, []).append(taken)
    speed = {name: data.nbytes / min(taken) / 1e9 for name, taken in seconds.items()}
    name = f"store of the network and {images} images, {data.nbytes / 1e9:.2f} GB"
    return [
        Figure(f"{name}, until it lies on the disk", speed["build to the disk"], speed["tofile to the disk"], "GB/s",
               "tofile and fsync", 0.6),
        Figure(f"{name}, until the system has it", speed["build"], speed["tofile"], "GB/s", "tofile"),
    ]  # fmt: skip


def build_growth(folder: Path, trained: TrainedNetwork, counts: Sequence[int], rounds: int) -> Figure:
    """Return how the time of a build of the whole network grows with images."""
    path, images, seconds, sizes = folder / "growth.h5", noise(folder, max(counts)), [], []
    for count in counts:
        run = functools.partial(build, path, trained, images, pick=f"0:{count}", force=True)
        run()  # compiles
        seconds.append(best_seconds(rounds, dict(build=run))["build"])
        sizes.append(path.stat().st_size)
        path.unlink()
    return growth(f"of a build's time with images, {counts[0]} to {counts[-1]}", counts, seconds, sizes)


def _write_seconds(path: Path, write: Callable[[], object]) -> tuple[float, float]:
    """Return the seconds until a new file is written, and until it lies on the disk; remove it."""

    def to_disk() -> None:
        with path.open("rb+") as file:
            os.fsync(file)

    os.sync()
    seconds = best_seconds(1, dict(write=write, disk=to_disk))
    path.unlink()
    return seconds["write"], seconds["write"] + seconds["disk"]


def read_figures(folder: Path, trained: TrainedNetwork, images: int, rounds: int) -> list[Figure]:
    """Return the speed of reading a store back, and of one tile of every image, against reading as many bytes."""
    path, plain = folder / "read.h5", folder / "plain"
    build(path, weights=trained, pick=f"0:{images}")
    with open_store(path) as store:
        counts = [layer.psum.size for layer in store.layers.values()]
        np.ones(sum(counts), np.int16).tofile(plain)
        tile = store.layer(QUERY).psum
        it, ot = tile.shape[1] // 2, tile.shape[2] // 2
        query = tile[:, it, ot]

        def read_plain(counts: list[int]) -> None:
            with plain.open("rb") as file:
                for count in counts:
                    np.fromfile(file, np.int16, count)

        seconds = best_seconds(
            rounds,
            {
                "scan": lambda: scan(store),
                "plain scan": lambda: read_plain(counts),
                "query": lambda: tile[:, it, ot],
                "plain query": lambda: read_plain([query[0].size] * images),
            },
        )
    whole, part = 2 * sum(counts) / 1e9, query.nbytes / 1e9
    path.unlink()
    return [
        Figure(f"psums of {images} images read back, {whole:.2f} GB", whole / seconds["scan"],
               whole / seconds["plain scan"], "GB/s", "fromfile of the same bytes"),
        Figure(f"one tile of {QUERY} of every image, {part * 1e3:.2f} MB", part / seconds["query"],
               part / seconds["plain query"], "GB/s", "fromfile of the same bytes"),
    ]  # fmt: skip


def lazy_figures(folder: Path, trained: TrainedNetwork, images: int, rounds: int) -> list[Figure]:
    """Return the speed of a layer's psums from a store of codes against reading them from one that holds them.

    Whole, most of both is new memory, which the system has to find and clear; a few images at a time have it once.
    """
    paths = {keep: folder / f"{keep}.h5" for keep in KEPT}
    for keep, path in paths.items():
        build(path, trained, noise(folder, images), pick=f"0:{images}", layers=COMPUTED, keep=keep)
    with open_store(paths["codes"]) as codes, open_store(paths["psums"]) as psums:
        lazy, stored = codes.layer(COMPUTED).psum, psums.layer(COMPUTED).psum
        few = max(1, FEW_BYTES * images // lazy.nbytes)

        def by_few(array: Any) -> None:
            for first in range(0, images, few):
                array[first : first + few]

        lazy[:few], lazy[:]  # compiles
        tasks = {"whole": lambda: lazy[:], "whole read": lambda: stored[:]}
        tasks |= {"few": lambda: by_few(lazy), "few read": lambda: by_few(stored)}
        seconds, size = best_seconds(rounds, tasks), lazy.nbytes / 1e9
    for path in paths.values():
        path.unlink()
    name = f"{COMPUTED}, psums of {images} images from codes, {size:.2f} GB"
    return [
        Figure(name, size / seconds["whole"], size / seconds["whole read"], "GB/s", "read from a store", 2),
        Figure(
            f"the same, {few} images at a time", size / seconds["few"], size / seconds["few read"], "GB/s", "the same"
        ),
    ]


def scan(store: Store) -> None:
    """Read all psums, layer by layer."""
    for layer in store.layers.values():
        layer.psum[...]


def compression_figures(folder: Path, trained: TrainedNetwork) -> list[Figure]:
    """Return size and speed of the compressed forms of one store against the same store without compression."""
    size, speed = {}, {}
    for compression in (None, *COMPRESSIONS):
        path = folder / f"{compression}.h5"
        options = dict(compression=compression, force=True, **COMPRESSED)
        taken = best_seconds(2, dict(build=functools.partial(build, path, trained, **options)))
        size[compression] = path.stat().st_size / 1e6
        with open_store(path) as store:
            nbytes = sum(layer.psum.nbytes for layer in store.layers.values()) / 1e6
            taken |= best_seconds(3, dict(read=functools.partial(scan, store)))
        speed[compression] = dict(build=size[None] / taken["build"], read=nbytes / taken["read"])
        path.unlink()
    figures = []
    for compression in COMPRESSIONS:
        figures.append(Figure(f"{compression}: size", size[compression], size[None], "MB", "no compression"))
        for what, measured in speed[compression].items():
            figures.append(Figure(f"{compression}: {what}", measured, speed[None][what], "MB/s", "no compression"))
    return figures
