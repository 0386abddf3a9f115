"""Verification: stores recomputed by a second path, and exports decoded by readers of their own."""

from __future__ import annotations

from pathlib import Path

from factory.spec import InputError, Progress
from factory.verify.contents import verify_export as verify_export
from factory.verify.result import Recovered as Recovered
from factory.verify.result import VerifyReport as VerifyReport
from factory.verify.stored import verify_store as verify_store


def verify(
    path: Path | str,
    sample: str | int | None = None,
    weights: Path | str | None = None,
    store: Path | str | None = None,
    recovered: bool = False,
    progress: Progress | None = None,
    default: Path | None = None,
) -> VerifyReport:
    """Verify an export with `verify_export`, or a store with `verify_store`.

    `sample` (None: 5 %), `weights` and `recovered` are of a store, `store` and `default` are of an export, which is
    always checked whole.
    """
    if Path(path).is_dir():
        if weights is not None or recovered:
            raise InputError(f"{path}: weights and recovered outputs must be asked of a store, not of an export")
        if sample is not None:
            raise InputError(f"{path}: a sample must be of a store, not of an export, which is checked whole")
        return verify_export(path, store=store, progress=progress, default=default)
    if not Path(path).exists():
        raise InputError(f"{path}: must be a store or an export, there is no such file or folder")
    if store is not None:
        raise InputError(f"{path}: a store to compare with must be given for an export, not for a store")
    return verify_store(
        path, sample="5%" if sample is None else sample, weights=weights, recovered=recovered, progress=progress
    )
