"""The seal: what turns finished shards into a dataset, and what says how far a folder is from there."""

from __future__ import annotations

import shutil
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from factory.dataset.attempt import ATTEMPTS, attempt, file_sha256, publish
from factory.dataset.folder import (
    CARD,
    DATASET,
    MERGED,
    SUMS,
    Dataset,
    array_expression,
    finished_shard,
    read_dataset,
    read_plan,
    to_json,
    unfinished_shards,
)
from factory.dataset.merged import write_merged
from factory.dataset.plan import Plan
from factory.spec import InputError

_MOST_REASONS = 8


@dataclass(frozen=True)
class Status:
    """How far a dataset is: its plan, why each shard that must be built must be, and whether all is sealed."""

    folder: Path
    plan: Plan
    unfinished: dict[int, str]
    sealed: bool

    @property
    def missing(self) -> str:
        """The shards that must be built, as the expression of a job array: `3-5,9`."""
        return array_expression(self.unfinished)

    def __str__(self) -> str:
        shards = len(self.plan.shards)
        lines = [f"{self.folder}: {shards - len(self.unfinished)} of {shards} shards, {self.plan.image_count} images"]
        if self.unfinished:
            wrong = [reason for reason in self.unfinished.values() if not reason.endswith("is missing")]
            lines += [*wrong[:_MOST_REASONS], f"must be built: {self.missing}"]
        elif not self.sealed:
            lines.append("must be sealed: factory dataset build")
        else:
            lines.append("sealed")
        return "\n".join(lines)


def dataset_status(folder: Path | str) -> Status:
    """Return how far the dataset that is planned in a folder is; raise InputError where there is no plan."""
    folder = Path(folder)
    plan = read_plan(folder)
    unfinished = unfinished_shards(folder, plan)
    return Status(folder, plan, unfinished, not unfinished and _is_sealed(folder, plan))


def _is_sealed(folder: Path, plan: Plan) -> bool:
    with suppress(InputError):
        is_there = all((folder / name).is_file() for name in (CARD, MERGED, SUMS))
        return is_there and read_dataset(folder).plan.to_dict(with_places=False) == plan.to_dict(with_places=False)
    return False


def seal_dataset(folder: Path | str) -> Dataset:
    """Write what makes a folder of finished shards a dataset, `dataset.json` last, and return it.

    Raise InputError, which says which, where a shard must be built, or the folder cannot be written.
    """
    folder = Path(folder)
    status = dataset_status(folder)
    if status.unfinished:
        first = next(iter(status.unfinished.values()))
        raise InputError(f"{folder}: {first}; shards that must be built: {status.missing}")
    if not status.sealed:
        try:
            _seal(folder, status.plan)
        except InputError:
            if not _is_sealed(folder, status.plan):  # else another process has overtaken this one
                raise
    return read_dataset(folder)


def _seal(folder: Path, plan: Plan) -> None:
    dataset = Dataset(folder, plan, tuple(finished_shard(folder, plan, shard) for shard in plan.shards))
    with attempt(folder, "seal") as scratch:
        write_merged(scratch / MERGED, dataset)
        (scratch / CARD).write_text(card(dataset), encoding="utf-8")
        shards = [asdict(shard) for shard in dataset.shards]
        record = to_json(dict(plan=plan.to_dict(with_places=False), shards=shards))
        (scratch / DATASET).write_bytes(record)
        sums = {name: file_sha256(scratch / name) for name in (CARD, MERGED, DATASET)}
        sums |= {shard.path: shard.sha256 for shard in dataset.shards}
        listing = "".join(f"{digest}  {path}\n" for path, digest in sorted(sums.items()))
        (scratch / SUMS).write_text(listing, encoding="utf-8")
        publish(folder, [scratch / name for name in (MERGED, CARD, SUMS, DATASET)])
    shutil.rmtree(folder / ATTEMPTS, ignore_errors=True)


def card(dataset: Dataset) -> str:
    """Return the card of a dataset, in Markdown: what it is of, how large, and how to read it."""
    plan, array = dataset.plan, dataset.plan.array
    size = sum(shard.bytes for shard in dataset.shards)
    parts = [f"| {part.first} | {part.count:,} | {part.name} | {part.pick} |" for part in plan.parts]
    splits = [f"| `{split.name}` | {split.images} | {split.layers} | {split.tiles} |" for split in plan.splits]
    return "\n".join([
        f"# {plan.network}: {plan.image_count:,} images, {len(plan.layers)} layers",
        "",
        f"Integer codes of every image in every layer ({plan.origin}), from which psums and accumulators follow, on an "
        f"array of {array.rows} x {array.cols} with adders of {array.psum_bits} bits: {len(plan.shards):,} shards, "
        f"{size:,} bytes.",
        "",
        f"- layers: {' '.join(f'`{name}`' for name in plan.layers)}",
        f"- weights: sha256 `{plan.weights_sha256}`",
        f"- factory {', '.join(dict.fromkeys(part.version for part in plan.parts))}, compression {plan.compression}",
        "",
        "| from image | images | source | picked |",
        "| ---: | ---: | --- | --- |",
        *parts,
        "",
        "| split | images | layers | tiles |",
        "| --- | --- | --- | --- |",
        "| `full` | all | all | all |",
        *splits,
        "",
        "Check it with `sha256sum -c SHA256SUMS` and `factory dataset verify`. `dataset.h5` is all shards as one file "
        "of virtual datasets, `shards/*.h5` are stores of their own; the axes `image` count all images.",
        "",
    ])  # fmt: skip
