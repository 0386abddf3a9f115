"""The folder of a dataset: its plan, its finished shards, and `dataset.json`, which is there when all of them are.

plan.json        the plan, with the places of its sources on this machine
sources/         stores that were made for the plan, of arrays, models or patterns
shards/00003.h5  a store of codes alone, whose `image` axes count the dataset's images
shards/00003.json  written after it: what the shard is of, and its file's size and sha256
attempts/        shards that are being built, each attempt in a folder of its own
dataset.h5       all shards as one file of virtual datasets
README.md        a card
SHA256SUMS       of everything that is the dataset, for `sha256sum -c`
dataset.json     written last: schema, plan, shards
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from factory.dataset.plan import SCHEMA, Plan, Shard
from factory.spec import InputError, typed_values, write_whole

PLAN, DATASET, SUMS, CARD, MERGED = "plan.json", "dataset.json", "SHA256SUMS", "README.md", "dataset.h5"
SHARDS, SOURCES = "shards", "sources"


@dataclass(frozen=True)
class SealedShard:
    """A finished shard: what it is of, as `Plan.digest` has it, and its file in the dataset's folder.

    `sha256` (hex) is of the file, which has so many `bytes`.
    """

    digest: str
    path: str
    bytes: int
    sha256: str


@dataclass(frozen=True)
class Dataset:
    """A finished dataset: its plan, without the places of its sources, and its shards, in the plan's order."""

    folder: Path
    plan: Plan
    shards: tuple[SealedShard, ...]

    def path(self, number: int) -> Path:
        """Return where the store of a shard is."""
        return self.folder / self.shards[number].path

    def check(self) -> None:
        """Raise InputError, which names the shards, unless the file of every shard is there in its size."""
        wrong = {
            number: reason
            for number, shard in enumerate(self.shards)
            if (reason := wrong_size(self.folder, shard)) is not None
        }
        if wrong:
            first = next(iter(wrong))
            raise InputError(f"{self.folder}: {wrong[first]}; shards that must be built: {array_expression(wrong)}")


def read_plan(folder: Path | str) -> Plan:
    """Return the plan of a dataset's folder; raise InputError where there is none that can be read."""
    return _read(Path(folder) / PLAN, _plan, "factory dataset plan makes one")


def read_dataset(folder: Path | str) -> Dataset:
    """Return a finished dataset; raise InputError for one that is not, or of which a shard is missing or too short.

    What the shards hold is not read: `sha256sum -c` and `factory dataset verify` do that.
    """
    folder = Path(folder)
    if not (folder / DATASET).is_file() and (folder / PLAN).is_file():
        raise InputError(f"{folder}: must be a finished dataset, it is not: factory dataset status {folder}")
    dataset = _read(folder / DATASET, lambda data: _dataset(folder, data), "factory dataset build writes it")
    dataset.check()
    return dataset


def _plan(data: Mapping[str, Any]) -> Plan:
    if not isinstance(data.get("plan"), dict):
        raise InputError("plan must be a table")
    return Plan.from_dict(data["plan"])


def _dataset(folder: Path, data: Mapping[str, Any]) -> Dataset:
    plan, shards = _plan(data), data.get("shards")
    if not isinstance(shards, list) or len(shards) != len(plan.shards):
        raise InputError(f"shards must be the list of {len(plan.shards)}")
    sealed = tuple(_sealed(shard) for shard in shards)
    for shard, found in zip(plan.shards, sealed, strict=True):
        if found.digest != plan.digest(shard):
            raise InputError(f"shard {shard.number} must be the plan's, its digest is another")
    return Dataset(folder, plan, sealed)


def _sealed(data: Any) -> SealedShard:
    if not isinstance(data, dict):
        raise InputError("a shard must be a table")
    kinds = {field.name: field.type for field in dataclasses.fields(SealedShard)}
    return SealedShard(**typed_values(data, kinds, kinds))


def _read(path: Path, convert: Any, hint: str) -> Any:
    """Return what `convert` makes of a JSON file of this schema; raise InputError with its path."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"{path}: must be there: {hint}") from None
    except OSError as error:
        raise InputError(f"{path}: must be readable: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: must be JSON: {error}") from None
    if not isinstance(data, dict) or data.get("schema") != SCHEMA:
        found = data.get("schema") if isinstance(data, dict) else data
        raise InputError(f"{path}: schema must be {SCHEMA}, not {str(found)[:64]!r}")
    try:
        return convert({name: value for name, value in data.items() if name != "schema"})
    except InputError as error:
        raise InputError(f"{path}: {error}") from None


def to_json(data: Mapping[str, Any]) -> bytes:
    """Return a record of this schema as the bytes of a JSON file."""
    return (json.dumps(dict(schema=SCHEMA) | dict(data), indent=1) + "\n").encode()


def write_plan(folder: Path, plan: Plan) -> None:
    """Write a plan, or nothing."""
    write_whole(folder / PLAN, to_json(dict(plan=plan.to_dict(with_places=True))))


def shard_record(folder: Path, shard: Shard) -> Path:
    """Return the path of the file that says that a shard is finished."""
    return folder / SHARDS / f"{shard.name}.json"


def finished_shard(folder: Path, plan: Plan, shard: Shard) -> SealedShard:
    """Return a shard of the plan that is there; raise InputError, which says why, where it must be built."""
    path = shard_record(folder, shard)
    if not path.is_file():
        raise InputError(f"shard {shard.number} is missing")
    sealed = _read(path, _sealed, "")
    if sealed.digest != plan.digest(shard):
        raise InputError(f"shard {shard.number} is another plan's")
    if reason := wrong_size(folder, sealed):
        raise InputError(reason)
    return sealed


def unfinished_shards(folder: Path, plan: Plan) -> dict[int, str]:
    """Return the shards that must be built, by number, each with the reason in a line."""
    reasons = {}
    for shard in plan.shards:
        try:
            finished_shard(folder, plan, shard)
        except InputError as error:
            reasons[shard.number] = str(error)
    return reasons


def wrong_size(folder: Path, shard: SealedShard) -> str | None:
    """Return in a line that a shard's file is not there in its size; None where it is."""
    try:
        size = (folder / shard.path).stat().st_size
    except OSError as error:
        return f"{shard.path} must be there: {error.strerror}"
    return None if size == shard.bytes else f"{shard.path} must have {shard.bytes} bytes, it has {size}"


def array_expression(numbers: Any) -> str:
    """Return ascending numbers as the expression of a job array: `3-5,9`."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and runs[-1][1] == number - 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    return ",".join(f"{first}" if first == last else f"{first}-{last}" for first, last in runs)
