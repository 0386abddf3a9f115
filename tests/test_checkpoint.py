"""Torch checkpoints and weights files: what is read from them, that it is written back whole, and what is refused."""

import hashlib
import io
import json
import subprocess
import sys

import numpy as np
import pytest
from helpers_network import odd_network, tiny_network, trained_network
from safetensors import safe_open
from safetensors.numpy import load, save

from factory import InputError, checkpoint
from factory.checkpoint import default_weights, import_checkpoint, import_float_weights, load_weights, save_weights
from factory.checkpoint.weights import contents_sha256
from factory.quant.host import scaled_weights
from factory.spec import IMAGE, NAMED, ConvLayer, Network, part1, part2

F32 = np.float32
SHIPPED = "c0f268433e4589127dc2d858886085ef4beac510c4af7f55b47c004f073d05a6"


@pytest.fixture(autouse=True)
def torch_where_it_is_needed(request):
    """Skip a test marked `torch` where PyTorch is not installed."""
    if request.node.get_closest_marker("torch"):
        pytest.importorskip("torch")


def message(call, *arguments):
    with pytest.raises(InputError) as error:
        call(*arguments)
    return str(error.value)


def notebook_state(network, seed=0):
    """Return the state dict that the notebook's program would save, quantized by torch itself."""
    import torch

    random = torch.Generator().manual_seed(seed)
    state = {}
    for spec in network.layers:
        weight = torch.randn(spec.weight_shape, generator=random) * 0.1 + 0.02
        alpha = torch.tensor(1.5) + len(state) / 8
        x = ((weight - weight.mean()) / weight.std() / alpha).clamp(-1, 1)
        quantized = (x.abs() * spec.weight_qmax).round() / spec.weight_qmax * x.sign() * alpha
        state |= {f"{spec.name}.weight": weight, f"{spec.name}.act_alpha": alpha * 2}
        state |= {f"{spec.name}.weight_q": quantized, f"{spec.name}.weight_quant.wgt_alpha": alpha}
        if spec.batch_norm:
            stem, place = spec.name.split(".")
            for name in ("weight", "bias", "running_mean", "running_var"):
                state[f"{stem}.{int(place) + 1}.{name}"] = torch.rand(spec.out_channels, generator=random)
            state[f"{stem}.{int(place) + 1}.num_batches_tracked"] = torch.tensor(7)
    state["classifier.weight"] = torch.rand(network.classifier_shape, generator=random)
    state["classifier.bias"] = torch.rand(network.classes, generator=random)
    return state


def saved(path, content, **options):
    import torch

    torch.save(content, path, **options)
    return path


@pytest.fixture
def state():
    return notebook_state(tiny_network())


@pytest.mark.torch
def test_a_checkpoints_tensors_are_taken_as_they_are(tmp_path, state):
    path = saved(tmp_path / "tiny.pth.tar", {"epoch": 3, "state_dict": state, "best_prec": 9.5})
    trained = import_checkpoint(path, tiny_network())
    assert trained.network == tiny_network()
    for spec, norm in zip(trained.network.layers, ("features.1", "features.4"), strict=True):
        layer = trained.layers[spec.name]
        alpha = state[f"{spec.name}.weight_quant.wgt_alpha"].numpy()
        step = alpha / F32(7)
        assert layer.spec == spec
        assert (layer.alpha_w, layer.alpha_a) == (alpha, state[f"{spec.name}.act_alpha"].numpy())
        assert layer.weight_code.dtype == np.int8
        assert np.abs(layer.weight_code * step - state[f"{spec.name}.weight_q"].numpy()).max() < 1e-6
        assert np.unique(layer.weight_code).size > 12
        taken = layer.batch_norm.mean, layer.batch_norm.var, layer.batch_norm.gamma, layer.batch_norm.beta
        for values, name in zip(taken, ("running_mean", "running_var", "weight", "bias"), strict=True):
            assert values.tolist() == state[f"{norm}.{name}"].tolist()
        assert layer.batch_norm.eps == 1e-5
    assert trained.classifier_weight.tolist() == state["classifier.weight"].tolist()
    assert trained.classifier_bias.tolist() == state["classifier.bias"].tolist()


