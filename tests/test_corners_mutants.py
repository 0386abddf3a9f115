"""Which corner cases catch which planted bug: every wrong array, and every wrong vector, by the corner store alone."""

import shutil
from importlib.resources import files
from pathlib import Path

import pytest
from helpers_bench import Builds
from helpers_simulator import need
from mutants import array, vectors
from mutants.corners import CASES, CAUGHT, RAMP, write_vectors

from factory.fileplan import read_plan
from factory.simulate import compile_bench, run_bench
from factory.spec import ComparisonError
from factory.testbench import bench_of

pytestmark = pytest.mark.simulator
RTL = Path(str(files("factory") / "rtl"))


def write_vector(folder: Path, case: str, vector: str) -> Path:
    layer, image = vector.split("/")
    return write_vectors(folder, case, layer, (image,), flat=True)


def simulate(vector: Path, build: Path) -> None:
    run_bench(vector, build, need("icarus"), bench_of(read_plan(vector)), stall=3)


@pytest.mark.parametrize("case", CASES)
def test_the_right_array_passes(tmp_path, case):
    builds = Builds(tmp_path)
    for vector in sorted({CAUGHT[mutant.what] for mutant in array.MUTANTS if mutant.case == case}):
        builds.run(write_vector(tmp_path / vector.replace("/", "-"), case, vector), stall=3)


@pytest.mark.parametrize("mutant", array.MUTANTS, ids=lambda mutant: mutant.what)
def test_a_wrong_array_is_caught(tmp_path, mutant):
    folder = write_vector(tmp_path / "vector", mutant.case, CAUGHT[mutant.what])
    device = Path(shutil.copytree(RTL, tmp_path / "rtl"))
    path = device / f"factory_{mutant.file}.sv"
    path.write_text(path.read_text().replace(mutant.old, mutant.new))
    compile_bench(folder, tmp_path, need("icarus"), sorted(device.glob("*.sv")))
    with pytest.raises(ComparisonError, match=rf"\n{CAUGHT[mutant.what].split('/')[0]}, image "):
        simulate(folder, tmp_path)


@pytest.fixture(scope="module")
def right_vector(tmp_path_factory):
    """The folder of the vector, and what is compiled of its testbench."""
    root = tmp_path_factory.mktemp("right")
    folder = write_vector(root / "vector", "partial", RAMP)
    compile_bench(folder, root, need("icarus"))
    simulate(folder, root)
    return folder, root


@pytest.mark.parametrize("mutant", vectors.MUTANTS, ids=lambda mutant: mutant.what)
def test_a_wrong_vector_is_caught(right_vector, tmp_path, mutant):
    folder, build = right_vector
    wrong = Path(shutil.copytree(folder, tmp_path / "x"))
    texts = [(wrong / path).read_text() for path in (mutant.path, mutant.other) if path]
    changed = mutant.change(*texts)
    assert changed != texts[0]
    (wrong / mutant.path).write_text(changed)
    with pytest.raises(ComparisonError, match="the simulation with icarus failed"):
        simulate(wrong, build)
