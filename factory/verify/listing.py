"""An export's folder against its manifest: the files there are, their digests, names and counts."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping, Set
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import product
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Integer

from factory.manifest import MANIFEST, SCHEMA, Manifest
from factory.spec import ComparisonError, Progress
from factory.verify.dataflows import ROLE_RULES, RoleRule
from factory.verify.decode import RADIX, LayoutRecord, WordRule, check_name, decode
from factory.verify.selected import SelectedLayer

MOST_LANE_BITS = 32
STATES_ADDRESSES = ("bin", "hex", "mif", "mif-hex", "mif-dec", "mif-uns")
KEYS = {
    "separator": ("bin", "hex", "dec"),
    "radix_prefix": ("bin", "hex"),
    **dict.fromkeys(("head", "foot"), [name for name, radix in RADIX.items() if radix]),
    **dict.fromkeys(("blocks", "block_lines", "block_stride"), STATES_ADDRESSES),
    "shape": ("c", "sv", "sv-packed"),
    **dict.fromkeys(("endian", "align"), ["raw"]),
}
"""The formats that have each key which not every layout has."""


@dataclass(frozen=True)
class ListedFiles:
    """All files of one layout, of one layer or (`image` not None) one of its images; `record` is the manifest's.

    `source_index` is the image's, as the manifest's group says. With `renumber`, names hold places among what is kept:
    `place` is the image's, among those of the layer.
    """

    layer: str
    image: int | None
    layout: LayoutRecord
    record: Mapping[str, Any]
    source_index: int | None
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
            separator=layout.get("separator", ""),
            radix_prefix=layout.get("radix_prefix", ""),
            head=tuple(layout.get("head", ())),
            foot=tuple(layout.get("foot", ())),
            endian=layout.get("endian", "little"),
            align=layout.get("align", 1),
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
        lines = [axis.removeprefix("-") for axis in layout["lines"]]
        counted = [axis for axis in lines if axis in layout.get("blocks", ())]
        size = layout.get("block_lines", 0)
        if "blocks" in layout:
            size = prod(self._size(axis) for axis in lines if axis not in counted)
        if not size:
            return {}
        stride = layout.get("block_stride", size)
        each = prod(self._size(axis) for axis in counted) if "blocks" in layout else -(-words // size)
        blocks = each * prod(self._size(axis) for axis in self.file_axes if axis in layout.get("blocks", ()))
        extent = (blocks - 1) * stride + words - (each - 1) * size
        return dict(block_words=size, block_stride=stride, extent=extent)

    @cached_property
    def _places(self) -> dict[str, list[int]]:
        """What the places on each axis of files stand for, ascending."""
        return {axis: sorted({entry[axis] for entry in self.record["files"]}) for axis in self.file_axes}

    def rule_of(self, entry: Mapping[str, Any]) -> WordRule:
        """Return how one file holds its words: what depends on its name, and on its place among the files."""
        rule = self.word_rule
        if rule.is_plain or not RADIX[rule.format]:
            return rule
        number, counted = 0, self.layout.get("blocks", ())
        for axis, signed in zip(self.file_axes, self.layout["files"], strict=True):
            if axis in counted:
                labels = self._places[axis]
                place = labels.index(entry[axis])
                number = number * len(labels) + (len(labels) - 1 - place if signed.startswith("-") else place)
        blocks = rule.words // rule.block_words if rule.block_words else 0
        return replace(rule, file=entry["name"], first_block=number * blocks)

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
            yield ListedFiles(layer, group["image"], layout, record, group.get("source_index"), renumber, place)


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

    def codes(self, files: ListedFiles, entry: Mapping[str, Any]) -> Integer[np.ndarray, "word lane"]:
        """Return a file's codes."""
        path = files.path(entry)
        data = read_file(self._root, path, entry["sha256"])
        self.done, self.bytes = self.done + 1, self.bytes + len(data)
        if self._progress:
            self._progress(self.done, self._total, path)
        try:
            return decode(data, files.rule_of(entry))
        except ComparisonError as error:
            raise ComparisonError(f"{path}: {error}") from None


