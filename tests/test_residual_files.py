"""Residual networks through checkpoints, the Flax model, training, stores, verification and exports."""

from dataclasses import replace

import h5py
import jax.numpy as jnp
import numpy as np
import pytest
from helpers_network import random_pixels, residual_network, trained_network
from helpers_simulator import need
from helpers_verify import add_one, build_small
from typer.testing import CliRunner

from factory.audit import audit
from factory.build import build
from factory.checkpoint import import_checkpoint, import_float_weights, load_weights, save_weights, shipped_weights
from factory.cli.app import app
from factory.export import ExportOptions, export
from factory.model import create_model, from_trained, logits, to_tensors, transfer
from factory.simulate import simulate
from factory.spec import ComparisonError, InputError, Network, resnet
from factory.store import open_store
from factory.summary import layer_table, summarize
from factory.train import Totals, TrainConfig, make_optimizer, train_step
from factory.verify import verify_export, verify_store

F32 = np.float32
NETWORK = residual_network()
SHORTCUT, ENTERING = "layer2.0.downsample.0", "layer2.0.conv2"


def course_state(network: Network, weight_bits: int = 4):
    """Return the state dict that the course's program would save, of random weights."""
    torch = pytest.importorskip("torch")
    random, state = torch.Generator().manual_seed(3), {}
    convolutions = [*([network.stem.geometry] if network.stem else []), *network.layers]
    for spec in convolutions:
        weight, alpha = torch.randn(spec.weight_shape, generator=random), torch.tensor(2.5)
        state[f"{spec.name}.weight"] = weight
        if spec in network.layers:
            levels = 2 ** (weight_bits - 1) - 1
            x = ((weight - weight.mean()) / weight.std() / alpha).clamp(-1, 1)
            state[f"{spec.name}.weight_q"] = (x.abs() * levels).round() / levels * x.sign() * alpha
            state |= {f"{spec.name}.act_alpha": torch.tensor(3.5), f"{spec.name}.weight_quant.wgt_alpha": alpha}
        if not spec.batch_norm:
            continue
        norm = spec.name.replace("conv", "bn").replace("downsample.0", "downsample.1")
        for name in ("weight", "bias", "running_mean", "running_var"):
            state[f"{norm}.{name}"] = torch.rand(spec.out_channels, generator=random)
        state[f"{norm}.num_batches_tracked"] = torch.tensor(7)
    state["fc.weight"] = torch.rand(network.classifier_shape, generator=random)
    return state | {"fc.bias": torch.rand(network.classes, generator=random)}


def saved(path, state):
    import torch

    torch.save({"state_dict": {f"module.{name}": tensor for name, tensor in state.items()}}, path)
    return path


@pytest.mark.torch
@pytest.mark.parametrize(
    ("widths", "depth", "bits", "quantized_stem"), [((4, 6), 6, 4, False), ((4, 6, 8), 8, 3, True), ((5,), 6, 8, False)]
)
def test_auto_tells_widths_depth_bits_and_stem_from_a_checkpoint(tmp_path, widths, depth, bits, quantized_stem):
    network = resnet(f"resnet{depth}", widths, depth, weight_bits=bits, quantized_stem=quantized_stem, classes=7)
    state = course_state(network, bits)
    path = saved(tmp_path / "net.pth", state)
    trained = import_checkpoint(path)
    assert trained.network == network and (trained.stem is None) == quantized_stem
    assert list(import_float_weights(path)) == [spec.name for spec in network.layers]
    norm = trained.layers["layer1.0.conv2"].batch_norm
    assert norm.var.tolist() == state["layer1.0.bn2.running_var"].tolist()
    save_weights(trained, tmp_path / "w.safetensors")
    again = load_weights(tmp_path / "w.safetensors")
    assert again.sha256 == trained.sha256 and again.network == network
    if not quantized_stem:
        assert again.stem.weight.tolist() == state["conv1.weight"].tolist()
        assert again.stem.batch_norm.gamma.tolist() == state["bn1.weight"].tolist()


