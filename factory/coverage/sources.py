"""What is counted: the layers and images of a store or dataset, or what the files of an export hold."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Integer

from factory.arithmetic.adders import Adder
from factory.arithmetic.bits import MOST_BITS, Field
from factory.arithmetic.labelled import LabelledArray, Selection
from factory.coverage.activity import Activity, switching_activity
from factory.coverage.layer import LayerCounter, images_done
from factory.coverage.pick import COSTS, SELECTION, PickedTiles, pick_tiles
from factory.coverage.record import Coverage, merge, read_coverage
from factory.dataflow import (
    DATAFLOWS,
    Dataflow,
    GivenVectors,
    KnownLayer,
    LayerMapping,
    LayerSource,
    LayerVectors,
    dataflow_named,
)
from factory.fileplan import ExportPlan, LayerFiles, read_plan
from factory.manifest import MANIFEST
from factory.readers.exports import read_vector
from factory.spec import InputError, LayerSet, Progress, SystolicArray, check_range
from factory.store import open_store

_EXACT = Adder(MOST_BITS)
"""Adders that hold every sum: what narrower ones make of it are points of their own."""
_FIRST = next(iter(DATAFLOWS))


@runtime_checkable
class OpenSource(Protocol):
    """Layers and images that are open: `factory.store.Store`, or a dataset."""

    path: Path
    network: LayerSet
    array: SystolicArray
    layers: Mapping[str, Any]

    @property
    def image_count(self) -> int:
        """Number of images."""

    def layer(self, name: str) -> Any:
        """Return the layer called `name`; raise InputError where there is none."""


Source = OpenSource | str | Path


@dataclass(frozen=True)
class Counted:
    """What is counted: the layers, one after the other, and the images of each; `array` has the adders' width."""

    source: str
    flow: Dataflow
    array: SystolicArray
    counters: Iterable[LayerCounter]
    layers: int
    images: tuple[int, ...]


@contextmanager
def opened(
    source: Source, dataflow: str | None = None, layers: str = "all", psum_bits: int | None = None
) -> Iterator[Counted]:
    """Yield what is counted of a store, an open dataset, or an export.

    A store is counted in a `dataflow` (None: `ws`), an export in its own, and of the part that its files hold alone.
    `layers` are as `--layers` takes them; `psum_bits` is the width of the adders that is audited (None: the array's
    own). Raise InputError where the source is not what it must be.
    """
    if psum_bits is not None:
        check_range("psum_bits", psum_bits, 2, MOST_BITS)
    if isinstance(source, (str, Path)) and (Path(source) / MANIFEST).is_file():
        yield _of_export(Path(source), dataflow, layers, psum_bits)
        return
    with open_store(source) if isinstance(source, (str, Path)) else nullcontext(source) as store:
        flow = dataflow_named(dataflow or _FIRST)
        array = replace(store.array, psum_bits=psum_bits or store.array.psum_bits)
        held = [store.layer(spec.name) for spec in store.network.select(layers, store.layers, f"{store.path}: ")]
        counters = (layer_counter(x, array, flow, x.activation_low, x.activation_high) for x in held)
        yield Counted(store.path.name, flow, array, counters, len(held), tuple(range(store.image_count)))


def coverage(
    *sources: Source,
    dataflow: str | None = None,
    layers: str = "all",
    psum_bits: int | None = None,
    progress: Progress | None = None,
) -> Coverage:
    """Return what the vectors of stores, or of exports, reach together; the parameters are those of `opened`.

    A folder that was exported from picked tiles counts as the exports in it. One layer and image is in memory at once.
    """
    if not sources:
        raise InputError("coverage must be of at least one store or export")
    found = []
    for held in (each for source in sources for each in _exports_of(source)):
        with opened(held, dataflow, layers, psum_bits) as counted:
            layers_found = []
            for at, counter in enumerate(counted.counters):
                what = f"coverage of {counter.name}"
                step = images_done(progress, what, at, counted.layers, len(counted.images))
                layers_found.append(counter.coverage(counted.images, step=step))
            found.append(Coverage(counted.source, counted.flow.name, counted.array, tuple(layers_found)))
    return found[0] if len(found) == 1 else merge(found)


def _exports_of(source: Source) -> list[Source]:
    if isinstance(source, (str, Path)) and (Path(source) / SELECTION).is_file():
        return sorted(path for path in Path(source).iterdir() if path.is_dir())
    return [source]


