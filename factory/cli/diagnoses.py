"""The command that finds what is wrong with a simulator's or a board's words: diagnose."""

from pathlib import Path
from typing import Annotated

import typer


def add_commands(app: typer.Typer) -> None:
    """Add this module's commands to the command line."""
    app.command()(diagnose)


def diagnose(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="A folder that `factory export` wrote.")],
    dumps: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="[DUMP]...",
            help="Files called as the export's, a folder of them, or one file of all words of --role: binary or hex "
            "words as $writememb and $writememh write them, a value a line, npy, CSV.",
        ),
    ] = None,
    role: Annotated[
        str | None, typer.Option(metavar="[out|psum|accumulator]", help="What a dump of another name holds.")
    ] = None,
    profile: Annotated[
        str | None, typer.Option(help="The profile that the dumps are laid out in; default: as the export.")
    ] = None,
    store: Annotated[
        Path | None, typer.Option(help="The store of the export, for codes that the export does not include.")
    ] = None,
    vcd: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="A waveform, VCD or FST, in place of dumps, of one role's words."),
    ] = None,
    signal: Annotated[str, typer.Option(metavar="PATH", help="The signal of it that holds the words.")] = "",
    clock: Annotated[str, typer.Option(metavar="PATH", help="Its clock: words are taken at rising edges.")] = "",
    valid: Annotated[
        list[str] | None, typer.Option(metavar="PATH", help="What must be 1 then; again for a ready.")
    ] = None,
    top: Annotated[int, typer.Option(help="How many causes are named.")] = 3,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Compare what a simulator or a board gave with an export, and name the causes that explain a mismatch."""
    import json as text

    from factory.diagnose import Waveform, diagnose
    from factory.diagnose.report import report, to_json
    from factory.spec import InputError

    named = bool(vcd), bool(signal), bool(clock), bool(valid)
    if any(named) and not all(named) or any(named) and dumps:
        raise InputError("a waveform must be given as --vcd, --signal, --clock and --valid, without a DUMP")
    waveform = Waveform(vcd, signal, clock, tuple(valid)) if vcd else None
    found = diagnose(directory, dumps or (), role=role, store=store, top=top, waveform=waveform, profile=profile)
    print(text.dumps(to_json(found), indent=1) if json else report(found))
    if not found.passes:
        raise typer.Exit(1)