@pytest.mark.torch
def test_the_same_tensors_in_other_wrappings_are_the_same_network(tmp_path, state):
    import torch

    parallel = {f"module.{name}": tensor for name, tensor in state.items()}
    last = {name: x.to(memory_format=torch.channels_last) if x.ndim == 4 else x for name, x in state.items()}
    parameters = {name: torch.nn.Parameter(x) if x.is_floating_point() else x for name, x in state.items()}
    uncounted = {name: x for name, x in state.items() if "num_batches" not in name}
    contents = [state, *({"state_dict": x} for x in (state, parallel, last, parameters, uncounted))]
    paths = [saved(tmp_path / f"{place}.pth", content) for place, content in enumerate(contents)]
    paths.append(saved(tmp_path / "old.pth", state, _use_new_zipfile_serialization=False))
    described = tmp_path / "tiny.toml"
    described.write_text('name = "tiny"\nwidths = [5, 4]\nimage = [3, 4, 4]\nclasses = 3\n')
    networks = [import_checkpoint(path, tiny_network()) for path in paths]
    assert len({trained.sha256 for trained in networks}) == 1
    assert all(layer.weight_code.flags.c_contiguous for trained in networks for layer in trained.layers.values())
    assert import_checkpoint(paths[0], str(described)).sha256 == networks[0].sha256


@pytest.mark.torch
def test_float_weights_are_the_ones_before_quantization(tmp_path, state):
    path = saved(tmp_path / "tiny.pth", state)
    weights = import_float_weights(path, tiny_network())
    assert list(weights) == ["features.0", "features.3"]
    assert all((weights[name] == state[f"{name}.weight"].numpy()).all() for name in weights)
    del state["classifier.bias"]
    found = message(import_float_weights, saved(path, state), tiny_network())
    assert found == f"{path}: classifier.bias must be float32 (3,), it is missing (network tiny)"


@pytest.mark.torch
@pytest.mark.parametrize("network", [part1(), part2()], ids=["part1", "part2"])
def test_auto_takes_the_named_network_that_fits_best(tmp_path, network):
    import torch

    state = {f"{spec.name}.weight": torch.zeros(()).expand(spec.weight_shape) for spec in network.layers}
    path = saved(tmp_path / "net.pth", state)
    assert message(import_checkpoint, path) == (
        f"{path}: features.0.weight_q must be float32 (64, 3, 3, 3), it is missing (network {network.name})"
    )


@pytest.mark.torch
@pytest.mark.parametrize("side", [-1, 1])
def test_a_weight_beside_a_rounding_boundary_keeps_its_stored_code(tmp_path, state, side):
    import torch

    name, at = "features.3", (1, 2, 0, 1)
    weight, alpha = state[f"{name}.weight"].numpy(), state[f"{name}.weight_quant.wgt_alpha"].numpy()[()]
    value = scaled_weights(weight, alpha, 4)[at]
    boundary = np.floor(value) + F32(0.5)
    alpha = F32(alpha * value / (boundary - side * 5e-5))  # moves this weight close to the boundary between two codes
    scaled = scaled_weights(weight, alpha, 4)
    code = np.rint(scaled)
    assert code[at] == boundary - side * 0.5
    code[at] = boundary + side * 0.5  # as a program rounds it whose mean is another in the last bit
    state[f"{name}.weight_quant.wgt_alpha"] = torch.tensor(alpha)
    state[f"{name}.weight_q"] = torch.from_numpy(code * (alpha / F32(7)))
    path = saved(tmp_path / "tiny.pth", state)
    assert import_checkpoint(path, tiny_network()).layers[name].weight_code[at] == code[at]
    code[at] = boundary + side * 1.5
    state[f"{name}.weight_q"] = torch.from_numpy(code * (alpha / F32(7)))
    assert message(import_checkpoint, saved(path, state), tiny_network()) == (
        f"{path}: features.3.weight_q must hold the codes of features.3.weight, 1 of its 180 differ (network tiny)"
    )


def put(name, value, at=()):
    """Return the change that puts a value at one place of a tensor."""

    def change(state):
        state[name] = state[name].clone()
        state[name][at] = value

    return change


