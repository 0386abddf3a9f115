"""Exported files as the memories that Icarus Verilog and Verilator load from them."""

import subprocess
from pathlib import Path

import pytest
from helpers_export import odd_store
from helpers_simulator import need

from factory.export import export

pytestmark = pytest.mark.simulator
EXPORTS = {
    "ws": dict(include="activation,weight,out,address", tiles="it=2,ot=1", kij="4", profile="notebook"),
    "ws_verilog": dict(include="activation,weight,out", tiles="it=2,ot=1", kij="4", header="verilog"),
    "simd": dict(include="activation,weight,out", tiles="it=1", kij="0", profile="simd2-even"),
    "os": dict(include="activation,weight,out", tiles="pt=2,ot=0", dataflow="os"),
    "nine_lanes": dict(include="out", tiles="ot=0", profile="nine.toml"),
}


def export_all(folder: Path) -> dict[Path, tuple[str, Path]]:
    """Return each file to load: the system task that reads it, and the file with the digits it must hold."""
    store, loads = odd_store(images=1), {}
    (folder / "nine.toml").write_text('extends = "notebook"\ncols = 9\n[layouts.out]\nlane_bits = 13\n')
    for name, options in EXPORTS.items():
        options = dict(layers="features.9", flat=True) | options
        options["profile"] = options.get("profile", "notebook").replace("nine.toml", str(folder / "nine.toml"))
        for format in ("bin", "hex"):
            export(store, folder / f"{name}_{format}", format=format, **options)
        plain = folder / f"{name}_plain"
        export(store, plain, **options | dict(header="none"))
        for path in sorted(plain.glob("*.txt")):
            loads[folder / f"{name}_bin" / path.name] = ("$readmemb", path)
            loads[folder / f"{name}_hex" / f"{path.stem}.hex"] = ("$readmemh", path)
    return loads


def module_of(loads: dict[Path, tuple[str, Path]]) -> str:
    """Return a module that loads every file into a memory of its size, and prints its words in binary."""
    memories, steps = [], []
    for number, (path, (task, plain)) in enumerate(loads.items()):
        words = plain.read_text().split()
        memories.append(f"reg [{len(words[0]) - 1}:0] m{number} [0:{len(words) - 1}];")
        steps.append(f'{task}("{path}", m{number}, 0, {len(words) - 1});')
        steps.append(f'for (i = 0; i < {len(words)}; i = i + 1) $display("{number} %b", m{number}[i]);')
    lines = "\n".join([*memories, "integer i;", "initial begin", *steps, "$finish;", "end"])
    return f"module top;\n{lines}\nendmodule\n"


def run_icarus(source: Path) -> str:
    built = source.with_suffix(".vvp")
    subprocess.run(["iverilog", "-g2012", "-o", built, source], check=True, capture_output=True)
    return subprocess.run(["vvp", "-n", built], check=True, capture_output=True, text=True).stdout


def run_verilator(source: Path) -> str:
    build = source.parent / "verilated"
    command = ["verilator", "--binary", "-Wno-fatal", "--top-module", "top", "--Mdir", build, "-o", "top", source]
    subprocess.run(command, check=True, capture_output=True)
    return subprocess.run([build / "top"], check=True, capture_output=True, text=True).stdout


@pytest.mark.parametrize(("simulator", "run"), [("icarus", run_icarus), ("verilator", run_verilator)])
def test_simulators_load_every_word(simulator, run, tmp_path):
    need(simulator)
    loads = export_all(tmp_path)
    source = tmp_path / "top.sv"
    source.write_text(module_of(loads))
    printed: dict[int, list[str]] = {}
    for line in run(source).splitlines():
        if line[:1].isdigit():
            number, word = line.split()
            printed.setdefault(int(number), []).append(word)
    assert len(printed) == len(loads) == 2 * (4 + 3 + 4 + 3 + 1)
    for number, (_, plain) in enumerate(loads.values()):
        assert printed[number] == plain.read_text().split(), plain
