"""What an export needs of a store; `factory.store.Store` has it, and so can any other source of codes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from factory.spec import ConvLayer, Network, SystolicArray


@runtime_checkable
class LayerSource(Protocol):
    """One layer's integers, as arrays or datasets that are read when they are sliced.

    `weight` int8 `(oc, ic, ki, kj)`, `activation` integers `(image, ic, y, x)`; `threshold` int32 `(oc, level)` and
    `direction` int8 `(oc,)`, both None for a layer that no other follows. In the tiles of the store's array, or None:
    `weight_tile` `(it, ot, kij, col, row)`, `activation_tile` `(image, it, nij, row)`, and `psum`
    `(image, it, ot, kij, nij, col)`.
    """

    spec: ConvLayer
    weight: Any
    activation: Any
    threshold: Any
    direction: Any
    weight_tile: Any
    activation_tile: Any
    psum: Any


@runtime_checkable
class ImageSource(Protocol):
    """The images' places in their source: `source_index` int64 `(image,)`."""

    source_index: Any


@runtime_checkable
class ExportSource(Protocol):
    """The layers and images of one network on one array."""

    path: Path
    network: Network
    array: SystolicArray
    layers: Mapping[str, Any]
    images: Any

    @property
    def image_count(self) -> int:
        """Number of images."""

    @property
    def image_source(self) -> str:
        """Name of what the images were taken from."""

    @property
    def weights_sha256(self) -> str:
        """The sha256 (hex) of the contents of the weights."""

    def layer(self, name: str) -> LayerSource:
        """Return the layer called `name`; raise InputError where there is none."""
