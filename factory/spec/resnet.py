"""Residual networks of basic blocks, as the course has them: widths and a depth."""

from __future__ import annotations

from collections.abc import Sequence

from factory.spec.errors import InputError
from factory.spec.layer import IMAGE, ConvLayer
from factory.spec.network import CIFAR_MEAN, CIFAR_STD, Network
from factory.spec.streams import Stem, Stream

WIDTHS = (16, 32, 64)
STEM, FIRST_STREAM = "conv1", "stem"


def resnet(
    name: str,
    widths: Sequence[int] = WIDTHS,
    depth: int = 20,
    *,
    blocks: Sequence[int] | None = None,
    weight_bits: int = 4,
    activation_bits: int = 4,
    quantized_stem: bool = False,
    image: tuple[int, int, int] = (3, 32, 32),
    classes: int = 10,
    mean: tuple[float, ...] = CIFAR_MEAN,
    std: tuple[float, ...] = CIFAR_STD,
) -> Network:
    """Return the residual network of `depth` convolutions and classifier, with the checkpoint's names.

    `conv1`, a 3x3 convolution, float or with `quantized_stem` a layer like any other, makes the first stream, `stem`.
    Each width is a stage, `layer1` on, of as many basic blocks as the depth gives, `layer1.0` on: two 3x3 layers, of
    which the second enters the block's stream. The first block of each later stage has stride 2; its shortcut, like
    that of any block whose width changes, is a 1x1 layer `downsample.0`. A mean over the map precedes the classifier.
    `blocks`, in place of the depth, are those of each stage.
    """
    blocks = _even_blocks(name, widths, depth) if blocks is None else blocks
    channels, height, width = image
    bits = dict(weight_bits=weight_bits, activation_bits=activation_bits)
    stem, layers = Stem(STEM, channels, widths[0], height, width), []
    if quantized_stem:
        layers.append(ConvLayer(STEM, IMAGE, channels, widths[0], height, width, signed=True, **bits))
    streams = [Stream(FIRST_STREAM, STEM)]
    channels = widths[0]
    for stage, wide in enumerate(widths):
        for place in range(blocks[stage]):
            block, source = f"layer{stage + 1}.{place}", streams[-1].name
            stride = 2 if stage and not place else 1
            first = ConvLayer(f"{block}.conv1", source, channels, wide, height, width, stride=stride, **bits)
            height, width = first.out_height, first.out_width
            layers += [first, ConvLayer(f"{block}.conv2", first.name, wide, wide, height, width, **bits)]
            shortcut = source
            if stride > 1 or channels != wide:
                shortcut = f"{block}.downsample.0"
                pixels = dict(kernel=1, padding=0, source_stride=stride)
                layers.append(ConvLayer(shortcut, source, channels, wide, height, width, **pixels, **bits))
            streams.append(Stream(block, f"{block}.conv2", shortcut))
            channels = wide
    return Network(
        name, tuple(layers), classes, tuple(mean), tuple(std), stem=None if quantized_stem else stem,
        streams=tuple(streams), average_pool=min(height, width),
    )  # fmt: skip


def _even_blocks(name: str, widths: Sequence[int], depth: int) -> list[int]:
    """Return the blocks of each stage that a depth gives."""
    blocks, rest = divmod(depth - 2, 2 * max(len(widths), 1))
    if not widths or rest or blocks < 1:
        stages = 2 * len(widths)
        raise InputError(f"network {name}: depth must be 2 more than a multiple of {stages}, not {depth}")
    return [blocks] * len(widths)
