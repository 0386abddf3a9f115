"""What is counted: the layers and images of a store, or what the files of an export hold."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from jaxtyping import Integer

from factory.arithmetic.adders import Adder
from factory.arithmetic.bits import MOST_BITS, Field
from factory.arithmetic.labelled import LabelledArray, Selection
from factory.coverage.layer import LayerCounter
from factory.coverage.pick import COSTS, PickedTiles, pick_tiles
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
from factory.spec import InputError, Progress, SystolicArray, check_range
from factory.store import Store, open_store

_EXACT = Adder(MOST_BITS)
"""Adders that hold every sum: what narrower ones make of it are points of their own."""
_FIRST = next(iter(DATAFLOWS))


def coverage(
    *sources: Store | str | Path,
    dataflow: str | None = None,
    layers: str = "all",
    psum_bits: int | None = None,
    progress: Progress | None = None,
) -> Coverage:
    """Return what the vectors of stores, or of exports, reach together.

    A store is counted in a `dataflow` (None: `ws`), an export in its own, and of the part that its files hold alone.
    `layers` are as `--layers` takes them; `psum_bits` is the width of the adders that is audited (None: the array's
    own). One image is in memory at a time. Raise InputError where a source is not what it must be.
    """
    if not sources:
        raise InputError("coverage must be of at least one store or export")
    _check_bits(psum_bits)
    found = []
    for source in sources:
        with ExitStack() as stack:
            if not isinstance(source, Store):
                path = Path(source)
                if (path / MANIFEST).is_file():
                    found.append(_of_export(path, dataflow, layers, psum_bits, progress))
                    continue
                source = stack.enter_context(open_store(path))
            found.append(_of_store(source, dataflow_named(dataflow or _FIRST), layers, psum_bits, progress))
    return found[0] if len(found) == 1 else merge(found)


def _check_bits(psum_bits: int | None) -> None:
    if psum_bits is not None:
        check_range("psum_bits", psum_bits, 2, MOST_BITS)


def merge_files(paths: Sequence[Path]) -> Coverage:
    """Return coverages that were written as JSON as one."""
    return merge([read_coverage(path) for path in paths])


def pick_from(
    sources: Sequence[Store | str | Path],
    pick: str,
    cost: str = COSTS[0],
    dataflow: str | None = None,
    layers: str = "all",
    psum_bits: int | None = None,
    progress: Progress | None = None,
) -> PickedTiles:
    """Return the tiles of a store that cover what all of its tiles hit, `pick` being `all` or how many.

    Raise InputError for anything but one store, and for another `pick` or `cost`.
    """
    if len(sources) != 1 or not isinstance(sources[0], (Store, str, Path)):
        raise InputError(f"pick must be from one store, not from {len(sources)}", options=("pick",))
    if pick != "all" and not re.fullmatch(r"\d{1,9}", pick, re.ASCII):
        raise InputError(f"pick must be all, or a whole number, not {pick}", options=("pick",))
    _check_bits(psum_bits)
    with nullcontext(sources[0]) if isinstance(sources[0], Store) else open_store(sources[0]) as store:
        array = replace(store.array, psum_bits=psum_bits or store.array.psum_bits)
        flow = dataflow_named(dataflow or _FIRST)
        counters = list(store_counters(store, layers, array, flow))
        count = None if pick == "all" else int(pick)
        return pick_tiles(counters, range(store.image_count), store.path.name, cost, count, progress)


def _of_store(store: Store, flow: Dataflow, layers: str, psum_bits: int | None, progress: Progress | None) -> Coverage:
    array = replace(store.array, psum_bits=psum_bits or store.array.psum_bits)
    counters = list(store_counters(store, layers, array, flow))
    return _counted(store.path.name, flow, array, counters, range(store.image_count), progress)


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


def store_counters(store: Store, layers: str, array: SystolicArray, flow: Dataflow) -> Iterator[LayerCounter]:
    """Yield what counts each layer of a store that `layers` selects; `all` is every one that the store holds."""
    names = [spec.name for spec in store.network.select(layers)]
    everything = "all" in [name.strip() for name in layers.split(",")]
    for layer in (store.layer(name) for name in names if not everything or name in store.layers):
        yield layer_counter(layer, array, flow, layer.activation_low, layer.activation_high)


def _counted(
    source: str,
    flow: Dataflow,
    array: SystolicArray,
    counters: list[LayerCounter],
    images: Iterable[int],
    progress: Progress | None,
) -> Coverage:
    images, found = list(images), []

    def each(done: int, name: str) -> Iterator[int]:
        for place, image in enumerate(images):
            if progress:
                progress(done + place, len(counters) * len(images), f"coverage of {name}")
            yield image

    for place, counter in enumerate(counters):
        found.append(counter.coverage(each(place * len(images), counter.name)))
    return Coverage(source, flow.name, array, tuple(found))


def _of_export(
    path: Path, dataflow: str | None, layers: str, psum_bits: int | None, progress: Progress | None
) -> Coverage:
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
    counters = [_file_counter(path, plan, known[name], array) for name in names]
    return _counted(path.name, flow, array, counters, plan.images, progress)


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
