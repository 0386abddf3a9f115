"""Stores in memory, for exports, and the notebook's own loops that write memory files."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace

import numpy as np

from factory.spec import Array, ConvLayer, InputError, Network, part1, part2


@dataclass(frozen=True)
class MemoryLayer:
    """One layer's integers, as an export needs them."""

    spec: ConvLayer
    weight: np.ndarray
    activation: np.ndarray
    threshold: np.ndarray | None = None
    direction: np.ndarray | None = None


@dataclass(frozen=True)
class MemoryStore:
    """Layers and images that lie in no file."""

    network: Network
    layers: dict[str, MemoryLayer]
    array: Array = Array()
    path: Path = Path("memory.h5")
    image_source: str = "memory"
    weights_sha256: str = "0" * 64
    images: SimpleNamespace = field(default_factory=SimpleNamespace)

    @property
    def image_count(self) -> int:
        return next(iter(self.layers.values())).activation.shape[0]

    def layer(self, name: str) -> MemoryLayer:
        if name not in self.layers:
            raise InputError(f"{self.path}: layer must be one of {' '.join(self.layers)}, not {name}")
        return self.layers[name]


def reference_store(folder: Path, name: str) -> MemoryStore:
    """Return the layers and images of `reference_<name>.npz`, `w4a4` or `w4a2`."""
    network = {"w4a4": part1, "w4a2": part2}[name]()
    with np.load(folder / f"reference_{name}.npz") as data:
        layers = {
            spec.name: MemoryLayer(spec, data[f"{spec.name}.weight_code"], data[f"{spec.name}.activation_code"])
            for spec in network.layers
        }
        images = SimpleNamespace(source_index=data["index"])
    return MemoryStore(network, layers, images=images)


def files_of(folder: Path) -> dict[str, bytes]:
    """Return every file below a folder but the manifest, by its path."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != "manifest.json"
    }
