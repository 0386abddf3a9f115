"""Training: each piece by its formula, a toy set that is learnt, and runs that are killed and go on."""

import dataclasses
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from helpers_network import random_pixels, tiny_network, trained_network

from factory.checkpoint import load_weights, save_weights
from factory.model import create_model, from_trained, predict, to_tensors
from factory.spec import NAMED, InputError, load_network
from factory.train import (
    Checkpoints,
    EpochResult,
    StepResult,
    Totals,
    TrainConfig,
    Transfer,
    augment,
    epoch_order,
    eval_step,
    fit,
    learning_rate,
    loop,
    loss_fn,
    make_optimizer,
    train_step,
)

TRAIN_IMAGES, TEST_IMAGES = 320, 90
NETWORK = """
name = "toy"
classes = 2
widths = [{channels = 6, stride = 2}, "M", 8, "M", {channels = 8, batch_norm = false}]
"""


def stripes(count: int, seed: int) -> bytes:
    """Return CIFAR-10 records of two classes, striped along y or along x, in noise and random contrast."""
    random = np.random.default_rng(seed)
    label = random.integers(0, 2, count)
    wave = 60 * np.sign(np.sin(np.arange(32) * np.pi / 3))
    stripe = np.stack([np.broadcast_to(wave[:, None], (32, 32)), np.broadcast_to(wave, (32, 32))])
    contrast = random.uniform(0.3, 1, (count, 3, 1, 1))
    pixels = 128 + contrast * stripe[label][:, None] + random.normal(0, 15, (count, 3, 32, 32))
    records = np.concatenate([label[:, None], pixels.clip(0, 255).reshape(count, -1)], axis=1)
    return records.astype(np.uint8).tobytes()


@pytest.fixture(scope="session")
def toy(tmp_path_factory) -> TrainConfig:
    """Return the configuration of a short run on a two-class set in CIFAR-10's files.

    The rate is a tenth of what the set can bear: at 0.03 the loss begins at 14 to 46, and the rounding of the machine's
    sums decides whether 30 steps bring it back. At 0.003 each of 16 seeds learnt the set within two epochs.
    """
    folder = tmp_path_factory.mktemp("toy")
    for part in range(1, 6):
        (folder / f"data_batch_{part}.bin").write_bytes(stripes(TRAIN_IMAGES // 5, part))
    (folder / "test_batch.bin").write_bytes(stripes(TEST_IMAGES, 6))
    (folder / "toy.toml").write_text(NETWORK)
    return TrainConfig(
        str(folder / "toy.toml"), str(folder), epochs=3, batch=32, lr=0.003, schedule="cosine", checkpoint_steps=4
    )


@pytest.fixture(scope="session")
def unbroken(toy, tmp_path_factory) -> Path:
    """Return the folder of the toy run, trained without a stop."""
    folder = tmp_path_factory.mktemp("runs") / "unbroken"
    fit(toy, folder)
    return folder


def pure_state(node) -> dict:
    return jax.tree.map(np.asarray, nnx.to_pure_dict(nnx.state(node)))


def tiny_config(**changes) -> TrainConfig:
    return dataclasses.replace(TrainConfig("tiny", "none", epochs=2, batch=8, lr=0.05), **changes)


def tiny_batch(count: int = 8) -> tuple[jax.Array, jax.Array]:
    pixels = jnp.asarray(random_pixels(tiny_network(), count))
    return pixels, jnp.asarray(np.random.default_rng(1).integers(0, 3, count), jnp.int32)


# The pieces


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (dict(epochs=0), "epochs must be at least 1, not 0"),
        (dict(batch=1), "batch must be at least 2, not 1"),
        (dict(seed=-1), "seed must be at least 0, not -1"),
        (dict(seed=2**31), "seed must be at most 2147483647, not 2147483648"),
        (dict(checkpoint_steps=-1), "checkpoint_steps must be at least 0, not -1"),
        (dict(lr=0.0), "lr must be finite and more than 0, not 0.0"),
        (dict(lr=float("nan")), "lr must be finite and more than 0, not nan"),
        (dict(momentum=1.0), "momentum must be at least 0 and less than 1, not 1.0"),
        (dict(label_smoothing=-0.1), "label_smoothing must be at least 0 and less than 1, not -0.1"),
        (dict(weight_decay=-1.0), "weight_decay must be at least 0 and less than inf, not -1.0"),
        (dict(schedule="linear"), "schedule must be one of step cosine, not linear"),
        (dict(transfer=True), "transfer needs weights to start from: init must be given"),
        (dict(dtype="float16"), "dtype must be one of float32 bfloat16, not float16"),
    ],
)
def test_a_configuration_is_checked(changes, message):
    with pytest.raises(InputError) as error:
        tiny_config(**changes)
    assert str(error.value) == message


