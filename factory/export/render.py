"""Files as bytes: the vectors of a set of files, as runs of formatted words, and these cut into pieces of files."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Integer, UInt8

from factory.arithmetic.bits import Field
from factory.arithmetic.labelled import LabelledArray
from factory.dataflow import LayerVectors
from factory.fileplan import FileSet
from factory.memfile.named import BIT

RUN_BYTES = 1 << 20


@dataclass(frozen=True)
class Inexact:
    """How many values are not what they stand for: `made` so by adders, or as the array reads them; or by a `lane`."""

    made: int = 0
    lane: int = 0

    def __add__(self, other: Inexact) -> Inexact:
        return Inexact(self.made + other.made, self.lane + other.lane)

    @property
    def total(self) -> int:
        """All of them."""
        return self.made + self.lane


@dataclass(frozen=True)
class Run:
    """Formatted words that follow each other, through one file or several.

    `lines` are the words as their format has them, the first one at the place `first`, counted through all files;
    `inexact` says how many values are not what they stand for.
    """

    lines: UInt8[np.ndarray, "word byte"]
    first: int
    inexact: Inexact


def runs(files: FileSet, vectors: LayerVectors, buffers: Iterator[UInt8[np.ndarray, " size"]]) -> Iterator[Run]:
    """Yield all words of a set of files, each run in the next one of `buffers`, of `RUN_BYTES`.

    Buffers are used again because warm memory is several times as fast as new memory.
    """
    memory, made = files.memory, files.format
    width, first = made.width(memory), 0
    most = max(RUN_BYTES // width, 1)
    if memory.words < most:
        most -= most % memory.words
    for codes, inexact in codes_of(files, vectors):
        for start in range(0, len(codes), most):
            part = codes[start : start + most]
            lines = _lines_in(next(buffers), len(part), width)
            made.fill(memory, part, first, lines)
            yield Run(lines, first, Inexact() if start else inexact)
            first += len(part)


def pieces(files: FileSet, run: Run, image: int | None) -> Iterator[tuple[bytes | memoryview, bool]]:
    """Yield `(bytes, whether a file ends with them)` of a run, with what comes before and after a file's words."""
    memory, made, header = files.memory, files.format, files.placement.header_lines()
    body, (words, width) = memoryview(run.lines).cast("B"), run.lines.shape
    ragged, named = made.is_ragged(memory), made.names_file()
    head, foot = header + made.prefix(memory), made.ending(memory)
    at, (file, position) = 0, divmod(run.first, memory.words)
    while at < words:
        count = min(memory.words - position, words - at)
        piece, ends = body[at * width : (at + count) * width], position + count == memory.words
        if ragged:
            piece = made.compact(memory, run.lines[at : at + count]).tobytes()
        if named:
            name = files.name(image, files.labels_of(file))
            head, foot = header + made.prefix(memory, name), made.ending(memory, name)
        if (head and not position) or (foot and ends):
            piece = b"".join((b"" if position else head, piece, foot if ends else b""))
        yield piece, ends
        at, file, position = at + count, file + 1, 0


def _lines_in(buffer: UInt8[np.ndarray, " size"], words: int, width: int) -> UInt8[np.ndarray, "word byte"]:
    """Return the beginning of a buffer as lines; new memory where a single line is longer than the buffer."""
    if words * width > buffer.size:
        return np.empty((words, width), np.uint8)
    return buffer[: words * width].reshape(words, width)


def codes_of(files: FileSet, vectors: LayerVectors) -> Iterator[tuple[Integer[np.ndarray, "word lane"], Inexact]]:
    """Yield the words of all files, one after the other, as codes that their lanes hold; a few files or more at a time.

    With each comes how many values are not what they stand for: sums that an adder could not hold, codes that the
    array reads as others, values that are too wide for their lane.
    """
    memory, placement = files.memory, files.placement
    lines = placement.lines * (1 if placement.beats is None else placement.beats.count)
    outer = (*files.layout.files, *files.layout.lines, *files.layout.lanes)[0]
    if files.role.edge:
        vectors = replace(vectors, edge=files.layout.edge)
    if files.role.states:
        layout = files.layout
        vectors = replace(vectors, base=layout.base, stride=layout.stride, pixel_words=layout.pixel_words)
    parted = not outer.reversed and outer.name not in placement.copies
    sources = files.role.values(vectors, outer.name if parted else "")  # parts come in ascending order
    if memory.words == lines:
        yield from (_lanes(files, source) for source in sources)
        return
    parts = [_lanes(files, source) for source in sources]
    codes = np.concatenate([codes for codes, _ in parts]).reshape(-1, lines, memory.word.lanes)
    inexact = sum((inexact for _, inexact in parts), Inexact())
    several = max(RUN_BYTES // (memory.words * memory.word.lanes), 1)
    for start in range(0, len(codes), several):
        padded = np.pad(codes[start : start + several], ((0, 0), (0, memory.words - lines), (0, 0)))
        yield padded.reshape(-1, memory.word.lanes), Inexact() if start else inexact


def _lanes(files: FileSet, source: LabelledArray) -> tuple[Integer[np.ndarray, "word lane"], Inexact]:
    placement, field = files.placement, files.layout.field
    held, changed = field.wrap(source.values)
    inexact, source = Inexact(source.inexact, changed), replace(source, values=held)
    if BIT in placement.axes:
        source = _bits(source, field)
    lines = placement.fill(source)
    return lines if placement.beats is None else placement.beats.cut(placement.word.pack(lines)), inexact


def _bits(codes: LabelledArray, field: Field) -> LabelledArray:
    """Return the bits of codes, on an axis of their own, the least significant first."""
    fields = field.encode(codes.values)[..., None]
    planes = (fields >> np.arange(field.bits, dtype=fields.dtype) & 1).astype(np.uint8)
    return replace(codes, values=planes, axes=(*codes.axes, BIT))
