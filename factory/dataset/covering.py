"""The split `coverage`: the fewest tiles of a dataset that hit all that its images hit, picked once and kept."""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace

from factory.coverage import PickedTiles, pick_from, read_picks
from factory.dataset.plan import COVERAGE
from factory.dataset.reading import OpenDataset
from factory.export.picks import check_unselective
from factory.fileplan import ExportOptions
from factory.spec import InputError, Progress, write_whole


def covering_tiles(
    dataset: OpenDataset, name: str, options: ExportOptions, progress: Progress | None = None
) -> PickedTiles | None:
    """Return the tiles of the split called `name` if it is the fewest that cover the dataset, else None.

    It is where no images were planned under that name. The tiles are picked by cycles, in the options' dataflow and for
    their adders, at the first time, which takes as long as `factory coverage --pick all`; `coverage/` of the dataset
    keeps them where it can be written. Raise InputError for options that select something.
    """
    if name != COVERAGE or name in {split.name for split in dataset.record.plan.splits}:
        return None
    check_unselective(options, f"split {COVERAGE}")
    flow = options.chosen.dataflow
    of = [flow, options.psum_bits or dataset.array.psum_bits, *(shard.digest for shard in dataset.record.shards)]
    kept = dataset.path / COVERAGE / f"{flow}-{hashlib.sha256(json.dumps(of).encode()).hexdigest()[:16]}.json"
    with suppress(InputError):
        return read_picks(kept)
    picks = pick_from(dataset, "all", dataflow=flow, psum_bits=options.psum_bits, progress=progress)
    with suppress(OSError, InputError):  # a dataset that only can be read is as good
        kept.parent.mkdir(exist_ok=True)
        write_whole(kept, json.dumps(picks.to_json()).encode())
    return picks


def exports_of(picks: PickedTiles, options: ExportOptions) -> Iterator[ExportOptions]:
    """Yield the options of exports that hold all tiles that were picked: one for each tile, of all images it has."""
    images: dict[tuple[str, str], list[int]] = defaultdict(list)
    for pick in picks.picks:
        images[pick.layer, ",".join(f"{axis}={label}" for axis, label in pick.tiles.items())].append(pick.image)
    for (layer, tiles), places in images.items():
        yield replace(options, layers=layer, tiles=tiles, images=",".join(map(str, sorted(places))))