def test_the_step_schedule_divides_by_10_at_its_epochs():
    rate = learning_rate(tiny_config(lr=0.5, epochs=9, milestones=(2, 4)), steps=10)
    assert [round(float(rate(step)), 6) for step in (0, 19, 20, 39, 40, 89)] == [0.5, 0.5, 0.05, 0.05, 0.005, 0.005]


def test_the_cosine_schedule_falls_to_zero():
    rate = learning_rate(tiny_config(lr=0.5, epochs=4, schedule="cosine"), steps=10)
    expected = [0.25 * (1 + np.cos(np.pi * step / 40)) for step in range(41)]
    np.testing.assert_allclose([rate(step) for step in range(41)], expected, atol=1e-7)


def test_an_epoch_takes_each_image_at_most_once_in_an_order_of_its_own():
    orders = [epoch_order(seed, epoch, count=50, batch=8) for seed, epoch in ((0, 0), (0, 0), (0, 1), (1, 0))]
    assert orders[0].shape == (6, 8)
    assert len(np.unique(orders[0])) == 48
    assert (orders[0] == orders[1]).all()
    assert all((orders[0] != other).any() for other in orders[2:])


def test_an_augmented_image_is_a_crop_of_itself_in_black_flipped_or_not():
    pixels = np.random.default_rng(0).integers(1, 256, (60, 3, 5, 6)).astype(np.uint8)
    found = np.asarray(augment(jnp.asarray(pixels), jnp.arange(60, dtype=jnp.int32), jnp.int32(3), jnp.int32(0), 2))
    padded = np.pad(pixels, ((0, 0), (0, 0), (2, 2), (2, 2)))
    seen = set()
    for image, cut in zip(padded, found, strict=True):
        crops = {(y, x): image[:, y : y + 5, x : x + 6] for y in range(5) for x in range(5)}
        options = {(*at, flip): crop[:, :, :: 1 - 2 * flip] for at, crop in crops.items() for flip in (0, 1)}
        (match,) = [at for at, option in options.items() if (option == cut).all()]
        seen.add(match)
    assert {y for y, _, _ in seen} == {x for _, x, _ in seen} == set(range(5))
    assert {flip for _, _, flip in seen} == {0, 1}


def test_an_image_is_cut_the_same_way_in_any_batch():
    pixels = jnp.asarray(np.random.default_rng(0).integers(0, 256, (6, 3, 8, 8)), jnp.uint8)
    index = jnp.array([7, 3, 900, 4, 5, 1], jnp.int32)
    whole = augment(pixels, index, jnp.int32(1), jnp.int32(2))
    np.testing.assert_array_equal(augment(pixels[2:4], index[2:4], jnp.int32(1), jnp.int32(2)), whole[2:4])
    assert (augment(pixels, index, jnp.int32(1), jnp.int32(3)) != whole).any()
    assert (augment(pixels, index, jnp.int32(2), jnp.int32(2)) != whole).any()


@pytest.mark.parametrize("smoothing", [0.0, 0.3])
def test_the_loss_is_the_cross_entropy_against_smoothed_labels(smoothing):
    model, (pixels, labels) = create_model(tiny_network()), tiny_batch()
    loss, logits = loss_fn(model, pixels, labels, tiny_config(label_smoothing=smoothing))
    logits = np.asarray(logits, np.float64)
    log_p = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    right = log_p[np.arange(8), labels]
    np.testing.assert_allclose(loss, -((1 - smoothing) * right + smoothing * log_p.mean(axis=1)).mean(), rtol=1e-5)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_two_steps_on_generated_images_lower_the_loss(dtype):
    model, config, batch = create_model(tiny_network()), tiny_config(dtype=dtype), tiny_batch()
    optimizer = make_optimizer(model, config, steps=10)
    before = float(loss_fn(model, *batch, config)[0])
    totals = train_step(model, optimizer, Totals.zero(), *batch, config)
    totals = train_step(model, optimizer, totals, *batch, config)
    after = float(loss_fn(model, *batch, config)[0])
    assert after < 0.9 * before
    assert after < float(totals.loss) / 16 < before
    assert (int(totals.images), int(optimizer.step[...])) == (16, 2)
    assert 0 <= int(totals.correct) <= 16


