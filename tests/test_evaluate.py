"""Both networks' accuracy, and the comparison with what an independent program computed."""

import numpy as np
import pytest

from factory.evaluate import compare_with_reference, evaluate
from factory.spec import InputError


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


def test_images_without_labels_cannot_be_judged():
    with pytest.raises(InputError) as error:
        evaluate("samples", pick="0")
    assert str(error.value) == "samples: every image must have a label to count what is predicted right"


def test_a_reference_that_is_none_is_refused(tmp_path):
    path = tmp_path / "r.npz"
    path.write_text("not an archive")
    with pytest.raises(InputError) as error:
        compare_with_reference(path)
    assert str(error.value) == f"{path}: must be a readable .npz of reference codes"
    np.savez(path, pixels=np.zeros((2, 3, 32, 32), np.uint8), logits=np.zeros((2, 9), np.float32))
    with pytest.raises(InputError) as error:
        compare_with_reference(path)
    assert str(error.value) == f"{path}: logits must be (2, 10), not (2, 9)"
