"""The export of tiles that were picked: a folder of exports, one for each, which appears whole or not at all."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

from factory.coverage import PickedTiles, read_picks
from factory.coverage.pick import SELECTION
from factory.export import ExportOptions, export
from factory.export.atomic import whole_directory
from factory.export.planning import ExportSource
from factory.fileplan import PE_ACTIVATIONS
from factory.manifest import is_export
from factory.spec import InputError, Progress
from factory.store import open_store

_CHOSEN = ("layers", "images", "flags", "rows", "cols")
_WHOLE = ("tiles", "kij")


@dataclass(frozen=True)
class PicksSummary:
    """What was written, over all exports."""

    directory: Path
    exports: int
    files: int
    words: int
    warnings: tuple[str, ...]


def export_picks(
    store: ExportSource | str | Path,
    out_dir: str | Path,
    picks: PickedTiles | str | Path,
    options: ExportOptions | None = None,
    *,
    force: bool = False,
    workers: int | None = None,
    progress: Progress | None = None,
) -> PicksSummary:
    """Write each of the tiles that `factory coverage --pick` chose as an export of its own, into the folder `out_dir`.

    `picks` are from that store, or the JSON file that has them. `options` say all else; where they do not say how a
    processing element reads activations, it does as the codes are. Raise InputError for options that select
    something, for picks of another store, and as `export` does.
    """
    options = options or ExportOptions()
    check_unselective(options, "selection")
    picks = picks if isinstance(picks, PickedTiles) else read_picks(Path(picks))
    with nullcontext(store) if not isinstance(store, (str, Path)) else open_store(store) as source:
        _check(source, picks, options)
        with whole_directory(Path(out_dir), force, _check_replaceable) as root:
            done = []
            for number, pick in enumerate(picks.picks):
                if progress:
                    progress(number, len(picks.picks), pick.layer)
                tiles = [f"{axis}={label}" for axis, label in pick.tiles.items()]
                reads = PE_ACTIVATIONS[source.layer(pick.layer).spec.signed]
                one = replace(
                    options, dataflow=picks.dataflow, layers=(pick.layer,), images=str(pick.image),
                    tiles=",".join(tiles), pe_activation=options.pe_activation or reads,
                )  # fmt: skip
                name = "-".join([f"{number:03d}", pick.layer, f"image{pick.image}", *tiles]).replace("=", "")
                done.append(export(source, root / name, one, workers=workers))
            (root / SELECTION).write_text(json.dumps(picks.to_json()), encoding="utf-8")
    warnings = dict.fromkeys(warning for summary in done for warning in summary.warnings)
    files, words = (sum(getattr(summary, name) for summary in done) for name in ("files", "words"))
    return PicksSummary(Path(out_dir), len(done), files, words, tuple(warnings))


def check_unselective(options: ExportOptions, by: str) -> None:
    """Raise InputError for options that select something, which is said `by` another option."""
    given = [name for name in _CHOSEN if getattr(options, name) is not None]
    given += [name for name in _WHOLE if getattr(options, name) != "all"]
    if given:
        raise InputError(f"{given[0]} must not be given with {by}, which says it", options=("selection", "split"))


def _check(source: ExportSource, picks: PickedTiles, options: ExportOptions) -> None:
    """Raise InputError unless the picks can be of a source."""
    if options.dataflow not in (None, picks.dataflow):
        raise InputError(f"dataflow must be {picks.dataflow}, the selection's, not {options.dataflow}")
    if (picks.rows, picks.cols) != (source.array.rows, source.array.cols):
        of = f"{source.array.rows} x {source.array.cols}, as {source.path.name} is"
        raise InputError(f"selection must be of {of}, not of {picks.rows} x {picks.cols}")
    if not picks.picks:
        raise InputError("selection must have at least one pick, it has none")


def _check_replaceable(directory: Path) -> None:
    """Raise InputError unless a directory is one of picks, and nothing else."""
    only = f"{directory}: force replaces only an earlier export of a selection"
    if not (directory / SELECTION).is_file():
        raise InputError(f"{only}, and there is no {SELECTION}", options=("force",))
    for path in _others(directory):
        raise InputError(f"{only}, {path.name} is not of it: move it away", options=("force",))


def _others(directory: Path) -> Iterator[Path]:
    return (path for path in sorted(directory.iterdir()) if path.name != SELECTION and not is_export(path))
