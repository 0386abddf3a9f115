"""Own arrays as layers: from every kind of file, against plain loops, and through every command."""

import json
import re

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from factory.build.captured import capture
from factory.build.codes import integer_layer, store_codes
from factory.cli.app import app
from factory.export import export
from factory.fileplan import ExportOptions
from factory.readers.arrays import ArraySource, LayerDescription, coded_network, read_arrays
from factory.spec import GIVEN, CodedLayer, CodedNetwork, ConvLayer, InputError, LayerSet, SystolicArray
from factory.store import open_store
from factory.verify import verify, verify_store

RNG = np.random.default_rng(20)


def plain(spec: ConvLayer, weight, image):
    """Return one image's accumulators by loops over every product of the codes as they are."""
    top, left, _, _ = spec.padding
    sums = np.zeros((spec.out_channels, spec.out_height, spec.out_width), np.int64)
    for oc, oy, ox in np.ndindex(*sums.shape):
        for ic, ki, kj in np.ndindex(*weight.shape[1:]):
            y = oy * spec.stride[0] + ki * spec.dilation[0] - top
            x = ox * spec.stride[1] + kj * spec.dilation[1] - left
            inside = 0 <= y < spec.height and 0 <= x < spec.width
            sums[oc, oy, ox] += int(weight[oc, ic, ki, kj]) * int(image[ic, y, x] if inside else spec.zero_point)
    return sums


def random_codes(spec: ConvLayer, images: int = 2, seed: int = 0) -> CodedLayer:
    rng, (low, high) = np.random.default_rng(seed), spec.code_range
    half = 2 ** (spec.weight_bits - 1)
    weight = rng.integers(-half, half, spec.weight_shape)
    group = np.arange(spec.out_channels) * spec.groups // spec.out_channels
    own = np.arange(spec.in_channels) * spec.groups // spec.in_channels
    weight[group[:, None] != own] = 0
    activation = rng.integers(low, high + 1, (images, spec.in_channels, spec.height, spec.width))
    return CodedLayer(spec, weight.astype(np.int8), activation, "random")


@st.composite
def specs(draw):
    groups = draw(st.sampled_from([1, 1, 2, 3]))
    pair = st.tuples(st.integers(1, 2), st.integers(1, 2))
    signed, bits = draw(st.booleans()), draw(st.integers(1, 8))
    low = -(2 ** (bits - 1)) if signed else 0
    return dict(
        name="layer", source=GIVEN, in_channels=groups * draw(st.integers(1, 2)),
        out_channels=groups * draw(st.integers(1, 2)), height=draw(st.integers(4, 6)), width=draw(st.integers(4, 6)),
        kernel=draw(st.tuples(st.integers(1, 3), st.integers(1, 3))), stride=draw(pair), dilation=draw(pair),
        padding=draw(st.tuples(*[st.integers(0, 2)] * 4)), weight_bits=draw(st.integers(2, 8)), activation_bits=bits,
        signed=signed, groups=groups, zero_point=draw(st.integers(low, low + 2**bits - 1)), batch_norm=False,
    )  # fmt: skip


@settings(max_examples=6)  # each compiles its own engine
@given(fields=specs(), seed=st.integers(0, 2**16))
def test_any_geometry_captured_is_the_plain_sum(tmp_path_factory, fields, seed):
    try:
        spec = ConvLayer(**fields)
    except InputError:  # a kernel that the map does not hold
        return
    layer, path = random_codes(spec, seed=seed), tmp_path_factory.mktemp("any") / "s.h5"
    store_codes(CodedNetwork("any", (layer,), ("a", "b")), path, "captured", SystolicArray(2, 3))
    with open_store(path) as store:
        found = store.layer("layer")
        for image in range(2):
            np.testing.assert_array_equal(found.accumulator[image], plain(spec, layer.weight, layer.activation[image]))
    assert verify_store(path, "all").compared


def mine(folder, **changes):
    """Write the arrays of two layers in every form; return them."""
    arrays = {
        "conv.weight": RNG.integers(-7, 8, (4, 3, 3, 3)),
        "conv.activation": RNG.integers(0, 16, (2, 3, 5, 6)),
        "fc.weight": RNG.integers(-128, 128, (5, 7)),
        "fc.activation": RNG.integers(-128, 128, (2, 3, 7)),
    } | changes
    np.savez(folder / "mine.npz", **arrays)
    (folder / "files").mkdir()
    for name, values in arrays.items():
        np.save(folder / "files" / f"{name}.npy", values)
    with h5py.File(folder / "mine.h5", "w") as file:
        for name, values in arrays.items():
            file[name.replace(".", "/")] = values
    return arrays


