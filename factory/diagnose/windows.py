"""Right codes at wrong pixels: hypotheses about where the kernel's window lies, and how large it is."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

import numpy as np
from jaxtyping import Bool, Int64

from factory.arithmetic.labelled import LabelledArray
from factory.arithmetic.tiling import nij_of_onij
from factory.dataflow import PIXELS
from factory.dataflow.sums import arranged
from factory.diagnose.case import Case, Guess, Words
from factory.spec import ConvLayer

Pair = tuple[int, int]
"""One number along y, one along x."""


def windows_moved(case: Case) -> Iterator[Guess]:
    """An output reads other pixels: a stride, dilation or width is another one, or its window is a pixel off."""
    if not _streams_the_map(case):
        return
    spec = case.mapping.spec
    oi, oj = np.divmod(case.mapping.pixels[:, None], spec.out_width)
    ki, kj = np.divmod(np.asarray(case.mapping.selection["kij"]), spec.kernel[1])
    right = case.mapping.windows
    changes = dict(_changes(spec))
    for name, ((sy, sx), (dy, dx), width, by) in changes.items():
        pixels = (oi * sy + ki * dy) * width + oj * sx + kj * dx + by
        if not np.array_equal(pixels, right):
            yield Guess(name, _reading(case, pixels), len(changes))


def _streams_the_map(case: Case) -> bool:
    """Return whether the array itself finds the pixels of a window, and the words are sums over windows."""
    codes = case.operands["activation"]
    return "nij" in codes.axes and case.group.files.role.totals


def _changes(spec: ConvLayer) -> Iterator[tuple[str, tuple[Pair, Pair, int, int]]]:
    """Yield wrong strides, dilations, widths of the padded map, and pixels by which a window is off."""
    stride, dilation, width = spec.stride, spec.dilation, spec.padded_width
    for name, other in _other_pairs("stride", stride):
        yield name, (other, dilation, width, 0)
    for name, other in _other_pairs("dilation", dilation):
        yield name, (stride, other, width, 0)
    if dilation != stride:
        yield "stride and dilation are exchanged", (dilation, stride, width, 0)
    widths = {"rows are as long as without the border": spec.width, "rows are as long as columns": spec.padded_height}
    for name, other in widths.items():
        if other != width:
            yield name, (stride, dilation, other, 0)
    for down, right in product((-1, 0, 1), repeat=2):
        if (by := down * width + right) != 0:
            yield f"the window is {down} rows and {right} columns off", (stride, dilation, width, by)


def _other_pairs(word: str, right: Pair) -> Iterator[tuple[str, Pair]]:
    """Yield what a pair of numbers by axis may be taken for, each other pair once."""
    y, x = right
    found = {
        f"the {word} is ignored along x": (y, 1),
        f"the {word} is ignored along y": (1, x),
        f"the {word} is ignored": (1, 1),
        f"the {word} along x is that along y": (y, y),
        f"the {word} along y is that along x": (x, x),
        f"x and y of the {word} are exchanged": (x, y),
    }
    seen = {right}
    for name, pair in found.items():
        if pair not in seen:
            seen.add(pair)
            yield name, pair


def _reading(case: Case, pixels: Int64[np.ndarray, "onij kij"]) -> Words:
    """Return what the files would hold if each output read other pixels of the padded map, 0 beyond its ends."""
    codes, count = case.operands["activation"], case.mapping.spec.nij_count
    at = codes.axes.index("nij")
    axes = (*codes.axes[:at], PIXELS, "kij", *codes.axes[at + 1 :])
    there = (pixels >= 0) & (pixels < count)
    shape = [1] * at + list(pixels.shape) + [1] * (codes.values.ndim - at - 1)
    values = np.where(there.reshape(shape), codes.values.take(pixels.clip(0, count - 1), axis=at), 0)
    return case.values(activation=LabelledArray(values, axes, codes.labels))


def kernels_resized(case: Case) -> Iterator[Guess]:
    """The loops over the kernel end early or late, so that passes, in their order, lie at other positions.

    The array counts `ki` and `kj` itself, and takes the words that come: pass `p`, counted in each `it` or through all,
    has the codes of `it, kij = divmod(p, kij_count)` and lies at `ki, kj = divmod(p % (height * width), width)`. A
    kernel of more positions would wait for passes that never come.
    """
    mapping, spec = case.mapping, case.mapping.spec
    if not _streams_the_map(case) or not mapping.sums_all:
        return
    tiles, (high, wide) = len(mapping.selection["it"]), spec.kernel
    found = {size: None for size in ((high, high), (wide, wide), (wide, high), (high - 1, wide), (high, wide - 1))}
    sizes = [(height, width) for height, width in found if 0 < height * width <= spec.kij_count]
    first = nij_of_onij(spec)[mapping.pixels][:, 0][:, None, None]  # what each output reads at kernel position 0
    starts = {"": spec.kij_count, ", counted through all it": tiles * spec.kij_count}
    for (height, width), (name, count) in product(sizes, starts.items()):
        if (height, width) == spec.kernel or name and tiles == 1:
            continue
        passes = np.arange(tiles * spec.kij_count).reshape(tiles, spec.kij_count) % count
        ki, kj = np.divmod(passes % (height * width), width)
        pixels = first + ki * spec.dilation[0] * spec.padded_width + kj * spec.dilation[1]
        taken = passes < height * width * (count // spec.kij_count)
        values = _passes_at(case, pixels, taken)
        yield Guess(f"{height} x {width} for {high} x {wide}{name}", values, 2 * len(sizes))


def _passes_at(case: Case, pixels: Int64[np.ndarray, "onij it kij"], taken: Bool[np.ndarray, "it kij"]) -> Words:
    """Return what the files would hold if each pass read its own pixels, and some passes were not added."""
    codes = case.operands["activation"]
    by_tile, count = arranged(codes, "it", "nij", "row"), codes.size("nij")
    there = (pixels < count) & taken
    values = by_tile[np.arange(len(by_tile))[:, None], pixels.clip(max=count - 1)]
    labels = {axis: kept for axis, kept in codes.labels.items() if axis != "nij"}
    axes = (PIXELS, "it", "kij", "row")
    return case.values(activation=LabelledArray(np.where(there[..., None], values, 0), axes, labels))