def test_steps_are_sgd_with_momentum_and_only_weights_decay():
    config = tiny_config(lr=0.25, momentum=0.5, weight_decay=0.125, milestones=(1,))
    model = create_model(tiny_network())
    optimizer = make_optimizer(model, config, steps=1)
    start = pure_state(model)
    gradient = jax.tree.map(jnp.ones_like, nnx.state(model, nnx.Param))
    optimizer.update(model, gradient)
    optimizer.update(model, gradient)

    def expected(value: np.ndarray, decay: float) -> np.ndarray:
        first = 1 + decay * value
        once = value - 0.25 * first
        return once - 0.025 * (0.5 * first + 1 + decay * once)

    state = pure_state(model)
    for key, layer in start["layers"].items():
        for field, value in (layer["conv"] | {"gamma": layer["norm"]["gamma"]}).items():
            moved = (state["layers"][key]["conv"] | state["layers"][key]["norm"])[field]
            np.testing.assert_allclose(moved, expected(value, 0.125 if field == "weight" else 0.0), rtol=1e-5)
        np.testing.assert_array_equal(state["layers"][key]["norm"]["mean"], layer["norm"]["mean"])
    np.testing.assert_allclose(state["classifier_weight"], expected(start["classifier_weight"], 0.125), rtol=1e-5)
    np.testing.assert_allclose(state["classifier_bias"], expected(start["classifier_bias"], 0.0), rtol=1e-5)


def test_evaluation_counts_the_valid_images():
    model, (pixels, labels) = from_trained(trained_network(tiny_network())), tiny_batch()
    valid = np.array([1, 1, 0, 1, 0, 1, 1, 0], bool)
    right = predict(model, np.asarray(pixels)) == np.asarray(labels)
    totals = eval_step(model, Totals.zero(), pixels, labels, jnp.asarray(valid))
    assert (int(totals.correct), int(totals.images)) == ((right & valid).sum(), 5)
    parts = [eval_step(model, Totals.zero(), pixels[i:][:1], labels[i:][:1], jnp.array([True])) for i in range(8)]
    np.testing.assert_allclose(
        totals.loss, sum(float(x.loss) for x, ok in zip(parts, valid, strict=True) if ok), rtol=1e-5
    )


def test_checkpoints_give_back_the_newest_whole_tree(tmp_path):
    trees = [{"a": jnp.arange(3, dtype=jnp.int32) + i, "b": {"c": jnp.float32(i)}} for i in range(4)]
    with Checkpoints(tmp_path / "c") as checkpoints:
        assert checkpoints.restore(trees[0]) is None
        for step, tree in enumerate(trees):
            checkpoints.save(step, tree)
    (tmp_path / "c" / "9.orbax-checkpoint-tmp").mkdir()  # one that was being written
    with Checkpoints(tmp_path / "c") as checkpoints:
        jax.tree.map(np.testing.assert_array_equal, checkpoints.restore(trees[0]), trees[3])


# Whole runs


def test_a_toy_set_is_learnt(toy, unbroken):
    curve = [EpochResult(**json.loads(line)) for line in (unbroken / "metrics.jsonl").read_text().splitlines()]
    assert [line.epoch for line in curve] == [0, 1, 2]
    assert max(line.test_accuracy for line in curve) > 0.95
    assert curve[2].loss < 0.5 * curve[0].loss
    assert json.loads((unbroken / "config.json").read_text())["lr"] == toy.lr


