"""Checkpoints of the notebook's training program: torch files, read with `weights_only=True` and checked throughout."""

from __future__ import annotations

import os
import pickle
import re
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float32

from factory.checkpoint.weights import (
    NOT_NEGATIVE,
    POSITIVE,
    Expected,
    check_form,
    check_names,
    check_values,
    trained_network,
)
from factory.quant.grid import ON_GRID, weight_bits
from factory.quant.host import scaled_weights
from factory.spec import NAMED, ConvLayer, InputError, Network, Stem, TrainedNetwork, load_network, resnet

if TYPE_CHECKING:
    import torch

_NORM = {"mean": "running_mean", "var": "running_var", "gamma": "weight", "beta": "bias"}
_BOUNDARY = 1e-4  # of a weight step: another device's float32 mean and deviation differ in the last bit


def import_checkpoint(path: str | os.PathLike, network: str | Network = "auto") -> TrainedNetwork:
    """Read a torch checkpoint `{"state_dict": ...}` (or a bare state dict) of the notebook's quantized network.

    `network` is a description, its name, a TOML file, or `auto`: the named network whose tensors fit best, or a
    residual network of the widths, blocks, batch norms and weight bits that the checkpoint has, with 4-bit activations,
    whose width no checkpoint states. Names may begin with `module.` (DataParallel). The weight codes are those stored
    in `weight_q`; each must be a rounding of the one that `weight` gives, computed anew. Raise InputError where the
    file is not such a checkpoint of that network.
    """
    network, state = _open(Path(path), network)
    with _addressed(path, network):
        return trained_network(network, _convert(network, _checked(network, state)))


def import_float_weights(
    path: str | os.PathLike, network: str | Network = "auto"
) -> dict[str, Float32[np.ndarray, "oc ic ki kj"]]:
    """Return the weights that the codes of `import_checkpoint` were made from, by layer: where training goes on.

    They are not yet normalised. Raise InputError as `import_checkpoint` does.
    """
    network, state = _open(Path(path), network)
    with _addressed(path, network):
        arrays = _checked(network, state)
    return {spec.name: arrays[f"{spec.name}.weight"] for spec in network.layers}


@contextmanager
def _addressed(path: str | os.PathLike, network: Network) -> Iterator[None]:
    """Add the file and the network to the errors raised within."""
    try:
        yield
    except InputError as error:
        raise InputError(f"{path}: {error} (network {network.name})") from None


def _open(path: Path, network: str | Network) -> tuple[Network, Mapping[str, torch.Tensor]]:
    """Return the description of the network, and the tensors of the checkpoint."""
    state = _read(path)
    if isinstance(network, Network):
        return network, state
    if network != "auto":
        return load_network(str(network)), state
    try:
        return _residual(state) if _FIRST_BLOCK.format(1, 0) in state else _best_fit(state), state
    except InputError as error:
        raise InputError(f"{path}: {error}") from None


def _read(path: Path) -> dict[str, torch.Tensor]:
    """Return the state dict, without a common prefix `module.`."""
    try:
        import torch
    except ImportError:
        raise InputError("reading a torch checkpoint needs PyTorch: pip install 'factory[torch]'") from None
    if not path.is_file():
        raise InputError(f"checkpoint must be a file, not {path}")
    try:
        loaded = torch.load(path, weights_only=True, map_location="cpu")
    except Exception as error:  # damaged bytes that are read as a pickle raise anything
        raise InputError(f"{path}: {_why_unreadable(path, error)}") from None
    state = _state_dict(loaded)
    if state is None:
        raise InputError(f"{path}: must be a checkpoint with a state_dict of tensors, it has none")
    prefix = "module." if all(name.startswith("module.") for name in state) else ""
    return {name.removeprefix(prefix): tensor for name, tensor in state.items()}


