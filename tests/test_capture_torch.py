"""Codes captured from PyTorch models: the notebook's modules, Brevitas' and torch.ao's, against plain loops."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")
from helpers_export import files_of  # noqa: E402
from helpers_torch import (  # noqa: E402
    NotebookConv2d,
    NotebookLinear,
    WeightQuantizer,
    plain_accumulator,
    reference_model,
)
from torch import nn  # noqa: E402

from factory import InputError  # noqa: E402
from factory.build.codes import store_codes  # noqa: E402
from factory.export import export  # noqa: E402
from factory.quant.grid import activation_bits, grid_codes, weight_bits  # noqa: E402
from factory.readers.pytorch import read_model  # noqa: E402
from factory.store import open_store  # noqa: E402
from factory.verify import verify, verify_store  # noqa: E402

pytestmark = pytest.mark.torch


def message(call, *arguments, **options):
    with pytest.raises(InputError) as error:
        call(*arguments, **options)
    return str(error.value)


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(7)


def captured(model, images):
    """Return the captured network, and what each module gave in that run, by name."""
    outputs, handles = {}, []
    for name, module in model.named_modules():
        handles.append(module.register_forward_hook(lambda _, args, out, name=name: outputs.update({name: out})))
    network = read_model(model, images)
    for handle in handles:
        handle.remove()
    return network, outputs


def zero_centred(layer):
    """Return `sum(weight * (activation - zero_point)) + bias`, which is what the module's real output stands for."""
    sums = layer.weight.astype(np.int64).sum((1, 2, 3))[:, None, None]
    bias = 0 if layer.bias is None else layer.bias[:, None, None].astype(np.int64)
    return plain_accumulator(layer) - layer.spec.zero_point * sums + bias


def steps_of(layer, output):
    """Return a module's real output in steps of the accumulator, `(image, oc, y, x)`."""
    values = getattr(output, "value", output).numpy().astype(np.float64)
    if values.ndim < 4:
        values = values.reshape(len(values), 1, -1, values.shape[-1]).transpose(0, 3, 1, 2)
    return values / (layer.weight_scale.astype(np.float64) * layer.activation_scale).reshape(-1, 1, 1)


def check_outputs(network, outputs):
    """Check that each layer's exact accumulators are what its module's real output rounds to."""
    for layer in network.layers:
        exact = zero_centred(layer)
        off = np.abs(steps_of(layer, outputs[layer.spec.name]) - exact)
        assert off.max() < 1e-6 * np.abs(exact).max() + 1e-3, layer.spec.name
        assert layer.weight.dtype == np.int8 and layer.spec.source == "given" and not layer.spec.batch_norm
        assert layer.activation.dtype == (np.int8 if layer.spec.signed else np.uint8)


# The notebook's modules


@pytest.mark.reference
@pytest.mark.parametrize(
    ("name", "differing", "count"), [("w4a4", 0, 13), ("w4a2", 0, 13), ("resnet20", 2000, 20)], ids=str
)
def test_the_reference_networks_give_the_reference_codes_and_accumulators(reference, name, differing, count):
    model, images, expected = reference_model(reference, name)
    network = read_model(model, images)
    assert len(network.layers) == count and len(network.images) == 8
    others = 0
    for layer in network.layers:
        spec = layer.spec
        codes, accumulator = (expected[f"{spec.name}.{x}"] for x in ("activation_code", "accumulator"))
        wrong = np.argwhere(layer.weight != expected[f"{spec.name}.weight_code"])
        assert wrong.tolist() in ([], [[446, 0, 0, 2]] if (name, spec.name) == ("w4a2", "features.35") else [])
        weight = torch.from_numpy(expected[f"{spec.name}.weight_code"] if len(wrong) else layer.weight).float()
        out = nn.functional.conv2d(torch.from_numpy(codes).float(), weight, None, spec.stride, spec.padding[:2])
        assert (out.round().numpy() == accumulator).all(), spec.name  # sums below 2**24
        assert spec.weight_bits == 4 and spec.signed == (spec.name == "features.0")
        assert abs(layer.weight_scale[0] - expected[f"{spec.name}.alpha_w"] / 7) < 1e-6
        other = layer.activation != codes
        others += int(other.sum())
        assert np.abs(layer.activation.astype(int) - codes)[other].max(initial=0) <= 1
    assert others <= differing  # at rounding boundaries: torch's float32 sums depend on the machine


