"""From a manifest back to the plan that wrote it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from factory.arithmetic.adders import Adder
from factory.arithmetic.bits import CODES, Field
from factory.arithmetic.labelled import Selection, axes
from factory.dataflow import EdgeSchedule, LayerMapping
from factory.fileplan.files import ExportPlan, LayerFiles, layer_files
from factory.manifest import MANIFEST, Manifest, open_manifest
from factory.memfile import Align, Layout, Profile, Split
from factory.spec import ComparisonError, ConvLayer, InputError, SystolicArray


def read_plan(directory: Path) -> ExportPlan:
    """Return the plan of the export in a folder; raise InputError where there is none, or its manifest is damaged."""
    manifest = open_manifest_of_input(directory)
    try:
        return _plan(manifest)
    except (ComparisonError, InputError) as error:
        raise InputError(f"{directory}: {error}") from None
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{directory}: {MANIFEST}: must describe an export: {error!r}") from None


def open_manifest_of_input(directory: Path) -> Manifest:
    """Return the manifest of an export that a user gave; raise InputError where it is damaged, too."""
    try:
        return open_manifest(directory)
    except ComparisonError as error:
        raise InputError(f"{directory}: {error}") from None


def _plan(manifest: Manifest) -> ExportPlan:
    facts = manifest.facts
    pe, simd = facts["pe"], facts["array"]["simd"]
    layouts = tuple(map(_layout, facts["layouts"].values()))
    array = SystolicArray(facts["array"]["rows"] * simd, facts["array"]["cols"], pe["psum_bits"])
    profile = Profile(
        facts["profile"], facts["dataflow"], layouts, simd=simd, post=facts["post"],
        pixel_block=tuple(facts["pixel_block"]),
    )  # fmt: skip
    written, images = _written(manifest)
    renumber = facts.get("renumber", False)
    return ExportPlan(
        profile=profile,
        layouts=layouts,
        array=array,
        overflow=pe["overflow"],
        merge=facts["one_file_per"] == "layer",
        flat=facts["flat"],
        layers=tuple(
            _layer(facts, name, profile, array, written[name], images if renumber else None)
            for name in facts["layers"]
            if name in written
        ),
        images=images,
        renumber=renumber,
    )


def _layout(record: Mapping[str, Any]) -> Layout:
    values = {name: tuple(value) if isinstance(value, list) else value for name, value in record.items()}
    values |= {name: axes(*record[name]) for name in ("files", "lines", "lanes")}
    for name, kind in (("split", Split), ("align", Align)):
        values[name] = tuple(kind(**item) for item in record.get(name, ()))
    if "edge" in record:
        edge = {name: tuple(value) if isinstance(value, list) else value for name, value in record["edge"].items()}
        values["edge"] = EdgeSchedule(**edge)
    return Layout(**values)


def _written(manifest: Manifest) -> tuple[dict[str, dict[str, int]], tuple[int, ...]]:
    """Return the names of each layer's layouts with how many levels its files have, and the images."""
    written: dict[str, dict[str, int]] = {}
    images: dict[int, None] = {}
    for group in manifest.groups():
        layouts = written.setdefault(group["layer"], {})
        layouts.update({files["layout"]: files["axes"].get("level", 0) for files in group["sets"]})
        if group["image"] is not None:
            images.setdefault(group["image"])
    return written, tuple(images)


def _layer(
    facts: Mapping[str, Any],
    name: str,
    profile: Profile,
    array: SystolicArray,
    written: Mapping[str, int],
    renumbered: tuple[int, ...] | None,
) -> LayerFiles:
    record, pe = facts["layers"][name], facts["pe"]
    spec = ConvLayer.from_dict(record["spec"], f"{MANIFEST}: {name}: spec: ")
    selection = Selection({axis: tuple(labels) for axis, labels in record["selection"].items()})
    adder = Adder(pe["psum_bits"], pe["overflow"])
    fields = {  # those of the whole profile, of which the export may have a part
        role: Field(pe[f"{role}_bits"], pe[f"{role}_signed"], pe.get(f"{role}_code", CODES[0]))
        for role in profile.fields
    }
    mapping = LayerMapping(profile.flow, spec, array, selection, fields, adder, profile.pixel_block)
    layouts = tuple(layout for layout in profile.layouts if layout.name in written)
    return layer_files(layouts, mapping, profile.post, max(written.values(), default=0), renumbered)
