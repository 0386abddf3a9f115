"""QDQ models, and a network that onnxruntime's static quantizer wrote: our integers against loops and its own."""

import numpy as np
import pytest
from helpers_onnx import ModelMaker, TensorProto, all_values, helper, onnx, plain_sums, runtime_values

from factory.readers.onnx import read_onnx
from factory.spec import InputError

F32 = np.float32


def rng(seed=0):
    return np.random.default_rng(seed)


def int8(*shape, seed=1):
    return rng(seed).integers(-128, 128, shape).astype(np.int8)


def qdq(maker, x, scale, zero_point):
    return maker.node(
        "DequantizeLinear", maker.node("QuantizeLinear", x, F32(scale), zero_point), F32(scale), zero_point
    )


def weights(maker, codes, scale, axis=0):
    points = np.zeros(np.shape(scale), np.int8)
    return maker.node("DequantizeLinear", codes, np.asarray(scale, F32), points, axis=axis)


def saturated(real, scale, zero_point, low=0, high=255):
    return np.clip(np.rint(real / F32(scale)) + zero_point, low, high)


@pytest.mark.parametrize("scales", [F32(0.02), np.array([0.02, 0.015, 0.03, 0.1], F32)], ids=["tensor", "channel"])
@pytest.mark.parametrize("bias", ["integer", "float", "none"])
def test_qdq_multiplies_then_divides(tmp_path, scales, bias):
    maker = ModelMaker()
    x = qdq(maker, maker.input("x", ["n", 4, 6, 6]), 0.05, np.uint8(120))
    codes = int8(4, 2, 3, 3)
    inner = [x, weights(maker, codes, scales)]
    values = rng(3).integers(-900, 900, 4).astype(np.int32)
    unit = F32(0.05) * scales
    if bias == "integer":
        inner.append(maker.node("DequantizeLinear", values, unit, axis=0))
    elif bias == "float":
        inner.append((values * F32(0.001)).astype(F32))
    between = maker.node("Relu", maker.node("Conv", *inner, group=2, pads=[1] * 4, strides=[2, 2]))
    maker.node("Conv", qdq(maker, between, 0.7, np.uint8(3)), weights(maker, int8(2, 4, 1, 1), F32(0.1)))
    network = read_onnx(maker.save(tmp_path / "m.onnx"), rng().normal(0, 3, (2, 4, 6, 6)).astype(F32))
    first, second = network.layers
    assert (first.bias is not None) == (bias == "integer")
    assert (first.weight_scale == np.atleast_1d(scales)).all() and first.activation_scale == F32(0.05)
    assert (first.weight[0, 2:] == 0).all() and (first.weight[0, :2] == codes[0]).all() and first.spec.groups == 2
    sums, unit = plain_sums(first), np.reshape(unit, (-1, 1, 1))
    if bias == "integer":
        sums = sums + values[:, None, None]
    real = sums.astype(F32) * unit
    if bias == "float":
        real = real + (values * F32(0.001)).astype(F32)[:, None, None]
    assert (second.activation == saturated(np.maximum(real, 0), 0.7, 3)).all()


def test_qdq_and_qlinear_are_different_formulas(tmp_path):
    sums = np.arange(-128, 128, dtype=np.int8).reshape(1, 1, 16, 16)
    one, unit, scale = np.ones((1, 1, 1, 1), np.int8), (F32(1), np.int8(0)), F32(0.6)
    codes = []
    for linear in (True, False):
        maker = ModelMaker()
        x = maker.input("x", [1, 1, 16, 16], TensorProto.INT8)
        if linear:
            out = maker.node("QLinearConv", x, F32(0.3), np.int8(0), one, *unit, scale, np.int8(0))
        else:
            real = maker.node("DequantizeLinear", x, F32(0.3), np.int8(0))
            conv = maker.node("Conv", real, weights(maker, one, F32(1)))
            out = maker.node("QuantizeLinear", conv, scale, np.int8(0))
        maker.node("ConvInteger", out, one)
        codes.append(read_onnx(maker.save(tmp_path / "m.onnx"), sums).layers[1].activation)
    real = sums.astype(F32)
    assert (codes[0] == np.rint(real * (F32(0.3) / scale))).all() and (
        codes[1] == np.rint(real * F32(0.3) / scale)
    ).all()