def merge_files(paths: Sequence[Path]) -> Coverage:
    """Return coverages that were written as JSON as one."""
    return merge([read_coverage(path) for path in paths])


def pick_from(
    source: Source,
    pick: str,
    cost: str = COSTS[0],
    dataflow: str | None = None,
    layers: str = "all",
    psum_bits: int | None = None,
    progress: Progress | None = None,
) -> PickedTiles:
    """Return the tiles of a store that cover what all of its tiles hit, `pick` being `all` or how many.

    Raise InputError for another `pick` or `cost`, and as `opened` does.
    """
    if pick != "all" and not re.fullmatch(r"\d{1,9}", pick, re.ASCII):
        raise InputError(f"pick must be all, or a whole number, not {pick}")
    count = None if pick == "all" else int(pick)
    with opened(source, dataflow, layers, psum_bits) as counted:
        return pick_tiles(list(counted.counters), counted.images, counted.source, cost, count, progress)


def activity_of(
    source: Source,
    dataflow: str | None = None,
    layers: str = "all",
    psum_bits: int | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> Activity:
    """Return the switching activity of a store's, or an export's, vectors; the parameters are those of `opened`."""
    with opened(source, dataflow, layers, psum_bits) as counted:
        return switching_activity(counted.counters, counted.images, counted.source, seed, progress)


def layer_counter(
    layer: LayerSource,
    array: SystolicArray,
    flow: Dataflow,
    low: Integer[np.ndarray, " ic"],
    high: Integer[np.ndarray, " ic"],
) -> LayerCounter:
    """Return what counts a whole layer in a dataflow on an array; processing elements read the codes as they are.

    `low`, `high` are the ends of each input channel's codes.
    """
    spec = layer.spec
    fields = {"activation": Field(spec.activation_bits, spec.signed), "weight": Field(spec.weight_bits, True)}
    kept = {axis: tuple(range(count)) for axis, count in flow.counts(spec, array).items()}
    mapping = LayerMapping(flow, spec, array, Selection(kept), fields, _EXACT)
    return LayerCounter(LayerVectors(mapping, layer), low, high, array.psum_bits)


def _of_export(path: Path, dataflow: str | None, layers: str, psum_bits: int | None) -> Counted:
    plan = read_plan(path)
    flow = plan.profile.flow
    if dataflow not in (None, flow.name):
        raise InputError(f"{path}: dataflow must be {flow.name}, the export's own, not {dataflow}")
    array = replace(plan.array, psum_bits=psum_bits or plan.array.psum_bits)
    known = {layer.name: layer for layer in plan.layers}
    names = list(known) if layers == "all" else [name.strip() for name in layers.split(",")]
    for name in names:
        if name not in known:
            raise InputError(f"{path}: layer must be one of {' '.join(known)}, not {name}")
    counters = (_file_counter(path, plan, known[name], array) for name in names)
    return Counted(path.name, flow, array, counters, len(names), plan.images)


def _file_counter(path: Path, plan: ExportPlan, layer: LayerFiles, array: SystolicArray) -> LayerCounter:
    mapping = replace(layer.mapping, adder=_EXACT)
    found = {files.role.name: files for files in (*layer.own, *layer.of_image) if files.role.operand is not None}
    for role in mapping.fields:
        if role not in found:
            raise InputError(f"{path}: {layer.name}: there must be files of {role}, which all else follows from")

    def read(image: int | None) -> dict[str, LabelledArray]:
        chosen = (files for files in found.values() if files.role.per_image == (image is not None))
        return {files.role.name: read_vector(path, plan, layer, image, files) for files in chosen}

    low, high = (np.full(mapping.spec.in_channels, end, np.int16) for end in mapping.spec.code_range)
    vectors = FileVectors(mapping, KnownLayer(mapping.spec), given=read(None), read=read)
    return LayerCounter(vectors, low, high, array.psum_bits)


@dataclass(frozen=True)
class FileVectors(GivenVectors):
    """The vectors that follow from what an export's files hold; `read` reads those of an image."""

    read: Callable[[int], dict[str, LabelledArray]] | None = None

    def of_image(self, image: int) -> LayerVectors:
        """Return one image's vectors."""
        return replace(self, image=image, given={**self.given, **self.read(image)})
