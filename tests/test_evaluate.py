"""Both networks' accuracy, and the comparison with what an independent program computed."""

import zipfile
from pathlib import Path

import numpy as np
import pytest
from helpers_network import odd_network, random_pixels, trained_network

from factory.checkpoint import load_weights
from factory.engine import prepare
from factory.evaluate import _read_reference, compare_with_reference, evaluate, first_differences
from factory.lower import lower
from factory.model import from_trained
from factory.spec import InputError

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def labelled(reference, tmp_path_factory):
    with np.load(reference / "reference_w4a4.npz") as file:
        arrays = {name: file[name] for name in ("pixels", "labels", "logits")}
    path = tmp_path_factory.mktemp("labelled") / "images.npz"
    np.savez(path, **{name: arrays[name] for name in ("pixels", "labels")})
    return path, int((arrays["logits"].argmax(axis=1) == arrays["labels"]).sum())


@pytest.mark.reference
def test_both_networks_predict_what_torch_predicts(labelled):
    path, correct = labelled
    result = evaluate(path)
    assert (result.total, result.float_correct, result.integer_correct, result.differing) == (8, correct, correct, 0)


@pytest.mark.reference
@pytest.mark.slow
def test_the_reference_is_met_within_the_counts_that_rounding_explains(reference):
    result = compare_with_reference(reference / "reference_w4a4.npz")
    assert len(result.layers) == 13 and result.images == 8
    assert [(x.weights_differ, x.accumulators_differ) for x in result.layers] == [(0, 0)] * 13
    assert sum(x.fed_differ for x in result.layers) <= sum(x.fed_codes for x in result.layers) / 100_000
    assert max(x.fed_distance for x in result.layers) < 1e-4
    assert result.layers[0].end_to_end_differ == 0
    assert (result.float_predictions_differ, result.integer_predictions_differ) == (0, 0)
    assert result.logits_distance < 0.2


def test_the_first_codes_that_differ_are_found():
    """The float network's first layer has other signs, so that the codes that enter the second differ in all images."""
    trained, pixels = trained_network(odd_network()), random_pixels(odd_network(), 3)
    floating, integer = from_trained(trained), prepare(lower(trained))
    before = first_differences(trained, floating, integer, pixels)
    assert sum(first.images for first in before) == 3 and before[-1].layer == "classifier"
    assert max(first.distance for first in before) < 1e-5
    second = trained.network.layers[1]
    weight = floating.layers[trained.network.layers[0].name].conv.weight
    weight[...] = -weight[...]
    (found,) = first_differences(trained, floating, integer, pixels)
    assert (found.layer, found.images) == (second.name, 3) and 0 < found.distance <= 0.5


@pytest.mark.reference
def test_where_predictions_come_to_differ_is_found(labelled, monkeypatch):
    """The float network's first layer has other signs here, so that what enters the second differs in every image."""

    def other(trained):
        floating = from_trained(trained)
        weight = floating.layers["features.0"].conv.weight
        weight[...] = -weight[...]
        return floating

    monkeypatch.setattr("factory.evaluate.model.from_trained", other)
    result = evaluate(labelled[0])
    assert result.differing > 0
    assert [(first.layer, first.images) for first in result.first_differences] == [("features.3", result.differing)]


@pytest.mark.cifar
@pytest.mark.parametrize(
    "weights",
    [
        "vgg16_w4a4.safetensors", "vgg16_w4a4_finetuned.safetensors", "vgg16_w4a2.safetensors",
        "resnet20_w4a4.safetensors",
    ],
)  # fmt: skip
def test_the_shipped_networks_predict_the_same_as_their_integers(cifar, weights):
    result = evaluate(cifar, ROOT / "weights" / weights, pick="0:64")
    assert (result.differing, result.first_differences) == (0, ())
    assert result.integer_correct > 32


def test_images_without_labels_cannot_be_judged():
    with pytest.raises(InputError) as error:
        evaluate("samples", pick="0")
    assert str(error.value) == "samples: every image must have a label to count what is predicted right"


TRAINED = load_weights(None)
LAYERS = TRAINED.network.layers


def write_reference(path, images=2, save=np.savez, **other):
    """Write a reference of zeros of all the right forms, but for the arrays of `other` (None: left out)."""
    arrays = dict(pixels=np.zeros((images, 3, 32, 32), np.uint8), logits=np.zeros((images, 10), np.float32))
    for spec in LAYERS:
        arrays[f"{spec.name}.weight_code"] = np.zeros(spec.weight_shape, np.int8)
        shape = (images, spec.in_channels, spec.height, spec.width)
        arrays[f"{spec.name}.activation_code"] = np.zeros(shape, np.int8)
        shape = (images, spec.out_channels, spec.out_height, spec.out_width)
        arrays[f"{spec.name}.accumulator"] = np.zeros(shape, np.int32)
    save(path, **{name: array for name, array in (arrays | other).items() if array is not None})
    return path


