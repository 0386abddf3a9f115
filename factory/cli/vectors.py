"""Commands that write memory files, show and run them: export, profiles, waves, simulate."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from factory.cli import options
from factory.spec import InputError

if TYPE_CHECKING:
    from factory.export import ExportSummary
    from factory.export.picks import PicksSummary


def add_commands(app: typer.Typer) -> None:
    """Add this module's commands to the command line."""
    for command in (export, profiles, waves, simulate):
        app.command()(command)


def export(
    store: Annotated[
        Path | None,
        typer.Argument(
            metavar="[STORE|DIR]", help="A store, or a dataset's folder; default: the default store, built if need be."
        ),
    ] = None,
    split: Annotated[
        str | None,
        typer.Option(
            help="Of a dataset: which images, layers and tiles; `coverage`: the fewest tiles that hit all.",
            show_default="smoke",
        ),
    ] = None,
    dataflow: options.Dataflow = None,
    layers: Annotated[
        str | None, typer.Option(metavar="NAMES", help=options.LAYERS_HELP, show_default="squeezed; all with --flags")
    ] = None,
    images: Annotated[
        str | None,
        typer.Option(help="Places in the store: `all`, or such as `0:4,7`.", show_default="0; all with --flags"),
    ] = None,
    flags: Annotated[
        str | None,
        typer.Option(help="Layers and images of a synthetic store that have one of these, such as `overflow,border`."),
    ] = None,
    tiles: Annotated[
        str, typer.Option(help="`all`, or such as `it=0:2,ot=5` (ws), `pt=0,ot=0:4` (os), `it=0,pt=1,oc=0:8` (is).")
    ] = "all",
    kij: Annotated[str, typer.Option(help="Kernel positions: `all`, or such as `0:3,8`.")] = "all",
    input_channels: Annotated[int | None, typer.Option(help="Sum over the first N input channels (os).")] = None,
    include: Annotated[
        str, typer.Option(help="Of `activation,weight,out,psum,accumulator,threshold,next,address,west,north,south`.")
    ] = "activation,weight,out",
    profile: Annotated[
        str | None,
        typer.Option(help="A profile's name (see `factory profiles`) or a TOML file.", show_default="notebook"),
    ] = None,
    format: Annotated[
        str | None,
        typer.Option(
            metavar="FORMAT",
            help="Of `bin hex dec csv coe coe-hex coe-dec mif mif-hex mif-dec mif-uns c sv sv-packed npy raw`.",
        ),
    ] = None,
    header: Annotated[
        str | None,
        typer.Option(metavar="[none|tokens|verilog|short]", help="Comment lines at the top; default: none."),
    ] = None,
    header_roles: Annotated[
        str | None,
        typer.Option(metavar="ROLES", help="What has the header, such as `activation,weight`; default: all."),
    ] = None,
    files: Annotated[str, typer.Option(metavar="[tile|layer]", help="One file a tile, or a layer and role.")] = "tile",
    pe_activation: options.PeActivation = None,
    rows: Annotated[int | None, typer.Option(help="Rows of the array; default: the store's.")] = None,
    cols: Annotated[int | None, typer.Option(help="Columns of the array; default: the store's.")] = None,
    psum_bits: options.SourcePsumBits = None,
    overflow: options.Overflow = "wrap",
    relu: Annotated[
        bool | None, typer.Option("--relu/--no-relu", help="ReLU on the outputs.", show_default="relu")
    ] = None,
    post: Annotated[
        str | None,
        typer.Option(metavar="[relu|none|leaky|relu+maxpool2]", help="What follows the sums in the outputs."),
    ] = None,
    address_base: Annotated[int | None, typer.Option(help="First address of the address file; default: 0.")] = None,
    content: Annotated[
        str | None,
        typer.Option(metavar="[value|address]", help="What a lane of west, north and south holds; default: value."),
    ] = None,
    skew: Annotated[
        str | None,
        typer.Option(metavar="[diagonal|none]", help="Lanes of west, north and south; none: all in one cycle."),
    ] = None,
    testbench: Annotated[
        bool, typer.Option("--testbench", help="Add a self-checking SystemVerilog testbench.")
    ] = False,
    flat: Annotated[bool, typer.Option("--flat", help="One layer and image, straight into DIR.")] = False,
    renumber: Annotated[
        bool,
        typer.Option("--renumber", help="Number tiles, channels, images and kij from 0 in names, not in the manifest."),
    ] = False,
    selection: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="The tiles that `factory coverage --pick` chose, each as an export."),
    ] = None,
    force: options.Force = False,
    workers: Annotated[
        int | None, typer.Option(help="Threads that write files; the files do not depend on it.", show_default="cores")
    ] = None,
    output: Annotated[Path, typer.Option("--output", "-o", metavar="DIR", help="The folder to write.")] = Path(
        "vectors"
    ),
) -> None:
    """Write memory files of any part of a store, in the layout of a testbench."""
    from factory.export import ExportOptions, export

    if relu is not None and post is not None:
        raise InputError("one of relu and post must be given, not both", options=("relu", "post"))
    if split is not None and selection is not None:
        raise InputError("one of split and selection must be given, not both", options=("split", "selection"))
    if split is not None and (store is None or store.is_file()):
        which = store or "the default store"
        raise InputError(f"{which}: split must be given with a dataset, this is a store", options=("split",))
    chosen = ExportOptions(
        dataflow, layers, images, tiles, kij, input_channels, include, profile, format, header, files, pe_activation,
        rows, cols, psum_bits, overflow, post if relu is None else ("relu" if relu else "none"), address_base,
        testbench, flat, flags, renumber, header_roles, content, skew,
    )  # fmt: skip
    with options.progress_bar() as progress, ExitStack() as stack:
        source, picks = store or options.ready_default_store(progress), selection
        if source.is_dir():
            from factory.dataset.covering import covering_tiles
            from factory.dataset.plan import SMOKE
            from factory.dataset.reading import open_source

            source = stack.enter_context(open_source(source))
            name = SMOKE if split is None else split
            picks = picks or covering_tiles(source, name, chosen, progress)
            chosen = chosen if picks else source.record.plan.split(name).of(chosen)
        how = dict(force=force, workers=workers, progress=progress)
        if picks:
            from factory.export.picks import export_picks

            summary = export_picks(source, output, picks, chosen, **how)
            return _said(summary, f"exports: {summary.exports}")
        summary = export(source, output, chosen, **how)
    _said(summary, f"pack {summary.pack_id[:12]}")


