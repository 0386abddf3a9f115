"""The one function that writes a plan's files, and the record of what it wrote."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from factory.dataflow import Vectors
from factory.export.fileset import FileSet
from factory.export.plan import LayerPlan, Plan
from factory.export.render import codes_of, pieces
from factory.spec import InputError

Progress = Callable[[int, int, str], None]
"""Called with the files written, the files in all, and what is being written."""


@dataclass(frozen=True)
class WrittenSet:
    """A set of files as it was written to `directory`.

    `entries` has each file's `name`, `sha256` and place on the axes that select files; `wrapped` counts the values that
    are not what they stand for.
    """

    files: FileSet
    directory: str
    entries: list[dict[str, str | int]]
    wrapped: int
    size: int


@dataclass(frozen=True)
class Group:
    """What was written of one layer itself (`image` None) or of one of its images."""

    layer: LayerPlan
    image: int | None
    sets: tuple[WrittenSet, ...]


def write_plan(plan: Plan, root: Path, progress: Progress | None = None) -> Iterator[Group]:
    """Write the files of a plan below `root`, and yield what was written, group by group in the plan's order."""
    done, total = 0, plan.file_count
    for layer in plan.layers:
        for image in (None, *(plan.images if layer.of_image else ())):
            sets = []
            vectors = layer.vectors if image is None else layer.image_vectors(image)
            for files in layer.own if image is None else layer.of_image:
                sets.append(write_set(files, vectors, image, root, plan.directory(layer, image, files)))
                done += files.count
                if progress:
                    progress(done, total, layer.name if image is None else f"{layer.name}, image {image}")
            if sets:
                yield Group(layer, image, tuple(sets))


def write_set(files: FileSet, vectors: Vectors, image: int | None, root: Path, directory: str) -> WrittenSet:
    """Write one set of files to `root/directory`."""
    folder = root / directory
    folder.mkdir(parents=True, exist_ok=True)
    names, entries, wrapped, size, first = files.files(image), [], 0, 0, 0
    file: _File | None = None
    try:
        for codes, count in codes_of(files, vectors):
            wrapped += count
            for piece, ends in pieces(files, codes, first):
                if file is None:
                    name, place = next(names)
                    file = _File(folder, name)
                file.write(piece)
                size += len(piece)
                if ends:
                    entries.append({"name": name, "sha256": file.close(), **place})
                    file = None
            first = (first + len(codes)) % files.memory.words
    finally:
        if file is not None:
            file.close()
    return WrittenSet(files, directory, entries, wrapped, size)


class _File:
    """A new file that hashes what is written to it; system calls only, because there can be 100,000 small ones."""

    def __init__(self, folder: Path, name: str):
        try:
            self._descriptor = os.open(f"{folder}/{name}", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
        except FileExistsError:
            raise InputError(
                f"two files would have the name {name}; the layouts must give them different names"
            ) from None
        self._hash = hashlib.sha256()

    def write(self, piece: bytes | memoryview) -> None:
        self._hash.update(piece)
        while piece:
            piece = piece[os.write(self._descriptor, piece) :]

    def close(self) -> str:
        """Close the file and return the sha256 (hex) of what it holds."""
        os.close(self._descriptor)
        return self._hash.hexdigest()
