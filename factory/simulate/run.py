"""Runs of an exported testbench: compile in a temporary folder, run in the manifest's, and believe only the counts."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from factory.simulate.simulators import Simulator
from factory.spec import ComparisonError, InputError, Progress
from factory.testbench import DEVICE_LIST, LIST, TOP, Bench

_JOB = re.compile(r"JOB (\d+) (.*)")
_PASS = re.compile(r"PASS (\d+) jobs, (\d+) words compared$")
_WRONG = re.compile(r"(?:MISMATCH|FAIL) (.*)")
_SAID = 20


@dataclass(frozen=True)
class SimulationResult:
    """A simulation that passed: how many jobs, and how many words were compared; `unchecked` layouts were not."""

    simulator: str
    jobs: int
    compared: int
    unchecked: tuple[str, ...] = ()

    def __str__(self) -> str:
        text = f"pass: {self.compared} words of {self.jobs} jobs compared with {self.simulator}"
        return f"{text}; not compared: {', '.join(self.unchecked)}" if self.unchecked else text


def compile_bench(directory: Path, build: Path, simulator: Simulator, device: Sequence[Path] = ()) -> None:
    """Compile the testbench in `directory` with the device's sources (default: the reference array) into `build`.

    Raise InputError with the simulator's messages where it does not compile.
    """
    sources = [str(path.resolve()) for path in device] or ["-f", DEVICE_LIST]
    command = simulator.compile(build.resolve(), TOP, ["-f", LIST, *sources])
    done = subprocess.run(command, cwd=directory, capture_output=True, text=True)
    if done.returncode:
        said = "\n".join((done.stderr + done.stdout).splitlines()[:_SAID])
        raise InputError(f"the testbench must compile with {simulator.name}, it does not:\n{said}")


def run_bench(
    directory: Path,
    build: Path,
    simulator: Simulator,
    bench: Bench,
    stall: int | None = None,
    progress: Progress | None = None,
) -> SimulationResult:
    """Run what `compile_bench` made; raise ComparisonError unless it passes and compared what `bench` counts."""
    command = [*simulator.run(build.resolve(), TOP), f"+stall={stall or 0}"]
    said: list[str] = []
    with subprocess.Popen(
        command, cwd=directory, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"
    ) as process:
        try:
            for line in map(str.rstrip, process.stdout):
                job = _JOB.match(line)
                if job and progress:
                    progress(int(job[1]), bench.jobs, job[2])
                elif not job:
                    said.append(line)
        except BaseException:
            process.kill()
            raise
    passed = [found for found in map(_PASS.match, said) if found]
    counts = [(int(found[1]), int(found[2])) for found in passed]
    if process.returncode == 0 and counts == [(bench.jobs, bench.compared)] and bench.compared > 0:
        return SimulationResult(simulator.name, bench.jobs, bench.compared, bench.unchecked)
    wrong = [found[1] for found in map(_WRONG.search, said) if found] or said[:_SAID]
    if process.returncode == 0:
        wrong.append(f"{bench.jobs} jobs must run and {bench.compared} words be compared")
    raise ComparisonError("\n".join([f"{directory}: the simulation with {simulator.name} failed", *wrong]))
