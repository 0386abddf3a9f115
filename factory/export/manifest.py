"""The manifest of an export: every file, what it holds, and what that was made from, as JSON.

`factory/schemas/manifest.schema.json` describes it. It names no path, time or machine: the same store and options give
the same bytes.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import IO, Any

import factory
from factory.export.plan import LayerPlan, Plan
from factory.export.source import ExportSource
from factory.export.write import Group, WrittenSet
from factory.manifest import SCHEMA
from factory.memfile import FORMATS, ROLES, Layout

_PIECE = 1 << 20
_DATASETS = {
    "activation": "activation",
    "weight": "weight",
    "psum": "psum",
    "partial": "psum",
    "conv": "conv",
    "out": "conv",
    "next": "conv",
    "threshold": "threshold",
    "direction": "direction",
    "address": None,
}


@dataclass(frozen=True)
class ExportSummary:
    """What an export wrote: `wrapped` values are not what they stand for, as `warnings` tell."""

    directory: Path
    pack_id: str
    files: int
    words: int
    bytes: int
    wrapped: int
    warnings: tuple[str, ...]


@dataclass(frozen=True)
class Manifest:
    """A manifest: `head` is its facts, `groups` a file with the text of its groups of files."""

    head: Mapping[str, Any]
    groups: IO[bytes]

    def pieces(self) -> Iterator[bytes]:
        """Yield the JSON document piece by piece, a line for each fact and for each file."""
        lines = (f" {json.dumps(key)}: {_value_text(value)},\n" for key, value in self.head.items())
        yield f'{{\n{"".join(lines)} "groups": [\n'.encode()
        self.groups.seek(0)
        yield from iter(partial(self.groups.read, _PIECE), b"")
        yield b"\n ]\n}\n"

    def with_testbench(self, files: Mapping[str, bytes]) -> Manifest:
        """Return the manifest with the files of a testbench, by path, listed too."""
        listed = [{"path": path, "sha256": hashlib.sha256(data).hexdigest()} for path, data in sorted(files.items())]
        return Manifest({**self.head, "testbench": listed}, self.groups)

    def summary(self, directory: Path) -> ExportSummary:
        """Return the summary of what was written to `directory`."""
        counts, warnings = self.head["counts"], tuple(self.head["warnings"])
        return ExportSummary(directory, self.head["pack_id"], **counts, warnings=warnings)


def record(store: ExportSource, plan: Plan, groups: Iterable[Group], spool: IO[bytes]) -> Manifest:
    """Return the manifest of a plan's groups, which are taken one by one as they are written.

    The text of the groups goes to `spool`, because there can be more files than memory holds the names of.
    """
    contents, counts, wrapped = hashlib.sha256(), Counter(), Counter()
    for place, group in enumerate(groups):
        for written in group.sets:
            contents.update(_listing(written))
            files = len(written.written)
            counts.update(files=files, words=files * written.files.memory.words, bytes=written.bytes)
            wrapped[group.layer.name, written.files.layout] += written.wrapped
        spool.write((",\n" * bool(place) + _group_text(store, group)).encode())
    head = {"schema": SCHEMA, "pack_id": contents.hexdigest()} | _head(store, plan)
    head["counts"] = {**counts, "wrapped": wrapped.total()}
    head["warnings"] = [*plan.warnings, *_warnings(plan, wrapped)]
    return Manifest(head | {"testbench": []}, spool)


def _listing(written: WrittenSet) -> bytes:
    """Return the files as `sha256sum` lists them; the pack id is the sha256 of the listing of all files."""
    folder = f"{written.directory}/" if written.directory else ""
    return "".join(f"{file.sha256}  {folder}{file.name}\n" for file in written.written).encode()


def _head(store: ExportSource, plan: Plan) -> dict[str, Any]:
    request, profile = plan.request, plan.request.profile
    bits, signed = profile.field("activation")
    weight_bits, weight_signed = profile.field("weight")
    array = request.array
    return {
        "generator": {"name": "factory", "version": factory.__version__},
        "store": store.path.name,
        "network": store.network.name,
        "weights_sha256": store.weights_sha256,
        "image_source": store.image_source,
        "dataflow": profile.dataflow,
        "profile": profile.name,
        "array": {"rows": array.rows // profile.simd, "cols": array.cols, "simd": profile.simd},
        "pe": {
            "activation_bits": bits,
            "activation_signed": signed,
            "weight_bits": weight_bits,
            "weight_signed": weight_signed,
            "psum_bits": array.psum_bits,
            "overflow": request.overflow,
        },
        "post": profile.post,
        "pixel_block": list(profile.pixel_block),
        "one_file_per": "layer" if request.merge else "tile",
        "flat": request.flat,
        "layouts": {layout.name: asdict(layout) for layout in request.layouts},
        "layers": {layer.name: _layer(layer) for layer in plan.layers},
    }


def _layer(layer: LayerPlan) -> dict[str, Any]:
    tiles = {axis: list(places) for axis, places in vars(layer.flow.tiles).items() if places}
    return {"conv": asdict(layer.flow.spec), "tiles": tiles, "sums_all": layer.flow.sums_all}


def _block(opening: str, lines: Iterable[str], closing: str) -> str:
    """Return JSON items, a line each, in brackets."""
    return opening + "\n" + ",\n".join(lines) + "\n" + closing


def _value_text(value: Any) -> str:
    """Return JSON with a line for each entry of a table of tables."""
    if isinstance(value, Mapping) and value and all(isinstance(item, Mapping) for item in value.values()):
        return _block("{", (f"  {json.dumps(key)}: {json.dumps(item)}" for key, item in value.items()), " }")
    return json.dumps(value)


def _group_text(store: ExportSource, group: Group) -> str:
    head = {"layer": group.layer.name, "image": group.image}
    if group.image is not None:
        head["source_index"] = int(store.images.source_index[group.image])
    sets = (_set_text(group, written) for written in group.sets)
    return f'  {json.dumps(head)[:-1]}, "sets": {_block("[", sets, "  ]}")}'


def _set_text(group: Group, written: WrittenSet) -> str:
    files, memory = written.files, written.files.memory
    head = {
        "layout": files.layout.name,
        "role": files.layout.role,
        "directory": written.directory,
        "source": _source(group, written),
        "radix": FORMATS[files.layout.format].radix,
        "words": memory.words,
        "lines": files.lines,
        "word_bits": memory.word_bits,
        "lanes": memory.lanes,
        "lane_bits": memory.lane_bits,
        "signed": memory.signed,
        "axes": dict(files.sizes),
        "wrapped": written.wrapped,
    }
    place = "".join(f', "{axis}": {{}}' for axis in files.places)
    line = f'    {{{{"name": "{{}}", "sha256": "{{}}"{place}}}}}'
    entries = (line.format(name, sha256, *place) for name, sha256, place in written.written)
    return f'   {json.dumps(head)[:-1]}, "files": {_block("[", entries, "   ]}")}'


def _source(group: Group, written: WrittenSet) -> dict[str, Any] | None:
    """Return the dataset of the store that a set holds or is made from; None for addresses, which are geometry."""
    dataset = _DATASETS[written.files.layout.role]
    if dataset is None:
        return None
    if dataset in ("activation", "weight") and group.layer.tiled:
        dataset += "_tile"
    return {"dataset": f"layers/{group.layer.name}/{dataset}"} | ({} if group.image is None else {"image": group.image})


def _warnings(plan: Plan, wrapped: Mapping[tuple[str, Layout], int]) -> Iterable[str]:
    """Yield a line for each layer and layout with values that are not what they stand for."""
    done = {"wrap": "wrapped", "saturate": "saturated"}.get(plan.request.overflow)
    limit = f"{plan.request.array.psum_bits} bits and were {done}"
    for (layer, layout), count in wrapped.items():
        if not count:
            continue
        if ROLES[layout.role].sums:
            yield f"{layer}: {count} sums of {layout.name} do not fit {limit}"
        else:
            kind = "signed" if layout.signed else "unsigned"
            yield (
                f"{layer}: {count} {layout.name} codes do not fit {layout.lane_bits} bits {kind}; the files hold their "
                f"low bits{', and the outputs follow from those' if layout.role in ('activation', 'weight') else ''}"
            )