def refused(path) -> str:
    with pytest.raises(InputError) as error:
        compare_with_reference(path)
    address = f"{path}: "
    assert str(error.value).startswith(address)
    return str(error.value).removeprefix(address)


NPY = b"\x93NUMPY\x01\x00v\x00{'descr': '|u1', 'fortran_order': False, 'shape': (1,), }".ljust(127) + b"\n\x00"
NONE = "must be a readable .npz of reference codes: "


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: None, NONE + "No such file or directory"),
        (lambda path: path.mkdir(), NONE + "Is a directory"),
        (lambda path: path.write_bytes(b""), NONE + "File is not a zip file"),
        (lambda path: path.write_text("not an archive"), NONE + "File is not a zip file"),
        (lambda path: path.write_bytes(NPY), NONE + "File is not a zip file"),
        (lambda path: np.savez(path, a=np.zeros(3)), "must hold the array pixels, it does not"),
    ],
    ids=["missing", "folder", "empty", "text", "npy", "other"],
)
def test_a_file_that_is_no_reference_is_refused(tmp_path, make, message):
    make(tmp_path / "r.npz")
    assert refused(tmp_path / "r.npz") == message


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        (dict(logits=None), "must hold the array logits, it does not"),
        (dict(logits=np.zeros((2, 9), np.float32)), "logits must be floats (2, 10), not float32 (2, 9)"),
        (dict(logits=np.zeros((2, 10), np.int8)), "logits must be floats (2, 10), not int8 (2, 10)"),
        (dict(logits=np.full((2, 10), np.nan)), "logits must be finite, not nan"),
        (dict(pixels=np.array(3)), "pixels must be integers (1, 3, 32, 32), not int64 ()"),
        (dict(pixels=np.full((2, 3, 32, 32), "a")), "pixels must be integers (2, 3, 32, 32), not <U1 (2, 3, 32, 32)"),
        (dict(pixels=np.zeros((2, 3, 32, 32))), "pixels must be integers (2, 3, 32, 32), not float64 (2, 3, 32, 32)"),
        (dict(pixels=np.full((2, 3, 32, 32), 256)), "pixels must be 0 to 255, not 256"),
        (dict(images=0), "pixels must hold at least one image, it is empty"),
    ],
)
def test_arrays_of_another_form_are_refused(tmp_path, arrays, message):
    assert refused(write_reference(tmp_path / "r.npz", **arrays)) == message


@pytest.mark.parametrize("kind", ["weight_code", "activation_code", "accumulator"])
@pytest.mark.parametrize("dtype", ["U3", "float32", "bool", "object"])
def test_codes_that_are_no_integers_are_refused(tmp_path, kind, dtype):
    name, spec = f"{LAYERS[1].name}.{kind}", LAYERS[1]
    shape = spec.weight_shape if kind == "weight_code" else (2, 64, 32, 32)
    path = write_reference(tmp_path / "r.npz", **{name: np.zeros(shape, dtype)})
    assert refused(path) == f"{name} must be integers {shape}, not {np.dtype(dtype)} {shape}"


@pytest.mark.parametrize(
    ("save", "reason"),
    [
        (np.savez, "Bad CRC-32 for file '{}.npy'"),
        (np.savez_compressed, "Error -3 while decompressing data: invalid block type"),
    ],
)
def test_a_damaged_member_is_refused(tmp_path, save, reason):
    path, name = write_reference(tmp_path / "r.npz", save=save), f"{LAYERS[0].name}.accumulator"
    with zipfile.ZipFile(path) as archive, archive.open(f"{name}.npy"):
        start = archive.fp.tell()
    whole, stored = bytearray(path.read_bytes()), save is np.savez
    at = start + (10_000 if stored else 0)
    whole[at] = whole[at] ^ 1 if stored else 0xFF  # a deflated block of the kind 3, which there is not
    path.write_bytes(whole)
    expected = f"{name} must be a whole array: " if stored else NONE
    assert refused(path) == expected + reason.format(name)


def test_a_reference_may_have_other_integers_and_orders(tmp_path):
    random, shape = np.random.default_rng(0), (2, 64, 32, 32)
    name, codes = f"{LAYERS[1].name}.activation_code", random.integers(0, 16, shape)
    for array in (codes, codes.astype(">i2"), np.asfortranarray(codes.astype(np.uint8))):
        path = write_reference(tmp_path / "r.npz", pixels=np.zeros((2, 3, 32, 32), np.int64), **{name: array})
        found = _read_reference(path, TRAINED)
        np.testing.assert_array_equal(found[name], codes)
        assert found[name].dtype.isnative and found["pixels"].dtype == np.uint8
