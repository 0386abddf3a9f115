"""Commands that plan, build, look after and use a regression dataset: dataset plan, build, status, and so on."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from factory.cli import options, queries, vectors
from factory.spec import InputError

Folder = Annotated[Path, typer.Argument(metavar="DIR", help="The folder of the dataset.")]
Images = Annotated[str | None, typer.Option("--images", metavar="SOURCE", help=f"Pictures: {options.SOURCE_HELP}")]
Given = Annotated[
    str | None,
    typer.Option("--source", help="In place of pictures: a store, or arrays as `factory capture` takes them."),
]
Picked = Annotated[str, typer.Option("--pick", metavar="RANGES", help="Which images, such as `0:1000` or `3,8:10`.")]


def add_commands(app: typer.Typer) -> None:
    """Add the group of commands to the command line."""
    group = typer.Typer(rich_markup_mode=None)
    for command in (plan, build, status, verify, extend):
        group.command()(command)
    group.command()(vectors.export)
    queries.add_commands(group)
    group.callback()(_dataset)
    app.add_typer(group, name="dataset", help=_dataset.__doc__)


def _dataset() -> None:
    """Plan, build, check and use regression datasets: codes of many images, in shards."""


def plan(
    directory: Folder,
    toml: Annotated[
        Path | None, typer.Option("--from", metavar="TOML", help="All of these options in a file, which is kept.")
    ] = None,
    weights: Annotated[str | None, typer.Option(help="A file, `part1` (the default) or `resnet20`.")] = None,
    images: Images = None,
    split: options.Split = "test",
    pick: Picked = "all",
    source: Given = None,
    corners: Annotated[bool, typer.Option("--corners", help="In place of pictures: corner cases.")] = False,
    random: Annotated[
        int | None, typer.Option(metavar="SEED", min=0, help="In place of pictures: random codes of this seed.")
    ] = None,
    count: Annotated[int, typer.Option(help="Random images of each kind.")] = 4,
    layers: options.Layers = "all",
    rows: options.Rows = 8,
    cols: options.Cols = 8,
    psum_bits: options.PsumBits = 16,
    shard_images: Annotated[int, typer.Option(help="Images of a shard.")] = 512,
    compression: Annotated[str, typer.Option(help="`none`, `gzip`, `lz4` or `zstd`.")] = "none",
    splits: Annotated[
        list[str] | None,
        typer.Option("--name", metavar="NAME=RANGES", help="A split, such as `smoke=0:8`, or `random-7=16`: 16 drawn."),
    ] = None,
) -> None:
    """Plan a dataset in the new folder DIR, and say how large it will be; `build` builds it."""
    from factory.dataset.planning import PlanOptions, plan_dataset, read_options

    given = dict(
        split=split, pick=pick, corners=corners, count=count, random=-1 if random is None else random, layers=layers,
        rows=rows, cols=cols, psum_bits=psum_bits, shard_images=shard_images, compression=compression,
        splits=_splits(splits or []),
    )  # fmt: skip
    chosen = PlanOptions(**given, **_places(weights=weights, images=images, source=source))
    if toml is not None:
        if chosen != PlanOptions():
            raise InputError(f"other options must be in {toml}, which is given", options=("from",))
        chosen = read_options(toml)
    plan_dataset(directory, chosen, print, toml)


def _places(**given: str | None) -> dict[str, str]:
    """Return the places that were given; an empty one, as a variable that is not set gives it, is no default."""
    for name, place in given.items():
        if place == "":
            raise InputError(f"{name} must not be empty")
    return {name: place for name, place in given.items() if place is not None}


def _splits(texts: list[str]) -> dict[str, str]:
    """Return the ranges of each split that was named."""
    found: dict[str, str] = {}
    for text in texts:
        name, equals, ranges = text.partition("=")
        if not (name and equals and ranges):
            raise InputError(f"--name must be NAME=RANGES, such as smoke=0:8, not {text}")
        if name in found:
            raise InputError(f"--name must name each split once, {name} is {found[name]} and {ranges}")
        found[name] = ranges
    return found


def build(
    directory: Folder,
    shard: Annotated[int | None, typer.Option(help="Build this one alone, and do not seal: for job arrays.")] = None,
    workers: Annotated[
        int | None,
        typer.Option(help="Processes of one thread; 0: this one, without Dask.", show_default="one a processor"),
    ] = None,
    scheduler: Annotated[
        str | None, typer.Option(metavar="ADDRESS", help="Use the workers of a Dask scheduler.")
    ] = None,
    scheduler_file: Annotated[Path | None, typer.Option(metavar="FILE", help="Its file, in place of ADDRESS.")] = None,
) -> None:
    """Build the shards that are missing, and seal the dataset; after any interruption, run it again."""
    from factory.dataset import build_shard
    from factory.dataset.engine import build_dataset

    with options.progress_bar() as progress:
        if shard is None:
            dataset = build_dataset(directory, workers, scheduler, scheduler_file, progress)
            count = dataset.plan.image_count
            print(f"{directory}  {count} images  {len(dataset.shards)} shards")
            return
        if (workers, scheduler, scheduler_file) != (None, None, None):
            named = "shard", "workers", "scheduler"
            raise InputError("only one of shard, workers and scheduler must be given", options=named)
        print(f"{directory / build_shard(directory, shard, progress).path}")


def status(
    directory: Folder,
    missing: Annotated[
        bool, typer.Option("--missing", help="Print the array expression of missing shards alone, such as `3-5,9`.")
    ] = False,
) -> None:
    """Print which shards must be built and why; the exit code is 0 only when all is there and sealed."""
    from factory.dataset.seal import dataset_status

    found = dataset_status(directory)
    if missing:
        print(found.missing)
    else:
        print(found)
    if not found.sealed:
        raise typer.Exit(1)


def verify(
    directory: Folder,
    shards: Annotated[
        str, typer.Option(metavar="RANGES", help="Shards to recompute: `all`, or such as `0:4,9`.")
    ] = "0",
    sample: Annotated[str, typer.Option(help="Share of a shard to recompute: `5%`, a count, or `all`.")] = "5%",
    weights: options.Weights = None,
) -> None:
    """Check the sha256 of every file, and recompute shards by a second path."""
    from factory.dataset.verified import verify_dataset

    with options.progress_bar() as progress:
        for report in verify_dataset(directory, shards, sample, weights, progress):
            print(report)


def extend(
    directory: Folder,
    images: Images = None,
    split: options.Split = "test",
    pick: Picked = "all",
    source: Given = None,
) -> None:
    """Add images to the plan, as new shards, which `build` builds; what is there stays as it is."""
    from factory.dataset.planning import PlanOptions, extend_dataset

    places = _places(images=images, source=source)
    extend_dataset(directory, PlanOptions(**places, split=split, pick=pick), print)