def test_codes_of_both_signs_take_the_bits_that_they_need():
    model = nn.Sequential(NotebookConv2d(3, 4, 1, activation_bits=2), nn.ReLU(), NotebookConv2d(4, 4, 1))
    network, outputs = captured(model, torch.linspace(-8, 8, 48).reshape(1, 3, 4, 4))
    check_outputs(network, outputs)
    assert [(layer.spec.signed, layer.spec.activation_bits) for layer in network.layers] == [(True, 3), (False, 4)]
    assert network.notes == ("0: activation codes -3..3 take 3 bits in two's complement, its quantizer has 2",)


GEOMETRIES = {
    "plain": dict(kernel_size=3, padding=1),
    "by axis": dict(kernel_size=(3, 2), stride=(2, 1), padding=(0, 2), dilation=(1, 2)),
    "one row": dict(kernel_size=(1, 5)),
    "depthwise": dict(kernel_size=3, groups=4, padding=1),
    "grouped": dict(kernel_size=(2, 3), groups=2, stride=2),
    "same": dict(kernel_size=(4, 2), padding="same", dilation=(1, 3)),
    "valid": dict(kernel_size=2, padding="valid"),
}


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths")
@pytest.mark.parametrize("geometry", GEOMETRIES.values(), ids=GEOMETRIES)
def test_any_geometry_is_the_convolution_that_torch_makes(geometry):
    model = nn.Sequential(NotebookConv2d(4, 8, **geometry), nn.ReLU())
    model[0].weight_q = nn.Parameter(torch.zeros(8, 4, 1, 1))  # as the notebook's class begins where there are groups
    network, outputs = captured(model, torch.rand(3, 4, 7, 9) * 9)
    check_outputs(network, outputs)
    (layer,) = network.layers
    assert layer.weight.shape == (8, 4, *model[0].kernel_size) and layer.spec.groups == model[0].groups
    assert outputs["0"].shape[2:] == (layer.spec.out_height, layer.spec.out_width)
    assert np.count_nonzero(layer.weight) <= model[0].weight.numel()
    assert network.notes == ()


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths")
def test_the_border_of_same_padding_is_longer_after_the_map():
    network = read_model(NotebookConv2d(2, 3, (4, 3), padding="same"), torch.rand(1, 2, 5, 5))
    assert network.layers[0].spec.padding == (1, 1, 2, 1)
    assert network.layers[0].spec.name == network.name == "NotebookConv2d"


@pytest.mark.parametrize("shape", [(5, 6), (5, 3, 6)], ids=str)
def test_a_linear_module_is_a_map_of_tokens(shape):
    model = nn.Sequential(NotebookLinear(6, 4))
    network, outputs = captured(model, torch.rand(shape) * 9)
    check_outputs(network, outputs)
    spec = network.layers[0].spec
    assert (spec.in_channels, spec.height, spec.width, spec.kernel) == (
        6,
        1,
        shape[1] if len(shape) == 3 else 1,
        (1, 1),
    )


@pytest.mark.parametrize("bits", range(1, 9))
def test_bits_follow_from_what_the_modules_make(bits):
    model = nn.Sequential(
        NotebookConv2d(2, 3, 1, activation_bits=bits, weight_bits=max(bits, 2)),
        nn.ReLU(),
        NotebookConv2d(3, 1, 1, activation_bits=9 - bits, weight_bits=10 - max(bits, 2)),
    )
    network, outputs = captured(model, torch.rand(2, 2, 3, 3) * 0.1)  # few codes of few weights: the ramps must tell
    check_outputs(network, outputs)
    found = [(layer.spec.activation_bits, layer.spec.weight_bits) for layer in network.layers]
    assert found == [(bits, max(bits, 2)), (9 - bits, 10 - max(bits, 2))]


