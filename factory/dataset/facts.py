"""Facts of each tile of a layer on each image: extremes, sparsity, additions that overflow, as columns of a table.

A tile is all of the array's work for one `it` and `ot`. The order is the weight-stationary array's: a column adds its
rows' products one by one, and what leaves it, a psum, is added to the running sum of its output, `kij` by `kij` and
`it` by `it`. All sums are exact, as if no adder overflowed.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from jaxtyping import Bool, Float64, Int32, Int64, Integer, Shaped

from factory.arithmetic.adders import exact_product, reach
from factory.arithmetic.tiling import nij_of_onij, split_channels, tile_activation
from factory.audit import running_extremes
from factory.spec import ConvLayer, InputError, Range, SystolicArray, write_whole
from factory.store import StoredLayer
from factory.store.hdf5 import UNREADABLE, open_finished

_BLOCK = 1 << 17
"""Sums that are held at a time, about: their arrays stay in a core's cache."""
SCHEMA = "factory-facts/1"
LEAST_WIDTH = 8
"""The narrowest adder of which overflows are counted."""
_LEAST_LIMIT = 1 << (LEAST_WIDTH - 1)
_OVERFLOW = re.compile(r"overflow_([0-9]{1,2})")


@dataclass(frozen=True)
class TileFacts:
    """The facts of one layer, of the images with these global indices.

    Extremes are of the psums of a tile, of the running sums while it is passed, and of the finished accumulators of its
    `ot`, of real channels only. `zeros` is the share of a tile's activation codes that stand for 0, the border apart.
    `overflow[..., width - LEAST_WIDTH]` counts the psums in whose column some sum does not fit a signed adder of
    `width` bits, and the running sums that do not; a width that is not listed holds every sum.
    """

    image: Int64[np.ndarray, " image"]
    psum_low: Int32[np.ndarray, "image it ot"]
    psum_high: Int32[np.ndarray, "image it ot"]
    sum_low: Int32[np.ndarray, "image it ot"]
    sum_high: Int32[np.ndarray, "image it ot"]
    accumulator_low: Int32[np.ndarray, "image ot"]
    accumulator_high: Int32[np.ndarray, "image ot"]
    zeros: Float64[np.ndarray, "image it"]
    overflow: Int64[np.ndarray, "image it ot width"]

    def column(self, name: str) -> Shaped[np.ndarray, "image it ot"]:
        """Return a column for each image and tile; raise InputError for a name that is none."""
        check_column(name)
        shape = self.psum_low.shape
        if name not in COLUMNS:
            place = int(name.rpartition("_")[2]) - LEAST_WIDTH
            return self.overflow[..., place] if place < self.overflow.shape[-1] else np.zeros(shape, np.int64)
        values = np.arange(shape[_AXES.index(name)]) if name in _AXES[1:] else getattr(self, name)
        axes = _NARROW.get(name, _AXES)
        return np.broadcast_to(np.expand_dims(values, [at for at, axis in enumerate(_AXES) if axis not in axes]), shape)

    def rows(self, where: Bool[np.ndarray, "*any"]) -> np.ndarray:
        """Return the facts where a mask is true, as a structured array of one row a tile."""
        where = np.broadcast_to(where, self.psum_low.shape)
        widths = range(LEAST_WIDTH, LEAST_WIDTH + self.overflow.shape[-1])
        columns = {name: self.column(name)[where] for name in (*COLUMNS, *(f"overflow_{width}" for width in widths))}
        table = np.empty(int(np.count_nonzero(where)), [(name, column.dtype) for name, column in columns.items()])
        for name, column in columns.items():
            table[name] = column
        return table


_AXES = ("image", "it", "ot")
_NARROW = {"image": ("image",), "it": ("it",), "ot": ("ot",), "zeros": ("image", "it"),
              "accumulator_low": ("image", "ot"), "accumulator_high": ("image", "ot")}  # fmt: skip
