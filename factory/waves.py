"""Waveforms of what crosses an array's edges: the streams of an export as a VCD, which any viewer shows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from io import StringIO
from pathlib import Path

import numpy as np
from jaxtyping import Integer

from factory.fileplan import ExportPlan, FileSet, LayerFiles, read_plan
from factory.spec import InputError, Progress
from factory.spec.whole import write_whole

CLOCK_NS = 10
"""Nanoseconds of a cycle; the clock rises in the middle of it."""
MOST_SIGNALS = 10_000


@dataclass(frozen=True)
class Signal:
    """One lane of a stream: where it stands, its bits, and its value in each cycle, from 0 upwards."""

    scope: str
    name: str
    bits: int
    values: Integer[np.ndarray, " cycle"]


def parse_cycles(text: str | None) -> tuple[int, int | None]:
    """Return the first cycle and the one that ends them (None: all): `200` is the first 200, `100:300` from 100 on."""
    if text is None:
        return 0, None
    first, colon, stop = text.rpartition(":")
    if not (stop.isdecimal() and (first.isdecimal() or not colon)) or int(stop) <= int(first or 0):
        raise InputError(f"cycles must be such as 200 or 100:300, not {text}")
    return int(first or 0), int(stop)


def write_waves(
    directory: Path, target: Path, cycles: tuple[int, int | None] = (0, None), progress: Progress | None = None
) -> tuple[int, int]:
    """Write the streams of an export's edges, from the first cycle to before the second, as one VCD.

    Each stream is a scope `layer.image0.ot0_it0_kij3`, named after what selects its files, with a signal for each lane
    of each layout: `west_row0`, `west_valid_row0`. All streams begin at time 0. Return how many signals and cycles the
    file has. Raise InputError where the export has no such streams or where there is nothing in these cycles.
    """
    try:
        from vcd import VCDWriter
    except ImportError:
        raise InputError("waveforms need pyvcd: pip install 'factory[waves]'") from None
    first, stop = cycles
    if target.suffix != ".vcd":
        raise InputError(f"output must be a file with the ending .vcd, not {target}")
    signals = list(_signals(directory, read_plan(directory), first, stop))
    last = max((len(signal.values) for signal in signals), default=0)
    if not last:
        raise InputError(f"{directory}: cycles must begin before the streams' end, not at {first}", options=("cycles",))
    text = StringIO()
    with VCDWriter(text, "1 ns", date="", version="factory", init_timestamp=first * CLOCK_NS) as writer:
        clock = writer.register_var("edges", "clk", "wire", size=1, init=0)
        counter = writer.register_var("edges", "cycle", "integer", size=32, init=first)
        variables = [
            writer.register_var(signal.scope, signal.name, "wire", size=signal.bits, init=int(signal.values[0]))
            for signal in signals
        ]
        changes = _changes(signals)
        for cycle in range(last):
            time = (first + cycle) * CLOCK_NS
            writer.change(clock, time, 0)
            writer.change(counter, time, first + cycle)
            for number, value in changes.get(cycle, ()):
                writer.change(variables[number], time, value)
            writer.change(clock, time + CLOCK_NS // 2, 1)
            if progress and cycle % CLOCK_NS == 0:
                progress(cycle + 1, last, "waves")
        writer.close((first + last) * CLOCK_NS)
    write_whole(target, text.getvalue().encode())
    return len(signals), last


def _changes(signals: list[Signal]) -> dict[int, list[tuple[int, int]]]:
    """Return, for each cycle, which signals change then, and to what."""
    found: dict[int, list[tuple[int, int]]] = {}
    for number, signal in enumerate(signals):
        for cycle in (np.flatnonzero(np.diff(signal.values)) + 1).tolist():
            found.setdefault(cycle, []).append((number, int(signal.values[cycle])))
    return found


def _signals(directory: Path, plan: ExportPlan, first: int, stop: int | None) -> Iterator[Signal]:
    held = [(layer, image, files) for layer, image in plan.groups() for files in layer.sets(image) if files.role.edge]
    if not held:
        raise InputError(f"{directory}: the export must include west, north or south")
    count = sum(files.count * files.placement.word.lanes for _, _, files in held)
    if count > MOST_SIGNALS:
        raise InputError(
            f"{directory}: at most {MOST_SIGNALS} signals must be in a waveform, not {count}; select tiles"
        )
    for layer, image, files in held:
        yield from _lanes(directory / plan.directory(layer, image, files), layer, image, files, slice(first, stop))


def _lanes(folder: Path, layer: LayerFiles, image: int | None, files: FileSet, kept: slice) -> Iterator[Signal]:
    word = files.placement.word
    names = files.placement.lane_names()
    names = names if word.lane0_left else names[::-1]
    mask = (1 << word.field.bits) - 1
    for number, (name, labels) in enumerate(files.files(image)):
        path = folder / name
        try:
            codes = files.read(path.read_bytes(), number, image)[kept]
        except OSError as error:
            raise InputError(f"{path}: must be a file of the export: {error.strerror}") from None
        except InputError as error:
            raise InputError(f"{path}: {error}") from None
        stream = "_".join(f"{axis}{label}" for axis, label in zip(files.labels, labels, strict=True)) or "all"
        scope = f"edges.{layer.name.replace('.', '_')}.image{image}.{stream}"
        for lane, text in enumerate(names):
            if len(codes):
                yield Signal(
                    scope, f"{files.layout.name}_{text}", word.field.bits, codes[:, lane].astype(np.int64) & mask
                )
