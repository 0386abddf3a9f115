"""A small store and its weights on disk, exports of it, and ways to damage them."""

import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
from helpers_network import random_pixels, trained_network

from factory.build import build
from factory.checkpoint import save_weights
from factory.manifest import Manifest
from factory.spec import Network, SystolicArray


@dataclass(frozen=True)
class Built:
    """Where a store and the weights that it was built from lie."""

    store: Path
    weights: Path


def build_small(
    folder: Path, network: Network, images: int = 2, layers: str = "all", array: SystolicArray | None = None
) -> Built:
    """Build a store of random pixels and weights in `folder`."""
    built = Built(folder / "store.h5", folder / "weights.safetensors")
    save_weights(trained_network(network), built.weights)
    np.save(folder / "pixels.npy", random_pixels(network, images).transpose(0, 2, 3, 1))
    build(
        built.store, built.weights, folder / "pixels.npy", pick="all", layers=layers, array=array or SystolicArray(4, 8)
    )
    return built


def add_one(path: Path, dataset: str, place: tuple[int, ...]) -> tuple[int, int]:
    """Add 1 to one value of an HDF5 file; return it before and after."""
    with h5py.File(path, "r+") as file:
        before = file[dataset][place]
        file[dataset][place] = before + 1
        return int(before), int(file[dataset][place])


def edit_manifest(folder: Path, change: Callable[[dict], None]) -> None:
    """Rewrite an export's manifest after `change` has been made to it."""
    path = folder / "manifest.json"
    manifest = json.loads(path.read_text())
    change(manifest)
    path.write_text(json.dumps(manifest))


def repair(folder: Path) -> None:
    """Give an export's manifest the digests, the pack id and the size of the files that lie there now."""

    def change(manifest: dict) -> None:
        listing, size = hashlib.sha256(), 0
        for record in (record for group in manifest["groups"] for record in group["sets"]):
            for entry in record["files"]:
                path = f"{record['directory']}/{entry['name']}".lstrip("/")
                data = (folder / path).read_bytes()
                entry["sha256"] = hashlib.sha256(data).hexdigest()
                listing.update(f"{entry['sha256']}  {path}\n".encode())
                size += len(data)
        manifest["pack_id"] = listing.hexdigest()
        manifest["counts"]["bytes"] = size

    edit_manifest(folder, change)


NEW_NAMES = {"partial": "running_sum", "conv": "accumulator"}
NEW_KEYS = {"wrapped": "inexact"}
LAYER_NAMES = {"conv": "spec", "tiles": "selection"}


def with_new_names(open_manifest: Callable[[Path], Manifest]) -> Callable[[Path], Manifest]:
    """Return a reader of manifests of schema factory-pack-1 that gives them the names of factory-pack-2."""

    def opened(directory: Path) -> Manifest:
        manifest = open_manifest(directory)
        layers = {
            layer: {LAYER_NAMES.get(key, key): value for key, value in record.items()}
            for layer, record in manifest.facts["layers"].items()
        }
        facts = {**manifest.facts, "layers": layers}
        return Renamed(manifest.path, {key: _renamed(facts[key]) if key in _NAMED else facts[key] for key in facts})

    return opened


class Renamed(Manifest):
    """A manifest whose groups have the new names too."""

    def groups(self) -> Iterator[dict]:
        yield from map(_renamed, super().groups())


_NAMED = ("layouts", "counts")


def _renamed(value: object, key: str = "") -> object:
    """Return a value with the new names: keys, and the values of `role` and `include`."""
    if isinstance(value, dict):
        return {NEW_KEYS.get(name, name): _renamed(item, name) for name, item in value.items()}
    if isinstance(value, list):
        return [_renamed(item) for item in value]
    return NEW_NAMES.get(value, value) if key in ("role", "include") else value
