"""The part of a layer that an export selects: its inputs cut from whole arrays, and what must follow from them."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from math import prod
from typing import Any

import numpy as np
from jaxtyping import Int64, Integer

from factory.manifest import MANIFEST
from factory.spec import ComparisonError, ConvLayer, InputError, SystolicArray
from factory.store import StoredLayer
from factory.verify import reference
from factory.verify.dataflows import DATAFLOW_RULES, ROLE_RULES, CodeField, DataflowRule, RoleRule, Values
from factory.verify.named import NamedAxes
from factory.verify.rule import TWOS_COMPLEMENT

EXACT_BITS = 62
"""Bits of adders that hold every sum."""


@dataclass(frozen=True)
class Known:
    """A vector with its role's axes, and how many of its values are not what they stand for (None: not known)."""

    values: Values
    inexact: int | None = None


def _code_field(pe: Mapping[str, Any], role: str) -> CodeField:
    return pe[f"{role}_bits"], pe[f"{role}_signed"], pe.get(f"{role}_code", TWOS_COMPLEMENT)


@dataclass(frozen=True)
class SelectedLayer:
    """One layer of an export; `selection` has the selected places of `kij` and of the axes that the dataflow cuts.

    `array` is the tile that the array takes at a time. `activation`, `weight` are the fields that its processing
    elements read. Arrays of the layer have their selected channels on axes `ic` and `oc`, in order and with zeros for
    lanes that have none; `lay` makes a role's vector of them.
    """

    spec: ConvLayer
    dataflow: DataflowRule
    array: SystolicArray
    selection: Mapping[str, tuple[int, ...]]
    activation: CodeField
    weight: CodeField
    pixel_block: tuple[int, int]

    @classmethod
    def from_manifest(cls, manifest: Mapping[str, Any], name: str) -> SelectedLayer:
        """Return what a manifest says of a layer; raise ComparisonError where it is none."""
        array, pe, record = manifest["array"], manifest["pe"], manifest["layers"][name]
        try:
            layer = cls(
                spec=ConvLayer.from_dict(record["spec"], "spec: "),
                dataflow=DATAFLOW_RULES[manifest["dataflow"]],
                array=SystolicArray(array["rows"] * array["simd"], array["cols"], pe["psum_bits"]),
                selection={axis: tuple(places) for axis, places in record["selection"].items()},
                activation=_code_field(pe, "activation"),
                weight=_code_field(pe, "weight"),
                pixel_block=tuple(manifest["pixel_block"]),
            )
        except (TypeError, InputError) as error:
            raise ComparisonError(f"{MANIFEST}: {name}: {error}") from None
        for axis, count in layer.counts.items():
            places = layer.selection.get(axis, ())
            if not places or list(places) != sorted(set(places)) or places[-1] >= count:
                expected = f"ascending {axis} below {count}"
                raise ComparisonError(f"{MANIFEST}: {name}: selection must have {expected}, not {list(places)}")
        if layer.spec.name != name or layer.is_whole_sum != record["sums_all"]:
            facts = f"its own name and sums_all {layer.is_whole_sum}"
            raise ComparisonError(f"{MANIFEST}: {name}: must have {facts}, not {layer.spec.name}, {record['sums_all']}")
        return layer

    @property
    def counts(self) -> dict[str, int]:
        """How many places each axis that can be selected has in the whole layer."""
        spec, flow = self.spec, self.dataflow
        sizes = {flow.inputs: spec.in_channels, flow.outputs: spec.out_channels, flow.pixels: spec.onij_count}
        cut = {cut.axes[0]: cut.count(size, self.array) for cut, size in sizes.items() if cut is not None}
        return {"kij": spec.kij_count} | cut

    @property
    def is_whole_sum(self) -> bool:
        """Whether the sums are over every input channel and kernel position."""
        return all(len(self.selection[axis]) == self.counts[axis] for axis in ("kij", self.dataflow.inputs.axes[0]))

    @property
    def pixels(self) -> list[int]:
        """The `onij` of each selected place, in order."""
        cut = self.dataflow.pixels
        if cut is None:
            return list(range(self.spec.onij_count))
        order = reference.pixel_sequence(self.spec, self.pixel_block)
        return [order[place] for place in cut.places(self.selection[cut.axes[0]], self.array) if place < len(order)]

    @property
    def tile_pixels(self) -> int:
        """Pixels of a pixel tile."""
        return self.dataflow.pixels.lanes(self.array) if self.dataflow.pixels else len(self.pixels)

    @property
    def inputs(self) -> list[int]:
        """The input channel of each place on `ic`, beyond the layer's last where a lane has none."""
        return self.dataflow.inputs.places(self.selection[self.dataflow.inputs.axes[0]], self.array)

    @property
    def outputs(self) -> list[int]:
        """The output channel of each place on `oc`, beyond the layer's last where a lane has none."""
        return self.dataflow.outputs.places(self.selection[self.dataflow.outputs.axes[0]], self.array)

    @property
    def reads(self) -> Int64[np.ndarray, "kij onij"]:
        """The padded pixel that each selected pixel reads at each selected kernel position."""
        return reference.pixels_read(self.spec)[self.pixels][:, list(self.selection["kij"])].T

    def axes(self, role: str) -> tuple[str, ...]:
        """Return the axes of a role's vector; raise ComparisonError where the dataflow has no such role."""
        known = self.dataflow.axes
        if role not in known:
            name = self.dataflow.name
            raise ComparisonError(f"a role must be one of {' '.join(known)} in dataflow {name}, not {role}")
        return known[role]

    def lay(self, role: str, values: Values, order: Sequence[str]) -> Values:
        """Return a role's vector, with its axes, of values with the axes `order`, of which `ic` and `oc` are cut."""
        sizes = [self._parts(axis, size) for axis, size in zip(order, values.shape, strict=True)]
        names = [axis for part in sizes for axis in part]
        split = values.reshape([size for part in sizes for size in part.values()])
        return split.transpose([names.index(axis) for axis in self.axes(role)])

    def join(self, role: str, values: Values, order: Sequence[str]) -> Values:
        """Invert `lay`."""
        sizes = dict(zip(self.axes(role), values.shape, strict=True))
        parts = [self._parts(axis, sizes.get(axis, 0)) for axis in order]
        moved = values.transpose([self.axes(role).index(axis) for part in parts for axis in part])
        return moved.reshape([prod(part.values()) for part in parts])

    def _parts(self, axis: str, size: int) -> dict[str, int]:
        """Return the axes, with their sizes, that an axis is cut into."""
        cut = {"ic": self.dataflow.inputs, "oc": self.dataflow.outputs}.get(axis)
        if cut is None:
            return {axis: size}
        sizes = (len(self.selection[cut.axes[0]]), cut.lanes(self.array))
        return dict(zip(cut.axes, sizes, strict=False))

    def given(self, stored: StoredLayer | None, image: int | None) -> dict[str, Known]:
        """Return what geometry and the store give of the layer itself (None) or of an image, as the array reads it."""
        known = {}
        for role, rule in ROLE_RULES.items():
            if rule.given and rule.per_image == (image is not None):
                values = rule.given(self, stored, image)
                if values is not None:
                    read = reference.read_field(values, *rule.field(self)) if rule.field else values
                    known[role] = Known(read, int(np.count_nonzero(read != values)))
        return known

    def inexact_operands(self, known: Mapping[str, Known], listed: Collection[str]) -> int | None:
        """Return how many selected codes the array reads as others, of operands whose role is not `listed`.

        None where that is not known.
        """
        unseen = [known.get(role) for role, rule in ROLE_RULES.items() if rule.field and role not in listed]
        counts = [operand and operand.inexact for operand in unseen]
        return None if None in counts else sum(counts)

    def cut_weight(self, weight: Integer[np.ndarray, "oc ic ki kj"]) -> Values:
        """Return the selected weight codes."""
        flat = weight.reshape(*weight.shape[:2], -1)[..., list(self.selection["kij"])]
        return self.lay("weight", pick(pick(flat, self.outputs, 0), self.inputs, 1), ("oc", "ic", "kij"))

    def cut_activation(self, codes: Integer[np.ndarray, "ic y x"]) -> Values:
        """Return the selected activation codes."""
        padded = reference.pad(codes, self.spec).reshape(len(codes), self.spec.nij_count)
        return self.dataflow.stream(self, pick(padded, self.inputs, 0))

    def cut_outputs(self, role: str, values: Integer[np.ndarray, "oc ..."], *rest: str) -> Values:
        """Return the selected output channels' values, whose other axes are `rest`."""
        return self.lay(role, pick(values, self.outputs, 0), ("oc", *rest))

    def addresses(self) -> Int64[np.ndarray, "onij kij"]:
        """Return `position * nij_count + nij(onij, kij)`, the address that each pixel reads at each `kij`, from 0.

        `position` counts the kernel positions that are selected.
        """
        positions = np.arange(len(self.selection["kij"]))
        return (positions[:, None] * self.spec.nij_count + self.reads).T

    def occupied(self, role: str, post: str, levels: int) -> Values:
        """Return a role's vector with ones where it has a channel and a pixel, and zeros elsewhere."""
        rule, spec, axes, cut = ROLE_RULES[role], self.spec, self.axes(role), self.dataflow.outputs
        if rule.occupied is not None:
            return rule.occupied(self)
        sizes = {axis: len(places) for axis, places in self.selection.items()} | self._parts("oc", 0)
        sizes |= dict(nij=spec.nij_count, level=levels, onij=len(rule.map(self, post)[0]))
        shape = [sizes[axis] for axis in axes]
        if not set(cut.axes) <= set(axes):
            return np.ones(shape, np.int64)
        columns = pick(np.ones(spec.out_channels, np.int64), self.outputs, 0)
        return np.broadcast_to(columns.reshape([sizes[axis] if axis in cut.axes else 1 for axis in axes]), shape)

    def named_axes(self, role: str, post: str, border: bool) -> NamedAxes:
        """Return what the axes of a role may be taken as, the input map being with its border or without."""
        spec, flow = self.spec, self.dataflow
        order, _, width = ROLE_RULES[role].map(self, post)
        inner = range(spec.nij_count) if border else reference.inside_border(spec)
        channels, labels = {}, {"onij": order, "nij": inner}
        for dim, cut, chosen, count in (
            ("ic", flow.inputs, self.inputs, spec.in_channels),
            ("oc", flow.outputs, self.outputs, spec.out_channels),
        ):
            labels[dim] = [channel for channel in chosen if channel < count]
            channels[dim] = (cut.axes, len(labels[dim]))
        row_major = sorted(range(len(order)), key=lambda place: order[place])
        return NamedAxes(
            channels=channels,
            pixels={"nij": (inner, spec.padded_width if border else spec.width), "onij": (row_major, width)},
            loops={axis: len(places) for axis, places in self.selection.items()},
            labels=labels | dict(self.selection),
        )

    def split_pixels(self, axes: tuple[str, ...], values: Values, size: int) -> tuple[tuple[str, ...], Values]:
        """Return a vector with `onij` as `pt` and `px`, tiles of `size` pixels, zeros after the last pixel."""
        at, cut = axes.index("onij"), self.dataflow.pixels.axes
        tiles, room = len(self.selection[cut[0]]), [(0, 0)] * values.ndim
        room[at] = (0, tiles * size - values.shape[at])
        shape = (*values.shape[:at], tiles, size, *values.shape[at + 1 :])
        return (*axes[:at], *cut, *axes[at + 1 :]), np.pad(values, room).reshape(shape)

    def join_pixels(self, axes: tuple[str, ...], values: Values) -> Values:
        """Invert `split_pixels` for a vector of every selected pixel; one of which nothing is split stays as it is."""
        cut = self.dataflow.pixels
        if cut is None or cut.axes[0] not in axes:
            return values
        at = axes.index(cut.axes[0])
        joined = values.reshape(*values.shape[:at], -1, *values.shape[at + 2 :])
        return joined[(slice(None),) * at + (slice(len(self.pixels)),)]


