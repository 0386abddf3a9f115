import shutil
from pathlib import Path

import pytest
from helpers_bench import Builds, device, export_bench, random_store
from helpers_export import reference_store
from helpers_simulator import need
from mutants.vectors import MUTANTS

from factory.build import build
from factory.simulate import SIMULATORS, SimulationResult, simulate
from factory.spec import ComparisonError, InputError, SystolicArray

SMALL = SystolicArray(3, 4, psum_bits=9)
EVERYTHING = "activation,weight,out,psum,conv"


@pytest.fixture(scope="session")
def builds(tmp_path_factory) -> Builds:
    return Builds(tmp_path_factory.mktemp("builds"))


@pytest.fixture(scope="session")
def trained_store(tmp_path_factory) -> Path:
    """The shipped weights on the first sample: a signed layer, a large one, the squeezed one, one of 2 x 2 pixels."""
    layers = "features.0,features.3,features.27,features.32"
    return build(tmp_path_factory.mktemp("store") / "store.h5", layers=layers)


TRAINED = {
    "ws, the squeezed layer": dict(layers="squeezed", stall=7),
    "ws, signed": dict(layers="features.0", tiles="ot=7", pe_activation="signed"),
    "ws, two tiles of 32 x 32 pixels": dict(layers="features.3", tiles="it=2:4,ot=1"),
    "ws, two tiles of 2 x 2 pixels": dict(layers="features.32", tiles="it=62:64,ot=5", stall=8),
    "os, the squeezed layer": dict(dataflow="os", layers="squeezed", stall=9),
    "os, signed": dict(dataflow="os", layers="features.0", tiles="pt=0:2,ot=7"),
    "os, two tiles of 32 x 32 pixels": dict(dataflow="os", layers="features.3", tiles="pt=126:128,ot=1"),
    "os, two tiles of 2 x 2 pixels": dict(dataflow="os", layers="features.32", tiles="ot=4:6"),
}


@pytest.mark.simulator
@pytest.mark.slow
@pytest.mark.parametrize("simulator", SIMULATORS)
@pytest.mark.parametrize("name", TRAINED)
def test_the_trained_network_runs_on_the_array(trained_store, builds, tmp_path, name, simulator):
    options = dict(TRAINED[name])
    stall = options.pop("stall", None)
    include = EVERYTHING if "dataflow" not in options else "activation,weight,out,conv"
    folder = export_bench(trained_store, tmp_path / "x", include=include, **options)
    result = builds.run(folder, simulator, stall)
    assert result.compared > 0 and result.unchecked == ()


PROFILES = {
    "notebook": dict(images="all", include=EVERYTHING),
    "notebook, OS": dict(dataflow="os", include="activation,weight,out,conv"),
    "one file a layer": dict(files="layer", include=EVERYTHING, format="hex"),
    "ws-reversed": dict(profile="ws-reversed", header="verilog", include=EVERYTHING),
    "ws-onefile": dict(profile="ws-onefile", format="hex", header="verilog"),
    "ws-tiled": dict(profile="ws-tiled", post="leaky"),
    "ws-multimap": dict(profile="ws-multimap", images="all", flat=True, post="none"),
    "ws-wide": dict(profile="ws-wide", include=EVERYTHING),
    "simd2-even": dict(profile="simd2-even", include=EVERYTHING),
    "simd2-even-otile": dict(profile="simd2-even-otile"),
    "simd2-odd": dict(profile="simd2-odd", overflow="saturate", include=EVERYTHING),
    "simd2-split": dict(profile="simd2-split"),
    "os-all": dict(profile="os-all", overflow="saturate"),
    "os-perkij": dict(profile="os-perkij", input_channels=2),
}


@pytest.mark.simulator
@pytest.mark.parametrize("conv", [{}, dict(kernel=2, stride=2, padding=0, height=5)], ids=["padded", "strided"])
@pytest.mark.parametrize("name", PROFILES)
def test_every_profile_runs_on_the_array(builds, tmp_path, name, conv):
    store = random_store(SMALL, activation_bits=2 if "simd" in name else 4, **conv)
    result = builds.run(export_bench(store, tmp_path / "x", **PROFILES[name]), stall=5)
    assert result.compared > 0 and result.unchecked == ()


@pytest.mark.simulator
@pytest.mark.reference
@pytest.mark.parametrize(
    ("name", "weights", "options"),
    [
        ("ws", "w4a4", dict(dataflow="ws", tiles="all", flat=True)),
        ("os", "w4a4", dict(dataflow="os", tiles="pt=0,ot=0", input_channels=3, flat=True)),
        ("simd", "w4a2", dict(profile="simd2-even", flat=True)),
    ],
)
def test_the_notebooks_own_files_run_on_the_array(reference, builds, tmp_path, name, weights, options):
    folder = export_bench(reference_store(reference, weights), tmp_path / "x", **options)
    for path in (reference / name).iterdir():
        shutil.copy(path, folder / path.name)
    assert builds.run(folder).compared > 0


@pytest.fixture(scope="module")
def right_vectors(tmp_path_factory) -> Path:
    store = random_store(SMALL, images=1, seed=3)
    return export_bench(store, tmp_path_factory.mktemp("right") / "x", include=EVERYTHING, flat=True)