def test_where_the_weights_quantizer_cannot_be_called_alone_the_weights_tell():
    class Other(WeightQuantizer):
        def forward(self, weight, scale):
            return super().forward(weight) * scale

    class Conv(NotebookConv2d):
        def forward(self, x):
            self.weight_q = nn.Parameter(self.weight_quant(self.weight, 1.0))
            return self.multiply(self.quantize(x), self.weight_q)

    model = Conv(8, 8, 3)
    model.weight_quant, model.weight_q = Other(5), None
    assert read_model(model, torch.rand(1, 8, 4, 4)).layers[0].spec.weight_bits == 5


def test_alphas_by_channel_are_scales_by_channel():
    model = nn.Sequential(NotebookConv2d(3, 4, 3))
    model[0].weight_quant.wgt_alpha = nn.Parameter(torch.tensor([1.0, 2.0, 3.0, 4.0]).reshape(4, 1, 1, 1))
    network, outputs = captured(model, torch.rand(1, 3, 4, 4) * 9)
    check_outputs(network, outputs)
    assert network.layers[0].weight_scale.tolist() == (np.float32([1, 2, 3, 4]) / np.float32(7)).tolist()


def test_a_class_of_ones_own_needs_the_names_alone():
    class Own(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.randn(4, 3, 3, 3))
            self.weight_quant, self.act_alpha, self.weight_q = WeightQuantizer(3), torch.tensor(2.0), None

        def forward(self, maps):
            weight = self.weight_quant(self.weight)  # which it keeps to itself
            x = (maps / self.act_alpha).clamp(max=1).mul(7).round().div(7).mul(self.act_alpha)
            return torch.conv2d(input=x, weight=weight, stride=2, padding=(1, 0))

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.own = Own()

        def forward(self, x):
            return self.own(maps=x)

    network, outputs = captured(nn.DataParallel(Net()), torch.randn(2, 3, 6, 6))
    check_outputs(network, {"own": outputs["module.own"]})
    spec = network.layers[0].spec
    assert (spec.stride, spec.padding, spec.weight_bits) == ((2, 2), (1, 0, 1, 0), 3)
    assert spec.signed and network.layers[0].activation.min() < 0


