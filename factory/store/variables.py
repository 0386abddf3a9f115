"""The store's layout: which variables a file holds, their axes, sizes and dtypes, as records without I/O."""

from __future__ import annotations

import functools
import hashlib
import json
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Int32

import factory
from factory.spec import (
    ConvLayer,
    InputError,
    IntegerLayer,
    LayerSet,
    Pattern,
    Range,
    SystolicArray,
    TiledLayer,
    TrainedLayer,
)

SCHEMA = "factory-store/2"
SCHEMAS = ("factory-store/1", SCHEMA)
"""The schemas that are read; the last is written. Schema 1 had no `origin`, and the time of day in `created`."""
KINDS = ("lowered", "captured", "synthetic")
"""Where a store's integers come from: a network that was lowered, someone else, or a pattern."""
KEPT = ("psums", "codes")
"""What a store keeps of each image: everything, or the codes that all else follows from."""
FOLLOWING = ("activation_tile", "psum", "conv")
"""Variables that a store of codes alone does not have."""
PICTURE = "picture"
"""The origin of an image that is one of a set of pictures."""
COMPRESSIONS = ("gzip", "lz4", "zstd")

IMAGE_AXES = {
    "pixels": ("image", "colour", "y", "x"),
    "label": ("image",),
    "source_index": ("image",),
    "origin": ("image",),
    "flags": ("image",),
    "note": ("image",),
}
"""Axes of the images' variables. `pixels` are absent where no pictures made the codes, `IMAGE_PATTERN` where images are
not synthetic."""
IMAGE_PATTERN = ("flags", "note")
"""What an image is made for: words with commas, and a line. A synthetic layer has attributes of these names."""
LAYER_AXES = {
    "weight": ("oc", "ic", "ki", "kj"),
    "weight_tile": ("it", "ot", "kij", "col", "row"),
    "row_count": ("it",),
    "col_count": ("ot",),
    "activation_low": ("ic",),
    "activation_high": ("ic",),
    "activation": ("image", "ic", "y", "x"),
    "activation_tile": ("image", "it", "nij", "row"),
    "psum": ("image", "it", "ot", "kij", "nij", "col"),
    "conv": ("image", "oc", "oy", "ox"),
    "threshold": ("oc", "level"),
    "direction": ("oc",),
    "bias": ("oc",),
    "weight_step": ("oc",),
}
"""Axes of a layer's variables, in the file's order. Where the output map has the input map's size, `oy, ox` are named
`y, x`. `row_count`, `col_count`: the lanes of a tile that carry channels; those beyond are zero padding."""
OPTIONAL = ("threshold", "direction", "bias", "weight_step")
"""Variables of a layer that are absent where they mean nothing: the first two where no layer is known to follow."""
FLOATS = ("weight_step",)
"""Variables that hold real numbers."""
IN_CODE = {"conv": "accumulator"}
"""Variables of schema 1 that have another name in code."""


@dataclass(frozen=True)
class Variable:
    """One dataset: its path in the file, its axes' names, its shape and its dtype."""

    path: str
    axes: tuple[str, ...]
    shape: tuple[int, ...]
    dtype: np.dtype

    @property
    def by_image(self) -> bool:
        """Whether each image has its own part of the variable."""
        return self.axes[0] == "image"

    @property
    def nbytes(self) -> int:
        """Bytes of the whole variable, uncompressed."""
        return math.prod(self.shape) * self.dtype.itemsize


