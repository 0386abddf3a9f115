"""Exports in cocotb: a manifest's jobs, their words as LogicArrays, and a scoreboard that compares."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from factory.fileplan import read_plan
from factory.spec import ComparisonError, InputError
from factory.testbench import DEVICE_SOURCES as DEVICE_SOURCES
from factory.testbench import Bench, Device, EdgeDevice, EdgeJob, Job, JobWords, bench_of, device_sources, read_jobs

if TYPE_CHECKING:
    from cocotb.types import LogicArray

Word = Any
"""A word as a simulator gives it: see `Scoreboard.take`."""


@dataclass(frozen=True)
class Vectors:
    """An export, as the ports of `factory_array` (`factory/rtl/factory_array.sv`) take and give it.

    One of edge streams is as those of `factory_edge_array`.
    """

    directory: Path
    bench: Bench

    @classmethod
    def read(cls, directory: str | Path) -> Vectors:
        """Read an export's manifest; raise InputError where there is none, or where no array takes such words."""
        return cls(Path(directory), bench_of(read_plan(Path(directory))))

    @property
    def parameters(self) -> dict[str, int]:
        """The parameters of the device."""
        return self.bench.device.parameters

    @property
    def top(self) -> str:
        """The name of the device's module."""
        return self.bench.device.kind.top

    @property
    def sources(self) -> tuple[Path, ...]:
        """The sources of the device that ships, in an order in which they compile."""
        return device_sources(self.bench.device.kind)

    def jobs(self) -> Iterator[JobVectors]:
        """Yield the jobs in order."""
        return (JobVectors(words.job, self.bench.device, words) for words in read_jobs(self.directory, self.bench))


@dataclass(frozen=True)
class JobVectors:
    """One output tile, or one stream of each edge: what the job's ports hold (`job.ports`), and its words."""

    job: Job | EdgeJob
    device: Device | EdgeDevice
    source: JobWords

    def words(self, stream: str) -> Iterator[LogicArray]:
        """Yield the words of a stream, `act`, `weight`, `psum`, `partial`, `acc` or `out`, lane 0 in the lowest bits.

        The words of `act` and `weight` are as wide as the device's ports; those of the others have a lane of the file's
        width for each col. A stream that this job does not compare has none. Edges have the streams `west`,
        `west_valid`, `north`, `north_valid`, `south` and `south_valid`, a word for each cycle.
        """
        try:
            from cocotb.types import LogicArray
        except ImportError:
            raise InputError("words as LogicArrays need cocotb: pip install 'factory[cocotb]'") from None
        bits = self._width(stream)
        return (LogicArray.from_unsigned(word, bits) for word in self.source.words(stream))

    def lanes(self, stream: str) -> Iterator[list[int]]:
        """Yield the words of a stream as integers, lane 0 first, signed as the array reads or gives them."""
        bits = self.lane_bits(stream)
        signed = self.device.field(stream, bits).signed
        for word in self.source.words(stream):
            fields = (word >> low & (1 << bits) - 1 for low in range(0, self._width(stream), bits))
            yield [_signed(field, bits) if signed else field for field in fields]

    def expected(self, stream: str) -> Iterator[list[int | None]]:
        """Yield the words of a stream as `lanes` does, None where its valid bits say that nothing is in a lane."""
        valid = self.device.kind.valid.get(stream)
        if valid is None:
            yield from self.lanes(stream)
        else:
            for lanes, there in zip(self.lanes(stream), self.lanes(valid), strict=True):
                yield [lane if bit else None for lane, bit in zip(lanes, there, strict=True)]

    def _width(self, stream: str) -> int:
        return self.device.lanes(stream) * self.device.field(stream, self.lane_bits(stream)).bits

    def lane_bits(self, stream: str) -> int:
        """Return the bits of a lane in a stream's files; 0 where there are none."""
        return self.source.memories[stream].stream.field_bits if stream in self.source.memories else 0

    def address(self, stream: str, place: int, lane: int) -> str:
        """Return the address of a lane of a stream's word, `place` counting the job's words from 0."""
        found = self.source.memories[stream].address(self.job.walks[stream], place, lane)
        return f"{self.job.layer}, image {self.job.image}, word {place}, lane {lane}" if found is None else str(found)


