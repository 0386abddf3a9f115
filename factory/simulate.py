"""Simulations of exported vectors: every word that goes into an array, and every word that must come out of it."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Timer
from types import MappingProxyType

from factory.fileplan import read_plan
from factory.spec import ComparisonError, InputError, Progress, check_range
from factory.testbench import DEVICE_LIST, LIST, TOP, Bench, bench_of, write_given


@dataclass(frozen=True)
class Simulator:
    """One simulator: the programs it needs, the Debian package that has them, and its command lines.

    `compile(build, top, arguments)` and `run(build, top)` return the command lines that make a simulation in the folder
    `build` and that run it; `arguments` are sources and `-f` file lists.
    """

    name: str
    package: str
    programs: tuple[str, ...]
    compile: Callable[[Path, str, Sequence[str]], list[str]]
    run: Callable[[Path, str], list[str]]

    @property
    def installed(self) -> bool:
        """Whether its programs are on the path."""
        return all(shutil.which(program) for program in self.programs)


def _icarus_compile(build: Path, top: str, arguments: Sequence[str]) -> list[str]:
    return ["iverilog", "-g2012", "-s", top, "-o", str(build / "simulation"), *arguments]


def _icarus_run(build: Path, top: str) -> list[str]:
    return ["vvp", "-n", str(build / "simulation")]


def _verilator_compile(build: Path, top: str, arguments: Sequence[str]) -> list[str]:
    # Assertions of width and style are for lint; an x that the testbench reads counts as ones, never as a silent 0.
    return ["verilator", "--binary", "--timing", "-Wno-fatal", "-Wno-lint", "-Wno-style", "--x-assign", "1", "-O3",
            "--top-module", top, "--Mdir", str(build), "-o", "simulation", *arguments]  # fmt: skip


def _verilator_run(build: Path, top: str) -> list[str]:
    return [str(build / "simulation")]


SIMULATORS: Mapping[str, Simulator] = MappingProxyType(
    {
        "icarus": Simulator("icarus", "iverilog", ("iverilog", "vvp"), _icarus_compile, _icarus_run),
        "verilator": Simulator("verilator", "verilator", ("verilator",), _verilator_compile, _verilator_run),
    }
)


def find_simulator(name: str | None = None) -> Simulator:
    """Return the simulator called `name`, or the first one that is installed; raise InputError where there is none."""
    if name is not None and name not in SIMULATORS:
        raise InputError(f"simulator must be one of {' '.join(SIMULATORS)}, not {name}")
    wanted = [SIMULATORS[name]] if name else list(SIMULATORS.values())
    for simulator in wanted:
        if simulator.installed:
            return simulator
    packages = " or ".join(f"apt install {simulator.package}" for simulator in wanted)
    raise InputError(f"{name or 'a simulator'} must be installed ({packages}), it is not on the path")


_JOB = re.compile(r"JOB (\d+) (.*)")
_PASS = re.compile(r"PASS (\d+) jobs, (\d+) words compared$")
_WRONG = re.compile(r"(MISMATCH|FAIL) (.*)")
_STALLED = "no word has moved"
_SAID = 20
MOST_SEED = (1 << 31) - 1
_MOST_LINES = 10_000
PASS, MISMATCH, NO_BANNER, TIMEOUT, CRASH, COMPILE = "pass", "mismatch", "no banner", "timeout", "crash", "compile"
STATES = (PASS, MISMATCH, NO_BANNER, TIMEOUT, CRASH, COMPILE)
"""How a simulation can end; the last one: it does not compile."""


class CompileError(InputError):
    """A testbench and a device do not compile."""


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

    Raise CompileError with the simulator's messages where it does not compile.
    """
    sources = [str(path.resolve()) for path in device] or ["-f", DEVICE_LIST]
    command = simulator.compile(build.resolve(), TOP, ["-f", LIST, *sources])
    done = subprocess.run(command, cwd=directory, capture_output=True, text=True)
    if done.returncode:
        said = "\n".join((done.stderr + done.stdout).splitlines()[:_SAID])
        raise CompileError(f"the testbench must compile with {simulator.name}, it does not:\n{said}")


@dataclass(frozen=True)
class BenchRun:
    """How a run of a testbench ended.

    `code` is the process's exit code, None where it was ended at its time limit; `said` are its lines, the jobs' apart.
    """

    bench: Bench
    code: int | None
    said: tuple[str, ...]

    @property
    def passes(self) -> bool:
        """Whether it says that it passed, and compared what the bench counts."""
        counts = [(int(found[1]), int(found[2])) for found in map(_PASS.match, self.said) if found]
        return self.code == 0 and counts == [(self.bench.jobs, self.bench.compared)] and self.bench.compared > 0

    @property
    def wrong(self) -> list[str]:
        """What the testbench found wrong, in its words, the first word first."""
        return [found[2] for found in map(_WRONG.search, self.said) if found]

    @property
    def state(self) -> str:
        """One of `STATES`. A device that gives no more words is a timeout, of simulated time or of the clock's."""
        if self.passes:
            return PASS
        found = [found for found in map(_WRONG.search, self.said) if found]
        if any(each[1] == "MISMATCH" for each in found):
            return MISMATCH
        if self.code is None or any(_STALLED in each[2] for each in found):
            return TIMEOUT
        if found:
            return MISMATCH
        return NO_BANNER if self.code == 0 else CRASH