def _said(summary: ExportSummary | PicksSummary, more: str) -> None:
    for warning in summary.warnings:
        typer.echo(f"factory: warning: {warning}", err=True)
    print(f"{summary.directory}  {summary.files} files  {summary.words} words  {more}")


def profiles(
    name: Annotated[str | None, typer.Argument(help="A profile to explain: its files, and one line drawn.")] = None,
    dataflow: options.Dataflow = None,
    toml: Annotated[
        bool,
        typer.Option("--toml", help="Print it as TOML for `export --profile FILE.toml`, with what each key means."),
    ] = False,
) -> None:
    """List the profiles of memory files that ship, or explain one with a drawing of a line."""
    from factory.memfile import explain_profile, keys_as_comments, list_profiles, load_profile, profile_to_toml
    from factory.tables import styled, terminal_width

    if name is None and (toml or dataflow):
        raise InputError("--toml and --dataflow need the name of a profile")
    if toml:
        print(f"{keys_as_comments()}\n{profile_to_toml(load_profile(name, dataflow))}", end="")
    else:
        print(styled(list_profiles(terminal_width())) if name is None else explain_profile(name, dataflow))


def waves(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="An export of west, north or south.")],
    cycles: Annotated[
        str | None, typer.Option(metavar="CYCLES", help="`200`: the first ones; `100:300`; default: all.")
    ] = None,
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FILE", help="The VCD to write.")] = Path(
        "edges.vcd"
    ),
) -> None:
    """Write what crosses the array's edges, cycle by cycle, as a waveform (VCD) with named signals."""
    from factory.waves import parse_cycles, write_waves

    with options.progress_bar() as progress:
        signals, count = write_waves(directory, output, parse_cycles(cycles), progress)
    print(f"{output}  {signals} signals  {count} cycles")


def simulate(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="An export made with --testbench.")],
    simulator: options.Simulator = None,
    dut: options.Dut = None,
    stall: options.Stall = None,
    dump: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Write what the device gives, for `factory diagnose`.")
    ] = None,
) -> None:
    """Run an export's testbench in a simulator, against the reference array or a device of yours."""
    from factory.simulate import diagnose_command, simulate

    with options.progress_bar() as progress:
        result = simulate(directory, simulator, tuple(dut or ()), stall, progress, dump)
    jobs = f"{result.jobs} job{'s' if result.jobs != 1 else ''}"
    print(f"{directory}  passed on {result.simulator}  {jobs}  {result.compared} words compared")
    for what in result.unchecked:
        print(f"not checked: {what}")
    if dump is not None:
        print(diagnose_command(directory, dump))
