"""Capture: from a source of integers that were made elsewhere to a store."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from factory.build import new_store
from factory.build.codes import store_codes
from factory.fileplan import ExportOptions
from factory.readers.arrays import LayerDescription, read_arrays
from factory.readers.exports import read_export
from factory.readers.values import read_inputs
from factory.spec import CodedNetwork, InputError, Progress, SystolicArray

ONNX = ".onnx"
_SOURCES = "an .npz, an HDF5 file, a folder of arrays, a TOML file or an ONNX model"


def capture(
    source: Any,
    images: Any = None,
    output: str | Path | None = None,
    description: str | Path | None = None,
    layer: LayerDescription | None = None,
    from_export: str | Path | None = None,
    layout: ExportOptions | None = None,
    array: SystolicArray | None = None,
    compression: str | None = None,
    keep: str = "psums",
    force: bool = False,
    progress: Progress | None = None,
    say: Callable[[str], None] | None = None,
) -> Path:
    """Take the integer layers of a source, compute their psums and accumulators, and write them to the store `output`.

    `source` is a `torch.nn.Module`, or the path of an ONNX model, run on `images`, a batch as it takes them (or the
    path of an .npy or of an .npz by the inputs' names); or an .npz, an HDF5 file or a folder of arrays
    `<layer>.weight` and `<layer>.activation`, or a TOML file that names them; None: `layer` alone, or `from_export`, a
    folder of memory files: an export, or foreign files, of which `layout` gives the profile and `description` the
    layers (see `read_export`). For arrays, `description` is a TOML file of geometry, bits and signs.

    `array` is 8 x 8 by default. `say` is called with a line for each thing that was taken for granted, left out or
    compared. The rest are as `build` takes them. Return the store's path; raise InputError for what cannot be an
    integer layer.
    """
    if output is None:
        raise InputError("output must be given: the store to write")
    new_store(output, force)
    if layout is not None and from_export is None:
        raise InputError("a profile must be given with from_export", options=("profile", "from_export"))
    if from_export is not None:
        said = None if description is None else Path(description)
        network = read_export(Path(from_export), said, layout, array)
    else:
        network = read_source(source, images, description, layer)
    for line in network.remarks:
        if say:
            say(line)
    return store_codes(network, output, "captured", array, compression, keep, force, progress=progress)


def read_source(
    source: Any, images: Any = None, description: str | Path | None = None, layer: LayerDescription | None = None
) -> CodedNetwork:
    """Return the coded layers of a source, by its kind, as `capture` takes it."""
    if source is not None and not isinstance(source, (str, Path)):
        if images is None:
            raise InputError("images must be given with a model: the batch to run it on")
        if description is not None:
            raise InputError("description must be of arrays, not of a model")
        from factory.readers.pytorch import read_model

        return read_model(source, images)
    path = None if source is None else Path(source)
    if images is not None and (path is None or path.suffix != ONNX):
        raise InputError(f"images must be given with a model, not with {path or 'arrays'}")
    if path is not None and not path.exists():
        raise InputError(f"{path}: must be {_SOURCES}, it is not there")
    said = None if description is None else Path(description)
    if path is not None and path.suffix == ONNX:
        if said is not None:
            raise InputError(f"description must be of arrays, not of the model {path}")
        if images is None:
            raise InputError(f"{path}: images must be given: the inputs of the model", options=("images",))
        from factory.readers.onnx import read_onnx

        return read_onnx(path, read_inputs(Path(images)) if isinstance(images, (str, Path)) else images)
    if path is not None and path.suffix == ".toml":
        path, said = None, path
    return read_arrays(path, said, layer)
