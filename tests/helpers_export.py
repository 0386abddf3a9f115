"""Stores in memory, for exports, and the notebook's own loops that write memory files."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
from helpers_network import integer_network, odd_network, random_pixels

from factory.arithmetic.integer import max_pool, threshold_codes
from factory.arithmetic.tiling import tile_activation, tile_weight
from factory.dataflow import DATAFLOWS, ROLES, KnownLayer
from factory.memfile import load_profile, profile_names
from factory.spec import ConvLayer, InputError, LayerSet, SystolicArray, part1, part2


@dataclass(frozen=True)
class MemoryStore:
    """Layers and images that lie in no file."""

    network: LayerSet
    layers: dict[str, KnownLayer]
    array: SystolicArray = SystolicArray()
    path: Path = Path("memory.h5")
    image_source: str = "memory"
    weights_sha256: str = "0" * 64
    images: SimpleNamespace = field(default_factory=SimpleNamespace)

    @property
    def image_count(self) -> int:
        return next(iter(self.layers.values())).activation.shape[0]

    def layer(self, name: str) -> KnownLayer:
        if name not in self.layers:
            raise InputError(f"{self.path}: layer must be one of {' '.join(self.layers)}, not {name}")
        return self.layers[name]


SHIPPED = [
    (flow, name)
    for flow in DATAFLOWS
    for name in profile_names(flow)
    if not all(ROLES[layout.role].edge for layout in load_profile(name, flow).layouts)
]
"""Every shipped profile of memories, those of what crosses the array's edges alone left out."""


def reference_store(folder: Path, name: str) -> MemoryStore:
    """Return the layers and images of `reference_<name>.npz`, `w4a4` or `w4a2`."""
    network = {"w4a4": part1, "w4a2": part2}[name]()
    with np.load(folder / f"reference_{name}.npz") as data:
        layers = {
            spec.name: KnownLayer(spec, data[f"{spec.name}.weight_code"], data[f"{spec.name}.activation_code"])
            for spec in network.layers
        }
        images = SimpleNamespace(source_index=data["index"])
    return MemoryStore(network, layers, images=images)


def files_of(folder: Path) -> dict[str, bytes]:
    """Return every file below a folder but the manifest, by its path."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != "manifest.json"
    }


def odd_store(images: int = 2, array: SystolicArray | None = None, activation_bits: int = 4) -> MemoryStore:
    """Return the layers of `odd_network` and their codes for random images, by plain convolutions."""
    network = odd_network(activation_bits)
    integer = integer_network(network)
    pixels = random_pixels(network, images)
    codes = np.stack([integer.input_table[colour][pixels[:, colour]] for colour in range(pixels.shape[1])], axis=1)
    layers = {}
    for spec in network.layers:
        layer = integer.layers[spec.name]
        layers[spec.name] = KnownLayer(spec, layer.weight, codes, layer.threshold, layer.direction)
        if layer.threshold is not None:
            acc = np.stack([plain_conv(spec, layer.weight, image) for image in codes])
            codes = max_pool(threshold_codes(acc, layer.threshold, layer.direction), spec.pool)
    images = SimpleNamespace(source_index=np.arange(images) + 40)
    return MemoryStore(network, layers, array or SystolicArray(), images=images)


def tiled(store: MemoryStore) -> MemoryStore:
    """Return the store with the tiles of its array, and their psums, beside each layer's integers."""
    layers = {}
    for name, layer in store.layers.items():
        weight = tile_weight(layer.weight, store.array)
        activation = tile_activation(layer.activation, layer.spec, store.array)
        psum = np.einsum("nipr,iokcr->niokpc", activation.astype(np.int32), weight.astype(np.int32)).astype(np.int16)
        layers[name] = replace(layer, weight_tile=weight, activation_tile=activation, psum=psum)
    return replace(store, layers=layers)


def plain_conv(spec: ConvLayer, weight: np.ndarray, codes: np.ndarray) -> np.ndarray:
    """Return int64 `(oc, y, x)` by one sum for each output pixel."""
    padded = np.pad(codes.astype(np.int64), ((0, 0), spec.padding[::2], spec.padding[1::2]))
    out = np.zeros((spec.out_channels, spec.out_height, spec.out_width), np.int64)
    for y in range(spec.out_height):
        for x in range(spec.out_width):
            top, left = y * spec.stride[0], x * spec.stride[1]
            window = padded[:, top : top + spec.kernel[0], left : left + spec.kernel[1]]
            out[:, y, x] = (weight.astype(np.int64) * window).sum(axis=(1, 2, 3))
    return out


def read_back(value: int, bits: int, signed: bool) -> int:
    """Return what a field of `bits` reads that took a value's low bits."""
    low = int(value) % (1 << bits)
    return low - (1 << bits) if signed and low >= 1 << (bits - 1) else low


def settle(value: int, bits: int, overflow: str) -> int:
    """Return what an adder of `bits` gives for a sum."""
    if overflow == "saturate":
        return max(-(1 << (bits - 1)), min(value, (1 << (bits - 1)) - 1))
    return read_back(value, bits, True)


@dataclass(frozen=True)
class PlainLayer:
    """One layer and image as an array reads it, value by value in Python integers; channels beyond the last are 0."""

    spec: ConvLayer
    weights: np.ndarray
    codes: np.ndarray
    activation: tuple[int, bool] = (4, False)
    weight_field: tuple[int, bool] = (4, True)
    bits: int = 16
    overflow: str = "wrap"

    def act(self, ic: int, nij: int) -> int:
        y, x = divmod(nij, self.spec.padded_width)
        y, x = y - self.spec.padding[0], x - self.spec.padding[1]
        if ic >= self.spec.in_channels or not (0 <= y < self.spec.height and 0 <= x < self.spec.width):
            return 0
        return read_back(self.codes[ic, y, x], *self.activation)

    def weight(self, oc: int, ic: int, kij: int) -> int:
        if oc >= self.spec.out_channels or ic >= self.spec.in_channels:
            return 0
        return read_back(
            self.weights[oc, ic, kij // self.spec.kernel[1], kij % self.spec.kernel[1]], *self.weight_field
        )

    def nij(self, onij: int, kij: int) -> int:
        (oi, oj), (ki, kj) = divmod(onij, self.spec.out_width), divmod(kij, self.spec.kernel[1])
        return (oi * self.spec.stride[0] + ki) * self.spec.padded_width + oj * self.spec.stride[1] + kj

    def psum(self, channels: range, oc: int, kij: int, nij: int) -> int:
        total = 0
        for ic in channels:
            total = settle(total + self.act(ic, nij) * self.weight(oc, ic, kij), self.bits, self.overflow)
        return total

    def ws(self, oc: int, onij: int, its: list[int], kijs: list[int], rows: int) -> int:
        total = 0
        for it in its:
            for kij in kijs:
                psum = self.psum(range(it * rows, (it + 1) * rows), oc, kij, self.nij(onij, kij))
                total = settle(total + psum, self.bits, self.overflow)
        return total

    def os(self, oc: int, onij: int, channels: int, kijs: list[int]) -> int:
        total = 0
        for ic in range(channels):
            for kij in kijs:
                product = self.act(ic, self.nij(onij, kij)) * self.weight(oc, ic, kij)
                total = settle(total + product, self.bits, self.overflow)
        return total
