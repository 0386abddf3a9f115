"""QONNX models: every grid and rounding mode against qonnx's own formulas, and a network that Brevitas exported."""

import numpy as np
import pytest
from helpers_onnx import QONNX, ModelMaker, all_values, onnx, plain_sums

from factory.readers.onnx import read_onnx
from factory.spec import InputError

F32 = np.float32
MODES = ("ROUND", "CEIL", "FLOOR", "UP", "DOWN", "HALF_UP", "HALF_DOWN")
VALUES = np.concatenate([np.arange(-40, 41) / F32(8), np.linspace(-9, 9, 400)]).astype(F32).reshape(1, 1, 13, 37)


def rng(seed=0):
    return np.random.default_rng(seed)


def one_layer(tmp_path, quantize, values=VALUES, weight=None):
    """Return what is read of a model whose values are quantized and enter a 1x1 convolution."""
    maker = ModelMaker()
    x = quantize(maker, maker.input("x", ["n", *values.shape[1:]]))
    kernel = np.ones((1, values.shape[1], 1, 1), F32) if weight is None else weight
    maker.node("Conv", x, maker.quant(kernel, 1), name="conv")
    return read_onnx(maker.save(tmp_path / "m.onnx"), values).layers[0]


@pytest.mark.parametrize("narrow", [0, 1])
@pytest.mark.parametrize("signed", [0, 1])
@pytest.mark.parametrize("bits", [1, 2, 3, 5, 8])
@pytest.mark.parametrize("mode", MODES)
def test_quant_is_qonnx_s_own_formula(tmp_path, mode, bits, signed, narrow):
    intquant = pytest.importorskip("qonnx.custom_op.general.intquant")
    scale, zero_point = F32(0.25 if bits < 8 else 0.03), F32(0 if bits < 3 else 2)
    grid = dict(signed=signed, narrow=narrow, rounding_mode=mode)
    layer = one_layer(tmp_path, lambda maker, x: maker.quant(x, scale, bits, zero_point, **grid))
    theirs = intquant.int_quant(VALUES, scale, zero_point, F32(bits), signed, narrow, mode)
    assert (layer.activation == np.rint(theirs / scale + zero_point)).all()
    assert ((layer.activation.astype(F32) - zero_point) * scale == theirs).all()
    bipolar = bits == 1 and signed
    found = (layer.spec.activation_bits, layer.spec.signed, layer.spec.zero_point)
    assert found == (2 if bipolar else bits, bool(signed), zero_point)
    assert layer.activation.dtype == (np.int8 if signed else np.uint8)


def test_bipolar_codes_are_minus_and_plus_one(tmp_path):
    def quantize(maker, x):
        return maker.node("BipolarQuant", x, F32(0.5), domain=QONNX)

    layer = one_layer(tmp_path, quantize)
    assert (layer.activation == np.where(VALUES >= 0, 1, -1)).all() and layer.activation_scale == 0.5
    assert (layer.spec.activation_bits, layer.spec.signed) == (2, True)

    maker = ModelMaker()
    x = maker.quant(maker.input("x", [1, 2, 3, 3]), 1, 4)
    weight = rng().normal(size=(3, 2, 3, 3)).astype(F32)
    maker.node("Conv", x, maker.node("BipolarQuant", weight, F32(0.3), domain=QONNX))
    layer = read_onnx(maker.save(tmp_path / "m.onnx"), np.ones((1, 2, 3, 3), F32)).layers[0]
    assert (layer.weight == np.where(weight >= 0, 1, -1)).all() and layer.weight_scale == F32(0.3)
    assert layer.spec.weight_bits == 2


@pytest.mark.parametrize("mode", ["FLOOR", "CEIL", "ROUND", "HALF_UP"])
def test_trunc_1_drops_low_bits_and_keeps_the_scale(tmp_path, mode):
    trunc_v1 = pytest.importorskip("qonnx.custom_op.general.trunc").trunc_v1
    sums, scale = np.minimum(np.arange(1024), 1000).reshape(1, 1, 32, 32), F32(0.0137)
    args = (scale, F32(0), F32(10), F32(6))

    def quantize(maker, x):
        return maker.node("Trunc", maker.node("Relu", x), *args, rounding_mode=mode, domain=QONNX)

    values = sums.astype(F32) * scale
    layer = one_layer(tmp_path, quantize, values)
    assert (layer.activation * scale == trunc_v1(values, *args, mode)).all()
    assert (layer.activation == closed_form(sums, 4, mode)).all() and layer.activation_scale == scale
    assert (layer.spec.activation_bits, layer.spec.signed) == (6, False)