@dataclass(frozen=True)
class StorePlan:
    """All that decides a store's contents but the images' data: `create_store` writes it.

    `groups` maps each group's path (`""` is the root) to its attributes, `axes` to its axes' sizes; `variables` are in
    the file's order; `constants` holds, by path, the contents of those that do not depend on images. The scales of
    `image` count from `first_image` on.
    """

    groups: Mapping[str, Mapping[str, str | int | float]]
    axes: Mapping[str, Mapping[str, int]]
    variables: tuple[Variable, ...]
    constants: Mapping[str, np.ndarray]
    compression: str | None
    first_image: int = 0

    @property
    def image_count(self) -> int:
        """Number of images that the store will hold."""
        return self.axes["images"]["image"]

    @property
    def streamed(self) -> tuple[Variable, ...]:
        """The variables that are written image by image."""
        return tuple(
            variable for variable in self.variables if variable.by_image and variable.path not in self.constants
        )

    @property
    def nbytes(self) -> int:
        """Bytes of all variables, uncompressed."""
        return sum(variable.nbytes for variable in self.variables)

    @property
    def image_bytes(self) -> int:
        """Bytes of one image's part of the streamed variables, uncompressed."""
        return sum(variable.nbytes for variable in self.streamed) // self.image_count

    @functools.cached_property
    def digest(self) -> str:
        """The sha256 (hex) of the whole plan: two builds of equal digests write the same bytes."""
        layout = [(v.path, v.axes, v.shape, v.dtype.str) for v in self.variables]
        described = json.dumps([self.groups, self.axes, layout, self.compression, self.first_image], sort_keys=True)
        sha256 = hashlib.sha256(described.encode())
        for path in sorted(self.constants):
            sha256.update(np.ascontiguousarray(self.constants[path]).data)
        return sha256.hexdigest()


@dataclass(frozen=True)
class ImageOrigin:
    """Where a store's images come from: how many, a name, and the sha256 (hex) of what they are made of.

    `shape` is that of their pixels, `(colour, y, x)`; None: they have none. `each` says what each image is; empty: all
    are pictures. `patterns` say what each is made for, where they are synthetic. `first` is what the first is called
    on the axes of images: not 0 where they are part of more.
    """

    count: int
    source: str
    sha256: str
    shape: tuple[int, int, int] | None = None
    each: tuple[str, ...] = ()
    patterns: tuple[Pattern, ...] = ()
    first: int = 0


@dataclass(frozen=True)
class LayerOrigin:
    """Where a store's layers come from: one of `KINDS`, their description, and the sha256 (hex) of the weights."""

    kind: str
    network: LayerSet
    sha256: str


@dataclass(frozen=True)
class PlannedLayer:
    """A layer on the store's array, with what is kept of its meaning.

    `origin` says in a line who or what made its codes; `steps` are attributes, the real values of codes and clips by
    name; `bias` and `weight_step` are as in `CodedLayer`, of each output channel; `pattern` as there.
    """

    tiled: TiledLayer
    origin: str
    steps: Mapping[str, float]
    bias: Int32[np.ndarray, " oc"] | None = None
    weight_step: Float32[np.ndarray, " oc"] | None = None
    pattern: Pattern | None = None


def layer_path(name: str) -> str:
    """Return the path of a layer's group."""
    return f"layers/{name}"


def axis_sizes(spec: ConvLayer, array: SystolicArray, images: int) -> dict[str, int]:
    """Return the size of each axis of a layer's group."""
    sizes = dict(
        image=images, oc=spec.out_channels, ic=spec.in_channels, ki=spec.kernel[0], kj=spec.kernel[1],
        it=array.input_tiles(spec.in_channels), ot=array.output_tiles(spec.out_channels), kij=spec.kij_count,
        nij=spec.nij_count, row=array.rows, col=array.cols, y=spec.height, x=spec.width,
    )  # fmt: skip
    return sizes if _keeps_size(spec) else sizes | dict(oy=spec.out_height, ox=spec.out_width)


def _keeps_size(spec: ConvLayer) -> bool:
    return (spec.out_height, spec.out_width) == (spec.height, spec.width)


def variable_axes(spec: ConvLayer, keep: str, present: Collection[str]) -> dict[str, tuple[str, ...]]:
    """Return the axes of each variable in the group of the layer `spec`, of the optional ones those `present`."""
    absent = set(OPTIONAL) - set(present)
    if keep == KEPT[1]:
        absent |= set(FOLLOWING)
    axes = LAYER_AXES | ({"conv": ("image", "oc", "y", "x")} if _keeps_size(spec) else {})
    return {name: named for name, named in axes.items() if name not in absent}


