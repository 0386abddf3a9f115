"""Speed of exports: large text files, words, and 138,609 small files, each against its reference in the same run.

Both sides of a ratio are measured one after the other on the same disk, and the fastest of a few rounds counts.

What was learnt: formatting reaches 5 GB/s (unpack bits, OR the digit zero, copy lines as void items) in warm buffers,
1 GB/s in new memory. What bounds large files is the sha256 of each, 1.8 GB/s on one core, which a single file cannot
pass: the last row of each says how near it comes. Formatting and hashing have threads of their own beside the writing
of one group of files; several groups are written by a thread each, one thing after the other, because a piece is then
hashed and written while it is in that core's cache (1.7 GB/s on two cores; 1.3 with threads for each thing). Reserving
a file's blocks before it is written (`posix_fallocate`) gave 4 % and was left. Small files are bound by the disk's
creates, not by Python.
"""

import argparse
import hashlib
import importlib.util
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from bench_figure import Figure, add_folder_option, best_seconds, growth, table

from factory.build import build, default_store
from factory.export import export
from factory.store import Store, open_store

WEIGHTS = dict(layers="all", include="weight", files="layer")
LARGE = {
    "psums of features.3, one file": dict(layers="features.3", include="psum", files="layer"),
    "psums, a file for each of two layers": dict(layers="features.3,features.10", include="psum", files="layer"),
    "weights of the network, a file for each layer": WEIGHTS,
}


def best_of(
    folder: Path, rounds: int, *tasks: Callable[[Path], object], to_disk: bool = False
) -> list[tuple[float, float]]:
    """Return the fewest seconds of each task, which makes a directory, and the fewest until that lies on the disk.

    Every round runs all of them. Nothing waits for the disk without `to_disk`.
    """
    best = [(float("inf"),) * 2] * len(tasks)
    for _ in range(rounds):
        for place, task in enumerate(tasks):
            target = folder / "measured"
            if to_disk:
                os.sync()
            start = time.perf_counter()
            task(target)
            written = time.perf_counter() - start
            if to_disk:
                sync(target)
            taken = written, time.perf_counter() - start
            best[place] = tuple(map(min, best[place], taken))
            shutil.rmtree(target)
    return best


def sync(folder: Path) -> None:
    """Wait until every file in a directory lies on the disk."""
    for path in folder.rglob("*.*"):
        if path.is_file():
            with path.open("rb+") as file:
                os.fsync(file)


def exporter(store: Store, options: dict[str, Any]) -> Callable[[Path], object]:
    """Return the task of exporting part of a store."""
    return lambda target: export(store, target, **options)


def large_files(store: Store, folder: Path, rounds: int) -> list[Figure]:
    """Return the speed of exports into large files against `numpy.tofile` of as many bytes, and against sha256."""
    figures = []
    for name, options in LARGE.items():
        summary = export(store, folder / "size", **options)
        shutil.rmtree(folder / "size")
        data = np.full(summary.bytes, ord("0"), np.uint8)

        def to_file(target: Path, data: np.ndarray = data) -> None:
            target.mkdir()
            data.tofile(target / "bytes.txt")

        ours, theirs = best_of(folder, rounds, exporter(store, options), to_file, to_disk=True)
        hashed = best_seconds(rounds, dict(sha256=lambda data=data: hashlib.sha256(data)))["sha256"]
        size = len(data) / 1e6
        written, on_disk = (
            f"export: {name}, {size:,.0f} MB, until {what}" for what in ("the system has it", "it lies on the disk")
        )
        figures += [
            Figure(on_disk, size / ours[1], size / theirs[1], "MB/s", "tofile and fsync", 0.3),
            Figure(written, size / ours[0], size / theirs[0], "MB/s", "tofile", 0.3),
            Figure(written, size / ours[0], size / hashed, "MB/s", "sha256 alone, on one core"),
        ]
    return figures