def watch_bench(
    directory: Path,
    build: Path,
    simulator: Simulator,
    bench: Bench,
    stall: int | None = None,
    progress: Progress | None = None,
    log: Path | None = None,
    limit: float | None = None,
) -> BenchRun:
    """Run what `compile_bench` made, for at most `limit` seconds, and return how it ended.

    Every word that the device gives goes into the file `log`, and the run does not end at mismatches then.
    """
    command = [*simulator.run(build.resolve(), TOP), f"+stall={stall or 0}"]
    if log is not None:
        command.append(f"+dump={log.resolve()}")
    said: list[str] = []
    ended: list[bool] = []
    with subprocess.Popen(
        command, cwd=directory, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"
    ) as process:

        def end() -> None:
            ended.append(True)
            process.kill()

        timer = Timer(limit, end) if limit is not None else None
        try:
            if timer is not None:
                timer.start()
            for line in map(str.rstrip, process.stdout):
                job = _JOB.match(line)
                if job and progress:
                    progress(int(job[1]), bench.jobs, job[2])
                elif not job and (len(said) < _MOST_LINES or _PASS.match(line)):
                    said.append(line)
        except BaseException:
            process.kill()
            raise
        finally:
            if timer is not None:
                timer.cancel()
    return BenchRun(bench, None if ended else process.returncode, tuple(said))


def run_bench(
    directory: Path,
    build: Path,
    simulator: Simulator,
    bench: Bench,
    stall: int | None = None,
    progress: Progress | None = None,
    log: Path | None = None,
) -> SimulationResult:
    """Run what `compile_bench` made; raise ComparisonError unless it passes and compared what `bench` counts."""
    run = watch_bench(directory, build, simulator, bench, stall, progress, log)
    if run.passes:
        return SimulationResult(simulator.name, bench.jobs, bench.compared, bench.unchecked)
    wrong = run.wrong or list(run.said[:_SAID])
    if run.code == 0:
        wrong.append(f"{bench.jobs} jobs must run and {bench.compared} words be compared")
    raise ComparisonError("\n".join([f"{directory}: the simulation with {simulator.name} failed", *wrong]))


def diagnose_command(directory: str | Path, dump: str | Path) -> str:
    """Return the command that finds what is wrong with a dump."""
    return shlex.join(["factory", "diagnose", str(directory), str(dump)])


def check_stall(bench: Bench, stall: int | None) -> None:
    """Raise InputError for what cannot be a seed of stalls, or where there is no handshake that could stall."""
    check_range("stall", stall or 0, 0, MOST_SEED)
    if stall and not bench.device.kind.handshakes:
        raise InputError(f"stall must be 0 with edge streams, which never wait, not {stall}", options=("stall",))


def simulate(
    directory: str | Path,
    simulator: str | None = None,
    dut: Sequence[str | Path] = (),
    stall: int | None = None,
    progress: Progress | None = None,
    dump: str | Path | None = None,
) -> SimulationResult:
    """Run the testbench of an export and return what it compared.

    `simulator` is `icarus`, `verilator` or None, the first one installed. `dut` are the SystemVerilog sources of
    another device, a module `factory_array` with the ports of `factory/rtl/factory_array.sv`, or of edge streams
    `factory_edge_array` with those of `factory_edge_array.sv`. `stall` seeds random stalls of every handshake; 0: none.
    `progress` is called with the jobs done, the jobs in all, and the last one.
    `dump` is a new folder for what the device gives, in files like the export's own.

    Raise ComparisonError where a word is not what it must be, or where not every word was compared; InputError where
    there is no testbench, no simulator, or where the device does not compile.
    """
    directory = Path(directory)
    if dump is not None and Path(dump).exists():
        raise InputError(f"{dump}: must be a new folder, it is there already", options=("dump",))
    bench = bench_of(read_plan(directory))
    check_stall(bench, stall)
    if not (directory / LIST).is_file():
        raise InputError(f"{directory}: must have a testbench, there is no {LIST}; export with --testbench")
    for path in map(Path, dut):
        if not path.is_file():
            raise InputError(f"{path}: must be a SystemVerilog source, there is no such file")
    found = find_simulator(simulator)
    with TemporaryDirectory(prefix="factory-simulate-") as build:
        compile_bench(directory, Path(build), found, [Path(path) for path in dut])
        log = None if dump is None else Path(build) / "given.log"
        try:
            return run_bench(directory, Path(build), found, bench, stall, progress, log)
        except ComparisonError as error:
            if log is None:
                raise
            raise ComparisonError(f"{error}\n{diagnose_command(directory, dump)}") from None
        finally:
            if log is not None and log.is_file():
                write_given(bench, log, Path(dump))
