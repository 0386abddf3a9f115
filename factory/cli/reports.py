"""The command that makes something to look at: report."""

from pathlib import Path
from typing import Annotated

import typer

from factory.cli import options


def add_commands(app: typer.Typer) -> None:
    """Add this module's commands to the command line."""
    app.command()(report)


def report(
    sources: Annotated[
        list[Path],
        typer.Argument(
            metavar="STORE|DATASET|EXPORT|RESULTS...",
            help="One or several: a store, a dataset, folders of `factory export` and `dataset simulate`, JSON of "
            "`factory coverage`.",
        ),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FILE", help="The page to write.")] = Path(
        "report.html"
    ),
    layers: options.Layers = "all",
    images: Annotated[
        str | None, typer.Option(help="Places in the store: `all`, or such as `0:4,7`.", show_default="the first two")
    ] = None,
    dump: Annotated[
        list[Path] | None,
        typer.Option(metavar="DUMP", help="What a simulator or a board gave, as `factory diagnose` takes it."),
    ] = None,
    split: Annotated[
        bool, typer.Option("--split", help="Write style, script and figures beside the page, with no inline parts.")
    ] = False,
) -> None:
    """Write one HTML page to look at: the network, layers, tiles, streams, memory words, mismatches, results."""
    from factory.report import ReportOptions
    from factory.report import report as write

    chosen = ReportOptions(layers, images, tuple(dump or ()), split)
    with options.progress_bar() as progress:
        path = write(sources, output, chosen, progress)
    options.print_written(path)