@dataclass
class Scoreboard:
    """Compares what a device gives with an export, word by word and lane by lane.

    Call `begin` for each job, `take` for each word that leaves the device, and `finish` at the end. `compared` counts
    words, of edge streams lanes that are valid; `mismatches` are lines, of which `most` end the comparison.
    """

    vectors: Vectors
    most: int = 10
    compared: int = 0
    mismatches: list[str] = field(default_factory=list)
    _job: JobVectors | None = None
    _words: dict[str, Iterator[list[int | None]]] = field(default_factory=dict)
    _taken: dict[str, int] = field(default_factory=dict)

    def begin(self, job: JobVectors) -> None:
        """Expect a job's words; raise ComparisonError where words of the job before have not come."""
        self._end_job()
        kind = job.device.kind
        streams = [name for name in kind.sinks if name in job.job.walks and name not in kind.valid.values()]
        self._job, self._taken = job, dict.fromkeys(streams, 0)
        self._words = {stream: job.expected(stream) for stream in streams}

    def take(self, stream: str, got: Word, valid: Word = None) -> None:
        """Compare a word that left the device; one of a stream that the job does not compare is let pass.

        `got` is a LogicArray of any range, lane 0 in its rightmost bits; an int, which is such a word; or the lanes
        themselves, each a LogicArray or an int: a list, lane 0 first, or an unpacked array, its lowest index lane 0.
        `valid` are the device's own valid bits of the lanes, of edge streams; lanes that must be, must be valid.
        Raise ComparisonError where the job has no word left, or at the last mismatch that is noted; InputError for
        anything else.
        """
        if stream not in self._words:
            return
        job, place = self._job, self._taken[stream]
        must = next(self._words[stream], None)
        if must is None:
            raise ComparisonError(f"{job.address(stream, 0, 0)}: must give {place} words of {stream}, not more")
        self._taken[stream] = place + 1
        self.compared += len(must) - must.count(None) if stream in job.device.kind.valid else 1
        bits, cols = job.lane_bits(stream), job.device.cols
        lanes = _lanes(stream, got, cols, bits)
        if valid is not None:
            there = _lanes(f"{stream}'s valid", valid, cols, 1)
            lanes = [lane if bit == -1 else "invalid" for lane, bit in zip(lanes, there, strict=True)]
        for col, (need, have) in enumerate(zip(must, lanes, strict=True)):
            if need is not None and need != have:
                self.mismatches.append(f"{job.address(stream, place, col)}: {stream} must be {need}, not {have}")
                if len(self.mismatches) == self.most:
                    raise ComparisonError("\n".join(self.mismatches))

    def finish(self) -> int:
        """Return how many words were compared; raise ComparisonError unless they were all, and were all right."""
        if self.mismatches:
            raise ComparisonError("\n".join(self.mismatches))
        self._end_job()
        if not self.compared or self.compared != self.vectors.bench.compared:
            raise ComparisonError(f"{self.vectors.bench.compared} words must be compared, not {self.compared}")
        return self.compared

    def _end_job(self) -> None:
        for stream, taken in self._taken.items():
            needed = self._job.job.walks[stream].words
            if taken != needed:
                address = self._job.address(stream, 0, 0)
                raise ComparisonError(f"{address}: must give {needed} words of {stream}, not {taken}")


def _lanes(stream: str, word: Word, cols: int, bits: int) -> list[int | str]:
    """Return a word's lanes as fields of `bits`, cut or sign-extended; a lane with an unknown bit as its digits."""
    if isinstance(word, int):
        word = format(word % (1 << cols * bits), f"0{cols * bits}b")
    elif _is_logic(word):
        word = str(word)  # leftmost bit first, whatever the range counts
    if isinstance(word, str):
        width = len(word) // cols
        if not width or len(word) % cols:
            raise InputError(f"{stream}: a word must have bits for each of {cols} lanes, not {len(word)} bits in all")
        lanes = [word[len(word) - (col + 1) * width : len(word) - col * width] for col in range(cols)]
    else:
        lanes = _unpacked(stream, word)
        if len(lanes) != cols:
            raise InputError(f"{stream}: a word must have {cols} lanes, not {len(lanes)}")
    return [_lane(stream, lane, bits) for lane in lanes]


def _unpacked(stream: str, word: Any) -> list[Any]:
    """Return the lanes of a list, or of an unpacked array by ascending index."""
    try:
        lanes = list(word)
    except TypeError:
        kinds = "a LogicArray, an int, or a list or unpacked array of such lanes"
        raise InputError(f"{stream}: a word must be {kinds}, not {type(word).__name__}") from None
    counts = getattr(getattr(word, "range", None), "direction", "to")
    return lanes[::-1] if counts == "downto" else lanes


def _is_logic(value: Any) -> bool:
    return hasattr(value, "is_resolvable")


def _lane(stream: str, lane: Any, bits: int) -> int | str:
    if isinstance(lane, str) or _is_logic(lane):
        digits = str(lane)
        return _signed(int(_extended(digits, bits), 2), bits) if set(digits) <= {"0", "1"} else digits
    if isinstance(lane, int):
        return _signed(lane % (1 << bits), bits)
    raise InputError(f"{stream}: a lane must be a LogicArray or an int, not {type(lane).__name__}")


def _extended(digits: str, bits: int) -> str:
    """Return the last `bits` digits, sign-extended where there are fewer."""
    return digits[-bits:].rjust(bits, digits[0])


def _signed(field: int, bits: int) -> int:
    return field - (1 << bits) if field >> bits - 1 else field