def _why_unreadable(path: Path, error: Exception) -> str:
    if isinstance(error, PermissionError):
        return f"must be readable: {error.strerror}"
    if isinstance(error, pickle.UnpicklingError) and zipfile.is_zipfile(path):
        return "must hold nothing but tensors, numbers, text and their containers"
    with path.open("rb") as file:
        zipped = file.read(4) == b"PK\x03\x04"
    return (
        f"must be a whole torch checkpoint, it is {'truncated or damaged' if zipped else 'damaged or something else'}"
    )


def _state_dict(loaded: Any) -> Mapping[str, torch.Tensor] | None:
    """Return the tensors by name, or None where what was loaded holds no such mapping."""
    import torch

    state = loaded.get("state_dict", loaded) if isinstance(loaded, Mapping) else None
    if not isinstance(state, Mapping) or not state:
        return None
    tensors = all(isinstance(x, torch.Tensor) and x.layout == torch.strided for x in state.values())
    return state if tensors and all(isinstance(name, str) for name in state) else None


def _batch_norm_name(spec: ConvLayer | Stem) -> str:
    """Return the name of the batch norm after a convolution.

    That after `features.N` is `features.N+1`, after `conv1` it is `bn1`, and after `downsample.0`, `downsample.1`.
    """
    parent, dot, name = spec.name.rpartition(".")
    if numbered := re.fullmatch(r"conv(\d+)", name):
        return f"{parent}{dot}bn{numbered[1]}"
    if not name.isdecimal():
        raise InputError(f"{spec.name}: the name of a checkpoint's layer must end in its place, as features.0 does")
    return f"{parent}{dot}{int(name) + 1}"


def _classifier(network: Network) -> str:
    return "fc" if network.streams else "classifier"


def _with_norms(network: Network) -> list[ConvLayer | Stem]:
    """Return the stem and the layers that have a batch norm."""
    stem = [network.stem] if network.stem else []
    return [*stem, *(spec for spec in network.layers if spec.batch_norm)]


def _expected(network: Network) -> dict[str, Expected]:
    """Return what each tensor of a checkpoint must be, by the notebook's names, in the network's order."""
    expected = {}
    if network.stem:
        expected[f"{network.stem.name}.weight"] = Expected(network.stem.geometry.weight_shape)
    for spec in network.layers:
        expected[f"{spec.name}.weight"] = expected[f"{spec.name}.weight_q"] = Expected(spec.weight_shape)
        expected[f"{spec.name}.act_alpha"] = expected[f"{spec.name}.weight_quant.wgt_alpha"] = Expected((), POSITIVE)
    for spec in _with_norms(network):
        for name in _NORM.values():
            rule = {"rule": NOT_NEGATIVE} if name == "running_var" else {}
            expected[f"{_batch_norm_name(spec)}.{name}"] = Expected((spec.out_channels,), **rule)
    expected[f"{_classifier(network)}.weight"] = Expected(network.classifier_shape)
    expected[f"{_classifier(network)}.bias"] = Expected(network.classifier_shape[:1])
    return expected


def _best_fit(state: Mapping[str, torch.Tensor]) -> Network:
    """Return the named network of which the most tensors are there with the right shape."""

    def fit(network: Network) -> int:
        return sum(name in state and state[name].shape == x.shape for name, x in _expected(network).items())

    return max((make() for make in NAMED.values()), key=fit)


_FIRST_BLOCK = "layer{}.{}.conv1.weight"


def _residual(state: Mapping[str, torch.Tensor]) -> Network:
    """Return the description of a residual network: what can be told of it from the tensors that are there."""
    widths, blocks = [], []
    while (name := _FIRST_BLOCK.format(len(widths) + 1, 0)) in state:
        widths.append(_size(state, name, 0))
        blocks.append(sum(_FIRST_BLOCK.format(len(widths), place) in state for place in range(len(state))))
    bits = [_weight_bits(state, name) for name in state if name.endswith(".weight_q")]
    name = f"resnet{2 * sum(blocks) + 2}" if len(set(blocks)) == 1 else f"resnet-{'-'.join(map(str, blocks))}"
    network = resnet(
        name, widths, blocks=blocks, weight_bits=max(bits, default=4), quantized_stem="conv1.weight_q" in state,
        image=(_size(state, "conv1.weight", 1), 32, 32), classes=_size(state, "fc.weight", 0),
    )  # fmt: skip
    return replace(network, layers=tuple(replace(spec, batch_norm=_has_norm(spec, state)) for spec in network.layers))


