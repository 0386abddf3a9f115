"""QLinear models and geometry: accumulators against plain loops, codes against the formula, and what is refused."""

import numpy as np
import pytest
from helpers_onnx import MICROSOFT, ModelMaker, TensorProto, all_values, helper, onnx, plain_sums, runtime_values

from factory.build.captured import capture
from factory.cli.app import app
from factory.export import export
from factory.readers.onnx import read_onnx
from factory.spec import InputError
from factory.store import open_store
from factory.verify import verify, verify_store

F32 = np.float32


def rng(seed=0):
    return np.random.default_rng(seed)


def int8(*shape, seed=1, high=128):
    return rng(seed).integers(-high, high, shape).astype(np.int8)


def requantized(sums, multiplier, zero_point, low=0, high=255):
    """One multiplier, half to even: what every QLinear operator says of exact sums."""
    return np.clip(np.rint(sums.astype(F32) * multiplier) + zero_point, low, high)


def qlinear_pair(maker, x, zero_point, weight, bias=None, weight_scale=0.25, **attributes):
    """A quantizer and a QLinearConv whose codes enter a 1x1 QLinearConv, so that they can be seen."""
    dtype = type(zero_point)
    codes = maker.node("QuantizeLinear", x, F32(0.05), zero_point)
    points = np.zeros(np.shape(weight_scale), np.int8)
    grid = (F32(0.05), zero_point, weight, np.asarray(weight_scale, F32), points, F32(3), dtype(7))
    between = maker.node("QLinearConv", codes, *grid, bias, **attributes)
    kernel = int8(2, len(weight), *(1,) * (weight.ndim - 2))
    return maker.node("QLinearConv", between, F32(3), dtype(7), kernel, F32(0.1), np.int8(0), F32(9), dtype(3))


GEOMETRIES = [
    dict(weight=(4, 3, 3, 2), group=2, pads=[1, 0, 2, 3], strides=[2, 1], dilations=[1, 2]),
    dict(weight=(6, 1, 3, 3), group=6, pads=[1, 1, 1, 1]),
    dict(weight=(5, 6, 4, 3), auto_pad="SAME_UPPER", strides=[2, 3]),
    dict(weight=(5, 6, 4, 2), auto_pad="SAME_LOWER"),
    dict(weight=(5, 6, 2, 2), auto_pad="VALID"),
    dict(weight=(3, 6, 1, 1), strides=[3, 2]),
    dict(weight=(3, 2, 5), group=3, pads=[1, 3], strides=[2]),
]


@pytest.mark.parametrize("kind", [np.uint8, np.int8])
@pytest.mark.parametrize("geometry", GEOMETRIES, ids=lambda each: "x".join(map(str, each["weight"])))
def test_qlinear_convolutions_of_any_geometry_are_exact(tmp_path, geometry, kind):
    attributes = dict(geometry)
    weight = int8(*attributes.pop("weight"), high=64)
    size = (9, 7) if weight.ndim == 4 else (11,)
    maker = ModelMaker()
    x = maker.input("x", ["n", 6, *size])
    zero_point = kind(3 if kind is np.int8 else 131)
    scales = rng(3).uniform(0.05, 0.3, len(weight)).astype(F32)
    bias = rng(2).integers(-500, 500, len(weight)).astype(np.int32)
    qlinear_pair(maker, x, zero_point, weight, bias, scales, **attributes)
    inputs = rng().normal(0, 3, (3, 6, *size)).astype(F32)
    path = maker.save(tmp_path / "my model.onnx")
    network = read_onnx(path, inputs)
    first, second = network.layers
    assert (network.name, network.images, network.skipped, network.notes) == ("my_model", ("x 0", "x 1", "x 2"), {}, ())
    assert first.spec.signed == (kind is np.int8) and first.spec.zero_point == zero_point
    assert first.activation.dtype == kind and first.weight.dtype == np.int8
    low, high = np.iinfo(kind).min, np.iinfo(kind).max
    entered = np.clip(np.rint(inputs / F32(0.05)) + zero_point, low, high)
    assert (first.activation == entered.reshape(first.activation.shape)).all()
    assert (first.bias == bias).all() and (first.weight_scale == scales).all()
    assert first.activation_scale == F32(0.05) and second.bias is None
    sums = plain_sums(first) + bias[:, None, None]
    multiplier = (F32(0.05) * scales / F32(3))[:, None, None]
    assert (second.activation == requantized(sums, multiplier, 7, low, high)).all()
    (theirs,) = runtime_values(path, {"x": inputs}, ["t1"])  # weights of 7 bits, so that its kernels saturate nowhere
    assert (theirs.reshape(second.activation.shape) == second.activation).all()


