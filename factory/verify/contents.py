"""The values in an export's files: what each role must hold, and the first word that holds something else."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Int64, Integer

from factory.manifest import MANIFEST, Manifest, open_manifest
from factory.spec import ComparisonError, InputError, Progress
from factory.store import Store, StoredLayer, open_store
from factory.verify.dataflows import DATAFLOW_RULES, ROLE_RULES, CodeField, Values
from factory.verify.decode import PADDING, layout_axes, positions
from factory.verify.edges import GEOMETRY, blank_vectors, edge_stream, schedule_of
from factory.verify.listing import (
    FileReader,
    ListedFiles,
    Listing,
    check_listing,
    list_files,
    listed_files,
    read_file,
)
from factory.verify.named import BIT, WORD
from factory.verify.record import check_record
from factory.verify.reference import Adders, field_bits, read_field, values_of_bits
from factory.verify.result import Tally, VerifyReport
from factory.verify.selected import ExpectedVectors, Known, SelectedLayer


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
    if facts["dataflow"] not in DATAFLOW_RULES:
        known = " ".join(DATAFLOW_RULES)
        raise ComparisonError(f"{MANIFEST}: dataflow must be one of {known}, not {facts['dataflow']}")
    check_listing(root, listing, facts)
    if store is None:
        tally.skip(f"weights, thresholds and activation codes against the store, {facts['store']}, which was not given")
    else:
        _check_source(facts, listing, store)
    _check_fields(facts)
    reader = FileReader(root, listing.files, progress)
    checks = {name: _layer_check(facts, name, store, reader, tally) for name in facts["layers"]}
    for name, sets in groupby(_vectors_checked(listed_files(manifest), store), key=lambda files: files.layer):
        checks[name].check(sets)
    for entry in facts["testbench"]:
        read_file(root, entry["path"], entry["sha256"])
    if reader.done != listing.files:
        raise ComparisonError(f"{MANIFEST}: every one of {listing.files} files must be read, {reader.done} were")
    tally.counts["files"] = reader.done + len(facts["testbench"])
    expected = dict(files=reader.done, words=listing.words, bytes=reader.bytes, inexact=listing.inexact)
    for name, value in expected.items():
        if facts["counts"][name] != value:
            raise ComparisonError(f"{MANIFEST}: counts: {name} must be {value}, not {facts['counts'][name]}")


def _vectors_checked(listed: Iterable[ListedFiles], store: Store | None) -> Iterator[ListedFiles]:
    """Yield all sets; raise ComparisonError at one that says it is made for something else than the store says."""
    for files in listed:
        where = f"{MANIFEST}: {files.layer}, image {files.image}: vector"
        if store is not None and files.image is not None:
            made_for = store.vector(files.layer, files.image)
            expected = made_for and {"id": made_for.id, "flags": list(made_for.flags), "note": made_for.note}
            if files.vector != expected:
                raise ComparisonError(f"{where} must be {expected}, not {files.vector}")
        elif files.vector is not None and (files.image is None or not files.vector["id"].startswith(f"{files.layer}/")):
            raise ComparisonError(f"{where} must be of an image and of its layer, not {files.vector['id']}")
        yield files


def _layer_check(
    facts: Mapping[str, Any], name: str, store: Store | None, reader: FileReader, tally: Tally
) -> LayerCheck:
    layer = SelectedLayer.from_manifest(facts, name)
    stored = None if store is None else store.layer(name)
    if stored is not None and stored.spec != layer.spec:
        raise ComparisonError(f"{MANIFEST}: {name}: spec must be the store's {stored.spec}, not {layer.spec}")
    adders = Adders(facts["pe"]["psum_bits"], facts["pe"]["overflow"])
    return LayerCheck(layer, adders, facts["post"], facts["flat"], stored, reader, tally)


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
    for role in (role for role, rule in ROLE_RULES.items() if rule.field):
        read = _field(facts["pe"], f"{role}_bits", f"{role}_signed", f"{role}_code")
        layouts = [layout for layout in facts["layouts"].values() if layout["role"] == role]
        held = [_field(layout, "lane_bits", "signed", "code") for layout in layouts]
        if held and read not in held:
            raise ComparisonError(f"{MANIFEST}: pe: {role} bits and signed must be {held[0]}, not {read}")


class Places(NamedTuple):
    """The position in its vector of each lane of a set's files, and what the places on axes stand for."""

    position: Values
    labels: Mapping[str, Sequence[int]]


def _field(record: Mapping[str, Any], bits: str, signed: str, code: str) -> CodeField:
    """Return the field that a record describes by these keys, its code where that is not two's complement."""
    return (record[bits], record[signed], *([record[code]] if code in record else []))


