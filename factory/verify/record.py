"""A set's record in a manifest against its layout, its layer and the shape of its vector."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product
from typing import Any

from factory.manifest import MANIFEST
from factory.spec import ComparisonError
from factory.verify.decode import LayoutRecord, check_name
from factory.verify.listing import MOST_LANE_BITS, ListedFiles
from factory.verify.rule import RADIX, SEPARATED, TWOS_COMPLEMENT
from factory.verify.selected import SelectedLayer

STATES_ADDRESSES = ("bin", "hex", "mif", "mif-hex", "mif-dec", "mif-uns")
KEYS = {
    "separator": ("bin", "hex", "dec"),
    "radix_prefix": ("bin", "hex"),
    **dict.fromkeys(("head", "foot"), [name for name, radix in RADIX.items() if radix]),
    **dict.fromkeys(("blocks", "block_lines", "block_stride"), STATES_ADDRESSES),
    "shape": ("c", "sv", "sv-packed"),
    **dict.fromkeys(("endian", "align_bytes"), ["raw"]),
    "align": [name for name in RADIX if name not in ("c", "sv", "sv-packed")],
    "bus_bits": [name for name in RADIX if name not in (*SEPARATED, "npy")],
    "code": [name for name in RADIX if name not in ("dec", "csv", "c", "sv")],
}
"""The formats that have each key which not every layout has."""


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
    shared, image = files.image is None or "{image}" in layout["file"], files.place if files.renumber else files.image
    directory = "" if flat else files.layer if shared else f"{files.layer}/image{image}"
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
    if not files.states:  # whose lanes are as wide as the addresses need
        expected["lane_bits"] = 1 if files.has_bits else layout["lane_bits"]
    for name, value in expected.items():
        if record.get(name) != value:
            raise ComparisonError(f"{MANIFEST}: {files.address}: {name} must be {value}, not {record.get(name)}")
    _check_memory(files, beats)
    if record["lane_bits"] > MOST_LANE_BITS:
        raise ComparisonError(f"{MANIFEST}: {files.address}: lane_bits must be up to {MOST_LANE_BITS}")
    _check_places(files, selected, sizes, labels)


def _check_keys(files: ListedFiles, selected: SelectedLayer) -> None:
    """Raise ComparisonError where a layout has a key that its role, its lines or its format cannot have."""
    layout, bus, format = files.layout, files.layout.get("bus_bits", 0), files.layout["format"]
    lines = [axis.removeprefix("-") for axis in layout["lines"]]
    aligned = [align["axis"] for align in layout.get("align", ())]
    blocks = [axis for axis in layout.get("blocks", ()) if axis not in files.file_axes]
    wrong = {key: key in layout and format not in formats for key, formats in KEYS.items()}
    wrong["base"] = layout["base"] > 0 and not (files.rule.addresses or format in ("csv", *STATES_ADDRESSES))
    wrong["code"] &= not files.has_bits
    wrong["code"] |= files.code != TWOS_COMPLEMENT and not layout["signed"]
    wrong["edge"] = "edge" in layout and not files.rule.edge
    wrong["border"] = not layout.get("border", True) and "nij" not in selected.axes(files.role)
    wrong["align"] |= not set(aligned) <= set(lines) or len(set(aligned)) < len(aligned)
    wrong["align"] |= bool(set(aligned) & set(blocks[:-1]))
    wrong["beats"] = not bus and bool({"beats", "beats_pow2", "highest_beat_first"} & set(layout))
    wrong["separator"] |= bus > 0 and "separator" in layout
    wrong["stride"] = not files.rule.addresses and bool({"stride", "pixel_words"} & set(layout))
    wrong["blocks"] |= blocks != lines[: len(blocks)] or ("blocks" in layout and "block_lines" in layout)
    for key, is_wrong in wrong.items():
        if is_wrong:
            raise ComparisonError(f"{MANIFEST}: {files.address}: its role, lines and format must allow {key}")


def _check_memory(files: ListedFiles, beats: int | None) -> None:
    """Raise ComparisonError where words, blocks and depth of a set contradict each other."""
    layout, record, rule = files.layout, files.record, files.word_rule
    held = record["lines"] * (beats or 1)
    if layout["depth"] and (rule.extent or rule.words) > layout["depth"]:
        raise ComparisonError(f"{MANIFEST}: {files.address}: depth must be at least {rule.extent or rule.words}")
    if rule.words > held and ("blocks" in layout or rule.format in KEYS["shape"]):
        raise ComparisonError(f"{MANIFEST}: {files.address}: words must be {held}, not {rule.words}")
    if rule.block_words and rule.block_stride < rule.block_words:
        raise ComparisonError(f"{MANIFEST}: {files.address}: block_stride must be at least {rule.block_words}")
    if rule.lanes_apart and rule.word_bits > rule.lanes * rule.lane_bits:
        raise ComparisonError(f"{MANIFEST}: {files.address}: word_bits must be those of lanes that stand apart")


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
    if files.renumber:
        tiles = len(selected.selection.get("it", ()))
    for entry in files.record["files"]:
        place = tuple(entry.get(axis) for axis in axes)
        if place not in missing:
            raise ComparisonError(f"{MANIFEST}: {files.address}: {entry['name']} must hold a selected place of its own")
        missing.remove(place)
        numbers = dict(zip(axes, place, strict=True))
        if files.renumber:
            kept = {axis: known[axis] for axis in ("ic", "oc")} | dict(selected.selection)
            numbers = {axis: kept[axis].index(label) if axis in kept else label for axis, label in numbers.items()}
        numbers["tile"] = numbers.get("ot", 0) * tiles + numbers.get("it", 0)
        numbers |= {"image": files.place if files.renumber else files.image, "n": len(channels)}
        check_name(entry["name"], layout["file"], layout["format"], axes, numbers)
    if missing:
        place = dict(zip(axes, min(missing), strict=True))
        raise ComparisonError(f"{MANIFEST}: {files.address}: there must be a file for {place}")
