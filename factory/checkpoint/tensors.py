"""LabelledArray tensors: what each must be, the check that says so, and the digest of their contents."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from factory.spec import InputError, Network


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
