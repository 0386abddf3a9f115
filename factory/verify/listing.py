"""An export's folder against its manifest: the files there are, their digests, names and counts."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from functools import cached_property
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Integer

from factory.manifest import MANIFEST, SCHEMA, Manifest
from factory.spec import ComparisonError, Progress
from factory.verify.dataflows import ROLE_RULES, RoleRule
from factory.verify.decode import LayoutRecord, decode
from factory.verify.named import BIT, needed_axes
from factory.verify.rule import ADDRESSES, RADIX, TWOS_COMPLEMENT, WordRule

MOST_LANE_BITS = 32


@dataclass(frozen=True)
class ListedFiles:
    """All files of one layout, of one layer or (`image` not None) one of its images; `record` is the manifest's.

    `source_index` is the image's and `vector` what it is made for with the layer, as the manifest's group says.
    With `renumber`, names hold places among what is kept: `place` is the image's, among those of the layer.
    """

    layer: str
    image: int | None
    layout: LayoutRecord
    record: Mapping[str, Any]
    source_index: int | None
    vector: Mapping[str, Any] | None = None
    renumber: bool = False
    place: int = 0

    @property
    def role(self) -> str:
        """What the files hold."""
        return self.record["role"]

    @property
    def rule(self) -> RoleRule:
        """What verification knows of the role."""
        return ROLE_RULES[self.role]

    @property
    def address(self) -> str:
        """What errors and notes call the set."""
        where = self.layer if self.image is None else f"{self.layer}, image {self.image}"
        return f"{where}, {self.layout['name']}"

    @cached_property
    def word_rule(self) -> WordRule:
        """How each file holds its words."""
        record, layout = self.record, self.layout
        return WordRule(
            format=layout["format"],
            header=layout["header"],
            words=record["words"],
            lanes=record["lanes"],
            lane_bits=record["lane_bits"],
            word_bits=record["word_bits"],
            signed=record["signed"],
            lane0_left=layout["lane0_left"],
            base=0 if self.rule.addresses else layout["base"],
            code=TWOS_COMPLEMENT if self.has_bits else self.code,
            bus_bits=layout.get("bus_bits", 0),
            beats=record.get("beats", 1),
            highest_beat_first=layout.get("highest_beat_first", False),
            lines=record["lines"],
            separator=layout.get("separator", ""),
            radix_prefix=layout.get("radix_prefix", ""),
            head=tuple(layout.get("head", ())),
            foot=tuple(layout.get("foot", ())),
            endian=layout.get("endian", "little"),
            align_bytes=layout.get("align_bytes", 1),
            dimensions=self._dimensions(),
            depth=layout["depth"],
            **self._blocks(),
        )

    def _dimensions(self) -> tuple[int, ...]:
        counted = [str(axes).split() for axes in self.layout.get("shape", ())]
        counted = counted or [[axis.removeprefix("-")] for axis in (*self.layout["lines"], *self.layout["lanes"])]
        return tuple(prod(self._size(axis) for axis in axes) for axes in counted)

    def _size(self, axis: str) -> int:
        if axis not in self.record["axes"]:
            raise ComparisonError(f"{MANIFEST}: {self.address}: axes must have {axis}")
        return self.record["axes"][axis]

    def _blocks(self) -> dict[str, int]:
        """Return what a rule says of blocks."""
        layout, words = self.layout, self.record["words"]
        counted = [axis for axis in layout["lines"] if axis.removeprefix("-") in layout.get("blocks", ())]
        each = prod(self._size(axis.removeprefix("-")) for axis in counted)
        size = words // each if "blocks" in layout else layout.get("block_lines", 0)
        if not size:
            return {}
        stride = layout.get("block_stride", size)
        each = each if "blocks" in layout else -(-words // size)
        blocks = each * prod(self._size(axis) for axis in self.file_axes if axis in layout.get("blocks", ()))
        extent = (blocks - 1) * stride + words - (each - 1) * size
        return dict(block_words=size, block_stride=stride, extent=extent)

    def rule_of(self, entry: Mapping[str, Any], labels: Mapping[str, Sequence[int]]) -> WordRule:
        """Return how one file holds its words: what depends on its name, and on its place among the files.

        `labels` are what the places on axes stand for, where that is not the places themselves.
        """
        rule = self.word_rule
        if rule.is_plain or not RADIX[rule.format]:
            return rule
        number, counted = 0, self.layout.get("blocks", ())
        for axis, signed in zip(self.file_axes, self.layout["files"], strict=True):
            if axis in counted:
                place, count = list(labels.get(axis, range(self._size(axis)))).index(entry[axis]), self._size(axis)
                number = number * count + (count - 1 - place if signed.startswith("-") else place)
        blocks = rule.words // rule.block_words if rule.block_words else 0
        return replace(rule, file=entry["name"], first_block=number * blocks)

    @property
    def sequence(self) -> tuple[str, ...]:
        """The axes whose passes follow each other in one stream that crosses an edge of the array."""
        return tuple(self.layout.get("edge", {}).get("sequence", ()))

    @property
    def states(self) -> bool:
        """Whether the values are addresses."""
        return self.rule.addresses or self.layout.get("edge", {}).get("content") == ADDRESSES

    @property
    def code(self) -> str:
        """How the bits of a value stand for it."""
        return self.layout.get("code", TWOS_COMPLEMENT)

    @property
    def has_bits(self) -> bool:
        """Whether the bits of values have an axis."""
        return BIT in needed_axes(self.layout)

    @property
    def value_bits(self) -> int:
        """The bits of a value."""
        return min((self.layout if self.has_bits else self.record)["lane_bits"], MOST_LANE_BITS)

    @property
    def pixel_words(self) -> int:
        """The words of each pixel that addresses count; raise ComparisonError where the files do not hold so many."""
        words, record = self.layout.get("pixel_words", 1), self.record
        held = len(record["files"]) * record["words"] * record["lanes"]
        if words > held:
            raise ComparisonError(f"{MANIFEST}: {self.address}: pixel_words must be up to {held}, not {words}")
        return words

    @property
    def file_axes(self) -> tuple[str, ...]:
        """The axes that select a file."""
        return tuple(axis.removeprefix("-") for axis in self.layout["files"])

    def path(self, entry: Mapping[str, Any]) -> str:
        """Return a file's path below the export's folder."""
        directory = self.record["directory"]
        return f"{directory}/{entry['name']}" if directory else entry["name"]


def listed_files(manifest: Manifest) -> Iterator[ListedFiles]:
    """Read a manifest's sets of files, in its order, of which only one group's are in memory.

    Raise ComparisonError for a layer or layout it does not have, and unless the groups of a layer follow each other,
    its own and then those of its images, ascending.
    """
    layers, layouts = manifest.facts["layers"], manifest.facts["layouts"]
    done, last, place = set(), ("", -1), -1
    renumber = manifest.facts.get("renumber", False)
    for group in manifest.groups():
        layer, image = group["layer"], -1 if group["image"] is None else group["image"]
        if layer in done or (layer == last[0] and image <= last[1]):
            raise ComparisonError(f"{MANIFEST}: the groups of {layer} must follow each other, its images ascending")
        place = -1 if image < 0 else place + 1 if layer == last[0] else 0
        done, last = done | {last[0]} - {layer}, (layer, image)
        for record in group["sets"]:
            name = record["layout"]
            if record["inexact_operands"] is None and manifest.facts["schema"] == SCHEMA:
                raise ComparisonError(f"{MANIFEST}: {layer}: {name}: inexact_operands must be a number, not null")
            for kind, key, table in (("layers", layer, layers), ("layouts", name, layouts)):
                if key not in table:
                    raise ComparisonError(f"{MANIFEST}: {kind} must have {key}, which the groups name")
            layout = layouts[name]
            if (layout["name"], layout["role"]) != (name, record["role"]):
                found = f"{layout['name']} of role {layout['role']}"
                raise ComparisonError(f"{MANIFEST}: layouts: {name} must be of role {record['role']}, not {found}")
            per_image = ROLE_RULES[record["role"]].per_image
            if per_image != (group["image"] is not None):
                owner = "an image, not of the layer itself" if per_image else "the layer itself, not of an image"
                raise ComparisonError(f"{MANIFEST}: {layer}: {name} must be of {owner}")
            yield ListedFiles(
                layer, group["image"], layout, record, group.get("source_index"), group.get("vector"), renumber, place
            )


@dataclass(frozen=True)
class Listing:
    """What a manifest's groups list in all. `paths` are those of all files, `images` are pairs with their source index.

    `pack_id` is the sha256 of the lines `sha256  path` of the groups' files.
    """

    paths: Set[str]
    files: int
    words: int
    inexact: int
    images: Set[tuple[int, int | None]]
    pack_id: str


def list_files(manifest: Manifest) -> Listing:
    """Return what a manifest lists; raise ComparisonError where it lists a file twice or its groups are damaged."""
    paths, images, digest = set(), set(), hashlib.sha256()
    counts = dict(files=0, words=0, inexact=0)
    for files in listed_files(manifest):
        entries = files.record["files"]
        for entry in entries:
            path = files.path(entry)
            _add(paths, path)
            digest.update(f"{entry['sha256']}  {path}\n".encode())
        counts["files"] += len(entries)
        counts["words"] += len(entries) * files.record["words"]
        counts["inexact"] += files.record["inexact"] + (files.record["inexact_operands"] or 0)
        if files.image is not None:
            images.add((files.image, files.source_index))
    for entry in manifest.facts["testbench"]:
        _add(paths, entry["path"])
    return Listing(paths, **counts, images=images, pack_id=digest.hexdigest())


def _add(paths: set[str], path: str) -> None:
    if path in paths:
        raise ComparisonError(f"{MANIFEST}: must list {path} once")
    paths.add(path)


def check_listing(root: Path, listing: Listing, facts: Mapping[str, Any]) -> None:
    """Raise ComparisonError unless the folder holds the listed files and no other, and the facts are the listing's."""
    found, extra = 0, []
    for path in _walk(root):
        if path in listing.paths:
            found += 1
        else:
            extra.append(path)
    if found < len(listing.paths):
        raise ComparisonError(f"{min(listing.paths.difference(_walk(root)))}: must be there, it is missing")
    if extra:
        name = min(extra)
        name = name if name.isprintable() else ascii(name)
        raise ComparisonError(f"{name}: must not be there, {MANIFEST} does not list it")
    if facts["pack_id"] != listing.pack_id:
        raise ComparisonError(f"{MANIFEST}: pack_id must be {listing.pack_id}, not {facts['pack_id']}")


