"""The plan of an export: which files there will be, and how each is made when it is written."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

from factory.dataflow import Dataflow, Vectors
from factory.export.fileset import FileSet, file_set
from factory.export.request import ExportRequest
from factory.export.source import ExportSource, LayerSource
from factory.memfile import ROLES
from factory.spec import InputError, SystolicArray

_LONGEST_NAME = 30
_OF_NEXT_LAYER = ("threshold", "direction", "next")


@dataclass(frozen=True)
class LayerPlan:
    """One layer's files: its own, and those of each image.

    `tiled` is whether the source's tiles are the very tiles of the profile's array.
    """

    source: LayerSource
    flow: Dataflow
    request: ExportRequest
    tiled: bool
    own: tuple[FileSet, ...]
    of_image: tuple[FileSet, ...]

    @property
    def name(self) -> str:
        """The layer's name."""
        return self.flow.spec.name

    def where(self, image: int | None) -> str:
        """Return the layer and image (None: no image's), for messages."""
        return self.name if image is None else f"{self.name}, image {image}"

    @cached_property
    def vectors(self) -> Vectors:
        """What the layer's own files hold."""
        source, flow, profile = self.source, self.flow, self.request.profile
        quantizer = None if source.threshold is None else (source.threshold[...], source.direction[...])
        if self.tiled:
            weight = flow.read_weight_tiles(source.weight_tile[...])
        else:
            weight = flow.read_weight(source.weight[...])
        return Vectors(flow, weight, None, quantizer, profile.post, profile.address_base, self.name)

    def image_vectors(self, image: int) -> Vectors:
        """Return what one image's files hold; psums are the stored ones where they are those of the files' codes."""
        source, flow = self.source, self.flow
        if self.tiled:
            activation = flow.read_activation_tiles(source.activation_tile[image])
        else:
            activation = flow.read_activation(source.activation[image])
        stored = self.tiled and flow.psums_fit and not activation.wrapped and not self.vectors.weight.wrapped
        return replace(
            self.vectors,
            activation=activation,
            where=self.where(image),
            stored_psums=(lambda part: source.psum[(image, *part)]) if stored else None,
        )


@dataclass(frozen=True)
class Plan:
    """All files of an export, by layer and image; nothing is computed before it is written."""

    request: ExportRequest
    layers: tuple[LayerPlan, ...]
    images: tuple[int, ...]
    warnings: tuple[str, ...]

    @property
    def file_count(self) -> int:
        """Number of files."""
        return sum(
            sum(files.count for files in layer.own) + len(self.images) * sum(files.count for files in layer.of_image)
            for layer in self.layers
        )

    @property
    def group_count(self) -> int:
        """Number of groups: of a layer itself, or of one of its images."""
        return sum(bool(layer.own) + bool(layer.of_image) * len(self.images) for layer in self.layers)

    def directory(self, layer: LayerPlan, image: int | None, files: FileSet) -> str:
        """Return the directory of a set of files, from the export's own, without a slash at its end."""
        if self.request.flat:
            return ""
        return layer.name if image is None or files.names_image else f"{layer.name}/image{image}"


def make_plan(store: ExportSource, request: ExportRequest) -> Plan:
    """Return the plan of an export; raise InputError where the request does not fit the store."""
    images, layers, warnings = request.select_images(store), [], []
    for spec in request.select_layers(store):
        layer, said = _plan_layer(store.layer(spec.name), store.array, request)
        layers.append(layer)
        warnings += said
    if not any(layer.own or layer.of_image for layer in layers):
        raise InputError(f"the export must hold at least one file: {'; '.join(warnings)}")
    if request.flat and len(layers) > 1:
        raise InputError(f"--flat must be given with one layer, not {len(layers)}")
    if request.flat and len(images) > 1 and not all(files.names_image for files in layers[0].of_image):
        raise InputError(f"--flat must be given with one image, not {len(images)}")
    return Plan(request, tuple(layers), images, (*warnings, *_long_names(layers, images)))


def _plan_layer(source: LayerSource, array: SystolicArray, request: ExportRequest) -> tuple[LayerPlan, list[str]]:
    spec, layouts, warnings = source.spec, request.layouts, []
    flow, post = request.dataflow(spec), request.profile.post
    if source.threshold is None and any(layout.role in _OF_NEXT_LAYER for layout in layouts):
        layouts = [layout for layout in layouts if layout.role not in _OF_NEXT_LAYER]
        warnings.append(f"{spec.name}: no layer follows it, so that it has no thresholds and no next codes")
    levels = 0 if source.threshold is None else source.threshold.shape[1]
    sets = [file_set(layout, flow, post, levels) for layout in layouts]
    of_image = tuple(files for files in sets if ROLES[files.layout.role].per_image)
    own = tuple(files for files in sets if not ROLES[files.layout.role].per_image)
    if of_image and spec.signed and not request.profile.activation_signed:
        raise InputError(
            f"{spec.name}: its activation codes are signed, the array reads them unsigned; add --pe-activation signed"
        )
    if not flow.sums_all and any(files.layout.role not in ("activation", "psum") for files in of_image):
        warnings.append(f"{spec.name}: the outputs sum over the selected input channels and kernel positions only")
    same = (request.array.rows, request.array.cols) == (array.rows, array.cols)
    tiled = same and request.profile.dataflow == "ws" and source.weight_tile is not None
    return LayerPlan(source, flow, request, tiled, own, of_image), warnings


def _long_names(layers: list[LayerPlan], images: tuple[int, ...]) -> list[str]:
    sets = [files for layer in layers for files in (*layer.own, *layer.of_image)]
    longest = max((files.longest_name(max(images)) for files in sets), key=len)
    if len(longest) <= _LONGEST_NAME:
        return []
    return [
        f"file names of up to {len(longest)} characters, such as {longest}: common testbenches hold {_LONGEST_NAME}"
    ]
