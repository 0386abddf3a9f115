"""The reader of stores: layers and images as records of datasets, which are read from the file when they are sliced."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import h5py
import numpy as np
from jaxtyping import Float, Integer

from factory.spec import ConvLayer, InputError, LayerSet, Network, Pattern, Range, SystolicArray
from factory.store.hdf5 import HELD, UNREADABLE, open_finished, require_plugin
from factory.store.lazy import LayerCodes, LazyArray
from factory.store.variables import (
    FLOATS,
    FOLLOWING,
    IMAGE_AXES,
    IMAGE_PATTERN,
    IN_CODE,
    KEPT,
    KINDS,
    OPTIONAL,
    PICTURE,
    SCHEMA,
    SCHEMAS,
    axis_sizes,
    layer_path,
    variable_axes,
)
from factory.store.writer import partial_folder
from factory.tables import html_table

if TYPE_CHECKING:
    import xarray

_ATTRIBUTES = ("compression", "network", "weights_sha256", "image_source", "array_rows", "array_cols", "psum_bits")
_TEXTS = ("compression", "network", "weights_sha256", "image_source")
_BOUNDS = ("psum", "accumulator")
_ALPHAS = ("alpha_w", "alpha_a")

Values = h5py.Dataset | np.ndarray | LazyArray
"""What is sliced as an array: a dataset of an open file, an array in memory, or one that is computed."""


@dataclass(frozen=True)
class StoredImages:
    """The images of a store.

    `label` is -1 for an image that has none, `source_index` each image's place in its source, `origin` says what each
    is; `pixels` are None where no pictures made the codes. `patterns` say what each image is made for, where they are
    synthetic.
    """

    pixels: Integer[Values, "image colour y x"] | None
    label: Integer[Values, " image"]
    source_index: Integer[Values, " image"]
    origin: tuple[str, ...]
    patterns: tuple[Pattern, ...] = ()


@dataclass(frozen=True)
class StoredLayer:
    """One layer of a store. Slice its datasets as NumPy arrays; only the slice is read.

    `row_count` and `col_count` are the lanes that are not zero padding, `activation_low` and `activation_high` the
    codes' closed range. The file calls the `accumulator` `conv`, and its axes `y, x` where its map has the size of
    the layer's. `threshold` and `direction` are None for a layer that no other follows. The types are those of
    `layer_dtypes`; integers of another width are read as well. `pattern` says what a synthetic layer is made for.
    """

    spec: ConvLayer
    array: SystolicArray
    alpha_w: np.float32 | None
    alpha_a: np.float32 | None
    activation_low: Integer[np.ndarray, " ic"]
    activation_high: Integer[np.ndarray, " ic"]
    weight: Integer[Values, "oc ic ki kj"]
    weight_tile: Integer[Values, "it ot kij col row"]
    row_count: Integer[Values, " it"]
    col_count: Integer[Values, " ot"]
    activation: Integer[Values, "image ic y x"]
    activation_tile: Integer[Values, "image it nij row"]
    psum: Integer[Values, "image it ot kij nij col"]
    accumulator: Integer[Values, "image oc oy ox"]
    threshold: Integer[Values, "oc level"] | None = None
    direction: Integer[Values, " oc"] | None = None
    bias: Integer[Values, " oc"] | None = None
    weight_step: Float[Values, " oc"] | None = None
    pattern: Pattern | None = None

    def _repr_html_(self) -> str:
        """Return the layer's arrays as the table that notebooks show."""
        rows = []
        for name, axes in variable_axes(self.spec, KEPT[0], OPTIONAL).items():
            array = getattr(self, IN_CODE.get(name, name))
            if array is not None:
                shape = " × ".join(map(str, array.shape))
                rows.append((IN_CODE.get(name, name), " ".join(axes), shape, array.dtype))
        return html_table(("array", "axes", "shape", "dtype"), rows, f"layer {self.spec.name}")


@runtime_checkable
class LayerStore(Protocol):
    """What is read as a store is: one, or a dataset of several.

    An export asks no more of its `layers` than a `factory.dataflow.LayerSource` has.
    """

    path: Path
    network: LayerSet
    array: SystolicArray
    images: Any
    layers: Mapping[str, StoredLayer]
    image_count: int
    image_source: str
    weights_sha256: str

    def layer(self, name: str) -> StoredLayer:
        """Return the layer called `name`; raise InputError that lists the layers there are."""


