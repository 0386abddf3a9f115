"""The words of a bench without a simulator: files into memories, and walks through them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from factory.arithmetic.labelled import Address
from factory.spec import InputError
from factory.testbench.records import Bench, EdgeJob, Job, Load, Stream, Walk


@dataclass(frozen=True)
class LoadedMemory:
    """One stream's memory, filled from files."""

    directory: Path
    stream: Stream
    load: Load

    @cached_property
    def lines(self) -> tuple[int, ...]:
        """The lines, as the files hold them."""
        paths = [self.directory / path for path in self.load.paths]
        return tuple(line for path in paths for line in _file_lines(path, self.load.words, self.stream))

    def words(self, walk: Walk) -> Iterator[int]:
        """Yield the words of a walk, the walk's own lane 0 in the lowest bits."""
        stream, mask = self.stream, (1 << self.stream.field_bits) - 1
        lanes = stream.lanes[walk.lane :][: stream.width or None]
        for place in range(walk.words):
            word = 0
            for lane, (part, low) in enumerate(lanes):
                field = self.lines[walk.line(place, part)] >> low & mask
                word |= field << lane * stream.field_bits
            yield word

    def address(self, walk: Walk, place: int, lane: int) -> Address | None:
        """Return the address of a lane of the word at a place in a walk; None where it stands for nothing."""
        part, low = self.stream.lanes[walk.lane + lane]
        return self.load.address(walk.line(place, part), low)


@dataclass(frozen=True)
class JobWords:
    """A job, the streams that such jobs may have, and their memories."""

    job: Job | EdgeJob
    streams: tuple[str, ...]
    memories: Mapping[str, LoadedMemory]

    def words(self, name: str) -> Iterator[int]:
        """Yield the words of a stream in the job's order, lane 0 in the lowest bits; none where it is not compared."""
        if name not in self.streams:
            raise InputError(f"stream must be one of {' '.join(self.streams)}, not {name}")
        if name in self.job.walks:
            yield from self.memories[name].words(self.job.walks[name])


def read_jobs(directory: Path, bench: Bench) -> Iterator[JobWords]:
    """Yield the jobs of a bench in order; files are read when their words are asked for."""
    memories: dict[str, LoadedMemory] = {}
    for step in bench.steps:
        if isinstance(step, Load):
            memories = memories | {step.stream: LoadedMemory(directory, bench.streams[step.stream], step)}
        else:
            yield JobWords(step, bench.device.kind.streams, memories)


def _file_lines(path: Path, words: int, stream: Stream) -> list[int]:
    try:
        text = path.read_text().splitlines()[stream.header_lines :]
        lines = [int(line, 16 if stream.hexadecimal else 2) for line in text]
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: must be a memory file: {error}") from None
    if len(lines) != words:
        raise InputError(f"{path}: must hold {words} words, not {len(lines)}")
    return lines
