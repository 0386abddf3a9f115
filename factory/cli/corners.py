"""The command that makes integers from patterns: corners."""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer

from factory.cli import options
from factory.spec import InputError, SystolicArray

_OF_ARRAY = (
    "rows", "cols", "psum_bits", "weight_bits", "activation_bits", "signed", "channels", "size", "kernel", "stride",
    "padding", "dilation", "random", "count", "density", "like",
)  # fmt: skip
_RANDOM = ("count", "density", "like")


def add_commands(app: typer.Typer) -> None:
    """Add this module's command to the command line."""
    app.command()(corners)


def corners(
    output: Annotated[Path, typer.Option("--output", "-o", metavar="STORE", help="The store to write.")],
    rows: options.Rows = 8,
    cols: options.Cols = 8,
    psum_bits: options.PsumBits = 16,
    weight_bits: Annotated[int, typer.Option(help="Bits of a weight code, 2 to 8.")] = 4,
    activation_bits: Annotated[int, typer.Option(help="Bits of an activation code, 1 to 8.")] = 4,
    signed: Annotated[bool, typer.Option("--signed", help="Activation codes have both signs.")] = False,
    channels: Annotated[
        str | None, typer.Option(metavar="IN,OUT", help="Default: one and a half tiles of each.")
    ] = None,
    size: Annotated[str, typer.Option("--map", metavar="Y,X", help="Size of the input map.")] = "3,4",
    kernel: Annotated[str, typer.Option(metavar="N|Y,X", help="Size of the kernel.")] = "3",
    stride: Annotated[str, typer.Option(metavar="N|Y,X", help="Stride.")] = "1",
    padding: Annotated[str, typer.Option(metavar="N|Y,X|T,L,B,R", help="Padding.")] = "1",
    dilation: Annotated[str, typer.Option(metavar="N|Y,X", help="Dilation.")] = "1",
    random: Annotated[
        int | None, typer.Option(metavar="SEED", help="Random codes of this seed in place of corner cases.")
    ] = None,
    count: Annotated[int | None, typer.Option(help="Random images of each kind; default: 4.")] = None,
    density: Annotated[float | None, typer.Option(help="Share of sparse codes that are not 0; default: 0.1.")] = None,
    like: Annotated[
        str | None, typer.Option(metavar="STORE:LAYER", help="Draw codes as often as they occur in this layer, too.")
    ] = None,
    missing: Annotated[
        Path | None,
        typer.Option(
            metavar="COVERAGE",
            help="Only what hits the bins that are missing in a coverage of `factory coverage --json`.",
        ),
    ] = None,
    compression: options.Compression = None,
    keep: options.Keep = "psums",
    force: options.Force = False,
) -> None:
    """Write a store of corner cases, or of seeded random codes: weight patterns times activation patterns."""
    from factory.build.synthetic import corners
    from factory.synthetic import Draw
    from factory.tables import bytes_text

    drawn = {"count": count, "density": density, "like": None if like is None else _layer_of(like)}
    drawn = {name: value for name, value in drawn.items() if value is not None}
    if random is None and drawn:
        raise InputError(f"{next(iter(drawn))} must be given with random", options=(*_RANDOM, "random"))
    sides = dict(zip(("height", "width"), _numbers("map", size, 2), strict=True))
    if channels is not None:
        sides |= zip(("in_channels", "out_channels"), _numbers("channels", channels, 2), strict=True)
    for name, text in dict(kernel=kernel, stride=stride, padding=padding, dilation=dilation).items():
        numbers = _numbers(name, text)
        sides[name] = numbers if len(numbers) > 1 else numbers[0]
    if missing is not None:
        _check_alone(locals())
    with options.progress_bar() as progress:
        path = corners(
            output,
            array=SystolicArray(rows, cols, psum_bits),
            random=None if random is None else Draw(random, **drawn),
            compression=compression,
            keep=keep,
            force=force,
            progress=progress,
            say=lambda line: print(line, file=sys.stderr),
            missing=missing,
            weight_bits=weight_bits,
            activation_bits=activation_bits,
            signed=signed,
            **sides,
        )
    print(f"{path}  {bytes_text(path.stat().st_size)}")


def _check_alone(given: Mapping[str, object]) -> None:
    """Raise InputError for an option beside `--missing` that says what the coverage says."""
    for name in _OF_ARRAY:
        if given[name] != inspect.signature(corners).parameters[name].default:
            name = "map" if name == "size" else name
            raise InputError(f"{name} must not be given with missing, whose coverage says it")


def _numbers(name: str, text: str, count: int | None = None) -> list[int]:
    """Return the numbers of a text with commas; raise InputError for another text, or another number of them."""
    if not re.fullmatch(r"\d{1,9}(,\d{1,9})*", text, re.ASCII) or count not in (None, text.count(",") + 1):
        expected = "whole numbers with commas" if count is None else f"{count} whole numbers with a comma"
        raise InputError(f"{name} must be {expected}, not {text}")
    return [int(number) for number in text.split(",")]


def _layer_of(text: str) -> tuple[Path, str]:
    path, colon, layer = text.rpartition(":")
    if not (path and colon and layer):
        raise InputError(f"like must be STORE:LAYER, not {text}")
    return Path(path), layer
