"""Weights files: a trained network as one safetensors file, written whole and checked when it is read.

Tensors, for each layer: `<layer>.weight_code` int8 `(oc, ic, ki, kj)`, `.alpha_w` and `.alpha_a` float32 `()`, and
with batch norm `.batch_norm.{mean,var,gamma,beta}` float32 `(oc,)`; then `classifier.{weight,bias}` float32. A stem has
`<stem>.weight` float32 `(oc, ic, ki, kj)` and its batch norm. The metadata has one key, `factory`: a JSON object with
`format` (1), `network` (the description) and `sha256` (of the contents).
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from factory.spec import (
    BatchNorm,
    ConvLayer,
    InputError,
    Network,
    TrainedLayer,
    TrainedNetwork,
    TrainedStem,
    write_whole,
)


@dataclass(frozen=True)
class Rule:
    """A condition on each value of a tensor, and the words for it."""

    words: str
    holds: Callable[[np.ndarray], np.ndarray]


FINITE = Rule("finite", np.isfinite)
POSITIVE = Rule("finite and more than 0", lambda values: np.isfinite(values) & (values > 0))
NOT_NEGATIVE = Rule("finite and at least 0", lambda values: np.isfinite(values) & (values >= 0))


def between(low: int, high: int) -> Rule:
    """Return the rule that every value is `low` to `high`, both included."""
    return Rule(f"{low} to {high}", lambda values: (values >= low) & (values <= high))


@dataclass(frozen=True)
class Expected:
    """What a tensor must be; `dtype` is NumPy's name of it."""

    shape: tuple[int, ...]
    rule: Rule = FINITE
    dtype: str = "float32"

    def __str__(self) -> str:
        return f"{self.dtype} {self.shape}"


def check_form(name: str, expected: Expected, dtype: str, shape: tuple[int, ...]) -> None:
    """Raise InputError unless the tensor called `name` has the dtype and the shape that it must have."""
    if (dtype, shape) != (expected.dtype, expected.shape):
        raise InputError(f"{name} must be {expected}, not {dtype} {shape}")


def check_values(name: str, expected: Expected, values: np.ndarray) -> None:
    """Raise InputError, with the place, unless every value of the tensor called `name` follows its rule."""
    legal = expected.rule.holds(values)
    if not legal.all():
        at = tuple(int(i) for i in np.unravel_index(int(np.argmin(legal)), values.shape))
        place = f" at {list(at)}" if at else ""
        raise InputError(f"{name} must be {expected.rule.words}, not {values[at]!s}{place}")


def check_names(expected: Mapping[str, Expected], found: Iterable[str]) -> None:
    """Raise InputError where a tensor is missing, or where there is one that the network does not have."""
    found = tuple(found)
    for name, tensor in expected.items():
        if name not in found:
            raise InputError(f"{name} must be {tensor}, it is missing")
    for name in found:
        if name not in expected:
            raise InputError(f"{name} is not a tensor of this network")


def contents_sha256(network: Network, tensors: Mapping[str, np.ndarray]) -> str:
    """Return the hex SHA-256 of a network's description and of its tensors' names, dtypes, shapes and bytes.

    The digest is of one line of JSON (sorted keys, no blanks, LF) followed by each tensor's little-endian bytes in C
    order, sorted by name.
    """
    names = sorted(tensors)
    forms = [[name, tensors[name].dtype.name, list(tensors[name].shape)] for name in names]
    head = json.dumps({"network": network.to_dict(), "tensors": forms}, sort_keys=True, separators=(",", ":"))
    digest = hashlib.sha256(f"{head}\n".encode())
    for name in names:
        array = tensors[name]
        digest.update(np.ascontiguousarray(array, array.dtype.newbyteorder("<")).data)
    return digest.hexdigest()


FORMAT = 1
_KEY = "factory"
_DEFAULT = "part1"
_SHIPPED = {_DEFAULT: "vgg16_w4a4.safetensors", "resnet20": "resnet20_w4a4.safetensors"}
_NORM = {"mean": {}, "var": {"rule": NOT_NEGATIVE}, "gamma": {}, "beta": {}}


def default_weights() -> Path:
    """Return the path of the weights that are used where none are named."""
    return shipped_weights()[_DEFAULT]


def shipped_weights() -> dict[str, Path]:
    """Return the weights that ship, by their network's name: in an installed wheel, or else in the checkout."""
    package = Path(__file__).parents[1]
    folder = package / "_data" if (package / "_data").is_dir() else package.parent / "weights"
    return {network: folder / name for network, name in _SHIPPED.items()}


def save_weights(trained: TrainedNetwork, path: str | os.PathLike) -> None:
    """Write a trained network to a weights file: the same network gives the same bytes.

    The file appears under its name only when it is whole. Raise InputError where it cannot be written.
    """
    from safetensors.numpy import save

    tensors = _tensors(trained)
    about = {
        "format": FORMAT,
        "network": trained.network.to_dict(),
        "sha256": contents_sha256(trained.network, tensors),
    }
    write_whole(Path(path), save(tensors, {_KEY: json.dumps(about, sort_keys=True)}))


