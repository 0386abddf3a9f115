"""What a device gave in a simulation, as files: the testbench's log of words, each put where its right one lies."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import numpy as np
from jaxtyping import Bool, UInt8

from factory.testbench.records import Bench, EdgeJob, Job, Load, Stream

_UNKNOWN = ord("x")


@dataclass(frozen=True)
class GivenMemory:
    """The lines that one stream gave, as digits of radix 2, the highest bit first; x where nothing came.

    `came` says of which lines some word did.
    """

    stream: Stream
    load: Load
    digits: UInt8[np.ndarray, "line bit"]
    came: Bool[np.ndarray, " line"]

    @classmethod
    def of(cls, stream: Stream, load: Load, others: Iterable[GivenMemory] = ()) -> GivenMemory:
        """Return a memory to which nothing came yet; it is that of another one whose files are the same."""
        for other in others:
            if (other.load.paths, other.load.where) == (load.paths, load.where):
                return cls(stream, load, other.digits, other.came)
        lines = len(load.paths) * load.words
        return cls(stream, load, np.full((lines, stream.line_bits), _UNKNOWN, np.uint8), np.zeros(lines, bool))

    def put(self, job: Job | EdgeJob, words: UInt8[np.ndarray, "word bit"], bits: int) -> None:
        """Put a job's first words, with lanes of `bits`, the highest lane first, where they belong."""
        walk, width, field = job.walks[self.load.stream], self.stream.line_bits, self.stream.field_bits
        count = min(len(words), walk.words)
        lines = [[walk.line(place, part) for place in range(count)] for part in range(self.stream.parts)]
        for lane in range(words.shape[1] // bits):
            high = words.shape[1] - lane * bits
            digits = words[:count, high - bits : high]
            digits = digits[:, -field:]  # cut to the file's field, or sign-extended to it
            wider = np.repeat(digits[:, :1], field - digits.shape[1], axis=1)
            part, low = self.stream.lanes[walk.lane + lane]
            self.digits[lines[part], width - low - field : width - low] = np.hstack([wider, digits])
            self.came[lines[part]] = True

    def files(self) -> Iterator[tuple[str, bytes]]:
        """Yield each file's path and text, in the radix of the export's own, up to the last line that came."""
        for at, path in enumerate(self.load.paths):
            whole = slice(at * self.load.words, (at + 1) * self.load.words)
            lines = self.digits[whole][: int(np.flatnonzero(self.came[whole]).max(initial=-1)) + 1]
            text = _hexadecimal(lines) if self.stream.hexadecimal else lines
            yield path, np.pad(text, ((0, 0), (0, 1)), constant_values=ord("\n")).tobytes()


def _hexadecimal(lines: UInt8[np.ndarray, "line bit"]) -> UInt8[np.ndarray, "line digit"]:
    """Return the lines' digits of radix 16, x where any of the four bits is unknown."""
    padded = np.pad(lines, ((0, 0), (-lines.shape[1] % 4, 0)), constant_values=ord("0"))
    nibbles = padded.reshape(len(lines), padded.shape[1] // 4, 4)
    known = np.isin(nibbles, (ord("0"), ord("1"))).all(axis=2)
    values = (nibbles & 1) @ np.array([8, 4, 2, 1], np.uint8)
    return np.where(known, np.frombuffer(b"0123456789abcdef", np.uint8)[values], _UNKNOWN).astype(np.uint8)


def given_files(bench: Bench, log: Path) -> Iterator[tuple[str, bytes]]:
    """Yield the files of what a device gave: the export's own paths, and their text.

    `log` is what the testbench wrote with `+dump`: lines `STREAM JOB BITS`, the words of a stream and job in order.
    """
    memories: dict[str, GivenMemory] = {}
    given, job = _jobs(log), 0
    run = next(given, None)
    for step in bench.steps:
        if isinstance(step, Load) and step.stream in bench.device.kind.sinks:
            if step.stream in memories:
                yield from memories[step.stream].files()
            memories[step.stream] = GivenMemory.of(bench.streams[step.stream], step, memories.values())
        elif not isinstance(step, Load):
            if run is not None and run[0] == job:
                for name, words in run[1].items():
                    memories[name].put(step, words, words.shape[1] // bench.device.cols)
                run = next(given, None)
            job += 1
    for memory in memories.values():
        yield from memory.files()


def streamed_files(bench: Bench, name: str, words: UInt8[np.ndarray, "word bit"]) -> Iterator[tuple[str, bytes]]:
    """Yield the files of one stream from all of its words in the order of time; too many are at the end of the last."""
    memory, path, data = None, "", b""
    for step in bench.steps:
        if isinstance(step, Load) and step.stream == name:
            if memory is not None:
                yield from memory.files()
            memory = GivenMemory.of(bench.streams[name], step)
        elif not isinstance(step, Load) and name in step.walks:
            memory.put(step, words, words.shape[1] // bench.device.cols)
            words = words[step.walks[name].words :]
    for path, data in memory.files() if memory else ():
        yield path, data
    if len(words):
        width = bench.streams[name].line_bits
        digits = 4 if bench.streams[name].hexadecimal else 1
        yield path, data + (b"x" * -(-width // digits) + b"\n") * len(words)


def _jobs(log: Path) -> Iterator[tuple[int, dict[str, UInt8[np.ndarray, "word bit"]]]]:
    """Yield each job that gave words, and the words of each stream."""
    with log.open("rb") as file:
        for job, lines in groupby(_whole(file), lambda line: line[1]):
            words: dict[bytes, list[bytes]] = {}
            for name, _, bits in lines:
                words.setdefault(name, []).append(bits)
            yield int(job), {name.decode(): _matrix(found) for name, found in words.items()}


def _matrix(words: list[bytes]) -> UInt8[np.ndarray, "word bit"]:
    return np.frombuffer(b"".join(words), np.uint8).reshape(len(words), len(words[0]))


def _whole(lines: Iterable[bytes]) -> Iterator[list[bytes]]:
    """Yield the words of each line; a simulation that was ended may have cut the last one."""
    for line in lines:
        parts = line.split()
        if len(parts) == 3 and line.endswith(b"\n"):
            yield parts


def write_given(bench: Bench, log: Path, folder: Path) -> None:
    """Write what a device gave, as its log says, to the folder `folder`."""
    for path, data in given_files(bench, log):
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(data)
