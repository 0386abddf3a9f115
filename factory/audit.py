"""Overflow audit: what each layer's sums can reach, what they did reach, and where a narrow adder wraps first."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Int64, Integer

from factory.arithmetic.bits import field_range, wrap
from factory.arithmetic.tiling import split_channels
from factory.lower import lower
from factory.spec import (
    ConvLayer,
    InputError,
    Range,
    SystolicArray,
    TrainedNetwork,
    accumulator_range,
    product_extremes,
    psum_range,
    valid_taps,
)
from factory.store import LayerStore, StoredLayer

BLOCK_BYTES = 1 << 24


@dataclass(frozen=True)
class PE:
    """What a processing element reads: the low `bits` of a code, in two's complement where `signed`."""

    bits: int
    signed: bool

    def read(self, codes: Integer[np.ndarray, "*any"]) -> Int64[np.ndarray, "*any"]:
        """Return the values that are read where `codes` are written."""
        return wrap(codes, self.bits, self.signed).astype(np.int64)

    def fits(self, codes: Integer[np.ndarray, "*any"]) -> Bool[np.ndarray, "*any"]:
        """Return where a code is read as it is."""
        return wrap(codes, self.bits, self.signed) == codes


@dataclass(frozen=True)
class FirstWrap:
    """The earliest addition, in hardware order, whose worst-case sum leaves the field.

    `row` is the lane whose product is added inside the column; None is the accumulator's addition of the whole psum.
    `value` is the sum that output channel `ot * cols + col` can reach there.
    """

    it: int
    kij: int
    row: int | None
    ot: int
    col: int
    value: int

    def __str__(self) -> str:
        adder = "accumulator" if self.row is None else f"row {self.row}"
        return f"it {self.it}, kij {self.kij}, {adder} (ot {self.ot}, col {self.col} can reach {self.value})"


@dataclass(frozen=True)
class Observed:
    """What a store holds of one layer: the ranges of its psums, accumulators and activation codes.

    `unfit` of the `codes` activation codes do not fit the PE; psums and accumulators are those of the exact codes.
    """

    psum: Range
    accumulator: Range
    activation: Range
    codes: int
    unfit: int


@dataclass(frozen=True)
class LayerAudit:
    """The worst case of one layer on one array, from its weight codes and the codes that can enter it.

    `activation` is the range of the codes as they are, of whose values `unfit_values` do not fit the `pe`. `psum` and
    `accumulator` are the exact ranges of the finished sums, `running` that of every intermediate sum in hardware order;
    so `first_wrap is None` exactly when `running.fits(psum_bits)`.
    """

    name: str
    psum_bits: int
    pe: PE
    activation: Range
    unfit_values: int
    psum: Range
    accumulator: Range
    running: Range
    first_wrap: FirstWrap | None
    observed: Observed | None

    @property
    def headroom(self) -> int:
        """Bits of `psum_bits` that no sum needs; negative where a sum can wrap."""
        return self.psum_bits - self.running.bits

    @property
    def warning(self) -> str | None:
        """One line that says what does not fit, or None."""
        if self.first_wrap is None:
            return None
        return (
            f"{self.name}: psums need {self.psum.bits} bits and accumulators {self.accumulator.bits}, "
            f"psum_bits is {self.psum_bits}; the first wrap could happen at {self.first_wrap}"
        )


def audit(
    source: TrainedNetwork | LayerStore,
    psum_bits: int | None = None,
    activation_bits: int | None = None,
    activation_signed: bool | None = None,
    array: SystolicArray | None = None,
    observe: bool = True,
) -> tuple[LayerAudit, ...]:
    """Audit every layer of a trained network, or every layer of a store together with what the store observed.

    The worst case follows from the codes as a PE of `activation_bits` and `activation_signed` reads them, low bits
    first; what is not given is the layer's own. With neither given the PE reads every code as it is, and codes that do
    not fit the layer's own width and sign are counted all the same. `array` is a store's own, or 8 x 8 by default, and
    `psum_bits` the array's own by default.
    Reading a store takes `BLOCK_BYTES` at a time; of its images nothing is read unless `observe`. Raise InputError for
    a width out of range or another array's store.
    """
    stored = not isinstance(source, TrainedNetwork)
    if psum_bits is None:
        psum_bits = (source.array if stored else array or SystolicArray()).psum_bits
    _check_width("psum_bits", psum_bits, 2, 32)
    if activation_bits is not None:
        _check_width("activation_bits", activation_bits, 1, 16)
    array = _array_of(source, array) if stored else array or SystolicArray()
    as_is = activation_bits is None and activation_signed is None
    audits = []
    for layer in (source if stored else lower(source)).layers.values():
        spec = layer.spec
        pe = PE(
            spec.activation_bits if activation_bits is None else activation_bits,
            spec.signed if activation_signed is None else activation_signed,
        )
        bounds = layer.activation_low.astype(np.int64), layer.activation_high.astype(np.int64)
        weight = layer.weight[:]
        read = (*bounds, spec.zero_point) if as_is else _read_bounds(*bounds, spec.zero_point, pe)
        sums = _worst_case(spec, array, weight, *read, psum_bits)
        reachable = Range.of(*bounds)
        unfit = int((~pe.fits(np.arange(reachable.low, reachable.high + 1))).sum())
        observed = _observe(layer, pe) if stored and observe else None
        audits.append(LayerAudit(spec.name, psum_bits, pe, reachable, unfit, *sums, observed))
    return tuple(audits)


