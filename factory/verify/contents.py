"""The values in an export's files: what each role must hold, and the first word that holds something else."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int64, Integer

from factory.manifest import MANIFEST
from factory.spec import ComparisonError, Progress
from factory.store import StoredLayer
from factory.verify.decode import decode
from factory.verify.hardware import Adders, read_field
from factory.verify.pack import FileSet, check_record, read_file
from factory.verify.part import Part
from factory.verify.places import layout_axes, places
from factory.verify.result import Tally
from factory.verify.vectors import Vectors

Values = Int64[np.ndarray, "*_"]

INPUTS = ("weight", "activation", "threshold", "direction", "address")
"""Roles whose values are given; those of all others follow from them."""


class FileReader:
    """Reads and decodes an export's files, each once, and counts them."""

    def __init__(self, root: Path, total: int, progress: Progress | None):
        self._root, self._total, self._progress = root, total, progress
        self.done, self.bytes = 0, 0

    def codes(self, files: FileSet, entry: Mapping[str, Any]) -> Integer[np.ndarray, "word lane"]:
        """Return a file's codes."""
        path = files.path(entry)
        data = read_file(self._root, path, entry["sha256"])
        self.done, self.bytes = self.done + 1, self.bytes + len(data)
        if self._progress:
            self._progress(self.done, self._total, path)
        try:
            return decode(data, files.form)
        except ComparisonError as error:
            raise ComparisonError(f"{path}: {error}") from None


@dataclass(frozen=True)
class Known:
    """A vector with its role's axes; `wrapped` of its values are not what they stand for (None: that is not known)."""

    values: Values
    wrapped: int | None = None