def pick(values: Integer[np.ndarray, "*shape"], places: Sequence[int], axis: int) -> Values:
    """Return the places of an axis, zeros for those beyond its end."""
    moved = np.moveaxis(values, axis, 0)
    picked = np.zeros((len(places), *moved.shape[1:]), np.int64)
    for at, place in enumerate(places):
        if place < len(moved):
            picked[at] = moved[place]
    return np.moveaxis(picked, 0, axis)


@dataclass(frozen=True)
class ExpectedVectors:
    """What follows from one image's codes, sums being made addition by addition, in hardware order.

    `activation` and `weight` are the codes that the array reads; `quantizer` is the vectors of `threshold` and
    `direction`, needed for `next_codes` alone.
    """

    layer: SelectedLayer
    adders: reference.Adders
    post: str
    activation: Values
    weight: Values
    quantizer: tuple[Values, Values] | None = None

    def inexact(self, rule: RoleRule) -> int:
        """Return how many sums that a role's values stand for the adders cannot hold."""
        weights = np.abs(self.layer.join("weight", self.weight, ("oc", "ic", "kij")))
        most = int(np.abs(self.activation).max()) * int(weights.sum(axis=(1, 2)).max())
        if most < 1 << (self.adders.bits - 1):
            return 0
        exact = replace(self, adders=reference.Adders(EXACT_BITS, "wrap"))
        return int(np.count_nonzero(rule.sums(exact) != rule.sums(self)))

    @property
    def psum(self) -> Values:
        """The partial sums of each `it` and `kij`."""
        return self.layer.lay("psum", np.stack([psum for psum, _ in self._sums()]), self.layer.dataflow.psum)

    @property
    def running_sum(self) -> Values:
        """The accumulators after each `it`."""
        return self.layer.lay("running_sum", np.stack([total for _, total in self._sums()]), ("it", "oc", "onij"))

    @property
    def accumulator(self) -> Values:
        """The sums of everything selected."""
        return self.layer.lay("accumulator", self._accumulators, ("oc", "onij"))

    @property
    def out(self) -> Values:
        """The accumulators after the post-op."""
        outputs = reference.after_post(self._accumulators, self.post, self.layer.pixels, self.layer.spec)
        return self.layer.lay("out", outputs, ("oc", "onij"))

    @property
    def next_codes(self) -> Values:
        """The codes that enter the next layer, of the map after the layer's own pool."""
        spec, lanes = self.layer.spec, self.layer.outputs
        real = [lane for lane, channel in enumerate(lanes) if channel < spec.out_channels]
        threshold = self.layer.join("threshold", self.quantizer[0], ("oc", "level"))[real]
        direction = self.layer.join("direction", self.quantizer[1], ("oc",))[real]
        maps = np.zeros((len(real), spec.onij_count), np.int64)
        maps[:, self.layer.pixels] = self._accumulators[real]
        codes = reference.count_thresholds(maps, threshold, direction)
        pooled = reference.pool_codes(codes.reshape(-1, spec.out_height, spec.out_width), spec.pool)
        following = np.zeros((len(lanes), spec.next_height * spec.next_width), np.int64)
        following[real] = pooled.reshape(len(real), -1)
        return self.layer.lay("next", following, ("oc", "onij"))

    @cached_property
    def _accumulators(self) -> Int64[np.ndarray, "oc onij"]:
        return [total for _, total in self._sums()][-1]

    def _sums(self) -> Iterator[tuple[Values | None, Int64[np.ndarray, "oc onij"]]]:
        return self.layer.dataflow.sums(self.layer, self.activation, self.weight, self.adders)
