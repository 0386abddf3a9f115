"""The writer of manifests: every file, what it holds, and what that was made from, as JSON.

`factory/schemas/manifest.schema.json` describes it. It names no path, time or machine: the same store and options give
the same bytes.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from html import escape
from pathlib import Path
from typing import IO, Any

import factory
from factory.dataflow import ROLES, LayerVectors
from factory.export.write import WrittenGroup, WrittenSet
from factory.fileplan import ExportPlan, FileSet, LayerFiles
from factory.manifest import SCHEMA
from factory.memfile import FORMATS, Layout
from factory.memfile.named import BIT
from factory.store import LayerStore
from factory.tables import html_table

_PIECE = 1 << 20


@dataclass(frozen=True)
class ExportSummary:
    """What an export wrote: `inexact` values are not what they stand for, as `warnings` tell."""

    directory: Path
    pack_id: str
    files: int
    words: int
    bytes: int
    inexact: int
    warnings: tuple[str, ...]

    def _repr_html_(self) -> str:
        """Return what was written as the table that notebooks show."""
        rows = [("files", self.files), ("words", self.words), ("bytes", self.bytes), ("inexact values", self.inexact)]
        notes = "".join(f"<p>{escape(warning)}</p>" for warning in self.warnings)
        return html_table(("what", "count"), rows, f"{self.directory.name}, pack {self.pack_id[:12]}") + notes


@dataclass
class ManifestWriter:
    """The manifest of a plan, group by group as they are written.

    The text of the groups goes to `spool`, because there can be more files than memory holds the names of.
    """

    source: LayerStore
    plan: ExportPlan
    vectors: Mapping[str, LayerVectors]
    spool: IO[bytes]
    testbench: list[dict[str, str]] = field(default_factory=list)

    def __post_init__(self):
        self._listing, self._counts = hashlib.sha256(), Counter(files=0, words=0, bytes=0, inexact=0)
        self._inexact = _InexactCounts(self.plan)

    def add(self, group: WrittenGroup) -> None:
        """Add what was written of a layer or of one of its images."""
        for written in group.sets:
            self._listing.update(_listing(written))
            files = len(written.written)
            self._counts.update(files=files, words=files * written.files.memory.words, bytes=written.bytes)
            self._counts.update(inexact=written.inexact.total + sum(written.operands.values()))
        self._inexact.add(group)
        text = self._group_text(group)
        self.spool.write((",\n" * bool(self.spool.tell()) + text).encode())

    def add_testbench(self, files: Mapping[str, bytes]) -> None:
        """List the files of a testbench, by path."""
        self.testbench += [
            {"path": path, "sha256": hashlib.sha256(data).hexdigest()} for path, data in sorted(files.items())
        ]

    @property
    def _warnings(self) -> list[str]:
        return [*self.plan.warnings, *self._inexact.warnings()]

    def pieces(self) -> Iterator[bytes]:
        """Yield the JSON document piece by piece, a line for each fact and for each file."""
        facts = {"schema": SCHEMA, "pack_id": self._listing.hexdigest()} | _head(self.source, self.plan)
        facts |= {"counts": dict(self._counts), "warnings": self._warnings, "testbench": self.testbench}
        lines = (f" {json.dumps(key)}: {_value_text(value)},\n" for key, value in facts.items())
        yield f'{{\n{"".join(lines)} "groups": [\n'.encode()
        self.spool.seek(0)
        yield from iter(partial(self.spool.read, _PIECE), b"")
        yield b"\n ]\n}\n"

    def summary(self, directory: Path) -> ExportSummary:
        """Return the summary of what was written to `directory`."""
        return ExportSummary(directory, self._listing.hexdigest(), **dict(self._counts), warnings=tuple(self._warnings))

    def _group_text(self, group: WrittenGroup) -> str:
        head = {"layer": group.layer.name, "image": group.image}
        if group.image is not None:
            head["source_index"] = int(self.source.images.source_index[group.image])
            made_for = getattr(self.source, "vector", None)
            if made_for and (vector := made_for(group.layer.name, group.image)):
                head["vector"] = vars(vector)
        tiled = self.vectors[group.layer.name].tiled
        sets = (_set_text(group, written, tiled) for written in group.sets)
        return f'  {json.dumps(head)[:-1]}, "sets": {_block("[", sets, "  ]}")}'


def _listing(written: WrittenSet) -> bytes:
    """Return the files as `sha256sum` lists them; the pack id is the sha256 of the listing of all files."""
    folder = f"{written.directory}/" if written.directory else ""
    return "".join(f"{file.sha256}  {folder}{file.name}\n" for file in written.written).encode()


def _head(source: LayerStore, plan: ExportPlan) -> dict[str, Any]:
    profile, array = plan.profile, plan.array
    fields = {name: field.to_record() for name, field in profile.fields.items()}
    read = {f"{name}_{key}": value for name, record in fields.items() for key, value in record.items()}
    return {
        "generator": {"name": "factory", "version": factory.__version__},
        "store": source.path.name,
        "network": source.network.name,
        "weights_sha256": source.weights_sha256,
        "image_source": source.image_source,
        "dataflow": profile.dataflow,
        "profile": profile.name,
        "array": {"rows": array.rows // profile.simd, "cols": array.cols, "simd": profile.simd},
        "pe": read | {"psum_bits": array.psum_bits, "overflow": plan.overflow},
        "post": profile.post,
        "pixel_block": list(profile.pixel_block),
        "one_file_per": "layer" if plan.merge else "tile",
        "flat": plan.flat,
        **({"renumber": True} if plan.renumber else {}),
        "layouts": {layout.name: layout.to_record() for layout in plan.layouts},
        "layers": {layer.name: _layer(layer) for layer in plan.layers},
    }


def _layer(layer: LayerFiles) -> dict[str, Any]:
    mapping = layer.mapping
    selection = {axis: list(labels) for axis, labels in mapping.selection.items()}
    return {"spec": mapping.spec.to_dict(), "selection": selection, "sums_all": mapping.sums_all}


def _block(opening: str, lines: Iterable[str], closing: str) -> str:
    """Return JSON items, a line each, in brackets."""
    return opening + "\n" + ",\n".join(lines) + "\n" + closing


def _value_text(value: Any) -> str:
    """Return JSON with a line for each entry of a table of tables."""
    if isinstance(value, Mapping) and value and all(isinstance(item, Mapping) for item in value.values()):
        return _block("{", (f"  {json.dumps(key)}: {json.dumps(item)}" for key, item in value.items()), " }")
    return json.dumps(value)


def _set_text(group: WrittenGroup, written: WrittenSet, tiled: bool) -> str:
    files, word = written.files, written.files.placement.word
    head = {
        "layout": files.layout.name,
        "role": files.layout.role,
        "directory": written.directory,
        "source": _source(group, written, tiled),
        "radix": FORMATS[files.layout.format].radix,
        "words": files.memory.words,
        "lines": files.placement.lines,
        **_cut(files),
        "word_bits": word.width,
        "lanes": word.lanes,
        "lane_bits": word.field.bits,
        "signed": word.field.signed,
        "axes": dict(files.placement.placed),
        "inexact": written.inexact.total,
        "inexact_operands": sum(written.operands.values()),
    }
    labels = "".join(f', "{axis}": {{}}' for axis in files.labels)
    line = f'    {{{{"name": "{{}}", "sha256": "{{}}"{labels}}}}}'
    entries = (line.format(name, sha256, *at) for name, sha256, at in written.written)
    return f'   {json.dumps(head)[:-1]}, "files": {_block("[", entries, "   ]}")}'


def _cut(files: FileSet) -> dict[str, int]:
    """Return how many beats cut a word of a set, and which of the bits on an axis is the sign, where that is so."""
    beats, field = files.placement.beats, files.layout.field
    cut = {} if beats is None else {"beats": beats.count}
    return cut | ({"sign_bit": field.bits - 1} if BIT in files.placement.axes and field.signed else {})


def _source(group: WrittenGroup, written: WrittenSet, tiled: bool) -> dict[str, Any] | None:
    """Return the dataset of the store that a set holds or is made from; None for addresses, which are geometry."""
    role = written.files.role
    dataset = role.tile_dataset if tiled and role.tile_dataset else role.dataset
    if dataset is None:
        return None
    image = {} if group.image is None else {"image": group.image}
    return {"dataset": f"layers/{group.layer.name}/{dataset}"} | image


@dataclass
class _InexactCounts:
    """What is not what it stands for: codes by layer and operand, sums and values of lanes by layer and layout."""

    plan: ExportPlan

    def __post_init__(self):
        self._unseen: dict[tuple[str, str], Counter[int | None]] = {}
        self._made: Counter[tuple[str, Layout]] = Counter()
        self._lane: Counter[tuple[str, Layout]] = Counter()

    def add(self, group: WrittenGroup) -> None:
        """Add what a group's sets say."""
        for written in group.sets:
            at = group.layer.name, written.files.layout
            self._made[at] += written.inexact.made
            self._lane[at] += written.inexact.lane
            for name, count in written.operands.items():  # the same codes for each set of the group: count them once
                own = None if not ROLES[name].per_image else group.image
                self._unseen.setdefault((group.layer.name, name), Counter())[own] = count

    def warnings(self) -> Iterator[str]:
        """Yield a line for each layer and layout, or operand, with values that are not what they stand for."""
        done = {"wrap": "wrapped", "saturate": "saturated"}.get(self.plan.overflow)
        limit = f"{self.plan.array.psum_bits} bits and were {done}"
        for (layer, name), counts in self._unseen.items():
            if count := counts.total():
                yield (
                    f"{layer}: {count} {name} codes do not fit {self.plan.profile.fields[name]}; the array reads their "
                    f"low bits, and the outputs follow from those"
                )
        for (layer, layout), count in self._made.items():
            role = ROLES[layout.role]
            if count and role.follows:
                yield f"{layer}: {count} sums of {layout.name} do not fit {limit}"
            elif count + self._lane[layer, layout] and not role.follows:
                yield _lane_warning(layer, layout, count + self._lane[layer, layout])
            if self._lane[layer, layout] and role.follows:
                yield _lane_warning(layer, layout, self._lane[layer, layout])


def _lane_warning(layer: str, layout: Layout, count: int) -> str:
    follow = ", and the outputs follow from those" if ROLES[layout.role].operand is not None else ""
    return f"{layer}: {count} {layout.name} codes do not fit {layout.field}; the files hold their low bits{follow}"