@pytest.mark.torch
def test_stages_of_other_lengths_and_layers_without_batch_norm(tmp_path):
    made = resnet("resnet-2-1", (3, 4), blocks=(2, 1), classes=5)
    bare = {"layer1.0.conv1", "layer1.1.conv2", SHORTCUT}
    layers = tuple(replace(spec, batch_norm=spec.name not in bare) for spec in made.layers)
    network = replace(made, layers=layers)
    trained = import_checkpoint(saved(tmp_path / "net.pth", course_state(network)))
    assert trained.network == network
    assert [stream.name for stream in network.streams] == ["stem", "layer1.0", "layer1.1", "layer2.0"]
    assert {name for name, layer in trained.layers.items() if layer.batch_norm is None} == bare
    save_weights(trained, tmp_path / "w.safetensors")
    pixels = random_pixels(network, 2)
    np.save(tmp_path / "pixels.npy", pixels.transpose(0, 2, 3, 1))
    store = build(
        tmp_path / "s.h5", images=tmp_path / "pixels.npy", weights=tmp_path / "w.safetensors",
        layers="layer1.0.conv2,layer1.1.conv1,layer2.0.conv1", keep="codes",
    )  # fmt: skip
    assert verify_store(store, "all").compared  # the second path: layer2.0.conv1 reads the sum of all before it
    state = course_state(network)
    runner = CliRunner().invoke(
        app, ["import", str(saved(tmp_path / "a.pth", state)), "-o", str(tmp_path / "a.safetensors")]
    )
    assert "no batch norm is there after layer1.0.conv1 layer1.1.conv2 layer2.0.downsample.0" in runner.stdout


def without(state, *names):
    return {name: tensor for name, tensor in state.items() if name not in names}


@pytest.mark.torch
def test_checkpoints_that_are_no_such_network_are_refused_in_a_line(tmp_path):
    network = resnet("resnet6", (4, 6), 6)
    state = course_state(network)
    odd = state | {"layer1.0.conv1.weight_q": state["layer1.0.conv1.weight_q"] * 1.1}
    cases = {
        "layer2.0.bn1.running_var must be float32 (6,), it is missing (network resnet6)": without(
            state, "layer2.0.bn1.running_var"
        ),
        "layer2.0.downsample.0.weight must be float32 (6, 4, 1, 1), it is missing (network resnet6)": without(
            state, "layer2.0.downsample.0.weight"
        ),
        "fc.weight must be the weight of a layer, it is not": without(state, "fc.weight"),
        "layer1.0.conv1.weight_quant.wgt_alpha must be float32 (), it is missing (network resnet6)": without(
            state, "layer1.0.conv1.weight_quant.wgt_alpha"
        ),
        "extra.weight is not a tensor of this network (network resnet6)": state | {"extra.weight": state["fc.bias"]},
    }
    for message, changed in cases.items():
        path = saved(tmp_path / "net.pth", changed)
        with pytest.raises(InputError) as error:
            import_checkpoint(path)
        assert str(error.value) == f"{path}: {message}"
    with pytest.raises(InputError, match=r"net\.pth: layer1\.0\.conv1\.weight_q must hold multiples of 2\.5 / levels"):
        import_checkpoint(saved(tmp_path / "net.pth", odd))


@pytest.mark.reference
@pytest.mark.torch
def test_the_import_says_what_it_took_for_granted(reference, tmp_path):
    output = tmp_path / "r.safetensors"
    result = CliRunner().invoke(app, ["import", str(reference / "resnet20_quant.pth.tar"), "-o", str(output)])
    assert result.exit_code == 0 and load_weights(output).network.name == "resnet20"
    assert "weights have 4 bits; activations 4, which no checkpoint states" in result.output


