"""`dataset.h5`: all shards of a dataset as one store whose arrays of images are virtual, for any reader of HDF5.

HDF5 says nothing where a shard is missing, or where a process has no file descriptor left for it: it gives the fill
value. So that is one that the array cannot hold, in a wider type where its own has no such value.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

import h5py
import numpy as np

from factory.dataset.folder import Dataset
from factory.spec import InputError
from factory.store.hdf5 import UNREADABLE, WritableHDF5, open_finished

_IMAGE = "image"
_LEAST = {"label": -1, "source_index": -1}
"""The least value of variables of images: that of an image without one."""


def write_merged(path: Path, dataset: Dataset) -> None:
    """Write the file of all shards, which must be finished; its bytes follow from theirs and their places.

    Raise InputError where a shard is not the plan's. Shards are opened one at a time.
    """
    texts: dict[str, list[np.ndarray]] = {}
    for number, sealed in enumerate(dataset.shards):
        source = dataset.path(number)
        try:
            with open_finished(source) as shard:
                if shard.attrs.get("shard") != sealed.digest:
                    raise InputError(f"{source}: must be shard {number} of the plan, it is another store")
                for item in shard["images"].values():
                    if item.dtype.kind == "S":
                        texts.setdefault(item.name, []).append(item[...])
        except UNREADABLE as error:
            raise InputError(f"{source}: must be a whole HDF5 file: {str(error).partition(chr(10))[0]}") from None
    with open_finished(dataset.path(0)) as first, WritableHDF5(path, "w") as file:
        groups = {"/": first["/"]}
        first.visititems(lambda name, item: groups.update({name: item}) if isinstance(item, h5py.Group) else None)
        for name, group in groups.items():
            target = file.require_group(name)
            attributes = {key: value for key, value in group.attrs.items() if key != "shard"}
            if name == "/":
                attributes |= _described(dataset)
            target.attrs.update(dict(sorted(attributes.items())))
            _merge_group(target, group, dataset, texts)


def _described(dataset: Dataset) -> dict[str, str]:
    """Return what the root says of all images, where a shard's says it of its own."""
    shards, parts = dataset.plan.shards, dataset.plan.parts
    sha256 = hashlib.sha256("".join(shard.images_sha256 for shard in shards).encode()).hexdigest()
    return dict(image_source=", ".join(dict.fromkeys(part.name for part in parts)), image_sha256=sha256)


def _merge_group(
    target: h5py.Group, group: h5py.Group, dataset: Dataset, texts: Mapping[str, list[np.ndarray]]
) -> None:
    """Write a group's scales, then its other datasets: the virtual ones, and copies of those without images."""
    items = {name: item for name, item in group.items() if isinstance(item, h5py.Dataset)}
    scales = {name: item for name, item in items.items() if h5py.h5ds.is_scale(item.id)}
    for name, scale in scales.items():
        values = np.arange(dataset.plan.image_count, dtype=scale.dtype) if name == _IMAGE else scale[...]
        target.create_dataset(name, data=values).make_scale(name)
    for name in (name for name in items if name not in scales):
        item, axes = items[name], [dimension[0].name.rpartition("/")[2] for dimension in items[name].dims]
        if item.name in texts:  # of which HDF5 gives memory at random where a shard is missing
            text = np.concatenate(texts[item.name])
            target.create_dataset(name, data=text, compression="gzip", shuffle=True)
        elif axes[0] == _IMAGE:
            _create_virtual(target, item, dataset, *_held(group, item))
        else:
            target.create_dataset(name, data=item[...])
        for place, axis in enumerate(axes):
            h5py.h5ds.attach_scale(target[name].id, target[axis].id, place)


def _held(group: h5py.Group, item: h5py.Dataset) -> tuple[np.dtype, int]:
    """Return the type of a virtual dataset and the value, out of what it can hold, that stands for what is missing."""
    name, kind = item.name.rpartition("/")[2], item.dtype
    info = np.iinfo(kind)
    low, high = _LEAST.get(name, info.min), info.max
    if f"{name}_low" in group:
        low, high = group[f"{name}_low"][...].min(), group[f"{name}_high"][...].max()
    if info.min < low:
        return kind, info.min
    if info.max > high:
        return kind, info.max
    return np.dtype("<i4" if kind.itemsize > 1 else "<i2"), -(2**15) if kind.itemsize == 1 else -(2**31)


def _create_virtual(target: h5py.Group, item: h5py.Dataset, dataset: Dataset, kind: np.dtype, fill: int) -> None:
    shape = (dataset.plan.image_count, *item.shape[1:])
    space, creation = h5py.h5s.create_simple(shape), h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    creation.set_obj_track_times(False)  # no time of day
    creation.set_fill_value(np.array([fill], kind))
    for shard, sealed in zip(dataset.plan.shards, dataset.shards, strict=True):
        part = (shard.count, *shape[1:])
        space.select_hyperslab((shard.first, *(0 for _ in shape[1:])), part)
        file, name = sealed.path.encode(), item.name.encode()
        creation.set_virtual(space, file, name, h5py.h5s.create_simple(part))
    space.select_all()
    name = item.name.rpartition("/")[2].encode()
    h5py.h5d.create(target.id, name, h5py.h5t.py_create(kind), space, creation)