@pytest.mark.parametrize("source", ["mine.npz", "mine.h5", "files"])
def test_arrays_of_every_kind_of_file(tmp_path, source):
    arrays = mine(tmp_path)
    said = []
    capture(tmp_path / source, output=tmp_path / "s.h5", array=SystolicArray(4, 3), say=said.append)
    with open_store(tmp_path / "s.h5") as store:
        assert isinstance(store.network, LayerSet)
        assert (store.origin, store.image_count, set(store.layers)) == ("captured", 2, {"conv", "fc"})
        assert store.images.origin == tuple(f"captured {source} {image}" for image in range(2))
        assert store.images.pixels is None
        conv, product = store.layer("conv"), store.layer("fc")
        assert (conv.spec.padding, conv.spec.weight_bits, conv.spec.activation_bits, conv.spec.signed) == (
            (1,) * 4,
            4,
            4,
            False,
        )
        assert (product.spec.height, product.spec.width, product.spec.kernel, product.spec.signed) == (
            1,
            3,
            (1, 1),
            True,
        )
        np.testing.assert_array_equal(conv.activation[...], arrays["conv.activation"])
        exact = arrays["fc.activation"] @ arrays["fc.weight"].T
        np.testing.assert_array_equal(product.accumulator[:, :, 0].swapaxes(1, 2), exact)
    assert said[0] == (
        "conv: 3 -> 4, 5x6: kernel 3, stride 1, padding 1, dilation 1, groups 1, zero_point 0; weights 4 bits, "
        "activations 4 bits unsigned"
    )


@pytest.mark.parametrize("dataflow", ["ws", "os", "is"])
def test_a_captured_store_goes_everywhere(tmp_path, dataflow):
    mine(tmp_path)
    capture(tmp_path / "mine.npz", output=tmp_path / "s.h5", array=SystolicArray(4, 3))
    with open_store(tmp_path / "s.h5") as store:
        options = dict(dataflow=dataflow, layers="all", images="all", pe_activation="signed")
        export(store, tmp_path / "own", **options, include="activation,weight,out,accumulator")
        export(store, tmp_path / "other", **options, rows=2, cols=5)
    assert verify(tmp_path / "own", store=tmp_path / "s.h5").compared
    assert verify(tmp_path / "other", store=tmp_path / "s.h5").compared
    facts = json.loads((tmp_path / "other" / "manifest.json").read_text())
    assert (facts["array"]["rows"], facts["array"]["cols"]) == (2, 5)


def test_equal_sources_give_equal_bytes(tmp_path):
    mine(tmp_path)
    for name in ("a.h5", "b.h5"):
        capture(tmp_path / "mine.npz", output=tmp_path / name)
    assert (tmp_path / "a.h5").read_bytes() == (tmp_path / "b.h5").read_bytes()


def test_a_description_names_files_axes_geometry_and_scales(tmp_path):
    weight, activation = RNG.integers(-8, 8, (2, 3, 4, 6)), RNG.integers(0, 200, (1, 9, 7, 8))
    np.save(tmp_path / "w.npy", weight.transpose(2, 3, 1, 0))  # kh kw ic oc, as TensorFlow has it
    np.save(tmp_path / "a.npy", activation.transpose(0, 2, 3, 1).astype(np.float32))
    (tmp_path / "bias.txt").write_text("5, -6 // the second\n")
    (tmp_path / "mine.toml").write_text(
        '[layers.conv]\nweight = "w.npy"\nactivation = "a.npy"\nbias = "bias.txt"\nweight_axes = "kh kw ic oc"\n'
        'activation_axes = "image y x ic"\nstride = [2, 1]\npadding = [1, 0, 2, 3]\nzero_point = 7\ngroups = 1\n'
        "weight_scale = 0.5\nactivation_scale = 0.25\nactivation_bits = 8\n"
    )
    with pytest.raises(InputError, match=r"conv\.weight must take the 9 input channels, not 3$"):
        capture(tmp_path / "mine.toml", output=tmp_path / "s.h5")
    text = (tmp_path / "mine.toml").read_text().replace("groups = 1\n", "")
    (tmp_path / "mine.toml").write_text(text)
    with pytest.raises(InputError, match=r"conv: groups must divide 9 input and 2 output channels, not be 3$"):
        capture(tmp_path / "mine.toml", output=tmp_path / "s.h5")
    np.save(tmp_path / "a.npy", activation[:, :3].transpose(0, 2, 3, 1).astype(np.float32))
    capture(tmp_path / "mine.toml", output=tmp_path / "s.h5")
    with open_store(tmp_path / "s.h5") as store:
        layer = store.layer("conv")
        assert (layer.spec.stride, layer.spec.padding, layer.spec.zero_point) == ((2, 1), (1, 0, 2, 3), 7)
        np.testing.assert_array_equal(layer.accumulator[0], plain(layer.spec, weight, activation[0, :3]))
        assert (layer.bias[...].tolist(), layer.weight_step[...].tolist()) == ([5, -6], [0.5, 0.5])
        attributes = dict(store.file["layers/conv"].attrs)
    assert attributes["activation_step"] == 0.25
    assert attributes["padding"].tolist() == [1, 0, 2, 3] and attributes["origin"] == "captured mine.toml"


