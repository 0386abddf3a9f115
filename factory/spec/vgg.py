"""VGG-style networks from a list of widths, and the two named ones."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from factory.spec.errors import InputError
from factory.spec.layer import IMAGE, ConvLayer
from factory.spec.network import CIFAR_MEAN, CIFAR_STD, Network
from factory.spec.values import is_kind

_PART = (64, 64, "M", 128, 128, "M", 256, 256, 256, "M")
_TAIL = (512, "M", 512, 512, 512, "M")
PART1_WIDTHS = (*_PART, 8, 8, *_TAIL)
PART2_WIDTHS = (*_PART, 16, 16, *_TAIL)
_KEYS = ("channels", "kernel", "stride", "padding", "weight_bits", "activation_bits", "batch_norm")


def vgg(
    name: str,
    widths: Iterable[int | str | Mapping],
    *,
    weight_bits: int = 4,
    activation_bits: int = 4,
    no_batch_norm_inputs: Iterable[int] = (),
    image: tuple[int, int, int] = (3, 32, 32),
    classes: int = 10,
    mean: tuple[float, ...] = CIFAR_MEAN,
    std: tuple[float, ...] = CIFAR_STD,
) -> Network:
    """Return the network of a list of widths, with the notebook's layer names.

    A width is a number of output channels (3x3, stride 1, padding 1), `"M"` for a 2x2 max pool, or a mapping
    `{channels, kernel, stride, padding, weight_bits, activation_bits, batch_norm}` of which only `channels` must be
    there. A convolution whose input has one of `no_batch_norm_inputs` channels has no batch norm after it. A layer's
    name is `features.N`, N counting convolutions, batch norms, ReLUs and pools as torch's Sequential does.
    """
    bare = frozenset(no_batch_norm_inputs)
    channels, height, width = image
    layers: list[dict] = []
    place, source = 0, IMAGE
    for item in widths:
        if item == "M":
            if not layers:
                raise InputError(f"network {name}: widths must begin with a convolution, not M")
            layers[-1]["pool"] *= 2
            height, width, place = height // 2, width // 2, place + 1
            continue
        if not isinstance(item, Mapping) and not is_kind(item, "int"):
            raise InputError(f"network {name}: a width must be a number of channels, M or a table, not {item!r}")
        given = dict(item) if isinstance(item, Mapping) else {"channels": item}
        for key in given:
            if key not in _KEYS:
                raise InputError(f"network {name}: the keys of a width must be of {' '.join(_KEYS)}, not {key}")
        if "channels" not in given:
            raise InputError(f"network {name}: the table of a width must have the key channels, not {given}")
        fields = dict(
            name=f"features.{place}", source=source, in_channels=channels, out_channels=given.pop("channels"),
            height=height, width=width, weight_bits=weight_bits, activation_bits=activation_bits,
            signed=source == IMAGE, batch_norm=channels not in bare, pool=1,
        )  # fmt: skip
        layer = ConvLayer(**fields | given)
        layers.append(fields | given)
        channels, height, width = layer.out_channels, layer.out_height, layer.out_width
        source, place = layer.name, place + 2 + layer.batch_norm
    return Network(name, tuple(ConvLayer(**fields) for fields in layers), classes, tuple(mean), tuple(std))


def part1() -> Network:
    """Return `VGG16_quant_project_part1`: 4-bit activations, squeezed layer features.27 of 8 -> 8 channels."""
    return vgg("part1", PART1_WIDTHS, no_batch_norm_inputs=(8,))


def part2() -> Network:
    """Return `VGG16_quant_project_part2`: 2-bit activations, squeezed layer features.27 of 16 -> 16 channels."""
    return vgg("part2", PART2_WIDTHS, activation_bits=2, no_batch_norm_inputs=(16,))
