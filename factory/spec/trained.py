"""A trained network and the integer network it is lowered to, as records of NumPy arrays."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from factory.spec.network import ConvLayer, Network


@dataclass(frozen=True)
class BatchNorm:
    """Running statistics and affine parameters, float32 `(oc,)` each: `(y - mean) / sqrt(var + eps) * gamma + beta`."""

    mean: np.ndarray
    var: np.ndarray
    gamma: np.ndarray
    beta: np.ndarray
    eps: float = 1e-5


@dataclass(frozen=True)
class TrainedLayer:
    """One layer's trained values: `weight = weight_code * weight_scale`.

    `weight_code` is int8 `(oc, ic, ki, kj)`; `alpha_w` and `alpha_a` are the float32 clipping thresholds of the weights
    and of the activations that *enter* the layer.
    """

    spec: ConvLayer
    weight_code: np.ndarray
    alpha_w: np.float32
    alpha_a: np.float32
    batch_norm: BatchNorm | None

    @property
    def weight_scale(self) -> np.float32:
        """Real value of weight code 1: `alpha_w / (2**(weight_bits - 1) - 1)`, rounded to float32."""
        return np.float32(self.alpha_w) / np.float32(self.spec.weight_qmax)

    @property
    def activation_scale(self) -> np.float32:
        """Real value of activation code 1: `alpha_a / (2**activation_bits - 1)`, rounded to float32."""
        return np.float32(self.alpha_a) / np.float32(self.spec.activation_qmax)


@dataclass(frozen=True)
class TrainedNetwork:
    """A network's trained values; `sha256` identifies their contents (hex)."""

    network: Network
    layers: Mapping[str, TrainedLayer]
    classifier_weight: np.ndarray
    classifier_bias: np.ndarray
    sha256: str


@dataclass(frozen=True)
class IntegerLayer:
    """One layer of the integer network.

    `weight`: int8 `(oc, ic, ki, kj)`. `activation_low`, `activation_high`: int16 `(ic,)`, the least and the largest
    code that can enter each input channel. For every layer with a successor, `threshold`: int32 `(oc, level)` and
    `direction`: int8 `(oc,)`, 1 or -1, with

        code[oc] == (direction[oc] * acc >= direction[oc] * threshold[oc]).sum(level)

    for every reachable accumulator; both are None for the last layer.
    """

    spec: ConvLayer
    weight: np.ndarray
    activation_low: np.ndarray
    activation_high: np.ndarray
    threshold: np.ndarray | None
    direction: np.ndarray | None


@dataclass(frozen=True)
class IntegerNetwork:
    """A network without floating point between the pixels and the last convolution.

    `input_table`: int8 `(colour, 256)`, the code of each pixel value.
    """

    network: Network
    input_table: np.ndarray
    layers: Mapping[str, IntegerLayer]
