"""Images: the sources a network's pixels come from, read lazily, batch by batch."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Int16, Int64, UInt8

from factory.images import cifar, pictures
from factory.images.arrays import open_npy, open_npz
from factory.images.collection import NO_LABEL as NO_LABEL
from factory.images.collection import Collection, pick_images
from factory.images.samples import open_samples
from factory.spec import InputError, Network

SPLITS = ("train", "test")
_DIGEST_BATCH = 1024


@dataclass(frozen=True)
class ImageBatch:
    """Some images; `label` is -1 for an image without one, `source_index` its place in its source."""

    pixels: UInt8[np.ndarray, "image colour y x"]
    label: Int16[np.ndarray, " image"]
    source_index: Int64[np.ndarray, " image"]


@dataclass(frozen=True)
class ImageSource:
    """The images that were picked from a collection, in the pick's order; only what `batch` asks for is read."""

    collection: Collection
    source_index: Int64[np.ndarray, " image"]

    @property
    def name(self) -> str:
        """Name of the collection; it holds no folder, so that it is the same on every machine."""
        return self.collection.name

    @property
    def count(self) -> int:
        """Number of images picked."""
        return len(self.source_index)

    def batch(self, start: int, stop: int) -> ImageBatch:
        """Read the images `start` to `stop - 1` of the pick; raise InputError where one cannot be read."""
        index = self.source_index[start:stop]
        return ImageBatch(*self.collection.read(index), index)

    def batches(self, size: int, start: int = 0) -> Iterator[ImageBatch]:
        """Read all images from `start` on, `size` at a time."""
        for first in range(start, self.count, size):
            yield self.batch(first, min(first + size, self.count))

    def sha256(self) -> str:
        """Return the sha256 (hex) of all pixels, labels and places."""
        digest = hashlib.sha256()
        for batch in self.batches(_DIGEST_BATCH):
            for array in (batch.pixels, batch.label.astype("<i2"), batch.source_index.astype("<i8")):
                digest.update(np.ascontiguousarray(array).data)
        return digest.hexdigest()


def load_images(source: str | Path, split: str = "test", pick: str | None = None, *, network: Network) -> ImageSource:
    """Open the images of `source` that `pick` names (`pick_images`; None: all), in the size that `network` takes.

    `source`: `samples`; a folder with CIFAR-10's binary or Python files, of which `split` is taken; an `.npy` or `.npz`
    of uint8 `(image, y, x, colour)`; a folder of image files. Raise InputError where it is none of these, or its images
    have another size or dtype.
    """
    if split not in SPLITS:
        raise InputError(f"split must be train or test, not {split}")
    collection = _open(source, network, split)
    return ImageSource(collection, pick_images(pick, collection.count))


def _open(source: str | Path, network: Network, split: str) -> Collection:
    path, shape = Path(source), network.image_shape
    batches = cifar.find_cifar(path) if path.is_dir() and source != "samples" else None
    if batches is not None:
        if shape != cifar.SHAPE:
            raise InputError(f"{path}: images must be {shape} for this network, CIFAR-10's are {cifar.SHAPE}")
        return cifar.open_cifar(batches, split)
    if split != "test":
        raise InputError(f"{source}: split {split} must be of a folder with CIFAR-10's files, this is none")
    if source == "samples":
        return open_samples(shape)
    if path.is_dir():
        files = pictures.find_pictures(path)
        if not files:
            raise InputError(f"{path}: must hold CIFAR-10's files or image files, it does not")
        return pictures.open_pictures(path, files, shape)
    if path.suffix not in (".npy", ".npz"):
        raise InputError(f"images must be samples, a folder, an .npy or an .npz, not {source}")
    if not path.is_file():
        raise InputError(f"{path}: must be a file of images, there is none")
    return open_npy(path, shape) if path.suffix == ".npy" else open_npz(path, shape)
