"""Verification of an export: every file decoded by readers of its own, and its values recomputed."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from itertools import groupby
from pathlib import Path
from typing import Any

from factory.manifest import MANIFEST, Manifest, open_manifest
from factory.spec import ComparisonError, InputError, Progress
from factory.store import Store, open_store
from factory.verify.contents import FileReader, LayerCheck
from factory.verify.hardware import Adders
from factory.verify.pack import Listing, check_listing, file_sets, list_files, read_file
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
        manifest = open_manifest(root)
        listing = list_files(manifest)
        with _open_source(manifest.facts, listing, store, default) as source:
            _check_export(root, manifest, listing, source, tally, progress)
    except ComparisonError as error:
        raise ComparisonError(f"{root}: {error}") from None
    return tally.report()


def _open_source(
    facts: Mapping[str, Any], listing: Listing, store: Path | str | Store | None, default: Path | None
) -> AbstractContextManager[Store | None]:
    if isinstance(store, Store):
        return nullcontext(store)
    if store is not None:
        return open_store(store)
    if default is None or default.name != facts["store"] or not default.is_file():
        return nullcontext()
    try:
        source = open_store(default)
    except InputError:  # nobody asked for it
        return nullcontext()
    try:
        _check_source(facts, listing, source)
    except ComparisonError:
        source.close()
        return nullcontext()
    if not facts["layers"].keys() <= set(source.layers):
        source.close()
        return nullcontext()
    return source


def _check_export(
    root: Path, manifest: Manifest, listing: Listing, store: Store | None, tally: Tally, progress: Progress | None
) -> None:
    facts = manifest.facts
    check_listing(root, listing, facts)
    if store is None:
        tally.skip(f"weights and activation codes against the store, {facts['store']}, which was not given")
    else:
        _check_source(facts, listing, store)
    _check_fields(facts)
    reader = FileReader(root, listing.files, progress)
    checks = {name: _layer_check(facts, name, store, reader, tally) for name in facts["layers"]}
    for name, sets in groupby(file_sets(manifest), key=lambda files: files.layer):
        checks[name].check(sets)
    for entry in facts["testbench"]:
        read_file(root, entry["path"], entry["sha256"])
    if reader.done != listing.files:
        raise ComparisonError(f"{MANIFEST}: every one of {listing.files} files must be read, {reader.done} were")
    tally.counts["files"] = reader.done + len(facts["testbench"])
    expected = dict(files=reader.done, words=listing.words, bytes=reader.bytes, wrapped=listing.wrapped)
    for name, value in expected.items():
        if facts["counts"][name] != value:
            raise ComparisonError(f"{MANIFEST}: counts: {name} must be {value}, not {facts['counts'][name]}")


def _layer_check(
    facts: Mapping[str, Any], name: str, store: Store | None, reader: FileReader, tally: Tally
) -> LayerCheck:
    part = Part.from_manifest(facts, name)
    stored = None if store is None else store.layer(name)
    if stored is not None and stored.spec != part.spec:
        raise ComparisonError(f"{MANIFEST}: {name}: conv must be the store's {stored.spec}, not {part.spec}")
    adders = Adders(facts["pe"]["psum_bits"], facts["pe"]["overflow"])
    return LayerCheck(part, adders, facts["post"], facts["flat"], stored, reader, tally)


def _check_source(facts: Mapping[str, Any], listing: Listing, store: Store) -> None:
    """Raise ComparisonError unless the manifest says that it was made from this store."""
    expected = {
        "network": store.network.name,
        "weights_sha256": store.weights_sha256,
        "image_source": store.image_source,
    }
    for name, value in expected.items():
        if facts[name] != value:
            raise ComparisonError(f"{MANIFEST}: {name} must be that of {store.path}, {value}, not {facts[name]}")
    for image, found in listing.images:
        if image >= store.image_count:
            raise ComparisonError(f"{MANIFEST}: image must be 0 to {store.image_count - 1}, not {image}")
        index = int(store.images.source_index[image])
        if found != index:
            raise ComparisonError(f"{MANIFEST}: image {image}: source_index must be {index}, not {found}")


def _check_fields(facts: Mapping[str, Any]) -> None:
    """Raise ComparisonError unless the array reads its codes in the fields that their files have."""
    for role in ("activation", "weight"):
        read = tuple(facts["pe"][f"{role}_{name}"] for name in ("bits", "signed"))
        layouts = [layout for layout in facts["layouts"].values() if layout["role"] == role]
        held = [(layout["lane_bits"], layout["signed"]) for layout in layouts]
        if held and read not in held:
            raise ComparisonError(f"{MANIFEST}: pe: {role} bits and signed must be {held[0]}, not {read}")
