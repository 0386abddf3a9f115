"""The command that says what vectors reach: coverage."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated, Any

import typer

from factory.cli import options
from factory.spec import InputError, write_whole


def add_commands(app: typer.Typer) -> None:
    """Add this module's command to the command line."""
    app.command()(coverage)


def coverage(
    sources: Annotated[
        list[Path],
        typer.Argument(metavar="STORE|DATASET|EXPORT...", help="Several are counted together.", show_default=False),
    ],
    dataflow: options.Dataflow = None,
    layers: options.Layers = "all",
    psum_bits: options.SourcePsumBits = None,
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
    activity: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Count how often each bit of each bus toggles, too: `.csv`, `.saif`, or else JSON."
        ),
    ] = None,
    selection: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write the picks, for `factory export --selection FILE`.")
    ] = None,
) -> None:
    """Count what vectors reach of an array: hit, proved unreachable by any input, and missing; or pick the fewest."""
    from factory import coverage as library
    from factory import summary
    from factory.tables import terminal_width

    for name, value in (("pick", pick), ("activity", activity)):
        if value is not None and (len(sources) != 1 or merge):
            raise InputError(f"{name} must be given with one store, and without merge")
    chosen, width = dict(dataflow=dataflow, layers=layers, psum_bits=psum_bits), terminal_width()
    for name, value in chosen.items():
        if merge and value not in (None, "all"):
            raise InputError(f"{name} must be given without merge, whose coverages say it")
    for name, is_given in (("selection", selection is not None), ("cost", cost != "cycles")):
        if pick is None and is_given:
            raise InputError(f"{name} must be given with pick", options=(name, "pick"))
    for name, value in (("ucis", ucis), ("yaml", yaml), ("activity", activity)):
        if pick is not None and value is not None:
            raise InputError(f"{name} must be given without pick")
    _check_targets(sources, dict(ucis=ucis, yaml=yaml, activity=activity, selection=selection))
    with options.progress_bar() as progress, ExitStack() as stack:
        if merge:
            found = library.merge_files(sources)
        else:
            held = [_held(path, stack) for path in sources]
            if pick is None:
                found = library.coverage(*held, **chosen, progress=progress)
            else:
                found = library.pick_from(held[0], pick, cost, **chosen, progress=progress)
            counted = library.activity_of(held[0], **chosen, progress=progress) if activity else None
    written = ((ucis, library.to_ucis), (yaml, library.to_yaml), (selection, _as_json))
    for path, write in written:
        if path is not None:
            write_whole(path, write(found).encode())
    table = summary.coverage_table if pick is None else summary.selection_table
    print(_as_json(found) if as_json else table(found, width))
    if activity:
        write_whole(activity, library.write_activity(counted, activity).encode())
        if not as_json:
            print(f"\n{summary.activity_table(counted, width)}")


def _held(path: Path, stack: ExitStack) -> Any:
    """Return a source: the path of an export, of several or of a store as it is, a dataset open."""
    from factory.coverage.pick import SELECTION
    from factory.dataset.reading import open_source
    from factory.manifest import MANIFEST

    if not path.is_dir() or any((path / name).is_file() for name in (MANIFEST, SELECTION)):
        return path
    return stack.enter_context(open_source(path))


def _check_targets(sources: Sequence[Path], targets: Mapping[str, Path | None]) -> None:
    """Raise InputError, before anything is counted, for a file that cannot be written, is read, or is named twice."""
    taken = {path.resolve() for path in sources}
    for name, path in targets.items():
        if path is None:
            continue
        if path.is_dir() or not path.absolute().parent.is_dir():
            raise InputError(f"{path}: {name} must be a file in a folder that is there", options=(name,))
        if path.resolve() in taken:
            raise InputError(
                f"{path}: {name} must be a file of its own, not a source or another result", options=(name,)
            )
        taken.add(path.resolve())


def _as_json(found: Any) -> str:
    return json.dumps(found.to_json())