class Twice(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.spare = NotebookConv2d(3, 3, 1), NotebookConv2d(3, 3, 1)
        self.up, self.line, self.linear = nn.ConvTranspose2d(3, 3, 1), nn.Conv1d(3, 3, 1), NotebookLinear(3, 2)

    def forward(self, x):
        x = self.up(self.conv(self.conv(x).relu()).relu())
        return self.linear(x.mean((2, 3)).repeat(2, 1)), self.line(x.flatten(2))


def test_each_call_is_a_layer_and_what_is_not_says_why():
    model = Twice()
    model.conv.eval()
    network = read_model(model, torch.rand(2, 3, 4, 4).numpy())
    assert [layer.spec.name for layer in network.layers] == ["conv", "conv.1"]
    assert (network.name, network.images) == ("Twice", ("captured Twice 0", "captured Twice 1"))
    assert network.layers[0].origin == (
        f"PyTorch {torch.__version__}, round(min(a / act_alpha, 1) * 15) of float32, act_alpha 8.0; weight_q"
    )
    assert (network.layers[0].weight == network.layers[1].weight).all()
    assert (network.layers[0].activation != network.layers[1].activation).any()
    assert network.notes == ("conv.1: another call of conv",)
    dimensions = "only convolutions of two dimensions are taken, transposed ones are not"
    assert network.skipped == {
        "up": f"ConvTranspose2d: {dimensions}",
        "line": f"Conv1d: {dimensions}",
        "linear": "its input must be of 2 images, not (4, 3)",
        "spare": "the model does not call it",
    }
    assert model.training and model.up.training and not model.conv.training
    assert not any(module._forward_pre_hooks for module in model.modules())


def test_layers_chooses_the_modules():
    model = nn.Sequential(NotebookConv2d(3, 3, 1, activation_bits=8), nn.ReLU(), NotebookConv2d(3, 3, 1))
    images = torch.randn(2, 3, 4, 4) * 9
    assert message(read_model, model, images).startswith("0: activation codes must have at most 8 bits, not 1")
    for layers in ("2", ["2"]):
        assert [layer.spec.name for layer in read_model(model, images, layers=layers).layers] == ["2"]
    assert message(read_model, model, images, layers="2,1") == "layers must be of 0 2, not 1"


def test_a_bias_of_reals_is_left_out_and_noted():
    network = read_model(NotebookConv2d(3, 3, 1, bias=True), torch.rand(1, 3, 2, 2))
    assert network.layers[0].bias is None
    assert network.notes == ("NotebookConv2d: its bias is no integer in units of the accumulator, which is without it",)


def test_weights_that_change_in_the_run_are_noted():
    model = NotebookConv2d(3, 4, 1)
    read_model(model, torch.rand(1, 3, 2, 2))
    with torch.no_grad():
        model.weight_q += 3.0 / 7 * (torch.arange(12).reshape(4, 3, 1, 1) < 5)
    found = read_model(model, torch.rand(1, 3, 2, 2))
    assert found.notes == ("NotebookConv2d: weight_q held other codes before the run, 5 of 12",)

    class Stored(NotebookConv2d):
        def forward(self, x):
            return self.multiply(self.quantize(x), self.weight_quant(self.weight))

    stored = Stored(3, 4, 1)
    stored.load_state_dict(model.state_dict())
    with torch.no_grad():
        stored.weight_q[0, 0] += 3.0 / 7
    found = read_model(stored, torch.rand(1, 3, 2, 2))
    assert found.notes == ("Stored: its forward multiplies by other codes than those of weight_q, 1 of 12",)
    assert (found.layers[0].weight * np.float32(3.0 / 7) - stored.weight_q.detach().numpy()).max() < 1e-6


class Floors(NotebookConv2d):
    def quantize(self, x):
        return (x.div(self.act_alpha).clamp(max=1) * 15).floor() / 15 * self.act_alpha


class Clips(NotebookConv2d):
    def quantize(self, x):
        return (x.div(self.act_alpha).clamp(0, 1) * 15).round() / 15 * self.act_alpha


class Powers(NotebookConv2d):
    def quantize(self, x):
        return self.act_alpha * 2 ** (x.div(self.act_alpha).clamp(0.01, 1).log2().round())


class Silent(NotebookConv2d):
    def forward(self, x):
        return x


class Pads(NotebookConv2d):
    def quantize(self, x):
        return nn.functional.pad(super().quantize(x), (1, 1, 1, 1))


class OffGrid(NotebookConv2d):
    def forward(self, x):
        out = super().forward(x)
        with torch.no_grad():
            self.weight_q[1, 2, 0, 0] = 0.4 * 3 / 7
        return out


def alphas(**values):
    def change(model):
        for name, value in values.items():
            at = model.weight_quant if name == "wgt_alpha" else model
            setattr(at, name, nn.Parameter(torch.tensor(value)))

    return change


@pytest.mark.parametrize(
    ("kind", "change", "expected"),
    [
        (Floors, None, "what its forward makes of its input must be round(min(a / act_alpha, 1) * 15); at a = "),
        (Clips, None, "what its forward makes of its input must be round(min(a / act_alpha, 1) * 15); at a = -"),
        (Powers, None, "what its forward makes of its input must hold multiples of 8 / levels of 1 to 8 bits; "),
        (Silent, None, "its forward must call conv2d or linear once, not 0 times"),
        (Pads, None, "its forward must keep its input's shape (911, 3, 1, 3), not (911, 3, 3, 5)"),
        (OffGrid, None, "weight_q must hold multiples of 3 / levels of 2 to 8 bits; of the nearest, 7 bits, not "
         "0.17142858 at [1, 2, 0, 0], 0.4 of a step off"),
        (NotebookConv2d, alphas(act_alpha=[1.0, 2.0, 3.0]), "act_alpha must be one number, not 3"),
        (NotebookConv2d, alphas(act_alpha=0.0),
         "act_alpha must be float32, finite and more than 0, not float32 0.0"),
        (NotebookConv2d, alphas(wgt_alpha=[1.0] * 3),
         "weight_quant.wgt_alpha must be one number or one of each oc, not 3"),
        (NotebookConv2d, lambda model: model.double(), "its input must be float32, not float64"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)  # fmt: skip
def test_what_is_no_integer_layer_is_refused(kind, change, expected):
    model = kind(3, 4, 1)
    if change is not None:
        change(model)
    images = (torch.randn(2, 3, 1, 3) * 9).to(model.weight.dtype)
    assert message(read_model, nn.Sequential(model), images).startswith(f"0: {expected}")


def test_a_border_that_is_not_zero_is_refused():
    model = NotebookConv2d(3, 4, 3, padding=1, padding_mode="reflect")
    expected = "NotebookConv2d: padding_mode must be zeros, not reflect"
    assert message(read_model, model, torch.rand(1, 3, 4, 4)) == expected


def test_images_and_models_that_do_not_fit_are_refused():
    model = nn.Sequential(NotebookConv2d(3, 4, 1))
    assert message(read_model, model, torch.zeros(0, 3, 4, 4)) == (
        "images must be an array (image, ...) of at least one image, not (0, 3, 4, 4)"
    )
    assert message(read_model, model, torch.full((1, 3, 4, 4), torch.nan)) == (
        "0: its input must be finite, it holds inf or nan"
    )
    assert message(read_model, model, torch.zeros(1, 2, 4, 4)).startswith(
        "the model must run on images of float32 (1, 2, 4, 4), not raise RuntimeError: "
    )
    assert message(read_model, nn.Sequential(nn.Conv2d(3, 4, 1)), torch.zeros(1, 3, 4, 4)) == (
        "Sequential must have a module with integer weights and a quantized input; "
        "0: Conv2d: its weights are not quantized"
    )
    assert message(read_model, nn.ReLU(), torch.zeros(1, 3)) == (
        "ReLU must have a module with integer weights and a quantized input"
    )


# Brevitas


@pytest.fixture
def brevitas():
    return pytest.importorskip("brevitas")


def brevitas_models():
    import brevitas.nn as qnn
    from brevitas import quant
    from brevitas.quant.binary import SignedBinaryActPerTensorConst, SignedBinaryWeightPerTensorConst

    def entering(**options):
        return qnn.QuantIdentity(return_quant_tensor=True, **options)

    relu = qnn.QuantReLU(bit_width=3, return_quant_tensor=True)
    integer = dict(bias=True, bias_quant=quant.Int32Bias)
    by_channel = dict(weight_quant=quant.Int8WeightPerChannelFloat, weight_bit_width=5)
    shifted = dict(input_quant=quant.ShiftedUint8ActPerTensorFloat)
    zero_points = dict(weight_quant=quant.ShiftedUint8WeightPerTensorFloat, weight_bit_width=4)
    binary = dict(weight_quant=SignedBinaryWeightPerTensorConst)
    return {
        "int4": (8, 4, True, entering(), qnn.QuantConv2d(6, 4, 3, padding=1, bias=False, weight_bit_width=4)),
        "by channel": (
            8, 5, True,
            entering(), qnn.QuantConv2d(6, 4, (3, 2), (2, 1), 0, (1, 2), **integer, **by_channel),
        ),
        "shifted": (8, 8, False, qnn.QuantConv2d(6, 4, (4, 3), padding="same", bias=False, **shifted)),
        "weights": (8, 4, False, qnn.QuantConv2d(6, 4, 3, padding=1, groups=2, bias=False, **shifted, **zero_points)),
        "depthwise": (3, 2, False, relu, qnn.QuantConv2d(6, 6, 3, groups=6, bias=False, weight_bit_width=2)),
        "linear": (6, 3, True, entering(bit_width=6), qnn.QuantLinear(6, 4, weight_bit_width=3, **integer)),
        "binary": (
            2, 2, True,
            entering(act_quant=SignedBinaryActPerTensorConst), qnn.QuantConv2d(6, 4, 3, bias=False, **binary),
        ),
    }  # fmt: skip


@pytest.mark.filterwarnings("ignore::UserWarning")  # Brevitas' own, of zero points of outputs
@pytest.mark.parametrize("case", ["int4", "by channel", "shifted", "weights", "depthwise", "linear", "binary"])
def test_brevitas_modules_give_the_integers_that_their_outputs_stand_for(brevitas, case):
    activation_width, weight_width, signed, *steps = brevitas_models()[case]
    model = nn.Sequential(*steps)
    shape = (5, 3, 6) if case == "linear" else (5, 6, 7, 8)
    for _ in range(3):  # activation scales are learned
        model(torch.randn(shape) * 3 + 0.5)
    network, outputs = captured(model, torch.randn(shape) * 3 + 0.5)
    check_outputs(network, outputs)
    (layer,) = network.layers
    spec = layer.spec
    assert (spec.activation_bits, spec.weight_bits, spec.signed) == (activation_width, weight_width, signed)
    assert (spec.zero_point != 0) == (case in ("shifted", "weights"))
    assert layer.weight_scale.size == (4 if case == "by channel" else 1)
    assert (layer.bias is not None and layer.bias.any()) == (case in ("by channel", "linear"))
    assert layer.origin.startswith(f"PyTorch {torch.__version__}, Brevitas {brevitas.__version__}: ")


def test_brevitas_modules_without_integers_say_why(brevitas):
    import brevitas.nn as qnn
    from brevitas import quant

    images = torch.randn(2, 3, 4, 4)

    def why(*steps):
        return message(read_model, nn.Sequential(*steps), images).split("; ", 1)[-1]

    def conv(**options):
        return qnn.QuantConv2d(3, 4, 1, bias=False, **options)

    def entering(**options):
        return qnn.QuantIdentity(return_quant_tensor=True, **options)

    assert why(conv()) == (
        "0: QuantConv2d: its input is not quantized; the layer before it must have return_quant_tensor=True"
    )
    assert why(entering(), conv(weight_quant=None)) == "1: QuantConv2d: its weights are not quantized"
    assert why(entering(), qnn.QuantConvTranspose2d(3, 4, 1)).startswith(
        "1: QuantConvTranspose2d: only convolutions of "
    )
    assert why(entering(bit_width=12), conv()).startswith("1: activation codes must have at most 8 bits, not 12: ")
    assert why(entering(), conv(weight_quant=quant.Fp8e4m3WeightPerTensorFloat)) == (
        "1: its weights must be integers of one scale, or of one for each oc, not a FloatQuantTensor"
    )
    positive = conv(weight_quant=quant.ShiftedUint8WeightPerTensorFloat)
    positive.weight.data.abs_()
    refused = why(entering(), positive)  # zero point 0, so codes of a u8
    assert refused.startswith("1: weight codes must have at most 8 bits, not 9: ") and refused.endswith("..255")
    network = read_model(nn.Sequential(entering(), qnn.QuantConv2d(3, 4, 1)), images)
    assert network.layers[0].bias is None
    assert network.notes == ("1: its bias is no integer in units of the accumulator, which is without it",)


@pytest.mark.parametrize(
    ("scale", "value", "expected"),
    [
        ([[[0.5]], [[0.25]], [[0.5]]], 1.0, "have one scale, or one for each oc, not scales of shape (1, 3, 1, 1)"),
        (0.5, 1.3, "hold multiples of 0.5, not 1.3 at [0, 0, 0, 0], 0.4 of a step off"),
    ],
    ids=["mixed scales", "off the grid"],
)
def test_a_quantized_tensor_that_is_none_is_refused(brevitas, scale, value, expected):
    import brevitas.nn as qnn
    from brevitas.quant_tensor import IntQuantTensor

    class Entering(nn.Module):
        def forward(self, x):
            steps = torch.tensor([scale] if isinstance(scale, list) else scale)
            return IntQuantTensor(torch.full_like(x, value), steps, 0.0, 8.0, True, False)

    model = nn.Sequential(Entering(), qnn.QuantConv2d(3, 4, 1, bias=False))
    assert message(read_model, model, torch.rand(1, 3, 2, 2)) == f"1: its input must {expected}"


# torch.ao.nn.quantized


def ao_module(kind, *arguments, by_channel=False, **options):
    module = kind(*arguments, **options)
    weight = torch.randn(module.weight().shape)
    if by_channel:
        scales = torch.rand(len(weight), dtype=torch.float64) * 0.02 + 0.01
        zeros = torch.zeros(len(weight), dtype=torch.int64)
        weight = torch.quantize_per_channel(weight, scales, zeros, 0, torch.qint8)
    else:
        weight = torch.quantize_per_tensor(weight, 0.02, 0, torch.qint8)
    module.set_weight_bias(weight, torch.zeros(len(weight)))
    module.scale, module.zero_point = 0.37, 100
    return module


class Entering(nn.Module):
    """Quantizes an image to 7 bits of a quint8, so that no kernel's 16-bit sums of two products saturate."""

    def forward(self, x):
        return torch.quantize_per_tensor(x.clamp(-2, 6), 0.07, 30, torch.quint8)


AO = {
    "by axis": ("Conv2d", (6, 4, (3, 2)), dict(padding=(1, 2), stride=(2, 1), dilation=(1, 2))),
    "relu": ("ConvReLU2d", (6, 4, 3), dict(groups=2, padding=1)),
    "depthwise": ("Conv2d", (6, 6, 3), dict(groups=6, by_channel=True)),
    "linear": ("Linear", (6, 5), {}),
    "linear relu": ("LinearReLU", (6, 5), dict(by_channel=True)),
}


@pytest.mark.filterwarnings("ignore::UserWarning")  # torch's own: quantized tensors are deprecated
@pytest.mark.parametrize("case", AO)
def test_torch_ao_modules_give_the_integers_that_torch_requantizes(case):
    import torch.ao.nn.intrinsic.quantized as fused
    import torch.ao.nn.quantized as ao

    kind, arguments, options = AO[case]
    module = ao_module(getattr(fused if "ReLU" in kind else ao, kind), *arguments, **options)
    shape = (3, 7, 6) if "Linear" in kind else (3, 6, 7, 8)
    network, outputs = captured(nn.Sequential(Entering(), module), torch.rand(shape) * 8 - 2)
    (layer,) = network.layers
    spec = layer.spec
    assert (spec.name, spec.zero_point, spec.activation_bits, spec.weight_bits, spec.signed) == ("1", 30, 8, 8, False)
    assert layer.activation.min() < 30 < layer.activation.max() < 128
    multiplier = (np.float32(layer.activation_scale) * layer.weight_scale / np.float32(0.37)).reshape(-1, 1, 1)
    low = 100 if "ReLU" in kind else 0
    codes = np.clip(np.rint(zero_centred(layer).astype(np.float32) * multiplier) + 100, low, 255)
    found = outputs["1"].int_repr().numpy()
    if found.ndim == 3:
        found = found.transpose(0, 2, 1)[:, :, None]
    off = np.abs(found.astype(int) - codes)
    assert off.max() <= 1 and off.sum() <= 2  # kernels multiply by the same float32, in orders of their own
    assert np.unique(found).size > 30


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_converted_model_is_captured_whole():
    from torch.ao import quantization

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.quant, self.dequant = quantization.QuantStub(), quantization.DeQuantStub()
            self.conv, self.bn, self.relu = nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU()
            self.again, self.add = nn.Conv2d(8, 8, 3, padding=1, groups=4), nn.quantized.FloatFunctional()
            self.fc, self.last = nn.Linear(8, 4), nn.Linear(4, 2)

        def forward(self, x):
            x = self.relu(self.bn(self.conv(self.quant(x))))
            x = self.add.add(x, self.again(x))
            return self.last(self.dequant(self.fc(x.mean((2, 3)))))

    model = quantization.fuse_modules(Net().eval(), [["conv", "bn", "relu"]])
    model.qconfig = quantization.get_default_qconfig("x86")
    model.last.qconfig = None
    prepared = quantization.prepare(model)
    prepared(torch.randn(8, 3, 6, 6))
    network = read_model(quantization.convert(prepared), torch.randn(4, 3, 6, 6))
    assert [layer.spec.name for layer in network.layers] == ["conv", "again", "fc"]
    assert network.skipped == {"last": "Linear: its weights are not quantized"}
    assert network.layers[0].weight_scale.shape == (8,) and network.layers[0].spec.zero_point > 0
    assert network.notes == tuple(
        f"{name}: its bias is no integer in units of the accumulator, which is without it"
        for name in ("conv", "again", "fc")
    )


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_torch_ao_modules_without_integers_of_one_scale_say_why():
    import torch.ao.nn.quantized as ao
    import torch.ao.nn.quantized.dynamic as dynamic

    images = torch.rand(2, 3, 4, 4)
    model = nn.Sequential(dynamic.Linear(4, 4))
    assert message(read_model, model, images).endswith(
        "; 0: Linear is quantized dynamically: the scale of its input changes with the input"
    )
    assert message(read_model, nn.Sequential(ao.Conv2d(3, 4, 1)), images) == (
        "0: its input must be quint8 or qint8, not float32"
    )
    reflect = nn.Sequential(Entering(), ao.Conv2d(3, 4, 3, padding=1, padding_mode="reflect"))
    assert message(read_model, reflect, images) == "1: padding_mode must be zeros, not reflect"


# The grid


def test_bits_are_the_fewest_whose_grid_holds_the_values():
    for bits in range(2, 9):
        levels = 2 ** (bits - 1) - 1
        values = np.arange(-levels, levels + 1).astype(np.float32) * (np.float32(1.7) / np.float32(levels))
        assert weight_bits("w", values, np.float32(1.7)) == bits
        assert (grid_codes("w", values, np.float32(1.7) / levels) == np.arange(-levels, levels + 1)).all()
        codes = np.arange(2**bits).astype(np.float32) * (np.float32(0.3) / np.float32(2**bits - 1))
        assert activation_bits("a", codes, np.float32(0.3)) == bits
    assert weight_bits("w", np.zeros(3, np.float32), 1.0) == 2
    assert activation_bits("a", np.float32([0, 1]), 1.0) == 1


def test_values_off_the_grid_are_refused_with_the_worst_of_them():
    values = np.float32([[0.0, 0.1], [0.2, 0.3004]])
    assert message(grid_codes, "w", values, 0.1) == (
        "w must hold multiples of 0.1, not 0.3004 at [1, 1], 0.004 of a step off"
    )
    steps = np.float32([[0.1], [0.3004]])
    assert message(grid_codes, "w", np.float32([[0.1, 0.2], [0.3004, 0.35]]), steps) == (
        "w must hold multiples of 0.3004, not 0.35 at [1, 1], 0.165 of a step off"
    )
    assert message(grid_codes, "w", np.float32([1, np.nan]), 1.0).endswith("not nan at [1], inf of a step off")
    assert grid_codes("w", np.float32([-0.1, 0.3]), 0.1, 128).tolist() == [127, 131]
    assert message(activation_bits, "a", np.float32([0.3, 0.12345]), 1.0) == (
        "a must hold multiples of 1 / levels of 1 to 8 bits; "
        "of the nearest, 3 bits, not 0.12345 at [1], 0.136 of a step off"
    )


# From a captured network on


@pytest.mark.reference
def test_a_captured_layer_is_exported_as_the_notebook_wrote_it(reference, tmp_path):
    model, images, _ = reference_model(reference, "w4a4")
    network = read_model(model, images[:1], layers="features.27")
    store = store_codes(network, tmp_path / "s.h5", "captured")
    with open_store(store) as opened:
        export(opened, tmp_path / "ws", dataflow="ws", profile="notebook", tiles="all", flat=True)
        export(
            opened, tmp_path / "os", dataflow="os", profile="notebook", tiles="pt=0,ot=0", input_channels=3, flat=True
        )
    for folder in ("ws", "os"):
        assert files_of(tmp_path / folder) == files_of(reference / folder)


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_captured_network_is_stored_verified_and_exported(tmp_path):
    import torch.ao.nn.quantized as ao

    model = nn.Sequential(
        Entering(),
        ao_module(ao.Conv2d, 6, 4, (3, 2), padding=(1, 2), stride=(2, 1), groups=2),
        nn.Flatten(2),
        ao_module(ao.Linear, 40, 5, by_channel=True),
    )
    network = read_model(model, torch.rand(2, 6, 8, 7) * 8 - 2)
    store = store_codes(network, tmp_path / "s.h5", "captured")
    with open_store(store) as opened:
        for layer in network.layers:
            assert (opened.layer(layer.spec.name).accumulator[:] == plain_accumulator(layer)).all()
        for dataflow in ("ws", "os", "is"):
            export(opened, tmp_path / dataflow, dataflow=dataflow, layers="all")
    assert verify_store(store, "all").compared
    for dataflow in ("ws", "os", "is"):
        assert verify(tmp_path / dataflow, store=store).compared