def test_an_accumulator_of_codes_as_they_are_has_the_zero_point_on_its_border(tmp_path):
    maker = ModelMaker()
    x = maker.input("x", [1, 2, 3, 3])
    qlinear_pair(maker, x, np.uint8(100), int8(2, 2, 3, 3), pads=[1, 1, 1, 1])
    layer = read_onnx(maker.save(tmp_path / "m.onnx"), np.zeros((1, 2, 3, 3), F32)).layers[0]
    assert (layer.activation == 100).all() and (plain_sums(layer) == 0).all()


@pytest.mark.parametrize("ties", [(1, 0), (3, 2), (5, 2), (-1, 0), (-3, -2)])
def test_ties_round_to_the_even_code(tmp_path, ties):
    half, code = ties
    maker = ModelMaker()
    x = maker.input("x", [1, 1, 1, 1], TensorProto.INT8)
    one, unit = np.ones((1, 1, 1, 1), np.int8), (F32(1), np.int8(0))
    between = maker.node("QLinearConv", x, *unit, one, *unit, F32(2), np.int8(0))
    maker.node("QLinearConv", between, *unit, one, *unit, *unit)
    network = read_onnx(maker.save(tmp_path / "m.onnx"), np.full((1, 1, 1, 1), half, np.int8))
    assert network.layers[1].activation.item() == code


def test_matrix_products_are_layers_of_tokens(tmp_path):
    maker = ModelMaker()
    x = maker.input("x", ["n", 5, 4])
    grid = (F32(0.1), np.uint8(120))
    codes = maker.node("QuantizeLinear", x, *grid)
    right = int8(4, 6)
    scales = np.linspace(0.01, 0.06, 6, dtype=F32)
    between = maker.node("QLinearMatMul", codes, *grid, right, scales, np.zeros(6, np.int8), F32(0.5), np.uint8(99))
    turned = maker.node("Transpose", between, perm=[0, 2, 1])
    left = maker.node("DequantizeLinear", turned, F32(0.5), np.uint8(99))
    weight = maker.node("DequantizeLinear", int8(7, 6), F32(0.1), np.int8(0))
    product = maker.node("MatMul", weight, left, name="left")
    maker.node("MatMul", product, rng().normal(size=(5, 2)).astype(F32), name="float")
    inputs = rng().normal(0, 3, (2, 5, 4)).astype(F32)
    network = read_onnx(maker.save(tmp_path / "m.onnx"), inputs)
    first, second = network.layers
    assert network.skipped == {"float": "its input t5 must be quantized, not real"}
    assert (first.spec.height, first.spec.width, first.spec.kernel, first.spec.padding) == (1, 5, (1, 1), (0, 0, 0, 0))
    centred = first.activation[:, :, 0].transpose(0, 2, 1).astype(int) - 120
    codes = requantized(centred @ right.astype(int), F32(0.1) * scales / F32(0.5), 99)
    assert (second.activation[:, :, 0].transpose(0, 2, 1) == codes).all()
    assert (plain_sums(second)[:, :, 0] == int8(7, 6).astype(int) @ (codes.transpose(0, 2, 1).astype(int) - 99)).all()
    assert (first.weight_scale == scales).all() and second.spec.name == "left"