def shape(name, *sizes):
    return lambda state: state.update({name: state[name].new_zeros(sizes)})


CHANGES = {
    "missing": (
        lambda state: state.pop("features.4.running_var"),
        "features.4.running_var must be float32 (4,), it is missing",
    ),
    "unknown": (
        lambda state: state.update({"features.6.weight": state["features.4.weight"]}),
        "features.6.weight is not a tensor of this network",
    ),
    "a counter of no layer": (
        lambda state: state.update({"features.9.num_batches_tracked": state["features.1.num_batches_tracked"]}),
        "features.9.num_batches_tracked is not a tensor of this network",
    ),
    "wrong width": (
        shape("features.0.weight", 6, 3, 3, 3),
        "features.0.weight must be float32 (5, 3, 3, 3), not float32 (6, 3, 3, 3)",
    ),
    "wrong classes": (
        shape("classifier.weight", 10, 64),
        "classifier.weight must be float32 (3, 64), not float32 (10, 64)",
    ),
    "an axis too many": (shape("features.0.act_alpha", 1), "features.0.act_alpha must be float32 (), not float32 (1,)"),
    "half precision": (
        lambda state: state.update({"features.0.weight": state["features.0.weight"].bfloat16()}),
        "features.0.weight must be float32 (5, 3, 3, 3), not bfloat16 (5, 3, 3, 3)",
    ),
    "NaN weight": (
        put("features.3.weight", float("nan"), (1, 2, 0, 1)),
        "features.3.weight must be finite, not nan at [1, 2, 0, 1]",
    ),
    "infinite bias": (put("classifier.bias", float("-inf"), 2), "classifier.bias must be finite, not -inf at [2]"),
    "alpha of 0": (put("features.0.act_alpha", 0.0), "features.0.act_alpha must be finite and more than 0, not 0.0"),
    "negative alpha": (
        put("features.3.weight_quant.wgt_alpha", -1.5),
        "features.3.weight_quant.wgt_alpha must be finite and more than 0, not -1.5",
    ),
    "negative variance": (
        put("features.1.running_var", -0.25, 3),
        "features.1.running_var must be finite and at least 0, not -0.25 at [3]",
    ),
    "all weights alike": (
        lambda state: state["features.0.weight"].fill_(2),
        "features.0.weight: weights must be finite and spread out, not of mean 2.0 and deviation 0.0",
    ),
    "codes of other weights": (
        lambda state: state["features.0.weight"].neg_(),
        "features.0.weight_q must hold the codes of features.0.weight, 123 of its 135 differ",
    ),
    "weights off the grid": (
        lambda state: state["features.0.weight_q"][0].mul_(1.01),
        "features.0.weight_q must hold multiples of 0.21428572, 26 of its 135 are not",
    ),
}


@pytest.mark.torch
@pytest.mark.parametrize("case", CHANGES)
def test_a_tensor_that_is_not_what_it_must_be_is_refused(tmp_path, state, case):
    change, expected = CHANGES[case]
    change(state)
    path = saved(tmp_path / "tiny.pth.tar", {"state_dict": state})
    assert message(import_checkpoint, path, tiny_network()) == f"{path}: {expected} (network tiny)"


def torch_bytes(content, **options):
    import torch

    stream = io.BytesIO()
    torch.save(content, stream, **options)
    return stream.getvalue()


FOREIGN = {
    "empty": (lambda: b"", "must be a whole torch checkpoint, it is damaged or something else"),
    "text": (lambda: b"not a checkpoint\n" * 9, "must be a whole torch checkpoint, it is damaged or something else"),
    "truncated": (
        lambda: torch_bytes(notebook_state(tiny_network()))[:-100],
        "must be a whole torch checkpoint, it is truncated or damaged",
    ),
    "truncated, old format": (
        lambda: torch_bytes(notebook_state(tiny_network()), _use_new_zipfile_serialization=False)[:-100],
        "must be a whole torch checkpoint, it is damaged or something else",
    ),
    "objects": (
        lambda: torch_bytes({"state_dict": Network}),
        "must hold nothing but tensors, numbers, text and their containers",
    ),
    "a list": (lambda: torch_bytes([1, 2]), "must be a checkpoint with a state_dict of tensors, it has none"),
    "no state": (lambda: torch_bytes({"epoch": 3}), "must be a checkpoint with a state_dict of tensors, it has none"),
    "empty state": (
        lambda: torch_bytes({"state_dict": {}}),
        "must be a checkpoint with a state_dict of tensors, it has none",
    ),
}