COLUMNS = ("image", "it", "ot", *(field.name for field in fields(TileFacts) if field.name not in ("image", "overflow")))
"""The columns of a table of facts, but for `overflow_8`, `overflow_9` and on."""


def check_column(name: str) -> None:
    """Raise InputError for a name that no column has."""
    width = _OVERFLOW.fullmatch(name)
    if name not in COLUMNS and not (width and int(width[1]) >= LEAST_WIDTH):
        known = f"{' '.join(COLUMNS)} or overflow_{LEAST_WIDTH} and on"
        raise InputError(f"a column must be one of {known}, not {name}", options=("where",))


def tile_facts(layer: StoredLayer, images: Integer[np.ndarray, " image"] | None = None) -> TileFacts:
    """Return the facts of a stored layer; `images` are the global indices of its images (default: from 0)."""
    count, measure = layer.activation.shape[0], _Measure.of(layer)
    size = max(1, _BLOCK // (layer.spec.nij_count * layer.spec.out_channels))
    found = [measure.columns(layer.activation[first : first + size]) for first in range(0, count, size)]
    columns = {name: np.concatenate([each[name] for each in found]) for name in found[0]}
    return TileFacts(image=np.arange(count) if images is None else images.astype(np.int64), **columns)


def kept_facts(path: Path, layer: StoredLayer, images: Integer[np.ndarray, " image"], digest: str) -> TileFacts:
    """Return the facts that a file keeps of a stored layer, or compute them, and write the file where that is allowed.

    `digest` says what the store is of: a file of another one, or one that cannot be read, is computed anew.
    """
    try:
        with open_finished(path) as file:
            if [file.attrs["schema"], file.attrs["of"]] == [SCHEMA, digest]:
                return TileFacts(**{field.name: file[field.name][...] for field in fields(TileFacts)})
    except UNREADABLE:
        pass
    found = tile_facts(layer, images)
    with suppress(OSError, InputError):  # a dataset that only can be read is as good
        path.parent.mkdir(parents=True, exist_ok=True)
        contents = io.BytesIO()
        with h5py.File(contents, "w") as file:
            file.attrs.update(schema=SCHEMA, of=digest)
            for field in fields(TileFacts):
                file.create_dataset(field.name, data=getattr(found, field.name), compression="gzip", shuffle=True)
        write_whole(path, contents.getvalue())
    return found


def joined(parts: Iterable[TileFacts]) -> TileFacts:
    """Return the facts of one layer, of the images of several stores one after the other."""
    found = list(parts)
    return TileFacts(*(np.concatenate([getattr(part, field.name) for part in found]) for field in fields(TileFacts)))


@dataclass(frozen=True)
class _Measure:
    """What is the same for all images of a layer; `widths` are those of adders that can overflow.

    `dtype` holds every sum inside a column.
    """

    spec: ConvLayer
    array: SystolicArray
    weight: Integer[np.ndarray, "it kij row oc"]
    dtype: np.dtype
    widths: range

    @classmethod
    def of(cls, layer: StoredLayer) -> _Measure:
        """Return the measure of a stored layer."""
        spec, array, weight = layer.spec, layer.array, layer.weight[...]
        least, most = running_extremes(spec, array, weight, layer.activation_low, layer.activation_high)
        widths = range(LEAST_WIDTH, Range.of(least, most).bits)
        lanes = split_channels(weight.reshape(*weight.shape[:2], -1), 1, array.rows).transpose(1, 3, 2, 0)
        return cls(spec, array, np.ascontiguousarray(lanes), np.dtype(layer.psum.dtype), widths)

    def columns(self, codes: Integer[np.ndarray, "image ic y x"]) -> dict[str, np.ndarray]:
        """Return the columns of some images."""
        spec, count = self.spec, len(codes)
        tiles = tile_activation(codes, spec, self.array).swapaxes(0, 1)  # (it, image, nij, row)
        taps, its = nij_of_onij(spec), len(self.weight)
        running = np.zeros((count, spec.onij_count, spec.out_channels), np.int32)
        ends = np.empty((4, count, its, spec.out_channels), np.int32)
        over = np.zeros((count, its, spec.out_channels, len(self.widths)), np.int32)
        for it, (tile, weight) in enumerate(zip(tiles, self.weight, strict=True)):
            rows = tile.reshape(-1, self.array.rows)
            for kij, matrix in enumerate(weight):
                psum = exact_product(rows, matrix).astype(self.dtype).reshape(count, spec.nij_count, -1)
                running += psum[:, taps[:, kij]]
                least, most = reach(rows, matrix)
                wide = np.flatnonzero((least < -_LEAST_LIMIT) | (most >= _LEAST_LIMIT))
                if wide.size:  # of the other channels no sum inside a column leaves any width that is counted
                    peak = self._column_peaks(rows, matrix[:, wide]).reshape(count, spec.nij_count, -1)
                    over[:, it, wide] += self._over(peak)
                over[:, it] += self._over(_magnitude(running))
                for values, low, high in ((psum, *ends[:2, :, it]), (running, *ends[2:, :, it])):
                    least, most = values.min(axis=1), values.max(axis=1)
                    np.copyto(low, least if kij == 0 else np.minimum(low, least))
                    np.copyto(high, most if kij == 0 else np.maximum(high, most))
        finished = running.min(axis=1), running.max(axis=1)
        starts = range(0, spec.out_channels, self.array.cols)
        extremes = zip((np.minimum, np.maximum) * 3, (*ends, *finished), strict=True)
        names = ("psum_low", "psum_high", "sum_low", "sum_high", "accumulator_low", "accumulator_high")
        by_tile = {
            name: extreme.reduceat(end, starts, axis=-1) for name, (extreme, end) in zip(names, extremes, strict=True)
        }
        return by_tile | dict(zeros=self._zeros(codes), overflow=np.add.reduceat(over, starts, axis=2, dtype=np.int64))

    def _column_peaks(
        self, rows: Integer[np.ndarray, "pixel row"], matrix: Integer[np.ndarray, "row oc"]
    ) -> Integer[np.ndarray, "pixel oc"]:
        """Return the largest magnitude of the sums inside the column of each psum."""
        lanes, weight = np.ascontiguousarray(rows.T, self.dtype), matrix.astype(self.dtype)
        total = np.zeros((len(rows), matrix.shape[1]), self.dtype)
        peak, product = np.zeros_like(total), np.empty_like(total)
        for codes, weights in zip(lanes, weight, strict=True):
            total += np.multiply(codes[:, None], weights, out=product)
            np.maximum(peak, _magnitude(total, product), out=peak)
        return peak

    def _over(self, peak: Integer[np.ndarray, "image pixel oc"]) -> Int32[np.ndarray, "image oc width"]:
        """Return how many magnitudes do not fit each width."""
        counts = np.zeros((len(peak), peak.shape[2], len(self.widths)), np.int32)
        most = int(peak.max())
        for place, width in enumerate(self.widths):
            if most < 1 << (width - 1):
                break
            counts[..., place] = np.count_nonzero(peak >= 1 << (width - 1), axis=1)
        return counts

    def _zeros(self, codes: Integer[np.ndarray, "image ic y x"]) -> Float64[np.ndarray, "image it"]:
        zeros = np.count_nonzero(codes == self.spec.zero_point, axis=(2, 3))
        starts = np.arange(0, self.spec.in_channels, self.array.rows)
        channels = np.diff(starts, append=self.spec.in_channels)
        return np.add.reduceat(zeros, starts, axis=1) / (channels * self.spec.height * self.spec.width)


def _magnitude(values: Integer[np.ndarray, "*any"], out: Any = None) -> Integer[np.ndarray, "*any"]:
    """Return v for v >= 0 and -v - 1 else: what fits a signed width is below `1 << (width - 1)`, in one compare."""
    found = np.right_shift(values, 8 * values.itemsize - 1, out=out)
    return np.bitwise_xor(values, found, out=found)
