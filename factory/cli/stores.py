"""Commands that make a store, look at it and prove it: build, show, verify, audit."""

from pathlib import Path
from typing import Annotated

import typer

from factory.cli import options
from factory.spec import Array


def add_commands(app: typer.Typer) -> None:
    """Add this module's commands to the command line."""
    for command in (build, show, verify, audit):
        app.command()(command)


def build(
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="The store to write; default: the default store.")
    ] = None,
    weights: options.Weights = None,
    images: options.Source = "samples",
    split: options.Split = "test",
    pick: options.Pick = None,
    layers: options.Layers = "all",
    rows: options.Rows = 8,
    cols: options.Cols = 8,
    psum_bits: options.PsumBits = 16,
    compression: Annotated[str | None, typer.Option(help="`gzip`, `lz4` or `zstd`; default: none.")] = None,
    force: options.Force = False,
) -> None:
    """Compute codes, psums and accumulators of images, and write them to an HDF5 store."""
    from factory.build import build, default_store
    from factory.report import bytes_text

    with options.progress_bar() as progress:
        path = build(
            output or default_store(),
            weights=weights,
            images=images,
            split=split,
            pick=pick,
            layers=layers,
            array=Array(rows, cols, psum_bits),
            compression=compression,
            force=force,
            progress=progress,
        )
    print(f"{path}  {bytes_text(path.stat().st_size)}")


def show(
    path: Annotated[Path | None, typer.Argument(metavar="[STORE|WEIGHTS]", help="Default: the default store.")] = None,
) -> None:
    """Print a table of the layers of a store or of a file of weights."""
    from factory.report import show

    print(show(path))


def verify(
    path: Annotated[
        Path, typer.Argument(metavar="STORE|DIR", help="A store, or a folder that `factory export` wrote.")
    ],
    sample: Annotated[str, typer.Option(help="Share of a store to recompute, such as `5%`, a count, or `all`.")] = "5%",
    weights: options.Weights = None,
    store: Annotated[
        Path | None, typer.Option(help="The store that an export came from; default: where it lay.")
    ] = None,
    recovered: Annotated[
        bool, typer.Option("--recovered", help="Compare with the float model as well, layer by layer.")
    ] = False,
) -> None:
    """Recompute a store by a second path, or decode every file of an export and check it."""
    from factory.verify import verify

    with options.progress_bar() as progress:
        report = verify(path, sample=sample, weights=weights, store=store, recovered=recovered, progress=progress)
    print(report)


def audit(
    path: Annotated[Path | None, typer.Argument(metavar="[STORE|WEIGHTS]", help="Default: the default store.")] = None,
    psum_bits: options.PsumBits = 16,
) -> None:
    """Print, for each layer, the worst case of psums and accumulators, and where an adder could first overflow."""
    from factory.audit import audit

    print(audit(path, psum_bits=psum_bits))
