"""Verification of an export: every file decoded by readers of its own, and its values recomputed."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

from factory.manifest import MANIFEST, read_manifest
from factory.spec import ComparisonError, Progress
from factory.store import Store, open_store
from factory.verify.contents import FileReader, LayerCheck
from factory.verify.hardware import Adders
from factory.verify.pack import FileSet, check_listing, file_sets, read_file
from factory.verify.part import Part
from factory.verify.result import Tally, VerifyReport


def verify_export(
    directory: Path | str,
    store: Path | str | Store | None = None,
    progress: Progress | None = None,
    default: Path | None = None,
) -> VerifyReport:
    """Decode every file of an export, and compare it with its manifest and with what its values must be.

    Files, names, digests, counts and syntax must be those of the manifest and of the formats. With `store`, inputs are
    cut from it and outputs recomputed; without, outputs follow from the export's own inputs where these are there. What
    could not be checked is listed in the report. `default` is a store that is taken where none is given and the
    manifest says that the export was made from it. `progress(done, total, path)` counts files. Raise InputError where
    there is no export, or no such store; ComparisonError, with the file and the word, at the first difference.
    """
    root = Path(directory)
    tally = Tally(root)
    try:
        manifest = read_manifest(root)
        with _open_source(manifest, store, default) as source:
            _check_export(root, manifest, source, tally, progress)
    except ComparisonError as error:
        raise ComparisonError(f"{root}: {error}") from None
    return tally.report()


def _open_source(
    manifest: Mapping[str, Any], store: Path | str | Store | None, default: Path | None
) -> AbstractContextManager[Store | None]:
    if isinstance(store, Store):
        return nullcontext(store)
    if store is not None:
        return open_store(store)
    if default is None or default.name != manifest["store"] or not default.is_file():
        return nullcontext()
    source = open_store(default)
    try:
        _check_source(manifest, source)
    except ComparisonError:
        source.close()
        return nullcontext()
    return source


def _check_export(
    root: Path, manifest: Mapping[str, Any], store: Store | None, tally: Tally, progress: Progress | None
) -> None:
    sets = file_sets(manifest)
    check_listing(root, manifest, sets)
    if store is None:
        tally.skip(f"weights and activation codes against the store, {manifest['store']}, which was not given")
    else:
        _check_source(manifest, store)
    reader = FileReader(root, sum(len(files.record["files"]) for files in sets), progress)
    _check_fields(manifest)
    for name in manifest["layers"]:
        part = Part.from_manifest(manifest, name)
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
        index, found = int(store.images.source_index[image]), group.get("source_index")
        if found != index:
            raise ComparisonError(f"{MANIFEST}: image {image}: source_index must be {index}, not {found}")


def _check_fields(manifest: Mapping[str, Any]) -> None:
    """Raise ComparisonError unless the array reads its codes in the fields that their files have."""
    for role in ("activation", "weight"):
        read = tuple(manifest["pe"][f"{role}_{name}"] for name in ("bits", "signed"))
        layouts = [layout for layout in manifest["layouts"].values() if layout["role"] == role]
        held = [(layout["lane_bits"], layout["signed"]) for layout in layouts]
        if held and read not in held:
            raise ComparisonError(f"{MANIFEST}: pe: {role} bits and signed must be {held[0]}, not {read}")


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
