import shutil
import subprocess
from importlib.resources import files
from pathlib import Path

import pytest
from helpers_array import Case, write_case
from helpers_simulator import need
from mutants.array import MUTANTS

from factory.simulate import compile_bench, run_bench
from factory.spec import ComparisonError

pytestmark = pytest.mark.simulator
RTL = Path(str(files("factory") / "rtl"))
SOURCES = sorted(RTL.glob("*.sv"))
STALLS = (None, 3)

# Sums overflow in every case but `stride`, so that a wrapped sum differs from a clamped one.
CASES = {
    "ws": Case(seed=4, psum_bits=8, acc_bits=9),
    "os": Case(seed=5, os=True, rows=4, cols=3, act_signed=True, psum_bits=9, acc_bits=9),
    "simd": Case(seed=6, simd=2, act_bits=2, psum_bits=6, acc_bits=8),
    "simd-os": Case(seed=7, simd=3, os=True, act_bits=3, weight_bits=5, psum_bits=9),
    "stride": Case(seed=8, kernel=(3, 3), stride=(2, 2), height=7, width=6, act_signed=True, post_op="leaky"),
    "saturate": Case(seed=9, psum_bits=8, acc_bits=9, saturate=True, post_op="none"),
    "saturate-os": Case(seed=10, psum_bits=7, acc_bits=9, saturate=True, os=True),
    "partial": Case(seed=11, it=3, partial=True, psum_bits=9, acc_bits=9, saturate=True),
    "one": Case(rows=1, cols=1, it=1, ot=1, kernel=(1, 1), height=1, width=1),
    "by axis": Case(seed=12, kernel=(2, 3), stride=(2, 1), dilation=(3, 2), height=8, width=7, psum_bits=9),
    "wide kernel": Case(seed=13, kernel=(1, 4), stride=(1, 2), height=3, width=9, psum_bits=9),
    "tall kernel": Case(seed=14, kernel=(4, 1), stride=(2, 3), dilation=(2, 1), height=9, width=4, psum_bits=9),
    "one line": Case(seed=15, kernel=(1, 1), height=1, width=11, psum_bits=9),
    "one-row": Case(rows=1, cols=6, psum_bits=20, acc_bits=12),
    "one-col": Case(rows=5, cols=1, kernel=(1, 1), stride=(3, 3), psum_bits=12, acc_bits=32),
}


def run(folder: Path, case: Case, simulator: str = "icarus", device=()) -> None:
    """Compile and run a case without and with stalls; raise ComparisonError where either fails."""
    bench = write_case(folder, case)
    (folder / "build").mkdir()
    compile_bench(folder, folder / "build", need(simulator), device)
    for stall in STALLS:
        result = run_bench(folder, folder / "build", need(simulator), bench, stall)
        assert (result.jobs, result.compared) == (bench.jobs, bench.compared)


@pytest.mark.parametrize("name", CASES)
def test_the_array_computes_what_plain_loops_do(tmp_path, name):
    run(tmp_path, CASES[name])


@pytest.mark.slow
def test_verilator_agrees(tmp_path):
    run(tmp_path, CASES["saturate"], "verilator")


@pytest.mark.parametrize(
    "parameters",
    [
        {},
        {"ROWS": 1, "COLS": 1, "DEPTH": 1},
        {"SIMD": 2, "ACT_BITS": 2},
        {"ROWS": 5, "COLS": 3, "ACT_SIGNED": 1, "SATURATE": 1},
        {"ROWS": 3, "COLS": 16, "PSUM_BITS": 4, "ACC_BITS": 24, "DEPTH": 65536},
    ],
)
def test_the_array_is_lint_clean(parameters):
    need("verilator")
    sizes = [f"-G{name}={value}" for name, value in parameters.items()]
    command = ["verilator", "--lint-only", "-Wall", "--top-module", "factory_array", *sizes, *map(str, SOURCES)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_icarus_has_no_warning():
    need("icarus")
    command = ["iverilog", "-g2012", "-Wall", "-t", "null", "-s", "factory_array", *map(str, SOURCES)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.what)
def test_a_wrong_array_is_caught(tmp_path, mutant):
    folder = tmp_path / "rtl"
    shutil.copytree(RTL, folder)
    path = folder / f"factory_{mutant.file}.sv"
    source = path.read_text()
    assert source.count(mutant.old) == 1
    path.write_text(source.replace(mutant.old, mutant.new))
    with pytest.raises(ComparisonError, match=r"\nlayer, image 0, "):
        run(tmp_path, CASES[mutant.case], device=sorted(folder.glob("*.sv")))
