"""The atom of a dataset: one shard, built by one process, whole or not at all, the same bytes whoever builds it.

Any process on any machine that sees the folder may build any shard, at any time. What is there is taken as it is.
"""

from __future__ import annotations

import functools
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path

import factory
from factory.build.sources import Source, open_pictures, open_stored
from factory.dataset.attempt import attempt, file_sha256, publish
from factory.dataset.folder import (
    SHARDS,
    SealedShard,
    finished_shard,
    read_plan,
    shard_record,
    to_json,
)
from factory.dataset.plan import Part, Plan, Shard
from factory.spec import InputError, Progress
from factory.store import create_store, plan_store

_BATCH = 8
"""Images computed at once: maps that stay in the caches, in memory that is used again. Of 64, whose accumulators take
17 MB in a layer, an image took half as long again, most of it the system's, which had to make new memory."""


def build_shard(folder: Path | str, number: int, progress: Progress | None = None) -> SealedShard:
    """Build one shard of the dataset that is planned in `folder`, unless it is there, and return its record.

    Raise InputError where the plan has no such shard or is of another version of factory, a source is not what it was,
    or the shard cannot be written; nothing is left then but what other processes have made.
    """
    folder = Path(folder)
    plan = read_plan(folder)
    shard = plan.shard(number)
    with suppress(InputError):
        return finished_shard(folder, plan, shard)
    try:
        return _build(folder, plan, shard, progress)
    except InputError:
        with suppress(InputError):  # another process has finished it, and removed this attempt
            return finished_shard(folder, plan, shard)
        raise


def _build(folder: Path, plan: Plan, shard: Shard, progress: Progress | None) -> SealedShard:
    part = plan.parts[shard.part]
    if part.version != factory.__version__:
        raise InputError(f"{folder}: it must be built by factory {part.version}, as planned, not {factory.__version__}")
    source, stop = _cached_part(folder, plan, shard.part), shard.start + shard.count
    images = replace(source.images(shard.start, stop), first=shard.first)
    if images.sha256 != shard.images_sha256:
        raise InputError(
            f"{part.source}: images {shard.start} to {stop - 1} must be those of the plan, they are others"
        )
    with attempt(folder, shard.name) as scratch:
        store = scratch / f"{shard.name}.h5"
        planned = plan_store(source.origin, source.planned, plan.array, images, plan.packed, keep="codes")
        planned = replace(planned, groups=planned.groups | {"": planned.groups[""] | {"shard": plan.digest(shard)}})
        with create_store(store, planned) as writer:
            source.fill(writer, planned, shard.start, _BATCH, progress)
        sealed = SealedShard(plan.digest(shard), f"{SHARDS}/{store.name}", store.stat().st_size, file_sha256(store))
        record = scratch / shard_record(folder, shard).name
        record.write_bytes(to_json(asdict(sealed)))
        publish(folder / SHARDS, [store, record])
    return sealed


def open_part(folder: Path, plan: Plan, part: Part) -> Source:
    """Return the source of a part of a plan; raise InputError where it is not what was planned."""
    layers = ",".join(plan.layers)
    if plan.pictures:
        source: Source = open_pictures(plan.weights or None, part.source, part.split, part.pick, layers, plan.array)
    else:
        source = open_stored(folder / part.source, part.pick, layers, plan.array)
    if source.origin.sha256 != plan.weights_sha256:
        where = plan.weights or part.source
        raise InputError(f"{where}: weights must have the plan's sha256 {plan.weights_sha256}, they are others")
    if source.count != part.count:
        raise InputError(f"{part.source}: it must have {part.count} images of {part.pick}, not {source.count}")
    return source


_cached_part = functools.lru_cache(maxsize=2)(lambda folder, plan, number: open_part(folder, plan, plan.parts[number]))
"""`open_part`, once a process for all shards that it builds."""
