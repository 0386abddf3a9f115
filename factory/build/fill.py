"""The way from images to a store: one batch is computed while the one before it is written.

A module of its own, because only it loads JAX.
"""

from __future__ import annotations

import collections
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np

from factory.engine import (
    EngineLayer,
    EngineNetwork,
    LayerValues,
    activation_tiles,
    convolve,
    forward,
    layer_psums,
    shard_images,
)
from factory.images import ImageSource
from factory.spec import ConvLayer, Progress
from factory.store import StorePlan, StoreWriter, layer_path

_WRITES_AHEAD = 2
"""Sets of arrays, one layer's each, that may wait for the disk: what bounds the memory."""

_BATCH_BYTES, _MAX_BATCH = 2**27, 64


def batch_size(plan: StorePlan) -> int:
    """Return how many images are computed at once: as many as give 128 MiB of results, at most 64."""
    return int(np.clip(_BATCH_BYTES // plan.image_bytes, 1, min(_MAX_BATCH, plan.image_count)))


@dataclass(frozen=True)
class _Part:
    """What is written at once: a layer's arrays of a batch, or the images', by path.

    `psum` is the array of psums among them, whose memory is the next batch's once it is written.
    """

    name: str
    arrays: Mapping[str, jax.Array | np.ndarray]
    psum: jax.Array | None = None


@runtime_checkable
class Batches(Protocol):
    """What a store is filled from, some images at a time."""

    @property
    def count(self) -> int:
        """Number of images."""

    def batch(self, first: int, stop: int, size: int) -> tuple[Mapping[str, np.ndarray], Iterator[LayerValues]]:
        """Return the variables of the images `first .. stop - 1`, and what the layers take and give, of `size` images.

        Where they are fewer than `size`, the last of them fill up the batch, so that nothing is compiled for its size.
        """


@dataclass(frozen=True)
class PictureBatches:
    """Pictures that go through a network, of which `layers` are kept."""

    engine: EngineNetwork
    layers: Sequence[ConvLayer]
    source: ImageSource

    @property
    def count(self) -> int:
        """Number of images."""
        return self.source.count

    def batch(self, first: int, stop: int, size: int) -> tuple[Mapping[str, np.ndarray], Iterator[LayerValues]]:
        """Return the images, and each layer's values, whose computation has only been started."""
        images = self.source.batch(first, stop)
        variables = dict(pixels=images.pixels, label=images.label, source_index=images.source_index)
        return variables, forward(self.engine, shard_images(filled_up(images.pixels, size)), self.layers)


@dataclass(frozen=True)
class CodeBatches:
    """Layers whose codes are there: each with its activation codes `(image, ic, y, x)`."""

    layers: Sequence[tuple[EngineLayer, np.ndarray]]

    @property
    def count(self) -> int:
        """Number of images."""
        return len(self.layers[0][1])

    def batch(self, first: int, stop: int, size: int) -> tuple[Mapping[str, np.ndarray], Iterator[LayerValues]]:
        """Return the images' places, and each layer's values, whose computation has only been started."""
        variables = dict(label=np.full(stop - first, -1, np.int16), source_index=np.arange(first, stop))
        codes = ((layer, jnp.asarray(filled_up(given[first:stop], size))) for layer, given in self.layers)
        return variables, (LayerValues(layer, batch, convolve(layer, batch)) for layer, batch in codes)


def filled_up(values: np.ndarray, size: int) -> np.ndarray:
    """Return `size` images, the last one repeated as often as that takes."""
    missing = size - len(values)
    return np.concatenate([values, values[-1:].repeat(missing, axis=0)]) if missing else values


def fill_store(
    writer: StoreWriter, plan: StorePlan, batches: Batches, batch: int | None, progress: Progress | None
) -> None:
    """Write everything of the images that `writer` does not have yet, `batch` images at a time.

    By default they are as many as fit. Psums that are written lend their memory to those of the next batch.
    """
    size = min(batch or batch_size(plan), batches.count)
    done = writer.done * plan.image_bytes
    spare: dict[str, jax.Array] = {}
    with ThreadPoolExecutor(1) as pool:
        waiting: collections.deque[tuple[Future[int], _Part]] = collections.deque()

        def finish_oldest() -> None:
            nonlocal done
            future, part = waiting.popleft()
            done += future.result()
            if part.psum is not None:
                spare[part.name] = part.psum
            if progress:
                progress(done, plan.image_bytes * plan.image_count, part.name)

        before: list[Future[int]] = []
        for first in range(writer.done, batches.count, size):
            stop = min(first + size, batches.count)
            for part in _parts(plan, *batches.batch(first, stop, size), spare):
                before.append(pool.submit(_write, writer, first, stop - first, part))
                waiting.append((before[-1], part))
                while len(waiting) > _WRITES_AHEAD:
                    finish_oldest()
            before = [pool.submit(_commit, writer, stop, before)]
            waiting.append((before[-1], _Part(f"{stop} images", {})))
        while waiting:
            finish_oldest()


def _parts(
    plan: StorePlan, images: Mapping[str, np.ndarray], layers: Iterator[LayerValues], spare: dict[str, jax.Array]
) -> Iterator[_Part]:
    """Yield the images, then each layer's arrays. Psums take the memory of those in `spare`, which leave it."""
    kept = {variable.path for variable in plan.streamed}
    yield _Part("images", {f"images/{name}": array for name, array in images.items()})
    for values in layers:
        name, path = values.layer.spec.name, layer_path(values.layer.spec.name)
        arrays, psum = {f"{path}/activation": values.activation}, None
        if f"{path}/psum" in kept:
            psum = layer_psums(values.layer, values.activation, spare.pop(name, None))
            tiles = activation_tiles(values.layer, values.activation)
            more = dict(activation_tile=tiles, psum=psum, conv=values.accumulator)
            arrays |= {f"{path}/{variable}": array for variable, array in more.items()}
        yield _Part(name, arrays, psum)


def _write(writer: StoreWriter, first: int, count: int, part: _Part) -> int:
    """Wait for the arrays and write their first `count` images; return the bytes written."""
    arrays = {path: np.asarray(array)[:count] for path, array in part.arrays.items()}
    for path, array in arrays.items():
        writer.write(path, first, array)
    return sum(array.nbytes for array in arrays.values())


def _commit(writer: StoreWriter, done: int, before: Sequence[Future[int]]) -> int:
    """Commit where all that was to be done `before` has been done; raise its error where it has failed."""
    for future in before:
        future.result()
    writer.commit(done)
    return 0