def test_fewer_bits_are_those_of_a_clip_or_of_the_type(tmp_path):
    maker = ModelMaker(21)
    x = maker.input("x", ["n", 4])
    codes = maker.node("QuantizeLinear", x, F32(0.1), np.int8(0))
    narrow = maker.node("Clip", codes, np.int8(-7), np.int8(7))
    real = maker.node("DequantizeLinear", narrow, F32(0.1), np.int8(0))
    maker.constants.append(helper.make_tensor("w4", TensorProto.INT4, [4, 3], rng().integers(-8, 8, 12)))
    out = maker.node("MatMul", real, maker.node("DequantizeLinear", "w4", F32(0.1)))
    unsigned = maker.node("Clip", maker.node("QuantizeLinear", out, F32(0.1), np.uint8(0)), np.uint8(0), np.uint8(3))
    kernel = maker.node("Clip", int8(3, 2), np.int8(-1), np.int8(1))
    maker.node(
        "MatMul", maker.node("DequantizeLinear", unsigned, F32(0.1), np.uint8(0)), weights(maker, kernel, F32(1))
    )
    network = read_onnx(maker.save(tmp_path / "m.onnx"), rng().normal(size=(5, 4)).astype(F32))
    bits = [(x.spec.activation_bits, x.spec.signed, x.spec.weight_bits) for x in network.layers]
    assert bits == [(4, True, 4), (2, False, 2)]


def test_moves_pools_and_padding_keep_codes(tmp_path):
    maker = ModelMaker()
    x = qdq(maker, maker.input("x", ["n", 2, 6, 6]), 0.1, np.uint8(77))
    padded = maker.node("Pad", x, np.array([0, 0, 1, 0, 0, 0, 1, 1]), F32(0))
    joined = maker.node("Concat", padded, maker.node("Relu", padded), axis=1)
    pooled = maker.node("MaxPool", joined, kernel_shape=[3, 2], pads=[1, 0, 1, 1], strides=[2, 2], ceil_mode=1)
    turned = maker.node("Transpose", maker.node("Identity", pooled), perm=[0, 1, 3, 2])
    larger = maker.node("Resize", turned, None, np.array([1, 1, 2, 3], F32), mode="nearest")
    sliced = maker.node("Slice", larger, np.array([1]), np.array([4]), np.array([1]))
    maker.node("Conv", sliced, weights(maker, int8(2, 3, 3, 3), F32(1)))
    path = maker.save(tmp_path / "m.onnx")
    inputs = rng().normal(0, 5, (2, 2, 6, 6)).astype(F32)
    layer = read_onnx(path, inputs).layers[0]
    assert layer.spec.zero_point == 77 and layer.activation.dtype == np.uint8
    pytest.importorskip("onnxruntime")
    (real,) = runtime_values(path, {"x": inputs}, [sliced])
    assert ((layer.activation.astype(F32) - 77) * F32(0.1) == real).all()


def test_real_values_between_layers_are_the_runtime_s(tmp_path):
    """Elementary steps, each rounded once, differ from fused kernels by the last bits alone."""
    pytest.importorskip("onnxruntime")
    maker = ModelMaker(17)
    x = maker.node("Mul", maker.input("x", ["n", 4, 6, 6]), F32(3))
    norm = [rng(seed).uniform(0.5, 2, 4).astype(F32) for seed in range(4)]
    values = [
        maker.node("BatchNormalization", x, *norm, epsilon=0.01),
        maker.node("Clip", x, F32(-1), F32(6)),
        maker.node("AveragePool", x, kernel_shape=[3, 2], pads=[1, 0, 1, 1], count_include_pad=1),
        maker.node("AveragePool", x, kernel_shape=[3, 2], pads=[1, 0, 1, 1], strides=[2, 3], ceil_mode=1),
        maker.node("GlobalAveragePool", x),
        maker.node("GlobalMaxPool", x),
        maker.node("ReduceMean", x, axes=[2, 3], keepdims=0),
        maker.node("Softmax", x, axis=1),
        maker.node("LayerNormalization", x, norm[0].repeat(9).reshape(6, 6), norm[1].repeat(9).reshape(6, 6), axis=2),
        maker.node("PRelu", x, norm[0].reshape(4, 1, 1)),
        maker.node("Pow", x, F32(2)),
        maker.node("LRN", x, size=3, alpha=0.5, beta=0.6, bias=1.5),
        maker.node("Div", maker.node("Sub", x, F32(1)), norm[2].reshape(4, 1, 1)),
        maker.node("Pad", x, np.array([0, 0, 1, 2, 0, 0, 2, 1]), mode="reflect"),
        maker.node("MatMul", x, maker.node("Transpose", x, perm=[0, 1, 3, 2])),
        maker.node("Conv", x, rng(9).normal(size=(6, 2, 3, 3)).astype(F32), norm[0].repeat(2)[:6], group=2),
    ]
    values += [maker.node(op, x) for op in ("Sigmoid", "Tanh", "HardSwish", "HardSigmoid", "Elu", "Softplus", "Erf")]
    values += [maker.node("LeakyRelu", x, alpha=0.3), maker.node("Max", x, F32(0.5), maker.node("Neg", x))]
    path = maker.save(tmp_path / "m.onnx")
    inputs = {"x": rng().normal(size=(2, 4, 6, 6)).astype(F32)}
    ours = all_values(path, inputs)
    for name, theirs in zip(values, runtime_values(path, inputs, values), strict=True):
        assert ours[name].dtype == F32, name
        np.testing.assert_allclose(ours[name], theirs, rtol=2e-5, atol=2e-6, err_msg=name)