@pytest.mark.parametrize("signed", [0, 1])
def test_trunc_1_has_the_sign_of_what_it_truncates(tmp_path, signed):
    maker = ModelMaker()
    x = maker.quant(maker.input("x", ["n", 1, 4, 4]), 0.1, 4, signed=signed)
    sums = maker.node("Mul", maker.node("AveragePool", x, kernel_shape=[2, 2], strides=[2, 2]), F32(4))
    sums = maker.node("Reshape", sums, np.array([-1, 1, 2, 2]))
    codes = maker.node("Trunc", sums, F32(0.1), F32(0), F32(6), F32(4), rounding_mode="FLOOR", domain=QONNX)
    maker.node("Conv", codes, maker.quant(np.ones((1, 1, 1, 1), F32), 1))
    images = rng().normal(0, 1, (4, 1, 4, 4)).astype(F32)
    layer = read_onnx(maker.save(tmp_path / "m.onnx"), images).layers[0]
    entered = np.rint(images / F32(0.1)).clip(-8 * signed, 15 - 8 * signed).astype(int)
    assert (layer.activation == entered.reshape(4, 1, 2, 2, 2, 2).sum(axis=(3, 5)) >> 2).all()
    assert layer.spec.signed == bool(signed) and layer.spec.activation_bits == 4


def closed_form(sums, shift, mode):
    """Return integers less their low bits by integer operations alone."""
    return {
        "FLOOR": sums >> shift,
        "CEIL": -(-sums >> shift),
        "HALF_UP": sums + (1 << shift - 1) >> shift,
        "ROUND": sums + (1 << shift - 1) - 1 + (sums >> shift & 1) >> shift,
    }[mode]


@pytest.mark.parametrize("signed", [0, 1])
@pytest.mark.parametrize("mode", ["FLOOR", "CEIL", "ROUND"])
def test_trunc_2_has_a_scale_of_its_output_and_clips(tmp_path, mode, signed):
    trunc_v2 = pytest.importorskip("qonnx.custom_op.general.trunc").trunc_v2
    sums, scale = (np.arange(1024) - 300 * signed).reshape(1, 1, 32, 32), F32(0.0137)
    args = (scale, F32(0), F32(10), scale * 8, F32(6))

    def quantize(maker, x):
        return maker.node("Trunc", x, *args, rounding_mode=mode, signed=signed, narrow=1, domain=QONNX)

    values = sums.astype(F32) * scale
    layer = one_layer(tmp_path, quantize, values)
    theirs = trunc_v2(values, scale, F32(0), F32(10), 1, signed, scale * 8, F32(6), mode)
    low, high = (-31, 31) if signed else (0, 62)
    assert (layer.activation * (scale * 8) == theirs).all() and layer.activation_scale == scale * 8
    assert (layer.activation == closed_form(sums, 3, mode).clip(low, high)).all()


def test_ties_of_a_formula_are_where_the_formula_has_them(tmp_path):
    """The accumulator times the scale may fall on half a step: its threshold is what the float32 steps say."""
    sums = np.arange(-128, 128).reshape(1, 1, 16, 16)
    maker = ModelMaker()
    x = maker.quant(maker.input("x", [1, 1, 16, 16]), 0.1, 8)
    conv = maker.node("Conv", x, maker.quant(np.ones((1, 1, 1, 1), F32), 1))
    maker.node("Conv", maker.quant(conv, 0.2, 8), maker.quant(np.ones((1, 1, 1, 1), F32), 1))
    network = read_onnx(maker.save(tmp_path / "m.onnx"), sums.astype(F32) * F32(0.1))
    assert (network.layers[0].activation == sums).all()
    real = sums.astype(F32) * F32(0.1)
    assert (network.layers[1].activation == np.rint(real / F32(0.2))).all()
    exact = np.rint(sums / 2)
    assert (network.layers[1].activation != exact).sum() == 10  # what a closed form of the real scales would miss


