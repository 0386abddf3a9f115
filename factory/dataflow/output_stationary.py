"""Output stationary: a tile of output pixels stays in the array while input channels and kernel positions stream.

Output pixels on rows, output channels on columns, `ic` outside and `kij` inside:
`accumulator[ot, onij, col] = sum over ic, kij of activation[ic, kij, onij] * weight[ot, ic, kij, col]`.
"""

from factory.dataflow.record import Dataflow, Edge, Tiling

OUTPUT_STATIONARY = Dataflow(
    name="os",
    about="output stationary: rows hold output pixels, columns output channels, products stream",
    tilings={"oc": Tiling("ot", "col", "cols")},
    pixel_tiling=Tiling("pt", "px", "rows"),
    reads=("kij", "onij"),
    parts=(),
    passes=(),
    terms=("ic", "kij"),
    edges={
        "west": Edge("activation", ("ic", "kij"), "px"),
        "north": Edge("weight", ("ic", "kij"), "col"),
        "south": Edge("accumulator", ("px",), "col"),
    },
    words={"activation": "px", "weight": "col", "output": "col"},
    device_mode=1,
)
