"""The worked analyses of `scripts/`: what each answers is what a whole store of the same images holds."""

import subprocess
import sys
from pathlib import Path

import analyse_dataset
import numpy as np
import pytest
from test_dataset_reading import random_dataset

import factory
from factory.store import open_store


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    with factory.open_dataset(random_dataset(tmp_path_factory.mktemp("analysis") / "d")) as opened:
        yield opened


@pytest.fixture(scope="module")
def layer(dataset):
    with open_store(dataset.path / "sources/0.h5") as store:
        yield store.layer("uniform")


def test_the_histogram_of_accumulators(dataset, layer):
    counts = analyse_dataset.accumulator_histogram(dataset, "uniform", slice(1, 7))
    values, right = np.unique(layer.accumulator[...][1:7], return_counts=True)
    assert counts.index.tolist() == values.tolist() and counts.tolist() == right.tolist()


def test_the_image_with_the_largest_psum(dataset, layer):
    psum = layer.psum[...]
    assert analyse_dataset.image_with_largest_psum(dataset, "uniform") == (
        np.unravel_index(psum.argmax(), psum.shape)[0],
        psum.max(),
    )


def test_sparsity_by_tile(dataset, layer):
    shares = analyse_dataset.sparsity_by_tile(dataset, "uniform")
    codes = layer.activation[...]
    assert shares.tolist() == pytest.approx([(codes[:, :3] == 0).mean(), (codes[:, 3:] == 0).mean()])


def test_the_tiles_in_which_an_adder_overflows(dataset, layer):
    tiles = analyse_dataset.overflowing_tiles(dataset, "uniform", 10)
    pixels = layer.spec.padded_width * np.arange(3)[:, None] + np.arange(4)
    shifted = [
        layer.psum[...][:, :, :, 3 * ki + kj][..., pixels + 6 * ki + kj, :] for ki in range(3) for kj in range(3)
    ]
    passes = np.stack(shifted, axis=2).swapaxes(2, 3)  # (image, it, ot, kij, y, x, col)
    within = passes.cumsum(axis=3, dtype=int)
    within[:, 1:] += within[:, :1, :, -1:]  # what the `it` before has left
    over = ((within < -512) | (within > 511)).any(axis=(3, 4, 5, 6))  # 3 products of -105 to 105 fit
    assert 0 < len(tiles) < over.size
    assert tiles[["image", "it", "ot"]].to_numpy().tolist() == np.argwhere(over).tolist()


def test_one_tile_as_a_frame(dataset, layer):
    frame = analyse_dataset.tile_frame(dataset, "uniform", 5, 1, 0)
    assert frame.index.names == ["kij", "nij"] and frame.columns.name == "col"
    assert np.array_equal(frame.loc[4].to_numpy(), layer.psum[5, 1, 0, 4])


def test_all_of_it_runs(dataset):
    script = Path(analyse_dataset.__file__)
    command = [sys.executable, script, dataset.path, "--layer", "uniform", "--bits", "9"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "tiles in which an adder of 9 bits overflows: " in done.stdout and not done.stderr
