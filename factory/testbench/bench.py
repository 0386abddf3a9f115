"""From the plan of an export to its bench: which files are loaded, fed and compared, in which jobs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import product

from factory.arithmetic.bits import Field
from factory.arithmetic.labelled import Address
from factory.dataflow import PIXELS, ROLES, LayerMapping, Role
from factory.fileplan import ExportPlan, FileSet, LayerFiles
from factory.spec import InputError
from factory.testbench.records import POST_OPS, SINKS, Bench, Device, Job, Load, Stream
from factory.testbench.streams import StreamFiles

_MOST = (1 << 16) - 1
_LEAST_DEPTH = 1 << 16
_LEAST_PIXELS = 1 << 10
_ONCE = (("", 1), ("", 1))


@dataclass(frozen=True)
class LayerRun:
    """One layer and image of an export, with the files of each stream, by the name of the device's port."""

    mapping: LayerMapping
    image: int
    post: str
    streams: Mapping[str, StreamFiles]

    def fail(self, text: str) -> InputError:
        """Return the error that a testbench cannot run this layer, to be raised."""
        return InputError(f"testbench: {self.mapping.spec.name}: {text}")

    def is_running(self, role: Role) -> bool:
        """Return whether a role has a sum after each part, not only after the last."""
        flow = self.mapping.dataflow
        return role.totals and bool(flow.parts) and set(flow.parts) <= set(role.axes(flow) or ())


def bench_of(plan: ExportPlan) -> Bench:
    """Return the bench of an export.

    Raise InputError where the files are such that a testbench cannot read them, or where nothing would be compared.
    """
    chosen = _chosen_layouts(plan)
    runs = list(_runs(plan, chosen))
    if not runs:
        raise InputError("testbench: the export must include activation and weight")
    written = {files.layout.name for layer in plan.layers for files in (*layer.own, *layer.of_image)}
    return Bench(
        device=_device(plan, _depth(max(run.mapping.spec.onij_count for run in runs), _LEAST_PIXELS)),
        streams=_streams(runs),
        steps=tuple(_steps(runs)),
        unchecked=tuple(layout.name for layout in plan.layouts if layout.name in written.difference(chosen.values())),
    )


def _depth(words: int, least: int) -> int:
    """Return a memory's depth: a power of two, so that exports of one profile share a compiled simulation."""
    return max(least, 1 << (words - 1).bit_length())


def _chosen_layouts(plan: ExportPlan) -> dict[str, str]:
    """Return the name of the layout that each stream reads: the first of its role that an array can give."""
    chosen: dict[str, str] = {}
    for layout in plan.layouts:
        role = ROLES[layout.role]
        if role.port and (plan.profile.post in POST_OPS or not role.posts):
            chosen.setdefault(role.port, layout.name)
    return chosen


def _runs(plan: ExportPlan, chosen: Mapping[str, str]) -> Iterator[LayerRun]:
    """Yield each layer and image that has activations, together with the layer's own weights."""
    flow, post = plan.profile.flow, plan.profile.post
    needed = {role.port for role in ROLES.values() if role.operand is not None}
    for layer, image in plan.groups():
        if image is None:
            continue
        sets = {files.layout.name: files for files in (*layer.own, *layer.of_image)}
        streams = {port: _stream_files(plan, layer, image, sets[name]) for port, name in chosen.items() if name in sets}
        if needed <= streams.keys():
            if flow.device_mode is None:
                raise InputError(f"testbench: the reference array has no dataflow {flow.name}")
            yield LayerRun(layer.mapping, image, post if post in POST_OPS else "none", streams)


def _stream_files(plan: ExportPlan, layer: LayerFiles, image: int, files: FileSet) -> StreamFiles:
    at = image if files.role.per_image else None
    folder = plan.directory(layer, at, files)
    paths = tuple(f"{folder}/{name}" if folder else name for name, _ in files.files(at))
    return StreamFiles(files, paths, plan.profile.flow.words.get(files.role.words, ""))


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


def _streams(runs: Iterable[LayerRun]) -> dict[str, Stream]:
    """Return the streams, deep enough for every run; raise InputError where two runs' words differ."""
    streams: dict[str, Stream] = {}
    for run in runs:
        for port, held in run.streams.items():
            stream = held.stream
            before = streams.get(port, stream)
            depth = max(before.depth, _depth(stream.depth, _LEAST_DEPTH))
            if replace(before, depth=depth) != replace(stream, depth=depth):
                raise run.fail(
                    f"{held.files.layout.name} must have the same words in every layer, of {before.line_bits} bits, "
                    f"not {stream.line_bits}; export the layers one by one"
                )
            streams[port] = replace(stream, depth=depth)
    return streams


def _steps(runs: Iterable[LayerRun]) -> Iterator[Load | Job]:
    """Yield the loads and jobs of each run; files that a stream still holds are not loaded again."""
    loaded: dict[str, Load] = {}
    for run in runs:
        for port, held in run.streams.items():
            where = Address(run.mapping.spec.name, run.image if held.role.per_image else None)
            load = Load(port, held.paths, held.words, held.files, where)
            if loaded.get(port) != load:
                loaded[port] = load
                yield load
        yield from jobs_of(run)


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
    loops = dict.fromkeys(run.streams, (*_ONCE, (PIXELS, spec.onij_count)))
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
        loops = {port: steps if held.role.operand is not None else (*_ONCE, held.tile_loop(pt, rows))
                 for port, held in run.streams.items()}  # fmt: skip
        yield Job(
            layer=mapping.spec.name, image=run.image, it=0, ot=ot_label, pt=pt_label, mode=flow.device_mode,
            continues=False, it_count=1, kernel=(1, 1), stride=(1, 1), dilation=(1, 1),
            padded_width=rows, out_width=rows, act_count=count, nij_count=rows,
            onij_count=max(loops[port][2][1] for port, held in run.streams.items() if held.role.operand is None),
            post_op=run.post,
            walks={port: held.walk(loops[port], fixed) for port, held in run.streams.items()},
        )  # fmt: skip
