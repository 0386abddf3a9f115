"""Judging weights: accuracy of the float and of the integer network, and a comparison with another program's codes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, UInt8

from factory import engine, model
from factory.arithmetic.integer import max_pool
from factory.checkpoint import load_weights
from factory.images import NO_LABEL, load_images
from factory.images.arrays import Member, open_members
from factory.lower import lower
from factory.quant.host import dequantize_accumulator
from factory.spec import ConvLayer, InputError, Progress, Stem, Stream, TrainedNetwork

BATCH = 128
_KINDS = {"integers": "iu", "floats": "f"}


@dataclass(frozen=True)
class FirstDifference:
    """Images in which the two networks' codes first differ where they enter `layer` (`classifier`: nowhere before).

    `distance` is how far the float network's values of those codes lie from a rounding boundary at most, in codes.
    """

    layer: str
    images: int
    distance: float


@dataclass(frozen=True)
class Evaluation:
    """Predictions of `total` labelled images: how many are right, and how many the two networks make differently.

    `first_differences` say where those come from, in the network's order, for `BATCH` of them at most.
    """

    total: int
    float_correct: int
    integer_correct: int
    differing: int
    first_differences: tuple[FirstDifference, ...]


@dataclass(frozen=True)
class LayerComparison:
    """One layer against a reference: counts of values, and of those that differ.

    `accumulators_differ`: sums of the reference's activation codes, which must be the reference's own. `fed_differ`:
    the codes of the layers that take what is made of those sums, or of the stream that they begin; `fed_distance` is
    how far the farthest of them lies from a rounding boundary, in codes. `end_to_end_differ`: the codes that enter this
    layer when only the pixels are given.
    """

    name: str
    weights_differ: int
    accumulators_differ: int
    fed_codes: int
    fed_differ: int
    fed_distance: float
    end_to_end_codes: int
    end_to_end_differ: int


@dataclass(frozen=True)
class ReferenceComparison:
    """All layers, and the predictions: `logits_distance` is the float model's largest difference from the reference."""

    layers: tuple[LayerComparison, ...]
    images: int
    float_predictions_differ: int
    integer_predictions_differ: int
    logits_distance: float


def evaluate(
    images: str | Path,
    weights: str | Path | None = None,
    split: str = "test",
    pick: str | None = None,
    progress: Progress | None = None,
) -> Evaluation:
    """Predict the class of every image with both networks; raise InputError where an image has no label."""
    trained = load_weights(weights)
    source = load_images(images, split, pick, network=trained.network)
    floating, integer = model.from_trained(trained), engine.prepare(lower(trained))
    correct, done = np.zeros(2, np.int64), 0
    differing: list[UInt8[np.ndarray, "colour y x"]] = []
    for batch in source.batches(BATCH):
        if (batch.label == NO_LABEL).any():
            raise InputError(f"{images}: every image must have a label to count what is predicted right")
        predicted = model.predict(floating, batch.pixels), integer_logits(trained, integer, batch.pixels).argmax(axis=1)
        correct += [int((classes == batch.label).sum()) for classes in predicted]
        differing += list(batch.pixels[predicted[0] != predicted[1]])
        done += len(batch.label)
        if progress:
            progress(done, source.count, "evaluating")
    first = first_differences(trained, floating, integer, np.stack(differing[:BATCH])) if differing else ()
    return Evaluation(done, int(correct[0]), int(correct[1]), len(differing), first)


def first_differences(
    trained: TrainedNetwork,
    floating: model.QuantNetwork,
    integer: engine.EngineNetwork,
    pixels: UInt8[np.ndarray, "image colour y x"],
) -> tuple[FirstDifference, ...]:
    """Return where the codes of both networks first differ in each image, by layer."""
    maps = model.real_maps(floating, pixels)
    found, open_ = [], np.ones(len(pixels), bool)
    for values in engine.forward(integer, pixels):
        spec = trained.network.layer(values.layer.spec.name)
        entering = maps[spec.source][:, :, :: spec.source_stride, :: spec.source_stride]
        scaled = np.minimum(entering / trained.layers[spec.name].alpha_a, np.float32(1)) * spec.activation_qmax
        wrong = (np.rint(scaled) != np.asarray(values.activation)) & open_[:, None, None, None]
        if images := int(wrong.any(axis=(1, 2, 3)).sum()):
            found.append(FirstDifference(spec.name, images, float(_to_boundary(scaled[wrong]).max())))
        open_ &= ~wrong.any(axis=(1, 2, 3))
    last = [FirstDifference("classifier", int(open_.sum()), 0.0)] if open_.any() else []
    return (*found, *last)


