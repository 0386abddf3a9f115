"""Models from nothing, from trained values and back to them."""

from __future__ import annotations

import math
from collections.abc import Mapping

import jax.numpy as jnp
import numpy as np
from flax import nnx

from factory.model.modules import FloatConv, QuantBatchNorm, QuantConv, QuantLayer, QuantNetwork
from factory.quant.host import weight_codes
from factory.spec import BatchNorm, ConvLayer, Network, Stem, TrainedNetwork

INITIAL_ALPHA_W = np.float32(3)  # in deviations of the normalized weights
INITIAL_ALPHA_A = np.float32(4)


def create_model(network: Network, seed: int = 0) -> QuantNetwork:
    """Return an untrained model, weights uniform within `1 / sqrt(inputs)` as torch's are; the same for the same seed.

    The scale of the convolutions' weights does not change their codes, but how fast a learning rate moves them.
    """
    rng = np.random.default_rng(seed)
    layers = {}
    if stem := network.stem:
        weight = _uniform(rng, stem.geometry.weight_shape, stem.in_channels * stem.geometry.kij_count)
        layers[stem.name] = _stem(stem, weight, _untrained_norm(stem.out_channels, network.eps))
    for spec in network.layers:
        weight = _uniform(rng, spec.weight_shape, spec.in_channels * spec.kij_count)
        norm = _untrained_norm(spec.out_channels, network.eps) if spec.batch_norm else None
        layers[spec.name] = _layer(spec, weight, INITIAL_ALPHA_W, INITIAL_ALPHA_A, norm, scale=None)
    classes, features = network.classifier_shape
    weight, bias = (jnp.asarray(_uniform(rng, shape, features)) for shape in ((classes, features), (classes,)))
    return QuantNetwork(network, layers, weight, bias)


def from_trained(
    trained: TrainedNetwork, float_weights: Mapping[str, np.ndarray] | None = None, *, to_train: bool = False
) -> QuantNetwork:
    """Return the model of a trained network.

    Its weights are `weight_code * weight_scale`, quantized without normalization, which gives the very codes; or, for
    training that goes on where it stopped, the `float_weights` (float32 `(oc, ic, ki, kj)` by layer name) from which
    the codes were made, normalized again at each step. With `to_train` the former are as small as untrained weights
    are, so that a learning rate moves them as fast: of the size of normalized weights they would hardly move.
    """
    layers = {}
    if stem := trained.stem:
        layers[stem.spec.name] = _stem(stem.spec, stem.weight, stem.batch_norm)
    for name, layer in trained.layers.items():
        scale = None if float_weights is not None else _training_scale(layer.spec) if to_train else 1.0
        weight = float_weights[name] if scale is None else layer.weight_code * layer.weight_scale / np.float32(scale)
        layers[name] = _layer(layer.spec, weight, layer.alpha_w, layer.alpha_a, layer.batch_norm, scale=scale)
    classifier = jnp.asarray(trained.classifier_weight), jnp.asarray(trained.classifier_bias)
    return QuantNetwork(trained.network, layers, *classifier)


def transfer(donor: QuantNetwork, model: QuantNetwork) -> tuple[str, ...]:
    """Give a model the values of the donor's layers that fit, and of its classifier; return their names.

    A layer fits where the donor's of the same name has weights of the same shape and bits, and a batch norm or none
    as well; the bits and the scale of activations may differ.
    """
    taken = tuple(
        name for name, layer in model.layers.items() if name in donor.layers and _fits(donor.layers[name], layer)
    )
    for name in taken:
        if isinstance(model.layers[name].conv, QuantConv):
            model.layers[name].conv.scale = donor.layers[name].conv.scale
        nnx.update(model.layers[name], nnx.state(donor.layers[name]))
    if donor.network.classifier_shape != model.network.classifier_shape:
        return taken
    model.classifier_weight[...], model.classifier_bias[...] = donor.classifier_weight[...], donor.classifier_bias[...]
    return (*taken, "classifier")


def _fits(donor: QuantLayer, layer: QuantLayer) -> bool:
    theirs, ours = donor.conv.spec, layer.conv.spec
    if isinstance(theirs, Stem) or isinstance(ours, Stem):
        return theirs == ours
    return (theirs.weight_shape, theirs.weight_bits, theirs.batch_norm) == (
        ours.weight_shape,
        ours.weight_bits,
        ours.batch_norm,
    )


def to_tensors(model: QuantNetwork) -> dict[str, np.ndarray]:
    """Return the values of a weights file by name, from which `factory.checkpoint` makes a trained network.

    For each layer `<layer>.weight_code` int8, `.alpha_w`, `.alpha_a` and `.batch_norm.{mean,var,gamma,beta}` float32;
    of a stem `.weight` float32 and the batch norm; then `classifier.{weight,bias}`. Raise InputError where weights or
    an alpha cannot be quantized.
    """
    tensors = {}
    for name, layer in model.layers.items():
        if isinstance(layer.conv, FloatConv):
            tensors[f"{name}.weight"] = np.asarray(layer.conv.weight[...])
        else:
            tensors[f"{name}.weight_code"] = _codes(layer.conv)
            tensors[f"{name}.alpha_w"] = np.asarray(layer.conv.alpha_w[...])
            tensors[f"{name}.alpha_a"] = np.asarray(layer.conv.alpha_a[...])
        if layer.norm is not None:
            for field in ("mean", "var", "gamma", "beta"):
                tensors[f"{name}.batch_norm.{field}"] = np.asarray(getattr(layer.norm, field)[...])
    tensors["classifier.weight"] = np.asarray(model.classifier_weight[...])
    return tensors | {"classifier.bias": np.asarray(model.classifier_bias[...])}


def _uniform(rng: np.random.Generator, shape: tuple[int, ...], inputs: int) -> np.ndarray:
    bound = inputs**-0.5
    return rng.uniform(-bound, bound, shape).astype(np.float32)


def _training_scale(spec: ConvLayer) -> float:
    """Return the power of two, which rounds nothing, by which normalized weights are larger than untrained ones."""
    return 2.0 ** round(math.log2(3 * spec.in_channels * spec.kij_count) / 2)


def _untrained_norm(channels: int, eps: float) -> BatchNorm:
    zeros, ones = np.zeros(channels, np.float32), np.ones(channels, np.float32)
    return BatchNorm(mean=zeros, var=ones, gamma=ones, beta=zeros, eps=eps)


def _layer(
    spec: ConvLayer,
    weight: np.ndarray,
    alpha_w: np.float32,
    alpha_a: np.float32,
    norm: BatchNorm | None,
    *,
    scale: float | None,
) -> QuantLayer:
    values = (jnp.asarray(value) for value in (weight, alpha_w, alpha_a))
    conv = QuantConv(spec, *values, scale=scale)
    return QuantLayer(conv, None if norm is None else QuantBatchNorm(norm))


def _stem(spec: Stem, weight: np.ndarray, norm: BatchNorm) -> QuantLayer:
    return QuantLayer(FloatConv(spec, jnp.asarray(weight)), QuantBatchNorm(norm))


def _codes(conv: QuantConv) -> np.ndarray:
    weight, alpha = np.asarray(conv.weight[...]), np.float32(conv.alpha_w[...])
    if conv.scale is None:
        return weight_codes(weight, alpha, conv.spec.weight_bits)
    step = alpha / np.float32(conv.spec.weight_qmax)
    return np.rint(np.asarray(conv.quantized_weight()) / step).astype(np.int8)