def test_batch_norm_is_that_of_inference_whatever_the_opset(tmp_path):
    maker = ModelMaker(9)
    x = maker.quant(maker.input("x", ["n", 3, 4, 4]), 0.1, 8)
    conv = maker.node("Conv", x, maker.quant(rng().normal(size=(4, 3, 3, 3)).astype(F32), 0.25, 4), pads=[1] * 4)
    gamma, beta, mean, var = (rng(seed).uniform(0.5, 2, 4).astype(F32) for seed in range(4))
    gamma[1] = -gamma[1]
    norm = maker.node("BatchNormalization", conv, gamma, beta, mean, var, epsilon=0.001)
    codes = maker.quant(maker.node("Relu", norm), 0.3, 4, signed=0)
    maker.node("Conv", codes, maker.quant(np.ones((1, 4, 1, 1), F32), 1))
    path = maker.save(tmp_path / "m.onnx")
    images = rng().normal(size=(2, 3, 4, 4)).astype(F32)
    first, second = read_onnx(path, images).layers
    real = plain_sums(first).astype(F32) * (F32(0.1) * F32(0.25))
    gamma, beta, mean, var = (each[:, None, None] for each in (gamma, beta, mean, var))
    real = (real - mean) / np.sqrt(var + F32(0.001)) * gamma + beta
    assert (second.activation == np.rint((np.maximum(real, 0) / F32(0.3)).clip(0, 15))).all()

    model = onnx.load(path)  # onnx's own evaluator normalizes by the statistics of these images
    nodes = [node for node in model.graph.node if node.op_type == "BatchNormalization"]
    graph = onnx.helper.make_graph(
        nodes, "norm", [onnx.helper.make_tensor_value_info(conv, 1, None)], [], model.graph.initializer
    )
    graph.output.append(onnx.helper.make_tensor_value_info(norm, 1, None))
    evaluator = pytest.importorskip("onnx.reference").ReferenceEvaluator(
        onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 9)])
    )
    theirs = evaluator.run([norm], {conv: all_values(path, {"x": images})[conv]})[0]
    assert np.abs(theirs - real).max() > 0.1


def test_a_residual_network_of_real_values_between_codes(tmp_path):
    maker = ModelMaker()
    x = maker.quant(maker.input("x", ["n", 3, 6, 6]), 0.1, 8)
    scales = rng(1).uniform(0.1, 0.4, (5, 1, 1, 1)).astype(F32)
    weight = maker.quant(rng().normal(size=(5, 3, 3, 3)).astype(F32), scales, 4, narrow=1)
    first = maker.node("Conv", x, weight, rng(2).normal(size=5).astype(F32), pads=[1] * 4)
    codes = maker.quant(maker.node("Relu", first), 0.3, 4, signed=0)
    second = maker.node("Conv", codes, maker.quant(rng(3).normal(size=(5, 5, 1, 1)).astype(F32), 0.5, 2))
    both = maker.node("Add", maker.node("Mul", second, F32(0.7)), codes)
    pooled = maker.node("MaxPool", maker.quant(both, 0.4, 3, narrow=1), kernel_shape=[2, 2], strides=[2, 2])
    flat = maker.node("Reshape", pooled, np.array([0, -1]))
    maker.node("MatMul", flat, maker.quant(rng(4).normal(size=(45, 4)).astype(F32), 0.2, 4), name="last")
    path = maker.save(tmp_path / "m.onnx")
    network = read_onnx(path, rng().normal(0, 4, (3, 3, 6, 6)).astype(F32))
    one, two, last = network.layers
    assert (one.weight_scale == scales.ravel()).all() and one.bias is None
    unit = (F32(0.1) * scales.ravel())[:, None, None]
    real = plain_sums(one).astype(F32) * unit + rng(2).normal(size=5).astype(F32)[:, None, None]
    assert (two.activation == np.rint((np.maximum(real, 0) / F32(0.3)).clip(0, 15))).all()
    real = plain_sums(two).astype(F32) * (F32(0.3) * F32(0.5)) * F32(0.7) + two.activation.astype(F32) * F32(0.3)
    codes = np.rint((real / F32(0.4)).clip(-3, 3)).reshape(3, 5, 3, 2, 3, 2).max(axis=(3, 5))
    assert (last.activation[:, :, 0, 0] == codes.reshape(3, 45)).all()
    assert [layer.spec.weight_bits for layer in network.layers] == [4, 2, 4]


