"""Integer arrays whose axes have names, what is kept of each axis, and the address of one value."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Integer

from factory.tables import html_table


@dataclass(frozen=True)
class Axis:
    """An axis as a layout orders it: by its name, or backwards where `reversed`."""

    name: str
    reversed: bool = False

    @classmethod
    def parse(cls, text: str) -> Axis:
        """Return the axis of a profile's text: `row`, or `-row` backwards."""
        return cls(text.removeprefix("-"), text.startswith("-"))

    def __str__(self) -> str:
        return f"-{self.name}" if self.reversed else self.name


def axes(*texts: str) -> tuple[Axis, ...]:
    """Return the axes of several texts."""
    return tuple(map(Axis.parse, texts))


@dataclass(frozen=True)
class Selection(Mapping):
    """The labels kept of each axis that can be selected, ascending: `selection["it"]`."""

    kept: Mapping[str, tuple[int, ...]]

    def __getitem__(self, axis: str) -> tuple[int, ...]:
        return self.kept[axis]

    def __iter__(self) -> Iterator[str]:
        return iter(self.kept)

    def __len__(self) -> int:
        return len(self.kept)

    def __hash__(self) -> int:
        return hash(tuple(self.kept.items()))

    def is_whole(self, counts: Mapping[str, int], among: Iterable[str]) -> bool:
        """Return whether all places of the axes `among` are kept, `counts` being how many each has."""
        return all(len(self.kept[axis]) == counts[axis] for axis in among if axis in self.kept)


@dataclass(frozen=True)
class Address:
    """Where a value stands: a layer, an image (None: the layer's own values), a role ("": any), labels of axes.

    `str(address)` is the one form of it in messages: `features.27, image 3, it 0, kij 4, row 5`.
    """

    layer: str
    image: int | None = None
    role: str = ""
    labels: Mapping[str, int] = field(default_factory=dict)

    def at(self, **labels: int) -> Address:
        """Return the address with further labels."""
        return Address(self.layer, self.image, self.role, {**self.labels, **labels})

    def __str__(self) -> str:
        image = () if self.image is None else (f"image {self.image}",)
        return ", ".join([self.layer, *image, *(f"{axis} {label}" for axis, label in self.labels.items())])


@dataclass(frozen=True)
class LabelledArray:
    """Integers with named axes, `values.ndim == len(axes)`.

    `labels[axis][i]` is what position `i` stands for (a tile, a kernel position, ...); an axis without labels counts
    from 0. `inexact` is how many values differ from the integers that they stand for, because a field or an adder was
    too narrow.
    """

    values: Integer[np.ndarray, "*shape"]
    axes: tuple[str, ...]
    labels: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    inexact: int = 0

    def _repr_html_(self) -> str:
        """Return the axes, and what their places stand for, as the table that notebooks show."""
        rows = [(axis, self.size(axis), _shown(self.label(axis))) for axis in self.axes]
        ends = f", {self.values.min()} to {self.values.max()}" if self.values.size else ""
        inexact = f", {self.inexact} inexact" if self.inexact else ""
        return html_table(("axis", "size", "labels"), rows, f"{self.values.dtype}{ends}{inexact}")

    def size(self, axis: str) -> int:
        """Return the number of positions on an axis."""
        return self.values.shape[self.axes.index(axis)]

    def label(self, axis: str) -> tuple[int, ...]:
        """Return what each position on an axis stands for."""
        return tuple(self.labels.get(axis, range(self.size(axis))))

    def pick(self, axis: str, label: int) -> LabelledArray:
        """Return the one position of an axis that stands for `label`."""
        position = self.label(axis).index(label)
        part = (slice(None),) * self.axes.index(axis) + (slice(position, position + 1),)
        return LabelledArray(self.values[part], self.axes, {**self.labels, axis: (label,)}, self.inexact)

    def take(self, selection: Mapping[str, tuple[int, ...]]) -> LabelledArray:
        """Return the kept positions of an array that is whole; the values themselves where all are kept."""
        values, labels = self.values, dict(self.labels)
        for at, axis in enumerate(self.axes):
            if axis in selection:
                labels[axis] = selection[axis]
                if len(selection[axis]) < values.shape[at]:
                    values = values.take(selection[axis], axis=at)
        return LabelledArray(values, self.axes, labels, self.inexact)

    def split(self, axis: str, outer: str, inner: str, size: int) -> LabelledArray:
        """Divide an axis in two, `outer, inner = divmod(position, size)`, with zeros after its end."""
        at = self.axes.index(axis)
        count = -(-self.values.shape[at] // size)
        missing = count * size - self.values.shape[at]
        values = np.pad(self.values, _after(self.values.ndim, at, missing)) if missing else self.values
        shape = (*values.shape[:at], count, size, *values.shape[at + 1 :])
        axes = (*self.axes[:at], outer, inner, *self.axes[at + 1 :])
        labels = {name: kept for name, kept in self.labels.items() if name != axis}
        return LabelledArray(values.reshape(shape), axes, labels, self.inexact)

    def join(self, outer: str, inner: str, axis: str, count: int) -> LabelledArray:
        """Invert `split`: two axes as one, of whose positions the first `count` are kept."""
        at = self.axes.index(outer)
        rest = [name for name in self.axes if name not in (outer, inner)]
        at -= self.axes.index(inner) < at
        names = (*rest[:at], outer, inner, *rest[at:])
        values = self.values.transpose([self.axes.index(name) for name in names])
        joined = values.reshape(*values.shape[:at], -1, *values.shape[at + 2 :])
        kept = joined[(slice(None),) * at + (slice(count),)]
        labels = {name: held for name, held in self.labels.items() if name not in (outer, inner)}
        return LabelledArray(kept, (*rest[:at], axis, *rest[at:]), labels, self.inexact)

    def keep(self, axis: str, positions: Sequence[int]) -> LabelledArray:
        """Return the array with some positions of an axis, in their order."""
        at, labels = self.axes.index(axis), dict(self.labels)
        if axis in labels:
            labels[axis] = tuple(labels[axis][position] for position in positions)
        return LabelledArray(self.values.take(positions, axis=at), self.axes, labels, self.inexact)

    def repeat(self, axis: str, count: int) -> LabelledArray:
        """Return the array with one more axis, along which it is `count` times the same."""
        values = np.broadcast_to(self.values, (count, *self.values.shape))
        return LabelledArray(values, (axis, *self.axes), self.labels, self.inexact)

    def relabel(self, **labels: tuple[int, ...]) -> LabelledArray:
        """Return the array with other labels on some axes."""
        return LabelledArray(self.values, self.axes, {**self.labels, **labels}, self.inexact)

    def arrange(self, axes: Sequence[Axis]) -> LabelledArray:
        """Return the axes in another order, all of them."""
        names = tuple(axis.name for axis in axes)
        values = self.values.transpose([self.axes.index(name) for name in names])
        flipped = [at for at, axis in enumerate(axes) if axis.reversed]
        labels = {**self.labels, **{names[at]: self.label(names[at])[::-1] for at in flipped}}
        return LabelledArray(np.flip(values, flipped), names, labels, self.inexact)


def _shown(labels: Sequence[int]) -> str:
    """Return labels as text: the ends of many."""
    return " ".join(map(str, labels)) if len(labels) <= 8 else f"{labels[0]} {labels[1]} … {labels[-1]}"


def _after(ndim: int, axis: int, missing: int) -> list[tuple[int, int]]:
    return [(0, missing if at == axis else 0) for at in range(ndim)]
