"""The corner cases of an array and of codes: layers are weight patterns, images are activation patterns."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import chain

import numpy as np

from factory.spec import CodedLayer, CodedNetwork, ConvLayer, Pattern, SystolicArray
from factory.synthetic import shapes
from factory.synthetic.exact import MOST_CHANNELS, AdderCase, step_thresholds, step_weights
from factory.synthetic.patterns import (
    MapCodes,
    MapPlaces,
    WeightCodes,
    WeightPlaces,
    blink_weights,
    code_maps,
    code_weights,
    col_weights,
    image_patterns,
    kij_weights,
    row_weights,
    sum_maps,
    table_weights,
)

_FEW_CHANNELS = 3
_CONV = ("zeros", "all-max", "all-min", "lowest", "alternating", "checkerboard-row-col", "checkerboard-kij",
         "identity", "ramp")  # fmt: skip
_STRIDED = ("all-max", "checkerboard-kij", "ramp")
_POINT = ("all-max", "lowest", "alternating", "identity", "ramp", "first-input", "last-input", "first-output",
          "last-output")  # fmt: skip
_ENDS = Pattern(
    "adder-ends",
    ("overflow", "adder"),
    "sums that reach the adder's ends with the image binary, and go one beyond: values clamped, wrapped or too narrow",
)
_RETURN = Pattern(
    "adder-return",
    ("overflow", "adder", "return"),
    "sums that leave the adder's range and come back: a clamp makes another value of 0, a wrap does not",
)


def corner_network(array: SystolicArray | None = None, spec: ConvLayer | None = None) -> CodedNetwork:
    """Return the corner cases of an array: every weight pattern, a layer, meets every activation pattern, an image.

    `spec`, by default `base_layer(array)`, is the geometry of the layers `conv.*`, and decides the bits, sign and map
    of all. What an adder of `array.psum_bits` cannot reach is in `skipped`, with the reason.
    """
    array = array or SystolicArray()
    spec = shapes.base_layer(array) if spec is None else spec
    shapes.check_base(spec)
    corners = _Corners(spec, array, image_patterns(spec, array))
    skipped: dict[str, str] = {}
    layers = (*corners.patterned(), *corners.at_adders(skipped), *corners.at_thresholds())
    patterns = tuple(pattern for pattern, _ in corners.images)
    return CodedNetwork("corners", layers, tuple(pattern.id for pattern in patterns), skipped, patterns=patterns)


def dense_network(array: SystolicArray, spec: ConvLayer, weights: Iterable[int], codes: Iterable[int]) -> CodedNetwork:
    """Return the corner cases, and layers and images of one code alone, for each of some weights and activations.

    With them come sums of every magnitude up to the ends of the adder's range, and words that alternate between 0 and
    -1. A layer is a row of pixels, as many as the array has lanes.
    """
    lanes = max(array.rows, array.cols, array.psum_bits)
    row = replace(
        shapes.one_pixel(spec, array.rows, max(array.cols, _FEW_CHANNELS)), height=1, width=lanes, zero_point=0
    )
    images = [*image_patterns(spec, array), *code_maps(codes), *sum_maps()]
    corners = _Corners(spec, array, images)
    skipped: dict[str, str] = {}
    layers = [*corners.patterned(), *corners.at_adders(skipped), *corners.at_thresholds()]
    layers += [corners.layer(row, "pair", *pattern) for pattern in code_weights(weights, row)]
    layers.append(corners.layer(row, "words", *blink_weights(row)))
    most, peak = row.weight_qmax, MapPlaces.of(row, array).peak
    channels = array.rows * -(-(1 << (array.psum_bits - 1)) // (most * abs(peak) * array.rows))
    if channels > MOST_CHANNELS:
        skipped["wide"] = f"a layer of {MOST_CHANNELS} channels cannot leave the {array.psum_bits} bits of an adder"
    else:
        wide = replace(row, in_channels=channels)
        layers += [corners.layer(wide, "wide", *pattern) for pattern in code_weights((most, -most), wide)]
    patterns = tuple(pattern for pattern, _ in images)
    return CodedNetwork("dense", tuple(layers), tuple(x.id for x in patterns), skipped, patterns=patterns)


@dataclass(frozen=True)
class _Corners:
    spec: ConvLayer
    array: SystolicArray
    images: list[tuple[Pattern, MapCodes]]

    def layer(self, spec: ConvLayer, shape: str, pattern: Pattern, weight: np.ndarray) -> CodedLayer:
        """Return a layer of the weights of a pattern, which is named after its shape and the pattern."""
        name = f"{shape}.{pattern.id}"
        flags = dict.fromkeys((*pattern.flags, *shapes.shape_flags(spec, self.array)))
        at = MapPlaces.of(spec, self.array)
        map_shape = (spec.in_channels, spec.height, spec.width)
        codes = [shapes.spread(codes(at), map_shape, spec.signed) for _, codes in self.images]
        return CodedLayer(
            replace(spec, name=name),
            np.ascontiguousarray(shapes.spread(weight, spec.weight_shape)),
            np.stack(codes),
            f"corner case {pattern.id}",
            pattern=Pattern(name, tuple(flags), pattern.note),
        )

    def patterned(self) -> Iterator[CodedLayer]:
        """Yield the layers whose weights are patterns of places."""
        point = shapes.one_pixel(self.spec, self.spec.in_channels, self.spec.out_channels)
        taps, strided = shapes.taps(self.spec, self.array), shapes.strided(self.spec, self.array)
        kinds: tuple[tuple[str, ConvLayer, Iterable[tuple[Pattern, WeightCodes]]], ...] = (
            (shapes.BASE, self.spec, table_weights(_CONV)),
            ("taps", taps, kij_weights(taps)),
            ("strided", strided, table_weights(_STRIDED)),
            ("axes", shapes.by_axis(self.spec, self.array), table_weights(_STRIDED)),
            ("point", point, chain(table_weights(_POINT), row_weights(self.array), col_weights(self.array))),
        )
        for shape, spec, patterns in kinds:
            at = WeightPlaces.of(spec, self.array)
            for pattern, codes in patterns:
                yield self.layer(spec, shape, pattern, codes(at))

    def at_adders(self, skipped: dict[str, str]) -> Iterator[CodedLayer]:
        """Yield the layers at the ends of the adders' range; put the reason for those that cannot be into `skipped`.

        `tile` layers have one tile of input channels, so that a psum gets there; in `sum` layers more than one tile
        make up the accumulator.
        """
        rows, bits, peak = self.array.rows, self.array.psum_bits, MapPlaces.of(self.spec, self.array).peak
        for shape, step, most in (("tile", 1, rows), ("sum", rows, MOST_CHANNELS)):
            case = AdderCase(self.spec.weight_qmax, peak, bits, step)
            kinds = (
                (_ENDS, case.end_channels, len(case.targets), case.ends),
                (_RETURN, case.return_channels, 2, case.returns),
            )
            for pattern, channels, outputs, weights in kinds:
                if channels > most:
                    limit = f"a tile of {rows} rows" if most == rows else f"a layer of {most} channels"
                    reason = f"{limit} cannot leave the {bits} bits of an adder with products up to {case.product}"
                    skipped[f"{shape}.{pattern.id}"] = reason
                else:
                    spec = shapes.one_pixel(self.spec, channels, outputs)
                    yield self.layer(spec, shape, pattern, weights(channels))

    def at_thresholds(self) -> Iterator[CodedLayer]:
        """Yield the layer with thresholds."""
        spec = shapes.steps(self.spec)
        note = "> for >= at a threshold, a direction that is ignored, levels off by one: next codes that differ by one"
        layer = self.layer(spec, "steps", Pattern("thresholds", ("threshold",), note), step_weights(spec))
        sums = np.einsum("oi,niyx->noyx", layer.weight[..., 0, 0].astype(np.int64), layer.activation.astype(np.int64))
        threshold, direction = step_thresholds(spec, sums)
        yield replace(layer, threshold=threshold, direction=direction)
