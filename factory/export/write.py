"""The one function that writes a plan's files, beside making and hashing them, and the record of what it wrote."""

from __future__ import annotations

import hashlib
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import cycle, islice
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np

from factory.arithmetic.labelled import Address
from factory.dataflow import LayerVectors
from factory.export.render import RUN_BYTES, Inexact, pieces, runs
from factory.fileplan import ExportPlan, FileSet, LayerFiles
from factory.spec import InputError, Progress

_LARGE = 1 << 16
"""Pieces from this size on are hashed on another thread: handing over a smaller one costs more than hashing it."""
MOST_PENDING = 4
Item = TypeVar("Item")
_END = object()


class WrittenFile(NamedTuple):
    """A file as it was written: `labels` are what it holds of the axes that select files."""

    name: str
    sha256: str
    labels: tuple[int, ...]


@dataclass(frozen=True)
class WrittenSet:
    """A set of files as it was written to `directory`, `bytes` in all.

    `inexact` counts its values that are not what they stand for, `operands` the codes that they follow from and that
    the array reads as others, by the role of an operand of which the export has no files.
    """

    files: FileSet
    directory: str
    written: tuple[WrittenFile, ...]
    inexact: Inexact
    operands: Mapping[str, int]
    bytes: int


@dataclass(frozen=True)
class WrittenGroup:
    """What was written of one layer itself (`image` None) or of one of its images."""

    layer: LayerFiles
    image: int | None
    sets: tuple[WrittenSet, ...]

    @property
    def file_count(self) -> int:
        """Number of files."""
        return sum(len(written.written) for written in self.sets)


def write_plan(
    plan: ExportPlan,
    vectors: Mapping[str, LayerVectors],
    root: Path,
    workers: int,
    progress: Progress | None = None,
) -> Iterator[WrittenGroup]:
    """Write the files of a plan below `root`, and yield what was written, group by group in the plan's order.

    `vectors` are those of each layer. Groups are written by as many threads as there are `workers`. Where there is but
    one, the words are formatted and the files hashed by two more threads beside the writing. Closing the iterator ends
    the threads.
    """
    groups, done, total = plan.groups(), 0, plan.file_count
    with ThreadPoolExecutor(workers) as pool:
        write = partial(_write_group, plan, vectors, root, ThreadedHelp if workers == 1 else SameThreadHelp)
        pending = deque(pool.submit(write, *group) for group in islice(groups, workers + 1))
        try:
            while pending:
                group = pending.popleft().result()
                pending.extend(pool.submit(write, *group) for group in islice(groups, 1))
                done += group.file_count
                if progress:
                    progress(done, total, str(Address(group.layer.name, group.image)))
                yield group
        finally:
            pool.shutdown(cancel_futures=True)


def _write_group(
    plan: ExportPlan,
    vectors: Mapping[str, LayerVectors],
    root: Path,
    helper: Callable,
    layer: LayerFiles,
    image: int | None,
) -> WrittenGroup:
    own = vectors[layer.name]
    values = own if image is None else own.of_image(image)
    with helper() as help:
        writer = _Writer(root, help, cycle([np.empty(RUN_BYTES, np.uint8) for _ in range(help.buffers)]))
        sets = tuple(
            writer.write(files, values, plan.directory(layer, image, files), _unseen_operands(layer, values, files))
            for files in layer.sets(image)
        )
    return WrittenGroup(layer, image, sets)


def _unseen_operands(layer: LayerFiles, vectors: LayerVectors, files: FileSet) -> dict[str, int]:
    """Return how many codes the array reads as others, of each operand that a set follows from without its files."""
    if not files.role.follows:
        return {}
    return {name: codes.inexact for name, codes in vectors.operands().items() if not layer.holds(name)}


class ThreadedHelp:
    """Two threads, one that makes what is to be written and one that hashes what is written; a context manager.

    One of `buffers` is being written while the next one is made, and up to `MOST_PENDING` wait to be hashed.
    """

    buffers = MOST_PENDING + 3

    def __init__(self):
        self._maker, self._hasher = ThreadPoolExecutor(1), ThreadPoolExecutor(1)
        self._pending: deque[Future] = deque()

    def __enter__(self) -> ThreadedHelp:
        return self

    def __exit__(self, *exception: object) -> None:
        self._maker.shutdown()
        self._hasher.shutdown()

    def ahead(self, items: Iterator[Item]) -> Iterator[Item]:
        """Yield the items, the next one being made while one is used."""
        made = self._maker.submit(next, items, _END)
        while (item := made.result()) is not _END:
            made = self._maker.submit(next, items, _END)
            yield item

    def update(self, hash: Any, piece: bytes | memoryview) -> None:
        """Update a hash of `hashlib` with bytes that stay as they are for `MOST_PENDING` more calls."""
        if len(self._pending) == MOST_PENDING:
            self._pending.popleft().result()
        self._pending.append(self._hasher.submit(hash.update, piece))

    def finish_hashes(self) -> None:
        """Wait until every hash has all that it was given."""
        while self._pending:
            self._pending.popleft().result()


class SameThreadHelp:
    """The same on the calling thread, one thing after the other: for many writers, each on a thread of its own."""

    buffers = 1

    def __enter__(self) -> SameThreadHelp:
        return self

    def __exit__(self, *exception: object) -> None:
        pass

    def ahead(self, items: Iterator[Item]) -> Iterator[Item]:
        """Return the items."""
        return items

    def update(self, hash: Any, piece: bytes | memoryview) -> None:
        """Update a hash of `hashlib`."""
        hash.update(piece)

    def finish_hashes(self) -> None:
        """Do nothing: every hash has all that it was given."""


@dataclass(frozen=True)
class _Writer:
    """What all sets of files of a group are written with: `buffers` are reused as `help` allows."""

    root: Path
    help: ThreadedHelp | SameThreadHelp
    buffers: Iterator[np.ndarray]

    def write(self, files: FileSet, vectors: LayerVectors, directory: str, operands: Mapping[str, int]) -> WrittenSet:
        """Write one set of files to `root/directory`."""
        folder = self.root / directory
        folder.mkdir(parents=True, exist_ok=True)
        hashed: list[tuple[str, Any, tuple[int, ...]]] = []
        names, inexact, size, file = files.files(vectors.image), Inexact(), 0, None
        try:
            for run in self.help.ahead(runs(files, vectors, self.buffers)):
                inexact += run.inexact
                for piece, ends in pieces(files, run, vectors.image):
                    if file is None:
                        name, labels = next(names)
                        file, digest = _create(f"{folder}/{name}"), hashlib.sha256()
                        hashed.append((name, digest, labels))
                        small = ends and len(piece) < _LARGE
                        update = digest.update if small else partial(self.help.update, digest)
                    update(piece)
                    size += len(piece)
                    _write_all(file, piece)
                    if ends:
                        ended, file = file, None  # a close that fails is not tried again
                        os.close(ended)
        finally:
            if file is not None:
                os.close(file)
        self.help.finish_hashes()
        written = tuple(WrittenFile(name, digest.hexdigest(), labels) for name, digest, labels in hashed)
        return WrittenSet(files, directory, written, inexact, operands, size)


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
