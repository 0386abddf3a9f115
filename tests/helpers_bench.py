"""Stores of random codes, their exports with testbenches, and simulations that are compiled once."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
from helpers_export import MemoryLayer, MemoryStore
from helpers_simulator import need

from factory.export import export
from factory.fileplan import read_plan
from factory.simulate import SimulationResult, compile_bench, run_bench
from factory.spec import ConvLayer, Network, SystolicArray
from factory.testbench import FOLDER, bench_of


def random_store(array: SystolicArray, images: int = 2, seed: int = 0, **fields) -> MemoryStore:
    """Return a store of one layer of random codes; `fields` are those of ConvLayer that are not small and ragged."""
    given = dict(name="layer", source="image", in_channels=5, out_channels=6, height=4, width=3, kernel=3, padding=1)
    spec = ConvLayer(**given | fields)
    rng = np.random.default_rng(seed)
    levels = 2**spec.activation_bits
    low = -(levels // 2) if spec.signed else 0
    activation = rng.integers(low, low + levels, (images, spec.in_channels, spec.height, spec.width))
    weight = rng.integers(-spec.weight_qmax, spec.weight_qmax + 1, spec.weight_shape)
    layer = MemoryLayer(spec, weight.astype(np.int8), activation.astype(np.int8 if spec.signed else np.uint8))
    colours = (0.5,) * spec.in_channels
    network = Network("random", (spec,), mean=colours, std=colours)
    places = SimpleNamespace(source_index=np.arange(images))
    return MemoryStore(network, {spec.name: layer}, array, images=places)


def export_bench(store, folder: Path, **options) -> Path:
    """Export with a testbench and return the folder."""
    export(store, folder, testbench=True, **options)
    return folder


class Builds:
    """Simulations in `folder`, by simulator and by all that is compiled: exports of one profile share one."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.made: dict[tuple, Path] = {}

    def run(self, directory: Path, name: str = "icarus", stall: int | None = None) -> SimulationResult:
        """Run an export's testbench as `simulate` does, compiling it only where no other export did."""
        simulator = need(name)
        sources = tuple(path.read_bytes() for path in sorted((directory / FOLDER).rglob("*.sv")))
        if (name, sources) not in self.made:
            build = self.folder / str(len(self.made))
            build.mkdir()
            compile_bench(directory, build, simulator)
            self.made[name, sources] = build
        return run_bench(directory, self.made[name, sources], simulator, bench_of(read_plan(directory)), stall)