def test_a_bias_in_units_of_the_sums_is_an_integer(tmp_path):
    maker = ModelMaker()
    x = maker.quant(maker.input("x", ["n", 2, 3, 3]), 0.1, 8)
    weight, unit = maker.quant(np.ones((2, 2, 1, 1), F32), 0.5, 4), F32(0.1) * F32(0.5)
    bias = maker.quant(np.array([0.4, -0.31], F32), unit, 16)
    maker.node("Conv", x, weight, bias)
    layer = read_onnx(maker.save(tmp_path / "m.onnx"), np.ones((1, 2, 3, 3), F32)).layers[0]
    assert layer.bias.tolist() == [8, -6] and layer.bias.dtype == np.int32


def annotate(maker, model, **datatypes):
    for name, datatype in datatypes.items():
        note = model.graph.quantization_annotation.add(tensor_name=name)
        note.quant_parameter_tensor_names.add(key="finn_datatype", value=datatype)


def finn_model(weight):
    """A model as FINN keeps it: integers in float tensors, their types beside them, thresholds for activations."""
    maker = ModelMaker()
    x = maker.input("x", [1, 2, 4, 4])
    conv = maker.node("Conv", x, maker.constant(weight, "w"), name="conv")
    thresholds = np.sort(rng().integers(-50, 50, (3, 7)), axis=1).astype(F32)
    codes = maker.node("MultiThreshold", conv, thresholds, domain=QONNX, out_dtype="INT4", out_bias=-4.0)
    maker.node("Conv", codes, maker.constant(np.ones((1, 3, 1, 1), F32), "ones"))
    model = maker.model()
    annotate(maker, model, x="UINT8", w="INT3", ones="BIPOLAR")
    return model, thresholds


def test_integers_in_float_tensors_are_codes_where_they_are_annotated(tmp_path):
    weight = rng().integers(-4, 4, (3, 2, 3, 3)).astype(F32)
    model, thresholds = finn_model(weight + F32(2**-12))
    onnx.save(model, tmp_path / "m.onnx")
    images = rng().integers(0, 256, (2, 2, 4, 4)).astype(F32)
    first, second = read_onnx(tmp_path / "m.onnx", images).layers
    assert (first.weight == weight).all() and (first.activation == images).all()
    assert (first.spec.weight_bits, first.spec.activation_bits, first.weight_scale) == (3, 8, 1)
    reached = (plain_sums(first)[..., None] >= thresholds[:, None, None]).sum(axis=-1) - 4
    assert (second.activation == reached).all() and second.spec.signed and second.spec.activation_bits == 4

    onnx.save(finn_model(weight + F32(2**-8))[0], tmp_path / "m.onnx")
    with pytest.raises(InputError) as caught:
        read_onnx(tmp_path / "m.onnx", images)
    worst = F32(weight.flat[0] + 2**-8)
    message = f"node conv (Conv): w must hold multiples of 1, not {worst!s} at [0, 0, 0, 0], 0.00391 of a step off"
    assert str(caught.value) == message


def quant_with(**changes):
    def model(maker):
        x = maker.input("x", [1, 2, 3, 3])
        grid = dict(scale=F32(1), zero_point=F32(0), bits=F32(4)) | {k: v for k, v in changes.items() if k != "mode"}
        mode = changes.get("mode", "ROUND")
        x = maker.node("Quant", x, *grid.values(), domain=QONNX, signed=1, narrow=0, rounding_mode=mode, name="q")
        maker.node("Conv", x, maker.quant(np.ones((1, 2, 1, 1), F32), 1), name="conv")

    return model


def float_quant(maker):
    x = maker.input("x", [1, 2, 3, 3])
    grid = (F32(1), F32(4), F32(3), F32(7), F32(240))
    weight = maker.node("FloatQuant", np.ones((1, 2, 1, 1), F32), *grid, domain=QONNX, name="f")
    maker.node("Conv", maker.quant(x, 1), weight)


REFUSED = [
    (quant_with(bits=F32(9)), "node conv (Conv): layer conv: t0 must have at most 8 bits, not 9"),
    (quant_with(bits=F32(2.5)), "node q (Quant): the bit width c2 must be a whole number, 1 to 32, not 2.5"),
    (quant_with(zero_point=F32(0.5)), "node q (Quant): the zero point c1 must be whole numbers, not 0.5"),
    (quant_with(scale=F32(0)), "node q (Quant): the scale c0 must be positive numbers, not 0.0"),
    (
        quant_with(mode="STOCHASTIC"),
        "node q (Quant): rounding_mode must be one of ROUND HALF_EVEN CEIL FLOOR UP DOWN ROUND_TO_ZERO HALF_UP "
        "HALF_DOWN, not STOCHASTIC",
    ),
    (float_quant, "node f (FloatQuant): quantization must be to integers, not to floats"),
]


