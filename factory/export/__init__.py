"""Export: any part of a store as memory files, in a directory that appears whole or not at all."""

from __future__ import annotations

import os
from contextlib import closing, nullcontext, suppress
from pathlib import Path
from tempfile import SpooledTemporaryFile
from typing import Any

from factory.export.atomic import whole_directory
from factory.export.manifest_writer import ExportSummary as ExportSummary
from factory.export.manifest_writer import ManifestWriter
from factory.export.planning import ExportSource as ExportSource
from factory.export.planning import layer_vectors
from factory.export.planning import plan_export as plan_export
from factory.export.write import write_new, write_plan
from factory.fileplan import ExportOptions as ExportOptions
from factory.manifest import MANIFEST as MANIFEST
from factory.manifest import first_unlisted, is_export
from factory.spec import ComparisonError, InputError, Progress
from factory.store import open_store

MOST_WORKERS = 8
SPOOL_BYTES = 1 << 24


def export(
    store: ExportSource | str | Path,
    out_dir: str | Path,
    options: ExportOptions | None = None,
    *,
    force: bool = False,
    workers: int | None = None,
    progress: Progress | None = None,
    **given: Any,
) -> ExportSummary:
    """Export part of a store to the new directory `out_dir`, with a manifest, and return what was written.

    `options`, or keywords that are fields of ExportOptions (`dataflow="ws"`, `layers="all"`), say what is written.
    `force` replaces an earlier export. `workers` threads write the files (None: one for each processor), 8 at most; the
    files are the same whatever their number. `progress` is called with the files written, the files in all, and what is
    being written. Raise InputError for anything that does not fit the store or cannot be written; `out_dir` is then as
    it was.
    """
    if workers is not None and workers < 1:
        raise InputError(f"workers must be at least 1, not {workers}")
    options = options or ExportOptions(**given)
    with nullcontext(store) if not isinstance(store, (str, Path)) else open_store(store) as source:
        plan = plan_export(source, options)
        threads = min(workers or os.cpu_count() or 1, MOST_WORKERS, plan.group_count)
        with (
            whole_directory(Path(out_dir), force, _check_replaceable) as root,
            SpooledTemporaryFile(SPOOL_BYTES, dir=root) as spool,
        ):
            vectors = layer_vectors(plan, source)
            manifest = ManifestWriter(source, plan, vectors, spool)
            with closing(write_plan(plan, vectors, root, threads, progress)) as groups:
                for group in groups:
                    manifest.add(group)
            if options.testbench:
                from factory.testbench import bench_files, bench_of

                files = bench_files(bench_of(plan))
                for path, data in files.items():
                    write_new(root / path, [data])
                manifest.add_testbench(files)
            write_new(root / MANIFEST, manifest.pieces())
        return manifest.summary(Path(out_dir))


def _check_replaceable(directory: Path) -> None:
    """Raise InputError unless a directory is an earlier export and, as far as its manifest tells, nothing else."""
    only = f"{directory}: force replaces only an earlier export"
    if not is_export(directory):
        raise InputError(f"{only}, and there is no manifest of one", options=("force",))
    with suppress(ComparisonError):  # a damaged manifest is replaced, too
        if (path := first_unlisted(directory)) is not None:
            raise InputError(f"{only}, {path} is not of it: move it away", options=("force",))
