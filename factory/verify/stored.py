"""Verification of a store: a chosen share of it recomputed by the second path and compared exactly."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Int64

from factory.checkpoint import load_weights, shipped_weights
from factory.spec import (
    GIVEN,
    IMAGE,
    ComparisonError,
    ConvLayer,
    InputError,
    Network,
    Progress,
    TrainedLayer,
    TrainedNetwork,
    accumulator_ranges,
)
from factory.store import Store, StoredLayer, open_store
from factory.verify import reference
from factory.verify.result import Recovered, Tally, VerifyReport
from factory.verify.streams import StreamArithmetic

RECOVERED_LIMIT, RECOVERED_BATCH = 1e-5, 16
_MAX_DIGITS, _MAX_SHOWN = 18, 40


def verify_store(
    path: Path | str,
    sample: str | int = "5%",
    weights: Path | str | None = None,
    recovered: bool = False,
    progress: Progress | None = None,
    seed: int = 0,
) -> VerifyReport:
    """Recompute a chosen share of a store in plain NumPy int64 from its pixels and weights, and compare it exactly.

    `sample` is `all`, a percentage of each layer's (image, output tile) pairs, or a number of them, chosen by `seed`.
    `weights` is the file that the store was built from; by default the shipped one whose sha256 is the store's.
    Without it, what cannot be checked is listed in the report. `recovered` also compares real outputs with the Flax
    model's. `progress(done, total, layer)` counts output tiles. Raise ComparisonError at the first difference, or where
    nothing was compared; InputError for an unreadable store, other weights, or `recovered` without weights.
    """
    path = Path(path)
    with open_store(path) as store:
        trained = _matching_weights(store, weights)
        if recovered and trained is None:
            raise InputError(f"{path}: recovered outputs need the weights with sha256 {store.weights_sha256}")
        tally = Tally(path)
        tiles = {name: store.array.output_tiles(layer.spec.out_channels) for name, layer in store.layers.items()}
        chosen = choose(sample, store.image_count, tiles, seed)
        tally.skip("pixels and labels, which are taken as given")
        if not isinstance(store.network, Network):
            tally.skip(f"weights, which are {store.origin}")
        elif trained is None:
            tally.skip(f"weights and thresholds, because weights of sha256 {store.weights_sha256} are not at hand")
        for name in {unit.layer: None for unit in chosen}:
            _check_parameters(store, store.layer(name), trained, tally)
        done, chain = 0, Chain(store, trained)
        for unit in chosen:
            _check_unit(store, unit, chain, tally)
            done += len(unit.ots)
            if progress:
                progress(done, len(chosen), unit.layer)
        return tally.report(recover_layers(store, trained, chosen) if recovered else ())


def _matching_weights(store: Store, weights: Path | str | None) -> TrainedNetwork | None:
    for path in [path for path in shipped_weights().values() if path.is_file()] if weights is None else [weights]:
        trained = load_weights(path)
        if trained.sha256 == store.weights_sha256:
            return trained
    if weights is not None:
        raise InputError(
            f"{weights}: weights must have the store's sha256 {store.weights_sha256}, not {trained.sha256}"
        )
    return None


class Chain:
    """Codes that enter each layer, one image at a time: from the store's accumulators, or else from the pixels on."""

    def __init__(self, store: Store, trained: TrainedNetwork | None):
        self._store, self._trained = store, trained
        self._arithmetic = StreamArithmetic(trained) if trained else None
        self._image, self._codes, self._streams = -1, {}, {}

    def codes(self, image: int, spec: ConvLayer) -> np.ndarray | None:
        """Return int64 `(ic, y, x)`; None where they are given, or follow from what is not at hand."""
        if image != self._image:
            self._image, self._codes, self._streams = image, {}, {}
        if spec.name not in self._codes:
            self._codes[spec.name] = self._follow(image, spec)
        return self._codes[spec.name]

    def _follow(self, image: int, spec: ConvLayer) -> np.ndarray | None:
        if spec.source == GIVEN:
            return None
        if spec.source == IMAGE:
            pixels = self._store.images.pixels[image]
            codes = reference.input_codes(pixels, self._store.network, spec, self._alpha(spec))
            return codes[:, :: spec.source_stride, :: spec.source_stride]
        if spec.source in {stream.name for stream in self._store.network.streams}:
            return self._from_stream(image, spec)
        source = self._store.network.layer(spec.source)
        if source.name in self._store.layers:
            stored = self._store.layer(source.name)
            codes = reference.count_thresholds(stored.accumulator[image], stored.threshold[:], stored.direction[:])
        elif self._trained is None:
            return None
        else:
            real = reference.real_outputs(self._accumulator(image, source), self._trained.layers[source.name])
            codes = reference.quantize(real, spec, self._alpha(spec))
        return reference.pool_codes(codes, source.pool)[:, :: spec.source_stride, :: spec.source_stride]

    def _from_stream(self, image: int, spec: ConvLayer) -> np.ndarray | None:
        if self._arithmetic is None:
            return None
        real = self._arithmetic.values(self._stream(image, spec.source))
        return reference.quantize(real[:, :: spec.source_stride, :: spec.source_stride], spec, self._alpha(spec))

    def _stream(self, image: int, name: str) -> np.ndarray:
        """Return the integers of a stream, or of what a layer or the stem adds to one."""
        if name not in self._streams:
            network = self._store.network
            streams = {stream.name: stream for stream in network.streams}
            if name in streams:
                found = np.maximum(sum(self._stream(image, part) for part in streams[name].inputs), 0)
            elif network.stem and name == network.stem.name:
                found = self._arithmetic.stem_term(self._store.images.pixels[image])
            else:
                found = self._arithmetic.layer_term(name, self._accumulator(image, network.layer(name)))
            self._streams[name] = found
        return self._streams[name]

    def _accumulator(self, image: int, spec: ConvLayer) -> np.ndarray:
        """Return a layer's accumulators, of the store or else from the codes that enter it."""
        if spec.name in self._store.layers:
            return self._store.layer(spec.name).accumulator[image].astype(np.int64)
        weight = self._trained.layers[spec.name].weight_code
        return reference.direct_convolution(self.codes(image, spec), weight, spec)

    def _alpha(self, spec: ConvLayer) -> np.float32:
        return (self._trained or self._store).layers[spec.name].alpha_a


