"""The part of a layer that an export selects: the axes and shapes of its vectors, its inputs cut from arrays."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from jaxtyping import Int64, Integer

from factory.manifest import MANIFEST
from factory.spec import ComparisonError, ConvLayer, InputError, SystolicArray, typed_values
from factory.verify import plain
from factory.verify.hardware import after_post, pixel_order, pixels_read

POOLED_PIXELS = 4

Field = tuple[int, bool]
"""A lane's bits, and whether it is two's complement."""

_OUTPUT = ("ot", "onij", "col")
AXES: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "ws": {
        "activation": ("it", "nij", "row"),
        "weight": ("it", "ot", "kij", "col", "row"),
        "psum": ("it", "ot", "kij", "nij", "col"),
        "partial": ("it", "ot", "onij", "col"),
    },
    "os": {
        "activation": ("ic", "kij", "onij"),
        "weight": ("ot", "ic", "kij", "col"),
    },
    "": {
        "conv": _OUTPUT,
        "out": _OUTPUT,
        "next": _OUTPUT,
        "threshold": ("ot", "level", "col"),
        "direction": ("ot", "col"),
        "address": ("onij", "kij"),
    },
}
"""The axes of each role, in either dataflow or (`""`) in both."""


@dataclass(frozen=True)
class Part:
    """One layer of an export; `tiles` has the selected places of `kij`, `ot`, and of `it` (WS) or `pt` and `ic` (OS).

    `array` is the tile that the array takes at a time: `rows` input channels (WS) or output pixels (OS), `cols` output
    channels. `activation`, `weight` are the fields that its processing elements read.
    """

    spec: ConvLayer
    dataflow: str
    array: SystolicArray
    tiles: Mapping[str, tuple[int, ...]]
    activation: Field
    weight: Field
    pixel_block: tuple[int, int]

    @classmethod
    def from_manifest(cls, manifest: Mapping[str, Any], layer: str) -> Part:
        """Return the part of `layer` that a manifest describes; raise ComparisonError where it is none."""
        array, pe, record = manifest["array"], manifest["pe"], manifest["layers"][layer]
        kinds = {field.name: field.type for field in fields(ConvLayer)}
        try:
            part = cls(
                spec=ConvLayer(**typed_values(record["conv"], kinds, kinds, "conv: ")),
                dataflow=manifest["dataflow"],
                array=SystolicArray(array["rows"] * array["simd"], array["cols"], pe["psum_bits"]),
                tiles={axis: tuple(places) for axis, places in record["tiles"].items()},
                activation=(pe["activation_bits"], pe["activation_signed"]),
                weight=(pe["weight_bits"], pe["weight_signed"]),
                pixel_block=tuple(manifest["pixel_block"]),
            )
        except (TypeError, InputError) as error:
            raise ComparisonError(f"{MANIFEST}: {layer}: {error}") from None
        for axis, count in part.counts.items():
            places = part.tiles.get(axis, ())
            if not places or list(places) != sorted(set(places)) or places[-1] >= count:
                expected = f"ascending {axis} below {count}"
                raise ComparisonError(f"{MANIFEST}: {layer}: tiles must have {expected}, not {list(places)}")
        if part.spec.name != layer or part.is_whole_sum != record["sums_all"]:
            facts = f"its own name and sums_all {part.is_whole_sum}"
            raise ComparisonError(f"{MANIFEST}: {layer}: must have {facts}, not {part.spec.name}, {record['sums_all']}")
        return part

    @property
    def counts(self) -> dict[str, int]:
        """How many places each axis that can be selected has in the whole layer."""
        spec, array = self.spec, self.array
        ends = {"kij": spec.kij_count, "ot": array.output_tiles(spec.out_channels)}
        if self.dataflow == "ws":
            return ends | {"it": array.input_tiles(spec.in_channels)}
        return ends | {"pt": array.pixel_tiles(spec.onij_count), "ic": spec.in_channels}

    @property
    def is_whole_sum(self) -> bool:
        """Whether the sums are over every input channel and kernel position."""
        summed = ("kij", "it") if self.dataflow == "ws" else ("kij", "ic")
        return all(len(self.tiles[axis]) == self.counts[axis] for axis in summed)

    @property
    def pixels(self) -> list[int]:
        """The `onij` of each selected place, in order."""
        if self.dataflow == "ws":
            return list(range(self.spec.onij_count))
        order, rows = pixel_order(self.spec, self.pixel_block), self.array.rows
        return [onij for pt in self.tiles["pt"] for onij in order[pt * rows : (pt + 1) * rows]]

    @property
    def channels(self) -> list[int]:
        """The output channel of each column of each selected `ot`, beyond the layer's last where a column has none."""
        cols = self.array.cols
        return [ot * cols + col for ot in self.tiles["ot"] for col in range(cols)]

    def by_channel(self, values: Integer[np.ndarray, "oc ..."]) -> Int64[np.ndarray, "ot col ..."]:
        """Return the selected channels' values by tile and column, zeros for a column without a channel."""
        cut = np.zeros((len(self.channels), *values.shape[1:]), np.int64)
        for place, channel in enumerate(self.channels):
            if channel < len(values):
                cut[place] = values[channel]
        return cut.reshape(len(self.tiles["ot"]), self.array.cols, *values.shape[1:])

    def to_channels(self, values: Int64[np.ndarray, "ot col ..."]) -> Int64[np.ndarray, "oc ..."]:
        """Invert `by_channel`; zeros for the channels that are not selected."""
        joined = values.reshape(len(self.channels), *values.shape[2:])
        whole = np.zeros((self.spec.out_channels, *joined.shape[1:]), np.int64)
        for place, channel in enumerate(self.channels):
            if channel < len(whole):
                whole[channel] = joined[place]
        return whole

    def cut_weight(self, weight: Integer[np.ndarray, "oc ic ki kj"]) -> Int64[np.ndarray, "*_"]:
        """Return the selected weight codes: `(it, ot, kij, col, row)` in WS, `(ot, ic, kij, col)` in OS."""
        kij = list(self.tiles["kij"])
        if self.dataflow == "os":
            flat = weight.reshape(*weight.shape[:2], -1)[:, list(self.tiles["ic"])][:, :, kij]
            return self.by_channel(flat).transpose(0, 2, 3, 1)
        tiles = [
            [plain.weight_tile(weight, self.array, it, ot)[kij] for ot in self.tiles["ot"]] for it in self.tiles["it"]
        ]
        return np.array(tiles)

    def cut_activation(self, codes: Integer[np.ndarray, "ic y x"]) -> Int64[np.ndarray, "*_"]:
        """Return the selected activation codes: `(it, nij, row)` in WS, `(ic, kij, onij)` in OS."""
        if self.dataflow == "ws":
            return np.stack([plain.activation_tile(codes, self.spec, self.array, it) for it in self.tiles["it"]])
        padded = plain.pad(codes[list(self.tiles["ic"])], self.spec)
        flat = padded.reshape(len(padded), self.spec.nij_count)
        return flat[:, pixels_read(self.spec)[self.pixels][:, list(self.tiles["kij"])].T]

    def addresses(self) -> Int64[np.ndarray, "onij kij"]:
        """Return `kij * nij_count + nij(onij, kij)`, the address that each pixel reads at each position, from 0."""
        kij = np.array(self.tiles["kij"])
        return kij * self.spec.nij_count + pixels_read(self.spec)[self.pixels][:, kij]

    def axes(self, role: str) -> tuple[str, ...]:
        """Return the axes of a role's vector; raise ComparisonError where the dataflow has no such role."""
        known = AXES[self.dataflow] | AXES[""]
        if role not in known:
            raise ComparisonError(f"a role must be one of {' '.join(known)} in dataflow {self.dataflow}, not {role}")
        return known[role]

    def tile_pixels(self, role: str, post: str) -> int:
        """Return how many values a pixel tile of a role holds: a pooled output has a quarter of the pixels."""
        return self.array.rows // POOLED_PIXELS if role == "out" and post.endswith("maxpool2") else self.array.rows

    def occupied(self, role: str, post: str, levels: int) -> Int64[np.ndarray, "*_"]:
        """Return a role's vector with ones where it has a channel and a pixel, and zeros elsewhere."""
        spec = self.spec
        if role == "weight":
            return self.cut_weight(np.ones(spec.weight_shape, np.int64))
        if role == "activation":
            return self.cut_activation(np.ones((spec.in_channels, spec.height, spec.width), np.int64))
        sizes = {axis: len(tiles) for axis, tiles in self.tiles.items()}
        sizes |= dict(nij=spec.nij_count, col=self.array.cols, level=levels, onij=self._output_pixels(role, post))
        axes, columns = self.axes(role), self.by_channel(np.ones(spec.out_channels, np.int64))
        if "col" not in axes:
            return np.ones([sizes[axis] for axis in axes], np.int64)
        columns = columns.reshape([sizes[axis] if axis in ("ot", "col") else 1 for axis in axes])
        return np.broadcast_to(columns, [sizes[axis] for axis in axes])

    def _output_pixels(self, role: str, post: str) -> int:
        if role == "next":
            return self.spec.next_height * self.spec.next_width
        nothing = np.zeros((1, len(self.pixels), 1), np.int64)
        return after_post(nothing, post if role == "out" else "none", self.pixels, self.spec).shape[1]

    def split_pixels(
        self, axes: tuple[str, ...], values: Int64[np.ndarray, "*_"], size: int
    ) -> tuple[tuple[str, ...], Int64[np.ndarray, "*_"]]:
        """Return a vector with `onij` as `pt` and `px`, tiles of `size` pixels, zeros after the last pixel."""
        at, tiles = axes.index("onij"), len(self.tiles["pt"])
        room = [(0, 0)] * values.ndim
        room[at] = (0, tiles * size - values.shape[at])
        shape = (*values.shape[:at], tiles, size, *values.shape[at + 1 :])
        return (*axes[:at], "pt", "px", *axes[at + 1 :]), np.pad(values, room).reshape(shape)

    def join_pixels(self, axes: tuple[str, ...], values: Int64[np.ndarray, "*_"]) -> Int64[np.ndarray, "*_"]:
        """Invert `split_pixels` for a vector of every selected pixel; one without `pt` is returned as it is."""
        if "pt" not in axes:
            return values
        at = axes.index("pt")
        joined = values.reshape(*values.shape[:at], -1, *values.shape[at + 2 :])
        return joined[(slice(None),) * at + (slice(len(self.pixels)),)]
