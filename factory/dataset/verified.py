"""Verification of a dataset: the sums of its files, and shards that are computed anew by the second path."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from factory.dataset.attempt import file_sha256
from factory.dataset.folder import CARD, DATASET, MERGED, PLAN, SUMS, read_dataset, read_plan
from factory.spec import ComparisonError, InputError, Progress, parse_ranges
from factory.verify import VerifyReport, verify_store


def verify_dataset(
    folder: Path | str,
    shards: str = "0",
    sample: str | int = "5%",
    weights: Path | str | None = None,
    progress: Progress | None = None,
) -> Iterator[str | VerifyReport]:
    """Check the sha256 of every file of a dataset, then recompute a sample of some shards; yield what was found equal.

    `shards` are ranges, such as `0:4,9` or `all`; `sample` and `weights` (by default those of the plan, where they are
    on this machine) are as `verify_store` takes them. Raise ComparisonError at the first difference.
    """
    dataset = read_dataset(folder)
    chosen = parse_ranges(shards, len(dataset.shards), "shards")
    expected = {shard.path: shard.sha256 for shard in dataset.shards}
    listed = _listed(dataset.folder / SUMS)
    names = {CARD, MERGED, DATASET, *expected}
    if names != set(listed):
        wrong = min(names ^ set(listed))
        raise ComparisonError(f"{dataset.folder / SUMS}: must list the files of the dataset: see {wrong}")
    for done, (path, digest) in enumerate(sorted(listed.items())):
        if digest != expected.get(path, digest):
            raise ComparisonError(f"{dataset.folder / SUMS}: {path} must have {expected[path]}, not {digest}")
        found = file_sha256(dataset.folder / path) if (dataset.folder / path).is_file() else "no such file"
        if found != digest:
            raise ComparisonError(f"{dataset.folder / path}: sha256 must be {digest}, not {found}")
        if progress:
            progress(done + 1, len(listed), f"sha256 of {path}")
    yield f"{dataset.folder}: {len(listed)} files have the sha256 that {SUMS} states"
    if weights is None and (dataset.folder / PLAN).is_file():
        planned = read_plan(dataset.folder).weights
        weights = planned if planned and Path(planned).is_file() else None
    for number in chosen:
        yield verify_store(dataset.path(number), sample, weights, progress=progress)


def _listed(path: Path) -> dict[str, str]:
    """Return the sha256 of each file that a list of `sha256sum` names."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
        return {name: digest for digest, name in (line.split("  ", 1) for line in lines)}
    except OSError as error:
        raise InputError(f"{path}: must be readable: {error.strerror}") from None
    except ValueError:
        raise InputError(f"{path}: must be a list of sha256sum") from None