def activation_dtype(layer: IntegerLayer) -> np.dtype:
    """Return uint8 for a layer whose codes have no sign, else the narrower of int8 and int16 that holds its range."""
    if not layer.spec.signed:
        return np.dtype(np.uint8)
    info = np.iinfo(np.int8)
    narrow = layer.activation_low.min() >= info.min and layer.activation_high.max() <= info.max
    return np.dtype(np.int8 if narrow else np.int16)


def layer_dtypes(layer: IntegerLayer, psum: Range) -> dict[str, np.dtype]:
    """Return the dtype of each variable of a layer; psums are int16 where their exact bound `psum` fits, else int32."""
    codes = activation_dtype(layer)
    wide = dict.fromkeys(("activation_low", "activation_high"), np.int16)
    narrow = dict.fromkeys(("weight", "weight_tile", "direction"), np.int8)
    counts = dict.fromkeys(("row_count", "col_count", "threshold", "conv"), np.int32)
    counts |= dict(bias=np.int32, weight_step=np.float32)
    named = wide | narrow | counts | dict(activation=codes, activation_tile=codes, psum=psum.dtype())
    return {name: np.dtype(dtype).newbyteorder("<") for name, dtype in named.items()}


def layer_attributes(planned: PlannedLayer) -> dict[str, str | int | float | list[int]]:
    """Return the attributes of a layer's group: geometry, bit widths, alphas, steps and exact bounds."""
    spec, psum, accumulator = planned.tiled.layer.spec, planned.tiled.psum, planned.tiled.layer.accumulator
    fields = {name: int(x) if isinstance(x, bool) else x for name, x in spec.to_dict(whole=True).items()}
    if not accumulator.fits(32):
        raise InputError(f"{spec.name}: accumulators must fit 32 bits, not {accumulator.low}..{accumulator.high}")
    return fields | dict(
        origin=planned.origin, out_height=spec.out_height, out_width=spec.out_width, **planned.steps,
        psum_low=psum.low, psum_high=psum.high,
        accumulator_low=accumulator.low, accumulator_high=accumulator.high, **_pattern(planned.pattern),
    )  # fmt: skip


def _pattern(pattern: Pattern | None) -> dict[str, str]:
    return {} if pattern is None else dict(flags=",".join(pattern.flags), note=pattern.note)


def lane_counts(channels: int, lanes: int) -> np.ndarray:
    """Return int32 `(tile,)`: how many of each tile's `lanes` carry one of `channels`."""
    starts = np.arange(0, channels, lanes)
    return np.minimum(lanes, channels - starts).astype(np.int32)


def lowered_layer(trained: TrainedLayer, tiled: TiledLayer) -> PlannedLayer:
    """Return what a store keeps of a layer that was lowered."""
    steps = dict(
        alpha_w=float(trained.alpha_w), alpha_a=float(trained.alpha_a),
        weight_step=float(trained.weight_scale), activation_step=float(trained.activation_scale),
    )  # fmt: skip
    return PlannedLayer(tiled, "lowered", steps)


