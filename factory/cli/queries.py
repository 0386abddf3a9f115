"""Commands that ask a dataset something: find, which tiles; simulate, whether an array passes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from factory.cli import options


def add_commands(app: typer.Typer) -> None:
    """Add this module's commands to those of datasets."""
    for command in (find, simulate):
        app.command()(command)


def find(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="The folder of a finished dataset.")],
    layer: Annotated[str, typer.Option(help="The layer whose tiles are looked at, such as `features.27`.")],
    where: Annotated[
        str, typer.Option(help="Such as `overflow_11 > 0 and not zeros < 0.5`; a wrong name lists the right ones.")
    ] = "image >= 0",
) -> None:
    """Print as CSV the tiles of a layer where a condition holds: image, it, ot, extremes, zeros, overflows."""
    import csv
    import sys

    from factory.dataset import open_dataset

    with options.progress_bar() as progress, open_dataset(directory) as dataset:
        found = dataset.find(layer, where, progress)
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(found.dtype.names)
    writer.writerows(found.tolist())


def simulate(
    source: Annotated[Path, typer.Argument(metavar="DIR|STORE", help="The folder of a finished dataset, or a store.")],
    split: Annotated[
        str | None,
        typer.Option(
            help="Which images, layers and tiles of a dataset; `coverage`: the fewest tiles that hit all.",
            show_default="smoke; of a store: everything",
        ),
    ] = None,
    simulator: options.Simulator = None,
    dut: options.Dut = None,
    workers: Annotated[int, typer.Option(help="Simulations that run at once.")] = 1,
    scheduler: Annotated[
        str | None,
        typer.Option(metavar="ADDRESS|FILE", help="Run on the workers of a Dask scheduler, which see the same files."),
    ] = None,
    layers: Annotated[
        str | None, typer.Option(metavar="NAMES", help=options.LAYERS_HELP, show_default="the split's")
    ] = None,
    images: Annotated[str | None, typer.Option(help="`all`, or such as `0:4,7`.", show_default="the split's")] = None,
    tiles: Annotated[str, typer.Option(help="`all`, or such as `it=0:2,ot=5`.", show_default="the split's")] = "all",
    dataflow: options.Dataflow = None,
    profile: Annotated[
        str | None, typer.Option(help="A profile's name or a TOML file.", show_default="notebook")
    ] = None,
    include: Annotated[str, typer.Option(help="What is written and compared.")] = "activation,weight,out",
    pe_activation: options.PeActivation = None,
    psum_bits: options.SourcePsumBits = None,
    overflow: Annotated[
        str, typer.Option(metavar="[wrap|saturate|error]", help="What an adder does with a sum that does not fit.")
    ] = "wrap",
    stall: Annotated[int | None, typer.Option(metavar="SEED", help="Stall every handshake at random.")] = None,
    batch: Annotated[int, typer.Option(help="Images of a layer that one process simulates.")] = 8,
    limit: Annotated[float, typer.Option(help="Seconds after which a simulation is ended.")] = 3600,
    failed: Annotated[
        bool, typer.Option("--failed", help="Run only what has not passed, by the results in FOLDER.")
    ] = False,
    only: Annotated[str | None, typer.Option(metavar="CASE", help="Run one case, such as `features.27/0-7`.")] = None,
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="FOLDER", help="For results.json, junit.xml, and what failed.")
    ] = Path("results"),
) -> None:
    """Simulate many vectors: compile once, run beside each other, and sort what fails by its cause.

    Each case, some images of a layer, ends as pass, mismatch, no banner, timeout, crash or compile. The exit code is 1
    unless all pass.
    """
    from factory.dataset.regression import Setup, regress
    from factory.fileplan import ExportOptions

    chosen = ExportOptions(
        dataflow, layers, images, tiles, include=include, profile=profile, pe_activation=pe_activation,
        psum_bits=psum_bits, overflow=overflow,
    )  # fmt: skip
    setup = Setup(source, chosen, simulator, split, tuple(dut or ()), stall, batch, limit)
    with options.progress_bar() as progress:
        results = regress(setup, output, workers, scheduler, only, failed, progress)
    print(results.report(output))
    if not results.passes:
        raise typer.Exit(1)