@pytest.mark.simulator
def test_right_vectors_pass(right_vectors, builds):
    assert builds.run(right_vectors) == SimulationResult("icarus", 4, 1176)


@pytest.mark.simulator
@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.what)
def test_wrong_vectors_are_caught(right_vectors, builds, tmp_path, mutant):
    folder = Path(shutil.copytree(right_vectors, tmp_path / "x"))
    texts = [(folder / path).read_text() for path in (mutant.path, mutant.other) if path]
    changed = mutant.change(*texts)
    assert changed != texts[0]
    (folder / mutant.path).write_text(changed)
    with pytest.raises(ComparisonError, match="the simulation with icarus failed"):
        builds.run(folder)


@pytest.mark.simulator
def test_a_missing_file_is_caught(right_vectors, builds, tmp_path):
    folder = Path(shutil.copytree(right_vectors, tmp_path / "x"))
    (folder / "out_otile1.txt").unlink()
    with pytest.raises(ComparisonError, match="out_otile1.txt: cannot be opened"):
        builds.run(folder)


@pytest.mark.simulator
def test_the_first_mismatches_have_their_address(right_vectors, builds, tmp_path):
    folder = Path(shutil.copytree(right_vectors, tmp_path / "x"))
    path = folder / "psum_itile1_otile0_kij2.txt"
    lines = path.read_text().splitlines()
    lines[7] = format(int(lines[7], 2) ^ 1 << 16, "064b")  # the lowest bit of col 1
    path.write_text("".join(f"{line}\n" for line in lines))
    with pytest.raises(ComparisonError) as caught:
        builds.run(folder)
    title, mismatch, count = str(caught.value).splitlines()
    assert title == f"{folder}: the simulation with icarus failed"
    assert mismatch.startswith("layer, image 0, it 1, ot 0, kij 2, nij 7, col 1: psum must be ")
    assert count == "1 mismatches"


@pytest.mark.simulator
def test_another_device_passes(tmp_path):
    need("icarus")
    folder = export_bench(random_store(SystolicArray(3, 4)), tmp_path / "x", include=EVERYTHING, flat=True)
    done = []
    result = simulate(
        folder, dut=[device(tmp_path)], stall=11, progress=lambda *job: done.append(job), simulator="icarus"
    )
    assert str(result) == "pass: 1176 words of 4 jobs compared with icarus"
    assert done[-1] == (4, 4, "layer, image 0, ot 1")


@pytest.mark.simulator
@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            ("total = 0;", "total = c;"),
            "it 0, ot 0, kij 0, nij 0, col 1: psum must be 0, not 1",
        ),
        (("if (out_ready) onij", "onij"), "out and acc must stay until they are taken"),
        (("assign out_valid = draining", "assign out_valid = 1"), "too many output words"),
        (("assign act_ready = busy", "assign act_ready = 0"), "no word has moved for 1000 clocks"),
    ],
)
def test_another_device_fails(tmp_path, change, said):
    need("icarus")
    folder = export_bench(random_store(SystolicArray(3, 4)), tmp_path / "x", include=EVERYTHING, flat=True)
    testbench = folder / "testbench/factory_tb.sv"
    testbench.write_text(testbench.read_text().replace("PATIENCE = 100000", "PATIENCE = 1000"))
    with pytest.raises(ComparisonError, match=said):
        simulate(folder, "icarus", dut=[device(tmp_path, change)], stall=12)


@pytest.mark.simulator
def test_a_device_that_does_not_compile_is_said_to(tmp_path):
    need("icarus")
    folder = export_bench(random_store(SystolicArray(3, 4)), tmp_path / "x")
    wrong = device(tmp_path, ("assign out_valid = draining;", "assign out_valid = drained;"))
    with pytest.raises(InputError, match="the testbench must compile with icarus, it does not:\n.*drained"):
        simulate(folder, "icarus", dut=[wrong])


def test_what_must_be_there(tmp_path, monkeypatch):
    folder = export_bench(random_store(SystolicArray(3, 4)), tmp_path / "x")
    with pytest.raises(InputError, match="^simulator must be one of icarus verilator, not questa$"):
        simulate(folder, "questa")
    for stall, said in ((-1, "at least 0, not -1"), (1 << 31, "at most 2147483647, not 2147483648")):
        with pytest.raises(InputError, match=f"^stall must be {said}$"):
            simulate(folder, "icarus", stall=stall)
    with pytest.raises(InputError, match="^none.sv: must be a SystemVerilog source, there is no such file$"):
        simulate(folder, dut=["none.sv"])
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(InputError, match=r"^icarus must be installed \(apt install iverilog\), it is not on the path$"):
        simulate(folder, "icarus")
    with pytest.raises(InputError, match=r"^a simulator must be installed \(apt install iverilog or apt install ver"):
        simulate(folder)
    shutil.rmtree(folder / "testbench")
    with pytest.raises(InputError, match="must have a testbench, there is no testbench/testbench.f; export with --te"):
        simulate(folder)
    with pytest.raises(InputError, match=f"^{tmp_path}: must be an export, it has no manifest.json$"):
        simulate(tmp_path)
    (tmp_path / "manifest.json").write_text("[]")
    with pytest.raises(
        InputError, match=rf"^{tmp_path}: manifest.json: must be a JSON object: there must be {{, not \[ "
    ):
        simulate(tmp_path)
