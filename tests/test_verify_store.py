"""Verification of stores: a true one passes, every kind of damage is found, and nothing compared is a failure."""

import shutil

import h5py
import pytest
from helpers_network import odd_network, trained_network
from helpers_verify import add_one, build_small

from factory.checkpoint import load_weights, save_weights
from factory.spec import ComparisonError, InputError
from factory.store import open_store
from factory.verify import verify_store
from factory.verify.stored import choose, recover_layers

NETWORK = odd_network()
FIRST, SECOND, THIRD, *_, LAST = (conv.name for conv in NETWORK.layers)
TAKEN = "pixels and labels, which are taken as given"


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return build_small(tmp_path_factory.mktemp("whole"), NETWORK)


@pytest.fixture(scope="module")
def partial(tmp_path_factory):
    return build_small(tmp_path_factory.mktemp("partial"), NETWORK, layers=THIRD)


@pytest.fixture
def damaged(whole, tmp_path):
    return shutil.copy(whole.store, tmp_path / "damaged.h5")


def ndim(path, dataset):
    with h5py.File(path) as file:
        return file[dataset].ndim


def test_every_value_of_a_true_store_is_compared(whole):
    report = verify_store(whole.store, "all", whole.weights)
    with h5py.File(whole.store) as file:
        groups = [file["layers"][name] for name in file["layers"]]
        for name in ("weight", "activation_low", "activation_high", "row_count", "col_count"):
            assert report.counts[name] == sum(group[name].size for group in groups)
        for name in ("activation", "activation_tile", "psum", "conv"):
            assert report.counts[name] == sum(group[name].size for group in groups), name
        weight_tiles = sum(group["weight_tile"].size for group in groups)
    assert report.counts["weight_tile"] == 2 * weight_tiles  # once for each image
    assert report.counts["threshold"] > 0 and report.compared == sum(report.counts.values())
    assert report.unchecked == (TAKEN,) and report.recovered == ()


def test_a_sample_compares_less_and_reports_its_progress(whole):
    calls = []
    report = verify_store(whole.store, 3, whole.weights, progress=lambda *call: calls.append(call))
    assert 0 < report.counts["psum"] < verify_store(whole.store, "all", whole.weights).counts["psum"]
    assert [call[0] for call in calls][-1] == 3 and {call[1] for call in calls} == {3}
    assert {call[2] for call in calls} <= {conv.name for conv in NETWORK.layers}


@pytest.mark.parametrize(
    "dataset",
    [
        "activation", "activation_tile", "psum", "conv", "weight", "weight_tile", "threshold", "direction",
        "activation_low", "activation_high", "row_count", "col_count",
    ],
)  # fmt: skip
@pytest.mark.parametrize("layer", [FIRST, THIRD])
@pytest.mark.parametrize("end", [0, -1])
def test_one_changed_value_anywhere_is_found(whole, damaged, layer, dataset, end):
    name = f"layers/{layer}/{dataset}"
    add_one(damaged, name, (end,) * ndim(damaged, name))
    with pytest.raises(ComparisonError, match=rf"damaged\.h5: {layer}[:,]"):
        verify_store(damaged, "all", whole.weights)


@pytest.mark.parametrize("dataset", ["activation", "activation_tile", "psum", "conv", "threshold", "weight_tile"])
def test_one_changed_value_is_found_without_weights(partial, tmp_path, dataset):
    """Activations of a layer alone cannot follow from pixels without weights; all else can be checked."""
    path = shutil.copy(partial.store, tmp_path / "other.h5")
    with h5py.File(path, "r+") as file:
        file.attrs["weights_sha256"] = "unknown"
    report = verify_store(path, "all")
    assert report.unchecked == (
        TAKEN,
        "weights and thresholds, because weights of sha256 unknown are not at hand",
        f"activation codes of {THIRD}, because {SECOND} is not in the store",
    )
    name = f"layers/{THIRD}/{dataset}"
    add_one(path, name, (0,) * ndim(path, name))
    if dataset == "threshold":
        assert verify_store(path, "all").counts == report.counts
    else:
        with pytest.raises(ComparisonError):
            verify_store(path, "all")


def test_a_changed_pixel_is_found_in_a_store_of_one_later_layer(partial, tmp_path):
    path = shutil.copy(partial.store, tmp_path / "other.h5")
    assert verify_store(path, "all", partial.weights).unchecked == (TAKEN,)
    with h5py.File(path, "r+") as file:
        file["images/pixels"][1] = 255 - file["images/pixels"][1]
    with pytest.raises(ComparisonError, match=rf"{THIRD}, image 1, ic \d+, y \d+, x \d+: activation must be"):
        verify_store(path, "all", partial.weights)