@dataclass(frozen=True)
class Store:
    """An open store, read only; close it, or use it as a context manager."""

    path: Path
    file: h5py.File
    network: LayerSet
    array: SystolicArray
    images: StoredImages
    layers: Mapping[str, StoredLayer]

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _repr_html_(self) -> str:
        """Return the layers as the table that notebooks show."""
        if not self.file:
            return f"<p>{escape(self.path.name)} is closed</p>"
        return layers_html(self, f"{self.image_count} images, keeps {self.keep}")

    def close(self) -> None:
        """Close the file; no dataset can be read after it."""
        self.file.close()

    @property
    def image_count(self) -> int:
        """Number of images."""
        return self.images.label.shape[0]

    @property
    def keep(self) -> str:
        """What the file has of each image: `psums`, or `codes` that psums and accumulators are computed from."""
        return self.file.attrs.get("keep", KEPT[0])

    @property
    def image_source(self) -> str:
        """Name of what the images were taken from."""
        return self.file.attrs["image_source"]

    @property
    def origin(self) -> str:
        """Where the integers come from: `lowered`, `captured` or `synthetic`."""
        return self.file.attrs.get("origin", KINDS[0])

    @property
    def weights_sha256(self) -> str:
        """The sha256 (hex) of the contents of the weights that the store was built from, or of the layers' codes."""
        return self.file.attrs["weights_sha256"]

    def layer(self, name: str) -> StoredLayer:
        """Return the layer called `name`; raise InputError that lists the layers the store holds."""
        if name not in self.layers:
            raise InputError(f"{self.path}: layer must be one of {' '.join(self.layers)}, not {name}")
        return self.layers[name]

    def vector(self, layer: str, image: int) -> Pattern | None:
        """Return what the vector of a layer and an image is made for; None where they are not synthetic."""
        made_for, images = self.layers[layer].pattern, self.images.patterns
        return made_for.with_image(images[image]) if made_for and images else None

    def to_xarray(self) -> xarray.DataTree:
        """Return the store as a tree of xarray datasets with named axes, at `/images` and `/layers/<name>`.

        Variables are read when their values are asked for. The tree holds the file open by itself: `close()` it.
        """
        try:
            from factory.store.tree import open_tree
        except ImportError:
            raise InputError("to_xarray needs xarray: pip install 'factory[xarray]'") from None
        computed = {}
        for name, layer in self.layers.items():
            for variable in FOLLOWING:
                array = getattr(layer, IN_CODE.get(variable, variable))
                if isinstance(array, LazyArray):
                    axes = variable_axes(layer.spec, KEPT[0], ())[variable]
                    computed[f"{layer_path(name)}/{variable}"] = axes, array
        return open_tree(self.path, computed)


def layers_html(store: LayerStore, about: str) -> str:
    """Return the layers of a store or a dataset as a table in HTML, its caption ending with what it is `about`."""
    rows = [
        (
            spec.name, f"{spec.in_channels} → {spec.out_channels}", f"{spec.height} × {spec.width}",
            f"{spec.kernel[0]} × {spec.kernel[1]}", store.array.input_tiles(spec.in_channels),
            store.array.output_tiles(spec.out_channels), spec.activation_bits, spec.weight_bits,
        )
        for spec in (layer.spec for layer in store.layers.values())
    ]  # fmt: skip
    headings = ("layer", "channels", "map", "kernel", "it", "ot", "activation bits", "weight bits")
    array = f"{store.array.rows} × {store.array.cols} array"
    return html_table(headings, rows, f"{store.path.name}: {store.network.name}, {array}, {about}")


def open_store(path: str | Path) -> Store:
    """Open a finished store; raise InputError for anything else, saying what it is."""
    path = Path(path)
    file = _open_file(path)
    try:
        return _read_store(path, file)
    except UNREADABLE as error:
        file.close()
        reason = str(error.args[0] if error.args else error).partition("\n")[0]
        raise InputError(f"{path}: must be a whole store of schema {SCHEMA}: {reason}") from None
    except BaseException:
        file.close()
        raise


def opened(store: Any) -> AbstractContextManager[Any]:
    """Return a block in which a store is open: that of a path is closed after it, anything else stays as it is."""
    return open_store(store) if isinstance(store, (str, Path)) else nullcontext(store)


def _open_file(path: Path) -> h5py.File:
    if not path.exists():
        if partial_folder(path).exists():
            raise InputError(f"{path}: must be a finished store, it is still being written in {partial_folder(path)}")
        raise InputError(f"{path}: must be a store, there is no such file")
    if path.is_dir() or not h5py.is_hdf5(path):
        raise InputError(f"{path}: must be a store, it is not an HDF5 file")
    try:
        return open_finished(path)
    except BlockingIOError:
        raise InputError(f"{path}: {HELD}") from None
    except UNREADABLE as error:
        raise InputError(f"{path}: must be a whole HDF5 file: {str(error).partition(chr(10))[0]}") from None


def _read_store(path: Path, file: h5py.File) -> Store:
    schema = file.attrs.get("schema", "none")
    if schema not in SCHEMAS:
        raise InputError(f"{path}: schema must be {SCHEMA}, not {_shown(schema)}")
    if not file.attrs.get("complete", 0):
        raise InputError(f"{path}: must be a finished store, it is still being written")
    _check_attributes(path, file, _ATTRIBUTES)
    for name in _TEXTS:
        if not isinstance(file.attrs[name], str):
            raise InputError(f"{path}: attribute {name} must be text, not {_shown(file.attrs[name])}")
    require_plugin(file.attrs["compression"])
    kind = file.attrs.get("origin", KINDS[0])
    try:
        described = Network if kind == KINDS[0] else LayerSet
        network = described.from_dict(json.loads(file.attrs["network"]))
        array = SystolicArray(*(int(file.attrs[name]) for name in ("array_rows", "array_cols", "psum_bits")))
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    images = _read_images(path, file, schema, has_pixels=described is Network)
    layers = {}
    for spec in network.layers:
        if layer_path(spec.name) in file:
            layers[spec.name] = _read_layer(path, file, network, spec, array)
    if not layers:
        raise InputError(f"{path}: must hold at least one layer, it holds none")
    return Store(path, file, network, array, images, layers)


