"""The one function that writes a plan's files, and the record of what it wrote."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from itertools import cycle
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from factory.dataflow import Vectors
from factory.export.beside import MOST_PENDING, Beside
from factory.export.fileset import FileSet
from factory.export.plan import LayerPlan, Plan
from factory.export.render import RUN_BYTES, pieces, runs
from factory.spec import InputError, Progress

_LARGE = 1 << 16


class WrittenFile(NamedTuple):
    """A file as it was written: `place` is what it holds of the axes that select files."""

    name: str
    sha256: str
    place: tuple[int, ...]


@dataclass(frozen=True)
class WrittenSet:
    """A set of files as it was written to `directory`, `bytes` in all.

    `wrapped` counts the values that are not what they stand for.
    """

    files: FileSet
    directory: str
    written: tuple[WrittenFile, ...]
    wrapped: int
    bytes: int


@dataclass(frozen=True)
class Group:
    """What was written of one layer itself (`image` None) or of one of its images."""

    layer: LayerPlan
    image: int | None
    sets: tuple[WrittenSet, ...]


def write_plan(plan: Plan, root: Path, progress: Progress | None = None) -> Iterator[Group]:
    """Write the files of a plan below `root`, and yield what was written, group by group in the plan's order."""
    done, total = 0, plan.file_count
    with Beside() as beside:
        writer = _Writer(root, beside, cycle([np.empty(RUN_BYTES, np.uint8) for _ in range(MOST_PENDING + 3)]))
        for layer in plan.layers:
            for image in (None, *(plan.images if layer.of_image else ())):
                vectors = layer.vectors if image is None else layer.image_vectors(image)
                sets = []
                for files in layer.own if image is None else layer.of_image:
                    sets.append(writer.write(files, vectors, image, plan.directory(layer, image, files)))
                    done += files.count
                    if progress:
                        progress(done, total, vectors.where)
                if sets:
                    yield Group(layer, image, tuple(sets))


@dataclass(frozen=True)
class _Writer:
    """What all sets of files are written with.

    One of `buffers` is being written while the next one is made, and up to `MOST_PENDING` wait to be hashed.
    """

    root: Path
    beside: Beside
    buffers: Iterator[np.ndarray]

    def write(self, files: FileSet, vectors: Vectors, image: int | None, directory: str) -> WrittenSet:
        """Write one set of files to `root/directory`."""
        folder = self.root / directory
        folder.mkdir(parents=True, exist_ok=True)
        hashed: list[tuple[str, Any, tuple[int, ...]]] = []
        names, wrapped, size, file = files.files(image), 0, 0, None
        try:
            for run in self.beside.ahead(runs(files, vectors, self.buffers)):
                wrapped += run.wrapped
                for piece, ends in pieces(files, run):
                    if file is None:
                        name, place = next(names)
                        file, digest = _create(f"{folder}/{name}"), hashlib.sha256()
                        hashed.append((name, digest, place))
                        small = ends and len(piece) < _LARGE
                        update = digest.update if small else partial(self.beside.update, digest)
                    update(piece)
                    size += len(piece)
                    _write_all(file, piece)
                    if ends:
                        os.close(file)
                        file = None
        finally:
            if file is not None:
                os.close(file)
        self.beside.finish_hashes()
        written = tuple(WrittenFile(name, digest.hexdigest(), place) for name, digest, place in hashed)
        return WrittenSet(files, directory, written, wrapped, size)


def _create(path: str) -> int:
    try:
        return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
    except FileExistsError:
        name = path.rpartition("/")[2]
        raise InputError(f"layouts must give each file a name of its own, {name} would be there twice") from None


def _write_all(file: int, piece: bytes | memoryview) -> None:
    written = os.write(file, piece)
    while written < len(piece):
        piece = memoryview(piece)[written:]
        written = os.write(file, piece)
