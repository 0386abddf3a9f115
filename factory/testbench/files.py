"""The files of a testbench folder: generated ones, the fixed SystemVerilog, the reference array, and file lists."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.resources import files
from typing import Any

from factory.testbench.emit import jobs_text, package_text
from factory.testbench.plan import bench_of
from factory.testbench.records import Bench

FOLDER = "testbench"
TOP = "factory_tb"
JOBS = f"{FOLDER}/jobs.txt"
PACKAGE = f"{FOLDER}/factory_pkg.sv"
LIST = f"{FOLDER}/testbench.f"
DEVICE_LIST = f"{FOLDER}/device.f"
_FIXED = tuple(f"{FOLDER}/{name}.sv" for name in ("factory_stream_pkg", "factory_stream", "factory_sink", TOP))
_DEVICE = tuple(f"{FOLDER}/rtl/factory_{name}.sv" for name in ("delay", "add", "pe", "mesh", "sfu", "array"))


def bench_files(bench: Bench) -> dict[str, bytes]:
    """Return the testbench's files: paths from the folder of the manifest, and their bytes.

    `testbench.f` lists the testbench's sources and `device.f` those of the reference array, which a user's own take the
    place of; both are read from the folder of the manifest: `iverilog -g2012 -s factory_tb -o sim -f
    testbench/testbench.f -f testbench/device.f && vvp sim`.
    """
    here = {path: files("factory.testbench") / "sv" for path in _FIXED}
    there = {path: files("factory") / "rtl" for path in _DEVICE}
    copies = {path: (folder / path.rpartition("/")[2]).read_bytes() for path, folder in (here | there).items()}
    generated = {
        PACKAGE: package_text(bench),
        JOBS: jobs_text(bench),
        LIST: "".join(f"{path}\n" for path in (PACKAGE, *_FIXED)),
        DEVICE_LIST: "".join(f"{path}\n" for path in _DEVICE),
    }
    return copies | {path: text.encode() for path, text in generated.items()}


def testbench_files(manifest: Mapping[str, Any]) -> dict[str, bytes]:
    """Return the testbench's files for an export's manifest; see `bench_of` for errors and `bench_files` for paths."""
    return bench_files(bench_of(manifest))
