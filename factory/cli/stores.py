"""Commands that make a store, look at it and prove it: build, show, verify, audit."""

from pathlib import Path
from typing import Annotated

import typer

from factory.cli import options
from factory.spec import InputError, SystolicArray

StoreOrWeights = Annotated[
    Path | None,
    typer.Argument(metavar="[STORE|WEIGHTS]", help="Default: the default store, or the shipped weights."),
]


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
    compression: options.Compression = None,
    keep: options.Keep = "psums",
    force: options.Force = False,
) -> None:
    """Compute codes, psums and accumulators of images, and write them to an HDF5 store."""
    from factory.build import build, default_store
    from factory.tables import bytes_text

    with options.progress_bar() as progress:
        path = build(
            output or default_store(),
            weights=weights,
            images=images,
            split=split,
            pick=pick,
            layers=layers,
            array=SystolicArray(rows, cols, psum_bits),
            compression=compression,
            keep=keep,
            force=force,
            progress=progress,
        )
    print(f"{path}  {bytes_text(path.stat().st_size)}")


def show(
    path: StoreOrWeights = None,
    cycles: Annotated[
        bool, typer.Option("--cycles", help="Cycles, utilisation and bytes across each edge, in each dataflow.")
    ] = False,
    toggles: Annotated[
        bool, typer.Option("--toggles", help="The same, and how many bits of a lane flip in a cycle, for one image.")
    ] = False,
) -> None:
    """Print a table of the layers of a store or of a file of weights; ranges are bounds from the weight codes.

    Of a synthetic store, print what each weight pattern and each activation pattern is for, too.
    """
    from factory.store import Store
    from factory.summary import cycle_table, layer_table, pattern_table, summarize
    from factory.tables import styled, terminal_width

    source, width = options.open_source(path), terminal_width()
    if cycles or toggles:
        with options.progress_bar() as progress:
            found = cycle_table(source, width, toggles, progress)
        print(styled(found))
        return
    print(styled(layer_table(summarize(source), width)))
    if isinstance(source, Store) and (patterns := pattern_table(source, width)):
        print(f"\n{styled(patterns)}")


def verify(
    path: Annotated[
        Path, typer.Argument(metavar="STORE|DIR", help="A store, or a folder that `factory export` wrote.")
    ],
    sample: Annotated[
        str | None, typer.Option(help="Share of a store to recompute: `5%` (the default), a count, or `all`.")
    ] = None,
    weights: options.Weights = None,
    store: Annotated[Path | None, typer.Option(help="The store that an export came from, to compare with.")] = None,
    recovered: Annotated[
        bool, typer.Option("--recovered", help="Compare with the float model as well, layer by layer.")
    ] = False,
) -> None:
    """Recompute a store by a second path, or decode every file of an export and check it."""
    from factory.build import default_store
    from factory.verify import verify

    with options.progress_bar() as progress:
        report = verify(
            path,
            sample=sample,
            weights=weights,
            store=store,
            recovered=recovered,
            progress=progress,
            default=default_store(),
        )
    print(report)


def audit(
    path: StoreOrWeights = None,
    psum_bits: options.SourcePsumBits = None,
    pe_activation: Annotated[
        str | None, typer.Option(metavar="[unsigned|signed]", help="How a PE reads it; default: as the codes are.")
    ] = None,
    activation_bits: Annotated[
        int | None, typer.Option(help="Width of a PE's activation; default: the layer's.")
    ] = None,
) -> None:
    """Print what each layer's sums can reach and did reach, and where an adder of --psum-bits could wrap first."""
    from factory.audit import audit
    from factory.summary import audit_table
    from factory.tables import styled, terminal_width, wrapped

    if pe_activation not in (None, "unsigned", "signed"):
        raise InputError(f"pe_activation must be one of unsigned signed, not {pe_activation}")
    signed = None if pe_activation is None else pe_activation == "signed"
    audits = audit(options.open_source(path), psum_bits, activation_bits, signed)
    print(styled(audit_table(audits, terminal_width())))
    for item in audits:
        if item.warning:
            print(wrapped(f"warning: {item.warning}", terminal_width()))