def _has_norm(spec: ConvLayer, state: Mapping[str, torch.Tensor]) -> bool:
    """Return whether any tensor of the batch norm after a layer is there."""
    return any(f"{_batch_norm_name(spec)}.{name}" in state for name in _NORM.values())


def _weight_bits(state: Mapping[str, torch.Tensor], name: str) -> int:
    """Return the fewest bits that a layer's weights need; fewer than the network's where it has few of their codes."""
    alpha = state.get(f"{name.removesuffix('_q')}_quant.wgt_alpha")
    if alpha is None or alpha.numel() != 1 or not state[name].numel():
        return 2  # what is wrong with it is said where its tensors are checked
    return weight_bits(name, state[name].detach().float().numpy(), float(alpha))


def _size(state: Mapping[str, torch.Tensor], name: str, axis: int) -> int:
    if name not in state or state[name].ndim <= axis:
        raise InputError(f"{name} must be the weight of a layer, it is not")
    return state[name].shape[axis]


def _convert(network: Network, arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return the tensors of a weights file."""
    tensors = {}
    if network.stem:
        tensors[f"{network.stem.name}.weight"] = arrays[f"{network.stem.name}.weight"]
    for spec in network.layers:
        tensors[f"{spec.name}.weight_code"] = _weight_codes(spec, arrays)
        tensors[f"{spec.name}.alpha_w"] = arrays[f"{spec.name}.weight_quant.wgt_alpha"]
        tensors[f"{spec.name}.alpha_a"] = arrays[f"{spec.name}.act_alpha"]
    for spec in _with_norms(network):
        for name, theirs in _NORM.items():
            tensors[f"{spec.name}.batch_norm.{name}"] = arrays[f"{_batch_norm_name(spec)}.{theirs}"]
    return tensors | {f"classifier.{name}": arrays[f"{_classifier(network)}.{name}"] for name in ("weight", "bias")}


def _checked(network: Network, state: Mapping[str, torch.Tensor]) -> dict[str, np.ndarray]:
    """Return the tensors as arrays in C order; raise InputError for the first one that is not what it must be."""
    expected, arrays = _expected(network), {}
    for name, tensor in expected.items():
        if name in state:
            check_form(name, tensor, str(state[name].dtype).removeprefix("torch."), tuple(state[name].shape))
            arrays[name] = state[name].detach().contiguous().numpy()
            check_values(name, tensor, arrays[name])
    counters = {f"{_batch_norm_name(spec)}.num_batches_tracked" for spec in _with_norms(network)}
    check_names(expected, [name for name in state if name not in counters])
    return arrays


def _weight_codes(spec: ConvLayer, arrays: Mapping[str, np.ndarray]) -> np.ndarray:
    """Return the stored codes, int8 `(oc, ic, ki, kj)`; raise InputError where the weights do not round to them."""
    name, alpha = f"{spec.name}.weight_q", arrays[f"{spec.name}.weight_quant.wgt_alpha"][()]
    step = alpha / np.float32(spec.weight_qmax)
    with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
        steps = arrays[name] / step
        stored = np.rint(steps)
        off = int((~(np.abs(steps - stored) <= ON_GRID)).sum())
    if off:
        raise InputError(f"{name} must hold multiples of {step!s}, {off} of its {stored.size} are not")
    try:
        scaled = scaled_weights(arrays[f"{spec.name}.weight"], alpha, spec.weight_bits)
    except InputError as error:
        raise InputError(f"{spec.name}.weight: {error}") from None
    if wrong := int((np.abs(stored - scaled) > 0.5 + _BOUNDARY).sum()):
        raise InputError(f"{name} must hold the codes of {spec.name}.weight, {wrong} of its {stored.size} differ")
    return stored.astype(np.int8)
