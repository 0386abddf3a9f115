"""The roles: what a golden vector can be, one record each in one table."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

import numpy as np
from jaxtyping import Int64

from factory.arithmetic.bits import Field
from factory.arithmetic.labelled import LabelledArray
from factory.dataflow.edges import EDGES, edge_axes, edge_values
from factory.dataflow.mapping import LayerMapping
from factory.dataflow.record import PIXELS, Dataflow
from factory.dataflow.vectors import LayerVectors, output_pixels
from factory.spec import InputError

Axes = tuple[str, ...]
Pixels = tuple[Int64[np.ndarray, " onij"], int, int]
"""What each position on a role's axis of output pixels stands for; pixels of a tile, and of a row of the map."""


def _output_axes(flow: Dataflow) -> Axes:
    return flow.axes(("oc", PIXELS))


def _mapped_pixels(mapping: LayerMapping, post: str) -> Pixels:
    return mapping.pixels, mapping.tile_pixels, mapping.spec.out_width


def _next_pixels(mapping: LayerMapping, post: str) -> Pixels:
    spec = mapping.spec
    return np.arange(spec.next_height * spec.next_width), mapping.tile_pixels, spec.next_width


@dataclass(frozen=True)
class Role:
    """What one kind of vector is.

    - `axes`: its axes in a dataflow, None where the dataflow has no such vector.
    - `values`: what its files hold, from a layer's vectors; psums come in parts along the axis that is given.
    - `include`: the word of `--include` that asks for it (default: its name).
    - `dataset`: what of a store it is read or made from; `tile_dataset`: the same in the tiles of the store's array.
    - `per_image`: every image has its own.
    - `operand`: what a processing element reads where no layout says it, wide enough for every code; None: no operand.
    - `sums`: its lanes are as wide as the adders where those are wider.
    - `follows`: its values follow from the operands; `totals`: they are sums over all that is selected.
    - `of_next`: it needs a layer that follows.
    - `states`: its values are addresses; `posts`: they come after the post-op.
    - `edge`: it is what crosses an edge of the array, cycle by cycle, as the layout's schedule has it.
    - `port`: the stream of a device that takes or gives it; `words`: its key in `Dataflow.words`.
    - `pixels`: its output pixels.
    - `old_name`: what it was called before.
    """

    name: str
    meaning: str
    axes: Callable[[Dataflow], Axes | None]
    values: Callable[[LayerVectors, str], Iterable[LabelledArray]]
    include: str = ""
    dataset: str | None = None
    tile_dataset: str | None = None
    per_image: bool = True
    operand: Field | None = None
    sums: bool = False
    follows: bool = False
    totals: bool = False
    of_next: bool = False
    states: bool = False
    posts: bool = False
    edge: bool = False
    port: str | None = None
    words: str = "output"
    pixels: Callable[[LayerMapping, str], Pixels] = _mapped_pixels
    old_name: str = ""


def _kept(name: str) -> Callable[[LayerVectors, str], Iterator[LabelledArray]]:
    def values(vectors: LayerVectors, outer: str) -> Iterator[LabelledArray]:
        yield getattr(vectors, name)

    return values


def _psum_axes(flow: Dataflow) -> Axes | None:
    return (*flow.parts, *flow.axes(("oc", *flow.passes, flow.reads[-1]))) if flow.has_psums else None


def _running_axes(flow: Dataflow) -> Axes | None:
    return (*flow.parts, *_output_axes(flow)) if flow.parts else None


_TABLE = (
    Role(
        "activation", "codes that enter the layer", lambda flow: flow.axes(("ic", *flow.reads)), _kept("activation"),
        dataset="activation", tile_dataset="activation_tile", operand=Field(9, True), port="act", words="activation",
    ),
    Role(
        "weight", "codes of the weights", lambda flow: flow.axes(("ic", "oc", "kij")), _kept("weight"),
        dataset="weight", tile_dataset="weight_tile", per_image=False, operand=Field(8, True), port="weight",
        words="weight",
    ),
    Role(
        "psum", "sums of one tile at one kij", _psum_axes, LayerVectors.psums,
        dataset="psum", sums=True, follows=True, port="psum",
    ),
    Role(
        "running_sum", "accumulators after each input tile", _running_axes, _kept("running_sum"),
        include="accumulator", dataset="psum", sums=True, follows=True, totals=True, port="partial", old_name="partial",
    ),
    Role(
        "accumulator", "sums of the psums of one output", _output_axes, _kept("accumulator"),
        dataset="conv", sums=True, follows=True, totals=True, port="acc", old_name="conv",
    ),
    Role(
        "out", "accumulators after the post-op", _output_axes, _kept("out"),
        dataset="conv", sums=True, follows=True, totals=True, port="out", posts=True, pixels=output_pixels,
    ),
    Role(
        "next", "codes that enter the next layer", _output_axes, _kept("next"),
        dataset="conv", follows=True, totals=True, of_next=True, pixels=_next_pixels,
    ),
    Role(
        "threshold", "the next layer's quantizer", lambda flow: flow.axes(("oc", "level")), _kept("threshold"),
        dataset="threshold", per_image=False, of_next=True,
    ),
    Role(
        "direction", "1 where codes rise with the accumulator, -1 where they fall", lambda flow: flow.axes(("oc",)),
        _kept("direction"), include="threshold", dataset="direction", per_image=False, of_next=True,
    ),
    Role(
        "address", "the word that each output pixel needs at each kij", lambda flow: (PIXELS, "kij"), _kept("address"),
        per_image=False, states=True,
    ),
    *(
        Role(name, f"what {crosses}, cycle by cycle", edge_axes(name), edge_values(name), follows=True, edge=True,
             sums=name == EDGES[-1], port=name)
        for name, crosses in zip(
            EDGES, ("enters the array from the side", "enters it from above", "leaves it below"), strict=True
        )
    ),
)  # fmt: skip

ROLES: Mapping[str, Role] = MappingProxyType(
    {role.name: replace(role, include=role.include or role.name) for role in _TABLE}
)
INCLUDES = ("activation", "weight", "out", "psum", "accumulator", "threshold", "next", "address", *EDGES)
"""The words of `--include`, in the order in which they are listed."""
_OLD = {role.old_name: role.name for role in _TABLE if role.old_name}


def role_name(name: str) -> str:
    """Return the name of a role or word of `--include` as it is now, from one that it may have had before."""
    return _OLD.get(name, name)


def operand_fields(given: Mapping[str, Field]) -> dict[str, Field]:
    """Return what a processing element reads of each operand: what is given, or else every code as it is."""
    return {role.name: given.get(role.name, role.operand) for role in ROLES.values() if role.operand is not None}


def axes_of(role: Role, flow: Dataflow) -> Axes:
    """Return the axes of a role in a dataflow; raise InputError where it has none."""
    axes = role.axes(flow)
    if axes is None:
        raise InputError(f"dataflow {flow.name} has no {role.name}")
    return axes
