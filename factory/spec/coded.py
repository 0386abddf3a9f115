"""Integers that were made elsewhere: a layer's weight and activation codes, and what is known of their meaning."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float32, Int8, Int32, Integer

from factory.spec.layer import ConvLayer


@dataclass(frozen=True)
class Pattern:
    """What a layer or an image, or the vector of both, is made for.

    `id` never changes; it is a layer's name or an image's origin. `flags` are words that select, `note` says which kind
    of bug it catches and how that shows.
    """

    id: str
    flags: tuple[str, ...]
    note: str

    def with_image(self, image: Pattern) -> Pattern:
        """Return what the vector of this layer and an image is made for."""
        flags = tuple(dict.fromkeys((*self.flags, *image.flags)))
        return Pattern(f"{self.id}/{image.id}", flags, f"{self.note}; {image.note}")


@dataclass(frozen=True)
class CodedLayer:
    """One layer's codes for some images, whoever made them.

    - `weight`: codes of the dense convolution, 0 outside the groups. The accumulator that follows from them is
      `sum(weight * activation)` of the codes as they are, the border being `spec.zero_point`.
    - `bias`: what the source adds to `sum(weight * (activation - zero_point))`, in the same units; None: nothing.
    - `weight_scale`: the real value of weight code 1, of each output channel or of all; `activation_scale`: of
      activation code 1; None where they are not known.
    - `origin`: who or which formula made the codes, with its version, in one line.
    - `threshold`, `direction`: as in `IntegerLayer`; None where no next codes are known.
    - `pattern`: what a synthetic layer is made for.
    """

    spec: ConvLayer
    weight: Int8[np.ndarray, "oc ic ki kj"]
    activation: Integer[np.ndarray, "image ic y x"]
    origin: str
    bias: Int32[np.ndarray, " oc"] | None = None
    weight_scale: Float32[np.ndarray, " scale"] | None = None
    activation_scale: float | None = None
    threshold: Int32[np.ndarray, "oc level"] | None = None
    direction: Int8[np.ndarray, " oc"] | None = None
    pattern: Pattern | None = None


@dataclass(frozen=True)
class CodedNetwork:
    """Layers whose codes were made elsewhere, of the same images, and what could not be taken.

    `images` has one line for each image, which says what it is. `skipped` gives the reason why a layer of the source is
    not among `layers`. `notes` are lines for the user, such as how many codes another program made otherwise.
    `patterns` say what each image is made for, where images are synthetic.
    """

    name: str
    layers: tuple[CodedLayer, ...]
    images: tuple[str, ...]
    skipped: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    patterns: tuple[Pattern, ...] = ()

    @property
    def remarks(self) -> tuple[str, ...]:
        """The notes, and a line for each layer that was left out."""
        return (*self.notes, *(f"{name}: left out: {reason}" for name, reason in self.skipped.items()))