def check_record(
    files: ListedFiles, selected: SelectedLayer, flat: bool, sizes: Mapping[str, int], lines: int, lanes: int
) -> None:
    """Raise ComparisonError unless a set's record says what its layout and its vector's shape give.

    `sizes` are those of the layout's axes, `lines` and `lanes` those of each file.
    """
    record, layout = files.record, files.layout
    shared, image = files.image is None or "{image}" in layout["file"], files.place if files.renumber else files.image
    directory = "" if flat else files.layer if shared else f"{files.layer}/image{image}"
    expected = {
        "directory": directory,
        "radix": RADIX[layout["format"]],
        "axes": dict(sizes),
        "lines": lines,
        "words": max(lines, layout["words"]),
        "lanes": lanes,
        "word_bits": max(layout["word_bits"], lanes * record["lane_bits"]),
        "signed": layout["signed"],
        "source": _source(files),
    }
    if not files.rule.addresses:  # whose lanes are as wide as the addresses need
        expected["lane_bits"] = layout["lane_bits"]
    for name, value in expected.items():
        if record[name] != value:
            raise ComparisonError(f"{MANIFEST}: {files.address}: {name} must be {value}, not {record[name]}")
    _check_keys(files)
    if record["lane_bits"] > MOST_LANE_BITS:
        raise ComparisonError(f"{MANIFEST}: {files.address}: lane_bits must be up to {MOST_LANE_BITS}")
    _check_places(files, selected, sizes)


def _check_keys(files: ListedFiles) -> None:
    """Raise ComparisonError where a layout says what its format cannot, or what its words cannot be."""
    layout, rule, format = files.layout, files.word_rule, files.layout["format"]
    extent = rule.extent or rule.words
    if layout["depth"] and extent > layout["depth"]:
        raise ComparisonError(f"{MANIFEST}: {files.address}: depth must be at least {extent}")
    if layout["base"] and not (files.rule.addresses or format in STATES_ADDRESSES):
        raise ComparisonError(f"{MANIFEST}: {files.address}: base must be 0 in format {format}")
    for key, formats in KEYS.items():
        if key in layout and format not in formats:
            raise ComparisonError(f"{MANIFEST}: {files.address}: {key} must not be there in format {format}")
    lines = [axis.removeprefix("-") for axis in layout["lines"]]
    blocks = [axis for axis in layout.get("blocks", ()) if axis not in files.file_axes]
    if blocks != lines[: len(blocks)] or ("blocks" in layout and "block_lines" in layout):
        raise ComparisonError(f"{MANIFEST}: {files.address}: blocks must be of axes of files and of the first of lines")
    if rule.block_words and rule.block_stride < rule.block_words:
        raise ComparisonError(f"{MANIFEST}: {files.address}: block_stride must be at least {rule.block_words}")
    if rule.lanes_apart and rule.word_bits > rule.lanes * rule.lane_bits:
        raise ComparisonError(f"{MANIFEST}: {files.address}: word_bits must be those of lanes that stand apart")


def _source(files: ListedFiles) -> dict[str, Any] | None:
    """Return what a set must say of the dataset that it holds or is made from.

    That of activation codes and weights may be either of the store's: as the network has them, or in tiles.
    """
    if files.rule.dataset is None:
        return None
    dataset = f"layers/{files.layer}/{files.rule.dataset}"
    tiled = f"{dataset}_tile"
    named = (files.record["source"] or {}).get("dataset")
    source = {"dataset": tiled if files.rule.tiled and named == tiled else dataset}
    return source if files.image is None else source | {"image": files.image}


def _check_places(files: ListedFiles, selected: SelectedLayer, sizes: Mapping[str, int]) -> None:
    """Raise ComparisonError unless there is one file for each place on the axes of files, named after it."""
    axes, layout = files.file_axes, files.layout
    labels = [selected.selection.get(axis, range(sizes[axis])) for axis in axes]
    missing = set(product(*labels))
    channels = selected.selection.get("ic", range(selected.spec.in_channels))
    tiles = selected.array.input_tiles(selected.spec.in_channels)
    if files.renumber:
        tiles = len(selected.selection.get("it", ()))
    for entry in files.record["files"]:
        place = tuple(entry.get(axis) for axis in axes)
        if place not in missing:
            raise ComparisonError(f"{MANIFEST}: {files.address}: {entry['name']} must hold a selected place of its own")
        missing.remove(place)
        numbers = dict(zip(axes, place, strict=True))
        if files.renumber:
            kept = selected.selection
            numbers = {axis: kept[axis].index(label) if axis in kept else label for axis, label in numbers.items()}
        numbers["tile"] = numbers.get("ot", 0) * tiles + numbers.get("it", 0)
        numbers |= {"image": files.place if files.renumber else files.image, "n": len(channels)}
        check_name(entry["name"], layout["file"], layout["format"], axes, numbers)
    if missing:
        place = dict(zip(axes, min(missing), strict=True))
        raise ComparisonError(f"{MANIFEST}: {files.address}: there must be a file for {place}")