@pytest.mark.parametrize("transposed", [0, 1])
def test_gemms_of_both_orders_are_layers_of_one_token(tmp_path, transposed):
    maker, weight, bias = ModelMaker(), int8(4, 6), np.arange(6, dtype=np.int32) * 100
    x = maker.input("x", ["n", 4])
    grid, kernel = (F32(0.1), np.int8(-5)), weight.T if transposed else weight
    codes = maker.node("QuantizeLinear", x, *grid)
    operands = (codes, *grid, kernel, F32(0.02), np.int8(0), bias, F32(0.3), np.int8(4))
    between = maker.node("QGemm", *operands, domain=MICROSOFT, transB=transposed, alpha=1.0)
    real = maker.node("DequantizeLinear", between, F32(0.3), np.int8(4))
    second = maker.node("DequantizeLinear", int8(3, 6) if transposed else int8(6, 3), F32(0.3), np.int8(0))
    maker.node("Gemm", real, second, transB=transposed)
    network = read_onnx(maker.save(tmp_path / "m.onnx"), rng().normal(size=(3, 4)).astype(F32))
    sums = plain_sums(network.layers[0])[:, :, 0, 0] + bias
    codes = requantized(sums, F32(0.1) * F32(0.02) / F32(0.3), 4, -128, 127)
    assert (network.layers[1].activation[:, :, 0, 0] == codes).all() and (network.layers[0].bias == bias).all()
    assert network.layers[1].spec.width == 1 and network.layers[1].weight.shape == (3, 6, 1, 1)


def test_integer_operators_have_layers_without_scales(tmp_path):
    maker = ModelMaker()
    x = maker.input("x", [2, 3, 4, 4], TensorProto.UINT8)
    sums = maker.node("ConvInteger", x, int8(2, 3, 3, 3), np.uint8(9), name="/net/conv!")
    real = maker.node("Mul", maker.node("Cast", sums, to=TensorProto.FLOAT), F32(0.01))
    codes = maker.node("QuantizeLinear", maker.node("Reshape", real, np.array([2, 8])), F32(0.5), np.uint8(0))
    maker.node("MatMulInteger", codes, int8(8, 3))
    inputs = rng().integers(0, 256, (4, 3, 4, 4)).astype(np.uint8)
    network = read_onnx(maker.save(tmp_path / "m.onnx"), inputs)
    first, second = network.layers
    assert (first.spec.name, first.weight_scale, first.activation_scale) == ("net_conv", None, None)
    real = plain_sums(first).reshape(4, 8).astype(F32) * F32(0.01)
    assert (second.activation[:, :, 0, 0] == np.clip(np.rint(real / F32(0.5)), 0, 255)).all()


def test_weights_with_a_zero_point_are_centred_and_named(tmp_path):
    maker = ModelMaker()
    x = maker.input("x", [1, 2, 3, 3], TensorProto.UINT8)
    weight = rng().integers(0, 256, (3, 2, 1, 1)).astype(np.uint8)
    grid = (F32(1), np.uint8(0), maker.constant(weight, "w"), F32(1), np.uint8(128), F32(1), np.uint8(0))
    maker.node("QLinearConv", x, *grid, name="conv")
    network = read_onnx(maker.save(tmp_path / "m.onnx"), np.ones((1, 2, 3, 3), np.uint8))
    assert (network.layers[0].weight == weight.astype(int) - 128).all()
    assert network.notes == ("conv: the weights w are codes less their zero point, 128",)


