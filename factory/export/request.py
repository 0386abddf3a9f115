"""What an export is asked for, and the part of each layer that it selects."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from factory.dataflow import FLOWS, Adder, Dataflow, Tiles
from factory.export.selection import parse_indices, parse_tiles
from factory.export.source import ExportSource
from factory.memfile import Layout, Profile
from factory.spec import ConvLayer, InputError, SystolicArray


@dataclass(frozen=True)
class ExportRequest:
    """One export's options; `profile` already has those that are its own (see `Profile.configure`).

    `array` is the tile that the profile's array takes at a time. `merge` is whether a layer and role is one file.
    """

    profile: Profile
    array: SystolicArray
    overflow: str = "wrap"
    layers: str | Sequence[str] = "squeezed"
    images: str = "0"
    tiles: str = "all"
    kij: str = "all"
    input_channels: int | None = None
    include: tuple[str, ...] = ("activation", "weight", "out")
    merge: bool = False
    flat: bool = False

    @property
    def adder(self) -> Adder:
        """The adder of the array's processing elements."""
        return Adder(self.array.psum_bits, self.overflow)

    @property
    def layouts(self) -> tuple[Layout, ...]:
        """The layouts that are asked for."""
        return self.profile.select(self.include)

    def select_layers(self, store: ExportSource) -> tuple[ConvLayer, ...]:
        """Return the selected layers, in the network's order; `all` is every layer of the store."""
        words = self.layers.split(",") if isinstance(self.layers, str) else self.layers
        chosen = store.network.select(self.layers)
        if "all" in map(str.strip, words):
            chosen = tuple(spec for spec in chosen if spec.name in store.layers)
        return tuple(store.layer(spec.name).spec for spec in chosen)

    def select_images(self, store: ExportSource) -> tuple[int, ...]:
        """Return the selected images' places in the store."""
        return parse_indices(self.images, store.image_count, "image")

    def dataflow(self, spec: ConvLayer) -> Dataflow:
        """Return the selected part of a layer on the profile's array."""
        return FLOWS[self.profile.dataflow](
            spec=spec,
            array=self.array,
            tiles=self._tiles(spec),
            weight_field=self.profile.field("weight"),
            activation_field=self.profile.field("activation"),
            adder=self.adder,
            pixel_block=self.profile.pixel_block,
        )

    def _tiles(self, spec: ConvLayer) -> Tiles:
        array, where = self.array, f"{spec.name}: "
        counts = {"ot": array.output_tiles(spec.out_channels)}
        if self.profile.dataflow == "ws":
            counts = {"it": array.input_tiles(spec.in_channels)} | counts
            channels = ()
            if self.input_channels is not None:
                raise InputError("--input-channels must be given with --dataflow os, not ws; --tiles it=... is for ws")
        else:
            counts = {"pt": array.pixel_tiles(spec.onij_count)} | counts
            wanted = spec.in_channels if self.input_channels is None else self.input_channels
            if not 1 <= wanted <= spec.in_channels:
                raise InputError(f"{where}input channels must be 1 to {spec.in_channels}, not {wanted}")
            channels = tuple(range(wanted))
        kij = parse_indices(self.kij, spec.kij_count, f"{where}kij")
        return Tiles(kij=kij, ic=channels, **parse_tiles(self.tiles, counts, where))
