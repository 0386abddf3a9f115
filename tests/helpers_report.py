"""A store, an export of it and a wrong dump of that, to look at, and what a browser needs."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import NamedTuple

from helpers_diagnose import plain_layer, write_words
from mutants.faults import FAULTS

from factory.build import build
from factory.export import export
from factory.store import open_store

LAYERS = "features.7,features.27"
"""A layer of which each lane has a map, and one whose pixels are in a line."""
FAULT = next(fault for fault in FAULTS if fault.what == "output lanes are rotated")


class Shown(NamedTuple):
    """What reports are of."""

    store: Path
    export: Path
    dump: Path


def make_shown(folder: Path) -> Shown:
    """Build two images of two layers with the shipped weights, an export of one, and a dump of rotated lanes."""
    store = build(folder / "store.h5", images="samples", pick="0:2", layers=LAYERS)
    directory = folder / "vectors"
    export(store, directory, dataflow="ws", layers="features.27", include="activation,weight,out,psum")
    (folder / "given" / "features.27" / "image0").mkdir(parents=True)
    with open_store(store) as opened:
        plain = plain_layer(opened, directory)
        words = FAULT.words(plain)
        write_words(folder / "given" / "features.27" / "image0" / "out.txt", words, plain.tile)
    return Shown(store, directory, folder / "given")


def browser_paths() -> tuple[str, str] | None:
    """Return where Chromium and its driver are; None where they are not both there."""
    chromium, driver = shutil.which("chromium") or shutil.which("chromium-browser"), shutil.which("chromedriver")
    return (chromium, driver) if chromium and driver else None
