"""From the plan of an export to its bench: which files are loaded, fed and compared, in which jobs."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

from factory.arithmetic.bits import Field
from factory.dataflow import PIXELS, ROLES
from factory.fileplan import ExportPlan
from factory.spec import InputError
from factory.testbench.edges import edge_bench, edge_ports
from factory.testbench.records import ARRAY, POST_OPS, SINKS, Bench, Device, Job
from factory.testbench.runs import ONCE, LayerRun, Port, memory_depth, runs_of, steps_of, streams_of, written_layouts

_MOST = (1 << 16) - 1
_LEAST_PIXELS = 1 << 10


def bench_of(plan: ExportPlan) -> Bench:
    """Return the bench of an export: of the reference array where that computes it, else of its edges' streams.

    Raise InputError where the files are such that a testbench cannot read them, or where nothing would be compared.
    """
    ports, crossing = _ports(plan), edge_ports(plan)
    operands = {role.port for role in ROLES.values() if role.operand is not None}
    computed = operands <= ports.keys() and ports.keys() & set(SINKS) and plan.profile.flow.device_mode is not None
    if crossing and not computed:
        return edge_bench(plan, crossing)
    post = plan.profile.post
    runs = runs_of(plan, ports, operands, post if post in POST_OPS else "none")
    if not runs:
        raise InputError("testbench: the export must include activation and weight, or west, north and south with "
                         "values and valid bits")  # fmt: skip
    if plan.profile.flow.device_mode is None:
        raise InputError(f"testbench: the reference array has no dataflow {plan.profile.flow.name}; include west, "
                         "north and south of profile edges")  # fmt: skip
    chosen = {port.layout for port in ports.values()}
    return Bench(
        device=_device(plan, memory_depth(max(run.mapping.spec.onij_count for run in runs), _LEAST_PIXELS)),
        streams=streams_of(runs),
        steps=tuple(steps_of(runs, jobs_of)),
        unchecked=tuple(name for name in written_layouts(plan) if name not in chosen),
    )


def _ports(plan: ExportPlan) -> dict[str, Port]:
    """Return what each port of the reference array reads: the first layout of its role that an array can give."""
    ports: dict[str, Port] = {}
    for layout in plan.layouts:
        role = ROLES[layout.role]
        if role.port in ARRAY.streams and (plan.profile.post in POST_OPS or not role.posts):
            ports.setdefault(role.port, Port(layout.name, plan.profile.flow.words.get(role.words, "")))
    return ports


def _device(plan: ExportPlan, depth: int) -> Device:
    array, profile = plan.array, plan.profile
    read: dict[str, Field] = {ROLES[name].port: field for name, field in profile.fields.items()}
    if not read["weight"].signed:
        raise InputError("testbench: weights must be signed, not unsigned")
    return Device(
        rows=array.rows // profile.simd,
        cols=array.cols,
        simd=profile.simd,
        act_bits=read["act"].bits,
        act_signed=read["act"].signed,
        weight_bits=read["weight"].bits,
        psum_bits=array.psum_bits,
        acc_bits=array.psum_bits,
        saturate=plan.overflow == "saturate",
        depth=depth,
    )


def jobs_of(run: LayerRun) -> Iterator[Job]:
    """Yield a layer's and image's jobs; raise InputError for a selection that no array computes."""
    if not run.streams.keys() & set(SINKS):
        words = " or ".join(dict.fromkeys(role.include for role in ROLES.values() if role.port in SINKS[:3]))
        raise run.fail(f"something must be compared; include {words}, or out with post none, relu or leaky")
    jobs = _passing_jobs if run.mapping.dataflow.has_psums else _stationary_jobs
    for job in jobs(run):
        for port, value in job.ports.items():
            if value > _MOST:
                raise run.fail(f"{port.removeprefix('job_')} must be at most {_MOST}, not {value}")
        yield job


def _passing_jobs(run: LayerRun) -> Iterator[Job]:
    """Yield a job for each `ot`, psums over `it`, `kij` and `nij`, outputs over `onij`: the weights are stationary.

    Where what is accumulated after each `it` is compared, each `it` is a job that continues the one before.
    """
    mapping, spec, flow = run.mapping, run.mapping.spec, run.mapping.dataflow
    its, kijs = mapping.selection["it"], mapping.selection["kij"]
    if len(kijs) != spec.kij_count:
        raise run.fail(f"every kij must be selected, not {len(kijs)} of {spec.kij_count}")
    if its != tuple(range(its[0], its[0] + len(its))):
        raise run.fail(f"the it selected must follow each other, not be {' '.join(map(str, its))}")
    count = 1 if any(run.is_running(held.role) for held in run.streams.values()) else len(its)
    outer, counts = (("it", count), ("kij", spec.kij_count)), {"nij": spec.nij_count, "col": mapping.array.cols}
    loops = dict.fromkeys(run.streams, (*ONCE, (PIXELS, spec.onij_count)))
    for port, held in run.streams.items():
        if not held.role.totals:
            axis = held.line_axis(flow)
            loops[port] = (*outer, (axis, counts[axis]))
    for (ot, ot_label), it in product(enumerate(mapping.selection["ot"]), range(0, len(its), count)):
        last = it + count == len(its)
        yield Job(
            layer=spec.name, image=run.image, it=its[it], ot=ot_label, pt=0, mode=flow.device_mode,
            continues=it > 0, it_count=count, kernel=spec.kernel, stride=spec.stride, dilation=spec.dilation,
            padded_width=spec.padded_width, out_width=spec.out_width, act_count=spec.nij_count,
            nij_count=spec.nij_count, onij_count=spec.onij_count, post_op=run.post,
            walks={port: held.walk(loops[port], {"it": it, "ot": ot}) for port, held in run.streams.items()
                   if last or not held.role.totals or run.is_running(held.role)},
        )  # fmt: skip


def _stationary_jobs(run: LayerRun) -> Iterator[Job]:
    """Yield a job for each `pt` and `ot`, a step for each term, an output for each row: the outputs are stationary."""
    mapping, flow, rows = run.mapping, run.mapping.dataflow, run.mapping.tile_pixels
    counts = tuple((axis, len(mapping.selection[axis])) for axis in flow.terms)
    steps, count = (*counts, ("", 1)), counts[0][1] * counts[1][1]
    for (pt, pt_label), (ot, ot_label) in product(*(enumerate(mapping.selection[axis]) for axis in ("pt", "ot"))):
        fixed = {"pt": pt, "ot": ot, PIXELS: pt * rows}
        loops = {port: steps if held.role.operand is not None else (*ONCE, held.tile_loop(pt, rows))
                 for port, held in run.streams.items()}  # fmt: skip
        yield Job(
            layer=mapping.spec.name, image=run.image, it=0, ot=ot_label, pt=pt_label, mode=flow.device_mode,
            continues=False, it_count=1, kernel=(1, 1), stride=(1, 1), dilation=(1, 1),
            padded_width=rows, out_width=rows, act_count=count, nij_count=rows,
            onij_count=max(loops[port][2][1] for port, held in run.streams.items() if held.role.operand is None),
            post_op=run.post,
            walks={port: held.walk(loops[port], fixed) for port, held in run.streams.items()},
        )  # fmt: skip
