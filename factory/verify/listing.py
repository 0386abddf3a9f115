"""An export's folder against its manifest: the files there are, their digests, names and counts."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Integer

from factory.manifest import MANIFEST, SCHEMA, Manifest
from factory.spec import ComparisonError, Progress
from factory.verify.dataflows import ROLE_RULES, RoleRule
from factory.verify.decode import RADIX, TWOS_COMPLEMENT, LayoutRecord, WordRule, check_name, decode
from factory.verify.named import BIT, needed_axes
from factory.verify.selected import SelectedLayer

MOST_LANE_BITS = 32
STATES_ADDRESSES = ("bin", "hex", "mif", "mif-hex")


@dataclass(frozen=True)
class ListedFiles:
    """All files of one layout, of one layer or (`image` not None) one of its images; `record` is the manifest's.

    `source_index` is the image's and `vector` what it is made for with the layer, as the manifest's group says.
    """

    layer: str
    image: int | None
    layout: LayoutRecord
    record: Mapping[str, Any]
    source_index: int | None
    vector: Mapping[str, Any] | None

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

    @property
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
        )

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
    done, last = set(), ("", -1)
    for group in manifest.groups():
        layer, image = group["layer"], -1 if group["image"] is None else group["image"]
        if layer in done or (layer == last[0] and image <= last[1]):
            raise ComparisonError(f"{MANIFEST}: the groups of {layer} must follow each other, its images ascending")
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
            yield ListedFiles(layer, group["image"], layout, record, group.get("source_index"), group.get("vector"))


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
            return decode(data, files.word_rule)
        except ComparisonError as error:
            raise ComparisonError(f"{path}: {error}") from None


def check_record(
    files: ListedFiles,
    selected: SelectedLayer,
    flat: bool,
    sizes: Mapping[str, int],
    lines: int,
    lanes: int,
    labels: Mapping[str, Sequence[int]],
) -> None:
    """Raise ComparisonError unless a set's record says what its layout and its vector's shape give.

    `sizes` are those of the layout's axes, `lines` and `lanes` those of each file; `labels` are what
    the places on axes stand for.
    """
    _check_keys(files, selected)
    record, layout = files.record, files.layout
    shared = files.image is None or "{image}" in layout["file"]
    directory = "" if flat else files.layer if shared else f"{files.layer}/image{files.image}"
    word_bits = max(layout["word_bits"], lanes * record["lane_bits"])
    beats = _beats(layout, word_bits)
    expected = {
        "directory": directory,
        "radix": RADIX[layout["format"]],
        "axes": dict(sizes),
        "lines": lines,
        "words": max(lines * (beats or 1), layout["words"]),
        "lanes": lanes,
        "word_bits": word_bits,
        "beats": beats,
        "signed": layout["signed"] and not files.has_bits,
        "sign_bit": files.value_bits - 1 if files.has_bits and layout["signed"] else None,
        "source": _source(files),
    }
    if not files.rule.addresses:  # whose lanes are as wide as the addresses need
        expected["lane_bits"] = 1 if files.has_bits else layout["lane_bits"]
    for name, value in expected.items():
        if record.get(name) != value:
            raise ComparisonError(f"{MANIFEST}: {files.address}: {name} must be {value}, not {record.get(name)}")
    if layout["depth"] and record["words"] > layout["depth"]:
        raise ComparisonError(f"{MANIFEST}: {files.address}: depth must be at least {record['words']}")
    if layout["base"] and not (files.rule.addresses or layout["format"] in STATES_ADDRESSES):
        raise ComparisonError(f"{MANIFEST}: {files.address}: base must be 0 in format {layout['format']}")
    if record["lane_bits"] > MOST_LANE_BITS:
        raise ComparisonError(f"{MANIFEST}: {files.address}: lane_bits must be up to {MOST_LANE_BITS}")
    _check_places(files, selected, sizes, labels)


def _check_keys(files: ListedFiles, selected: SelectedLayer) -> None:
    """Raise ComparisonError where a layout has a key that its role, its lines or its format cannot have."""
    layout, bus = files.layout, files.layout.get("bus_bits", 0)
    lines = [axis.removeprefix("-") for axis in layout["lines"]]
    aligned = [align["axis"] for align in layout.get("align", ())]
    wrong = {
        "code": files.code != TWOS_COMPLEMENT and not layout["signed"],
        "border": not layout.get("border", True) and "nij" not in selected.axes(files.role),
        "align": not set(aligned) <= set(lines) or len(set(aligned)) < len(aligned),
        "bus_bits": bus > 0 and RADIX[layout["format"]] == 0 and layout["format"] != "raw",
        "beats": not bus and bool({"beats", "beats_pow2", "highest_beat_first"} & set(layout)),
        "stride": not files.rule.addresses and bool({"stride", "pixel_words"} & set(layout)),
    }
    for key, is_wrong in wrong.items():
        if is_wrong:
            raise ComparisonError(f"{MANIFEST}: {files.address}: its role, lines and format must allow {key}")


def _beats(layout: LayoutRecord, word_bits: int) -> int | None:
    """Return how many beats of a bus take a word; None where there is no bus."""
    bus = layout.get("bus_bits", 0)
    if not bus:
        return None
    count = max((word_bits + bus - 1) // bus, layout.get("beats", 0))
    return 1 << (count - 1).bit_length() if layout.get("beats_pow2", False) else count


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


def _check_places(
    files: ListedFiles, selected: SelectedLayer, sizes: Mapping[str, int], known: Mapping[str, Sequence[int]]
) -> None:
    """Raise ComparisonError unless there is one file for each place on the axes of files, named after it."""
    axes, layout = files.file_axes, files.layout
    labels = [known.get(axis, range(sizes[axis]))[: sizes[axis]] for axis in axes]
    missing = set(product(*labels))
    channels = selected.selection.get("ic", range(selected.spec.in_channels))
    tiles = selected.array.input_tiles(selected.spec.in_channels)
    for entry in files.record["files"]:
        place = tuple(entry.get(axis) for axis in axes)
        if place not in missing:
            raise ComparisonError(f"{MANIFEST}: {files.address}: {entry['name']} must hold a selected place of its own")
        missing.remove(place)
        numbers = dict(zip(axes, place, strict=True))
        numbers["tile"] = numbers.get("ot", 0) * tiles + numbers.get("it", 0)
        numbers |= {"image": files.image, "n": len(channels)}
        check_name(entry["name"], layout["file"], layout["format"], axes, numbers)
    if missing:
        place = dict(zip(axes, min(missing), strict=True))
        raise ComparisonError(f"{MANIFEST}: {files.address}: there must be a file for {place}")