def qlinear_others(maker, x):
    """Every QLinear operator that is no layer, between two that are."""
    grid, far = (F32(0.1013), np.uint8(100)), (F32(0.2479), np.uint8(90))
    codes = maker.node("QuantizeLinear", x, *grid)
    conv = maker.node(
        "QLinearConv", codes, *grid, int8(4, 4, 3, 3, high=64), F32(0.0193), np.int8(0), *far, pads=[1] * 4
    )
    ms = dict(domain=MICROSOFT)
    both = maker.node("QLinearAdd", codes, *grid, conv, *far, F32(0.3031), np.uint8(110), **ms)
    leaky = maker.node("QLinearLeakyRelu", both, F32(0.3031), np.uint8(110), *grid, alpha=0.1, **ms)
    times = maker.node("QLinearMul", leaky, *grid, conv, *far, F32(0.9037), np.uint8(128), **ms)
    joined = maker.node("QLinearConcat", *grid, leaky, *grid, times, F32(0.9037), np.uint8(128), axis=1, **ms)
    pooled = maker.node("MaxPool", joined, kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 0, 0])
    smooth = maker.node("QLinearAveragePool", pooled, *grid, *far, kernel_shape=[3, 3], pads=[1] * 4, **ms)
    gate = maker.node("QLinearSigmoid", smooth, *far, F32(1 / 256), np.uint8(0), **ms)
    maker.node("QLinearSoftmax", smooth, *far, F32(1 / 256), np.uint8(0), axis=1, opset=13, **ms)
    mean = maker.node("QLinearGlobalAveragePool", smooth, *far, *grid, channels_last=0, **ms)
    gated = maker.node("QLinearMul", gate, F32(1 / 256), np.uint8(0), mean, *grid, *far, **ms)
    return maker.node("QLinearConv", gated, *far, int8(3, 8, 1, 1, high=64), F32(0.0193), np.int8(0), *grid)


def test_qlinear_operators_between_layers_equal_the_runtime(tmp_path):
    pytest.importorskip("onnxruntime")
    maker = ModelMaker()
    x = maker.input("x", ["n", 4, 9, 9])
    qlinear_others(maker, x)
    path = maker.save(tmp_path / "m.onnx")
    inputs = {"x": rng().normal(0, 4, (3, 4, 9, 9)).astype(F32)}
    names = [node.output[0] for node in maker.nodes]
    ours = all_values(path, inputs)
    theirs = runtime_values(path, inputs, names)  # 7-bit weights, so that its kernels saturate nowhere
    wrong = {name: int((ours[name] != codes).sum()) for name, codes in zip(names, theirs, strict=True)}
    assert {name: count for name, count in wrong.items() if count} == {}
    assert len(read_onnx(path, inputs).layers) == 2


def test_a_global_average_is_a_closed_form_of_the_exact_sum(tmp_path):
    maker = ModelMaker()
    x = maker.input("x", [1, 1, 2, 2], TensorProto.UINT8)
    grid = (F32(1), np.uint8(0))
    maker.node("QLinearGlobalAveragePool", x, *grid, *grid, channels_last=0, domain=MICROSOFT)
    path = maker.save(tmp_path / "m.onnx")
    for total, mean in ((2, 0), (6, 2), (7, 2), (10, 2)):  # halves to the even code
        codes = np.array([total, 0, 0, 0], np.uint8).reshape(1, 1, 2, 2)
        assert all_values(path, {"x": codes})["t0"].item() == mean


@pytest.mark.parametrize("code, weight", [(255, 127), (255, -128), (0, 127)])
def test_sums_saturate_nowhere(tmp_path, code, weight):
    """Kernels that add pairs of products in 16 bits would; a sum of 2**24 or more is no float32."""
    maker = ModelMaker()
    x = maker.input("x", [1, 1040], TensorProto.UINT8)
    one, wide = np.full((1040, 1), weight, np.int8), F32(2**-17)
    between = maker.node("QLinearMatMul", x, F32(1), np.uint8(0), one, F32(1), np.int8(0), F32(2**17), np.uint8(128))
    maker.node(
        "QLinearMatMul", between, F32(1), np.uint8(0), np.ones((1, 1), np.int8), wide, np.int8(0), wide, np.uint8(0)
    )
    first, second = read_onnx(maker.save(tmp_path / "m.onnx"), np.full((1, 1040), code, np.uint8)).layers
    assert plain_sums(first).item() == 1040 * code * weight
    assert second.activation.item() == np.clip(128 + round(1040 * code * weight / 2**17), 0, 255)


