"""A trained network and the integer network it is lowered to, as records of NumPy arrays."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Int8, Int16, Int32

from factory.spec.bounds import Range
from factory.spec.fixed import FixedStreams
from factory.spec.layer import ConvLayer
from factory.spec.network import Network, SystolicArray
from factory.spec.streams import Stem


@dataclass(frozen=True)
class BatchNorm:
    """Running statistics and affine parameters: `(y - mean) / sqrt(var + eps) * gamma + beta`."""

    mean: Float32[np.ndarray, " oc"]
    var: Float32[np.ndarray, " oc"]
    gamma: Float32[np.ndarray, " oc"]
    beta: Float32[np.ndarray, " oc"]
    eps: float = 1e-5


@dataclass(frozen=True)
class TrainedLayer:
    """One layer's trained values: `weight = weight_code * weight_scale`.

    `alpha_w` and `alpha_a` are the clipping thresholds of the weights and of the activations that *enter* the layer.
    """

    spec: ConvLayer
    weight_code: Int8[np.ndarray, "oc ic ki kj"]
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
class TrainedStem:
    """A stem's trained values: real weights."""

    spec: Stem
    weight: Float32[np.ndarray, "oc ic ki kj"]
    batch_norm: BatchNorm


@dataclass(frozen=True)
class TrainedNetwork:
    """A network's trained values; `sha256` identifies their contents (hex)."""

    network: Network
    layers: Mapping[str, TrainedLayer]
    classifier_weight: Float32[np.ndarray, "class feature"]
    classifier_bias: Float32[np.ndarray, " class"]
    sha256: str
    stem: TrainedStem | None = None


@dataclass(frozen=True)
class IntegerLayer:
    """One layer of the integer network.

    `activation_low` and `activation_high` are the least and the largest code that can enter each input channel,
    `accumulator` is the exact range of the sums over all channels. A layer whose accumulators alone decide another's
    codes has thresholds and directions, 1 or -1, with

        code[oc] == (direction[oc] * acc >= direction[oc] * threshold[oc]).sum(level)

    for every reachable accumulator; both are None for the last layer, and for one that enters a stream.
    """

    spec: ConvLayer
    weight: Int8[np.ndarray, "oc ic ki kj"]
    activation_low: Int16[np.ndarray, " ic"]
    activation_high: Int16[np.ndarray, " ic"]
    accumulator: Range
    threshold: Int32[np.ndarray, "oc level"] | None
    direction: Int8[np.ndarray, " oc"] | None


@dataclass(frozen=True)
class TiledLayer:
    """A layer of the integer network on an array: its weights in tiles, and the exact range of its psums."""

    layer: IntegerLayer
    array: SystolicArray
    weight_tile: Int8[np.ndarray, "it ot kij col row"]
    psum: Range


@dataclass(frozen=True)
class IntegerNetwork:
    """A network without floating point between the pixels and the last convolution.

    `input_table` has the code of each pixel value; None where a stem reads the image. `streams` are a residual
    network's.
    """

    network: Network
    input_table: Int8[np.ndarray, "colour 256"] | None
    layers: Mapping[str, IntegerLayer]
    streams: FixedStreams | None = None
