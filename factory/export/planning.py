"""From options and a source to the plan of an export, and to the vectors that its files hold."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from factory.arithmetic.bits import Field
from factory.dataflow import ROLES, LayerVectors, axes_of
from factory.dataflow.vectors import TILE_AXES
from factory.fileplan import ExportOptions, ExportPlan, LayerFiles, layer_files
from factory.fileplan.options import parse_indices
from factory.memfile import Layout, Profile
from factory.spec import GIVEN, ConvLayer, InputError, Network
from factory.store import LayerStore

_LONGEST_NAME = 30


def plan_export(source: LayerStore, options: ExportOptions) -> ExportPlan:
    """Return the plan of an export; raise InputError where the options do not fit the source."""
    specs = _chosen_layers(source, options)
    images = parse_indices(options.image_places, source.image_count, "images")
    if options.flags is not None:
        specs, images = _with_flags(source, options.flags, specs, images)
    profile, warnings = _fitted(options.configured(source.array), specs, options)
    layouts = profile.select(options.included)
    layers = []
    for spec in specs:
        layer, said = _plan_layer(source, spec, options, profile, layouts, images if options.renumber else None)
        layers.append(layer)
        warnings += said
    if not any(layer.own or layer.of_image for layer in layers):
        raise InputError(f"the export must hold at least one file: {'; '.join(warnings)}")
    if options.flat and len(layers) > 1:
        raise InputError(f"flat must be given with one layer, not {len(layers)}")
    if options.flat and len(images) > 1 and not all(files.names_image for files in layers[0].of_image):
        raise InputError(f"flat must be given with one image, not {len(images)}")
    return ExportPlan(
        profile=profile,
        layouts=layouts,
        array=options.array(source.array),
        overflow=options.overflow,
        merge=options.merge,
        flat=options.flat,
        layers=tuple(layers),
        images=images,
        renumber=options.renumber,
        warnings=(*warnings, *_long_names(layers, images)),
    )


def _chosen_layers(source: LayerStore, options: ExportOptions) -> tuple[ConvLayer, ...]:
    """Return the selected layers, in the network's order; `all` is every layer of the source."""
    chosen = source.network.select(options.layer_names, source.layers, f"{source.path}: ")
    return tuple(source.layer(spec.name).spec for spec in chosen)


def _with_flags(
    source: LayerStore, flags: str, specs: tuple[ConvLayer, ...], images: tuple[int, ...]
) -> tuple[tuple[ConvLayer, ...], tuple[int, ...]]:
    """Return the layers that have one of the flags, and the images that have one, of those that are chosen."""
    patterns = {name: getattr(layer, "pattern", None) for name, layer in source.layers.items()}
    of_layers = {name: pattern.flags for name, pattern in patterns.items() if pattern}
    of_images = {place: pattern.flags for place, pattern in enumerate(getattr(source.images, "patterns", ()))}
    known = sorted({flag for held in (*of_layers.values(), *of_images.values()) for flag in held})
    words = [word.strip() for word in flags.split(",") if word.strip()]
    wrong = [word for word in words if word not in known]
    if wrong or not words:
        raise InputError(f"flags must be of {' '.join(known) or 'a synthetic store'}, not {flags}")
    chosen = _having(words, of_layers, [spec.name for spec in specs])
    places = _having(words, of_images, images)
    if not chosen or not places:
        none = "image" if chosen else "layer"
        raise InputError(f"flags must select at least one of the chosen {none}s, {flags} selects none")
    return tuple(spec for spec in specs if spec.name in chosen), tuple(places)


def _having(words: list[str], flags: Mapping[Any, tuple[str, ...]], chosen: Sequence[Any]) -> list[Any]:
    """Return those of `chosen` that have one of the words; all of them where no word is a flag of their kind."""
    if not any(set(words) & set(held) for held in flags.values()):
        return list(chosen)
    return [key for key in chosen if set(words) & set(flags[key])]