def _check_parameters(store: Store, layer: StoredLayer, trained: TrainedNetwork | None, tally: Tally) -> None:
    """Check what a layer has once for all images: bounds and lane counts, and what the trained network gives it."""
    spec, array, name = layer.spec, store.array, layer.spec.name
    low, high = reference.code_bounds(store.network, spec, layer.alpha_a)
    tally.equal("activation_low", name, ("ic",), low, layer.activation_low)
    tally.equal("activation_high", name, ("ic",), high, layer.activation_high)
    tally.equal("row_count", name, ("it",), reference.lane_counts(spec.in_channels, array.rows), layer.row_count[:])
    tally.equal("col_count", name, ("ot",), reference.lane_counts(spec.out_channels, array.cols), layer.col_count[:])
    if layer.direction is not None:
        direction = layer.direction[:]
        tally.equal("direction", name, ("oc",), np.where(direction < 0, -1, 1), direction)
    if trained is None:
        return
    known = trained.layers[name]
    tally.equal("weight", name, ("oc", "ic", "ki", "kj"), known.weight_code, layer.weight[:])
    for alpha in ("alpha_w", "alpha_a"):
        tally.equal(alpha, name, (), np.asarray(getattr(known, alpha)), np.asarray(getattr(layer, alpha)))
    for following in store.network.consumers(name):
        _check_thresholds(layer, known, following, trained.layers[following.name].alpha_a, tally)


