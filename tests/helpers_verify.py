"""A small store and its weights on disk, and ways to damage them."""

from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
from helpers_network import random_pixels, trained_network

from factory.build import build
from factory.checkpoint import save_weights
from factory.spec import Array, Network


@dataclass(frozen=True)
class Built:
    """Where a store and the weights that it was built from lie."""

    store: Path
    weights: Path


def build_small(
    folder: Path, network: Network, images: int = 2, layers: str = "all", array: Array | None = None
) -> Built:
    """Build a store of random pixels and weights in `folder`."""
    built = Built(folder / "store.h5", folder / "weights.safetensors")
    save_weights(trained_network(network), built.weights)
    np.save(folder / "pixels.npy", random_pixels(network, images).transpose(0, 2, 3, 1))
    build(built.store, built.weights, folder / "pixels.npy", pick="all", layers=layers, array=array or Array(4, 8))
    return built


def add_one(path: Path, dataset: str, place: tuple[int, ...]) -> tuple[int, int]:
    """Add 1 to one value of an HDF5 file; return it before and after."""
    with h5py.File(path, "r+") as file:
        before = file[dataset][place]
        file[dataset][place] = before + 1
        return int(before), int(file[dataset][place])