def words(store: Store, folder: Path, rounds: int) -> Figure:
    """Return the words a second of an export of all weights against the notebook's writer, on a sample of its lines."""
    count = export(store, folder / "count", **WEIGHTS).words
    shutil.rmtree(folder / "count")
    tiles = store.layer("features.27").weight_tile[0, 0, :8].astype(np.float32)
    if importlib.util.find_spec("torch"):
        import torch

        tiles, scalars = torch.from_numpy(tiles), "torch"
    else:
        scalars = "NumPy in place of torch"

    def notebook(target: Path) -> None:
        target.mkdir()
        for kij, tile in enumerate(tiles):
            with (target / f"weight_itile0_otile0_kij{kij}.txt").open("w") as file:
                for col in range(tile.shape[0]):
                    for row in range(tile.shape[1]):
                        value = tile[col, 7 - row]
                        if value < 0:
                            value = value + 2**4
                        code = f"{round(value.item()):04b}"
                        for k in range(4):
                            file.write(code[k])
                    file.write("\n")

    ours, theirs = best_of(folder, rounds, exporter(store, WEIGHTS), notebook)
    lines = tiles.shape[0] * tiles.shape[1]
    against = f"the notebook's writer ({scalars}), {lines} of its lines"
    return Figure("export: weight words", count / ours[0], lines / theirs[0], "words/s", against, 500)


def small_files(store: Store, folder: Path, rounds: int, layers: str) -> Figure:
    """Return the files a second of an export of all weight tiles against a bare loop that creates the same files.

    The loop makes the same names in the same folders: how fast a disk creates files depends on where.
    """
    options = dict(layers=layers, include="weight")
    summary = export(store, folder / "size", **options)
    folders: dict[str, list[str]] = {}
    for path in (folder / "size").glob("*/*"):
        folders.setdefault(path.parent.name, []).append(path.name)
    shutil.rmtree(folder / "size")
    data = b"0" * (summary.bytes // summary.files)

    def bare(target: Path) -> None:
        for layer, names in folders.items():
            (target / layer).mkdir(parents=True)
            for name in names:
                with (target / layer / name).open("wb") as file:
                    file.write(data)

    ours, theirs = best_of(folder, rounds, exporter(store, options), bare)
    name = f"export: {summary.files:,} weight files of {len(data)} bytes"
    return Figure(name, summary.files / ours[0], summary.files / theirs[0], "files/s", "a bare loop of creates", 0.5)


def export_growth(store: Store, folder: Path, rounds: int) -> Figure:
    """Return how the time of exporting a layer's psums to one file grows with their words."""
    counts, seconds, sizes = [], [], []
    for layer in ("features.27", "features.10", "features.3"):
        options = dict(layers=layer, include="psum", files="layer")
        summary = export(store, folder / "size", **options)
        shutil.rmtree(folder / "size")
        counts.append(summary.words)
        sizes.append(summary.bytes)
        seconds.append(best_of(folder, rounds, exporter(store, options))[0][0])
    return growth(f"of an export's time with words, {counts[0]:,} to {counts[-1]:,}", counts, seconds, sizes)


def export_rows(store: Store, folder: Path, quick: bool = False) -> list[Figure]:
    """Return all figures of a store with features.3, features.10 and features.27 (`quick`) or the whole network."""
    rounds = 3 if quick else 10
    small = small_files(store, folder, 1 if quick else 3, "features.10" if quick else "all")
    large = large_files(store, folder, rounds)
    return [*large, words(store, folder, rounds), small, export_growth(store, folder, rounds)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--store", type=Path, help="a store of the whole network; default: the default store")
    add_folder_option(parser)
    parser.add_argument("--quick", action="store_true", help="a few seconds: fewer rounds, 2,304 small files")
    parser.add_argument("--json", action="store_true", help="records instead of a table")
    options = parser.parse_args()
    path = options.store or default_store()
    if not path.exists():
        build(path)
    with open_store(path) as store, tempfile.TemporaryDirectory(dir=options.dir) as folder:
        figures = export_rows(store, Path(folder), options.quick)
    print(json.dumps([figure.record() for figure in figures]) if options.json else table(figures))


if __name__ == "__main__":
    main()
