"""From an export's manifest to its bench: which files are loaded, fed and compared, in which jobs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from factory.manifest import open_manifest
from factory.memfile import Layout, Split
from factory.spec import ComparisonError, ConvLayer, InputError
from factory.testbench.address import Held
from factory.testbench.jobs import Group, jobs_of
from factory.testbench.records import POST_OPS, Bench, Device, Job, Load, Stream

Manifest = Mapping[str, Any]
_LEAST_DEPTH = 1 << 16
_LEAST_PIXELS = 1 << 10
_STREAMS = {"activation": "act", "weight": "weight", "psum": "psum", "partial": "partial", "conv": "acc", "out": "out"}
_WORD_AXES = {
    "ws": {"act": "row", "weight": "row", "psum": "col", "partial": "col", "acc": "col", "out": "col"},
    "os": {"act": "px", "weight": "col", "acc": "col", "out": "col"},
}


def read_manifest(directory: Path) -> Manifest:
    """Return the manifest of an export; raise InputError where there is none, or one that its schema does not allow."""
    try:
        return open_manifest(directory).whole()
    except ComparisonError as error:
        raise InputError(f"{directory}: {error}") from None


def bench_of(manifest: Manifest) -> Bench:
    """Return the bench of an export, from its manifest (`factory/schemas/manifest.schema.json`).

    Raise InputError where the files are such that a testbench cannot read them, or where nothing would be compared.
    """
    layouts = _chosen_layouts(manifest)
    written = {files["layout"] for group in manifest["groups"] for files in group["sets"]}
    groups = list(_groups(manifest, layouts))
    if not groups:
        raise InputError("testbench: the export must include activation and weight")
    return Bench(
        device=_device(manifest, _depth(max(group.spec.onij_count for group in groups), _LEAST_PIXELS)),
        streams=_streams(groups),
        steps=tuple(_steps(groups)),
        unchecked=tuple(name for name in manifest["layouts"] if name in written.difference(layouts.values())),
    )


def _depth(words: int, least: int) -> int:
    """Return a memory's depth: a power of two, so that exports of one profile share a compiled simulation."""
    return max(least, 1 << (words - 1).bit_length())


def _chosen_layouts(manifest: Manifest) -> dict[str, str]:
    """Return the name of the layout that each stream reads: the first of its role that an array can give."""
    chosen: dict[str, str] = {}
    for name, layout in manifest["layouts"].items():
        stream = _STREAMS.get(layout["role"])
        if stream and (stream != "out" or manifest["post"] in POST_OPS):
            chosen.setdefault(stream, name)
    return chosen


def _groups(manifest: Manifest, layouts: Mapping[str, str]) -> Iterator[Group]:
    """Yield each layer and image that has activations, together with the layer's own weights."""
    array, flow = manifest["array"], manifest["dataflow"]
    sets = {(group["layer"], group["image"]): group["sets"] for group in manifest["groups"]}
    for (layer, image), own in sets.items():
        held = {
            stream: _held(manifest, by_name[name], _WORD_AXES[flow][stream])
            for by_name in [{item["layout"]: item for item in (*sets.get((layer, None), ()), *own)}]
            for stream, name in layouts.items()
            if name in by_name
        }
        if image is not None and {"act", "weight"} <= held.keys():
            described = manifest["layers"][layer]
            yield Group(
                spec=ConvLayer(**described["conv"]),
                image=image,
                dataflow=flow,
                rows=array["rows"],
                cols=array["cols"],
                post=manifest["post"] if manifest["post"] in POST_OPS else "none",
                places={axis: tuple(places) for axis, places in described["tiles"].items()},
                held=held,
            )


def _held(manifest: Manifest, files: Mapping[str, Any], word: str) -> Held:
    record = manifest["layouts"][files["layout"]] | {key: files[key] for key in ("lane_bits", "word_bits")}
    record["split"] = tuple(Split(**split) for split in record["split"])
    layout = Layout(**{name: tuple(value) if isinstance(value, list) else value for name, value in record.items()})
    folder = f"{files['directory']}/" if files["directory"] else ""
    paths = tuple(f"{folder}{entry['name']}" for entry in files["files"])
    return Held(layout, files["axes"], paths, files["words"], word)


def _device(manifest: Manifest, depth: int) -> Device:
    array, pe = manifest["array"], manifest["pe"]
    if not pe["weight_signed"]:
        raise InputError("testbench: weights must be signed, not unsigned")
    return Device(
        rows=array["rows"],
        cols=array["cols"],
        simd=array["simd"],
        act_bits=pe["activation_bits"],
        act_signed=pe["activation_signed"],
        weight_bits=pe["weight_bits"],
        psum_bits=pe["psum_bits"],
        acc_bits=pe["psum_bits"],
        saturate=pe["overflow"] == "saturate",
        depth=depth,
    )


def _streams(groups: Iterable[Group]) -> dict[str, Stream]:
    """Return the streams, deep enough for every group; raise InputError where two groups' words differ."""
    streams: dict[str, Stream] = {}
    for group in groups:
        for name, held in group.held.items():
            stream = held.stream
            before = streams.get(name, stream)
            depth = max(before.depth, _depth(stream.depth, _LEAST_DEPTH))
            if replace(before, depth=depth) != replace(stream, depth=depth):
                raise group.fail(
                    f"{held.layout.name} must have the same words in every layer, of {before.line_bits} bits, "
                    f"not {stream.line_bits}; export the layers one by one"
                )
            streams[name] = replace(stream, depth=depth)
    return streams


def _steps(groups: Iterable[Group]) -> Iterator[Load | Job]:
    """Yield the loads and jobs of each group; files that a stream still holds are not loaded again."""
    loaded: dict[str, Load] = {}
    for group in groups:
        for stream, held in group.held.items():
            load = Load(stream, held.paths, held.words)
            if loaded.get(stream) != load:
                loaded[stream] = load
                yield load
        yield from jobs_of(group)