def _plan_layer(
    source: LayerStore,
    spec: ConvLayer,
    options: ExportOptions,
    profile: Profile,
    layouts: tuple[Layout, ...],
    renumbered: tuple[int, ...] | None,
) -> tuple[LayerFiles, list[str]]:
    threshold, warnings = source.layer(spec.name).threshold, []
    if threshold is None and any(ROLES[layout.role].of_next for layout in layouts):
        layouts = tuple(layout for layout in layouts if not ROLES[layout.role].of_next)
        enters = isinstance(source.network, Network) and spec.name in source.network.entering
        why = "it enters a residual stream" if enters else "no layer follows it"
        warnings.append(f"{spec.name}: {why}, so that it has no thresholds and no next codes")
    mapping = options.map_layer(spec, source.array, profile)
    layer = layer_files(layouts, mapping, profile.post, 0 if threshold is None else threshold.shape[1], renumbered)
    if layer.of_image and spec.signed and not mapping.fields["activation"].signed:
        raise InputError(
            f"{spec.name}: its activation codes are signed, the array reads them unsigned; add pe_activation signed",
            options=("pe_activation",),
        )
    if any(files.role.totals for files in layer.of_image) and not mapping.sums_all:
        warnings.append(f"{spec.name}: the outputs sum over the selected input channels and kernel positions only")
    return layer, warnings


def _fitted(profile: Profile, specs: Iterable[ConvLayer], options: ExportOptions) -> tuple[Profile, list[str]]:
    """Return the default profile with lanes that hold the codes that were given, and a line for each that this changes.

    Codes of a lowered network wrap in lanes that are too narrow, as the notebook's do, which is counted; and whoever
    names a profile gets what it says.
    """
    given = [spec for spec in specs if spec.source == GIVEN]
    if options.profile is not None or not given:
        return profile, []
    own = profile.fields["activation"].signed
    signed = own if options.pe_activation is not None else any(spec.signed for spec in given)
    fields = {
        "activation": Field(max(spec.activation_bits + (signed and not spec.signed) for spec in given), signed),
        "weight": Field(max(spec.weight_bits for spec in given), True),
    }
    layouts = tuple(
        replace(layout, lane_bits=max(layout.lane_bits, fields[layout.role].bits), signed=fields[layout.role].signed)
        if layout.role in fields
        else layout
        for layout in profile.layouts
    )
    said = [
        f"{new.name}: its lanes are {new.field}, as the codes are, not the {old.field} of profile {profile.name}"
        for old, new in zip(profile.layouts, layouts, strict=True)
        if old != new
    ]
    return replace(profile, layouts=layouts), said


def _long_names(layers: list[LayerFiles], images: tuple[int, ...]) -> list[str]:
    sets = [files for layer in layers for files in (*layer.own, *layer.of_image)]
    longest = max((files.longest_name(max(images)) for files in sets), key=len)
    if len(longest) <= _LONGEST_NAME:
        return []
    return [
        f"file names of up to {len(longest)} characters, such as {longest}: common testbenches hold {_LONGEST_NAME}"
    ]


def _is_tiled(plan: ExportPlan, source: LayerStore, layer: str) -> bool:
    """Return whether a source's own tiles of a layer are the very tiles that the plan's array takes."""
    same = (plan.array.rows, plan.array.cols) == (source.array.rows, source.array.cols)
    operands = [role for role in ROLES.values() if role.operand is not None]
    axes = [set(axes_of(role, plan.profile.flow)) == set(TILE_AXES[role.tile_dataset]) for role in operands]
    return same and all(axes) and source.layer(layer).weight_tile is not None


def layer_vectors(plan: ExportPlan, source: LayerStore) -> dict[str, LayerVectors]:
    """Return each layer's vectors, of which nothing is read or computed before it is asked for."""
    return {
        layer.name: LayerVectors(
            mapping=layer.mapping,
            source=source.layer(layer.name),
            post=plan.profile.post,
            tiled=_is_tiled(plan, source, layer.name),
        )
        for layer in plan.layers
    }
