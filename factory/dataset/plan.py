"""The plan of a dataset: all that decides its bytes, as records with a JSON form; nothing here reads an image."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import re
from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from factory.fileplan import ExportOptions
from factory.spec import InputError, SystolicArray, check_range, parse_ranges, typed_values

SCHEMA = "factory-dataset/1"
MOST_SHARD_IMAGES = 1 << 20
FULL, COVERAGE, SMOKE = "full", "coverage", "smoke"
"""Splits that have a name by their nature: every image, the fewest tiles that hit all, what is taken by default."""
_PLACES = ("weights", "source")
"""Fields that say where something lies on this machine, which decides no bit."""
_SPLIT_NAME = re.compile(r"[a-z0-9][a-z0-9_.\-]{0,63}", re.ASCII)


@dataclass(frozen=True)
class Split:
    """Some of a dataset's images under a name.

    `images` are their global indices as ranges (`all`, `0:8,20`), `layers` and `tiles` what an export or a simulation
    takes of them, as `factory export` has it.
    """

    name: str
    images: str = "all"
    layers: str = "all"
    tiles: str = "all"

    def places(self, image_count: int) -> list[int]:
        """Return the global indices of the split's images; raise InputError where one is out of range."""
        return parse_ranges(self.images, image_count, f"split {self.name}")

    def of(self, options: ExportOptions) -> ExportOptions:
        """Return the options of an export of the split, but for the layers, images and tiles that they name already."""
        return dataclasses.replace(
            options,
            layers=self.layers if options.layers is None else options.layers,
            images=self.images if options.images is None else options.images,
            tiles=self.tiles if options.tiles == ExportOptions.tiles else options.tiles,
        )


@dataclass(frozen=True)
class Part:
    """Images of one source that were planned together, in a row from the dataset's image `first` on.

    `source` is where they are: what `factory build --images` takes, of which `split` and `pick` choose, or the path of
    a store; relative to the dataset's folder where it lies in there. `name` is the source's own, `version` that of
    factory, which alone may build them. `sha256` (hex) is of the images of each shard.
    """

    name: str
    split: str
    pick: str
    first: int
    count: int
    version: str
    sha256: tuple[str, ...]
    source: str = ""


@dataclass(frozen=True)
class Shard:
    """A run of a part's images: `count` from the dataset's image `first` on, which is place `start` of part `part`."""

    number: int
    first: int
    count: int
    part: int
    start: int
    images_sha256: str

    @property
    def name(self) -> str:
        """Name of the shard's files, without what says their kind."""
        return f"{self.number:05d}"


