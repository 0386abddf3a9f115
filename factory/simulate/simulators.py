"""The simulators that are known: how each compiles a list of sources and runs what came out."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from factory.spec import InputError


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