@pytest.mark.torch
@pytest.mark.parametrize("case", FOREIGN)
def test_a_file_that_is_no_checkpoint_is_refused(tmp_path, case):
    make, expected = FOREIGN[case]
    path = tmp_path / "tiny.pth.tar"
    path.write_bytes(make())
    assert message(import_checkpoint, path) == f"{path}: {expected}"


@pytest.mark.torch
def test_what_to_import_must_exist(tmp_path, state):
    assert message(import_checkpoint, tmp_path) == f"checkpoint must be a file, not {tmp_path}"
    path = saved(tmp_path / "tiny.pth", state)
    assert (
        message(import_checkpoint, path, "vgg") == f"network must be one of {' '.join(NAMED)} or a TOML file, not vgg"
    )
    unnumbered = Network("free", (ConvLayer("conv", IMAGE, 3, 5, 4, 4, signed=True),))
    assert message(import_checkpoint, path, unnumbered) == (
        f"{path}: conv: the name of a checkpoint's layer must end in its place, as features.0 does (network free)"
    )


def test_without_torch_an_import_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    expected = "reading a torch checkpoint needs PyTorch: pip install 'factory[torch]'"
    assert message(import_checkpoint, "model_best.pth.tar") == expected


@pytest.mark.torch
@pytest.mark.reference
def test_the_reference_checkpoint_is_the_shipped_file_and_its_codes_are_torchs(tmp_path, reference):
    trained = import_checkpoint(reference / "model_best.pth.tar")
    assert (trained.network, trained.sha256) == (part1(), SHIPPED)
    save_weights(trained, tmp_path / "again.safetensors")
    assert (tmp_path / "again.safetensors").read_bytes() == default_weights().read_bytes()
    with np.load(reference / "reference_w4a4.npz") as codes:
        for name, layer in trained.layers.items():
            assert (layer.weight_code == codes[f"{name}.weight_code"]).all()
            assert (layer.alpha_w, layer.alpha_a) == (codes[f"{name}.alpha_w"], codes[f"{name}.alpha_a"])


@pytest.mark.torch
@pytest.mark.reference
def test_the_2_bit_reference_checkpoints_codes_are_torchs_but_for_one_on_a_boundary(reference):
    trained = import_checkpoint(reference / "model_part2.pth.tar")
    assert trained.network == part2()
    weights, different = import_float_weights(reference / "model_part2.pth.tar"), {}
    with np.load(reference / "reference_w4a2.npz") as codes:
        for name, layer in trained.layers.items():
            wrong = layer.weight_code != codes[f"{name}.weight_code"]
            if wrong.any():
                different[name] = scaled_weights(weights[name], layer.alpha_w, 4)[wrong]
    assert list(different) == ["features.35"]  # the checkpoint stores -1, the other program's mean rounds it to 0
    assert np.abs(different["features.35"] + F32(0.5)).tolist() == [2**-24]


def assert_same(first, second):
    assert (first.network, first.sha256) == (second.network, second.sha256)
    assert list(first.layers) == list(second.layers)
    pairs = [(first.classifier_weight, second.classifier_weight), (first.classifier_bias, second.classifier_bias)]
    for one, other in zip(first.layers.values(), second.layers.values(), strict=True):
        assert one.spec == other.spec
        pairs += [(getattr(one, name), getattr(other, name)) for name in ("weight_code", "alpha_w", "alpha_a")]
        assert (one.batch_norm is None) == (other.batch_norm is None)
        if one.batch_norm:
            assert one.batch_norm.eps == other.batch_norm.eps
            names = ("mean", "var", "gamma", "beta")
            pairs += [(getattr(one.batch_norm, name), getattr(other.batch_norm, name)) for name in names]
    for one, other in pairs:
        assert type(one) is type(other)
        assert (one.dtype, one.shape, one.tolist()) == (other.dtype, other.shape, other.tolist())


