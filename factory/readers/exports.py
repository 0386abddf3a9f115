"""Memory files as coded layers: an export of ours, or a folder of foreign files that a profile describes.

The way back needs no inverse of a layout: numbers that count a vector's values are laid into files as the values would
be, and say of each lane which value it holds. In the same way they say which code each value of a vector is.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from math import prod
from pathlib import Path

import numpy as np
from jaxtyping import Int64

from factory.arithmetic.labelled import Axis, LabelledArray
from factory.dataflow import ROLES, KnownLayer, LayerMapping, LayerVectors
from factory.fileplan import ExportOptions, ExportPlan, FileSet, LayerFiles, layer_files, read_plan
from factory.manifest import MANIFEST
from factory.memfile import Profile
from factory.memfile.named import BIT
from factory.readers.arrays import code_bits
from factory.spec import GIVEN, CodedLayer, CodedNetwork, ConvLayer, InputError, SystolicArray, read_toml, typed_values


def read_export(
    directory: Path,
    description: Path | None = None,
    options: ExportOptions | None = None,
    array: SystolicArray | None = None,
) -> CodedNetwork:
    """Return the codes that memory files hold, as the array reads them; what follows from codes is recomputed.

    The folder is an export with its manifest, or else foreign files: then `options` give the profile, `array` the size
    of the array, and the tables `[layers.<name>]` of the TOML file `description` the layers' geometry, by the fields of
    `ConvLayer`. Files lie where an export would have them, those of one layer also straight in the folder. A line for
    each other kind of file says how many of its values are what the codes give. Raise InputError where a file is
    missing or damaged, or the files of a layer do not hold all of its codes.
    """
    if not directory.is_dir():
        raise InputError(f"{directory}: must be a folder of memory files, it is not there")
    if (directory / MANIFEST).is_file():
        plan = read_plan(directory)
    elif description is None or options is None:
        raise InputError(
            f"{directory}: must have {MANIFEST}, or a profile and a description of its layers must be given"
        )
    else:
        plan = _foreign_plan(directory, description, options, array or SystolicArray())
    layers, notes = [], []
    for layer in plan.layers:
        made = _coded_layer(directory, plan, layer)
        layers.append(made)
        notes += _compared(directory, plan, layer, made)
    images = tuple(f"captured {directory.name} image {image}" for image in plan.images)
    return CodedNetwork(directory.name, tuple(layers), images, notes=tuple(notes))


def _foreign_plan(directory: Path, description: Path, options: ExportOptions, array: SystolicArray) -> ExportPlan:
    """Return the plan that would have written files, of which only those of the operands need be there."""
    profile = options.configured(array)
    specs = _read_geometry(description, profile)
    flat = len(specs) == 1 and not (directory / specs[0].name).is_dir()
    layers = []
    for spec in specs:
        mapping = options.map_layer(spec, array, profile)
        known = [layout for layout in profile.layouts if not ROLES[layout.role].of_next]
        whole = layer_files(tuple(known), mapping, profile.post, 0)
        kept = {
            files.layout.name for files in (*whole.own, *whole.of_image) if _is_there(directory, flat, whole, files)
        }
        layers.append(layer_files(tuple(layout for layout in known if layout.name in kept), mapping, profile.post, 0))
    plan = ExportPlan(
        profile=profile, layouts=profile.layouts, array=options.array(array), overflow=options.overflow,
        merge=options.merge, flat=flat, layers=tuple(layers), images=(0,),
    )  # fmt: skip
    return replace(plan, images=tuple(_images(directory, plan)))


def _read_geometry(path: Path, profile: Profile) -> list[ConvLayer]:
    """Return the layers that a TOML file describes, whose codes are as wide as the lanes where it does not say it."""
    try:
        tables = typed_values(read_toml(path, "description of layers"), {"layers": "table"}, ("layers",))["layers"]
        if not isinstance(tables, dict) or not tables or not all(isinstance(x, dict) for x in tables.values()):
            raise InputError("layers must be tables [layers.<name>], at least one")
        read = {ROLES[role].per_image: field for role, field in profile.fields.items()}
        bits = {each: min(max(field.bits, 1 if each else 2), 8) for each, field in read.items()}
        basis = ConvLayer(
            "basis", GIVEN, 1, 1, 3, 3, activation_bits=bits[True], signed=read[True].signed, weight_bits=bits[False],
            batch_norm=False,
        ).to_dict()  # fmt: skip
        return [ConvLayer.from_dict(basis | table | {"name": name}) for name, table in tables.items()]
    except InputError as error:
        raise InputError(f"{path}: {error}") from None


def _is_there(directory: Path, flat: bool, layer: LayerFiles, files: FileSet) -> bool:
    place = directory if flat else directory / layer.name
    image = 0 if files.role.per_image else None
    name, _ = next(files.files(image))
    inside = place / name if image is None or files.names_image or flat else place / f"image{image}" / name
    return inside.is_file()


def _images(directory: Path, plan: ExportPlan) -> Iterator[int]:
    """Yield the images of which there are files, from 0 on."""
    image = 0
    operands = [files for files in plan.layers[0].of_image if files.role.operand is not None]
    while operands and (image == 0 or not plan.flat or operands[0].names_image):
        name, _ = next(operands[0].files(image))
        if not (directory / plan.directory(plan.layers[0], image, operands[0]) / name).is_file():
            break
        yield image
        image += 1


def read_vector(
    directory: Path, plan: ExportPlan, layer: LayerFiles, image: int | None, files: FileSet
) -> LabelledArray:
    """Return the vector that a set of files holds; raise InputError where a file, or a copy, is not what it must be."""
    placement, where = files.placement, directory / plan.directory(layer, image, files)
    if BIT in placement.axes:
        raise InputError(f"{layer.name}: layout {files.layout.name}: bits that have an axis cannot be read back")
    lines = []
    for number, (name, _) in enumerate(files.files(image)):
        try:
            lines.append(files.read((where / name).read_bytes(), number, image))
        except OSError as error:
            raise InputError(f"{where / name}: must be a file of {files.role.name}: {error.strerror}") from None
        except InputError as error:
            raise InputError(f"{where / name}: {error}") from None
    lanes = np.concatenate(lines).astype(np.int64)
    vector, there = files.vector(lanes), files.places >= 0
    again = np.where(there, vector.values.reshape(-1)[files.places], 0)
    wrong = np.argwhere(lanes != again)
    if len(wrong):
        line, lane = map(int, wrong[0])
        what = "the same value as its other copies" if there[line, lane] else "0, it stands for nothing"
        raise InputError(f"{where}: {files.layout.name}: lane {lane} of word {line} of all files must be {what}")
    return vector


def _operand(
    directory: Path, plan: ExportPlan, layer: LayerFiles, image: int | None, files: FileSet, shape: tuple[int, ...]
) -> Int64[np.ndarray, "*shape"]:
    """Return the codes of a whole layer, of a shape, from the files of an operand."""
    vector = read_vector(directory, plan, layer, image, files)
    mapping = replace(layer.mapping, spec=replace(layer.mapping.spec, zero_point=0))
    counted = np.arange(1, prod(shape) + 1).reshape(shape)
    cut = mapping.cut_activation(counted) if files.role.per_image else mapping.cut_weight(counted)
    held = cut.arrange([Axis(axis) for axis in vector.axes]).values.reshape(-1)
    values = vector.values.reshape(-1)
    codes = np.zeros(prod(shape) + 1, np.int64)
    codes[held] = values
    there = np.zeros(prod(shape) + 1, bool)
    there[held] = True
    name = f"{layer.name}: {files.role.name}"
    if not there[1:].all():
        raise InputError(f"{name}: the files must hold every code, not {int(there[1:].sum())} of {prod(shape)}")
    border = (0, layer.mapping.spec.zero_point) if files.role.per_image else (0,)
    if not np.isin(values[held == 0], border).all():
        raise InputError(f"{name}: lanes that stand for no code must hold {' or '.join(map(str, sorted(set(border))))}")
    if (codes[held] != values)[held > 0].any():
        raise InputError(f"{name}: the files must hold the same code wherever it comes again")
    return codes[1:].reshape(shape)


def _coded_layer(directory: Path, plan: ExportPlan, layer: LayerFiles) -> CodedLayer:
    spec = layer.mapping.spec
    found = {files.role.name: files for files in (*layer.own, *layer.of_image) if files.role.operand is not None}
    for role in layer.mapping.fields:
        if role not in found:
            raise InputError(f"{directory}: {layer.name}: there must be files of {role}")
    maps = (spec.in_channels, spec.height, spec.width)
    shapes = {role: maps if files.role.per_image else spec.weight_shape for role, files in found.items()}
    codes = {
        role: np.stack([
            _operand(directory, plan, layer, image, files, shapes[role])
            for image in (plan.images if files.role.per_image else (None,))
        ])
        for role, files in found.items()
    }  # fmt: skip
    activation, weight = (
        next(codes[role] for role, files in found.items() if files.role.per_image is each) for each in (True, False)
    )
    for name, values, low, high in (("weight", weight, -128, 127), ("activation", activation, -128, 255)):
        if values.min() < low or values.max() > high:
            found = f"{values.min()} to {values.max()}"
            raise InputError(f"{layer.name}: {name} codes must be {low} to {high}, those of the files are {found}")
    spec = _holding(replace(spec, source=GIVEN, batch_norm=False, pool=1), weight, activation)
    origin = f"captured from files of profile {plan.profile.name} ({plan.profile.dataflow})"
    return CodedLayer(spec, weight[0].astype(np.int8), activation.astype(np.int16), origin)


def _holding(spec: ConvLayer, weight: np.ndarray, activation: np.ndarray) -> ConvLayer:
    """Return the layer as it is described where that holds the codes, else with the sign and bits that they need."""
    low, high = spec.code_range
    if activation.min() < low or activation.max() > high:
        signed = bool(activation.min() < 0)
        spec = replace(spec, signed=signed, activation_bits=code_bits(activation, signed))
    return replace(spec, weight_bits=max(spec.weight_bits, code_bits(weight, True)))


def _compared(directory: Path, plan: ExportPlan, layer: LayerFiles, made: CodedLayer) -> Iterator[str]:
    """Yield a line for each set of files that follow from the codes: how many of its values they give."""
    mapping: LayerMapping = replace(layer.mapping, spec=made.spec)
    vectors = LayerVectors(mapping, KnownLayer(made.spec, made.weight, made.activation), post=plan.profile.post)
    for files in layer.of_image:
        if not files.role.follows or files.role.of_next:
            continue
        equal = total = 0
        first = ""
        for place, image in enumerate(plan.images):
            found = read_vector(directory, plan, layer, image, files)
            order = [Axis(axis) for axis in found.axes]
            for expected in files.role.values(vectors.of_image(place), ""):
                wanted = files.layout.field.wrap(expected.arrange(order).values)[0].reshape(found.values.shape)
                wrong = np.argwhere(wanted != found.values)
                equal, total = equal + wanted.size - len(wrong), total + wanted.size
                if len(wrong) and not first:
                    at = tuple(wrong[0])
                    labels = {axis: found.label(axis)[i] for axis, i in zip(found.axes, at, strict=True)}
                    address = vectors.of_image(image).where.at(**labels)
                    first = f"; first: {address}: {found.values[at]}, the codes give {wanted[at]}"
        yield f"{layer.name}: {files.layout.name}: {equal} of {total} values are what the codes give{first}"