def _read_images(path: Path, file: h5py.File, schema: str, has_pixels: bool) -> StoredImages:
    absent = {"pixels"} if not has_pixels else set()
    absent.update(name for name in IMAGE_PATTERN if f"images/{name}" not in file)
    if schema != SCHEMA:
        absent.add("origin")
    names = [name for name in IMAGE_AXES if name not in absent]
    _check_paths(path, file, [f"images/{name}" for name in names])
    found = dict(pixels=None) | {name: file[f"images/{name}"] for name in names}
    texts = {
        name: [text.decode() for text in found.pop(name)[...].tolist()]
        for name in ("origin", *IMAGE_PATTERN)
        if name in found
    }
    origin = texts.get("origin", [PICTURE] * found["label"].shape[0])
    patterns = ()
    if set(IMAGE_PATTERN) <= texts.keys():
        patterns = tuple(map(_pattern, origin, *(texts[name] for name in IMAGE_PATTERN)))
    return StoredImages(**found, origin=tuple(origin), patterns=patterns)


def _pattern(name: str, flags: str, note: str) -> Pattern:
    return Pattern(name, tuple(flags.split(",")), note)


def _shown(value: object) -> str:
    """Return a value as one line, whatever is in it."""
    return repr(str(value))[1:-1]


def _check_paths(path: Path, file: h5py.File, names: list[str]) -> None:
    for name in names:
        if not isinstance(file.get(name), h5py.Dataset):
            raise InputError(f"{path}: must hold {name} of schema {SCHEMA}, it does not")


def _check_attributes(path: Path, group: h5py.Group, names: tuple[str, ...]) -> None:
    for name in names:
        if name not in group.attrs:
            where = f"attribute {name} of {group.name}"
            raise InputError(f"{path}: must hold {where} of schema {SCHEMA}, it does not")


def _read_layer(path: Path, file: h5py.File, network: LayerSet, spec: ConvLayer, array: SystolicArray) -> StoredLayer:
    group, images = file[layer_path(spec.name)], file["images/label"].shape[0]
    quantizer, lowered = OPTIONAL[:2], isinstance(network, Network)
    present = [name for name in OPTIONAL if name in group and name not in quantizer]
    if network.consumers(spec.name) if lowered else quantizer[0] in group:
        present += quantizer
    axes = variable_axes(spec, file.attrs.get("keep", KEPT[0]), present)
    _check_paths(path, file, [f"{layer_path(spec.name)}/{name}" for name in axes])
    datasets = {name: group[name] for name in axes}
    _check_shapes(path, spec, axes, datasets, axis_sizes(spec, array, images))
    if lowered:
        _check_attributes(path, group, _ALPHAS)
    with np.errstate(over="raise"):
        alphas = {name: np.float32(group.attrs[name]) if name in group.attrs else None for name in _ALPHAS}
    datasets |= {name: datasets[name][...] for name in ("activation_low", "activation_high")}
    if not set(FOLLOWING) <= set(datasets):
        datasets |= _computed(group, spec, array, datasets)
    texts = [group.attrs[name] for name in IMAGE_PATTERN if name in group.attrs]
    pattern = _pattern(spec.name, *texts) if len(texts) == len(IMAGE_PATTERN) else None
    named = {IN_CODE.get(name, name): data for name, data in datasets.items()}
    return StoredLayer(spec, array, **alphas, **named, pattern=pattern)


def _computed(
    group: h5py.Group, spec: ConvLayer, array: SystolicArray, datasets: Mapping[str, Any]
) -> dict[str, LazyArray]:
    """Return what a store of codes alone does not hold."""
    ranges = [Range(*(int(group.attrs[f"{name}_{end}"]) for end in ("low", "high"))) for name in _BOUNDS]
    ends = datasets["activation_low"], datasets["activation_high"]
    codes = LayerCodes(spec, array, datasets["weight"], datasets["activation"], *ends, *ranges)
    return {name: getattr(codes, IN_CODE.get(name, name)) for name in FOLLOWING}


def _check_shapes(
    path: Path,
    spec: ConvLayer,
    variables: Mapping[str, tuple[str, ...]],
    datasets: Mapping[str, h5py.Dataset],
    sizes: Mapping[str, int],
) -> None:
    for name, axes in variables.items():
        found, kind = datasets[name].shape, datasets[name].dtype
        if kind.kind not in "iu" and name not in FLOATS:
            raise InputError(f"{path}: {layer_path(spec.name)}/{name} must hold integers, not {kind}")
        expected = tuple(sizes.get(axis, size) for axis, size in zip(axes, found, strict=False))
        if found != expected or len(found) != len(axes):
            raise InputError(f"{path}: {spec.name}: {name} must be {expected}, not {found}")