def test_weights_files_round_trip_and_equal_networks_give_equal_bytes(tmp_path):
    trained = trained_network(odd_network())
    save_weights(trained, tmp_path / "a")
    loaded = load_weights(tmp_path / "a")
    save_weights(loaded, str(tmp_path / "b"))
    assert_same(load_weights(str(tmp_path / "b")), loaded)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["a", "b"]
    twin = trained_network(odd_network())
    for name, layer in loaded.layers.items():
        assert (layer.weight_code == twin.layers[name].weight_code).all()
        assert (layer.alpha_w, layer.alpha_a) == (twin.layers[name].alpha_w, twin.layers[name].alpha_a)
    save_weights(trained_network(odd_network(), seed=1), tmp_path / "a")  # what is there is replaced
    assert load_weights(tmp_path / "a").sha256 != loaded.sha256


def test_arrays_in_any_memory_order_are_saved_alike(tmp_path):
    trained = trained_network(tiny_network())
    save_weights(trained, tmp_path / "c")
    for layer in trained.layers.values():
        object.__setattr__(layer, "weight_code", np.asfortranarray(layer.weight_code))
    save_weights(trained, tmp_path / "fortran")
    assert (tmp_path / "c").read_bytes() == (tmp_path / "fortran").read_bytes()


def test_the_sha256_is_of_the_description_and_of_the_sorted_tensors():
    network = tiny_network()
    tensors = {"b": np.array([[1, -2]], np.int8), "a": F32(1.5) * np.ones((), F32)}
    head = json.dumps(
        {"network": network.to_dict(), "tensors": [["a", "float32", []], ["b", "int8", [1, 2]]]},
        sort_keys=True,
        separators=(",", ":"),
    )
    expected = hashlib.sha256(head.encode() + b"\n" + b"\x00\x00\xc0\x3f" + b"\x01\xfe").hexdigest()
    assert contents_sha256(network, tensors) == expected


def test_the_shipped_weights_are_small_and_known():
    path = default_weights()
    assert path.stat().st_size < 12_000_000
    trained = load_weights()
    assert (trained.network, trained.sha256) == (part1(), SHIPPED)
    assert sum(layer.weight_code.size for layer in trained.layers.values()) == 8_868_096


def test_an_installed_package_takes_the_weights_that_it_carries(tmp_path, monkeypatch):
    package = tmp_path / "site-packages" / "factory"
    monkeypatch.setattr(checkpoint.weights, "__file__", str(package / "checkpoint" / "weights.py"))
    assert default_weights() == tmp_path / "site-packages" / "weights" / "vgg16_w4a4.safetensors"
    (package / "_data").mkdir(parents=True)
    (package / "_data" / "vgg16_w4a4.safetensors").touch()
    assert default_weights() == package / "_data" / "vgg16_w4a4.safetensors"