def network_of(**arrays) -> CodedNetwork:
    said = arrays.pop("said", LayerDescription())
    named = {f"conv.{name}": values for name, values in arrays.items()}
    return coded_network(ArraySource("mine", named, {"conv": said}))


def test_grouped_weights_are_dense_with_zeros():
    weight = RNG.integers(-7, 8, (6, 2, 3, 3))
    (layer,) = network_of(weight=weight, activation=RNG.integers(0, 16, (1, 4, 5, 5))).layers
    assert (layer.spec.groups, layer.weight.shape) == (2, (6, 4, 3, 3))
    np.testing.assert_array_equal(layer.weight[:3, :2], weight[:3])
    np.testing.assert_array_equal(layer.weight[3:, 2:], weight[3:])
    assert not layer.weight[:3, 2:].any() and not layer.weight[3:, :2].any()


def test_an_output_is_checked_and_settles_the_padding():
    weight, activation = RNG.integers(-7, 8, (2, 3, 3, 5)), RNG.integers(0, 16, (1, 3, 6, 7))
    spec = ConvLayer("conv", GIVEN, 3, 2, 6, 7, kernel=(3, 5), padding=(0, 1))
    exact = plain(spec, weight, activation[0])[None]
    (layer,) = network_of(weight=weight, activation=activation, output=exact).layers
    assert layer.spec.padding == (0, 1, 0, 1)
    bias = np.array([100, -3])
    assert network_of(weight=weight, activation=activation, bias=bias, output=exact + bias[:, None, None])
    exact[0, 1, 2, 0] += 1
    place = r"image 0, oc 1, y 2, x 0: -?\d+, not -?\d+"
    message = rf"mine: conv\.output must be the exact result: {place}; 1 of the image's 40 differ$"
    with pytest.raises(InputError, match=message):
        network_of(weight=weight, activation=activation, output=exact)


def test_the_zero_point_is_the_border_and_leaves_the_output():
    weight, activation = RNG.integers(-7, 8, (2, 3, 3, 3)), RNG.integers(0, 256, (1, 3, 4, 4))
    real = np.pad(activation - 128, ((0, 0), (0, 0), (1, 1), (1, 1)))
    exact = np.zeros((1, 2, 4, 4), np.int64)
    for oc, y, x in np.ndindex(2, 4, 4):
        exact[0, oc, y, x] = (real[0, :, y : y + 3, x : x + 3] * weight[oc]).sum()
    assert network_of(weight=weight, activation=activation, output=exact, said=LayerDescription(zero_point=128))


