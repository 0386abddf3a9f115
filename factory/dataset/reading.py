"""Datasets open for reading: layers over all images, which are read, or computed, from the shards that hold them.

Nothing goes through virtual datasets, which give a fill value for a shard that is missing: each shard is opened by its
own path, is checked to be the plan's, and only so many are open as the process may have files.
"""

from __future__ import annotations

import resource
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np

from factory.dataset.facts import TileFacts, check_column, joined, kept_facts
from factory.dataset.folder import DATASET, PLAN, Dataset, read_dataset
from factory.dataset.where import evaluate
from factory.spec import InputError, LayerSet, Pattern, Progress, SystolicArray
from factory.store import Store, StoredLayer, layer_path, layers_html, open_store
from factory.store.lazy import LazyArray
from factory.store.variables import IMAGE_AXES, IN_CODE, KEPT, OPTIONAL, variable_axes

if TYPE_CHECKING:
    import xarray

_MOST_OPEN = 64
_IMAGE_ARRAYS = ("activation", "activation_tile", "psum", "accumulator")


class OpenShards:
    """The shards of a dataset, of which those that were used last are open; one thread reads at a time."""

    def __init__(self, dataset: Dataset):
        self.dataset = dataset
        allowed = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        self.most = max(1, allowed // 4) if 0 <= allowed < 4 * _MOST_OPEN else _MOST_OPEN  # -1: any number
        self._open: OrderedDict[int, Store] = OrderedDict()
        self._closed = False
        self._lock = threading.RLock()

    @contextmanager
    def store(self, number: int) -> Iterator[Store]:
        """Yield the store of a shard, which stays open in the block; raise InputError where it is not the plan's."""
        with self._lock:  # a thread must not close what another reads
            if self._closed:
                raise InputError(f"{self.dataset.folder}: must be open to be read, it is closed")
            if number not in self._open:
                while len(self._open) >= self.most:
                    self._open.popitem(last=False)[1].close()
                self._open[number] = self._opened(number)
            self._open.move_to_end(number)
            yield self._open[number]

    def _opened(self, number: int) -> Store:
        path, shard = self.dataset.path(number), self.dataset.plan.shard(number)
        store = open_store(path)
        found = str(store.file.attrs.get("shard"))
        if found != self.dataset.shards[number].digest or store.image_count != shard.count:
            store.close()
            raise InputError(f"{path}: must be shard {number} of the dataset's plan, it is another's")
        return store

    def close(self) -> None:
        """Close all; nothing can be read after it."""
        with self._lock:
            self._closed = True
            while self._open:
                self._open.popitem()[1].close()

    def over_images(self, pick: Callable[[Store], Any]) -> LazyArray:
        """Return what `pick` takes of each store, images first, as one array over the images of all of them."""
        with self.store(0) as first:
            sample = pick(first)
            shape, dtype = (self.dataset.plan.image_count, *sample.shape[1:]), sample.dtype
            selected = sample.selected if isinstance(sample, LazyArray) else 1

        def compute(places: tuple[np.ndarray, ...], out: np.ndarray) -> None:
            done = 0
            while done < len(places[0]):
                number, _ = self.dataset.plan.place(int(places[0][done]))
                shard = self.dataset.plan.shard(number)
                stop = int(np.searchsorted(places[0], shard.first + shard.count))
                own = places[0][done:stop] - shard.first
                with self.store(number) as store:
                    source = pick(store)
                    if isinstance(source, LazyArray):
                        source.compute((own, *places[1:]), out[done:stop])
                    else:
                        out[done:stop] = source[own[0] : own[-1] + 1][own - own[0]]
                done = stop

        return LazyArray(shape, dtype, selected, compute)


@dataclass(frozen=True)
class DatasetImages:
    """The images of a dataset, as those of a store."""

    shards: OpenShards
    label: LazyArray
    source_index: LazyArray
    pixels: LazyArray | None

    @cached_property
    def origin(self) -> tuple[str, ...]:
        """What each image is; every shard is opened for it."""
        return self._of_all(lambda store: store.images.origin)

    @cached_property
    def patterns(self) -> tuple[Pattern, ...]:
        """What each image is made for, where they are synthetic; every shard is opened for it."""
        return self._of_all(lambda store: store.images.patterns)

    def _of_all(self, pick: Callable[[Store], tuple]) -> tuple:
        found: list = []
        for number in range(len(self.shards.dataset.shards)):
            with self.shards.store(number) as store:
                found += pick(store)
        return tuple(found)


@dataclass(frozen=True)
class OpenDataset:
    """An open dataset, read only, as a store of all its images; close it, or use it as a context manager.

    An image's place is its global index. `export` takes it as it takes a store.
    """

    record: Dataset
    shards: OpenShards

    def __enter__(self) -> OpenDataset:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _repr_html_(self) -> str:
        """Return the layers as the table that notebooks show."""
        return layers_html(self, f"{self.image_count} images in {len(self.record.shards)} shards")

    def close(self) -> None:
        """Close every shard."""
        self.shards.close()

    @property
    def path(self) -> Path:
        """The dataset's folder."""
        return self.record.folder

    @property
    def image_count(self) -> int:
        """Number of images."""
        return self.record.plan.image_count

    @property
    def array(self) -> SystolicArray:
        """The array."""
        return self.record.plan.array

    @property
    def weights_sha256(self) -> str:
        """The sha256 (hex) of the contents of the weights, or of the layers' codes."""
        return self.record.plan.weights_sha256

    @cached_property
    def network(self) -> LayerSet:
        """The network, or the set of layers."""
        with self.shards.store(0) as store:
            return store.network

    @cached_property
    def image_source(self) -> str:
        """Name of what the images were taken from."""
        return " ".join(dict.fromkeys(part.name for part in self.record.plan.parts))

    @cached_property
    def images(self) -> DatasetImages:
        """The images."""
        with self.shards.store(0) as store:
            pictures = store.images.pixels is not None
        label, source_index = (
            self.shards.over_images(lambda store, name=name: getattr(store.images, name))
            for name in ("label", "source_index")
        )
        pixels = self.shards.over_images(lambda store: store.images.pixels) if pictures else None
        return DatasetImages(self.shards, label, source_index, pixels)

    @cached_property
    def layers(self) -> Mapping[str, StoredLayer]:
        """The layers by name: what follows from images is read when it is sliced, the rest is in memory."""
        with self.shards.store(0) as store:
            return {name: self._layer(name, layer) for name, layer in store.layers.items()}

    def _layer(self, name: str, first: StoredLayer) -> StoredLayer:
        whole = {field.name: getattr(first, field.name) for field in fields(first)}
        constant = {field: data[...] for field, data in whole.items() if isinstance(data, h5py.Dataset)}
        by_image = {
            field: self.shards.over_images(lambda store, field=field: getattr(store.layers[name], field))
            for field in _IMAGE_ARRAYS
        }
        return replace(first, **constant | by_image)

    def layer(self, name: str) -> StoredLayer:
        """Return the layer called `name`; raise InputError that lists the layers there are."""
        if name not in self.layers:
            raise InputError(f"{self.path}: layer must be one of {' '.join(self.layers)}, not {name}")
        return self.layers[name]

    vector = Store.vector

    def facts(self, layer: str, progress: Progress | None = None) -> TileFacts:
        """Return the facts of every tile of a layer on every image."""
        return joined(self._facts(layer, progress))

    def find(self, layer: str, where: str, progress: Progress | None = None) -> np.ndarray:
        """Return the facts of the tiles of a layer where a condition holds, a structured array of one row a tile.

        `where` compares columns (`factory.dataset.facts.COLUMNS` and `overflow_11`, for any width from 8 on) with
        numbers or each other, such as `overflow_11 > 0 and not zeros < 0.5`. Facts are computed once, and kept in the
        dataset's folder where it can be written.
        """
        evaluate(where, _checked)
        return np.concatenate([facts.rows(evaluate(where, facts.column)) for facts in self._facts(layer, progress)])

    def _facts(self, layer: str, progress: Progress | None) -> Iterator[TileFacts]:
        self.layer(layer)
        for shard, sealed in zip(self.record.plan.shards, self.record.shards, strict=True):
            path = self.path / "facts" / layer / f"{shard.name}.h5"
            with self.shards.store(shard.number) as store:
                yield kept_facts(
                    path, store.layers[layer], np.arange(shard.first, shard.first + shard.count), sealed.digest
                )
            if progress:
                progress(shard.number + 1, len(self.record.shards), f"facts of {layer}")

    def to_xarray(self) -> xarray.DataTree:
        """Return the dataset as a tree of xarray datasets with named axes, at `/images` and `/layers/<name>`.

        Variables are read, or computed, when their values are asked for, while the dataset is open.
        """
        try:
            import xarray

            from factory.store.tree import lazy_variable
        except ImportError:
            raise InputError("to_xarray needs xarray: pip install 'factory[xarray]'") from None

        def group(source: object, axes: Mapping[str, tuple[str, ...]]) -> xarray.Dataset:
            held = {name: (axes, getattr(source, IN_CODE.get(name, name))) for name, axes in axes.items()}
            return xarray.Dataset(
                {
                    name: lazy_variable(axes, data) if isinstance(data, LazyArray) else (axes, data)
                    for name, (axes, data) in held.items()
                },
                coords={"image": np.arange(self.image_count)},
            )

        pixels = () if self.images.pixels is None else ("pixels",)
        groups = {"images": group(self.images, {name: IMAGE_AXES[name] for name in (*pixels, "label", "source_index")})}
        for name, layer in self.layers.items():
            present = [field for field in OPTIONAL if getattr(layer, field) is not None]
            groups[layer_path(name)] = group(layer, variable_axes(layer.spec, KEPT[0], present))
        return xarray.DataTree.from_dict({f"/{path}": found for path, found in groups.items()})


def _checked(name: str) -> np.ndarray:
    """Stand for the column `name`, so that a condition is wrong before anything is computed for it."""
    check_column(name)
    return np.zeros(1)


def open_dataset(folder: str | Path) -> OpenDataset:
    """Open a finished dataset; raise InputError where it is not, or where a shard is missing or too short."""
    record = read_dataset(folder)
    return OpenDataset(record, OpenShards(record))


def open_source(path: Path) -> Store | OpenDataset:
    """Open a dataset's folder, or a store; raise InputError where it is neither."""
    if not path.is_dir():
        return open_store(path)
    if not any((path / name).exists() for name in (PLAN, DATASET)):
        raise InputError(f"{path}: must be a store or a dataset, it is a folder of something else")
    return open_dataset(path)