def test_the_best_weights_have_the_accuracy_of_the_curve(toy, unbroken):
    trained = load_weights(unbroken / "best.safetensors")
    assert trained.network == load_network(toy.network)
    records = np.frombuffer((Path(toy.data) / "test_batch.bin").read_bytes(), np.uint8).reshape(-1, 3073)
    right = predict(from_trained(trained), records[:, 1:].reshape(-1, 3, 32, 32)) == records[:, 0]
    curve = [json.loads(line) for line in (unbroken / "metrics.jsonl").read_text().splitlines()]
    assert right.mean() == max(line["test_accuracy"] for line in curve)


class Stopped(Exception):
    """Stand for a kill."""


def stop_at_call(monkeypatch, name: str, call: int) -> None:
    """Let a function that a run calls raise Stopped at its `call`-th call."""
    function, calls = getattr(loop, name), iter(range(1, 1000))

    def stopping(*arguments, **named):
        if next(calls) == call:
            raise Stopped
        return function(*arguments, **named)

    monkeypatch.setattr(loop, name, stopping)


def assert_same_run(folder: Path, other: Path, network: str) -> None:
    """Compare all that two runs leave, bit for bit, but for their speed."""
    assert (folder / "best.safetensors").read_bytes() == (other / "best.safetensors").read_bytes()
    curves = [
        [json.loads(line) | {"images_per_second": 0} for line in (x / "metrics.jsonl").read_text().splitlines()]
        for x in (folder, other)
    ]
    assert curves[0] == curves[1]
    assert sorted(x.name for x in folder.iterdir()) == sorted(x.name for x in other.iterdir())
    trees = [newest_checkpoint(x, network) for x in (folder, other)]
    assert int(trees[0]["optimizer"]["step"]) == 30
    jax.tree.map(np.testing.assert_array_equal, *trees)


def newest_checkpoint(folder: Path, network: str) -> dict:
    model = create_model(load_network(network))
    optimizer = make_optimizer(model, tiny_config(), steps=1)
    like = {"model": pure_state(model), "optimizer": pure_state(optimizer), "totals": Totals.zero()}
    with Checkpoints(folder / "checkpoints") as checkpoints:
        return checkpoints.restore(like)


@pytest.mark.parametrize(
    ("name", "call"),
    [("train_step", 1), ("train_step", 7), ("train_step", 26), ("_end_epoch", 1), ("save_weights", 1), ("_save", 5)],
)
def test_a_stopped_run_goes_on_to_the_same_bits(name, call, toy, unbroken, tmp_path, monkeypatch):
    """Steps before and after a checkpoint, between an epoch's curve, weights and checkpoint."""
    with monkeypatch.context() as patch, pytest.raises(Stopped):
        stop_at_call(patch, name, call)
        fit(toy, tmp_path / "run")
    fit(toy, tmp_path / "run", resume=True)
    assert_same_run(tmp_path / "run", unbroken, toy.network)


@pytest.mark.slow
def test_a_killed_process_goes_on_to_the_same_bits(toy, unbroken, tmp_path):
    code = f"""
import sys, time
import jax
jax.config.update("jax_numpy_dtype_promotion", "strict")
from factory.train import StepResult, TrainConfig, fit
def report(record):
    if isinstance(record, StepResult) and record.epoch == 1:
        print("there", flush=True)
        time.sleep(600)
fit({toy!r}, {str(tmp_path / "run")!r}, report=report)
"""
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "there\n"
        os.kill(process.pid, signal.SIGKILL)
    fit(toy, tmp_path / "run", resume=True)
    assert_same_run(tmp_path / "run", unbroken, toy.network)


def test_a_finished_run_is_not_trained_again(toy, unbroken, monkeypatch):
    before = (unbroken / "metrics.jsonl").read_bytes()
    stop_at_call(monkeypatch, "train_step", 1)
    result = fit(toy, unbroken, resume=True)
    assert (len(result.curve), result.weights) == (3, unbroken / "best.safetensors")
    assert result.best.test_accuracy == max(line.test_accuracy for line in result.curve)
    assert (unbroken / "metrics.jsonl").read_bytes() == before