def test_a_consistent_forgery_is_found_by_the_weights(whole, damaged):
    """A psum and all that follows from it, changed together with the weight that makes it."""
    with h5py.File(damaged, "r+") as file:
        group = file[f"layers/{LAST}"]
        for name in ("weight", "weight_tile", "psum", "conv"):
            group[name][...] = 0
    assert verify_store(damaged, "all").counts["psum"]
    with pytest.raises(ComparisonError, match=rf"{LAST}, oc 0, ic 0, ki 0, kj 0: weight must be "):
        verify_store(damaged, "all", whole.weights)


def test_a_changed_alpha_is_found(whole, damaged):
    with h5py.File(damaged, "r+") as file:
        file[f"layers/{SECOND}"].attrs["alpha_a"] = 1.5
    with pytest.raises(ComparisonError, match=rf"{SECOND}: alpha_a must be [\d.]+, not 1.5"):
        verify_store(damaged, "all", whole.weights)


def test_the_first_mismatch_has_its_address(whole, damaged):
    before, after = add_one(damaged, f"layers/{SECOND}/psum", (1, 2, 0, 4, 7, 3))
    with pytest.raises(ComparisonError) as error:
        verify_store(damaged, "all", whole.weights)
    assert str(error.value) == (
        f"{damaged}: {SECOND}, image 1, it 2, ot 0, kij 4, nij 7, col 3: psum must be {before}, not {after} "
        f"({1} of {25 * 99 * 8} values here differ)"
    )


@pytest.mark.parametrize("sample", ["0", "0%", 0])
def test_comparing_nothing_is_a_failure(whole, sample):
    with pytest.raises(ComparisonError) as error:
        verify_store(whole.store, sample, whole.weights)
    assert str(error.value) == f"{whole.store}: nothing was compared"


@pytest.mark.parametrize("sample", ["9" * 5000, "9" * 5000 + "%"])
def test_a_sample_of_thousands_of_digits_is_refused(whole, sample):
    with pytest.raises(InputError) as error:
        verify_store(whole.store, sample, whole.weights)
    assert str(error.value) == (
        f"sample must be all, a percentage from 0% to 100%, or a number of output tiles, not {'9' * 40}..."
    )


def test_other_weights_are_an_error(whole, tmp_path):
    other = tmp_path / "other.safetensors"
    save_weights(trained_network(NETWORK, seed=1), other)
    with pytest.raises(
        InputError, match=r"other\.safetensors: weights must have the store's sha256 \w{64}, not \w{64}$"
    ):
        verify_store(whole.store, "all", other)
    with pytest.raises(InputError, match=r"store\.h5: recovered outputs need the weights with sha256 \w{64}$"):
        verify_store(whole.store, "all", recovered=True)


def test_recovered_outputs_are_the_float_models(whole):
    report = verify_store(whole.store, "all", whole.weights, recovered=True)
    assert [item.layer for item in report.recovered] == [conv.name for conv in NETWORK.layers]
    for item, conv in zip(report.recovered, NETWORK.layers, strict=True):
        assert item.values == 2 * conv.out_channels * conv.onij_count
        assert 0 <= item.mean_error <= item.max_error < 1e-5 and item.largest > 0
    assert str(report.recovered[0]).startswith(f"{FIRST}: {report.recovered[0].values} recovered outputs are at most ")


def test_the_report_is_printed_whole(partial):
    report = verify_store(partial.store, "all", partial.weights)
    first, second = str(report).splitlines()
    assert first.startswith(
        f"{partial.store}: {report.compared} values are equal: activation_low 6, activation_high 6, "
    )
    assert second == f"not checked: {TAKEN}"


def test_recovered_outputs_that_are_not_the_float_models_are_a_failure(whole, damaged):
    with h5py.File(damaged, "r+") as file:
        file[f"layers/{SECOND}/conv"][1] += 1
    trained = load_weights(whole.weights)
    with open_store(damaged) as store:
        chosen = choose("all", store.image_count, dict.fromkeys(store.layers, 1))
        with pytest.raises(ComparisonError, match=rf"^{damaged}: {SECOND}: recovered outputs must be within 1e-05 of "):
            recover_layers(store, trained, chosen)
