"""Input stationary: a tile's activations stay in the array while the weights stream, output channel by channel.

As in SCALE-Sim: input channels on rows, output pixels on columns, one pass for each `it` and `kij`:
`psum[it, kij, oc, onij] = sum over row of activation[it, kij, onij, row] * weight[it, kij, oc, row]`, row 0 first;
`accumulator[oc, onij] = sum over it, kij of psum[it, kij, oc, onij]`.
"""

from factory.dataflow.record import Dataflow, Edge, Tiling

INPUT_STATIONARY = Dataflow(
    name="is",
    about="input stationary: rows take input channels, columns hold output pixels, weights stream",
    tilings={"ic": Tiling("it", "row", "rows")},
    pixel_tiling=Tiling("pt", "px", "cols"),
    reads=("kij", "onij"),
    parts=("it",),
    passes=("kij",),
    terms=("row",),
    edges={
        "west": Edge("weight", ("oc",), "row"),
        "north": Edge("activation", ("row",), "px"),
        "south": Edge("psum", ("oc",), "px"),
    },
)