def test_a_run_reports_where_it_is(toy, unbroken, tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "REPORT_STEPS", 4)
    records = []
    fit(dataclasses.replace(toy, epochs=1), tmp_path / "run", report=records.append)
    assert [(type(x), getattr(x, "step", None)) for x in records] == [
        (StepResult, 4), (StepResult, 8), (StepResult, 10), (EpochResult, None),
    ]  # fmt: skip
    last = records[2]
    assert (last.steps, last.epochs, last.seconds_left) == (10, 1, 0)
    assert (last.loss, last.accuracy) == (records[3].loss, records[3].accuracy)
    assert records[0].images_per_second > 0 and records[0].seconds_left > 0


def test_a_run_starts_from_given_weights(toy, unbroken, tmp_path):
    """With a rate too small to move a weight, the codes that come out are those that went in."""
    config = dataclasses.replace(toy, epochs=1, lr=1e-20, init=str(unbroken / "best.safetensors"))
    given, found = load_weights(config.init), load_weights(fit(config, tmp_path / "run").weights)
    for name, layer in given.layers.items():
        np.testing.assert_array_equal(found.layers[name].weight_code, layer.weight_code)
        assert found.layers[name].alpha_a == layer.alpha_a


def test_a_run_takes_the_layers_of_another_network_that_fit(toy, unbroken, tmp_path):
    """The middle layer is wider here, so it and the one behind it start anew; activations have other bits."""
    wider = NETWORK.replace('"M", 8', '"M", 10').replace('name = "toy"', 'name = "wide"\nactivation_bits = 2')
    (tmp_path / "wide.toml").write_text(wider)
    init = str(unbroken / "best.safetensors")
    config = dataclasses.replace(toy, network=str(tmp_path / "wide.toml"), epochs=1, lr=1e-20, init=init, transfer=True)
    records = []
    found = load_weights(fit(config, tmp_path / "run", report=records.append).weights)
    names = [layer.name for layer in found.network.layers]
    assert records[0] == Transfer(init, (names[0], "classifier"), tuple(names[1:]))
    given, fresh = load_weights(init), to_tensors(create_model(found.network, config.seed))
    np.testing.assert_array_equal(found.layers[names[0]].weight_code, given.layers[names[0]].weight_code)
    np.testing.assert_array_equal(found.layers[names[1]].weight_code, fresh[f"{names[1]}.weight_code"])
    np.testing.assert_array_equal(found.classifier_weight, given.classifier_weight)


def test_weights_of_which_nothing_fits_are_refused(toy, tmp_path):
    path = tmp_path / "tiny.safetensors"
    save_weights(trained_network(tiny_network()), path)
    with pytest.raises(InputError) as error:
        fit(dataclasses.replace(toy, init=str(path), transfer=True), tmp_path / "run")
    assert str(error.value) == f"{path}: must have a layer that fits the network {toy.network}, it has none"


@pytest.mark.torch
def test_a_run_starts_from_the_float_weights_of_a_torch_checkpoint(toy, tmp_path):
    import torch

    network = load_network(toy.network)
    model = create_model(network, seed=5)
    state = {"classifier.weight": model.classifier_weight[...], "classifier.bias": model.classifier_bias[...]}
    tensors = to_tensors(model)
    for spec in network.layers:
        conv, norm = model.layers[spec.name].conv, model.layers[spec.name].norm
        state |= {
            f"{spec.name}.weight": conv.weight[...],
            f"{spec.name}.weight_q": tensors[f"{spec.name}.weight_code"]
            * np.float32(conv.alpha_w[...] / spec.weight_qmax),
            f"{spec.name}.weight_quant.wgt_alpha": conv.alpha_w[...],
            f"{spec.name}.act_alpha": conv.alpha_a[...],
        }
        if norm is not None:
            after = f"features.{int(spec.name.split('.')[1]) + 1}"
            names = dict(weight=norm.gamma, bias=norm.beta, running_mean=norm.mean, running_var=norm.var)
            state |= {f"{after}.{name}": value[...] for name, value in names.items()}
    path = tmp_path / "model.pth.tar"
    torch.save({"state_dict": {name: torch.tensor(np.asarray(value)) for name, value in state.items()}}, path)
    fit(dataclasses.replace(toy, epochs=1, lr=1e-20, init=str(path)), tmp_path / "run")
    run = json.loads((tmp_path / "run/config.json").read_text())
    assert run["init"] == str(path)
    layers = newest_checkpoint(tmp_path / "run", toy.network)["model"]["layers"]
    for name, layer in model.layers.items():
        np.testing.assert_array_equal(layers[name]["conv"]["weight"], layer.conv.weight[...])


