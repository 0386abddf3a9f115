"""Commands that take integers from elsewhere: capture."""

from pathlib import Path
from typing import Annotated

import typer

from factory.cli import options
from factory.spec import SystolicArray


def add_commands(app: typer.Typer) -> None:
    """Add this module's commands to the command line."""
    app.command()(capture)


def capture(
    source: Annotated[
        Path | None,
        typer.Argument(
            metavar="[SOURCE]",
            help="An .npz, an HDF5 file or a folder of arrays <layer>.weight and <layer>.activation (and <layer>.bias, "
            "<layer>.output), a TOML file that names them, or an ONNX model.",
        ),
    ] = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="The store to write.")] = None,
    images: Annotated[
        Path | None, typer.Option(help="What an ONNX model is run on: an .npy, or an .npz by its inputs' names.")
    ] = None,
    description: Annotated[
        Path | None,
        typer.Option("--description", help="A TOML file of the layers' geometry, bits, signs, zero points."),
    ] = None,
    weight: Annotated[str, typer.Option(help="The weights of a single layer: an .npy, or decimal text.")] = "",
    activation: Annotated[str, typer.Option(help="Its activations.")] = "",
    expected: Annotated[str, typer.Option(help="Its exact result, to be checked.")] = "",
    weight_axes: Annotated[str, typer.Option(help="Axes of --weight, such as `in out`; default: `out in`.")] = "",
    from_export: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="A folder of memory files: an export, or with --profile and --description any."
        ),
    ] = None,
    profile: Annotated[str | None, typer.Option(help="The profile of foreign files: a name or a TOML file.")] = None,
    dataflow: options.Dataflow = None,
    pe_activation: options.PeActivation = None,
    rows: options.Rows = 8,
    cols: options.Cols = 8,
    psum_bits: options.PsumBits = 16,
    compression: options.Compression = None,
    keep: options.Keep = "psums",
    force: options.Force = False,
) -> None:
    """Take the integers of layers from somewhere else, and write their psums and accumulators to a store."""
    from factory.build.captured import capture
    from factory.fileplan import ExportOptions
    from factory.readers.arrays import LayerDescription
    from factory.spec import InputError

    single = LayerDescription(weight=weight, activation=activation, output=expected, weight_axes=weight_axes)
    given = single if single != LayerDescription() else None
    if sum(one is not None for one in (source, given, from_export)) != 1:
        raise InputError("a source must be given, or --weight and --activation, or --from-export, and one only")
    how = dict(dataflow=dataflow, profile=profile, pe_activation=pe_activation)
    layout = ExportOptions(**how) if any(how.values()) else None
    with options.progress_bar() as progress:
        path = capture(
            source,
            images,
            output,
            description=description,
            layer=given,
            from_export=from_export,
            layout=layout,
            array=SystolicArray(rows, cols, psum_bits),
            compression=compression,
            keep=keep,
            force=force,
            progress=progress,
            say=print,
        )
    options.print_written(path)
