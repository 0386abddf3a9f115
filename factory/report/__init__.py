"""Reports: one HTML page to look at of stores, exports, dumps and results, which needs no network and no server."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from factory.dataset.reading import open_source
from factory.manifest import is_export
from factory.report.exports import export_provenance, export_sections
from factory.report.page import Pictures, Section, page, parts, provenance_table, whole
from factory.report.results import (
    coverage_section,
    has_schema,
    is_regression,
    regression_section,
    selection_section,
)
from factory.report.stores import own_provenance, store_provenance, store_sections
from factory.report.tiles import layers_data
from factory.spec import InputError, Progress, parse_ranges, write_whole

_MOST_IMAGES = 2
SUFFIX = ".html"
_LEAD = "Golden vectors: what goes into the array, and what must come out of it."
_MAKES = {
    "network": "the network and its layers: a store, of <code>factory build</code>",
    "words": "how memory words are built: an export, of <code>factory export</code>",
    "mismatch": (
        "what a device had wrong: <code>factory simulate DIR --dump FOLDER</code>, then the report of <code>DIR</code> "
        "with <code>--dump FOLDER</code>"
    ),
    "coverage": "what vectors reach: <code>factory coverage STORE --json &gt; coverage.json</code>",
    "selection": "the fewest tiles: <code>factory coverage STORE --pick all --selection picks.json</code>",
    "regression": "the board of a regression: the folder of <code>factory dataset simulate</code>",
}
"""What a section needs that is not there, by its id; each of them is a source of the same report."""


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


@dataclass
class _Contents:
    """What is gathered of sources, one of a kind, by the kind."""

    options: ReportOptions
    pictures: Pictures
    sources: Mapping[str, Path]
    progress: Progress | None
    sections: list[Section] = field(default_factory=list)
    origins: list[tuple[str, str]] = field(default_factory=list)
    data: dict[str, Any] = field(default_factory=dict)

    def add_store(self, path: Path) -> None:
        options = self.options
        with closing(open_source(path)) as store:
            layers = [spec.name for spec in store.network.select(options.layers, store.layers, f"{path}: ")]
            first = f"0:{min(_MOST_IMAGES, store.image_count)}"
            images = parse_ranges(
                first if options.images is None else options.images, store.image_count, f"{path}: images"
            )
            self.sections += store_sections(store, layers, images, self.pictures, self.progress)
            self.data |= layers_data(store, layers, images)
            self.origins += store_provenance(store)

    def add_export(self, path: Path) -> None:
        store = self.sources.get("store")
        found = store if store is not None and store.is_file() else None
        self.sections += export_sections(path, self.options.dumps, found, self.pictures, self.progress)
        self.origins += export_provenance(path)

    def add_coverage(self, path: Path) -> None:
        self.sections.append(coverage_section(path, self.pictures))
        self.origins.append(("coverage", path.name))

    def add_selection(self, path: Path) -> None:
        self.sections.append(selection_section(path, self.pictures))
        self.origins.append(("selection", path.name))

    def add_regression(self, path: Path) -> None:
        self.sections.append(regression_section(path, self.pictures))
        self.origins.append(("regression", path.resolve().name))


_KINDS: Mapping[str, tuple[Callable[[Path], bool], Callable[[_Contents, Path], None]]] = {
    "export": (is_export, _Contents.add_export),
    "regression": (is_regression, _Contents.add_regression),
    "coverage": (has_schema("factory-coverage"), _Contents.add_coverage),
    "selection": (has_schema("factory-selection"), _Contents.add_selection),
    "store": (lambda path: True, _Contents.add_store),  # or a dataset: whatever is wrong with it is said of a store
}
"""By the kind of a source: what tells it, the first that does, and what adds it."""
_ORDER = ("store", "export", "coverage", "selection", "regression")


def report(
    sources: Sequence[str | Path], output: str | Path, options: ReportOptions | None = None,
    progress: Progress | None = None, **given: Any,
) -> Path:  # fmt: skip
    """Write the report of sources, at most one of each kind, to the file `output`, and return its path.

    A source is a store or the folder of a dataset, an export, the JSON of a coverage or of a selection, or the folder
    of a regression. `options`, or keywords that are fields of ReportOptions, say what is shown. The same sources give
    the same bytes with the same libraries. Raise InputError for what is no source.
    """
    options, output = options or ReportOptions(**given), Path(output)
    if output.suffix != SUFFIX:
        raise InputError(f"{output}: the report must be called *{SUFFIX}")
    if output.is_dir() or not output.absolute().parent.is_dir():
        raise InputError(f"{output}: the report must be a file in a folder that is there")
    found = _by_kind([Path(source) for source in sources])
    if options.dumps and "export" not in found:
        raise InputError("dump must be given with the export that it is of")
    for name, is_given in (("layers", options.layers != "all"), ("images", options.images is not None)):
        if is_given and "store" not in found:
            raise InputError(f"{name} must be given with the store that they are of")
    contents = _Contents(options, Pictures(output.stem if options.split else ""), found, progress)
    for kind in _ORDER:
        if kind in found:
            _KINDS[kind][1](contents, found[kind])
    table = provenance_table([*contents.origins, *own_provenance()])
    sections = [*contents.sections, Section("provenance", "Provenance", table)]
    there = {section.id for section in sections}
    absent = [line for name, line in _MAKES.items() if name not in there]
    title = " · ".join(found[kind].resolve().name for kind in _ORDER if kind in found)
    text = page(title, _LEAD, sections, absent, contents.data)
    made = parts(text, output, contents.pictures) if options.split else {output: whole(text)}
    for path, written in made.items():
        _make_folder(path.parent)
        write_whole(path, written)
    return output


def _by_kind(paths: Sequence[Path]) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for path in paths:
        if not path.exists():
            raise InputError(f"{path}: must be a source of a report, there is no such file or folder")
        kind = next(kind for kind, (is_one, _) in _KINDS.items() if is_one(path))
        if kind in found:
            raise InputError(f"{path}: a report must be of one {kind}, there is {found[kind]} too")
        found[kind] = path
    if not found:
        raise InputError("a report must be of a source, none is given")
    return found


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(exist_ok=True)
    except OSError as error:
        raise InputError(f"{folder}: must be a folder that can be written to: {error.strerror}") from None
