"""Weight stationary: a tile's weights stay in the array while the pixels of the padded map stream through.

Input channels on rows, output channels on columns:
`psum[it, ot, kij, nij, col] = sum over row of activation[it, nij, row] * weight[it, ot, kij, col, row]`, row 0 first;
`accumulator[ot, onij, col] = sum over it, kij of psum[it, ot, kij, nij(onij, kij), col]`.
"""

from factory.dataflow.record import Dataflow, Edge, Tiling

WEIGHT_STATIONARY = Dataflow(
    name="ws",
    about="weight stationary: rows take input channels, columns give output channels, pixels stream",
    tilings={"ic": Tiling("it", "row", "rows"), "oc": Tiling("ot", "col", "cols")},
    pixel_tiling=None,
    reads=("nij",),
    parts=("it",),
    passes=("kij",),
    terms=("row",),
    edges={
        "west": Edge("activation", ("nij",), "row"),
        "north": Edge("weight", ("row",), "col"),
        "south": Edge("psum", ("nij",), "col"),
    },
    words={"activation": "row", "weight": "row", "output": "col"},
    device_mode=0,
)
