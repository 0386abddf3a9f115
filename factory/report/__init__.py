"""Reports: one HTML page to look at of stores, exports, dumps and results, which needs no network and no server."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from factory.manifest import is_export
from factory.report.exports import export_provenance, export_sections
from factory.report.page import Pictures, Section, page, parts, whole
from factory.report.stores import own_provenance, store_provenance, store_sections
from factory.report.tiles import layers_data
from factory.spec import InputError, Progress, parse_ranges, write_whole
from factory.store import open_store
from factory.tables import html_table

_MOST_IMAGES = 2
SUFFIX = ".html"
_MAKES = {
    "network": "the network and its layers: give a store too, of <code>factory build</code>",
    "words": "how memory words are built: give an export too, of <code>factory export</code>",
    "mismatch": (
        "what a device had wrong: <code>factory simulate DIR --dump FOLDER</code>, then the report of <code>DIR</code> "
        "with <code>--dump FOLDER</code>"
    ),
}
"""What a section needs that is not there, by its id."""


@dataclass(frozen=True)
class ReportOptions:
    """What of the sources is shown.

    `layers` and `images` are of stores, as `factory export` takes them (images None: the first two); `dumps` are of the
    one export among the sources. `split` writes style, script and figures beside the page.
    """

    layers: str = "all"
    images: str | None = None
    dumps: tuple[Path, ...] = ()
    split: bool = False


def report(
    sources: Sequence[str | Path], output: str | Path, options: ReportOptions | None = None,
    progress: Progress | None = None, **given: Any,
) -> Path:  # fmt: skip
    """Write the report of stores and exports to the file `output`, and return its path.

    `options`, or keywords that are fields of ReportOptions, say what is shown. The same sources give the same bytes
    with the same libraries. Raise InputError for what is no source.
    """
    options, output = options or ReportOptions(**given), Path(output)
    paths = [Path(source) for source in sources]
    if output.suffix != SUFFIX:
        raise InputError(f"{output}: the report must be called *{SUFFIX}")
    if output.is_dir() or not output.absolute().parent.is_dir():
        raise InputError(f"{output}: the report must be a file in a folder that is there")
    exports = [path for path in paths if is_export(path)]
    stores = [path for path in paths if path not in exports]
    if not paths or len(exports) > 1 or len(stores) > 1:
        raise InputError(f"a report must be of a store, an export, or one of each, not of {len(paths)} sources")
    if options.dumps and not exports:
        raise InputError("dumps must be given with the export that they are of", options=("dump",))
    pictures = Pictures(output.stem if options.split else "")
    sections: list[Section] = []
    origins: list[tuple[str, str]] = []
    data: dict[str, Any] = {}
    for path in stores:
        with open_store(path) as store:
            layers = [spec.name for spec in store.network.select(options.layers) if spec.name in store.layers]
            if not layers:
                raise InputError(f"{path}: layers must be of {' '.join(store.layers)}, not {options.layers}")
            images = parse_ranges(options.images or f"0:{min(_MOST_IMAGES, store.image_count)}", store.image_count,
                                  f"{path}: images")  # fmt: skip
            sections += store_sections(store, layers, images, pictures, progress)
            data = layers_data(store, layers, images)
            origins += store_provenance(store)
    for path in exports:
        sections += export_sections(path, options.dumps, stores[0] if stores else None, pictures, progress)
        origins += export_provenance(path)
    origins += own_provenance()
    table = f'<div class="card wide">{html_table(("what", "value"), origins)}</div>'
    sections.append(Section("provenance", "Provenance", table))
    return _write(output, paths, sections, data, pictures, options)


def _write(
    output: Path, paths: Iterable[Path], sections: list[Section], data: dict[str, Any], pictures: Pictures,
    options: ReportOptions,
) -> Path:  # fmt: skip
    there = {section.id for section in sections}
    absent = [line for name, line in _MAKES.items() if name not in there]
    title = " · ".join(path.resolve().name for path in paths)
    lead = "Golden vectors: what goes into the array, and what must come out of it."
    text = page(title, lead, sections, absent, data)
    made = parts(text, output, pictures) if options.split else {output: whole(text)}
    for path, contents in made.items():
        _make_folder(path.parent)
        write_whole(path, contents)
    return output


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(exist_ok=True)
    except OSError as error:
        raise InputError(f"{folder}: must be a folder that can be written to: {error.strerror}") from None