def test_the_weights_that_ship_are_small_and_known_by_their_networks_name():
    trained = load_weights("resnet20")
    assert (
        trained.network == resnet("resnet20") and trained.sha256 == load_weights(shipped_weights()["resnet20"]).sha256
    )
    assert shipped_weights()["resnet20"].stat().st_size < 1_000_000
    assert load_weights("part1").sha256 == load_weights().sha256


# The model


def test_a_model_gives_its_values_back_and_is_near_the_integers():
    for network in (NETWORK, residual_network(quantized_stem=True)):
        trained = trained_network(network)
        model = from_trained(trained)
        tensors = to_tensors(model)
        for name, layer in trained.layers.items():
            assert (tensors[f"{name}.weight_code"] == layer.weight_code).all()
        if trained.stem:
            assert (tensors["conv1.weight"] == trained.stem.weight).all()
            assert (tensors["conv1.batch_norm.beta"] == trained.stem.batch_norm.beta).all()
        assert logits(model, random_pixels(network, 3)).shape == (3, 4)


def test_a_step_moves_the_stem_and_every_layer():
    model = create_model(NETWORK, seed=1)
    before = to_tensors(model)
    config = TrainConfig("residual", "none", epochs=1, batch=4, lr=0.1)
    optimizer = make_optimizer(model, config, 4)
    pixels, labels = jnp.asarray(random_pixels(NETWORK, 4)), jnp.arange(4, dtype=jnp.int32)
    totals = Totals.zero()
    for _ in range(3):
        totals = train_step(model, optimizer, totals, pixels, labels, config)
    assert int(totals.images) == 12 and np.isfinite(float(totals.loss))
    after = to_tensors(model)
    moved = {name for name in after if (after[name] != before[name]).any()}
    names = {"conv1.weight", "conv1.batch_norm.mean", f"{SHORTCUT}.alpha_a", f"{ENTERING}.batch_norm.gamma"}
    assert names <= moved and {f"{spec.name}.batch_norm.mean" for spec in NETWORK.layers} <= moved


def test_a_stem_is_transferred_where_it_fits():
    donor = from_trained(trained_network(NETWORK, 4))
    taken = transfer(donor, model := create_model(NETWORK))
    assert taken == ("conv1", *(spec.name for spec in NETWORK.layers), "classifier")
    assert (to_tensors(model)["conv1.weight"] == to_tensors(donor)["conv1.weight"]).all()
    other = create_model(resnet("other", (5, 9, 4), 8, quantized_stem=True, image=(3, 7, 9), classes=4))
    assert "conv1" not in transfer(donor, other) and SHORTCUT in transfer(donor, other)


# Stores


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return build_small(tmp_path_factory.mktemp("residual"), NETWORK)


def test_a_store_of_a_residual_network_is_verified_wholly(whole):
    report = verify_store(whole.store, "all", whole.weights)
    assert report.unchecked == ("pixels and labels, which are taken as given",)
    with open_store(whole.store) as store:
        assert store.network == NETWORK and set(store.layers) == {spec.name for spec in NETWORK.layers}
        sizes = {name: layer.activation.size for name, layer in store.layers.items()}
        assert store.layer(SHORTCUT).activation.shape == (2, 5, 4, 5)  # the pixels that it reads, of 7 x 9
        assert store.layer(SHORTCUT).accumulator.shape == (2, 9, 4, 5)
        has = {name for name, layer in store.layers.items() if layer.threshold is not None}
        assert has == {spec.name for spec in NETWORK.layers if spec.name.endswith("conv1")}
        assert layer_table(summarize(store)).count("\n") == len(store.layers)
        assert len(audit(store)) == len(store.layers)
    assert report.counts["activation"] == sum(sizes.values())


