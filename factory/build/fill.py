"""The way from images to a store: one batch is computed while the one before it is written.

A module of its own, because only it loads JAX.
"""

from __future__ import annotations

import collections
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import jax
import numpy as np

from factory.engine import EngineNetwork, activation_tiles, forward, layer_psums, shard_images
from factory.images import ImageBatch, ImageSource
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


def fill_store(
    writer: StoreWriter,
    plan: StorePlan,
    engine: EngineNetwork,
    layers: Sequence[ConvLayer],
    source: ImageSource,
    batch: int,
    progress: Progress | None,
) -> None:
    """Write everything of the images that `writer` does not have yet, `batch` images at a time.

    Psums that are written lend their memory to those of the next batch.
    """
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
        for first in range(writer.done, source.count, batch):
            images = source.batch(first, min(first + batch, source.count))
            count = len(images.pixels)
            for part in _batch_parts(engine, layers, images, batch, spare):
                before.append(pool.submit(_write, writer, first, count, part))
                waiting.append((before[-1], part))
                while len(waiting) > _WRITES_AHEAD:
                    finish_oldest()
            before = [pool.submit(_commit, writer, first + count, before)]
            waiting.append((before[-1], _Part(f"{first + count} images", {})))
        while waiting:
            finish_oldest()


def _batch_parts(
    engine: EngineNetwork,
    layers: Sequence[ConvLayer],
    images: ImageBatch,
    batch: int,
    spare: dict[str, jax.Array],
) -> Iterator[_Part]:
    """Yield the images, then each layer's arrays, whose computation has only been started.

    A batch that is not full is filled up with its last image, so that nothing is compiled for its size. Psums take the
    memory of those in `spare`, which leave it.
    """
    arrays = dict(pixels=images.pixels, label=images.label, source_index=images.source_index)
    yield _Part("images", {f"images/{name}": array for name, array in arrays.items()})
    missing = batch - len(images.pixels)
    pixels = np.concatenate([images.pixels, images.pixels[-1:].repeat(missing, axis=0)]) if missing else images.pixels
    for values in forward(engine, shard_images(pixels), layers):
        name = values.layer.spec.name
        psum = layer_psums(values.layer, values.activation, spare.pop(name, None))
        tiles = activation_tiles(values.layer, values.activation)
        arrays = dict(activation=values.activation, activation_tile=tiles, psum=psum, conv=values.accumulator)
        yield _Part(name, {f"{layer_path(name)}/{variable}": array for variable, array in arrays.items()}, psum)


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