def integer_logits(
    trained: TrainedNetwork, integer: engine.EngineNetwork, pixels: UInt8[np.ndarray, "image colour y x"]
) -> Float[np.ndarray, "image class"]:
    """Return the logits of the integer network, the classifier being the only thing in floating point."""
    last = np.asarray(engine.outputs(integer, pixels))
    if integer.streams and trained.network.output in {stream.name for stream in trained.network.streams}:
        return engine.stream_logits(trained, last, integer.streams.fraction_bits)
    return engine.logits(trained, last)


def compare_with_reference(reference: str | Path, weights: str | Path | None = None) -> ReferenceComparison:
    """Compare with an .npz of `pixels`, `logits` and, by layer, `weight_code`, `activation_code`, `accumulator`."""
    trained = load_weights(weights)
    arrays = _read_reference(Path(reference), trained)
    integer, pixels = engine.prepare(lower(trained)), arrays["pixels"]
    own = {values.layer.spec.name: np.asarray(values.activation) for values in engine.forward(integer, pixels)}
    streams = _fed_streams(integer, arrays)
    layers = tuple(_compare_layer(trained, integer, spec, arrays, own, streams) for spec in trained.network.layers)
    logits = model.logits(model.from_trained(trained), pixels)
    classes = arrays["logits"].argmax(axis=1)
    return ReferenceComparison(
        layers=layers,
        images=len(pixels),
        float_predictions_differ=int((logits.argmax(axis=1) != classes).sum()),
        integer_predictions_differ=int((integer_logits(trained, integer, pixels).argmax(axis=1) != classes).sum()),
        logits_distance=float(np.abs(logits - arrays["logits"]).max()),
    )


def _read_reference(path: Path, trained: TrainedNetwork) -> Mapping[str, np.ndarray]:
    """Read the arrays of a reference, pixels as uint8; raise InputError where one is not what it must be."""
    members, network = open_members(path, "a readable .npz of reference codes"), trained.network
    shapes: dict[str, tuple[int, ...]] = {"pixels": network.image_shape, "logits": (network.classes,)}
    for spec in network.layers:
        shapes[f"{spec.name}.weight_code"] = spec.weight_shape
        shapes[f"{spec.name}.activation_code"] = network.source_shape(spec)
        shapes[f"{spec.name}.accumulator"] = (spec.out_channels, spec.out_height, spec.out_width)
    count = next(iter(members["pixels"].shape), 1) if "pixels" in members else 0
    for name, shape in shapes.items():
        if name not in members:
            raise InputError(f"{path}: must hold the array {name}, it does not")
        expected = shape if name.endswith(".weight_code") else (count, *shape)
        _check_form(f"{path}: {name}", members[name], expected, "floats" if name == "logits" else "integers")
    if not count:
        raise InputError(f"{path}: pixels must hold at least one image, it is empty")
    arrays = {name: members[name].array() for name in shapes}
    for wrong in arrays["pixels"][(arrays["pixels"] < 0) | (arrays["pixels"] > 255)][:1]:
        raise InputError(f"{path}: pixels must be 0 to 255, not {wrong}")
    for wrong in arrays["logits"][~np.isfinite(arrays["logits"])][:1]:
        raise InputError(f"{path}: logits must be finite, not {wrong}")
    strides = {f"{spec.name}.activation_code": spec.source_stride for spec in network.layers}
    read = {name: arrays[name][:, :, ::stride, ::stride] for name, stride in strides.items()}
    return arrays | read | {"pixels": arrays["pixels"].astype(np.uint8)}


