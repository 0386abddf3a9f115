"""Dataflows and roles: what goes into an array and must come out of it, in the order in which the hardware takes it."""

from collections.abc import Mapping
from types import MappingProxyType

from factory.dataflow.edges import CYCLE as CYCLE
from factory.dataflow.edges import EDGES as EDGES
from factory.dataflow.input_stationary import INPUT_STATIONARY as INPUT_STATIONARY
from factory.dataflow.mapping import LayerMapping as LayerMapping
from factory.dataflow.output_stationary import OUTPUT_STATIONARY as OUTPUT_STATIONARY
from factory.dataflow.record import PIXELS as PIXELS
from factory.dataflow.record import Dataflow as Dataflow
from factory.dataflow.roles import INCLUDES as INCLUDES
from factory.dataflow.roles import ROLES as ROLES
from factory.dataflow.roles import Role as Role
from factory.dataflow.roles import axes_of as axes_of
from factory.dataflow.roles import operand_fields as operand_fields
from factory.dataflow.roles import role_name as role_name
from factory.dataflow.schedule import EdgeSchedule as EdgeSchedule
from factory.dataflow.vectors import GivenVectors as GivenVectors
from factory.dataflow.vectors import KnownLayer as KnownLayer
from factory.dataflow.vectors import LayerSource as LayerSource
from factory.dataflow.vectors import LayerVectors as LayerVectors
from factory.dataflow.weight_stationary import WEIGHT_STATIONARY as WEIGHT_STATIONARY
from factory.spec import InputError

DATAFLOWS: Mapping[str, Dataflow] = MappingProxyType(
    {flow.name: flow for flow in (WEIGHT_STATIONARY, OUTPUT_STATIONARY, INPUT_STATIONARY)}
)
"""Every dataflow, the default first."""


def dataflow_named(name: str) -> Dataflow:
    """Return the dataflow called `name`; raise InputError that lists those there are."""
    if name not in DATAFLOWS:
        raise InputError(f"dataflow must be one of {' '.join(DATAFLOWS)}, not {name}")
    return DATAFLOWS[name]
