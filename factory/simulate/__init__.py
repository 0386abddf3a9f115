"""Simulations of exported vectors: every word that goes into an array, and every word that must come out of it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from factory.fileplan import read_plan
from factory.simulate.run import SimulationResult as SimulationResult
from factory.simulate.run import compile_bench as compile_bench
from factory.simulate.run import run_bench as run_bench
from factory.simulate.simulators import SIMULATORS as SIMULATORS
from factory.simulate.simulators import Simulator as Simulator
from factory.simulate.simulators import find_simulator as find_simulator
from factory.spec import InputError, Progress
from factory.testbench import LIST, bench_of


def simulate(
    directory: str | Path,
    simulator: str | None = None,
    dut: Sequence[str | Path] = (),
    stall: int | None = None,
    progress: Progress | None = None,
) -> SimulationResult:
    """Run the testbench of an export and return what it compared.

    `simulator` is `icarus`, `verilator` or None, the first one installed. `dut` are the SystemVerilog sources of
    another device, a module `factory_array` with the ports of `factory/rtl/factory_array.sv`. `stall` seeds random
    stalls of every handshake. `progress` is called with the jobs done, the jobs in all, and the last one.

    Raise ComparisonError where a word is not what it must be, or where not every word was compared; InputError where
    there is no testbench, no simulator, or where the device does not compile.
    """
    directory = Path(directory)
    bench = bench_of(read_plan(directory))
    if not (directory / LIST).is_file():
        raise InputError(f"{directory}: must have a testbench, there is no {LIST}; export with --testbench")
    for path in map(Path, dut):
        if not path.is_file():
            raise InputError(f"{path}: must be a SystemVerilog source, there is no such file")
    found = find_simulator(simulator)
    with TemporaryDirectory(prefix="factory-simulate-") as build:
        compile_bench(directory, Path(build), found, [Path(path) for path in dut])
        return run_bench(directory, Path(build), found, bench, stall, progress)
