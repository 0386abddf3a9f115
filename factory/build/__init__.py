"""The build: from weights and images to a finished store, whatever the number of images, in bounded memory."""

from __future__ import annotations

import os
from pathlib import Path

from factory.build.sources import open_pictures
from factory.spec import InputError, Progress, SystolicArray, TrainedNetwork
from factory.store import create_store, plan_store

_DEFAULT = "default.h5"


def default_store() -> Path:
    """Return the path of the store that commands use when none is named; neither it nor its folder need be there.

    It lies in FACTORY_HOME, in the checkout's `datasets/`, or in the user's cache directory.
    """
    if home := os.environ.get("FACTORY_HOME"):
        return Path(home) / _DEFAULT
    checkout = Path(__file__).parents[2]
    if (checkout / "pyproject.toml").is_file() and (checkout / "datasets").is_dir():
        return checkout / "datasets" / _DEFAULT
    from platformdirs import user_cache_path

    return user_cache_path("factory") / _DEFAULT


def new_store(path: str | Path, force: bool) -> Path:
    """Return the path of a store to write; raise InputError where there is a file already and `force` is not set."""
    path = Path(path)
    if path.exists() and not force:
        raise InputError(f"{path}: must be a new file, this one is there already (--force replaces a store)")
    return path


def build(
    output: str | Path | None = None,
    weights: str | Path | TrainedNetwork | None = None,
    images: str | Path = "samples",
    split: str = "test",
    pick: str | None = None,
    layers: str = "all",
    array: SystolicArray | None = None,
    compression: str | None = None,
    keep: str = "psums",
    force: bool = False,
    batch: int | None = None,
    progress: Progress | None = None,
) -> Path:
    """Compute all codes, psums and accumulators of the chosen images and layers, and write them to a store.

    `output`: the file, by default `default_store()`, whose folder is made where it is missing. `weights`: a weights
    file, a trained network, or by default the shipped one. `images`, `split` and `pick`: as `load_images` takes them,
    except that the first image alone is picked by default. `layers`: `all`, `squeezed`, or names with commas; what no
    chosen layer depends on is not computed. `array`: by default 8 x 8. `compression`: None, `gzip`, `lz4` or `zstd`.
    `keep`: `psums`, or `codes` from which a reader computes the rest, in a 200th of the space.
    `batch`: images computed at once, by default as many as fit 128 MiB; the result does not depend on
    it. `progress` is called with `(bytes done, bytes in all, what)`.

    A build that was killed goes on where it stopped when it is called again with the same parameters. Return the
    store's path. Raise InputError where a parameter is not what it must be, or the store cannot be written, or is there
    already and `force` is not set.
    """
    path, array = new_store(output or default_store(), force), array or SystolicArray()
    if batch is not None and batch < 1:
        raise InputError(f"batch must be at least 1, not {batch}")
    source = open_pictures(weights, images, split, "0" if pick is None else pick, layers, array)
    described = source.images(0, source.count)
    plan = plan_store(source.origin, source.planned, array, described, compression, keep)
    if path == default_store():
        path.parent.mkdir(parents=True, exist_ok=True)
    with create_store(path, plan) as writer:
        source.fill(writer, plan, 0, batch, progress)
    return path