def resnet(maker):
    """A network with strides, a dilation, groups, a depthwise layer, residual sums, a concatenation and pools."""
    draw = rng(5)

    def conv(x, *shape, **attributes):
        weight = draw.normal(0, (2 / np.prod(shape[1:])) ** 0.5, shape).astype(F32)
        return maker.node("Conv", x, weight, draw.normal(size=shape[0]).astype(F32), **attributes)

    x = maker.node("Relu", conv(maker.input("x", ["n", 3, 16, 16]), 8, 3, 3, 3, pads=[1] * 4, name="/stem/Conv"))
    y = maker.node("Relu", conv(x, 8, 1, 3, 3, pads=[1] * 4, group=8, name="depthwise"))
    x = maker.node("Relu", maker.node("Add", x, conv(y, 8, 8, 1, 1, name="pointwise")))
    y = maker.node("Relu", conv(x, 16, 8, 3, 3, pads=[0, 0, 1, 1], strides=[2, 2], name="strided"))
    y = conv(y, 16, 8, 3, 3, pads=[2] * 4, dilations=[2, 2], group=2, name="dilated")
    x = maker.node("LeakyRelu", maker.node("Add", y, conv(x, 16, 8, 1, 1, strides=[2, 2], name="shortcut")), alpha=0.1)
    x = maker.node("MaxPool", x, kernel_shape=[2, 2], strides=[2, 2])
    x = maker.node("Concat", x, maker.node("AveragePool", x, kernel_shape=[3, 3], pads=[1] * 4), axis=1)
    x = maker.node("Relu", conv(x, 16, 32, 3, 3, pads=[1] * 4, name="wide"))
    x = maker.node("Flatten", maker.node("GlobalAveragePool", x))
    gemm = draw.normal(size=(10, 16)).astype(F32)
    x = maker.node("Gemm", x, gemm, draw.normal(size=10).astype(F32), transB=1, name="gemm")
    return maker.node("MatMul", maker.node("Sigmoid", x), draw.normal(size=(10, 6)).astype(F32), name="matmul")


LAYERS = ["stem_Conv", "depthwise", "pointwise", "strided", "dilated", "shortcut", "wide", "gemm", "matmul"]


@pytest.fixture(scope="module")
def resnet_file(tmp_path_factory):
    pytest.importorskip("onnxruntime")
    maker = ModelMaker()
    resnet(maker)
    return maker.save(tmp_path_factory.mktemp("resnet") / "float.onnx")


