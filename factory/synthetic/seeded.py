"""Random codes that are the same on any machine and with any version of NumPy.

The generator is SplitMix64 (Steele, Lea, Flood 2014) as a counter: value `i` of a stream, from 0 on, is
`mix(key + (i + 1) * 0x9E3779B97F4A7C15)`, modulo 2^64, with

    mix(z): z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9; z = (z ^ z >> 27) * 0x94D049BB133111EB; z ^ z >> 31

and `key` the first 8 bytes, little-endian, of the SHA-256 of the ASCII text `factory-random-1 SEED WHAT ID`: WHAT is
`weight` or `activation`, ID the layer's or the image's. Values fill arrays in C order, two for each code. With `u`, `v`
the upper 32 bits of the two, a code is 0 where `u >= floor(density * 2^32)`; else it is the code at place `v * n >> 32`
of the `n` that there are, ascending: all codes (uniform), all but 0 (sparse), or those of a real layer as often as they
occur there (like). One layer's or image's codes do not depend on how many others there are.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from math import prod
from pathlib import Path

import numpy as np
from jaxtyping import Int64, Integer, UInt64

from factory.spec import CodedLayer, CodedNetwork, ConvLayer, InputError, Pattern, Range, SystolicArray, check_range
from factory.store import open_store
from factory.synthetic.shapes import base_layer, check_base, spread

_GOLDEN, _MIX = 0x9E3779B97F4A7C15, (0xBF58476D1CE4E5B9, 0x94D049BB133111EB)
_HALF = np.uint64(32)
MOST_SEED, _MOST_COUNT = 2**63 - 1, 1 << 20
_ANY = "what no pattern foresees; outputs differ"
_ZEROS = "zeros that are skipped together with what is beside them; outputs differ"
_REAL = "what only real codes meet, such as sums that grow; outputs differ"
_LEAST, _CODES = -128, 384
"""The least code of 8 bits, and how many there are with and without a sign."""


def random_words(key: int, count: int) -> UInt64[np.ndarray, " count"]:
    """Return the first values of SplitMix64 that starts from `key`."""
    z = np.arange(1, count + 1, dtype=np.uint64) * np.uint64(_GOLDEN) + np.uint64(key)
    z = (z ^ z >> np.uint64(30)) * np.uint64(_MIX[0])
    z = (z ^ z >> np.uint64(27)) * np.uint64(_MIX[1])
    return z ^ z >> np.uint64(31)


@dataclass(frozen=True)
class Histogram:
    """How often each of some codes occurs, `0 < sum(counts) < 2**32`; all others are never drawn."""

    codes: Int64[np.ndarray, " code"]
    counts: Int64[np.ndarray, " code"]

    @classmethod
    def uniform(cls, low: int, high: int, without: int | None = None) -> Histogram:
        """Return each code of a closed range once, but for one."""
        codes = np.array([code for code in range(low, high + 1) if code != without])
        return cls(codes, np.ones_like(codes))

    @classmethod
    def of(cls, blocks: Iterable[Integer[np.ndarray, "*any"]]) -> Histogram:
        """Return how often each code of up to 8 bits occurs.

        Counts are halved, rounded up, where there are 2**32 codes or more, until there are not.
        """
        shifted = (block.ravel().astype(np.int64) - _LEAST for block in blocks)
        counts = sum(np.bincount(block, minlength=_CODES) for block in shifted)
        while counts.sum() >= 2**32:
            counts = -(-counts // 2)
        found = np.flatnonzero(counts)
        return cls(found + _LEAST, counts[found])

    def drawn(self, words: UInt64[np.ndarray, "n 2"], density: Fraction) -> Int64[np.ndarray, " n"]:
        """Return the codes that pairs of random words stand for."""
        upper = words >> _HALF
        place = upper[:, 1] * np.uint64(self.counts.sum()) >> _HALF
        codes = self.codes[np.searchsorted(self.counts.cumsum(), place.astype(np.int64), side="right")]
        return np.where(upper[:, 0] < np.uint64(int(density * 2**32)), codes, 0)


@dataclass(frozen=True)
class Draw:
    """What is drawn: `count` images of each kind, of a `seed`; a share `density` of sparse codes is not 0.

    `like` is the path of a store and the name of a layer in it, whose codes' frequencies a third kind has.
    """

    seed: int
    count: int = 4
    density: float = 0.1
    like: tuple[Path, str] | None = None

    def __post_init__(self):
        check_range("seed", self.seed, 0, MOST_SEED)
        check_range("count", self.count, 1, _MOST_COUNT)
        if not 0 <= self.density <= 1:
            raise InputError(f"density must be 0 to 1, not {self.density}")

    def codes(self, what: str, name: str, shape: tuple[int, ...], kind: _Kind) -> Int64[np.ndarray, "*shape"]:
        """Return the codes of a layer or an image."""
        digest = hashlib.sha256(f"factory-random-1 {self.seed} {what} {name}".encode()).digest()
        words = random_words(int.from_bytes(digest[:8], "little"), 2 * prod(shape)).reshape(-1, 2)
        return kind.histogram.drawn(words, kind.density).reshape(shape)


@dataclass(frozen=True)
class _Kind:
    """Codes of one kind: `histogram` of those that are drawn, of which a share `density` is kept; the others are 0."""

    name: str
    flags: tuple[str, ...]
    histogram: Histogram
    density: Fraction
    note: str


def random_network(draw: Draw, array: SystolicArray | None = None, spec: ConvLayer | None = None) -> CodedNetwork:
    """Return random codes: every kind of weights, a layer, meets `draw.count` images of every kind of activations.

    `spec` is the geometry, bits and sign of all layers, by default `base_layer(array)`. Raise InputError where
    `draw.like` names no layer of a store, or one whose codes `spec` cannot hold.
    """
    spec = base_layer(array or SystolicArray()) if spec is None else spec
    check_base(spec)
    least = -spec.weight_qmax
    weights = list(_kinds(draw, "weight", Range(least, spec.weight_qmax), Range(least - 1, spec.weight_qmax)))
    maps = list(_kinds(draw, "activation", Range(*spec.code_range), Range(*spec.code_range)))
    map_shape = (spec.in_channels, spec.height, spec.width)
    patterns = [
        Pattern(f"{kind.name}-{number}", ("random", *kind.flags), f"seed {draw.seed}, activations {kind.note}")
        for kind in maps
        for number in range(draw.count)
    ]
    drawn = [
        draw.codes("activation", pattern.id, map_shape, maps[n // draw.count]) for n, pattern in enumerate(patterns)
    ]
    activation = spread(np.stack(drawn), (len(drawn), *map_shape), spec.signed)
    layers = tuple(
        CodedLayer(
            replace(spec, name=kind.name),
            spread(draw.codes("weight", kind.name, spec.weight_shape, kind), spec.weight_shape),
            activation,
            f"random codes of seed {draw.seed}",
            pattern=Pattern(kind.name, ("random", *kind.flags), f"seed {draw.seed}, weights {kind.note}"),
        )
        for kind in weights
    )
    return CodedNetwork(
        f"random-{draw.seed}", layers, tuple(pattern.id for pattern in patterns), patterns=tuple(patterns)
    )


def _kinds(draw: Draw, what: str, codes: Range, held: Range) -> Iterator[_Kind]:
    """Yield the kinds of weights or of activations: of the `codes` that a quantizer makes, or like those, if `held`."""
    ends = codes.low, codes.high
    yield _Kind(
        "uniform", (), Histogram.uniform(*ends), Fraction(1), f"each of {ends[0]} to {ends[1]} as often: {_ANY}"
    )
    density = Fraction(draw.density)
    yield _Kind(
        "sparse", ("sparse",), Histogram.uniform(*ends, without=0), density, f"{draw.density:.4g} not 0: {_ZEROS}"
    )
    if draw.like is not None:
        path, name = draw.like
        with open_store(path) as store:
            codes_there = getattr(store.layer(name), what)
            histogram = Histogram.of(codes_there[place] for place in range(codes_there.shape[0]))
            source = store.network.name
        outside = [code for code in histogram.codes.tolist() if not held.low <= code <= held.high]
        if outside:
            raise InputError(f"{path}: {name}: {what} codes must be {held.low} to {held.high} here, not {outside[0]}")
        flags = ("like",) if histogram.codes[0] >= codes.low else ("like", "non-symmetric")
        yield _Kind("like", flags, histogram, Fraction(1), f"as often as in {name} of {source}: {_REAL}")
