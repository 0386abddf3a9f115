"""The one function that writes a plan's files, and the record of what it wrote."""

from __future__ import annotations

import hashlib
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import cycle, islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from factory.dataflow import Vectors
from factory.export.beside import Beside, InTurn
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

    @property
    def file_count(self) -> int:
        """Number of files."""
        return sum(len(written.written) for written in self.sets)


def write_plan(plan: Plan, root: Path, workers: int, progress: Progress | None = None) -> Iterator[Group]:
    """Write the files of a plan below `root`, and yield what was written, group by group in the plan's order.

    Groups are written by as many threads as there are `workers`. Where there is but one, the words are formatted and
    the files hashed by two more threads beside the writing. Closing the iterator ends the threads.
    """
    jobs, done, total = _jobs(plan), 0, plan.file_count
    with ThreadPoolExecutor(workers) as pool:
        write = partial(_write_group, plan, root, Beside if workers == 1 else InTurn)
        pending = deque(pool.submit(write, *job) for job in islice(jobs, workers + 1))
        try:
            while pending:
                group = pending.popleft().result()
                pending.extend(pool.submit(write, *job) for job in islice(jobs, 1))
                done += group.file_count
                if progress:
                    progress(done, total, group.layer.where(group.image))
                yield group
        finally:
            pool.shutdown(cancel_futures=True)


def _jobs(plan: Plan) -> Iterator[tuple[LayerPlan, int | None]]:
    for layer in plan.layers:
        if layer.own:
            yield layer, None
        if layer.of_image:
            yield from ((layer, image) for image in plan.images)


def _write_group(plan: Plan, root: Path, beside: Callable, layer: LayerPlan, image: int | None) -> Group:
    vectors = layer.vectors if image is None else layer.image_vectors(image)
    with beside() as helper:
        writer = _Writer(root, helper, cycle([np.empty(RUN_BYTES, np.uint8) for _ in range(helper.buffers)]))
        sets = tuple(
            writer.write(files, vectors, image, plan.directory(layer, image, files))
            for files in (layer.own if image is None else layer.of_image)
        )
    return Group(layer, image, sets)


@dataclass(frozen=True)
class _Writer:
    """What all sets of files of a group are written with: `buffers` are reused as `beside` allows."""

    root: Path
    beside: Beside | InTurn
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
                        ended, file = file, None  # a close that fails is not tried again
                        os.close(ended)
        finally:
            if file is not None:
                os.close(file)
        self.beside.finish_hashes()
        written = tuple(WrittenFile(name, digest.hexdigest(), place) for name, digest, place in hashed)
        return WrittenSet(files, directory, written, wrapped, size)


def write_new(path: Path, pieces: Iterable[bytes]) -> None:
    """Write a file that is not there yet; raise InputError where a layout has taken its name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    file = _create(str(path))
    try:
        for piece in pieces:
            _write_all(file, piece)
    finally:
        os.close(file)


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
