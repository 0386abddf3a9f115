"""What the images of a store come from: pictures that go through a network, or the codes of another store."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Int64

from factory.checkpoint import load_weights
from factory.images import ImageSource, load_images
from factory.images.collection import pick_images
from factory.lower import lower, tile_layer
from factory.spec import IntegerLayer, IntegerNetwork, Progress, Range, SystolicArray, TrainedNetwork
from factory.store import (
    ImageOrigin,
    LayerOrigin,
    PlannedLayer,
    Store,
    StoredLayer,
    StorePlan,
    StoreWriter,
    layer_path,
    lowered_layer,
    open_store,
)

if TYPE_CHECKING:
    from factory.engine import EngineNetwork

_BLOCK = 64
"""Images whose codes are copied at once."""
_STEPS = ("alpha_w", "alpha_a", "weight_step", "activation_step")


@dataclass(frozen=True)
class PictureSource:
    """Pictures of a collection that go through a trained network."""

    trained: TrainedNetwork
    integer: IntegerNetwork
    planned: tuple[PlannedLayer, ...]
    pictures: ImageSource

    @property
    def origin(self) -> LayerOrigin:
        """The network that is lowered."""
        return LayerOrigin("lowered", self.trained.network, self.trained.sha256)

    @property
    def name(self) -> str:
        """The collection's name."""
        return self.pictures.name

    @property
    def count(self) -> int:
        """Number of images picked."""
        return self.pictures.count

    def _part(self, start: int, stop: int) -> ImageSource:
        return ImageSource(self.pictures.collection, self.pictures.source_index[start:stop])

    def sha256(self, start: int, stop: int) -> str:
        """Return the sha256 (hex) of pixels, labels and places."""
        return self._part(start, stop).sha256()

    def images(self, start: int, stop: int) -> ImageOrigin:
        """Return how a store describes these images."""
        return ImageOrigin(stop - start, self.name, self.sha256(start, stop), self.trained.network.image_shape)

    @functools.cached_property
    def _engine(self) -> EngineNetwork:
        from factory.engine import prepare

        tiled = {planned.tiled.layer.spec.name: planned.tiled for planned in self.planned}
        return prepare(self.integer, self.planned[0].tiled.array, tiled=tiled)

    def fill(
        self, writer: StoreWriter, plan: StorePlan, start: int, batch: int | None, progress: Progress | None
    ) -> None:
        """Compute what the plan keeps of the images, and write it, `batch` of them at a time; None: as many as fit."""
        from factory.build.fill import PictureBatches, fill_store

        specs = [planned.tiled.layer.spec for planned in self.planned]
        batches = PictureBatches(self._engine, specs, self._part(start, start + plan.image_count))
        fill_store(writer, plan, batches, batch, progress)


