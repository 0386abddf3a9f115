"""The bench of edge streams: west and north drive a device cycle by cycle, what leaves below is compared with south."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import product

from factory.arithmetic.bits import Field
from factory.arithmetic.labelled import Address, Selection
from factory.dataflow import CYCLE, ROLES, EdgeSchedule
from factory.dataflow.edges import EDGES, crossing_values, ordered_mapping, pass_times, pass_words
from factory.fileplan import ExportPlan
from factory.memfile import Layout
from factory.spec import InputError
from factory.testbench.records import EDGE_ARRAY, Bench, EdgeDevice, EdgeJob
from factory.testbench.runs import ONCE, LayerRun, Port, runs_of, steps_of, streams_of, written_layouts

_SOUTH = EDGES[-1]


def edge_ports(plan: ExportPlan) -> dict[str, Port]:
    """Return what each port of a device reads: the first layout that has an edge's values, or its valid bits.

    Both may be of one layout, the valid bit being a lane's lowest. Empty where a port has no layout.
    """
    ports: dict[str, Port] = {}
    for layout in plan.layouts:
        if ROLES[layout.role].edge:
            edge, lane = layout.edge, plan.profile.flow.edges[layout.role].lane
            if edge.has_values:
                port = Port(layout.name, lane, edge.valid_bits, layout.lane_bits - edge.valid_bits)
                ports.setdefault(layout.role, port)
            if edge.has_valid:
                ports.setdefault(f"{layout.role}_valid", Port(layout.name, lane, 0, 1))
    return {name: ports[name] for name in EDGE_ARRAY.streams} if ports.keys() == set(EDGE_ARRAY.streams) else {}


def edge_bench(plan: ExportPlan, ports: Mapping[str, Port]) -> Bench:
    """Return the bench of the streams that `ports` read.

    Raise InputError where a testbench cannot read their files, where a lane has several valid bits, or where the
    streams are not of one schedule.
    """
    layouts = {layout.name: layout for layout in plan.layouts}
    held = {name: layouts[port.layout] for name, port in ports.items()}
    for layout in held.values():
        if not layout.edge.has_values and layout.lane_bits != 1:
            raise InputError(f"testbench: layout {layout.name}: lane_bits must be 1, not {layout.lane_bits}")
    runs = runs_of(plan, ports, ports)
    return Bench(
        device=_device(plan, held, _timing(held)),
        streams=streams_of(runs),
        steps=tuple(steps_of(runs, _jobs)),
        unchecked=tuple(name for name in written_layouts(plan) if name not in {port.layout for port in ports.values()}),
    )


def _timing(held: Mapping[str, Layout]) -> EdgeSchedule:
    """Return the schedule that all layouts have; raise InputError where one has another."""
    first = next(iter(held.values()))
    for layout in held.values():
        if layout.edge.timing != first.edge.timing:
            what = [layout.edge.timing.to_record() for layout in (first, layout)]
            raise InputError(f"testbench: layout {layout.name}: edge must be that of layout {first.name} but for its "
                             f"content, {what[0]}, not {what[1]}")  # fmt: skip
    return first.edge.timing


def _device(plan: ExportPlan, held: Mapping[str, Layout], edge: EdgeSchedule) -> EdgeDevice:
    entering = {
        name: Field(held[name].lane_bits - held[name].edge.valid_bits, held[name].signed) for name in EDGES[:-1]
    }
    return EdgeDevice(
        rows=plan.array.rows,
        cols=plan.array.cols,
        sums_stay=not plan.profile.flow.has_psums,
        **entering,
        sum_bits=plan.array.psum_bits,
        saturate=plan.overflow == "saturate",
        depth=edge.depth,
        drain=edge.drain,
        skews=edge.skew == "none",
        row0_first=edge.row0_first,
        lane=plan.profile.flow.edges[_SOUTH].lane,
    )


def _jobs(run: LayerRun) -> Iterator[EdgeJob]:
    """Yield a job for each stream: the passes of each place on the axes that are not in sequence."""
    flow, south = run.mapping.dataflow, run.streams[_SOUTH]
    edge = south.files.layout.edge
    mapping = ordered_mapping(run.mapping, edge)
    times, passes = pass_times(mapping, edge)
    for held in run.streams.values():
        if CYCLE not in [axis.name for axis in held.files.layout.lines]:
            raise held.fail(f"its axis {CYCLE} must be in its lines")
    outer = [axis for axis in flow.pass_axes if axis not in edge.sequence]
    for places in product(*(enumerate(mapping.selection[axis]) for axis in outer)):
        fixed = {axis: place for axis, (place, _) in zip(outer, places, strict=True)}
        labels = {axis: label for axis, (_, label) in zip(outer, places, strict=True)}
        kept = {axis: (label,) for axis, label in labels.items()}
        part = replace(mapping, selection=Selection({**mapping.selection, **kept}))
        walks = {port: held.walk((*ONCE, (CYCLE, times.cycles(passes))), fixed) for port, held in run.streams.items()}
        file = walks[_SOUTH].base // south.words  # the files of a stream lie one after the other in its memory
        yield EdgeJob(
            where=Address(run.mapping.spec.name, run.image, _SOUTH, labels),
            words=pass_words(mapping, edge),
            compared=crossing_values(_SOUTH, part, edge),
            path=south.paths[file],
            first=file * south.words,
            walks=walks,
        )