@pytest.mark.parametrize("model, message", REFUSED, ids=lambda each: each if isinstance(each, str) else "")
def test_refusals(tmp_path, model, message):
    maker = ModelMaker()
    model(maker)
    with pytest.raises(InputError) as caught:
        read_onnx(maker.save(tmp_path / "m.onnx"), np.ones((1, 2, 3, 3), F32))
    assert str(caught.value) == message


def test_values_that_are_no_numbers_are_refused(tmp_path):
    with pytest.raises(InputError, match=r"^input x must be numbers in float32's range, not nan$"):
        one_layer(tmp_path, lambda maker, x: maker.quant(x, 1), np.full((1, 1, 2, 2), np.nan, F32))
    with pytest.raises(InputError, match=r"^node t1 \(Quant\): what is quantized must be numbers, not nan$"):
        one_layer(tmp_path, lambda maker, x: maker.quant(maker.node("Sqrt", x), 1), -np.ones((1, 1, 2, 2), F32))


@pytest.mark.slow
@pytest.mark.torch
@pytest.mark.filterwarnings("ignore")
def test_a_network_that_brevitas_exported(tmp_path):
    torch = pytest.importorskip("torch")
    brevitas = pytest.importorskip("brevitas.nn")
    export = pytest.importorskip("brevitas.export").export_qonnx
    grids = pytest.importorskip("brevitas.quant")
    torch.manual_seed(0)
    model = torch.nn.Sequential(
        brevitas.QuantIdentity(bit_width=8, return_quant_tensor=True),
        brevitas.QuantConv2d(
            3, 8, 3, padding=1, bias=False, weight_bit_width=4, weight_quant=grids.Int8WeightPerChannelFloat
        ),
        torch.nn.BatchNorm2d(8),
        brevitas.QuantReLU(bit_width=4, return_quant_tensor=True),
        brevitas.QuantConv2d(8, 8, 3, stride=2, padding=1, groups=8, weight_bit_width=3, bias_quant=grids.Int32Bias),
        brevitas.QuantReLU(bit_width=2, return_quant_tensor=True),
        brevitas.QuantConv2d(8, 8, 1, bias=False, weight_quant=grids.SignedBinaryWeightPerTensorConst),
        brevitas.QuantIdentity(bit_width=5, return_quant_tensor=True),
        brevitas.QuantConv2d(8, 8, 3, dilation=2, bias=False, weight_quant=grids.SignedTernaryWeightPerTensorConst),
        brevitas.QuantReLU(bit_width=6, return_quant_tensor=True),
        brevitas.TruncAvgPool2d(4),
        torch.nn.Flatten(),
        brevitas.QuantLinear(8, 10, bias=True, weight_bit_width=8, bias_quant=None),
    )
    images = torch.randn(16, 3, 16, 16)
    model(images)
    model.eval()
    entered = {}
    for module in model:
        if isinstance(module, brevitas.QuantConv2d | brevitas.QuantLinear):
            module.register_forward_hook(lambda at, inputs, output: entered.__setitem__(at, inputs[0]))
    export(model, args=images[:1], export_path=str(tmp_path / "m.onnx"), dynamo=False)
    entered.clear()
    model(images)
    network = read_onnx(tmp_path / "m.onnx", images.numpy())
    assert len(network.layers) == len(entered) == 5 and network.skipped == {}
    for layer, (module, codes) in zip(network.layers, entered.items(), strict=True):
        weight = module.quant_weight().int().numpy()
        dense = layer.weight if layer.spec.groups == 1 else layer.weight[range(8), range(8)][:, None]
        assert (dense.reshape(weight.shape) == weight).all()
        theirs = codes.int().numpy()
        differ = (layer.activation.reshape(theirs.shape) != theirs).mean()
        assert differ <= 0.001, f"{layer.spec.name}: {differ:.2%} of the codes differ"
    found = [(layer.spec.weight_bits, layer.spec.activation_bits, layer.spec.signed) for layer in network.layers]
    assert found == [(4, 8, True), (3, 4, False), (2, 2, False), (2, 5, True), (8, 8, False)]
    assert network.layers[1].bias is not None and network.layers[4].bias is None