@dataclass(frozen=True)
class LayerCheck:
    """The check of one layer's files; `stored` is the store's layer, None where outputs follow from the files alone."""

    layer: SelectedLayer
    adders: Adders
    post: str
    flat: bool
    stored: StoredLayer | None
    reader: FileReader
    tally: Tally

    def check(self, sets: Iterable[ListedFiles]) -> None:
        """Check all files of the layer: its own come first, then those of each image."""
        own, listed = self.layer.given(self.stored, None), set()
        for image, files in groupby(sets, key=lambda files: files.image):
            group = list(files)
            roles = {files.role for files in group}
            if image is None:
                own, listed = self._check_given(group, own), roles
            else:
                known = self._check_given(group, own | self.layer.given(self.stored, image))
                self._check_results(
                    [files for files in group if files.rule.follows or files.rule.edge], known, listed | roles
                )

    def _check_given(self, sets: Iterable[ListedFiles], known: dict[str, Known]) -> dict[str, Known]:
        """Check the files of given values; return `known` with what only the files say."""
        for files in sets:
            if files.role in known:
                self._compare(files, known[files.role])
            elif files.rule.given:
                known = known | {files.role: Known(self._collect(files))}
            if files.rule.given:
                self._check_operands(files, 0)
        return known

    def _check_operands(self, files: ListedFiles, inexact: int | None) -> None:
        """Raise ComparisonError unless a set says how many codes that its values follow from are read as others."""
        said = files.record.get("inexact_operands")
        if said != inexact and None not in (said, inexact):
            raise ComparisonError(f"{MANIFEST}: {files.address}: inexact_operands must be {inexact}, not {said}")

    def _check_results(self, sets: list[ListedFiles], known: Mapping[str, Known], listed: set[str]) -> None:
        """Check the files of one image's values that follow from others; files of the `listed` roles are there too."""
        vectors, operands = self._vectors(known), self.layer.inexact_operands(known, listed)
        for files in sets:
            self._check_operands(files, operands)
            if files.rule.edge:
                self._check_edge(files, vectors)
                continue
            if vectors is None or (files.rule.quantized and vectors.quantizer is None):
                needed = "activation codes and weights" if vectors is None else "thresholds and directions"
                self.tally.skip(f"{files.address}: its {needed} are neither in the export nor in a store")
                self._collect(files)
                continue
            try:
                expected = Known(files.rule.follows(vectors), vectors.inexact(files.rule))
            except ComparisonError as error:
                raise ComparisonError(f"{files.address}: {error}") from None
            self._compare(files, expected)

    def _check_edge(self, files: ListedFiles, made: ExpectedVectors | None) -> None:
        """Check what crosses an edge of the array, of which geometry alone gives some."""
        schedule = schedule_of(files.layout, self.layer)
        if made is not None or schedule["content"] in GEOMETRY:
            stream = edge_stream(files.role, schedule, made or blank_vectors(self.layer, self.adders, self.post))
            replace(self, layer=stream.layer)._compare(files, Known(stream.values, stream.inexact))
            return
        self.tally.skip(f"{files.address}: its activation codes and weights are neither in the export nor in a store")
        blank = blank_vectors(self.layer, self.adders, self.post)
        stream = edge_stream(files.role, schedule | {"content": "valid"}, blank)
        replace(self, layer=stream.layer)._collect(files, stream.values)

    def _vectors(self, known: Mapping[str, Known]) -> ExpectedVectors | None:
        activation, weight, threshold, direction = (
            known[role].values if role in known else None for role in ("activation", "weight", "threshold", "direction")
        )
        if activation is None or weight is None:
            return None
        quantizer = None if threshold is None or direction is None else (threshold, direction)
        return ExpectedVectors(self.layer, self.adders, self.post, activation, weight, quantizer)

    def _compare(self, files: ListedFiles, known: Known) -> None:
        """Raise ComparisonError at the first word of a set's files that does not hold what it must."""
        axes, values = self._placed(files, known.values)
        if files.rule.addresses:
            values = values * files.layout.get("stride", 1) + files.layout["base"]
            if files.pixel_words > 1:
                axes, values = (*axes, WORD), values[..., None] + np.arange(files.pixel_words)
        held = read_field(values, files.value_bits, files.layout["signed"], files.code)
        changed = int(np.count_nonzero(held != values))
        if files.has_bits:
            axes, held = (*axes, BIT), field_bits(held, files.value_bits, files.code)
        places = self._check_record(files, axes, held.shape)
        if known.inexact is not None:
            inexact = known.inexact + changed
            if files.record["inexact"] != inexact:
                raise ComparisonError(
                    f"{MANIFEST}: {files.address}: inexact must be {inexact}, not {files.record['inexact']}"
                )
        for entry in files.record["files"]:
            codes, where = self._lines(files, entry, places)
            expected = np.where(where == PADDING, 0, held.ravel()[where])
            wrong = np.argwhere(codes != expected)
            if len(wrong):
                word, lane = (int(x) for x in wrong[0])
                at = self._label(axes, held.shape, int(where[word, lane]))
                raise ComparisonError(
                    f"{files.path(entry)}: word {word}, lane {lane} ({at}): must be {expected[word, lane]}, "
                    f"not {codes[word, lane]} ({len(wrong)} of {codes.size} values in this file differ)"
                )
            self.tally.counts[files.role] += codes.size

    def _collect(self, files: ListedFiles, mask: Values | None = None) -> Values:
        """Return what a set's files hold, with the axes of their role; it must be zero where nothing is."""
        if mask is None:
            mask = self.layer.occupied(files.role, self.post, files.record["axes"].get("level", 1))
        blank = np.zeros(mask.shape, np.int64) if files.rule.blank is None else files.rule.blank(self.layer)
        (axes, mask), (_, values) = self._placed(files, mask), self._placed(files, blank)
        if files.has_bits:
            axes, mask = (*axes, BIT), np.stack([mask] * files.value_bits, axis=-1)
            values = field_bits(values, files.value_bits, files.code)
        values, seen = np.ascontiguousarray(values), np.zeros(mask.size, bool)
        places = self._check_record(files, axes, mask.shape)
        for entry in files.record["files"]:
            codes, where = self._lines(files, entry, places)
            inside = where != PADDING
            self._check_copies(files, entry, codes, np.where(inside & seen[where], values.ravel()[where], codes))
            values.ravel()[where[inside]] = codes[inside]
            seen[where[inside]] = True
            self._check_copies(files, entry, codes, np.where(inside, values.ravel()[where], codes))
            extra = np.argwhere((codes != 0) & ~(inside & (mask.ravel()[where] != 0)))
            if len(extra):
                word, lane = (int(x) for x in extra[0])
                raise ComparisonError(
                    f"{files.path(entry)}: word {word}, lane {lane} "
                    f"({self._label(axes, mask.shape, int(where[word, lane]))}): must be 0, beyond the layer's "
                    f"channels and pixels, not {codes[word, lane]}"
                )
        if files.has_bits:
            axes, values = axes[:-1], values_of_bits(values, files.layout["signed"], files.code)
        return self.layer.join_pixels(axes, values)

    def _check_copies(
        self,
        files: ListedFiles,
        entry: Mapping[str, Any],
        codes: Integer[np.ndarray, "line lane"],
        before: Integer[np.ndarray, "line lane"],
    ) -> None:
        """Raise ComparisonError unless a file's codes are those of the copies that came before."""
        wrong = np.argwhere(codes != before)
        if len(wrong):
            word, lane = (int(x) for x in wrong[0])
            raise ComparisonError(
                f"{files.path(entry)}: word {word}, lane {lane}: must be {before[word, lane]}, as where the same value "
                f"is too, not {codes[word, lane]}"
            )

    def _placed(self, files: ListedFiles, values: Values) -> tuple[tuple[str, ...], Values]:
        """Return a role's vector as the layout takes it: `onij` as `pt` and `px` where it places those."""
        axes, cut = self.layer.axes(files.role), self.layer.dataflow.pixels
        axes = tuple(axis for axis in axes if axis not in files.sequence)
        if "onij" not in axes or cut is None or cut.axes[0] not in layout_axes(files.layout):
            return axes, values
        return self.layer.split_pixels(axes, values, files.rule.map(self.layer, self.post)[1])

    def _check_record(self, files: ListedFiles, axes: tuple[str, ...], shape: tuple[int, ...]) -> Places:
        named = self.layer.named_axes(files.role, self.post, files.layout.get("border", True))
        position, sizes = positions(files.layout, axes, shape, named)
        check_record(files, self.layer, self.flat, sizes, *position.shape[-2:], named.labels)
        return Places(position, named.labels)

    def _lines(
        self, files: ListedFiles, entry: Mapping[str, Any], places: Places
    ) -> tuple[Integer[np.ndarray, "line lane"], Int64[np.ndarray, "line lane"]]:
        """Return a file's codes without the words after the last line, and the position of each in its vector."""
        codes, lines = self.reader.codes(files, entry, places.labels), places.position.shape[-2]
        if codes[lines:].any():
            word = lines + int(codes[lines:].any(axis=1).argmax())
            raise ComparisonError(f"{files.path(entry)}: word {word}: must be zero, it is beyond the last line")
        known, labels = places.labels, ((axis, entry[axis]) for axis in files.file_axes)
        return codes[:lines], places.position[tuple(known[x].index(at) if x in known else at for x, at in labels)]

    def _label(self, axes: tuple[str, ...], shape: tuple[int, ...], position: int) -> str:
        """Return what a position in a vector stands for, such as `it 0, nij 6, row 3`."""
        if position == PADDING:
            return "padding"
        index, selection = (int(x) for x in np.unravel_index(position, shape)), self.layer.selection
        return ", ".join(
            f"{axis} {selection[axis][x] if axis in selection else x}" for axis, x in zip(axes, index, strict=True)
        )