def load_weights(path: str | os.PathLike | None = None) -> TrainedNetwork:
    """Read a weights file; None is the default one, and the name of a network whose weights ship is its own.

    Raise InputError where the file is not a whole weights file of this format, where a tensor is missing, unknown,
    misshapen or holds an illegal value, and where the contents are not those that its sha256 was made of.
    """
    path = default_weights() if path is None else shipped_weights().get(str(path), Path(path))
    if not path.is_file():
        raise InputError(f"weights must be a file, not {path}")
    try:
        network, sha256, tensors = _read(path)
        if (found := contents_sha256(network, tensors)) != sha256:
            raise InputError(f"the sha256 of the contents must be {sha256}, not {found}")
        for name, expected in expected_tensors(network).items():
            check_values(name, expected, tensors[name])
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    return trained_network(network, tensors)


def expected_tensors(network: Network) -> dict[str, Expected]:
    """Return what each tensor of a network's weights file must be, by name."""
    expected = {}
    if stem := network.stem:
        expected[f"{stem.name}.weight"] = Expected(stem.geometry.weight_shape)
        expected |= _norm_tensors(stem.name, stem.out_channels)
    for spec in network.layers:
        rule = between(-spec.weight_qmax, spec.weight_qmax)
        expected[f"{spec.name}.weight_code"] = Expected(spec.weight_shape, rule, "int8")
        expected[f"{spec.name}.alpha_w"] = expected[f"{spec.name}.alpha_a"] = Expected((), POSITIVE)
        if spec.batch_norm:
            expected |= _norm_tensors(spec.name, spec.out_channels)
    expected["classifier.weight"] = Expected(network.classifier_shape)
    expected["classifier.bias"] = Expected(network.classifier_shape[:1])
    return expected


def _norm_tensors(name: str, channels: int) -> dict[str, Expected]:
    return {f"{name}.batch_norm.{field}": Expected((channels,), **rule) for field, rule in _NORM.items()}


def trained_network(network: Network, tensors: Mapping[str, np.ndarray]) -> TrainedNetwork:
    """Return the trained network of a weights file's tensors, which must be those of `expected_tensors`."""
    layers = {spec.name: _layer(network, spec, tensors) for spec in network.layers}
    stem = None
    if spec := network.stem:
        stem = TrainedStem(spec, tensors[f"{spec.name}.weight"], _batch_norm(network, spec.name, tensors))
    classifier = tensors["classifier.weight"], tensors["classifier.bias"]
    return TrainedNetwork(network, layers, *classifier, contents_sha256(network, tensors), stem)


def _batch_norm(network: Network, name: str, tensors: Mapping[str, np.ndarray]) -> BatchNorm:
    return BatchNorm(**{field: tensors[f"{name}.batch_norm.{field}"] for field in _NORM}, eps=network.eps)


def _layer(network: Network, spec: ConvLayer, tensors: Mapping[str, np.ndarray]) -> TrainedLayer:
    norm = _batch_norm(network, spec.name, tensors) if spec.batch_norm else None
    code, alpha_w, alpha_a = (tensors[f"{spec.name}.{name}"] for name in ("weight_code", "alpha_w", "alpha_a"))
    return TrainedLayer(spec, code, np.float32(alpha_w), np.float32(alpha_a), norm)


def _tensors(trained: TrainedNetwork) -> dict[str, np.ndarray]:
    """Invert `trained_network`; the arrays are in C order, which is all that safetensors can save."""
    tensors = {}
    stem = {trained.stem.spec.name: trained.stem} if trained.stem else {}
    tensors |= {f"{name}.weight": layer.weight for name, layer in stem.items()}
    for name, layer in trained.layers.items():
        tensors |= {f"{name}.weight_code": layer.weight_code}
        tensors |= {f"{name}.{alpha}": getattr(layer, alpha) for alpha in ("alpha_w", "alpha_a")}
    for name, layer in {**stem, **trained.layers}.items():
        if layer.batch_norm is not None:
            tensors |= {f"{name}.batch_norm.{field}": getattr(layer.batch_norm, field) for field in _NORM}
    tensors |= {"classifier.weight": trained.classifier_weight, "classifier.bias": trained.classifier_bias}
    return {name: np.array(values, order="C") for name, values in tensors.items()}


_DTYPES = {"I8": "int8", "F32": "float32"}


def _read(path: Path) -> tuple[Network, str, dict[str, np.ndarray]]:
    """Return the description, the sha256 that the file states, and the tensors, each of the right dtype and shape."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            network, sha256 = _about(file.metadata() or {})
            expected = expected_tensors(network)
            check_names(expected, file.keys())
            for name, tensor in expected.items():
                piece = file.get_slice(name)
                dtype = piece.get_dtype()
                check_form(name, tensor, _DTYPES.get(dtype, dtype), tuple(piece.get_shape()))
            return network, sha256, {name: file.get_tensor(name) for name in expected}
    except SafetensorError:
        raise InputError("must be a whole safetensors file, it is damaged or something else") from None
    except OSError as error:
        raise InputError(f"must be readable: {error.strerror}") from None


def _about(metadata: Mapping[str, str]) -> tuple[Network, str]:
    try:
        about = json.loads(metadata[_KEY])
        version, description, sha256 = about["format"], about["network"], about["sha256"]
    except (KeyError, TypeError, ValueError):
        raise InputError("must be a weights file that factory import wrote, its description is missing") from None
    if version != FORMAT:
        raise InputError(f"the format must be {FORMAT}, not {version}")
    return Network.from_dict(description), sha256
