"""Integer arrays whose axes have names and whose places on an axis can stand for other indices."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from factory.spec import InputError


@dataclass(frozen=True)
class Named:
    """Integers with named axes, `values.ndim == len(axes)`.

    `labels[axis][i]` is the index (of a tile, a kernel position, ...) at place `i`; an axis without labels counts from
    0. `changed` is how many values differ from the integers they stand for, because a field or an adder was too narrow.
    """

    values: np.ndarray
    axes: tuple[str, ...]
    labels: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    changed: int = 0

    def size(self, axis: str) -> int:
        """Return the number of places on an axis."""
        return self.values.shape[self.axes.index(axis)]

    def label(self, axis: str) -> tuple[int, ...]:
        """Return what each place on an axis stands for."""
        return tuple(self.labels.get(axis, range(self.size(axis))))

    def split(self, axis: str, outer: str, inner: str, size: int) -> Named:
        """Divide an axis in two: `outer, inner = divmod(axis, size)`; raise InputError where `size` does not divide."""
        at = self.axes.index(axis)
        count, rest = divmod(self.values.shape[at], size)
        if rest:
            raise InputError(f"{axis} must hold a multiple of {size} places, not {self.values.shape[at]}")
        shape = (*self.values.shape[:at], count, size, *self.values.shape[at + 1 :])
        axes = (*self.axes[:at], outer, inner, *self.axes[at + 1 :])
        return Named(self.values.reshape(shape), axes, self.labels, self.changed)

    def arrange(self, axes: Sequence[str]) -> Named:
        """Return the axes in another order, all of them, reversed where the name begins with `-`."""
        plain = tuple(axis.lstrip("-") for axis in axes)
        values = self.values.transpose([self.axes.index(axis) for axis in plain])
        flip = [at for at, axis in enumerate(axes) if axis.startswith("-")]
        labels = dict(self.labels)
        labels |= {plain[at]: self.label(plain[at])[::-1] for at in flip}
        return Named(np.flip(values, flip), plain, labels, self.changed)