WEIGHT, ACTIVATION = np.ones((2, 3, 3, 3), int), np.ones((1, 3, 4, 4), int)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        (dict(weight=WEIGHT), "mine: conv must have the array conv.activation, it has weight"),
        (
            dict(weight=WEIGHT + 0.25, activation=ACTIVATION),
            "mine: conv.weight must be whole numbers, not 1.25 at (0, 0, 0, 0)",
        ),
        (dict(weight=WEIGHT * np.nan, activation=ACTIVATION), "mine: conv.weight must be finite"),
        (dict(weight=WEIGHT * 200, activation=ACTIVATION), "mine: conv.weight must be -128 to 127, 8 bits, not 200"),
        (
            dict(weight=WEIGHT, activation=ACTIVATION * -129),
            "mine: conv.activation must be -128 to 127, 8 bits, not -129",
        ),
        (dict(weight=WEIGHT, activation=ACTIVATION * 256), "mine: conv.activation must be 0 to 255, 8 bits, not 256"),
        (
            dict(weight=WEIGHT, activation=ACTIVATION * 9, said=LayerDescription(activation_bits=3)),
            "mine: conv.activation must be 0 to 7, 3 bits, not 9",
        ),
        (dict(weight=WEIGHT[:, :2], activation=ACTIVATION), "mine: conv.weight must take the 3 input channels, not 2"),
        (
            dict(weight=WEIGHT, activation=ACTIVATION, other=WEIGHT),
            "mine: arrays must be called <layer>.weight <layer>.activation <layer>.bias <layer>.output, not conv.other",
        ),
        (
            dict(weight=WEIGHT, activation=ACTIVATION[0, 0]),
            "mine: conv.activation must have the axes (image ic y x) or (ic y x), or activation_axes must name them; "
            "its shape is (4, 4)",
        ),
        (
            dict(weight=WEIGHT, activation=ACTIVATION, bias=np.ones(3, int)),
            "mine: conv.bias must be 2 numbers of 32 bits, not (3,) of 0 to 1",
        ),
        (
            dict(weight=WEIGHT, activation=ACTIVATION, output=np.ones((1, 2, 9, 9), int)),
            "mine: conv.output must be (1, 2, 4, 4), not (1, 2, 9, 9)",
        ),
        (
            dict(weight=np.ones((3, 2), int), activation=np.ones((4, 3), int)),
            "mine: conv.weight must take the 3 input channels, not 2; with weight_axes 'in out' it would",
        ),
        (
            dict(weight=WEIGHT, activation=ACTIVATION, said=LayerDescription(weight_axes="oc ic kh")),
            "mine: conv.weight must have the axes oc ic kh, its shape is (2, 3, 3, 3)",
        ),
        (
            dict(weight=WEIGHT, activation=ACTIVATION, said=LayerDescription(weight_axes="oc ic y x")),
            "mine: conv.weight: weight_axes must be of oc ic kh kw in out, not oc ic y x",
        ),
        (
            dict(weight=WEIGHT, activation=ACTIVATION, said=LayerDescription(zero_point=2)),
            "mine: conv: zero_point must be a code, 0 to 1, not 2",
        ),
    ],
)
def test_what_cannot_be_an_integer_layer_is_one_line(arrays, message):
    with pytest.raises(InputError) as error:
        network_of(**arrays)
    assert str(error.value) == message


def test_a_square_product_that_is_turned_says_so():
    a, b = RNG.integers(-9, 9, (4, 4)), RNG.integers(-9, 9, (4, 4))
    with pytest.raises(InputError, match=r"differ; with weight_axes 'in out' it would be$"):
        network_of(weight=b, activation=a, output=a @ b)
    assert network_of(weight=b, activation=a, output=a @ b, said=LayerDescription(weight_axes="in out"))


def test_layers_share_their_images():
    arrays = {
        "a.weight": WEIGHT,
        "a.activation": ACTIVATION,
        "b.weight": WEIGHT,
        "b.activation": np.tile(ACTIVATION, (3, 1, 1, 1)),
    }
    with pytest.raises(InputError, match="^mine: every layer must have as many images, not a 1, b 3$"):
        coded_network(ArraySource("mine", arrays))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.txt", "1 2\n3\n", "line 2 must have 2 fields as line 1, not 1"),
        ("a.txt", "1 x\n", "line 1 must have decimal fields, not 'x'"),
        ("a.txt", "# nothing\n", "it has none"),
        ("a.npy", "1 2\n", ""),
    ],
)
def test_damaged_files_are_one_line(tmp_path, name, content, message):
    (tmp_path / name).write_text(content)
    described = LayerDescription(weight=str(tmp_path / name), activation=str(tmp_path / name))
    with pytest.raises(InputError) as error:
        read_arrays(None, None, described)
    assert str(error.value).startswith(f"{tmp_path / name}: must be an array of whole numbers: {message}")
    assert "\n" not in str(error.value)


def test_damaged_sources_are_one_line(tmp_path):
    (tmp_path / "x.npz").write_bytes(b"PK\x03\x04 nothing")
    (tmp_path / "x.h5").write_bytes(b"nothing")
    (tmp_path / "empty").mkdir()
    with h5py.File(tmp_path / "store.h5", "w") as file:
        file.attrs["schema"] = "factory-store/2"
    for name, pattern in (
        ("x.npz", "must be a whole .npz: "),
        ("x.h5", "must be an .npz, an HDF5 file or a folder of arrays: "),
        ("empty", "must hold arrays <layer>.weight and <layer>.activation, it holds none"),
        ("store.h5", "must hold arrays to capture, it is a store already"),
        (
            "none.npz",
            "must be an .npz, an HDF5 file, a folder of arrays, a TOML file or an ONNX model, it is not there",
        ),
    ):
        with pytest.raises(InputError, match=f"^{re.escape(f'{tmp_path / name}: {pattern}')}"):
            capture(tmp_path / name, output=tmp_path / "s.h5")