def _check_thresholds(
    layer: StoredLayer, known: TrainedLayer, following: ConvLayer, alpha: np.float32, tally: Tally
) -> None:
    """Compare counted thresholds with the float32 formula on both sides of every threshold and at both ends.

    Codes are monotone in the accumulator and constant between thresholds, so equality there is equality at every
    accumulator that the layer's weights and codes can reach.
    """
    threshold, direction = layer.threshold[:].astype(np.int64), layer.direction[:]
    least, most = accumulator_ranges(layer.spec, known.weight_code, layer.activation_low, layer.activation_high)
    ends = np.stack([least, most], axis=1)
    places = np.concatenate([threshold, threshold - direction[:, None], ends], axis=1).clip(*ends.T[..., None])
    by_formula = reference.quantize(reference.real_outputs(places, known), following, alpha)
    counted = reference.count_thresholds(places, threshold, direction)
    tally.equal("threshold's code", layer.spec.name, ("oc", "place"), by_formula, counted, "threshold")


def _check_unit(store: Store, unit: Unit, chain: Chain, tally: Tally) -> None:
    layer, array = store.layer(unit.layer), store.array
    spec, address = layer.spec, f"{unit.layer}, image {unit.image}"
    codes, weight = layer.activation[unit.image].astype(np.int64), layer.weight[:]
    expected = chain.codes(unit.image, spec)
    if expected is None:
        why = f"activation codes of {spec.name}, because {spec.source} is not in the store"
        tally.skip("activation codes, which are given" if spec.source == GIVEN else why)
    else:
        tally.equal("activation", address, ("ic", "y", "x"), expected, codes)
    for it in range(array.input_tiles(spec.in_channels)):
        entering = reference.activation_tile(codes, spec, array, it)
        where = f"{address}, it {it}"
        tally.equal("activation_tile", where, ("nij", "row"), entering, layer.activation_tile[unit.image, it])
        for ot in unit.ots:
            tile = reference.weight_tile(weight, array, it, ot)
            there = f"{where}, ot {ot}"
            tally.equal("weight_tile", there, ("kij", "col", "row"), tile, layer.weight_tile[it, ot])
            psum = reference.psum_tile(entering, tile)
            tally.equal("psum", there, ("kij", "nij", "col"), psum, layer.psum[unit.image, it, ot])
    for ot in unit.ots:
        channels = slice(ot * array.cols, (ot + 1) * array.cols)
        total = reference.direct_convolution(codes, weight[channels], spec)
        tally.equal("conv", f"{address}, ot {ot}", ("col", "y", "x"), total, layer.accumulator[unit.image, channels])


@dataclass(frozen=True)
class Unit:
    """Output tiles `ot` of one layer for one image: their psums at every `it` and `kij`, and their accumulators."""

    image: int
    layer: str
    ots: tuple[int, ...]


