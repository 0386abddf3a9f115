"""Exports in cocotb: a manifest's jobs, their words as LogicArrays, and a scoreboard that compares."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from factory.spec import ComparisonError, InputError
from factory.testbench import DEVICE_SOURCES as DEVICE_SOURCES
from factory.testbench import SINKS, Bench, Device, Job, JobWords, bench_of, read_jobs, read_manifest

if TYPE_CHECKING:
    from cocotb.types import LogicArray


@dataclass(frozen=True)
class Vectors:
    """An export, as the ports of `factory_array` (`factory/rtl/factory_array.sv`) take and give it."""

    directory: Path
    bench: Bench

    @classmethod
    def read(cls, directory: str | Path) -> Vectors:
        """Read an export's manifest; raise InputError where there is none, or where no array takes such words."""
        return cls(Path(directory), bench_of(read_manifest(Path(directory))))

    @property
    def parameters(self) -> dict[str, int]:
        """The parameters of the device."""
        return self.bench.device.parameters

    def jobs(self) -> Iterator[JobVectors]:
        """Yield the jobs in order."""
        return (JobVectors(words.job, self.bench.device, words) for words in read_jobs(self.directory, self.bench))


@dataclass(frozen=True)
class JobVectors:
    """One output tile: what the job's ports hold (`job.ports`), and its words."""

    job: Job
    device: Device
    source: JobWords

    def words(self, stream: str) -> Iterator[LogicArray]:
        """Yield the words of a stream, `act`, `weight`, `psum`, `partial`, `acc` or `out`, lane 0 in the lowest bits.

        The words of `act` and `weight` are as wide as the device's ports; those of the others have a lane of the file's
        width for each col. A stream that this job does not compare has none.
        """
        try:
            from cocotb.types import LogicArray
        except ImportError:
            raise InputError("words as LogicArrays need cocotb: pip install 'factory[cocotb]'") from None
        device = self.device
        widths = {
            "act": device.rows * device.simd * device.act_bits,
            "weight": max(device.rows, device.cols) * device.simd * device.weight_bits,
        }
        bits = widths.get(stream) or device.cols * self.lane_bits(stream)
        return (LogicArray.from_unsigned(word, bits) for word in self.source.words(stream))

    def lane_bits(self, stream: str) -> int:
        """Return the bits of a lane in a stream's files; 0 where there are none."""
        return self.source.memories[stream].stream.field_bits if stream in self.source.memories else 0

    def where(self, stream: str, place: int) -> str:
        """Return the address of a stream's word, counted from 0."""
        job = self.job
        if stream == "psum":
            it, kij, nij = np.unravel_index(place, job.walks[stream].counts)
            return f"{job.layer}, image {job.image}, it {job.it + it}, ot {job.ot}, kij {kij}, nij {nij}"
        if job.output_stationary:
            return f"{job.layer}, image {job.image}, ot {job.ot}, pt {job.pt}, row {place}"
        return f"{job.layer}, image {job.image}, it {job.it + job.it_count - 1}, ot {job.ot}, onij {place}"


@dataclass
class Scoreboard:
    """Compares what a device gives with an export, word by word and lane by lane.

    Call `begin` for each job, `take` for each word that leaves the device, and `finish` at the end. `compared` counts
    words; `mismatches` are lines, of which `most` end the comparison.
    """

    vectors: Vectors
    most: int = 10
    compared: int = 0
    mismatches: list[str] = field(default_factory=list)
    _job: JobVectors | None = None
    _words: dict[str, Iterator[LogicArray]] = field(default_factory=dict)
    _taken: dict[str, int] = field(default_factory=dict)

    def begin(self, job: JobVectors) -> None:
        """Expect a job's words; raise ComparisonError where words of the job before have not come."""
        self._end_job()
        streams = [stream for stream in SINKS if stream in job.job.walks]
        self._job, self._taken = job, dict.fromkeys(streams, 0)
        self._words = {stream: job.words(stream) for stream in streams}

    def take(self, stream: str, got: LogicArray) -> None:
        """Compare a word that left the device; one of a stream that the job does not compare is let pass.

        Raise ComparisonError where the job has no word left, or at the last mismatch that is noted.
        """
        if stream not in self._words:
            return
        job, place = self._job, self._taken[stream]
        must = next(self._words[stream], None)
        if must is None:
            raise ComparisonError(f"{job.where(stream, 0)}: must give {place} words of {stream}, not more")
        self._taken[stream], self.compared = place + 1, self.compared + 1
        bits, cols = job.lane_bits(stream), job.device.cols
        for col, (need, have) in enumerate(zip(_lanes(must, cols, bits), _lanes(got, cols, bits), strict=True)):
            if need != have:
                self.mismatches.append(f"{job.where(stream, place)}, col {col}: {stream} must be {need}, not {have}")
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
                raise ComparisonError(
                    f"{self._job.where(stream, 0)}: must give {needed} words of {stream}, not {taken}"
                )


def _lanes(word: LogicArray, cols: int, bits: int) -> list[int | str]:
    """Return a word's lanes as fields of `bits`, cut or sign-extended; a lane with an unknown bit as its digits."""
    lanes: list[int | str] = []
    width, half = len(word) // cols, 1 << (bits - 1)
    for col in range(cols):
        lane = word[col * width + width - 1 : col * width]
        lanes.append((lane.to_signed() + half) % (2 * half) - half if lane.is_resolvable else str(lane))
    return lanes
