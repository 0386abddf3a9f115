"""The command that says what vectors reach: coverage."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from factory.cli import options
from factory.spec import InputError


def add_commands(app: typer.Typer) -> None:
    """Add this module's command to the command line."""
    app.command()(coverage)


def coverage(
    sources: Annotated[
        list[Path], typer.Argument(metavar="STORE|EXPORT...", help="Several are counted together.", show_default=False)
    ],
    dataflow: options.Dataflow = None,
    layers: options.Layers = "all",
    psum_bits: Annotated[
        int | None, typer.Option(help="Width of the adders that is audited; default: the array's own.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print all bins as JSON.")] = False,
    ucis: Annotated[Path | None, typer.Option(metavar="FILE", help="Write UCIS XML, too.")] = None,
    yaml: Annotated[Path | None, typer.Option(metavar="FILE", help="Write cocotb-coverage's YAML, too.")] = None,
    merge: Annotated[
        bool, typer.Option("--merge", help="Sources are coverages that `--json` printed: say what they reach together.")
    ] = False,
    pick: Annotated[
        str | None,
        typer.Option(metavar="COUNT|all", help="Pick the tiles of a store that cover the most for their cost."),
    ] = None,
    cost: Annotated[str, typer.Option(metavar="[cycles|words]", help="What a picked tile costs.")] = "cycles",
    selection: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write the picks, for `factory export --selection FILE`.")
    ] = None,
) -> None:
    """Count what vectors reach of an array: hit, proved unreachable by any input, and missing; or pick the fewest."""
    from factory.coverage import PickedTiles, coverage, merge_files, pick_from, to_ucis, to_yaml
    from factory.summary import coverage_table, selection_table
    from factory.tables import terminal_width

    if pick is None and selection is not None:
        raise InputError("selection must be given with pick", options=("selection", "pick"))
    with options.progress_bar() as progress:
        if pick is not None:
            if merge or ucis or yaml:
                raise InputError("pick must be given without merge, ucis and yaml", options=("pick", "merge", "ucis"))
            found = pick_from(sources, pick, cost, dataflow, layers, psum_bits, progress)
        elif merge:
            found = merge_files(sources)
        else:
            found = coverage(*sources, dataflow=dataflow, layers=layers, psum_bits=psum_bits, progress=progress)
    picked = isinstance(found, PickedTiles)
    for path, write in ((ucis, to_ucis), (yaml, to_yaml), (selection, _as_json)):
        if path is not None:
            path.write_text(write(found), encoding="utf-8")
    print(_as_json(found) if as_json else (selection_table if picked else coverage_table)(found, terminal_width()))


def _as_json(found: object) -> str:
    return json.dumps(found.to_json())