def _walk(root: Path) -> Iterator[str]:
    """Yield the paths of all files below the folder but the manifest."""
    for folder, _, names in os.walk(root):
        below = Path(folder).relative_to(root)
        if below == Path():
            yield from (name for name in names if name != MANIFEST)
        else:
            yield from (f"{below.as_posix()}/{name}" for name in names)


def read_file(root: Path, path: str, sha256: str) -> bytes:
    """Return a file's bytes; raise ComparisonError unless they have the sha256."""
    if not (root / path).is_file():
        raise ComparisonError(f"{path}: must be a regular file")
    data = (root / path).read_bytes()
    found = hashlib.sha256(data).hexdigest()
    if found != sha256:
        raise ComparisonError(f"{path}: sha256 must be {sha256}, not {found}")
    return data


class FileReader:
    """Reads and decodes an export's files, each once, and counts them."""

    def __init__(self, root: Path, total: int, progress: Progress | None):
        self._root, self._total, self._progress = root, total, progress
        self.done, self.bytes = 0, 0

    def codes(
        self, files: ListedFiles, entry: Mapping[str, Any], labels: Mapping[str, Sequence[int]]
    ) -> Integer[np.ndarray, "word lane"]:
        """Return a file's codes; `labels` are what the places on axes stand for."""
        path = files.path(entry)
        data = read_file(self._root, path, entry["sha256"])
        self.done, self.bytes = self.done + 1, self.bytes + len(data)
        if self._progress:
            self._progress(self.done, self._total, path)
        try:
            return decode(data, files.rule_of(entry, labels))
        except ComparisonError as error:
            raise ComparisonError(f"{path}: {error}") from None
