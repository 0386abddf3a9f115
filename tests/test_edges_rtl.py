"""An array without skew registers, driven by exported edge streams alone, on Icarus and Verilator."""

import re
import shutil
import subprocess
from functools import cache
from pathlib import Path

import pytest
from helpers_edges import layer_store, odd_layer
from helpers_simulator import need

from factory.dataflow import DATAFLOWS
from factory.export import ExportOptions, export
from factory.simulate import SIMULATORS, Simulator
from factory.spec import SystolicArray

pytestmark = pytest.mark.simulator
SOURCES = [str(path.resolve()) for path in sorted(Path(__file__).parent.glob("skewless_*.sv"))]
ARRAY = SystolicArray(3, 4)


def streams(folder: Path, dataflow: str, **options) -> Path:
    """Export what crosses the edges in all passes of a layer, back to back, and return the files' folder."""
    text = f'extends = "edges"\ndataflow = "{dataflow}"\n[layouts.west]\nlane_bits = 9\nsigned = true\n'
    folder.mkdir()
    profile = folder / "mine.toml"
    profile.write_text(f"{text}[layouts.north]\nlane_bits = 9\nsigned = true\n")
    store = layer_store(odd_layer("odd"), array=ARRAY)  # no border: a late weight for zeros would do no harm
    chosen = ExportOptions(
        None, "all", profile=profile, include="west,north,south", files="layer", flat=True, **options
    )
    export(store, folder / "out", chosen)
    return folder / "out"


def build(folder: Path, simulator: Simulator, cycles: int, outputs_stay: bool) -> Path:
    """Compile the bench for streams of so many cycles."""
    fixed = {"ROWS": ARRAY.rows, "COLS": ARRAY.cols, "OS": int(outputs_stay), "CYCLES": cycles}
    given = [f"-{'P' if simulator.name == 'icarus' else 'G'}{_TOP[simulator.name]}{k}={v}" for k, v in fixed.items()]
    folder.mkdir()
    command = simulator.compile(folder.resolve(), "skewless_bench", [*given, *SOURCES])
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return folder


_TOP = {"icarus": "skewless_bench.", "verilator": ""}


@pytest.fixture(scope="module")
def exports(tmp_path_factory):
    """Return what gives, for a dataflow and a simulator, the compiled bench, the streams' folder and its valid sums."""

    @cache
    def made(dataflow: str, name: str) -> tuple[Path, Path, int]:
        simulator, folder = need(name), streams(tmp_path_factory.mktemp(dataflow) / "x", dataflow)
        cycles = len((folder / "west.txt").read_text().splitlines())
        valid = (folder / "south_valid.txt").read_text().count("1")
        stay = not DATAFLOWS[dataflow].has_psums
        return build(folder.parent / "build", simulator, cycles, stay), folder, valid

    return made


def run(build: Path, simulator: Simulator, folder: Path) -> tuple[int, int]:
    """Return how many sums were compared and how many are wrong."""
    command = simulator.run(build.resolve(), "skewless_bench")
    said = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True).stdout
    compared, wrong = map(int, re.search(r"(\d+) compared, (\d+) wrong", said).groups())
    return compared, wrong


def shifted(path: Path, what: str, lanes: int) -> None:
    """Shift a stream by one cycle or one lane, its valid bits with it."""
    for file in (path, path.with_name(f"{path.stem}_valid.txt")):
        lines = file.read_text().splitlines()
        lane = len(lines[0]) // lanes
        moved = [lines[-1], *lines[:-1]] if what == "cycle" else [line[lane:] + line[:lane] for line in lines]
        file.write_text("".join(f"{line}\n" for line in moved))


@pytest.mark.parametrize("edge", ["west", "north"])
@pytest.mark.parametrize("what", ["cycle", "lane"])
@pytest.mark.parametrize("dataflow", DATAFLOWS)
def test_a_shifted_stream_is_caught(exports, tmp_path, dataflow, what, edge):
    made, folder, _ = exports(dataflow, "icarus")
    shutil.copytree(folder, tmp_path / "x")
    lanes = {"west": ARRAY.rows, "north": ARRAY.cols}[edge]
    shifted(tmp_path / "x" / f"{edge}.txt", what, lanes)
    assert run(made, SIMULATORS["icarus"], tmp_path / "x")[1] > 0


SIMULATED = [pytest.param(name, marks=[pytest.mark.slow] * (name == "verilator")) for name in SIMULATORS]


@pytest.mark.parametrize("simulator", SIMULATED)
@pytest.mark.parametrize("dataflow", DATAFLOWS)
def test_streams_alone_drive_the_array(exports, dataflow, simulator):
    made, folder, valid = exports(dataflow, simulator)
    assert run(made, SIMULATORS[simulator], folder) == (valid, 0) and valid > 100


def test_the_array_is_lint_clean():
    need("verilator")
    for outputs_stay in (0, 1):
        command = ["verilator", "--lint-only", "-Wall", "--top-module", "skewless_array", f"-GOS={outputs_stay}"]
        done = subprocess.run([*command, SOURCES[0]], capture_output=True, text=True)
        assert (done.returncode, done.stdout + done.stderr) == (0, "")