def test_every_batch_of_the_model_is_its_own_run(tmp_path):
    maker = ModelMaker()
    x = maker.input("x", [2, 3, 4, 4])
    shaped = maker.node("Reshape", x, np.array([2, 3, 16, 1]))
    qlinear_pair(maker, shaped, np.uint8(0), int8(2, 3, 3, 1))
    path = maker.save(tmp_path / "m.onnx")
    inputs = rng().normal(size=(6, 3, 4, 4)).astype(F32)
    assert read_onnx(path, {"x": inputs}).layers[0].activation.shape == (6, 3, 16, 1)
    with pytest.raises(InputError, match="^inputs must be of a number of images, 1 or more, that 2 divides, not 3$"):
        read_onnx(path, inputs[:3])


def test_names_of_layers_are_unique_and_legal(tmp_path):
    maker = ModelMaker()
    x = maker.input("x", [1, 1, 3, 3], TensorProto.UINT8)
    unit = (F32(1), np.uint8(0))
    kernel = (int8(1, 1, 1, 1), F32(1), np.int8(0))
    for name in ("/a/conv", "a_conv", "image", "", "é"):
        x = maker.node("QLinearConv", x, *unit, *kernel, *unit, name=name)
    network = read_onnx(maker.save(tmp_path / "m.onnx"), np.ones((1, 1, 3, 3), np.uint8))
    assert [layer.spec.name for layer in network.layers] == ["a_conv", "a_conv_2", "image_2", "t3", "layer"]


def one_layer(maker, weight=None, x=None, **attributes):
    x = x or maker.input("x", ["n", 2, 4, 4], TensorProto.UINT8)
    weight = int8(2, 2, 3, 3) if weight is None else weight
    unit = (F32(1), weight.dtype.type(0))
    return maker.node("QLinearConv", x, F32(1), np.uint8(0), weight, *unit, F32(1), np.uint8(0), name="c", **attributes)


def refused_conv_shape(maker):
    one_layer(maker, int8(2, 3, 3, 3))


def refused_weight_zero_point(maker):
    x = maker.input("x", ["n", 2, 4, 4], TensorProto.UINT8)
    weight = maker.constant(np.full((2, 2, 1, 1), 200, np.uint8), "w")
    maker.node("QLinearConv", x, F32(1), np.uint8(0), weight, F32(1), np.uint8(7), F32(1), np.uint8(0), name="c")


def refused_dynamic(maker):
    x = maker.input("x", ["n", 2, 4, 4])
    maker.nodes.append(helper.make_node("DynamicQuantizeLinear", [x], ["q", "scale", "zero"], name="d"))
    maker.node("ConvInteger", "q", int8(2, 2, 3, 3), "zero")


def refused_scale_of_an_input(maker):
    x = maker.input("x", ["n", 2, 4, 4])
    scale = maker.node("ReduceMax", maker.node("Abs", x), keepdims=0)
    one_layer(maker, x=maker.node("QuantizeLinear", x, scale, np.uint8(0), name="q"))


def refused_scale(maker):
    x = maker.input("x", ["n", 2, 4, 4])
    one_layer(maker, x=maker.node("QuantizeLinear", x, F32(-1), np.uint8(0), name="q"))


def refused_wide_codes(maker):
    maker.opset = 21
    x = maker.input("x", ["n", 2, 4, 4], TensorProto.UINT16)
    real = maker.node("DequantizeLinear", x, F32(1), np.uint16(0))
    weight = maker.node("DequantizeLinear", int8(2, 2, 3, 3), F32(1), np.int8(0))
    maker.node("Conv", real, weight, name="c")


def refused_operator(maker):
    x = maker.node("LpNormalization", maker.input("x", ["n", 2, 4, 4]), name="norm")
    one_layer(maker, x=maker.node("QuantizeLinear", x, F32(1), np.uint8(0)))


def refused_alpha(maker):
    x = maker.input("x", ["n", 4], TensorProto.UINT8)
    real = maker.node("DequantizeLinear", x, F32(1), np.uint8(0))
    maker.node("Gemm", real, maker.node("DequantizeLinear", int8(4, 2), F32(1)), alpha=0.5, name="g")