@pytest.mark.parametrize("layer", [SHORTCUT, ENTERING, "layer1.0.conv1", "layer3.0.conv1"])
@pytest.mark.parametrize("name", ["activation", "conv", "psum"])
def test_one_changed_value_is_found(whole, tmp_path, layer, name):
    damaged = tmp_path / "damaged.h5"
    damaged.write_bytes(whole.store.read_bytes())
    with h5py.File(damaged) as file:
        ndim = file[f"layers/{layer}/{name}"].ndim
    add_one(damaged, f"layers/{layer}/{name}", (-1,) * ndim)
    with pytest.raises(ComparisonError, match=rf"damaged\.h5: {layer}, image 1, "):
        verify_store(damaged, "all", whole.weights)


def test_some_layers_alone_are_the_same_and_are_verified_from_the_pixels_on(whole, tmp_path):
    alone = build_small(tmp_path, NETWORK, layers=f"{SHORTCUT},layer3.0.conv2")
    assert verify_store(alone.store, "all", alone.weights).unchecked == ("pixels and labels, which are taken as given",)
    with open_store(alone.store) as some, open_store(whole.store) as every:
        assert list(some.layers) == [SHORTCUT, "layer3.0.conv2"]
        for name, layer in some.layers.items():
            assert (layer.psum[...] == every.layer(name).psum[...]).all()


def test_without_weights_the_codes_of_streams_are_not_checked_and_it_says_so(whole, monkeypatch, tmp_path):
    monkeypatch.setattr("factory.verify.stored.shipped_weights", dict)
    unchecked = verify_store(whole.store, "all").unchecked
    assert f"activation codes of {SHORTCUT}, because layer1.0 is not in the store" in unchecked
    assert not any("layer1.0.conv2" in line for line in unchecked)


def test_other_weights_with_the_same_codes_are_found(whole, tmp_path):
    """A stream's arithmetic follows from the batch norms, which the store does not hold."""
    trained = load_weights(whole.weights)
    layer = trained.layers[ENTERING]
    norm = replace(layer.batch_norm, beta=layer.batch_norm.beta + F32(0.5))
    other = replace(trained, layers=trained.layers | {ENTERING: replace(layer, batch_norm=norm)})
    save_weights(other, tmp_path / "other.safetensors")
    changed = load_weights(tmp_path / "other.safetensors")
    copy = tmp_path / "copy.h5"
    copy.write_bytes(whole.store.read_bytes())
    with h5py.File(copy, "r+") as file:
        file.attrs["weights_sha256"] = changed.sha256
    with pytest.raises(ComparisonError, match=r"copy\.h5: layer3\.0\.(conv1|downsample\.0), image 0"):
        verify_store(copy, "all", tmp_path / "other.safetensors")


@pytest.mark.simulator
@pytest.mark.parametrize("dataflow", ["ws", "os"])
def test_a_shortcut_and_a_layer_of_stride_2_run_in_simulation(whole, tmp_path, dataflow):
    need("icarus")
    options = ExportOptions(dataflow, layers=f"{SHORTCUT},layer2.0.conv1", testbench=True)
    export(whole.store, tmp_path / "bench", options)
    result = simulate(tmp_path / "bench", simulator="icarus")
    assert result.compared > 0 and result.unchecked == ()


def test_an_export_of_a_shortcut_is_what_it_reads(whole, tmp_path):
    export(whole.store, tmp_path / "vectors", ExportOptions("ws", layers=f"{SHORTCUT},layer2.0.conv1", images="all"))
    assert verify_export(tmp_path / "vectors", store=whole.store).compared > 0
    lines = (tmp_path / "vectors" / SHORTCUT / "image0" / "activation_tile0.txt").read_text().splitlines()
    assert len(lines) == 4 * 5
    options = ExportOptions("ws", layers=f"{ENTERING},layer2.0.conv1", include="next,threshold")
    summary = export(whole.store, tmp_path / "next", options)
    assert (
        f"{ENTERING}: it enters a residual stream, so that it has no thresholds and no next codes" in summary.warnings
    )
