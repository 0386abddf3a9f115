"""Checkpoints of the notebook's training program: torch files, read with `weights_only=True` and checked throughout."""

from __future__ import annotations

import os
import pickle
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from factory.checkpoint.tensors import NOT_NEGATIVE, POSITIVE, Expected, check_form, check_names, check_values
from factory.checkpoint.weights import trained_network
from factory.quant.host import scaled_weights
from factory.spec import ConvLayer, InputError, Network, TrainedNetwork, load_network
from factory.spec.vgg import NAMED

_NORM = {"mean": "running_mean", "var": "running_var", "gamma": "weight", "beta": "bias"}
_ON_GRID = 1e-3  # of a weight step: a stored weight is a code times the step, computed in another order in float32
_BOUNDARY = 1e-4  # of a weight step: another device's float32 mean and deviation differ in the last bit


def import_checkpoint(path: str | os.PathLike, network: str | Network = "auto") -> TrainedNetwork:
    """Read a torch checkpoint `{"state_dict": ...}` (or a bare state dict) of the notebook's quantized network.

    `network` is a description, its name, a TOML file, or `auto`: the named network whose tensors fit best. Names may
    begin with `module.` (DataParallel). The weight codes are those stored in `weight_q`; each must be a rounding of the
    one that `weight` gives, computed anew. Raise InputError where the file is not such a checkpoint of that network.
    """
    state = _read(Path(path))
    if not isinstance(network, Network):
        network = _best_fit(state) if network == "auto" else load_network(network)
    try:
        return trained_network(network, _convert(network, state))
    except InputError as error:
        raise InputError(f"{path}: {error} (network {network.name})") from None


def _read(path: Path) -> dict[str, np.ndarray]:
    """Return the state dict's tensors, without a common prefix `module.`."""
    try:
        import torch
    except ImportError:
        raise InputError("reading a torch checkpoint needs PyTorch: pip install 'factory[torch]'") from None
    if not path.is_file():
        raise InputError(f"checkpoint must be a file, not {path}")
    try:
        loaded = torch.load(path, weights_only=True, map_location="cpu")
    except Exception as error:  # damaged bytes read as a pickle raise anything
        if isinstance(error, pickle.UnpicklingError) and zipfile.is_zipfile(path):
            raise InputError(f"{path}: must hold nothing but tensors, numbers, text and their containers") from None
        raise InputError(f"{path}: must be a torch checkpoint, it is damaged or something else") from None
    state = loaded.get("state_dict", loaded) if isinstance(loaded, Mapping) else None
    if not isinstance(state, Mapping) or not state:
        raise InputError(f"{path}: must be a checkpoint with a state_dict, it has none")
    for name, tensor in state.items():
        if not isinstance(tensor, torch.Tensor) or tensor.layout != torch.strided:
            raise InputError(f"{path}: {name} must be a tensor, not {type(tensor).__name__}")
    prefix = "module." if all(name.startswith("module.") for name in state) else ""
    return {name.removeprefix(prefix): _to_numpy(tensor) for name, tensor in state.items()}


def _to_numpy(tensor: Any) -> np.ndarray:
    import torch

    return (tensor.float() if tensor.dtype == torch.bfloat16 else tensor).detach().contiguous().numpy()


def _batch_norm_name(spec: ConvLayer) -> str:
    """Return the name of the batch norm after a convolution: `features.N` is followed by `features.N+1`."""
    stem, _, place = spec.name.rpartition(".")
    return f"{stem}.{int(place) + 1}"


def _expected(network: Network) -> dict[str, Expected]:
    """Return what each tensor of a checkpoint must be, by the notebook's names, in the network's order."""
    expected = {}
    for spec in network.layers:
        expected[f"{spec.name}.weight"] = expected[f"{spec.name}.weight_q"] = Expected(spec.weight_shape)
        expected[f"{spec.name}.act_alpha"] = expected[f"{spec.name}.weight_quant.wgt_alpha"] = Expected((), POSITIVE)
        if spec.batch_norm:
            for name in _NORM.values():
                rule = {"rule": NOT_NEGATIVE} if name == "running_var" else {}
                expected[f"{_batch_norm_name(spec)}.{name}"] = Expected((spec.out_channels,), **rule)
    expected["classifier.weight"] = Expected(network.classifier_shape)
    expected["classifier.bias"] = Expected(network.classifier_shape[:1])
    return expected


def _best_fit(state: Mapping[str, np.ndarray]) -> Network:
    """Return the named network of which the most tensors are there with the right shape."""

    def fit(network: Network) -> int:
        return sum(name in state and state[name].shape == x.shape for name, x in _expected(network).items())

    return max((make() for make in NAMED.values()), key=fit)


def _convert(network: Network, state: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return the tensors of a weights file."""
    expected = _expected(network)
    used = {name: array for name, array in state.items() if not name.endswith(".num_batches_tracked")}
    for name, tensor in expected.items():
        if name in used:
            check_form(name, tensor, used[name].dtype.name, used[name].shape)
            check_values(name, tensor, used[name])
    check_names(expected, used)
    tensors = {}
    for spec in network.layers:
        tensors[f"{spec.name}.weight_code"] = _weight_codes(spec, used)
        tensors[f"{spec.name}.alpha_w"] = used[f"{spec.name}.weight_quant.wgt_alpha"]
        tensors[f"{spec.name}.alpha_a"] = used[f"{spec.name}.act_alpha"]
        if spec.batch_norm:
            for name, theirs in _NORM.items():
                tensors[f"{spec.name}.batch_norm.{name}"] = used[f"{_batch_norm_name(spec)}.{theirs}"]
    return tensors | {name: used[name] for name in ("classifier.weight", "classifier.bias")}


def _weight_codes(spec: ConvLayer, state: Mapping[str, np.ndarray]) -> np.ndarray:
    """Return the stored codes, int8 `(oc, ic, ki, kj)`; raise InputError where the weights do not round to them."""
    name, alpha = f"{spec.name}.weight_q", state[f"{spec.name}.weight_quant.wgt_alpha"]
    step = alpha / np.float32(spec.weight_levels)
    with np.errstate(over="ignore", divide="ignore"):
        steps = state[name] / step
        stored = np.rint(steps)
    if off := int((np.abs(steps - stored) > _ON_GRID).sum()):
        raise InputError(f"{name} must hold multiples of {step}, {off} of its {stored.size} values are not")
    try:
        scaled = scaled_weights(state[f"{spec.name}.weight"], alpha, spec.weight_bits)
    except InputError as error:
        raise InputError(f"{spec.name}: {error}") from None
    if wrong := int((np.abs(stored - scaled) > 0.5 + _BOUNDARY).sum()):
        raise InputError(f"{name} must hold the codes of {spec.name}.weight, {wrong} of its {stored.size} differ")
    return stored.astype(np.int8)
