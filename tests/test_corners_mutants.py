"""Which corner cases catch which planted bug: every wrong array, and every wrong vector, by the corner store alone."""

import shutil
from importlib.resources import files
from pathlib import Path

import pytest
from helpers_bench import Builds
from helpers_diagnose import documented, line_of, row
from helpers_simulator import need
from mutants import array, vectors
from mutants.causes import CORNER_CAUSES
from mutants.corners import CASES, CAUGHT, RAMP, SHOWN, images_shown, write_vectors

from factory.diagnose import diagnose
from factory.fileplan import read_plan
from factory.simulate import compile_bench, run_bench
from factory.spec import ComparisonError
from factory.testbench import bench_of, write_given

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


@pytest.mark.untyped
@pytest.mark.parametrize("mutant", array.MUTANTS, ids=lambda mutant: mutant.what)
def test_a_wrong_array_is_caught_and_its_cause_named(tmp_path, mutant):
    caught, (layer, image) = CAUGHT[mutant.what], SHOWN[mutant.what].split("/")
    device = Path(shutil.copytree(RTL, tmp_path / "rtl"))
    path = device / f"factory_{mutant.file}.sv"
    path.write_text(path.read_text().replace(mutant.old, mutant.new))
    builds = Builds(tmp_path, sorted(device.glob("*.sv")))
    with pytest.raises(ComparisonError, match=rf"\n{caught.split('/')[0]}, image "):
        builds.run(write_vector(tmp_path / "vector", mutant.case, caught), stall=3)
    shown = write_vectors(tmp_path / "shown", mutant.case, layer, images_shown(mutant.what, layer, image))
    with pytest.raises(ComparisonError):
        builds.run(shown, stall=3 if mutant.what in array.STALLED else None, log=tmp_path / "log")
    write_given(bench_of(read_plan(shown)), tmp_path / "log", tmp_path / "given")
    found = row(mutant.what, layer, diagnose(shown, [tmp_path / "given"]))
    line = line_of(found, CORNER_CAUSES[mutant.what])
    assert line in documented("Wrong arrays, on the corner store")
    assert (not found["names"]) == ("| unknown |" in line)  # none is wrong


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