def _check_form(address: str, member: Member, shape: tuple[int, ...], kind: str) -> None:
    if member.shape != shape or member.dtype.kind not in _KINDS[kind]:
        raise InputError(f"{address} must be {kind} {shape}, not {member.dtype} {member.shape}")


def _compare_layer(
    trained: TrainedNetwork,
    integer: engine.EngineNetwork,
    spec: ConvLayer,
    arrays: Mapping[str, np.ndarray],
    own: Mapping[str, np.ndarray],
    streams: Mapping[str, np.ndarray],
) -> LayerComparison:
    layer, codes = integer.layers[spec.name], arrays[f"{spec.name}.activation_code"]
    accumulator = engine.convolve(layer, jnp.asarray(codes))
    fed_codes, fed_differ, fed_distance = 0, 0, 0.0
    for taker, made, values in _fed(trained, integer, spec, accumulator, streams):
        wrong = made != arrays[f"{taker.name}.activation_code"]
        scaled = values.astype(np.float64) / trained.layers[taker.name].alpha_a * taker.activation_qmax
        fed_codes, fed_differ = fed_codes + wrong.size, fed_differ + int(wrong.sum())
        fed_distance = max(fed_distance, float(_to_boundary(scaled)[wrong].max(initial=0)))
    return LayerComparison(
        name=spec.name,
        weights_differ=int((trained.layers[spec.name].weight_code != arrays[f"{spec.name}.weight_code"]).sum()),
        accumulators_differ=int((np.asarray(accumulator) != arrays[f"{spec.name}.accumulator"]).sum()),
        fed_codes=fed_codes,
        fed_differ=fed_differ,
        fed_distance=fed_distance,
        end_to_end_codes=codes.size,
        end_to_end_differ=int((own[spec.name] != codes).sum()),
    )


def _fed(
    trained: TrainedNetwork,
    integer: engine.EngineNetwork,
    spec: ConvLayer,
    accumulator: jax.Array,
    streams: Mapping[str, np.ndarray],
) -> Iterator[tuple[ConvLayer, np.ndarray, np.ndarray]]:
    """Yield the takers of what a layer, or the stream that it begins, gives: with their codes and the real values."""
    layer = integer.layers[spec.name]
    for taker in trained.network.consumers(spec.name):
        real = max_pool(dequantize_accumulator(np.asarray(accumulator), trained.layers[spec.name]), spec.pool)
        yield taker, np.asarray(engine.next_codes(layer, accumulator)), real
    for stream in trained.network.streams:
        for taker in trained.network.consumers(stream.name) if stream.layer == spec.name else ():
            values, stride = streams[stream.name], taker.source_stride
            codes = engine.stream_codes(jnp.asarray(values), integer.streams.threshold[taker.name], stride)
            real = np.ldexp(values[:, :, ::stride, ::stride].astype(np.float64), -integer.streams.fraction_bits)
            yield taker, np.asarray(codes), real


def _fed_streams(integer: engine.EngineNetwork, arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return the streams that follow from a reference's accumulators, and what is added to them, by name."""
    maps: dict[str, jax.Array] = {}
    for step in integer.network.steps if integer.streams else ():
        if isinstance(step, Stream):
            maps[step.name] = engine.add_stream(maps[step.layer], maps.get(step.shortcut))
        elif isinstance(step, Stem):
            maps[step.name] = engine.stem_term(integer.streams.stem, jnp.asarray(arrays["pixels"]))
        elif step.name in integer.streams.terms:
            accumulator = jnp.asarray(arrays[f"{step.name}.accumulator"].astype(np.int32))
            maps[step.name] = engine.layer_term(integer.streams.terms[step.name], accumulator)
    return {name: np.asarray(values) for name, values in maps.items()}


def _to_boundary(scaled: Float[np.ndarray, "*shape"]) -> Float[np.ndarray, "*shape"]:
    """Return how far each value lies from where its code changes, in codes."""
    return np.abs(scaled - np.floor(scaled) - 0.5)
