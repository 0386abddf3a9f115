"""Options that several commands share, and the progress bar."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from factory.spec import Progress

if TYPE_CHECKING:
    from factory.spec import TrainedNetwork
    from factory.store import Store

Weights = Annotated[
    Path | None,
    typer.Option(
        "--weights",
        help="Weights of `factory import` or `train`, or shipped ones: `part1` (the default) or `resnet20`.",
    ),
]
SOURCE_HELP = (
    "`samples` (made by the package), a folder of CIFAR-10's binary or python files, an .npy or .npz of uint8 "
    "(N, 32, 32, 3), or a folder of image files."
)
Source = Annotated[str, typer.Option("--images", metavar="SOURCE", help=SOURCE_HELP)]
Compression = Annotated[str | None, typer.Option("--compression", help="`gzip`, `lz4` or `zstd`; default: none.")]
Keep = Annotated[
    str,
    typer.Option(
        "--keep", metavar="[psums|codes]", help="`codes`: psums and accumulators are computed when they are read."
    ),
]
Force = Annotated[bool, typer.Option("--force", help="Replace what is there.")]
Split = Annotated[str, typer.Option("--split", help="The part of CIFAR-10: `train` or `test`.")]
Pick = Annotated[str | None, typer.Option("--pick", metavar="RANGES", help="Which images, such as `0:16` or `3,8:10`.")]
LAYERS_HELP = "`all`, `squeezed`, or names with commas, such as `features.27`."
Layers = Annotated[str, typer.Option("--layers", metavar="NAMES", help=LAYERS_HELP)]
Dataflow = Annotated[
    str | None,
    typer.Option(
        "--dataflow",
        metavar="[ws|os|is]",
        help="Weight-, output- or input-stationary; may be left out where the profile has only one.",
    ),
]
PsumBits = Annotated[int, typer.Option("--psum-bits", help="Width of the array's adders, in bits.")]
SourcePsumBits = Annotated[
    int | None, typer.Option("--psum-bits", help="Width of the array's adders, in bits; default: the source's, or 16.")
]
PeActivation = Annotated[
    str | None,
    typer.Option(
        "--pe-activation", help="How a PE reads an activation: `unsigned` or `signed`; default: the dataflow's."
    ),
]
Simulator = Annotated[
    str | None,
    typer.Option("--simulator", metavar="[icarus|verilator]", help="Default: the first that is installed."),
]
Dut = Annotated[
    list[Path] | None,
    typer.Option("--dut", metavar="FILE", help="Your device under test; default: the reference array."),
]
Rows = Annotated[int, typer.Option("--rows", help="Rows of the array: input channels of a tile.")]
Cols = Annotated[int, typer.Option("--cols", help="Columns of the array: output channels of a tile.")]


@contextmanager
def progress_bar() -> Iterator[Progress | None]:
    """Yield a callback `(done, total, text)` that draws a bar on a terminal, or None where stderr is no terminal."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich import progress
    from rich.console import Console

    columns = (
        progress.TextColumn("{task.description}"),
        progress.BarColumn(),
        progress.TaskProgressColumn(),
        progress.TimeRemainingColumn(),
    )
    with progress.Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=None)
        yield lambda done, total, text: bar.update(task, completed=done, total=total, description=text)


@contextmanager
def training_meter() -> Iterator[Callable[[object], None]]:
    """Yield a callback that prints a line an epoch, and on a terminal keeps loss, accuracy, images/s and time left.

    A run that starts from another network's weights first prints which layers took theirs.
    """
    from factory.train import EpochResult, Transfer

    with progress_bar() as bar:

        def report(record: object) -> None:
            if isinstance(record, EpochResult):
                print(
                    f"epoch {record.epoch + 1}  lr {record.lr:.4g}  "
                    f"loss {record.loss:.4f}  accuracy {record.accuracy:.4f}  "
                    f"test loss {record.test_loss:.4f}  test accuracy {record.test_accuracy:.4f}  "
                    f"{record.images_per_second:.0f} images/s",
                    flush=True,
                )
            elif isinstance(record, Transfer):
                print(f"from {record.source}: {' '.join(record.taken)}; anew: {' '.join(record.anew)}", flush=True)
            elif bar:
                text = f"epoch {record.epoch + 1}/{record.epochs} loss {record.loss:.4f} accuracy {record.accuracy:.4f}"
                left = timedelta(seconds=round(record.seconds_left))
                bar(record.step, record.steps, f"{text} {record.images_per_second:.0f} images/s, {left} left in all")

        yield report


def open_source(path: Path | None) -> Store | TrainedNetwork:
    """Open a store or load a weights file; None: the default store where it is there, else the shipped weights."""
    from factory.build import default_store
    from factory.checkpoint import load_weights, shipped_weights
    from factory.store import open_store

    path = default_store() if path is None and default_store().is_file() else path
    weights = path is None or path.suffix == ".safetensors" or str(path) in shipped_weights()
    return load_weights(path) if weights else open_store(path)


def ready_default_store(progress: Progress | None) -> Path:
    """Return the default store's path, after building it where it is not there yet."""
    from factory.build import build, default_store

    path = default_store()
    return path if path.is_file() else build(path, progress=progress)
