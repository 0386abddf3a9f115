"""The files of a testbench folder: generated ones, the fixed SystemVerilog, the reference array, and file lists."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from factory.testbench.emit import jobs_text, package_text
from factory.testbench.plan import bench_of
from factory.testbench.records import Bench

FOLDER = "testbench"
TOP = "factory_tb"
LIST = f"{FOLDER}/testbench.f"
DEVICE_LIST = f"{FOLDER}/device.f"
_PACKAGE = f"{FOLDER}/factory_pkg.sv"
_JOBS = f"{FOLDER}/jobs.txt"
_HERE = Path(__file__).parent
_FIXED = tuple(_HERE / "sv" / f"{name}.sv" for name in ("factory_stream_pkg", "factory_stream", "factory_sink", TOP))
DEVICE_SOURCES = tuple(
    _HERE.parent / "rtl" / f"factory_{name}.sv" for name in ("delay", "add", "pe", "mesh", "sfu", "array")
)
"""The sources of the reference array, in an order in which they compile."""


def bench_files(bench: Bench) -> dict[str, bytes]:
    """Return the testbench's files: paths from the folder of the manifest, and their bytes.

    `testbench.f` lists the testbench's sources and `device.f` those of the reference array, which a user's own take the
    place of; both are read from the folder of the manifest: `iverilog -g2012 -s factory_tb -o sim -f
    testbench/testbench.f -f testbench/device.f && vvp sim`.
    """
    fixed = {f"{FOLDER}/{path.name}": path.read_bytes() for path in _FIXED}
    device = {f"{FOLDER}/rtl/{path.name}": path.read_bytes() for path in DEVICE_SOURCES}
    generated = {
        _PACKAGE: package_text(bench),
        _JOBS: jobs_text(bench),
        LIST: "".join(f"{path}\n" for path in (_PACKAGE, *fixed)),
        DEVICE_LIST: "".join(f"{path}\n" for path in device),
    }
    return fixed | device | {path: text.encode() for path, text in generated.items()}


def testbench_files(manifest: Mapping[str, Any]) -> dict[str, bytes]:
    """Return the testbench's files for an export's manifest; see `bench_of` for errors and `bench_files` for paths."""
    return bench_files(bench_of(manifest))