def plan_store(
    origin: LayerOrigin,
    layers: Sequence[PlannedLayer],
    array: SystolicArray,
    images: ImageOrigin,
    compression: str | None = None,
    keep: str = KEPT[0],
) -> StorePlan:
    """Plan a store of some layers of a network, which are in the tiles of `array`; `keep` is one of `KEPT`."""
    if keep not in KEPT:
        raise InputError(f"keep must be one of {' '.join(KEPT)}, not {keep}")
    if compression not in (None, *COMPRESSIONS):
        raise InputError(f"compression must be one of {' '.join(COMPRESSIONS)}, not {compression}")
    groups: dict[str, dict] = {"": _root_attributes(origin, array, images, compression, keep), "images": {}}
    pixels = () if images.shape is None else zip(IMAGE_AXES["pixels"][1:], images.shape, strict=True)
    axes = {"images": dict(image=images.count) | dict(pixels)}
    constants = _image_texts(images)
    variables = _image_variables(images, axes["images"], constants)
    for planned in layers:
        tiled, spec = planned.tiled, planned.tiled.layer.spec
        group, contents = layer_path(spec.name), _layer_contents(planned, array)
        groups[group] = layer_attributes(planned)
        axes[group] = axis_sizes(spec, array, images.count)
        if tiled.layer.threshold is not None:
            axes[group] |= dict(level=tiled.layer.threshold.shape[1])
        present = [name for name in OPTIONAL if contents[name] is not None]
        dtypes = layer_dtypes(tiled.layer, tiled.psum)
        layer_variables = _variables(group, variable_axes(spec, keep, present), axes[group], dtypes)
        for variable in layer_variables:
            if not variable.by_image:
                constants[variable.path] = _exactly(variable, contents[variable.path.rpartition("/")[2]])
        variables += layer_variables
    return StorePlan(groups, axes, tuple(variables), constants, compression, images.first)


def _image_texts(images: ImageOrigin) -> dict[str, np.ndarray]:
    """Return what each image is and is made for, by path: all that is known of images before they are there."""
    texts = dict(origin=images.each or (PICTURE,) * images.count)
    texts |= {name: [_pattern(pattern)[name] for pattern in images.patterns] for name in IMAGE_PATTERN}
    return {f"images/{name}": np.array(text).astype("S") for name, text in texts.items() if text}


def _image_variables(images: ImageOrigin, sizes: Mapping[str, int], texts: Mapping[str, np.ndarray]) -> list[Variable]:
    dtypes = dict(pixels=np.dtype("u1"), label=np.dtype("<i2"), source_index=np.dtype("<i8"))
    dtypes |= {path.removeprefix("images/"): text.dtype for path, text in texts.items()}
    if images.shape is None:
        del dtypes["pixels"]
    return _variables("images", {name: axes for name, axes in IMAGE_AXES.items() if name in dtypes}, sizes, dtypes)


def _layer_contents(planned: PlannedLayer, array: SystolicArray) -> dict[str, np.ndarray | None]:
    """Return the contents of a layer's variables that no image changes; None where it has none."""
    layer, spec = planned.tiled.layer, planned.tiled.layer.spec
    return dict(
        weight=layer.weight, weight_tile=planned.tiled.weight_tile,
        row_count=lane_counts(spec.in_channels, array.rows), col_count=lane_counts(spec.out_channels, array.cols),
        activation_low=layer.activation_low, activation_high=layer.activation_high,
        threshold=layer.threshold, direction=layer.direction,
        bias=planned.bias, weight_step=planned.weight_step,
    )  # fmt: skip


def _root_attributes(
    origin: LayerOrigin, array: SystolicArray, images: ImageOrigin, compression: str | None, keep: str
) -> dict:
    return dict(
        schema=SCHEMA, factory_version=factory.__version__, origin=origin.kind, keep=keep,
        network=json.dumps(origin.network.to_dict()), weights_sha256=origin.sha256,
        array_rows=array.rows, array_cols=array.cols, psum_bits=array.psum_bits,
        image_source=images.source, image_sha256=images.sha256, compression=compression or "none",
    )  # fmt: skip


def _variables(
    group: str, axes: Mapping[str, tuple[str, ...]], sizes: Mapping[str, int], dtypes: Mapping[str, np.dtype]
) -> list[Variable]:
    return [
        Variable(f"{group}/{name}", named, tuple(sizes[axis] for axis in named), dtypes[name])
        for name, named in axes.items()
    ]


def _exactly(variable: Variable, values: np.ndarray) -> np.ndarray:
    """Return `values` in the variable's dtype; raise ValueError where shape or a value does not fit."""
    converted = values.astype(variable.dtype)
    if values.shape != variable.shape or not np.array_equal(converted, values):
        found = f"{values.shape} {values.dtype}"
        raise ValueError(f"{variable.path} must be {variable.shape} {variable.dtype}, not {found}")
    return converted
