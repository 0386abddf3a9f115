"""Dumps of faults, as a simulator would write them, and what a diagnosis names."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

import numpy as np
from mutants.faults import Plain, X

from factory.diagnose import Diagnosis
from factory.fileplan import read_plan

SQUEEZED = {
    "ws": dict(dataflow="ws", include="activation,weight,out,psum"),
    "os": dict(dataflow="os", include="activation,weight,out"),
}
"""Options of the exports of the squeezed layer, by dataflow."""
NOISE = {
    "a bit of each": lambda rng, words: words ^ 1 << rng.integers(0, 16, words.shape),
    "a bit of some": lambda rng, words: words ^ (rng.random(words.shape) < 0.1) << rng.integers(0, 16, words.shape),
    "some random": lambda rng, words: np.where(
        rng.random(words.shape) < 0.3, rng.integers(-300, 300, words.shape), words
    ),
    "all random": lambda rng, words: rng.integers(0, 300, words.shape),
    "shuffled": lambda rng, words: rng.permuted(words.reshape(-1)).reshape(words.shape),
    "one word is one more": lambda rng, words: words + (np.arange(words.size).reshape(words.shape) == 70),
}
"""Words that no fault explains."""


def plain_layer(store, folder: Path, image: int = 0, other: int = 1) -> Plain:
    """Return the exported part of a layer for plain arithmetic, from the store's own arrays, of two of its images."""
    plan = read_plan(folder)
    mapping = plan.layers[0].mapping
    spec, layer = mapping.spec, store.layer(mapping.spec.name)
    stationary = "it" not in mapping.selection
    rows = 1 if stationary else plan.array.rows
    its = range(mapping.input_channels) if stationary else mapping.selection["it"]
    weight = np.asarray(layer.weight[...]).reshape(spec.out_channels, spec.in_channels, -1)
    if not mapping.fields["weight"].signed:
        raise AssertionError
    pad = lambda a, n, axis: np.pad(a, [(0, -a.shape[axis] % n if i == axis else 0) for i in range(a.ndim)])  # noqa: E731
    tiles = pad(pad(weight, plan.array.cols, 0), rows, 1)
    tiles = tiles.reshape(-1, plan.array.cols, tiles.shape[1] // rows, rows, tiles.shape[2]).transpose(2, 0, 4, 1, 3)
    tiles = tiles[list(its)][:, list(mapping.selection["ot"])]
    top, left, bottom, right = spec.padding

    def cut(codes: np.ndarray) -> np.ndarray:
        codes = np.asarray(codes).astype(np.int64)
        if mapping.fields["activation"].signed:
            codes = (codes + 8) % 16 - 8
        padded = pad(np.pad(codes, ((0, 0), (top, bottom), (left, right))), rows, 0)
        return padded.reshape(-1, rows, spec.nij_count).swapaxes(1, 2)[list(its)]

    border = np.ones((spec.padded_height, spec.padded_width), bool)
    border[top : spec.padded_height - bottom, left : spec.padded_width - right] = False
    return Plain(
        tiles.astype(np.int64), cut(layer.activation[image]), cut(layer.activation[other]), spec.kernel[0],
        spec.stride[0], spec.padded_width, (spec.out_height, spec.out_width), border.reshape(-1), mapping.tile_pixels,
    )  # fmt: skip


def write_words(path: Path, words: np.ndarray, tile: int, bits: int = 16) -> Path:
    """Write `(..., ot, onij, col)` or psums as words of a lane for each col, in the order of the notebook's files."""
    path.write_text(text_of(words, tile, bits))
    return path


def text_of(words: np.ndarray, tile: int, bits: int = 16) -> str:
    if words.ndim == 3 and words.shape[1] != tile:  # pixel tiles outside
        ots, pixels, cols = words.shape
        words = words.reshape(ots, pixels // tile, tile, cols).swapaxes(0, 1)
    lines = []
    for word in words.reshape(-1, words.shape[-1]).tolist():
        lanes = ["x" * bits if value == X else format(value % (1 << bits), f"0{bits}b") for value in reversed(word)]
        lines.append("".join(lanes))
    return "".join(f"{line}\n" for line in lines)


def row(what: str, flow: str, found: Diagnosis) -> dict:
    """Return what is named, as plain values."""
    first = found.causes[0] if found.causes else None
    looked = found.case
    return {
        "what": what,
        "flow": flow,
        "wrong": first.wrong if first else int(np.count_nonzero(looked.wrong)) if looked else 0,
        "names": [first.name, *first.same] if first else [],
        "pair": [hypothesis.name for hypothesis in first.hypotheses] if first else [],
        "explained": first.explained if first else 0,
        "contradicted": first.contradicted if first else 0,
    }


def line_of(found: dict, causes: tuple[str, ...]) -> str:
    """Return the line of the documentation: the name that is right, if it is among those of the first place."""
    named = next((name for name in found["names"] if name.split(":")[0] in causes), "unknown")
    share = f"{found['explained']:,} of {found['wrong']:,}" if found["names"] else ""
    return f"| {found['what']} | {found['flow']} | {named} | {share} |"


def documented(title: str) -> list[str]:
    """Return the rows of a table of the documentation."""
    text = Path(str(files("factory") / "diagnose" / "measured.md")).read_text()
    section = text.split(f"## {title}\n")[1].split("\n## ")[0]
    return [line for line in section.splitlines() if line.startswith("| ")][2:]
