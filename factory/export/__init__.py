"""Export: any part of a store as memory files, in a directory that appears whole or not at all."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Sequence
from contextlib import closing, nullcontext, suppress
from dataclasses import replace
from pathlib import Path
from tempfile import SpooledTemporaryFile

from factory.export.atomic import whole_directory
from factory.export.manifest import ExportSummary as ExportSummary
from factory.export.manifest import record
from factory.export.plan import Plan as Plan
from factory.export.plan import make_plan as make_plan
from factory.export.request import ExportRequest as ExportRequest
from factory.export.source import ExportSource as ExportSource
from factory.export.write import write_new, write_plan
from factory.manifest import MANIFEST as MANIFEST
from factory.manifest import first_unlisted, is_export
from factory.memfile import Profile, load_profile
from factory.spec import ComparisonError, InputError, Progress
from factory.store import open_store
from factory.testbench import testbench_files

FILES = ("tile", "layer")
PE_ACTIVATIONS = ("unsigned", "signed")
MOST_WORKERS = 8
SPOOL_BYTES = 1 << 24


def export(
    store: ExportSource | str | Path,
    out_dir: str | Path,
    *,
    dataflow: str | None = None,
    layers: str | Sequence[str] = "squeezed",
    images: str = "0",
    tiles: str = "all",
    kij: str = "all",
    input_channels: int | None = None,
    include: str | Iterable[str] = "activation,weight,out",
    profile: str | Path | Profile = "notebook",
    format: str | None = None,
    header: str | None = None,
    files: str = "tile",
    pe_activation: str | None = None,
    psum_bits: int | None = None,
    overflow: str = "wrap",
    post: str | None = None,
    address_base: int | None = None,
    testbench: bool = False,
    flat: bool = False,
    force: bool = False,
    workers: int | None = None,
    progress: Progress | None = None,
) -> ExportSummary:
    """Export part of a store to the new directory `out_dir`, with a manifest, and return what was written.

    `layers` are `all`, `squeezed` or names with commas; `images` and `kij` are `all` or indices and ranges such as
    `0:4,7`; `include` has words of `factory.memfile.INCLUDES`. `overflow` is what the array's adders do: `wrap`,
    `saturate`, or `error`, which raises InputError. `format`, `header` and `post` are those of Layout and Profile.
    `profile` is a name, a TOML file or a Profile; None for `dataflow`, `format`, `header`, `pe_activation`, `post` and
    `address_base` leaves the profile's own, for `psum_bits` the store's. `tiles` is `all` or such as `it=0:2,ot=5` (WS)
    and `pt=0,ot=0:4` (OS); `input_channels` are the first ones to sum over (OS). `files` is `tile`, or `layer` for one
    file a layer and role. `testbench` adds a self-checking SystemVerilog testbench. `flat` puts one layer and image
    straight into `out_dir`; `force` replaces an earlier export. `workers` threads write the files (None: one for each
    processor), 8 at most; the files are the same whatever their number. `progress` is called with the files written,
    the files in all, and what is being written. Raise InputError for anything that does not fit the store or cannot be
    written; `out_dir` is then as it was.
    """
    if workers is not None and workers < 1:
        raise InputError(f"workers must be at least 1, not {workers}")
    for name, value, known in (("files", files, FILES), ("pe_activation", pe_activation, (None, *PE_ACTIVATIONS))):
        if value not in known:
            raise InputError(f"{name} must be one of {' '.join(filter(None, known))}, not {value}")
    words = include.split(",") if isinstance(include, str) else include
    included = tuple(dict.fromkeys(word.strip() for word in words if word.strip()))
    if address_base is not None and "address" not in included:
        raise InputError(f"address_base must be given with include address, not with {','.join(included)}")
    chosen = profile if isinstance(profile, Profile) else load_profile(str(profile), dataflow)
    if dataflow not in (None, chosen.dataflow):
        raise InputError(f"dataflow must be {chosen.dataflow} with profile {chosen.name}, not {dataflow}")
    with nullcontext(store) if not isinstance(store, (str, Path)) else open_store(store) as source:
        array = chosen.tile_array(source.array)
        array = array if psum_bits is None else replace(array, psum_bits=psum_bits)
        chosen = chosen.configure(
            format=format,
            header=header,
            activation_signed=None if pe_activation is None else pe_activation == "signed",
            post=post,
            base=address_base,
            psum_bits=array.psum_bits,
            merge=files == "layer",
        )
        request = ExportRequest(
            profile=chosen,
            array=array,
            overflow=overflow,
            layers=layers,
            images=images,
            tiles=tiles,
            kij=kij,
            input_channels=input_channels,
            include=included,
            merge=files == "layer",
            flat=flat,
        )
        return run_export(
            source, request, Path(out_dir), testbench=testbench, force=force, workers=workers, progress=progress
        )


def run_export(
    store: ExportSource,
    request: ExportRequest,
    out_dir: Path,
    *,
    testbench: bool = False,
    force: bool = False,
    workers: int | None = None,
    progress: Progress | None = None,
) -> ExportSummary:
    """Write what a request asks for to `out_dir`, whole or not at all, and return what was written."""
    plan = make_plan(store, request)
    workers = min(workers or os.cpu_count() or 1, MOST_WORKERS, plan.group_count)
    with (
        whole_directory(out_dir, force, _check_replaceable) as root,
        SpooledTemporaryFile(SPOOL_BYTES, dir=root) as spool,
    ):
        with closing(write_plan(plan, root, workers, progress)) as groups:  # an error ends the writers first
            manifest = record(store, plan, groups, spool)
        if testbench:
            files = testbench_files(json.loads(b"".join(manifest.pieces())))
            for path, data in files.items():
                write_new(root / path, [data])
            manifest = manifest.with_testbench(files)
        write_new(root / MANIFEST, manifest.pieces())
    return manifest.summary(out_dir)


def _check_replaceable(directory: Path) -> None:
    """Raise InputError unless a directory is an earlier export and, as far as its manifest tells, nothing else."""
    only = f"{directory}: --force replaces only an earlier export"
    if not is_export(directory):
        raise InputError(f"{only}, and there is no manifest of one")
    with suppress(ComparisonError):  # a damaged manifest is replaced, too
        if (path := first_unlisted(directory)) is not None:
            raise InputError(f"{only}, {path} is not of it: move it away")
