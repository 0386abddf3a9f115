"""Checkpoints of a run in orbax: a dictionary of arrays for each step at which one was kept."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import Any

import jax

_KEPT = 2


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