def test_a_folder_with_something_in_it_is_refused(toy, tmp_path):
    (tmp_path / "notes").write_text("mine")
    with pytest.raises(InputError) as error:
        fit(toy, tmp_path)
    assert str(error.value) == f"{tmp_path}: must be a new or empty folder, or a run to resume"
    assert [path.name for path in tmp_path.iterdir()] == ["notes"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (dict(batch=321), "batch must be at most the 320 images of the train split, not 321"),
        (
            dict(network="part3"),
            f"network must be one of {' '.join(NAMED)} or a TOML file, not part3",
        ),
        (dict(init="none.safetensors"), "weights must be a file, not none.safetensors"),
        (dict(lr=1e38), "the loss must stay finite, it is nan: a smaller lr may help"),
    ],
)
def test_what_cannot_be_trained_is_refused(changes, message, toy, tmp_path):
    with pytest.raises(InputError) as error:
        fit(dataclasses.replace(toy, **changes), tmp_path / "run")
    assert str(error.value) == message


def test_weights_of_another_network_are_refused(toy, tmp_path):
    path = tmp_path / "tiny.safetensors"
    save_weights(trained_network(tiny_network()), path)
    with pytest.raises(InputError) as error:
        fit(dataclasses.replace(toy, init=str(path)), tmp_path / "run")
    assert str(error.value) == f"{path}: must be weights of the network {toy.network}, not of another"
    assert not (tmp_path / "run").exists()


def test_a_run_from_before_an_option_was_there_is_resumed(toy, unbroken, tmp_path):
    run = tmp_path / "run"
    subprocess.run(["cp", "-r", unbroken, run], check=True)
    config = json.loads((run / "config.json").read_text())
    del config["transfer"]
    (run / "config.json").write_text(json.dumps(config))
    assert len(fit(toy, run, resume=True).curve) == toy.epochs


def test_labels_must_be_classes_of_the_network(toy, tmp_path):
    for path in Path(toy.data).glob("*.bin"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / "test_batch.bin").write_bytes(bytes([2]) + bytes(3072))
    with pytest.raises(InputError) as error:
        fit(dataclasses.replace(toy, data=str(tmp_path)), tmp_path / "run")
    assert str(error.value) == f"{tmp_path}: every image of the test split must have a label 0 to 1"


@pytest.mark.parametrize(
    ("break_run", "changes", "message"),
    [
        (lambda run: (run / "config.json").unlink(), {}, "{run}: must be a run to resume, it holds no config.json"),
        (
            lambda run: (run / "config.json").write_text("text"),
            {},
            "{run}/config.json: must be JSON: Expecting value: line 1 column 1 (char 0)",
        ),
        (
            lambda run: (run / "config.json").write_bytes(b"\xff"),
            {},
            "{run}/config.json: must be JSON: Expecting value: line 1 column 1 (char 0)",
        ),
        (
            lambda run: (run / "config.json").write_text("[]"),
            {},
            "{run}/config.json: must be JSON objects, not []",
        ),
        (
            lambda run: (run / "metrics.jsonl").write_text('{"step": 1}\n' * 3),
            {},
            "{run}/metrics.jsonl: must be the curve of a run, with the fields of each epoch",
        ),
        (lambda run: None, dict(lr=0.5), "{run}: lr must be 0.003, as when the run began, not 0.5"),
        (
            lambda run: (run / "metrics.jsonl").write_text(""),
            {},
            "{run}/metrics.jsonl: must hold the 3 epochs that are done, not 0",
        ),
    ],
    ids=["no config", "damaged config", "no text", "no object", "a foreign curve", "another config", "no curve"],
)
def test_what_is_no_run_of_this_configuration_is_not_resumed(break_run, changes, message, toy, unbroken, tmp_path):
    run = tmp_path / "run"
    subprocess.run(["cp", "-r", unbroken, run], check=True)
    break_run(run)
    with pytest.raises(InputError) as error:
        fit(dataclasses.replace(toy, **changes), run, resume=True)
    assert str(error.value) == message.format(run=run)