def refused_float8(maker):
    maker.opset = 19
    x = maker.input("x", ["n", 4], TensorProto.UINT8)
    weight = helper.make_tensor("w8", TensorProto.FLOAT8E4M3FN, [4, 2], [1.0] * 8)
    maker.constants.append(weight)
    real = maker.node("DequantizeLinear", x, F32(1), np.uint8(0))
    maker.node("MatMul", real, maker.node("DequantizeLinear", "w8", F32(1), name="d"), name="m")


def refused_no_layer(maker):
    maker.node("Relu", maker.input("x", ["n", 4]))


def refused_float_layers(maker):
    maker.node("Gemm", maker.input("x", ["n", 4]), np.ones((4, 2), F32), name="g")


REFUSED = {
    refused_conv_shape: "node c (QLinearConv): weights [2, 3, 3, 3] with 1 groups must suit an input [1, 2, 4, 4]",
    refused_weight_zero_point: "node c (QLinearConv): layer c: weights w less their zero point must be -128 to 127, "
    "not 193",
    refused_dynamic: "node d (DynamicQuantizeLinear): quantization must be static, not dynamic: its scale follows the "
    "input",
    refused_scale_of_an_input: "node q (QuantizeLinear): quantization must be static: t1 is computed from an input",
    refused_scale: "node q (QuantizeLinear): the scale c0 must be positive numbers, not -1.0",
    refused_wide_codes: "node c (Conv): layer c: t0 must have at most 8 bits, not 16",
    refused_operator: "node norm (LpNormalization): a layer depends on the operator LpNormalization, which is not "
    "known",
    refused_alpha: "node g (Gemm): alpha must be 1, not 0.5",
    refused_float8: "node d (DequantizeLinear): w8 must be quantized to integers, not float8_e4m3fn",
    refused_no_layer: "{path}: a model must have a layer, one of Conv Gemm MatMul ConvInteger MatMulInteger "
    "QLinearConv QLinearMatMul QGemm",
    refused_float_layers: "{path}: a layer must have integer weights and a quantized input: "
    "g: its input x must be quantized, not real",
}


@pytest.mark.parametrize("model", REFUSED, ids=lambda each: each.__name__)
def test_refusals_name_the_node_and_the_tensor_in_one_line(tmp_path, model):
    maker = ModelMaker()
    model(maker)
    path = maker.save(tmp_path / "m.onnx")
    tensor = maker.inputs[0].type.tensor_type
    shape = [each.dim_value or 1 for each in tensor.shape.dim]
    dtype = np.dtype(helper.tensor_dtype_to_np_dtype(tensor.elem_type))
    with pytest.raises(InputError) as caught:
        read_onnx(path, np.ones(shape, dtype))
    assert str(caught.value) == REFUSED[model].format(path=path)


def test_arrays_must_suit_the_inputs(tmp_path):
    maker = ModelMaker()
    x = maker.input("x", ["n", 2, "size", "size"])
    one_layer(maker, x=maker.node("QuantizeLinear", x, F32(1), np.uint8(0)))
    path = maker.save(tmp_path / "m.onnx")
    cases = [
        (np.ones((1, 3, 4, 4), F32), "input x must be images x 2 x size x size, not 1 x 3 x 4 x 4"),
        (np.ones((1, 2, 4, 5), F32), "input x must be images x 2 x size x size, not 1 x 2 x 4 x 5: size is 4"),
        (np.ones((2, 4, 4), F32), "input x must be images x 2 x size x size, not 2 x 4 x 4"),
        (np.ones((0, 2, 4, 4), F32), "inputs must be of a number of images, 1 or more, that 1 divides, not 0"),
        (np.full((1, 2, 4, 4), "a"), "input x must be float32, not <U1"),
        ({"y": np.ones((1, 2, 4, 4), F32)}, "inputs must be of x, not y"),
        ({}, "input x must be given"),
    ]
    for inputs, message in cases:
        with pytest.raises(InputError) as caught:
            read_onnx(path, inputs)
        assert str(caught.value) == message
    rounded = read_onnx(path, np.full((1, 2, 4, 4), 0.1))
    assert rounded.notes == ("input x: 32 of 32 values are rounded to float32",)
    assert read_onnx(path, np.full((1, 2, 4, 4), 200, np.uint8)).notes == ()