@dataclass(frozen=True)
class StoreSource:
    """Images of an open store, at `places` in it, and their codes in the layers that are `planned`."""

    store: Store
    planned: tuple[PlannedLayer, ...]
    places: Int64[np.ndarray, " image"]

    @property
    def origin(self) -> LayerOrigin:
        """The store's."""
        return LayerOrigin(self.store.origin, self.store.network, self.store.weights_sha256)

    @property
    def name(self) -> str:
        """Name of what the store's images were taken from."""
        return self.store.image_source

    @property
    def count(self) -> int:
        """Number of images picked."""
        return len(self.places)

    def _blocks(self, start: int, stop: int, size: int = _BLOCK) -> Iterator[tuple[int, dict[str, np.ndarray]]]:
        """Yield some images' variables by path, and how many images there were before them."""
        images, layers = self.store.images, [planned.tiled.layer.spec.name for planned in self.planned]
        given = {"label": images.label, "source_index": images.source_index, "pixels": images.pixels}
        found = {f"images/{name}": values for name, values in given.items() if values is not None}
        found |= {f"{layer_path(name)}/activation": self.store.layer(name).activation for name in layers}
        for first in range(start, stop, size):
            places = self.places[first : min(first + size, stop)]
            unique, back = np.unique(places, return_inverse=True)  # HDF5 reads ascending places, each once
            yield first - start, {path: values[unique][back] for path, values in found.items()}

    def sha256(self, start: int, stop: int) -> str:
        """Return the sha256 (hex) of codes, pictures, labels, places and what the images are called."""
        digest = hashlib.sha256()
        for _, block in self._blocks(start, stop):
            for path, values in block.items():
                digest.update(f"{path} {values.shape}\n".encode())
                digest.update(np.ascontiguousarray(values, "<i8" if values.ndim == 1 else "<i2").data)
        digest.update("\n".join(self._named(self.store.images.origin, start, stop)).encode())
        return digest.hexdigest()

    def _named(self, each: tuple, start: int, stop: int) -> tuple:
        return tuple(each[place] for place in self.places[start:stop]) if each else ()

    def images(self, start: int, stop: int) -> ImageOrigin:
        """Return how a store describes these images."""
        images = self.store.images
        shape = None if images.pixels is None else images.pixels.shape[1:]
        names, patterns = (self._named(each, start, stop) for each in (images.origin, images.patterns))
        return ImageOrigin(stop - start, self.name, self.sha256(start, stop), shape, names, patterns)

    def fill(
        self, writer: StoreWriter, plan: StorePlan, start: int, batch: int | None, progress: Progress | None
    ) -> None:
        """Copy the codes of the images; the plan keeps nothing else."""
        dtypes = {variable.path: variable.dtype for variable in plan.streamed}
        for first, block in self._blocks(start, start + plan.image_count, batch or _BLOCK):
            for path, values in block.items():
                writer.write(path, first, values.astype(dtypes[path], copy=False))
            done = first + len(block["images/label"])
            writer.commit(done)
            if progress:
                progress(done * plan.image_bytes, plan.image_count * plan.image_bytes, self.name)


Source = PictureSource | StoreSource
"""Images that were picked, and the layers that they go through."""


def open_pictures(
    weights: str | Path | TrainedNetwork | None,
    images: str | Path,
    split: str,
    pick: str | None,
    layers: str,
    array: SystolicArray,
) -> PictureSource:
    """Return pictures, as `factory build` takes them, and the chosen layers of a network, lowered."""
    trained = weights if isinstance(weights, TrainedNetwork) else load_weights(weights)
    chosen = trained.network.select(layers)
    pictures = load_images(images, split, pick, network=trained.network)
    integer = lower(trained)
    planned = [lowered_layer(trained.layers[x.name], tile_layer(integer.layers[x.name], array)) for x in chosen]
    return PictureSource(trained, integer, tuple(planned), pictures)


def open_stored(path: Path, pick: str | None, layers: str, array: SystolicArray | None) -> StoreSource:
    """Return images of a store and their codes in the chosen layers, on an array, by default the store's.

    The store stays open.
    """
    store = open_store(path)
    array = array or store.array
    chosen = store.network.select(layers, store.layers, f"{path}: ")
    planned = tuple(_planned(store, store.layers[spec.name], array) for spec in chosen)
    return StoreSource(store, planned, pick_images(pick, store.image_count))


def _planned(store: Store, layer: StoredLayer, array: SystolicArray) -> PlannedLayer:
    attributes = store.file[layer_path(layer.spec.name)].attrs
    ends = layer.activation_low.astype(np.int16), layer.activation_high.astype(np.int16)
    sums = Range(*(int(attributes[f"accumulator_{end}"]) for end in ("low", "high")))
    optional = {
        name: None if (values := getattr(layer, name)) is None else values[...]
        for name in ("threshold", "direction", "bias", "weight_step")
    }
    rest = optional["threshold"], optional["direction"]
    integer = IntegerLayer(layer.spec, layer.weight[...], *ends, sums, *rest)
    steps = {name: float(attributes[name]) for name in _STEPS if name in attributes}
    origin = str(attributes.get("origin", store.origin))
    own = optional["bias"], optional["weight_step"]
    return PlannedLayer(tile_layer(integer, array), origin, steps, *own, layer.pattern)
