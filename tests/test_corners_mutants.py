"""Which corner cases catch which planted bug: every wrong array, and every wrong vector, by the corner store alone."""

import functools
import shutil
from importlib.resources import files
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from helpers_bench import Builds, export_bench
from helpers_export import MemoryStore
from helpers_simulator import need
from mutants import array, vectors

from factory.dataflow import KnownLayer
from factory.fileplan import read_plan
from factory.simulate import compile_bench, run_bench
from factory.spec import ComparisonError, LayerSet, SystolicArray
from factory.synthetic import base_layer, corner_network
from factory.testbench import bench_of

pytestmark = pytest.mark.simulator
RTL = Path(str(files("factory") / "rtl"))
ARRAY = SystolicArray(3, 4, psum_bits=9)
EVERYTHING = "activation,weight,out,psum,accumulator"
WS = (dict(), dict(dataflow="ws", include="activation,weight,out,psum"))
CASES = {
    "ws": WS,
    "partial": (dict(), dict(dataflow="ws", include=EVERYTHING)),  # a job for each it, because its sums are there
    "by axis": WS,
    "saturate": (dict(), dict(dataflow="ws", include=EVERYTHING, overflow="saturate", post="none")),
    "stride": (dict(signed=True), dict(dataflow="ws", include=EVERYTHING, post="leaky", pe_activation="signed")),
    "os": (
        dict(signed=True),
        dict(dataflow="os", include="activation,weight,out,accumulator", pe_activation="signed"),
    ),
    "simd": (dict(activation_bits=2), dict(profile="simd2-even", include=EVERYTHING)),
}
"""By the case of a mutant: the codes of the corner store, and the export of it."""

CAUGHT = {
    "a weight's sign is lost": "conv.all-min/all-max",
    "a product is subtracted": "conv.all-max/all-max",
    "an activation's top bit is a sign": "conv.identity/ramp",
    "a signed activation is taken as unsigned": "conv.ramp/all-min",
    "only the first SIMD lane counts": "conv.identity/ramp",
    "a carry is dropped": "conv.ramp/ramp",
    "sums saturate where they must wrap": "sum.adder-ends/binary",
    "sums wrap where they must saturate": "sum.adder-return/all-max",
    "the clamp has the wrong sign": "sum.adder-ends/binary",
    "a psum bit is stuck": "conv.zeros/zeros",
    "a weight bit is stuck": "conv.all-min/all-max",
    "the accumulator is not cleared": "conv.all-max/all-max",
    "the accumulator is cleared by each it": "point.first-input/all-max",
    "a job does not continue the one before": "point.first-input/first-channel",
    "a tile's psums are not cleared": "conv.ramp/ramp",
    "kij is off by one": "taps.kij-5/row-1",
    "ki and kj are swapped": "taps.kij-5/row-1",
    "the stride is ignored along x": "strided.ramp/ramp",
    "the stride is ignored along y": "strided.ramp/ramp",
    "the stride along x is that along y": "axes.ramp/ramp",
    "the stride along y is that along x": "axes.ramp/ramp",
    "the dilation is ignored along x": "axes.ramp/ramp",
    "the dilation is ignored along y": "axes.ramp/ramp",
    "the kernel is as wide as it is high": "axes.ramp/ramp",
    "the kernel is as high as it is wide": "axes.ramp/ramp",
    "lanes are reversed": "conv.identity/ramp",
    "output rows are off by one": "conv.ramp/ramp",
    "a row is not skewed": "conv.identity/ramp",
    "a col is not skewed": "conv.ramp/ramp",
    "ReLU is missing": "conv.all-min/all-max",
    "leaky shifts zeros in": "conv.all-min/all-max",
    "the accumulation is one it short": "point.last-input/last-channel",
    "the last pixel is not accumulated": "conv.all-max/all-max",
    "weights are loaded a clock late": "conv.alternating/alternating",
    "the mesh moves while a psum waits": "conv.ramp/ramp",
    "an activation is taken while the mesh waits": "conv.ramp/ramp",
    "an activation does not wait for its weight": "conv.ramp/ramp",
    "an output does not wait to be taken": "conv.ramp/ramp",
}
"""By what is wrong with an array: the vector that catches it, in the export of the mutant's case."""

RAMP = "conv.ramp/ramp"
"""The vector that catches all wrong vectors: no two of its words are exchanged without a difference."""


@functools.cache
def corner_store(**codes) -> MemoryStore:
    network = corner_network(ARRAY, base_layer(ARRAY, **codes))
    layers = {
        layer.spec.name: KnownLayer(layer.spec, layer.weight, layer.activation, layer.threshold, layer.direction)
        for layer in network.layers
    }
    described = LayerSet(network.name, tuple(layer.spec for layer in network.layers))
    images = SimpleNamespace(source_index=np.arange(len(network.images)), origin=network.images)
    return MemoryStore(described, layers, ARRAY, images=images)


def write_vector(folder: Path, case: str, vector: str) -> Path:
    """Export one vector with a testbench that soon gives up waiting."""
    codes, options = CASES[case]
    store, (layer, image) = corner_store(**codes), vector.split("/")
    place = str(store.images.origin.index(image))
    export_bench(store, folder, layers=layer, images=place, flat=True, **options)
    testbench = folder / "testbench/factory_tb.sv"
    testbench.write_text(testbench.read_text().replace("PATIENCE = 100000", "PATIENCE = 1000"))
    return folder


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
