"""The files of a testbench folder: generated package and jobs, fixed SystemVerilog, reference array, file lists."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import chain
from pathlib import Path

from factory.testbench.records import ARRAY, Bench, EdgeJob, Job, Kind, Load, Stream, Walk

_NOT_COMPARED = Walk()
FOLDER = "testbench"
TOP = "factory_tb"
LIST = f"{FOLDER}/testbench.f"
DEVICE_LIST = f"{FOLDER}/device.f"
_PACKAGE = f"{FOLDER}/factory_pkg.sv"
_JOBS = f"{FOLDER}/jobs.txt"
_HERE = Path(__file__).parent


def device_sources(kind: Kind) -> tuple[Path, ...]:
    """Return the sources of the device of a kind that ships, in an order in which they compile."""
    return tuple(_HERE.parent / "rtl" / f"factory_{name}.sv" for name in kind.rtl)


DEVICE_SOURCES = device_sources(ARRAY)
"""The sources of the reference array, in an order in which they compile."""


def package_text(bench: Bench) -> str:
    """Return `factory_pkg.sv`: the device's parameters, each stream's, and its lanes as a permutation of bits."""
    lines = [
        "// Generated with the vectors, from the records that wrote them.",
        "package factory_pkg;",
        *(f"  localparam int {name} = {value};" for name, value in bench.device.parameters.items()),
        *(f"  localparam {constant};" for constant in bench.device.constants),
    ]
    for name in bench.device.kind.streams:
        lines += ["", *_stream_lines(name, bench.streams.get(name, Stream(lanes=((0, 0),) * bench.device.cols)))]
    return "\n".join([*lines, "endpackage", ""])


def _stream_lines(name: str, stream: Stream) -> list[str]:
    word_bits, lines_bits = len(stream.lanes) * stream.field_bits, stream.parts * stream.line_bits
    values = {
        "LINE_BITS": stream.line_bits,
        "PARTS": stream.parts,
        "DEPTH": stream.depth,
        "HEX": int(stream.hexadecimal),
        "HEADER_LINES": stream.header_lines,
        "FIELD_BITS": stream.field_bits,
        "WORD_BITS": word_bits,
    }
    slices = ", ".join(f"lines[{high}:{low}]" for high, low in _slices(stream))
    return [
        *(f"  localparam int {name.upper()}_{key} = {value};" for key, value in values.items()),
        f"  // The lanes of a word, lane 0 lowest, from its {stream.parts} line(s), the first one lowest.",
        f"  function automatic logic [{word_bits - 1}:0] {name}_lanes(input logic [{lines_bits - 1}:0] lines);",
        f"    {name}_lanes = {{{slices}}};",
        "  endfunction",
    ]


def _slices(stream: Stream) -> list[tuple[int, int]]:
    """Return the `(high, low)` bits of the lines that make a word, highest lane first, neighbours joined."""
    slices: list[tuple[int, int]] = []
    for part, low in reversed(stream.lanes):
        start = part * stream.line_bits + low
        if slices and slices[-1][1] == start + stream.field_bits:
            slices[-1] = (slices[-1][0], start)
        else:
            slices.append((start + stream.field_bits - 1, start))
    return slices


def jobs_text(bench: Bench) -> str:
    """Return `jobs.txt`: the steps in order, and a last line that says how many jobs and compared words there are."""
    streams = bench.device.kind.streams
    lines = (_load_lines(step) if isinstance(step, Load) else [_job_lines(step, streams)] for step in bench.steps)
    return "\n".join([*chain.from_iterable(lines), f"end {bench.jobs} {bench.compared}", ""])


def _load_lines(load: Load) -> list[str]:
    return [f"load {load.stream} {i * load.words} {load.words} {path}" for i, path in enumerate(load.paths)]


def _job_lines(job: Job | EdgeJob, streams: Iterable[str]) -> str:
    walks = (number for name in streams for number in job.walks.get(name, _NOT_COMPARED).numbers())
    return " ".join([job.head, *map(str, walks)])


def bench_files(bench: Bench) -> dict[str, bytes]:
    """Return the testbench's files: paths from the folder of the manifest, and their bytes.

    `testbench.f` lists the testbench's sources and `device.f` those of the reference array, which a user's own take the
    place of; both are read from the folder of the manifest: `iverilog -g2012 -s factory_tb -o sim -f
    testbench/testbench.f -f testbench/device.f && vvp sim`.
    """
    kind = bench.device.kind
    sources = (_HERE / "sv" / f"{name}.sv" for name in kind.bench)
    fixed = {f"{FOLDER}/{path.name}": path.read_bytes() for path in sources}
    device = {f"{FOLDER}/rtl/{path.name}": path.read_bytes() for path in device_sources(kind)}
    generated = {
        _PACKAGE: package_text(bench),
        _JOBS: jobs_text(bench),
        LIST: "".join(f"{path}\n" for path in (_PACKAGE, *fixed)),
        DEVICE_LIST: "".join(f"{path}\n" for path in device),
    }
    return fixed | device | {path: text.encode() for path, text in generated.items()}