def quantized(path, form, kind, per_channel):
    """Let onnxruntime's static quantizer write a model with weights of 7 bits, which its kernels multiply exactly."""
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

    class Images(CalibrationDataReader):
        def __init__(self):
            self.left = list(rng(7).normal(size=(8, 1, 3, 16, 16)).astype(F32))

        def get_next(self):
            return {"x": self.left.pop()} if self.left else None

    to = path.with_name(f"{form}_{kind}_{per_channel}.onnx")
    types = dict(activation_type=QuantType[kind], weight_type=QuantType.QInt8)
    options = dict(quant_format=QuantFormat[form], per_channel=per_channel, reduce_range=True)
    quantize_static(path, to, Images(), **types, **options)
    return to


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "form, kind, per_channel",
    [("QOperator", "QUInt8", True), ("QOperator", "QInt8", False), ("QDQ", "QUInt8", False), ("QDQ", "QInt8", True)],
)
def test_a_network_that_onnxruntime_quantized(resnet_file, form, kind, per_channel):
    path = quantized(resnet_file, form, kind, per_channel)
    images = {"x": rng(8).normal(size=(4, 3, 16, 16)).astype(F32)}
    network = read_onnx(path, images)
    names = {layer.spec.name.removesuffix("_quant"): layer for layer in network.layers}
    assert sorted(names) == sorted(LAYERS) and network.skipped == {}
    assert any(layer.spec.zero_point for layer in network.layers)
    assert len(names["depthwise"].weight_scale) == (8 if per_channel else 1)

    ours = all_values(path, images)
    model = onnx.load(path)
    codes = [name for node in model.graph.node for name in node.output if getattr(ours[name], "dtype", F32) in INTEGERS]
    theirs = dict(zip(codes, runtime_values(path, images, codes), strict=True))
    differ = {name: int((ours[name] != theirs[name]).sum()) for name in codes}
    if form == "QOperator":
        assert not any(differ.values())
    else:  # its float kernels round otherwise only where an average is a tie, and then in what follows
        made = {name: node for node in model.graph.node for name in node.output}
        first = next(name for name in codes if differ[name])
        assert made[made[first].input[0]].op_type == "AveragePool"
        assert np.abs(ours[first].astype(int) - theirs[first]).max() == 1
        assert sum(differ.values()) < sum(theirs[name].size for name in codes) / 50

    for node in model.graph.node:  # each layer's accumulators in onnxruntime's own ConvInteger, on our codes
        if node.op_type in ("Conv", "QLinearConv"):
            layer = next(
                x for x in network.layers if x.spec.name in (node.name, node.name.strip("/").replace("/", "_"))
            )
            assert (integer_convolution(node, layer) == plain_sums(layer)).all()


INTEGERS = (np.dtype(np.uint8), np.dtype(np.int8))


def integer_convolution(node, layer):
    """Return what onnxruntime's ConvInteger makes of a layer's dense weights, with the node's own geometry."""
    maker = ModelMaker()
    shift = 128 * layer.spec.signed  # its ConvInteger takes unsigned codes
    codes = (layer.activation.astype(int) + shift).astype(np.uint8)
    x = maker.input("x", list(codes.shape), TensorProto.UINT8)
    kept = {each.name: helper.get_attribute_value(each) for each in node.attribute}
    kept.pop("group", None)
    maker.node("ConvInteger", x, layer.weight, np.uint8(layer.spec.zero_point + shift), **kept)
    maker.nodes[-1].output[0] = "sums"
    model = maker.model()
    model.graph.output[0].type.tensor_type.elem_type = TensorProto.INT32
    import onnxruntime

    return onnxruntime.InferenceSession(model.SerializeToString()).run(["sums"], {"x": codes})[0]


def test_layers_that_are_not_integer_are_named_and_the_rest_is_taken(tmp_path):
    maker = ModelMaker()
    x = maker.input("x", ["n", 2, 6, 6])
    first = maker.node("Conv", x, weights(maker, int8(2, 2, 3, 3), F32(0.1)), name="float input")
    codes = qdq(maker, first, 0.5, np.uint8(9))
    kernel = maker.constant(rng().normal(size=(2, 2, 1, 1)).astype(F32), "kernel")
    second = maker.node("Conv", codes, kernel, name="float weights")
    mixed = maker.node("QuantizeLinear", second, np.array([0.1, 0.2], F32), np.zeros(2, np.uint8))
    mixed = maker.node("DequantizeLinear", mixed, np.array([0.1, 0.2], F32), np.zeros(2, np.uint8))
    third = maker.node("Conv", mixed, weights(maker, int8(2, 2, 1, 1), F32(0.1)), name="mixed input")
    inside = weights(maker, int8(2, 2, 1, 1), np.array([0.1, 0.3], F32), axis=1)
    fourth = maker.node("Conv", qdq(maker, third, 0.5, np.uint8(9)), inside, name="mixed weights")
    flat = maker.node("Reshape", qdq(maker, fourth, 0.5, np.uint8(9)), np.array([0, 8, 4]))
    square = maker.node("MatMul", flat, maker.node("Transpose", flat, perm=[0, 2, 1]), name="square")
    spread = maker.node("ConvTranspose", maker.node("Unsqueeze", square, np.array([1])), np.ones((1, 1, 2, 2), F32))
    maker.nodes[-1].name = "spread"
    maker.node("MatMul", qdq(maker, square, 0.5, np.uint8(9)), weights(maker, int8(8, 3), F32(0.1)), name="last")
    maker.nodes.append(maker.nodes.pop(-1))
    path = maker.save(tmp_path / "m.onnx")
    network = read_onnx(path, rng().normal(size=(2, 2, 6, 6)).astype(F32))
    assert [layer.spec.name for layer in network.layers] == ["last"]
    assert spread and network.skipped == {
        "spread": "the operator ConvTranspose is not taken as a layer",
        "float_input": "its input x must be quantized, not real",
        "float_weights": "its weights kernel must be quantized, not real",
        "mixed_input": "its input t6 must have one scale, not 0.1 to 0.2",
        "mixed_weights": "its weights t9 must have one scale in output channel 0, not 0.1 to 0.3",
        "square": "one of its operands must depend on an input of the model, t15 and t16 both do",
    }


