"""Real values that stand for codes: which integers they are, and how few bits have a grid that holds them.

A value lies on a grid where it is a whole number of steps, within `ON_GRID` of one: float32 arithmetic in another order
stays inside that, a value that no code stands for does not.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Float64, Int64, Integer

from factory.spec import InputError

ON_GRID = 1e-3
"""Farthest that a value may lie from a whole number of steps, in steps."""
MOST_BITS = 8

Scale = float | np.floating | Float[np.ndarray, "*_"]
"""One number for all values, or an array that broadcasts to their shape."""


def grid_codes(
    name: str, values: Float[np.ndarray, "*shape"], step: Scale, zero_point: int | Integer[np.ndarray, "*_"] = 0
) -> Int64[np.ndarray, "*shape"]:
    """Return the codes `values / step + zero_point`.

    Raise InputError, with `name`, the worst value and its place, where a value is not on the grid.
    """
    steps = _steps(values, step)
    at, off = _worst(steps)
    if not off <= ON_GRID:
        raise InputError(f"{name} must hold multiples of {_at(step, values, at)}, {_place(values, at, off)}")
    return np.asarray(np.rint(steps).astype(np.int64) + zero_point)


def weight_bits(name: str, values: Float[np.ndarray, "*shape"], alpha: Scale) -> int:
    """Return the fewest bits, 2 to 8, of which all `values` are multiples of `alpha / (2**(bits - 1) - 1)`.

    Raise InputError, with `name` and the worst value of the nearest grid, where there are none.
    """
    levels = {bits: 2 ** (bits - 1) - 1 for bits in range(2, MOST_BITS + 1)}
    return _fewest_bits(name, values, alpha, levels)


def activation_bits(name: str, values: Float[np.ndarray, "*shape"], alpha: Scale) -> int:
    """Return the fewest bits, 1 to 8, of which all `values` are multiples of `alpha / (2**bits - 1)`.

    Raise InputError, with `name` and the worst value of the nearest grid, where there are none.
    """
    levels = {bits: 2**bits - 1 for bits in range(1, MOST_BITS + 1)}
    return _fewest_bits(name, values, alpha, levels)


def _fewest_bits(name: str, values: np.ndarray, alpha: Scale, levels: dict[int, int]) -> int:
    worst = {}
    for bits, most in levels.items():
        at, off = worst[bits] = _worst(_steps(values, np.float64(alpha) / most))
        if off <= ON_GRID:
            return bits
    bits = min(worst, key=lambda bits: worst[bits][1])
    at, off = worst[bits]
    raise InputError(
        f"{name} must hold multiples of {_at(alpha, values, at)} / levels of {min(levels)} to {MOST_BITS} bits; "
        f"of the nearest, {bits} bits, {_place(values, at, off)}"
    )


def _steps(values: np.ndarray, step: Scale) -> Float64[np.ndarray, "*_"]:
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        return np.asarray(values.astype(np.float64) / np.float64(step))


def _worst(steps: Float64[np.ndarray, "*_"]) -> tuple[tuple[int, ...], float]:
    """Return the place of the value that is farthest from a whole number, and how far; no number is the farthest."""
    with np.errstate(invalid="ignore"):
        off = np.nan_to_num(np.abs(steps - np.rint(steps)), nan=np.inf)
    at = np.unravel_index(int(off.argmax()), off.shape)
    return tuple(int(i) for i in at), float(off[at])


def _at(scale: Scale, values: np.ndarray, at: tuple[int, ...]) -> str:
    return f"{np.broadcast_to(np.asarray(scale), values.shape)[at]:.7g}"


def _place(values: np.ndarray, at: tuple[int, ...], off: float) -> str:
    return f"not {values[at]!s} at {list(at)}, {off:.3g} of a step off"