def test_codes_are_never_cut_to_their_bits():
    spec = ConvLayer("layer", GIVEN, 1, 1, 2, 2, kernel=1, padding=0, weight_bits=4)
    layer = CodedLayer(spec, np.full((1, 1, 1, 1), 8, np.int8), np.zeros((1, 1, 2, 2), np.int8), "x")
    with pytest.raises(InputError, match=r"^layer: weight must be -8 to 7 in 4 bits, not 8 at \(0, 0, 0, 0\)$"):
        integer_layer(layer, 1)
    with pytest.raises(InputError, match=r"^layer: activation must be \(2, 1, 2, 2\), not \(1, 1, 2, 2\)$"):
        integer_layer(CodedLayer(spec, layer.weight * 0, layer.activation, "x"), 2)


def test_the_command_prints_what_it_took_for_granted(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.txt").write_text("1 2 3\n4 5 6\n")
    (tmp_path / "b.txt").write_text("1,0\n0,1\n1,1\n")
    (tmp_path / "c.txt").write_text("4\t5\n10\t11\n")
    command = "capture --weight b.txt --activation a.txt --expected c.txt --weight-axes in,out -o mm.h5"
    app(command.split(), standalone_mode=False)
    printed = capsys.readouterr()
    assert printed.out.startswith(
        "layer: 3 -> 2, 1x2: kernel 1, stride 1, padding 0, dilation 1, groups 1, zero_point 0; weights 2 bits, "
        "activations 3 bits unsigned; output is the exact result\nmm.h5  "
    )
    for words in ("capture -o x.h5", "capture a.npz --weight b.txt -o x.h5"):
        with pytest.raises(
            InputError, match="^a source must be given, or --weight and --activation, or --from-export, and one only$"
        ):
            app(words.split(), standalone_mode=False)


def test_two_matrices_in_text_and_their_product(tmp_path, reference):
    folder = reference.parent / "cases" / "matrices"
    if not folder.is_dir():
        pytest.skip("the cases do not lie beside the reference")
    files = dict(weight=folder / "b.txt", activation=folder / "a.txt", output=folder / "product.txt")
    described = LayerDescription(**{name: str(file) for name, file in files.items()}, weight_axes="in out")
    capture(None, output=tmp_path / "mm.h5", layer=described)
    with open_store(tmp_path / "mm.h5") as store:
        product = store.layer("layer").accumulator[0, :, 0].T
        np.testing.assert_array_equal(product, np.loadtxt(files["output"], dtype=int))
        for dataflow in ("ws", "os", "is"):
            export(store, tmp_path / dataflow, dataflow=dataflow, layers="all", pe_activation="signed")
            assert verify(tmp_path / dataflow, store=tmp_path / "mm.h5").compared


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        (
            dict(bias=np.array([-(2**63), 0])),
            "mine: conv.bias must be 2 numbers of 32 bits, not (2,) of -9223372036854775808 to 0",
        ),
        (dict(bias=np.array([1e30, 0])), "mine: conv.bias must be whole numbers of 64 bits, not 1e+30"),
        (dict(said=LayerDescription(weight_bits=0)), "mine: conv: weight_bits must be at least 1, not 0"),
        (dict(said=LayerDescription(groups=-1)), "mine: conv: groups must be at least 1, not -1"),
        (
            dict(said=LayerDescription(activation_scale=-1.0)),
            "mine: conv: activation_scale must be more than 0, not -1.0",
        ),
        (
            dict(said=LayerDescription(stride=0), output=np.zeros((1, 2, 4, 4), int)),
            "mine: conv: stride and dilation must be at least 1, not 0",
        ),
    ],
)
def test_what_is_out_of_range_is_one_line(arrays, message):
    with pytest.raises(InputError) as error:
        network_of(weight=WEIGHT, activation=ACTIVATION, **arrays)
    assert str(error.value) == message


def test_names_are_checked_first(tmp_path):
    for name in ("a b", "x" * 200, "a\nb"):
        with pytest.raises(InputError, match="^mine: a layer's name must be of letters, "):
            coded_network(ArraySource("mine", {f"{name}.weight": WEIGHT, f"{name}.activation": ACTIVATION}))
    with pytest.raises(InputError, match="^a profile must be given with from_export$"):
        capture(tmp_path, output=tmp_path / "s.h5", layout=ExportOptions("ws"))