def test_a_product_of_two_activations_is_exact(tmp_path):
    maker = ModelMaker()
    x = qdq(maker, maker.input("x", ["n", 3, 4]), 0.1, np.uint8(100))
    square = maker.node("MatMul", x, maker.node("Transpose", x, perm=[0, 2, 1]))
    maker.node("MatMul", qdq(maker, square, 0.5, np.uint8(100)), weights(maker, int8(3, 2), F32(0.1)))
    network = read_onnx(maker.save(tmp_path / "m.onnx"), rng().normal(0, 4, (2, 3, 4)).astype(F32))
    codes = np.rint(rng().normal(0, 4, (2, 3, 4)).astype(F32) / F32(0.1)).clip(-100, 155).astype(int)
    real = (codes @ codes.transpose(0, 2, 1)).astype(F32) * (F32(0.1) * F32(0.1))
    assert (network.layers[0].activation[:, :, 0].transpose(0, 2, 1) == saturated(real, 0.5, 100)).all()


def test_blocks_are_refused(tmp_path):
    maker = ModelMaker(21)
    x = qdq(maker, maker.input("x", ["n", 4]), 0.1, np.uint8(0))
    grid = (np.ones((2, 3), F32), np.zeros((2, 3), np.int8))
    maker.node("MatMul", x, maker.node("DequantizeLinear", int8(4, 3), *grid, block_size=2, axis=0, name="w"))
    with pytest.raises(InputError, match=r"^node w \(DequantizeLinear\): DequantizeLinear must have no blocks$"):
        read_onnx(maker.save(tmp_path / "m.onnx"), np.ones((1, 4), F32))


@pytest.mark.parametrize(
    "attributes, message",
    [
        (
            dict(kernel_shape=[3, 3], ceil_mode=1, strides=[2, 2], count_include_pad=1),
            "an average pool must not count a border that ceil_mode makes wider",
        ),
        (
            dict(kernel_shape=[2, 2], dilations=[2, 1], auto_pad="SAME_UPPER"),
            "a dilated pool must state its pads, not auto_pad",
        ),
        (dict(kernel_shape=[2, 7]), "a padded map of 6 must hold a kernel that reaches over 7"),
        (dict(kernel_shape=[2, 2], strides=[0, 1]), "strides must be at least 1, not 0"),
        (
            dict(kernel_shape=[2, 2], auto_pad="BOTH"),
            "auto_pad must be NOTSET, VALID, SAME_UPPER or SAME_LOWER, not BOTH",
        ),
    ],
)
def test_pools_that_are_not_evaluated_are_named(tmp_path, attributes, message):
    maker = ModelMaker(19)
    x = maker.node("AveragePool", maker.input("x", ["n", 1, 6, 6]), name="pool", **attributes)
    maker.node("Conv", qdq(maker, x, 0.1, np.uint8(0)), weights(maker, int8(1, 1, 1, 1), F32(1)))
    with pytest.raises(InputError) as caught:
        read_onnx(maker.save(tmp_path / "m.onnx"), np.ones((1, 1, 6, 6), F32))
    assert str(caught.value) == f"node pool (AveragePool): {message}"