def running_extremes(
    spec: ConvLayer,
    array: SystolicArray,
    weight: np.ndarray,
    low: np.ndarray,
    high: np.ndarray,
    border: int | None = None,
) -> tuple[Int64[np.ndarray, "oc it kij slot"], Int64[np.ndarray, "oc it kij slot"]]:
    """Return the least and the largest value of every intermediate sum, in hardware order.

    Slots 0 to rows-1 are the sums inside a column after that row, but for the 0 of a border of zeros; the last slot is
    the accumulator after this `it, kij`, over all output pixels. A padded pixel has the code `border` (None: the zero
    point).
    """
    taps = np.unique(valid_taps(spec), axis=0)
    padded = weight.astype(np.int64) * (spec.zero_point if border is None else border)
    least, most = (
        _running(spec, array, products, padded, taps, extreme)
        for products, extreme in zip(product_extremes(weight, low, high), (np.minimum, np.maximum), strict=True)
    )
    return least, most


def _running(
    spec: ConvLayer, array: SystolicArray, products: np.ndarray, padded: np.ndarray, taps: np.ndarray, extreme: np.ufunc
) -> Int64[np.ndarray, "oc it kij slot"]:
    lanes = (
        split_channels(x.reshape(spec.out_channels, spec.in_channels, spec.kij_count), 1, array.rows)
        for x in (products, padded)
    )
    column, at_border = (x.transpose(0, 1, 3, 2).cumsum(axis=-1) for x in lanes)  # (oc, it, kij, row)
    passes = (np.where(tap, column[..., -1], at_border[..., -1]) for tap in taps)
    sums = (x.reshape(spec.out_channels, -1).cumsum(axis=-1).reshape(x.shape) for x in passes)
    accumulator = next(sums)
    for other in sums:
        extreme(accumulator, other, out=accumulator)
    if any(spec.padding) and at_border.any():  # the border streams through the columns too; zeros add nothing
        column = extreme(column, at_border)
    return np.concatenate([column, accumulator[..., None]], axis=-1)


def _worst_case(
    spec: ConvLayer,
    array: SystolicArray,
    weight: np.ndarray,
    low: np.ndarray,
    high: np.ndarray,
    border: int,
    psum_bits: int,
) -> tuple[Range, Range, Range, FirstWrap | None]:
    least, most = running_extremes(spec, array, weight, low, high, border)
    return (
        psum_range(array, weight, low, high, border),
        accumulator_range(spec, weight, low, high, border),
        Range(min(0, int(least.min())), max(0, int(most.max()))),
        _first_wrap(least, most, array, psum_bits),
    )


def _read_bounds(low: np.ndarray, high: np.ndarray, border: int, pe: PE) -> tuple[np.ndarray, np.ndarray, int]:
    """Return the least and the largest value that the PE reads for each channel's codes, and for the border's."""
    read = [pe.read(np.arange(a, b + 1)) for a, b in zip(low, high, strict=True)]
    return np.array([x.min() for x in read]), np.array([x.max() for x in read]), int(pe.read(np.array([border]))[0])


def _first_wrap(least: np.ndarray, most: np.ndarray, array: SystolicArray, psum_bits: int) -> FirstWrap | None:
    low, high = field_range(psum_bits, signed=True)
    wraps = (least < low) | (most > high)
    steps = wraps.any(axis=0)
    if not steps.any():
        return None
    it, kij, slot = (int(x) for x in np.argwhere(steps)[0])
    oc = int(wraps[:, it, kij, slot].argmax())
    ends = least[oc, it, kij, slot], most[oc, it, kij, slot]
    value = int(ends[0] if ends[0] < low else ends[1])
    return FirstWrap(it, kij, slot if slot < array.rows else None, *divmod(oc, array.cols), value)


def _observe(layer: StoredLayer, pe: PE) -> Observed:
    unfit = sum(int((~pe.fits(block)).sum()) for block in _blocks(layer.activation))
    ranges = [_range_of(data) for data in (layer.psum, layer.accumulator, layer.activation)]
    return Observed(*ranges, codes=math.prod(layer.activation.shape), unfit=unfit)


def _range_of(dataset: Any) -> Range:
    ends = [(int(block.min()), int(block.max())) for block in _blocks(dataset)]
    return Range(min(low for low, _ in ends), max(high for _, high in ends))


def _blocks(dataset: Any) -> Iterator[np.ndarray]:
    """Yield an array or dataset in contiguous blocks of at most `BLOCK_BYTES`, or of one row of the last axis."""
    shape, size, axis = dataset.shape, dataset.dtype.itemsize, 0
    while axis < len(shape) - 1 and math.prod(shape[axis + 1 :]) * size > BLOCK_BYTES:
        axis += 1
    step = max(1, BLOCK_BYTES // (math.prod(shape[axis + 1 :]) * size))
    for index in np.ndindex(*shape[:axis]):
        for start in range(0, shape[axis], step):
            yield dataset[(*index, slice(start, start + step))]


def _array_of(store: LayerStore, array: SystolicArray | None) -> SystolicArray:
    size = store.array.rows, store.array.cols
    if array is not None and (array.rows, array.cols) != size:
        raise InputError(f"{store.path}: array must be {size[0]} x {size[1]}, not {array.rows} x {array.cols}")
    return store.array


def _check_width(name: str, value: int, low: int, high: int) -> None:
    if not low <= value <= high:
        raise InputError(f"{name} must be {low} to {high}, not {value}")
