"""What a dataflow is: how an array's lanes, its passes and its time divide a layer's products, as data."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from factory.spec import ConvLayer, InputError, SystolicArray

PIXELS = "onij"
"""The axis of output pixels; where pixels have tiles, layouts may name `pt` and `px` in its place."""


@dataclass(frozen=True)
class Tiling:
    """An axis cut into tiles: `outer, inner = divmod(axis, lanes)`, `lanes` being the array's `rows` or `cols`."""

    outer: str
    inner: str
    lanes: str

    def size(self, array: SystolicArray) -> int:
        """Return how many places a tile has."""
        return getattr(array, self.lanes)

    def count(self, places: int, array: SystolicArray) -> int:
        """Return how many tiles hold so many places."""
        return -(-places // self.size(array))


@dataclass(frozen=True)
class Edge:
    """What crosses an edge of the array: the values of a role, word by word along the axes `words`, in lanes."""

    role: str
    words: tuple[str, ...]
    lane: str


@dataclass(frozen=True)
class Dataflow:
    """One way to run a layer on an array.

    `tilings` are the channel axes (`ic`, `oc`) that the array's lanes take, tile by tile; `pixel_tiling` is that of the
    output pixels, None where no lane holds one. `reads` are the pixel axes of the activations: `nij` where the padded
    map streams through, `kij onij` where each output pixel has the padded pixels that it needs.

    One output is a sum in this order: over `parts` (input tiles, after each of which there is a running sum), over
    `passes` (kernel positions, each of which gives psums), and inside a pass over `terms`, which are added from 0. A
    dataflow without passes adds every product to the accumulator itself, and has no psums.

    `edges` are what crosses the array's edges, `west`, `north` and `south`, in each pass.

    `words` names the axis along which one word of the array's port lies, for its operands and for what leaves it.
    `device_mode` is what the reference array is told, None where it does not have the dataflow.
    """

    name: str
    about: str
    tilings: Mapping[str, Tiling]
    pixel_tiling: Tiling | None
    reads: tuple[str, ...]
    parts: tuple[str, ...]
    passes: tuple[str, ...]
    terms: tuple[str, ...]
    edges: Mapping[str, Edge]
    words: Mapping[str, str] = field(default_factory=dict)
    device_mode: int | None = None

    @property
    def has_psums(self) -> bool:
        """Whether sums leave the array before they are accumulated."""
        return bool(self.passes)

    @property
    def sums_channels(self) -> bool:
        """Whether input channels are summed one by one, so that the first few of them can be asked for."""
        return "ic" in self.terms

    def axes(self, dims: Iterable[str]) -> tuple[str, ...]:
        """Return the axes that dimensions of a layer have in this dataflow: tiles first, lanes last.

        `ic oc kij nij` is `it ot kij nij col row` where rows take input channels and columns output channels.
        """
        dims = tuple(dims)
        outer = [self.tilings[dim].outer for dim in dims if dim in self.tilings]
        inner = [self.tilings[dim].inner for dim in dims if dim in self.tilings]
        return (*outer, *(dim for dim in dims if dim not in self.tilings), *reversed(inner))

    def counts(self, spec: ConvLayer, array: SystolicArray) -> dict[str, int]:
        """Return the axes of which a part can be selected, and how many places each has in a whole layer."""
        sizes = {"ic": spec.in_channels, "oc": spec.out_channels}
        found = {"kij": spec.kij_count}
        for dim in ("oc", "ic"):
            tiling = self.tilings.get(dim)
            if tiling is None:
                found[dim] = sizes[dim]
            else:
                found[tiling.outer] = tiling.count(sizes[dim], array)
        if self.pixel_tiling is not None:
            found[self.pixel_tiling.outer] = self.pixel_tiling.count(spec.onij_count, array)
        return found

    @property
    def loops(self) -> tuple[str, ...]:
        """The axes that `counts` counts: what the array does one after the other."""
        pixel = () if self.pixel_tiling is None else (self.pixel_tiling.outer,)
        return ("kij", *(self.axes((dim,))[0] for dim in ("oc", "ic")), *pixel)

    @property
    def pass_axes(self) -> tuple[str, ...]:
        """The loops that the array does one pass after the other: those that no stream from the west goes through."""
        tiled = [axis for axis in self.tile_axes if axis in self.loops]
        loops = dict.fromkeys((*tiled, *self.loops))
        return tuple(axis for axis in loops if axis not in self.edges["west"].words)

    @property
    def tile_axes(self) -> tuple[str, ...]:
        """The axes that `--tiles` selects: what comes in tiles, and channels that stream, the summed ones first."""
        pixel = () if self.pixel_tiling is None else (self.pixel_tiling.outer,)
        return (*self.parts, *pixel, self.axes(("oc",))[0])

    def check_simd(self, simd: int) -> None:
        """Raise InputError where rows are to take several input channels but take none."""
        tiling = self.tilings.get("ic")
        if simd != 1 and (tiling is None or tiling.lanes != "rows"):
            raise InputError(f"simd must be 1 in dataflow {self.name}, not {simd}")
