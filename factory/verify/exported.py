"""Verification of an export: every file decoded by readers of its own, and its values recomputed."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from factory.spec import ComparisonError
from factory.store import Store, open_store
from factory.verify.contents import FileReader, LayerCheck
from factory.verify.hardware import Adders
from factory.verify.pack import MANIFEST, FileSet, check_listing, file_sets, read_file, read_manifest
from factory.verify.part import Part
from factory.verify.result import Progress, Tally, VerifyReport


def verify_export(
    directory: Path | str, store: Path | str | Store | None = None, progress: Progress | None = None
) -> VerifyReport:
    """Decode every file of an export, and compare it with its manifest and with what its values must be.

    Files, names, digests, counts and syntax must be those of the manifest and of the formats. With `store`, inputs are
    cut from it and outputs recomputed; without, outputs follow from the export's own inputs where these are there. What
    could not be checked is listed in the report. `progress(done, total, path)` counts files. Raise InputError where
    there is no export, or no such store; ComparisonError, with the file and the word, at the first difference.
    """
    root = Path(directory)
    tally = Tally(root)
    with open_store(store) if isinstance(store, (str, Path)) else nullcontext(store) as source:
        try:
            _check_export(root, source, tally, progress)
        except ComparisonError as error:
            raise ComparisonError(f"{root}: {error}") from None
    return tally.report()


def _check_export(root: Path, store: Store | None, tally: Tally, progress: Progress | None) -> None:
    manifest = read_manifest(root)
    sets = file_sets(manifest)
    check_listing(root, manifest, sets)
    if store is None:
        tally.skip(f"weights and activation codes against the store, {manifest['store']}, which was not given")
    else:
        _check_source(manifest, store)
    reader = FileReader(root, sum(len(files.record["files"]) for files in sets), progress)
    for name, record in manifest["layers"].items():
        part = Part.from_manifest(manifest, name)
        if part.is_whole_sum != record["sums_all"]:
            raise ComparisonError(f"{MANIFEST}: {name}: sums_all must be {part.is_whole_sum}, not {record['sums_all']}")
        stored = None if store is None else store.layer(name)
        if stored is not None and stored.spec != part.conv:
            raise ComparisonError(f"{MANIFEST}: {name}: conv must be the store's {stored.spec}, not {part.conv}")
        adders = Adders(manifest["pe"]["psum_bits"], manifest["pe"]["overflow"])
        check = LayerCheck(part, adders, manifest["post"], manifest["flat"], stored, reader, tally)
        check.check([files for files in sets if files.layer == name])
    for entry in manifest["testbench"]:
        read_file(root, entry["path"], entry["sha256"])
    tally.counts["files"] = reader.done + len(manifest["testbench"])
    _check_counts(manifest, sets, reader)


def _check_source(manifest: Mapping[str, Any], store: Store) -> None:
    """Raise ComparisonError unless the manifest says that it was made from this store."""
    expected = {
        "network": store.network.name,
        "weights_sha256": store.weights_sha256,
        "image_source": store.image_source,
    }
    for name, value in expected.items():
        if manifest[name] != value:
            raise ComparisonError(f"{MANIFEST}: {name} must be that of {store.path}, {value}, not {manifest[name]}")
    for group in manifest["groups"]:
        image = group["image"]
        if image is None:
            continue
        if image >= store.image_count:
            raise ComparisonError(f"{MANIFEST}: image must be 0 to {store.image_count - 1}, not {image}")
        index = int(store.images.source_index[image])
        if group["source_index"] != index:
            raise ComparisonError(
                f"{MANIFEST}: image {image}: source_index must be {index}, not {group['source_index']}"
            )


def _check_counts(manifest: Mapping[str, Any], sets: list[FileSet], reader: FileReader) -> None:
    expected = {
        "files": reader.done,
        "words": sum(files.record["words"] * len(files.record["files"]) for files in sets),
        "bytes": reader.bytes,
        "wrapped": sum(files.record["wrapped"] for files in sets),
    }
    for name, value in expected.items():
        if manifest["counts"][name] != value:
            raise ComparisonError(f"{MANIFEST}: counts: {name} must be {value}, not {manifest['counts'][name]}")
