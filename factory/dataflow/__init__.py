"""Dataflows: what goes into an array and must come out of it, in the order in which the hardware takes it."""

from collections.abc import Mapping
from types import MappingProxyType

from factory.arithmetic.adders import OVERFLOWS as OVERFLOWS
from factory.arithmetic.adders import Adder as Adder
from factory.dataflow.flow import Dataflow as Dataflow
from factory.dataflow.flow import Tiles as Tiles
from factory.dataflow.output_stationary import OutputStationary as OutputStationary
from factory.dataflow.vectors import Vectors as Vectors
from factory.dataflow.vectors import axis_sizes as axis_sizes
from factory.dataflow.weight_stationary import WeightStationary as WeightStationary

FLOWS: Mapping[str, type[Dataflow]] = MappingProxyType({"ws": WeightStationary, "os": OutputStationary})
