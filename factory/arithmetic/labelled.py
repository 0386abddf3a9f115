"""Integer arrays whose axes have names and whose places on an axis can stand for other indices."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np


@dataclass(frozen=True)
class LabelledArray:
    """Integers with named axes, `values.ndim == len(axes)`.

    `labels[axis][i]` is the index (of a tile, a kernel position, ...) at place `i`; an axis without labels counts from
    0. `wrapped` is how many values differ from the integers they stand for, because a field or an adder was too narrow.
    """

    values: np.ndarray
    axes: tuple[str, ...]
    labels: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    wrapped: int = 0

    def size(self, axis: str) -> int:
        """Return the number of places on an axis."""
        return self.values.shape[self.axes.index(axis)]

    def label(self, axis: str) -> tuple[int, ...]:
        """Return what each place on an axis stands for."""
        return tuple(self.labels.get(axis, range(self.size(axis))))

    def pick(self, axis: str, label: int) -> LabelledArray:
        """Return the one place of an axis that stands for `label`."""
        place = self.label(axis).index(label)
        part = (slice(None),) * self.axes.index(axis) + (slice(place, place + 1),)
        return LabelledArray(self.values[part], self.axes, {**self.labels, axis: (label,)}, self.wrapped)

    def split(self, axis: str, outer: str, inner: str, size: int) -> LabelledArray:
        """Divide an axis in two: `outer, inner = divmod(axis, size)`."""
        at = self.axes.index(axis)
        shape = (*self.values.shape[:at], -1, size, *self.values.shape[at + 1 :])
        axes = (*self.axes[:at], outer, inner, *self.axes[at + 1 :])
        return LabelledArray(self.values.reshape(shape), axes, self.labels, self.wrapped)

    def arrange(self, axes: Sequence[str]) -> LabelledArray:
        """Return the axes in another order, all of them, reversed where the name begins with `-`."""
        plain = tuple(axis.lstrip("-") for axis in axes)
        values = self.values.transpose([self.axes.index(axis) for axis in plain])
        flip = [at for at, axis in enumerate(axes) if axis.startswith("-")]
        labels = dict(self.labels)
        labels |= {plain[at]: self.label(plain[at])[::-1] for at in flip}
        return LabelledArray(np.flip(values, flip), plain, labels, self.wrapped)