def test_loading_and_lowering_need_neither_torch_nor_jax():
    code = (
        "import sys, factory; factory.lower_network(factory.load_weights()); "
        "print({'torch', 'jax', 'flax'} & set(sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "set()\n"


@pytest.fixture
def weights_file(tmp_path):
    save_weights(trained_network(tiny_network()), tmp_path / "tiny.safetensors")
    return tmp_path / "tiny.safetensors"


def forge(path, change, sign=True):
    """Change the tensors or the description of a weights file, and write it with a sha256 of what it now holds."""
    tensors = load(path.read_bytes())
    with safe_open(path, framework="numpy") as file:
        about = json.loads(file.metadata()["factory"])
    tensors = {name: values.copy() for name, values in tensors.items()}
    change(tensors, about)
    if sign:
        about["sha256"] = contents_sha256(Network.from_dict(about["network"]), tensors)
    path.write_bytes(save(tensors, {"factory": json.dumps(about)}))


FORGERIES = {
    "missing": (
        lambda tensors, about: tensors.pop("features.3.alpha_a"),
        "features.3.alpha_a must be float32 (), it is missing",
    ),
    "unknown": (
        lambda tensors, about: tensors.update({"features.9.alpha_a": tensors["features.3.alpha_a"]}),
        "features.9.alpha_a is not a tensor of this network",
    ),
    "shape": (
        lambda tensors, about: tensors.update({"classifier.bias": np.zeros(4, F32)}),
        "classifier.bias must be float32 (3,), not float32 (4,)",
    ),
    "dtype": (
        lambda tensors, about: tensors.update({"classifier.bias": np.zeros(3, np.float64)}),
        "classifier.bias must be float32 (3,), not F64 (3,)",
    ),
    "code": (
        lambda tensors, about: tensors["features.3.weight_code"].__setitem__((1, 0, 2, 2), -8),
        "features.3.weight_code must be -7 to 7, not -8 at [1, 0, 2, 2]",
    ),
    "NaN": (
        lambda tensors, about: tensors["features.0.batch_norm.beta"].__setitem__(2, np.nan),
        "features.0.batch_norm.beta must be finite, not nan at [2]",
    ),
    "variance": (
        lambda tensors, about: tensors["features.0.batch_norm.var"].__setitem__(0, -1),
        "features.0.batch_norm.var must be finite and at least 0, not -1.0 at [0]",
    ),
    "alpha": (
        lambda tensors, about: tensors["features.0.alpha_w"].fill(0),
        "features.0.alpha_w must be finite and more than 0, not 0.0",
    ),
    "format": (lambda tensors, about: about.update(format=2), "the format must be 1, not 2"),
    "width": (
        lambda tensors, about: about["network"]["layers"][1].update(out_channels=5),
        "features.3.weight_code must be int8 (5, 5, 3, 3), not int8 (4, 5, 3, 3)",
    ),
}


@pytest.mark.parametrize("case", FORGERIES)
def test_a_weights_file_that_is_not_what_it_must_be_is_refused(weights_file, case):
    change, expected = FORGERIES[case]
    forge(weights_file, change)
    assert message(load_weights, weights_file) == f"{weights_file}: {expected}"


def test_changed_contents_do_not_have_their_sha256(weights_file):
    stated = load_weights(weights_file).sha256
    forge(weights_file, lambda tensors, about: tensors["classifier.bias"].fill(1), sign=False)
    found = contents_sha256(tiny_network(), load(weights_file.read_bytes()))
    assert message(load_weights, weights_file) == (
        f"{weights_file}: the sha256 of the contents must be {stated}, not {found}"
    )
    forge(weights_file, lambda tensors, about: about["network"].update(eps=2e-5), sign=False)
    assert f"{weights_file}: the sha256 of the contents must be {stated}, not " in message(load_weights, weights_file)


def test_a_file_that_is_no_weights_file_is_refused(tmp_path, weights_file):
    damaged = f"{weights_file}: must be a whole safetensors file, it is damaged or something else"
    whole = weights_file.read_bytes()
    for content in (b"", b"text", whole[:-1], whole[:50]):
        weights_file.write_bytes(content)
        assert message(load_weights, weights_file) == damaged
    foreign = f"{weights_file}: must be a weights file that factory import wrote, its description is missing"
    for metadata in (None, {"format": "pt"}, {"factory": "{"}, {"factory": "[1]"}, {"factory": '{"format": 1}'}):
        weights_file.write_bytes(save({"a": np.zeros(2, F32)}, metadata))
        assert message(load_weights, weights_file) == foreign
    assert message(load_weights, tmp_path / "none") == f"weights must be a file, not {tmp_path / 'none'}"
    assert message(load_weights, tmp_path) == f"weights must be a file, not {tmp_path}"


def test_a_file_that_cannot_be_written_leaves_nothing(tmp_path):
    trained = trained_network(tiny_network())
    folder = tmp_path / "folder"
    folder.mkdir()
    assert message(save_weights, trained, folder) == f"{folder}: must be writable: Is a directory"
    missing = tmp_path / "none" / "w.safetensors"
    assert message(save_weights, trained, missing) == f"{missing}: must be writable: No such file or directory"
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]
