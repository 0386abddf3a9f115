"""Waveforms: the words of a signal at the clock's edges at which they are valid, from a VCD or FST file."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from jaxtyping import UInt8

from factory.dataflow import ROLES
from factory.fileplan import ExportPlan
from factory.spec import InputError
from factory.testbench import bench_of, streamed_files


@dataclass(frozen=True)
class Waveform:
    """A waveform file, and the paths of its signals, such as `tb.dut.out`.

    A word is what `signal` holds before a rising edge of `clock` at which every signal of `valid` is 1: what a register
    that is clocked by that edge takes.
    """

    path: Path
    signal: str
    clock: str
    valid: tuple[str, ...]

    def words(self) -> UInt8[np.ndarray, "word bit"]:
        """Return the words as digits of radix 2, x and z among them, the highest bit first."""
        try:
            from pywellen import Waveform as Reader
        except ImportError:
            raise InputError("waveforms need pywellen: pip install 'factory[waves]'") from None
        if not self.path.is_file():
            raise InputError(f"{self.path}: must be a VCD or FST file, there is no such file")
        try:
            found = {variable.full_name: variable for variable in Reader(str(self.path)).all_vars()}
        except RuntimeError as error:
            why = " ".join(str(error).split())
            raise InputError(f"{self.path}: must be a VCD or FST file: {why}") from None
        times, values = self._bits(found, self.clock)
        rises = np.array([value == 1 for value in values], bool)
        edges = times[1:][rises[1:] & ~rises[:-1]]
        taken = np.ones(len(edges), bool)
        for name in self.valid:
            times, values = self._bits(found, name)
            taken &= np.array([value == 1 for value in _before(times, values, edges)], bool)
        times, values = self._changes(found, self.signal)
        width = found[self.signal].length
        text = [_digits(value, width) for value in _before(times, values, edges[taken])]
        return np.frombuffer("".join(text).encode(), np.uint8).reshape(len(text), width)

    def _bits(self, found: dict[str, Any], name: str) -> tuple[np.ndarray, list[Any]]:
        changes = self._changes(found, name)
        if found[name].length != 1:
            raise InputError(f"{self.path}: {name} must be one bit, not {found[name].length}")
        return changes

    def _changes(self, found: dict[str, Any], name: str) -> tuple[np.ndarray, list[Any]]:
        if name not in found:
            near = [other for other in found if other.rpartition(".")[2] == name.rpartition(".")[2]] or list(found)
            raise InputError(f"{self.path}: signal must be one that it has, such as {' '.join(near[:8])}, not {name}")
        changes = list(found[name].tv)
        return np.array([time for time, _ in changes], np.int64), [value for _, value in changes]


def _before(times: np.ndarray, values: list[Any], edges: np.ndarray) -> list[Any]:
    """Return the values just before some times; x before the first change."""
    places = np.searchsorted(times, edges, side="left") - 1
    return [values[place] if place >= 0 else "x" for place in places.tolist()]


def _digits(value: int | str, width: int) -> str:
    return format(value, f"0{width}b") if isinstance(value, int) else str(value).lower().rjust(width, "x")[-width:]


@contextmanager
def dumped(plan: ExportPlan, role: str, waveform: Waveform) -> Iterator[Path]:
    """Yield a folder of a role's words in files like the export's own, from a waveform, in the order of the jobs."""
    bench, words, port = bench_of(plan), waveform.words(), ROLES[role].port
    if port not in bench.streams or port is None:
        raise InputError(f"role must be one that an array gives word by word, not {role}")
    lanes, bits = bench.device.cols, bench.streams[port].field_bits
    if words.shape[1] % lanes:
        raise InputError(f"{waveform.path}: {waveform.signal} must have {lanes} lanes of {bits} bits, "
                         f"not {words.shape[1]} bits in all")  # fmt: skip
    with TemporaryDirectory(prefix="factory-waveform-") as folder:
        for path, data in streamed_files(bench, port, words):
            (Path(folder) / path).parent.mkdir(parents=True, exist_ok=True)
            (Path(folder) / path).write_bytes(data)
        yield Path(folder)