@dataclass(frozen=True)
class Sample:
    """A choice among `images` x `tiles[layer]` output tiles; `chosen[layer]` holds sorted `image * tiles + ot`."""

    images: int
    tiles: Mapping[str, int]
    chosen: Mapping[str, Int64[np.ndarray, " unit"]]

    def images_of(self, layer: str) -> Int64[np.ndarray, " image"]:
        """Return the images of which a tile of this layer is chosen, in their order."""
        return np.unique(self.chosen[layer] // self.tiles[layer])

    def __len__(self) -> int:
        return sum(len(indices) for indices in self.chosen.values())

    def __iter__(self) -> Iterator[Unit]:
        """Yield the choice image by image, the layers in their order."""
        for image in range(self.images):
            for layer, tiles in self.tiles.items():
                first, last = np.searchsorted(self.chosen[layer], (image * tiles, (image + 1) * tiles))
                ots = self.chosen[layer][first:last] - image * tiles
                if ots.size:
                    yield Unit(image, layer, tuple(ots.tolist()))


def choose(sample: str | int, images: int, tiles: Mapping[str, int], seed: int = 0) -> Sample:
    """Choose output tiles of each layer and image, without repetition.

    `sample` is `all`, a percentage of every layer's tiles (rounded up, so that every layer is there), or a number of
    tiles over all layers. A choice of nothing is allowed here: comparing nothing is what fails. Raise InputError for
    any other sample.
    """
    rng = np.random.default_rng(seed)
    sizes = {layer: images * count for layer, count in tiles.items()}
    text = str(sample).strip()
    if text == "all":
        chosen = {layer: np.arange(size) for layer, size in sizes.items()}
    elif text.endswith("%"):
        share = _percentage(text) / 100
        chosen = {x: np.sort(rng.choice(size, math.ceil(share * size), replace=False)) for x, size in sizes.items()}
    elif text.isdecimal() and len(text) <= _MAX_DIGITS:
        chosen = _any_of(sizes, int(text), rng)
    else:
        raise _wrong(text)
    return Sample(images, tiles, chosen)


def _any_of(sizes: Mapping[str, int], count: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
    total, chosen = sum(sizes.values()), {}
    picked = np.sort(rng.choice(total, min(count, total), replace=False))
    for layer, size in sizes.items():
        chosen[layer], picked = picked[picked < size], picked[picked >= size] - size
    return chosen


def _percentage(text: str) -> float:
    try:
        share = float(text[:-1])
    except ValueError:
        raise _wrong(text) from None
    if not 0 <= share <= 100:
        raise _wrong(text)
    return share


def _wrong(text: str) -> InputError:
    found = text if len(text) <= _MAX_SHOWN else f"{text[:_MAX_SHOWN]}..."
    return InputError(f"sample must be all, a percentage from 0% to 100%, or a number of output tiles, not {found}")


def recover_layers(store: Store, trained: TrainedNetwork, chosen: Sample) -> tuple[Recovered, ...]:
    """Compare every stored layer's real outputs over the images that were chosen of it.

    Recovered outputs are the accumulators times both steps, then batch norm and ReLU, as the notebook's. Raise
    ComparisonError where one is further than `RECOVERED_LIMIT` of the layer's largest output from the float model's.
    """
    from factory.model import from_trained, layer_forward

    model, found = from_trained(trained), []
    for name, layer in store.layers.items():
        images = chosen.images_of(name)
        if images.size:
            forward = functools.partial(layer_forward, model, name)
            found.append(_measure(layer, trained.layers[name], images, forward))
            _require_close(store.path, found[-1])
    return tuple(found)


def _measure(
    layer: StoredLayer,
    known: TrainedLayer,
    images: Int64[np.ndarray, " image"],
    forward: Callable[[np.ndarray], np.ndarray],
) -> Recovered:
    values, largest, most, total = 0, 0.0, 0.0, 0.0
    for batch in np.split(images, range(RECOVERED_BATCH, images.size, RECOVERED_BATCH)):
        floating = forward(layer.activation[batch].astype(np.float32) * known.activation_scale)
        recovered = reference.real_outputs(layer.accumulator[batch].swapaxes(0, 1), known).swapaxes(0, 1)
        difference = np.abs(recovered.astype(np.float64) - floating)
        values, total = values + difference.size, total + float(difference.sum())
        largest, most = max(largest, float(floating.max())), float(np.maximum(most, difference.max()))
    scale = largest or 1.0  # a layer that gives nothing but zeros
    return Recovered(known.spec.name, values, largest, most / scale, total / values / scale)


def _require_close(path: Path, found: Recovered) -> None:
    if not found.max_error <= RECOVERED_LIMIT:  # NaN is not close
        raise ComparisonError(
            f"{path}: {found.layer}: recovered outputs must be within {RECOVERED_LIMIT} of the float model's, "
            f"relative to its largest, {found.largest:.6g}, not {found.max_error:.1e}"
        )