@dataclass(frozen=True)
class Plan:
    """All that decides a dataset. Shards have `shard_images` images each, but for the last one of a part.

    `origin` is one of the kinds of stores; with `pictures` the images go through the network of `weights`, a file or
    the name of shipped ones, else they are those of stores. `layers` are names, `compression` is `none` or as `build`
    takes it.
    """

    network: str
    origin: str
    pictures: bool
    weights_sha256: str
    layers: tuple[str, ...]
    shard_images: int
    compression: str
    array: SystolicArray
    parts: tuple[Part, ...]
    splits: tuple[Split, ...] = ()
    weights: str = ""

    def __post_init__(self):
        check_range("shard_images", self.shard_images, 1, MOST_SHARD_IMAGES)
        first = 0
        for part in self.parts:
            shards = -(-part.count // self.shard_images)
            if part.first != first or part.count < 1 or len(part.sha256) != shards:
                found = f"{part.count} images from {part.first} on with {len(part.sha256)} digests"
                raise InputError(
                    f"part {part.name}: it must have images from {first} on, a digest a shard, not {found}"
                )
            first += part.count
        names = [split.name for split in self.splits]
        for place, name in enumerate(names):
            if not _SPLIT_NAME.fullmatch(name) or name in names[:place]:
                raise InputError(f"a split must have a name of its own of a-z, 0-9, _, . and -, not {name!r}")

    @property
    def packed(self) -> str | None:
        """The compression, as `build` takes it."""
        return None if self.compression == "none" else self.compression

    @property
    def image_count(self) -> int:
        """Number of images."""
        return sum(part.count for part in self.parts)

    @functools.cached_property
    def shards(self) -> tuple[Shard, ...]:
        """All shards, in the order of their images; they depend on the plan alone."""
        found: list[Shard] = []
        for number, part in enumerate(self.parts):
            for place, start in enumerate(range(0, part.count, self.shard_images)):
                count = min(self.shard_images, part.count - start)
                found.append(Shard(len(found), part.first + start, count, number, start, part.sha256[place]))
        return tuple(found)

    @functools.cached_property
    def _firsts(self) -> list[int]:
        return [shard.first for shard in self.shards]

    def shard(self, number: int) -> Shard:
        """Return a shard by its number; raise InputError where there is none."""
        if not 0 <= number < len(self.shards):
            raise InputError(f"shard must be 0 to {len(self.shards) - 1}, not {number}")
        return self.shards[number]

    def place(self, image: int) -> tuple[int, int]:
        """Return which shard has the global `image`, and its place there; raise InputError where none has."""
        if not 0 <= image < self.image_count:
            raise InputError(f"image must be 0 to {self.image_count - 1}, not {image}")
        number = bisect_right(self._firsts, image) - 1
        return number, image - self._firsts[number]

    def split(self, name: str) -> Split:
        """Return the split called `name`, `full` being every image; raise InputError that lists those there are."""
        named = {split.name: split for split in (Split(FULL), *self.splits)}
        if name not in named:
            raise InputError(
                f"split must be one of {' '.join(dict.fromkeys((*named, COVERAGE)))}, not {name or 'empty'}"
            )
        return named[name]

    def digest(self, shard: Shard) -> str:
        """Return the sha256 (hex) of all that decides a shard's bytes: two of equal digests are the same file."""
        part = self.parts[shard.part]
        shared = [SCHEMA, part.version, part.name, self.network, self.origin, self.weights_sha256, self.layers]
        own = [self.compression, dataclasses.astuple(self.array), shard.first, shard.count, shard.images_sha256]
        return hashlib.sha256(json.dumps([*shared, *own]).encode()).hexdigest()

    def to_dict(self, with_places: bool) -> dict[str, Any]:
        """Return the plan as plain JSON types; without the places it is the same on every machine."""
        data = json.loads(json.dumps(dataclasses.asdict(self)))
        if not with_places:
            for record in (data, *data["parts"]):
                for name in _PLACES:
                    record.pop(name, None)
        return data

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Plan:
        """Return the plan that `to_dict` wrote, with its places or without; raise InputError for anything else."""
        nested = dict(array=data.get("array"), parts=data.get("parts"), splits=data.get("splits", []))
        if not isinstance(nested["array"], dict) or not all(isinstance(nested[x], list) for x in ("parts", "splits")):
            raise InputError("array must be a table, parts and splits lists")
        flat = {name: value for name, value in data.items() if name not in nested}
        records = dict(
            array=_record(SystolicArray, nested["array"]),
            parts=tuple(_record(Part, part) for part in nested["parts"]),
            splits=tuple(_record(Split, split) for split in nested["splits"]),
        )
        return _record(cls, flat, **records)


def _record(kind: Any, data: Mapping[str, Any], **given: Any) -> Any:
    """Return a record of a kind from a table of its fields, but for those that are `given`."""
    if not isinstance(data, dict):
        raise InputError(f"{kind.__name__} must be a table, not {data!r}")
    fields = [item for item in dataclasses.fields(kind) if item.name not in given]
    kinds = {item.name: item.type for item in fields}
    required = [item.name for item in fields if item.default is dataclasses.MISSING]
    return kind(**typed_values(data, kinds, required), **given)
