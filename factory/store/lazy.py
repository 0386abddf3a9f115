"""Arrays that follow from a layer's codes, computed slice by slice: what a store of codes alone has of the rest.

They have the interface of a dataset: `shape`, `dtype`, `chunks`, slices as NumPy arrays. Small slices are computed with
NumPy, large ones with the engine, one image after the other into the slice's own memory; both give the same bits.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Integer

from factory.arithmetic.adders import exact_product
from factory.arithmetic.integer import exact_accumulators
from factory.arithmetic.tiling import tile_activation, tile_weight
from factory.spec import ConvLayer, IntegerLayer, Range, SystolicArray

if TYPE_CHECKING:
    from factory.engine import EngineLayer

ENGINE_BYTES, LOADED_BYTES = 2**24, 2**22
"""Bytes of a slice from which on the engine computes it: below, starting JAX would take longer; and where JAX is there
already, below which compiling the engine for a shape of its own would."""
CHUNK_BYTES = 2**27


@dataclass(frozen=True)
class LazyArray:
    """An array of which `compute` makes the part at some places of its first axes, `selected` of them.

    `compute(places, out)` gets ascending int64 places for each of the selected axes, and writes the whole of the other
    axes into `out`, of the array's dtype.
    """

    shape: tuple[int, ...]
    dtype: np.dtype
    selected: int
    compute: Callable[[tuple[np.ndarray, ...], np.ndarray], None]

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.shape)

    @property
    def size(self) -> int:
        """Number of values."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Bytes that all values would take."""
        return self.size * self.dtype.itemsize

    @property
    def chunks(self) -> tuple[int, ...]:
        """A good part to compute at once: whole images, as many as fit `CHUNK_BYTES`, at least one."""
        image = self.nbytes // max(1, self.shape[0])
        return (max(1, min(self.shape[0], CHUNK_BYTES // max(1, image))), *self.shape[1:])

    def __len__(self) -> int:
        return self.shape[0]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        if copy is False:
            raise ValueError("values that are computed must be copied")
        return self[...] if dtype is None else self[...].astype(dtype)

    def __getitem__(self, index: Any) -> np.ndarray | np.generic:
        """Return a slice as a NumPy array: integers, slices, `...`, and at most one list or mask of places."""
        each = self._each_axis(index)
        places, shape = [], []
        for item, size in zip(each[: self.selected], self.shape, strict=False):
            chosen, inverse = np.unique(np.atleast_1d(np.arange(size)[item]), return_inverse=True)
            places.append(chosen)
            shape.append((inverse, np.ndim(np.arange(size)[item])))
        block = np.empty((*map(len, places), *self.shape[self.selected :]), self.dtype)
        if block.size:
            self.compute(tuple(places), block)
        for axis, (inverse, _) in enumerate(shape):
            if not np.array_equal(inverse, np.arange(block.shape[axis])):
                block = block.take(inverse, axis=axis)
        last = [slice(None) if axes else 0 for _, axes in shape] + each[self.selected :]
        for axis in reversed(range(self.ndim)):  # one by one, so that a list stays where it is beside an integer
            block = block[(slice(None),) * axis + (last[axis],)]
        return block

    def _each_axis(self, index: Any) -> list[Any]:
        """Return an index as one item for each axis; raise IndexError for one that is not."""
        items = list(index) if isinstance(index, tuple) else [index]
        gaps = [place for place, item in enumerate(items) if item is Ellipsis]
        if not gaps:
            items.append(Ellipsis)
            gaps = [len(items) - 1]
        missing = self.ndim - (len(items) - 1)
        if len(gaps) > 1 or missing < 0 or any(item is None for item in items):
            raise IndexError(f"an index must have at most {self.ndim} items and one ..., not {index!r}")
        items[gaps[0] : gaps[0] + 1] = [slice(None)] * missing
        items = [item if isinstance(item, (slice, int, np.integer)) else np.asarray(item) for item in items]
        if sum(isinstance(item, np.ndarray) and item.ndim > 0 for item in items) > 1:
            raise IndexError("an index must have at most one list of places")
        return items


@dataclass(frozen=True)
class LayerCodes:
    """A layer's codes on an array, from which the rest follows, and the exact bounds of its sums.

    `weight` and `activation` are arrays or datasets, read when they are needed.
    """

    spec: ConvLayer
    array: SystolicArray
    weight: Integer[Any, "oc ic ki kj"]
    activation: Integer[Any, "image ic y x"]
    low: Integer[np.ndarray, " ic"]
    high: Integer[np.ndarray, " ic"]
    psum_bound: Range
    accumulator_bound: Range

    @cached_property
    def psum(self) -> LazyArray:
        """The psums `(image, it, ot, kij, nij, col)`, int16 where their exact bound fits, else int32."""
        spec, array = self.spec, self.array
        tiles = array.input_tiles(spec.in_channels), array.output_tiles(spec.out_channels), spec.kij_count
        shape = (self.activation.shape[0], *tiles, spec.nij_count, array.cols)
        return LazyArray(shape, self.psum_bound.dtype(), 4, self._compute_psums)

    @cached_property
    def accumulator(self) -> LazyArray:
        """The accumulators `(image, oc, oy, ox)`, int32."""
        shape = (self.activation.shape[0], self.spec.out_channels, self.spec.out_height, self.spec.out_width)
        return LazyArray(shape, np.dtype(np.int32), 2, self._compute_accumulators)

    @cached_property
    def activation_tile(self) -> LazyArray:
        """The activation codes in tiles `(image, it, nij, row)`."""
        tiles = self.array.input_tiles(self.spec.in_channels)
        shape = (self.activation.shape[0], tiles, self.spec.nij_count, self.array.rows)
        return LazyArray(shape, self.activation.dtype, 1, self._compute_tiles)

    @cached_property
    def _weight_tile(self) -> Integer[np.ndarray, "it ot kij col row"]:
        return tile_weight(self._codes, self.array)

    @cached_property
    def _codes(self) -> Integer[np.ndarray, "oc ic ki kj"]:
        return self.weight[...]

    @cached_property
    def _engine(self) -> EngineLayer:
        from factory.engine import prepare_layer

        sums = self.accumulator_bound
        return prepare_layer(IntegerLayer(self.spec, self._codes, self.low, self.high, sums, None, None), self.array)

    def _images(self, places: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
        for at, image in enumerate(places.tolist()):
            yield at, self.activation[image]

    def _compute_tiles(self, places: tuple[np.ndarray, ...], out: np.ndarray) -> None:
        for at, codes in self._images(places[0]):
            out[at] = tile_activation(codes, self.spec, self.array)

    def _compute_accumulators(self, places: tuple[np.ndarray, ...], out: np.ndarray) -> None:
        images, channels = places
        if _engine_pays(out) and len(channels) == self.spec.out_channels:
            from jax.numpy import asarray

            from factory.engine import convolve

            for at, codes in self._images(images):
                out[at] = np.asarray(convolve(self._engine, asarray(codes[None])))[0]
            return
        weight = self._codes[channels]
        for at, codes in self._images(images):
            out[at] = exact_accumulators(codes, weight, self.spec)

    def _compute_psums(self, places: tuple[np.ndarray, ...], out: np.ndarray) -> None:
        images, its, ots, kijs = places
        if _engine_pays(out):
            from factory.engine import selected_psums

            def codes(first: int, stop: int) -> np.ndarray:
                # one read for each run: of small maps a read an image took longer than all else
                own = images[first:stop]
                runs = np.split(own, np.flatnonzero(np.diff(own) > 1) + 1)
                return np.concatenate([self.activation[run[0] : run[-1] + 1] for run in runs])

            selected_psums(self._engine, codes, (its, ots, kijs), out)
            return
        weight = self._weight_tile[np.ix_(its, ots, kijs)]
        columns = weight.transpose(0, 4, 1, 2, 3).reshape(len(its), self.array.rows, -1)  # (it, row, ot_kij_col)
        for at, codes in self._images(images):
            tiles = tile_activation(codes, self.spec, self.array)[its]
            for it, (rows, matrix) in enumerate(zip(tiles, columns, strict=True)):
                sums = exact_product(rows, matrix).reshape(-1, len(ots), len(kijs), self.array.cols)
                out[at, it] = sums.transpose(1, 2, 0, 3)


def _engine_pays(out: np.ndarray) -> bool:
    return out.nbytes >= ENGINE_BYTES or "jax" in sys.modules and out.nbytes >= LOADED_BYTES
