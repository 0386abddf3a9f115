"""Stores of random codes, their exports with testbenches, and simulations that are compiled once."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace

import numpy as np
from helpers_export import MemoryStore
from helpers_simulator import need

from factory.dataflow import KnownLayer
from factory.export import export
from factory.fileplan import read_plan
from factory.simulate import SimulationResult, compile_bench, run_bench
from factory.spec import ConvLayer, LayerSet, Network, SystolicArray
from factory.testbench import FOLDER, bench_of

SMALL_LAYER = dict(name="layer", source="image", in_channels=5, out_channels=6, height=4, width=3, kernel=3, padding=1)
"""Small and ragged on most arrays."""


def random_store(array: SystolicArray, images: int = 2, seed: int = 0, **fields) -> MemoryStore:
    """Return a store of one layer of random codes; `fields` are those of ConvLayer that are not small and ragged."""
    spec = ConvLayer(**SMALL_LAYER | fields)
    rng = np.random.default_rng(seed)
    activation = random_activation(rng, spec, images)
    weight = rng.integers(-spec.weight_qmax, spec.weight_qmax + 1, spec.weight_shape)
    colours = (0.5,) * spec.in_channels
    network = Network("random", (spec,), mean=colours, std=colours)
    return _store(network, KnownLayer(spec, weight.astype(np.int8), activation), array)


def given_store(array: SystolicArray, images: int = 2, seed: int = 0, **fields) -> MemoryStore:
    """Return a store of one layer whose random codes were given: of any geometry, the least weight among them."""
    spec = ConvLayer(**SMALL_LAYER | dict(source="given") | fields)
    rng = np.random.default_rng(seed)
    activation = random_activation(rng, spec, images)
    weight = random_weight(rng, spec)
    weight[0, 0, 0, 0] = -spec.weight_qmax - 1
    return _store(LayerSet("given", (spec,)), KnownLayer(spec, weight, activation), array)


def random_activation(rng: np.random.Generator, spec: ConvLayer, images: int) -> np.ndarray:
    """Return codes `(image, ic, y, x)` over the whole range."""
    low, high = spec.code_range
    codes = rng.integers(low, high + 1, (images, spec.in_channels, spec.height, spec.width))
    return codes.astype(np.int8 if spec.signed else np.uint8)


def random_weight(rng: np.random.Generator, spec: ConvLayer) -> np.ndarray:
    """Return int8 codes `(oc, ic, ki, kj)` over the whole two's complement range, 0 outside the groups."""
    weight = rng.integers(-spec.weight_qmax - 1, spec.weight_qmax + 1, spec.weight_shape)
    oc, ic = np.arange(spec.out_channels), np.arange(spec.in_channels)
    same = (oc * spec.groups // spec.out_channels)[:, None] == ic * spec.groups // spec.in_channels
    return (weight * same[:, :, None, None]).astype(np.int8)


def _store(network: LayerSet, layer: KnownLayer, array: SystolicArray) -> MemoryStore:
    places = SimpleNamespace(source_index=np.arange(len(layer.activation)))
    return MemoryStore(network, {layer.spec.name: layer}, array, images=places)


def export_bench(store, folder: Path, **options) -> Path:
    """Export with a testbench and return the folder."""
    export(store, folder, testbench=True, **options)
    return folder


def device(folder: Path, *changes: tuple[str, str]) -> Path:
    """Return another device than the reference array, with changes."""
    text = (Path(__file__).parent / "plain_array.sv").read_text()
    for old, new in changes:
        assert text.count(old) == 1
        text = text.replace(old, new)
    path = folder / "device.sv"
    path.write_text(text)
    return path


class Builds:
    """Simulations in `folder`, by simulator and by all that is compiled: exports of one profile share one.

    `device` are the sources of another device than the reference array.
    """

    def __init__(self, folder: Path, device: Sequence[Path] = ()):
        self.folder, self.device = folder, device
        self.made: dict[tuple, Path] = {}

    def run(
        self, directory: Path, name: str = "icarus", stall: int | None = None, log: Path | None = None
    ) -> SimulationResult:
        """Run an export's testbench as `simulate` does, compiling it only where no other export did."""
        simulator = need(name)
        sources = tuple(path.read_bytes() for path in sorted((directory / FOLDER).rglob("*.sv")))
        if (name, sources) not in self.made:
            build = self.folder / str(len(self.made))
            build.mkdir()
            compile_bench(directory, build, simulator, self.device)
            self.made[name, sources] = build
        bench = bench_of(read_plan(directory))
        return run_bench(directory, self.made[name, sources], simulator, bench, stall, log=log)