@dataclass(frozen=True)
class LayerCheck:
    """The check of one layer's files; `stored` is the store's layer, None where outputs follow from the files alone."""

    part: Part
    adders: Adders
    post: str
    flat: bool
    stored: StoredLayer | None
    reader: FileReader
    tally: Tally

    def check(self, sets: Iterable[FileSet]) -> None:
        """Check all files of the layer: its own come first, then those of each image."""
        own = self._own_inputs()
        for image, files in groupby(sets, key=lambda files: files.image):
            if image is None:
                own = self._check_inputs(files, own)
            else:
                group = list(files)
                known = self._check_inputs(group, own | self._image_inputs(image))
                self._check_results([files for files in group if files.role not in INPUTS], known)

    def _own_inputs(self) -> dict[str, Known]:
        """Return what geometry and the store give of the layer itself."""
        part, stored = self.part, self.stored
        known = {"address": Known(part.addresses(), 0)}
        if stored is not None:
            known["weight"] = _as_read(part.cut_weight(stored.weight[:]), *part.weight)
            if stored.threshold is not None:
                known["threshold"] = Known(part.by_channel(stored.threshold[:]).swapaxes(1, 2), 0)
                known["direction"] = Known(part.by_channel(stored.direction[:]), 0)
        return known

    def _image_inputs(self, image: int) -> dict[str, Known]:
        if self.stored is None:
            return {}
        codes = self.part.cut_activation(self.stored.activation[image])
        return {"activation": _as_read(codes, *self.part.activation)}

    def _check_inputs(self, sets: Iterable[FileSet], known: dict[str, Known]) -> dict[str, Known]:
        """Check the files of given values; return `known` with what only the files say."""
        for files in sets:
            if files.role in known:
                self._compare(files, known[files.role])
            elif files.role in INPUTS:
                known = known | {files.role: Known(self._collect(files))}
        return known

    def _check_results(self, sets: list[FileSet], known: Mapping[str, Known]) -> None:
        """Check the files of one image's values that follow from others."""
        vectors = self._vectors(known)
        for files in sets:
            if vectors is None or (files.role == "next" and vectors.quantizer is None):
                needed = "activation codes and weights" if vectors is None else "thresholds and directions"
                self.tally.skip(f"{files.address}: its {needed} are neither in the export nor in a store")
                self._collect(files)
                continue
            try:
                expected = Known(vectors.of(files.role), vectors.wrapped(files.role))
            except ComparisonError as error:
                raise ComparisonError(f"{files.address}: {error}") from None
            self._compare(files, expected)

    def _vectors(self, known: Mapping[str, Known]) -> Vectors | None:
        if "activation" not in known or "weight" not in known:
            return None
        quantizer = None
        if "threshold" in known and "direction" in known:
            threshold = self.part.to_channels(known["threshold"].values.swapaxes(1, 2))
            quantizer = threshold, self.part.to_channels(known["direction"].values)
        activation, weight = known["activation"].values, known["weight"].values
        return Vectors(self.part, self.adders, self.post, activation, weight, quantizer)

    def _compare(self, files: FileSet, known: Known) -> None:
        """Raise ComparisonError at the first word of a set's files that does not hold what it must."""
        axes, values = self._placed(files, known.values)
        place = self._check_record(files, axes, values.shape)
        if files.role == "address":
            values = values + files.layout["base"]
        held = read_field(values, files.record["lane_bits"], files.record["signed"])
        if known.wrapped is not None:
            wrapped = known.wrapped + int(np.count_nonzero(held != values))
            if files.record["wrapped"] != wrapped:
                raise ComparisonError(
                    f"{MANIFEST}: {files.address}: wrapped must be {wrapped}, not {files.record['wrapped']}"
                )
        for entry in files.record["files"]:
            codes, where = self._lines(files, entry, place)
            expected = held.ravel()[where]
            wrong = np.argwhere(codes != expected)
            if len(wrong):
                word, lane = (int(x) for x in wrong[0])
                at = self._label(axes, values.shape, int(where[word, lane]))
                raise ComparisonError(
                    f"{files.path(entry)}: word {word}, lane {lane} ({at}): must be {expected[word, lane]}, "
                    f"not {codes[word, lane]} ({len(wrong)} of {codes.size} values in this file differ)"
                )
            self.tally.counts[files.role] += codes.size

    def _collect(self, files: FileSet) -> Values:
        """Return what a set's files hold, with the axes of their role; it must be zero where nothing is."""
        mask = self.part.occupied(files.role, self.post, files.record["axes"].get("level", 1))
        axes, mask = self._placed(files, mask)
        values = np.zeros(mask.shape, np.int64)
        place = self._check_record(files, axes, mask.shape)
        for entry in files.record["files"]:
            codes, where = self._lines(files, entry, place)
            values.ravel()[where] = codes
            extra = np.argwhere((codes != 0) & (mask.ravel()[where] == 0))
            if len(extra):
                word, lane = (int(x) for x in extra[0])
                raise ComparisonError(
                    f"{files.path(entry)}: word {word}, lane {lane} "
                    f"({self._label(axes, mask.shape, int(where[word, lane]))}): must be 0, beyond the layer's "
                    f"channels and pixels, not {codes[word, lane]}"
                )
        return self.part.join_pixels(axes, values)

    def _placed(self, files: FileSet, values: Values) -> tuple[tuple[str, ...], Values]:
        """Return a role's vector as the layout takes it: `onij` as `pt` and `px` where it places those."""
        axes = self.part.axes(files.role)
        if "onij" not in axes or "pt" not in self.part.tiles or "pt" not in layout_axes(files.layout):
            return axes, values
        return self.part.split_pixels(axes, values, self.part.tile_pixels(files.role, self.post))

    def _check_record(self, files: FileSet, axes: tuple[str, ...], shape: tuple[int, ...]) -> Int64[np.ndarray, "*_"]:
        place, sizes = places(files.layout, axes, shape)
        check_record(files, self.part, self.flat, sizes, *place.shape[-2:])
        return place

    def _lines(
        self, files: FileSet, entry: Mapping[str, Any], place: Int64[np.ndarray, "*_"]
    ) -> tuple[Integer[np.ndarray, "line lane"], Int64[np.ndarray, "line lane"]]:
        """Return a file's codes without the padding after them, and the flat place of each in its vector."""
        codes, lines = self.reader.codes(files, entry), place.shape[-2]
        if codes[lines:].any():
            word = lines + int(codes[lines:].any(axis=1).argmax())
            raise ComparisonError(f"{files.path(entry)}: word {word}: must be zero, it is beyond the last line")
        labels = ((axis, entry[axis]) for axis in files.file_axes)
        at = tuple(self.part.tiles[axis].index(x) if axis in self.part.tiles else x for axis, x in labels)
        return codes[:lines], place[at]

    def _label(self, axes: tuple[str, ...], shape: tuple[int, ...], flat: int) -> str:
        """Return what a flat place of a vector stands for, such as `it 0, nij 6, row 3`."""
        index = (int(x) for x in np.unravel_index(flat, shape))
        tiles = self.part.tiles
        return ", ".join(
            f"{axis} {tiles[axis][x] if axis in tiles else x}" for axis, x in zip(axes, index, strict=True)
        )


def _as_read(codes: Values, bits: int, signed: bool) -> Known:
    read = read_field(codes, bits, signed)
    return Known(read, int(np.count_nonzero(read != codes)))
