"""Small random networks of odd shapes, trained and integer, made from a seed."""

import numpy as np

from factory.lower import lower
from factory.spec import (
    BatchNorm,
    IntegerNetwork,
    Network,
    Stem,
    TrainedLayer,
    TrainedNetwork,
    TrainedStem,
    resnet,
    vgg,
)


def odd_network(activation_bits: int = 4) -> Network:
    """Return 3 and 20 channels, 5x7 maps, 1x1 and 5x5 kernels, stride 2, padding 0 and 2, and a pool."""
    widths = [
        dict(channels=20, kernel=3),
        dict(channels=6, kernel=5, padding=2),
        dict(channels=20, kernel=1, padding=0),
        dict(channels=9, kernel=3, stride=2, padding=2),
        "M",
        dict(channels=3, kernel=2, padding=1, batch_norm=False),
    ]
    return vgg("odd", widths, activation_bits=activation_bits, image=(3, 5, 7), classes=4)


def tiny_network() -> Network:
    """Return two layers that a test computes in no time: 3 -> 5 -> 4 channels on 4x4 maps."""
    return vgg("tiny", [5, 4], image=(3, 4, 4), classes=3)


def residual_network(quantized_stem: bool = False) -> Network:
    """Return three stages of one block on 7x9 maps: identity and 1x1 shortcuts, odd maps cut by the strides."""
    return resnet("residual", (5, 9, 4), 8, quantized_stem=quantized_stem, image=(3, 7, 9), classes=4)


def trained_network(network: Network, seed: int = 0) -> TrainedNetwork:
    """Return random weights whose codes spread over their range, with batch-norm scales of both signs."""
    random = np.random.default_rng(seed)
    layers = {}
    for conv in network.layers:
        code = random.integers(-conv.weight_qmax, conv.weight_qmax + 1, conv.weight_shape).astype(np.int8)
        alpha_w, alpha_a = (np.float32(x) for x in random.uniform(1.0, 3.0, 2))
        spread = alpha_w * alpha_a / 3 * np.sqrt(conv.in_channels * conv.kij_count)
        layers[conv.name] = TrainedLayer(conv, code, alpha_w, alpha_a, _batch_norm(random, conv, spread))
    classifier = random.normal(size=network.classifier_shape).astype(np.float32)
    bias = random.normal(size=network.classes).astype(np.float32)
    stem = _trained_stem(random, network.stem) if network.stem else None
    return TrainedNetwork(network, layers, classifier, bias, f"seed{seed}", stem)


def _trained_stem(random: np.random.Generator, stem: Stem) -> TrainedStem:
    weight = random.normal(size=stem.geometry.weight_shape).astype(np.float32)
    return TrainedStem(stem, weight, _batch_norm(random, stem.geometry, np.float32(5)))


def _batch_norm(random: np.random.Generator, conv, spread: float) -> BatchNorm | None:
    if not conv.batch_norm:
        return None
    mean, beta = (random.normal(scale=x, size=conv.out_channels).astype(np.float32) for x in (spread / 4, 0.5))
    var = random.uniform(0.5, 1.5, conv.out_channels).astype(np.float32) * np.float32(spread**2)
    gamma = (random.uniform(0.5, 2.0, conv.out_channels) * random.choice([-1, 1], conv.out_channels)).astype(np.float32)
    return BatchNorm(mean, var, gamma, beta)


def integer_network(network: Network, seed: int = 0) -> IntegerNetwork:
    """Return `trained_network`, lowered."""
    return lower(trained_network(network, seed))


def random_pixels(network: Network, count: int, seed: int = 0) -> np.ndarray:
    """Return uint8 `(image, colour, y, x)`."""
    return np.random.default_rng(seed).integers(0, 256, (count, *network.image_shape)).astype(np.uint8)