@pytest.mark.parametrize("content", [b"", b"not a model at all", b"\x08\x07"])
def test_a_file_that_is_no_model_is_refused(tmp_path, content):
    path = tmp_path / "m.onnx"
    path.write_bytes(content)
    with pytest.raises(InputError, match="m.onnx must be a valid ONNX file: ") as caught:
        read_onnx(path, np.ones((1, 1), F32))
    assert "\n" not in str(caught.value)
    with pytest.raises(InputError, match="none.onnx must be an ONNX file: No such file"):
        read_onnx(tmp_path / "none.onnx", np.ones((1, 1), F32))


def test_data_beside_the_file_is_read_and_must_be_there(tmp_path):
    maker = ModelMaker()
    one_layer(maker, int8(2, 2, 4, 4))
    path = tmp_path / "m.onnx"
    onnx.save(maker.model(), path, save_as_external_data=True, location="m.data", size_threshold=0)
    codes = np.ones((1, 2, 4, 4), np.uint8)
    assert (read_onnx(path, codes).layers[0].weight == int8(2, 2, 4, 4)).all()
    (tmp_path / "m.data").unlink()
    with pytest.raises(InputError, match=r"m\.onnx must be an? (valid )?ONNX file: .*m\.data"):
        read_onnx(path, codes)


def test_a_model_is_stored_verified_and_exported(tmp_path):
    maker = ModelMaker()
    x = maker.input("x", ["n", 6, 7, 5])
    scales = np.linspace(0.1, 0.3, 4, dtype=F32)
    bias = np.arange(4, dtype=np.int32)
    qlinear_pair(maker, x, np.uint8(131), int8(4, 3, 3, 2), bias, scales, group=2, pads=[1, 0, 2, 3], strides=[2, 1])
    images = rng().normal(0, 3, (2, 6, 7, 5)).astype(F32)
    path = maker.save(tmp_path / "m.onnx")
    np.save(tmp_path / "x.npy", images)
    np.savez(tmp_path / "x.npz", x=images)
    network, store = read_onnx(path, images), tmp_path / "s.h5"
    app(["capture", str(path), "--images", str(tmp_path / "x.npy"), "-o", str(store)], standalone_mode=False)
    capture(path, tmp_path / "x.npz", tmp_path / "other.h5")
    assert store.read_bytes() == (tmp_path / "other.h5").read_bytes()
    with open_store(store) as opened:
        for layer in network.layers:
            border = layer.spec.zero_point * layer.weight.astype(int).sum(axis=(1, 2, 3))[:, None, None]
            assert (opened.layer(layer.spec.name).accumulator[:] == plain_sums(layer) + border).all()
        export(opened, tmp_path / "ws", dataflow="ws", layers="all")
    assert verify_store(store, "all").compared and verify(tmp_path / "ws", store=store).compared


def test_a_model_needs_inputs_and_arrays_take_none(tmp_path):
    (tmp_path / "m.onnx").write_bytes(b"")
    with pytest.raises(InputError, match=r"m\.onnx: images must be given: the inputs of the model$"):
        capture(tmp_path / "m.onnx", output=tmp_path / "s.h5")
    with pytest.raises(InputError, match=r"none\.npy: must be an \.npy or an \.npz, there is no such file$"):
        capture(tmp_path / "m.onnx", tmp_path / "none.npy", tmp_path / "s.h5")
    with pytest.raises(InputError, match=r"^description must be of arrays, not of the model .*m\.onnx$"):
        capture(tmp_path / "m.onnx", tmp_path / "x.npy", tmp_path / "s.h5", description=tmp_path / "d.toml")
    with pytest.raises(InputError, match=r"^images must be given with a model, not with .*x\.npz$"):
        capture(tmp_path / "x.npz", tmp_path / "x.npy", tmp_path / "s.h5")
