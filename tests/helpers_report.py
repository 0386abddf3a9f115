"""A store, an export of it and a wrong dump of that, to look at, and what a browser needs."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import jaxtyping
import numpy as np
from helpers_diagnose import plain_layer, write_words
from mutants.faults import FAULTS

from factory.build.captured import capture
from factory.export import export
from factory.store import open_store

SHAPES = {"maps": (20, 60, 12), "line": (8, 8, 4)}
"""Output and input channels, and the side of a map: a layer of which each lane has a map, and one of a line."""
FAULT = next(fault for fault in FAULTS if fault.what == "output lanes are rotated")


class Shown(NamedTuple):
    """What reports are of."""

    store: Path
    export: Path
    dump: Path


def make_shown(folder: Path) -> Shown:
    """Capture two images of two layers of random codes, export one, and write a dump of rotated lanes."""
    random, arrays = np.random.default_rng(0), {}
    for name, (outs, ins, side) in SHAPES.items():
        arrays[f"{name}.weight"] = random.integers(-7, 8, (outs, ins, 3, 3)).astype(np.int8)
        arrays[f"{name}.activation"] = random.integers(0, 16, (2, ins, side, side)).astype(np.uint8)
    np.savez(folder / "codes.npz", **arrays)
    store = capture(folder / "codes.npz", output=folder / "store.h5")
    directory = folder / "vectors"
    export(store, directory, dataflow="ws", layers="line", include="activation,weight,out,psum")
    (folder / "given" / "line" / "image0").mkdir(parents=True)
    with open_store(store) as opened:
        plain = plain_layer(opened, directory)
        words = FAULT.words(plain)
        write_words(folder / "given" / "line" / "image0" / "out.txt", words, plain.tile)
    return Shown(store, directory, folder / "given")


@contextmanager
def unchecked() -> Iterator[None]:
    """Leave the checks of shapes and dtypes out of what a fixture makes: a diagnosis calls thousands of functions."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


def browser_paths() -> tuple[str, str] | None:
    """Return where Chromium and its driver are; None where they are not both there."""
    chromium, driver = shutil.which("chromium") or shutil.which("chromium-browser"), shutil.which("chromedriver")
    return (chromium, driver) if chromium and driver else None
