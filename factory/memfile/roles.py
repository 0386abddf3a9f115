"""What a memory file can hold: the roles, the axes of each in either dataflow, and the words of `--include`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

DATAFLOWS = ("ws", "os")
AXES = ("it", "ot", "pt", "kij", "nij", "onij", "ic", "row", "col", "px", "level")


@dataclass(frozen=True)
class Role:
    """What one kind of file holds, and its axes in each dataflow that has it.

    `per_image`: every image has its own. `sums`: the lanes are as wide as the adders where those are wider.
    In OS, `onij` can be given as `pt` and `px` too: the pixels of a tile.
    """

    axes: Mapping[str, tuple[str, ...]]
    per_image: bool = True
    sums: bool = False


_OUTPUT = {"ws": ("ot", "onij", "col"), "os": ("ot", "onij", "col")}

ROLES: Mapping[str, Role] = MappingProxyType(
    {
        "activation": Role({"ws": ("it", "nij", "row"), "os": ("ic", "kij", "onij")}),
        "weight": Role({"ws": ("it", "ot", "kij", "col", "row"), "os": ("ot", "ic", "kij", "col")}, per_image=False),
        "psum": Role({"ws": ("it", "ot", "kij", "nij", "col")}, sums=True),
        "partial": Role({"ws": ("it", "ot", "onij", "col")}, sums=True),
        "conv": Role(_OUTPUT, sums=True),
        "out": Role(_OUTPUT, sums=True),
        "next": Role(_OUTPUT),
        "threshold": Role({flow: ("ot", "level", "col") for flow in DATAFLOWS}, per_image=False),
        "direction": Role({flow: ("ot", "col") for flow in DATAFLOWS}, per_image=False),
        "address": Role({flow: ("onij", "kij") for flow in DATAFLOWS}, per_image=False),
    }
)
INCLUDES = ("activation", "weight", "out", "psum", "conv", "threshold", "next", "address")
