"""Open datasets: every image's values as one store of all images has them, never a zero for what is missing."""

import resource
import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import factory
from factory.dataset import build_shard
from factory.dataset.planning import PlanOptions, plan_dataset
from factory.dataset.seal import seal_dataset
from factory.spec import InputError
from factory.store import open_store

ARRAYS = ("weight", "weight_tile", "activation", "activation_tile", "psum", "accumulator")


def random_dataset(folder: Path, seed: int = 7) -> Path:
    """Make a dataset of 8 random images of 2 small ragged layers, in 3 shards of 3, 3 and 2."""
    options = PlanOptions(random=seed, count=4, rows=3, cols=4, shard_images=3)
    for shard in plan_dataset(folder, options).shards:
        build_shard(folder, shard.number)
    seal_dataset(folder)
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return random_dataset(tmp_path_factory.mktemp("dataset") / "d")


@pytest.fixture(scope="module")
def dataset(folder):
    with factory.open_dataset(folder) as opened:
        yield opened


@pytest.fixture(scope="module")
def whole(folder):
    """The store that the shards were cut from."""
    with open_store(folder / "sources/0.h5") as store:
        yield store


def test_a_layer_is_that_of_one_store_of_all_images(dataset, whole):
    assert [shard.count for shard in dataset.record.plan.shards] == [3, 3, 2]
    assert dataset.network == whole.network and dataset.image_count == whole.image_count == 8
    assert np.array_equal(dataset.images.label[...], whole.images.label[...])
    assert dataset.images.origin == whole.images.origin and dataset.images.patterns == whole.images.patterns
    for name, layer in whole.layers.items():
        ours = dataset.layer(name)
        for array in ARRAYS:
            mine, right = getattr(ours, array), getattr(layer, array)
            assert (mine.shape, mine.dtype) == (right.shape, right.dtype)
            assert np.array_equal(mine[...], right[...])


@settings(max_examples=30)
@given(st.data())
def test_any_slice_over_shards_is_that_of_the_whole(dataset, whole, data):
    name = data.draw(st.sampled_from(sorted(whole.layers)))
    array = data.draw(st.sampled_from(ARRAYS[2:]))
    mine, right = getattr(dataset.layer(name), array), getattr(whole.layer(name), array)
    place = st.integers(0, 7)
    image = data.draw(st.one_of(place, st.slices(8), st.lists(place, min_size=1, max_size=5)))
    rest = tuple(data.draw(st.one_of(st.integers(0, size - 1), st.slices(size))) for size in right.shape[1:])
    assert np.array_equal(mine[(image, *rest)], right[...][(image, *rest)])


def test_the_tree_has_the_names_and_values_of_a_store(dataset, whole):
    tree = dataset.to_xarray()
    for name, layer in whole.layers.items():
        group = tree[f"layers/{name}"]
        assert group.psum.dims == ("image", "it", "ot", "kij", "nij", "col")
        assert group.image.values.tolist() == list(range(8))
        assert np.array_equal(group.psum.sel(image=[6, 1]).values, layer.psum[...][[6, 1]])
        assert np.array_equal(group.conv.chunk(image=2).max("image").values, layer.accumulator[...].max(axis=0))
        assert np.array_equal(group.weight.values, layer.weight[...])
    assert np.array_equal(tree["images"].label.values, whole.images.label[...])


def test_only_the_shards_that_were_used_last_are_open(folder, monkeypatch):
    monkeypatch.setattr(resource, "getrlimit", lambda which: (9, 9))
    with factory.open_dataset(folder) as opened:
        assert opened.shards.most == 2
        activation = opened.layer("uniform").activation
        for image in (0, 3, 0, 7):
            activation[image]
        assert list(opened.shards._open) == [0, 2]
        assert activation[...].shape[0] == 8 and len(opened.shards._open) == 2
    assert not opened.shards._open
    with pytest.raises(InputError, match=f"^{folder}: must be open to be read, it is closed$"):
        activation[0]


def test_an_export_takes_images_by_their_global_places(dataset, whole, tmp_path):
    given = dict(layers="uniform", images="2,5:7", include="activation,weight,out,psum")
    ours = factory.export_vectors(dataset, tmp_path / "ours", **given)
    theirs = factory.export_vectors(whole, tmp_path / "theirs", **given)
    assert ours.files == theirs.files > 10
    for path in sorted((tmp_path / "ours").rglob("*.txt")):
        assert path.read_bytes() == (tmp_path / "theirs" / path.relative_to(tmp_path / "ours")).read_bytes()


@pytest.fixture
def copied(folder, tmp_path) -> Path:
    return Path(shutil.copytree(folder, tmp_path / "copy"))


def test_what_is_missing_or_short_is_said_when_the_dataset_is_opened(copied):
    shard = copied / "shards/00001.h5"
    shard.write_bytes(shard.read_bytes()[:-1])
    with pytest.raises(InputError, match=r"shards/00001.h5 must have \d+ bytes, it has \d+; .*: 1$"):
        factory.open_dataset(copied)
    shard.unlink()
    with pytest.raises(InputError, match=r"shards/00001.h5 must be there: No such file or directory; .*: 1$"):
        factory.open_dataset(copied)


def test_a_shard_that_goes_later_or_is_another_is_an_error_and_never_a_zero(copied):
    with factory.open_dataset(copied) as opened:
        psum = opened.layer("uniform").psum
        shutil.copy(copied / "shards/00000.h5", copied / "shards/00001.h5")
        with pytest.raises(InputError, match=r"00001.h5: must be shard 1 of the dataset's plan, it is another's$"):
            psum[4]
        (copied / "shards/00001.h5").unlink()
        with pytest.raises(InputError, match=r"00001.h5: must be a store, there is no such file$"):
            psum[4]
        assert psum[7].any()


def test_what_is_no_dataset_is_said_to_be_none(folder, tmp_path):
    with pytest.raises(InputError, match=f"^{tmp_path}/dataset.json: must be there: factory dataset build writes it$"):
        factory.open_dataset(tmp_path)
    with (
        factory.open_dataset(folder) as opened,
        pytest.raises(InputError, match=f"^{folder}: layer must be one of uniform sparse, not conv1$"),
    ):
        opened.layer("conv1")


def test_a_seal_of_virtual_datasets_is_read_by_h5py_alone(dataset, folder):
    with h5py.File(folder / "dataset.h5") as file:
        assert np.array_equal(file["layers/uniform/activation"][4], dataset.layer("uniform").activation[4])
