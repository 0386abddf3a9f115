"""The networks that have names, and TOML descriptions of others."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from factory.spec.errors import InputError
from factory.spec.network import Network
from factory.spec.resnet import WIDTHS, resnet
from factory.spec.values import read_toml, typed_values
from factory.spec.vgg import part1, part2, vgg

NAMED = {"part1": part1, "part2": part2} | {
    f"resnet{depth}": partial(resnet, f"resnet{depth}", WIDTHS, depth) for depth in (20, 32, 44, 56)
}
_KINDS = {
    "name": "str",
    "widths": "list",
    "weight_bits": "int",
    "activation_bits": "int",
    "no_batch_norm_inputs": "tuple[int, ...]",
    "image": "tuple[int, int, int]",
    "classes": "int",
    "mean": "tuple[float, ...]",
    "std": "tuple[float, ...]",
}
_RESNET_KINDS = {name: kind for name, kind in _KINDS.items() if name != "no_batch_norm_inputs"} | {
    "widths": "tuple[int, ...]",
    "depth": "int",
    "quantized_stem": "bool",
}


def load_network(name: str) -> Network:
    """Return the network called `name` (`part1`, `resnet20`), or the one that the TOML file `name` describes.

    The file's keys are those of `vgg`: `name`, `widths`, and optionally `weight_bits`, `activation_bits`,
    `no_batch_norm_inputs`, `image`, `classes`, `mean`, `std`; or, where `depth` is among them, those of `resnet`: no
    `no_batch_norm_inputs`, but `quantized_stem`. Raise InputError for anything else.
    """
    if name in NAMED:
        return NAMED[name]()
    path = Path(name)
    if not path.is_file():
        raise InputError(f"network must be one of {' '.join(NAMED)} or a TOML file, not {name}")
    try:
        data = read_toml(path, "network")
        make, kinds = (resnet, _RESNET_KINDS) if "depth" in data else (vgg, _KINDS)
        return make(**{"name": path.stem} | typed_values(data, kinds, required=("widths",)))
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
