"""A store of codes alone: what is computed from them is what a whole store holds, slice by slice and bit for bit."""

import subprocess
import sys

import numpy as np
import pytest
from helpers_network import odd_network, random_pixels, trained_network
from hypothesis import given, settings
from hypothesis import strategies as st

from factory.audit import audit
from factory.build import build
from factory.export import export
from factory.spec import InputError, SystolicArray
from factory.store import lazy, open_store
from factory.store.lazy import LazyArray
from factory.verify import verify_store

COMPUTED = ("psum", "accumulator", "activation_tile")


@pytest.fixture(scope="module")
def stores(tmp_path_factory):
    folder, network = tmp_path_factory.mktemp("lazy"), odd_network()
    np.save(folder / "odd.npy", random_pixels(network, 3).transpose(0, 2, 3, 1))
    given = dict(weights=trained_network(network), images=folder / "odd.npy", pick="all", array=SystolicArray(3, 5))
    build(folder / "codes.h5", keep="codes", **given)
    build(folder / "psums.h5", keep="psums", **given)
    return folder


@pytest.mark.parametrize("engine_bytes", [0, 1 << 40], ids=["engine", "numpy"])
def test_computed_arrays_are_the_stored_ones(stores, monkeypatch, engine_bytes):
    monkeypatch.setattr(lazy, "ENGINE_BYTES", engine_bytes)
    slices = [
        np.s_[...],
        np.s_[1],
        np.s_[:, 0],
        np.s_[2, 0, -1:],
        np.s_[::2, ..., 1],
        np.s_[[2, 0]],
        np.s_[-1, ..., 1:3],
    ]
    with open_store(stores / "codes.h5") as codes, open_store(stores / "psums.h5") as whole:
        assert (codes.keep, whole.keep) == ("codes", "psums")
        for name, layer in codes.layers.items():
            for variable in COMPUTED:
                computed, stored = getattr(layer, variable), getattr(whole.layer(name), variable)
                assert (computed.shape, computed.dtype) == (stored.shape, stored.dtype)
                for index in slices:
                    np.testing.assert_array_equal(
                        computed[index], stored[...][index], err_msg=f"{name} {variable} {index}"
                    )


def test_a_store_of_codes_goes_everywhere(stores, tmp_path):
    with open_store(stores / "codes.h5") as codes, open_store(stores / "psums.h5") as whole:
        assert audit(codes) == audit(whole)
        for name, store in (("a", codes), ("b", whole)):
            export(
                store,
                tmp_path / name,
                layers="all",
                images="all",
                pe_activation="signed",
                include="activation,weight,out,psum,accumulator",
            )
        packs = [(tmp_path / name / "manifest.json").read_text() for name in "ab"]
        assert packs[0].replace("codes.h5", "psums.h5") == packs[1]
    found, expected = (verify_store(stores / name, "all", recovered=False) for name in ("codes.h5", "psums.h5"))
    assert found.compared == expected.compared


def test_the_file_has_codes_only(stores):
    assert (stores / "codes.h5").stat().st_size < (stores / "psums.h5").stat().st_size / 2
    with open_store(stores / "codes.h5") as store:
        layer = store.file["layers/features.0"]
        assert "activation" in layer and not set(layer) & {"psum", "conv", "activation_tile"}


def test_xarray_has_the_computed_variables(stores):
    with open_store(stores / "codes.h5") as codes, open_store(stores / "psums.h5") as whole:
        for name in codes.layers:
            lazies, stored = (store.to_xarray()[f"layers/{name}"] for store in (codes, whole))
            for variable in ("psum", "conv", "activation_tile"):
                assert lazies[variable].dims == stored[variable].dims
                part = dict(image=[0, 2])
                np.testing.assert_array_equal(lazies[variable].isel(part).values, stored[variable].isel(part).values)
            lazies.root.close(), stored.root.close()


def test_small_slices_need_no_jax(stores):
    code = (
        "import sys, factory; layer = factory.open_store(sys.argv[1]).layer('features.0')\n"
        "layer.psum[0], layer.accumulator[0], layer.activation_tile[0]; assert 'jax' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code, stores / "codes.h5"], check=True)


ARRAY = np.arange(2 * 3 * 4 * 5).reshape(2, 3, 4, 5)


def _copy(places, out):
    out[...] = ARRAY[np.ix_(*places)]


@st.composite
def indices(draw):
    listed, items = False, []
    for size in ARRAY.shape[: draw(st.integers(0, 4))]:
        kinds = ["slice", "int"] + ([] if listed else ["list", "mask"])
        kind = draw(st.sampled_from(kinds))
        if kind == "int":
            items.append(draw(st.integers(-size, size - 1)))
        elif kind == "slice":
            end = st.none() | st.integers(-size - 1, size + 1)
            items.append(slice(draw(end), draw(end), draw(st.sampled_from([None, 1, 2, -1]))))
        else:
            listed = True
            items.append(draw(st.lists(st.integers(0, size - 1), min_size=1)))
            if kind == "mask":
                items[-1] = np.isin(np.arange(size), items[-1])
    if draw(st.booleans()):
        items.insert(draw(st.integers(0, len(items))), Ellipsis)
        if items[-1] is not Ellipsis:
            items = [item for item in items if item is not Ellipsis]
    return tuple(items)


@settings(max_examples=100)
@given(index=indices(), selected=st.integers(1, 4))
def test_an_index_is_numpys(index, selected):
    found = LazyArray(ARRAY.shape, ARRAY.dtype, selected, _copy)[index]
    expected = ARRAY
    for axis, item in reversed(list(enumerate(item for item in index if item is not Ellipsis))):
        expected = expected[(slice(None),) * axis + (item,)]
    np.testing.assert_array_equal(found, expected)


def test_an_array_that_is_computed_is_an_array():
    array = LazyArray(ARRAY.shape, ARRAY.dtype, 2, _copy)
    assert (array.ndim, array.size, array.nbytes, len(array)) == (4, ARRAY.size, ARRAY.nbytes, 2)
    assert array.chunks == ARRAY.shape
    np.testing.assert_array_equal(np.asarray(array), ARRAY)
    assert np.asarray(array, np.int16).dtype == np.int16
    for wrong in (np.s_[0, 0, 0, 0, 0], np.s_[..., 0, ...], np.s_[None], ([0], [1])):
        with pytest.raises(IndexError):
            array[wrong]
    with pytest.raises(IndexError):
        array[2]


def test_keep_is_one_of_two(tmp_path):
    with pytest.raises(InputError, match="^keep must be one of psums codes, not both$"):
        build(tmp_path / "s.h5", trained_network(odd_network()), keep="both")
