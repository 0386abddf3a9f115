"""The runs of a bench: each layer and image with the files of its streams, loaded once and walked by its jobs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

from factory.arithmetic.labelled import Address
from factory.dataflow import LayerMapping, Role
from factory.fileplan import ExportPlan
from factory.spec import InputError
from factory.testbench.records import EdgeJob, Job, Load, Stream
from factory.testbench.streams import StreamFiles

ONCE = (("", 1), ("", 1))
"""Two outer loops of a walk that has only an inner one."""
_LEAST_DEPTH = 1 << 16


@dataclass(frozen=True)
class Port:
    """What a port reads: the files of a layout, words along the axis `word`, and the bits of a lane, 0: all of them."""

    layout: str
    word: str
    low: int = 0
    bits: int = 0


@dataclass(frozen=True)
class LayerRun:
    """One layer and image of an export, with the files of each stream, by the name of the device's port."""

    mapping: LayerMapping
    image: int
    streams: Mapping[str, StreamFiles]
    post: str = "none"

    def fail(self, text: str) -> InputError:
        """Return the error that a testbench cannot run this layer, to be raised."""
        return InputError(f"testbench: {self.mapping.spec.name}: {text}")

    def is_running(self, role: Role) -> bool:
        """Return whether a role has a sum after each part, not only after the last."""
        flow = self.mapping.dataflow
        return role.totals and bool(flow.parts) and set(flow.parts) <= set(role.axes(flow) or ())


def runs_of(plan: ExportPlan, ports: Mapping[str, Port], needed: Iterable[str], post: str = "none") -> list[LayerRun]:
    """Return each layer and image that has the files of the ports that are needed."""
    runs = []
    for layer, image in plan.groups():
        if image is None:
            continue
        sets = {files.layout.name: files for files in (*layer.own, *layer.of_image)}
        streams = {}
        for name, port in ports.items():
            if (files := sets.get(port.layout)) is not None:
                at = image if files.role.per_image else None
                folder = plan.directory(layer, at, files)
                paths = tuple(f"{folder}/{path}" if folder else path for path, _ in files.files(at))
                streams[name] = StreamFiles(files, paths, port.word, port.low, port.bits)
        if streams.keys() >= set(needed):
            runs.append(LayerRun(layer.mapping, image, streams, post))
    return runs


def written_layouts(plan: ExportPlan) -> list[str]:
    """Return the names of the layouts that some files have, in the plan's order."""
    written = {files.layout.name for layer in plan.layers for files in (*layer.own, *layer.of_image)}
    return [layout.name for layout in plan.layouts if layout.name in written]


def memory_depth(words: int, least: int = _LEAST_DEPTH) -> int:
    """Return a memory's depth: a power of two, so that exports of one profile share a compiled simulation."""
    return max(least, 1 << (words - 1).bit_length())


def streams_of(runs: Iterable[LayerRun]) -> dict[str, Stream]:
    """Return the streams, deep enough for every run; raise InputError where two runs' words differ."""
    streams: dict[str, Stream] = {}
    for run in runs:
        for port, held in run.streams.items():
            stream = held.stream
            before = streams.get(port, stream)
            depth = max(before.depth, memory_depth(stream.depth))
            if replace(before, depth=depth) != replace(stream, depth=depth):
                raise run.fail(
                    f"{held.files.layout.name} must have the same words in every layer, of {before.line_bits} bits, "
                    f"not {stream.line_bits}; export the layers one by one"
                )
            streams[port] = replace(stream, depth=depth)
    return streams


def steps_of(
    runs: Iterable[LayerRun], jobs_of: Callable[[LayerRun], Iterable[Job | EdgeJob]]
) -> Iterator[Load | Job | EdgeJob]:
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
