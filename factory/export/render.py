"""Files as bytes: the vectors of a set of files, as a stream of codes and then of pieces of files."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from jaxtyping import Integer, UInt8

from factory import bits
from factory.dataflow import Vectors
from factory.export.fileset import FileSet
from factory.memfile import FORMATS, Named

PIECE_BYTES = 1 << 20


def codes_of(files: FileSet, vectors: Vectors) -> Iterator[tuple[Integer[np.ndarray, "word lane"], int]]:
    """Yield the words of all files, one after the other, as codes that their lanes hold; a few files or more at a time.

    With each comes how many values are not what they stand for: sums that an adder could not hold, codes that the
    array reads as others, values that are too wide for their lane.
    """
    layout, memory = files.layout, files.memory
    sources = vectors.sources(layout.role, layout.axes[0], "pt" in layout.axes)
    if memory.words == files.lines:
        yield from (_lanes(files, source) for source in sources)
        return
    parts = [_lanes(files, source) for source in sources]
    codes = np.concatenate([codes for codes, _ in parts]).reshape(-1, files.lines, memory.lanes)
    padded = np.pad(codes, ((0, 0), (0, memory.words - files.lines), (0, 0)))
    yield padded.reshape(-1, memory.lanes), sum(wrapped for _, wrapped in parts)


def _lanes(files: FileSet, source: Named) -> tuple[Integer[np.ndarray, "word lane"], int]:
    memory = files.memory
    values = files.layout.arrange(source).values.reshape(-1, memory.lanes)
    held, wrapped = bits.hold(values, memory.lane_bits, memory.signed)
    return held, source.wrapped + wrapped


def pieces(
    files: FileSet, codes: Integer[np.ndarray, "word lane"], first: int, buffers: Iterator[np.ndarray]
) -> Iterator[tuple[bytes | memoryview, bool]]:
    """Yield `(bytes, whether a file ends with them)` of words that begin at the place `first` of a file.

    The bytes lie in the next one of `buffers`, uint8 of `PIECE_BYTES`, which warm memory makes several times as fast.
    """
    memory, made = files.memory, FORMATS[files.layout.format]
    head = files.layout.header_lines(files.sizes) + made.prefix(memory)
    width = made.width(memory)
    words = max(PIECE_BYTES // width, 1)
    if memory.words < words:
        words -= words % memory.words
    for start in range(0, len(codes), words):
        run, at = codes[start : start + words], 0
        lines = _lines_in(next(buffers), len(run), width)
        made.fill(memory, run, (first + start) % memory.words, lines)
        body = memoryview(lines).cast("B")
        while at < len(run):
            place = (first + start + at) % memory.words
            count = min(memory.words - place, len(run) - at)
            piece, ends = body[at * width : (at + count) * width], place + count == memory.words
            if (head and not place) or (made.suffix and ends):
                piece = b"".join((b"" if place else head, piece, made.suffix if ends else b""))
            yield piece, ends
            at += count


def _lines_in(buffer: UInt8[np.ndarray, " size"], words: int, width: int) -> UInt8[np.ndarray, "word byte"]:
    """Return the beginning of a buffer as lines; new memory where a single line is longer than the buffer."""
    if words * width > buffer.size:
        return np.empty((words, width), np.uint8)
    return buffer[: words * width].reshape(words, width)
