"""The folder of a run: its configuration, its curve, and its checkpoints in orbax."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from types import TracebackType
from typing import Any

import jax

from factory.spec import InputError, write_whole
from factory.train.config import EpochResult, TrainConfig

CONFIG, CURVE, CHECKPOINTS, BEST = "config.json", "metrics.jsonl", "checkpoints", "best.safetensors"
_KEPT = 2


def open_folder(folder: Path, config: TrainConfig, resume: bool) -> None:
    """Begin a run in a new or empty folder, or `resume` the one that is there; raise InputError for another folder."""
    path, ours = folder / CONFIG, json.loads(json.dumps(dataclasses.asdict(config)))
    if not resume:
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise InputError(f"{folder}: must be a new or empty folder, or a run to resume")
        folder.mkdir(parents=True, exist_ok=True)
        return write_whole(path, (json.dumps(ours, indent=2) + "\n").encode())
    if not path.is_file():
        raise InputError(f"{folder}: must be a run to resume, it holds no {CONFIG}")
    defaults = dataclasses.asdict(TrainConfig("", "", 1))  # of options that are newer than the run
    theirs = json.loads(json.dumps(defaults)) | _parse(path, path.read_text(errors="replace"))
    for key in ours:
        if ours[key] != theirs[key]:
            raise InputError(f"{folder}: {key} must be {theirs[key]}, as when the run began, not {ours[key]}")
    return None


def read_curve(path: Path, epochs: int) -> list[EpochResult]:
    """Return the curve's lines of the first `epochs` epochs."""
    lines = path.read_text(errors="replace").splitlines()[:epochs] if epochs else []
    if len(lines) < epochs:
        raise InputError(f"{path}: must hold the {epochs} epochs that are done, not {len(lines)}")
    try:
        return [EpochResult(**_parse(path, line)) for line in lines]
    except TypeError:
        raise InputError(f"{path}: must be the curve of a run, with the fields of each epoch") from None


def write_curve(path: Path, curve: list[EpochResult]) -> None:
    """Write the curve anew, a line of JSON for each epoch."""
    write_whole(path, "".join(json.dumps(dataclasses.asdict(line)) + "\n" for line in curve).encode())


def _parse(path: Path, text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except ValueError as error:
        raise InputError(f"{path}: must be JSON: {error}") from None
    if not isinstance(value, dict):
        raise InputError(f"{path}: must be JSON objects, not {text[:20]}")
    return value


class Checkpoints:
    """The checkpoints in a folder, of which the newest two stay; one that was being written when killed is dropped.

    A context manager. A checkpoint is a tree of arrays: nested dictionaries, lists and the like.
    """

    def __init__(self, folder: Path):
        import orbax.checkpoint as ocp

        options = ocp.CheckpointManagerOptions(max_to_keep=_KEPT, enable_async_checkpointing=False)
        self._manager = ocp.CheckpointManager(folder.absolute(), options=options)

    def __enter__(self) -> Checkpoints:
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._manager.close()

    def save(self, step: int, tree: Any) -> None:
        """Keep a tree as the checkpoint of `step`; it exists whole or not at all."""
        import orbax.checkpoint as ocp

        self._manager.save(step, args=ocp.args.StandardSave(tree))

    @property
    def newest(self) -> int | None:
        """The step of the newest checkpoint; None where there is none."""
        return self._manager.latest_step()

    def restore(self, like: Any) -> Any | None:
        """Return the newest checkpoint, with the shapes and dtypes of the tree `like`; None where there is none."""
        import orbax.checkpoint as ocp

        if self.newest is None:
            return None
        return self._manager.restore(
            self.newest, args=ocp.args.StandardRestore(jax.tree.map(ocp.utils.to_shape_dtype_struct, like))
        )
