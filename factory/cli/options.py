"""Options that several commands share, and the progress bar."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

Weights = Annotated[
    Path | None,
    typer.Option("--weights", help="Weights written by `factory import` or `factory train`; default: the shipped ones."),
]
Source = Annotated[
    str,
    typer.Option(
        "--images",
        metavar="SOURCE",
        help="`samples` (made by the package), a folder of CIFAR-10's binary or python files, an .npy or .npz of uint8 "
        "(N, 32, 32, 3), or a folder of image files.",
    ),
]
Split = Annotated[str, typer.Option("--split", help="The part of CIFAR-10: `train` or `test`.")]
Pick = Annotated[str | None, typer.Option("--pick", metavar="RANGES", help="Which images, such as `0:16` or `3,8:10`.")]
Layers = Annotated[
    str, typer.Option("--layers", metavar="NAMES", help="`all`, `squeezed`, or names with commas, such as `features.27`.")
]
PsumBits = Annotated[int, typer.Option("--psum-bits", help="Width of the array's adders, in bits.")]
Rows = Annotated[int, typer.Option("--rows", help="Rows of the array: input channels of a tile.")]
Cols = Annotated[int, typer.Option("--cols", help="Columns of the array: output channels of a tile.")]

Progress = Callable[[int, int, str], None]


@contextmanager
def progress_bar() -> Iterator[Progress | None]:
    """Yield a callback `(done, total, text)` that draws a bar on a terminal, or None where stderr is no terminal."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=None)
        yield lambda done, total, text: bar.update(task, completed=done, total=total, description=text)
