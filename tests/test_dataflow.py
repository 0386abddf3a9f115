"""Both dataflows against plain loops over Python integers, on layers of odd shapes and arrays of four sizes."""

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from helpers_export import PlainLayer, odd_store, plain_conv

from factory.arithmetic.adders import exact_product
from factory.arithmetic.integer import max_pool
from factory.arithmetic.tiling import nij_of_onij, untile_output
from factory.dataflow import FLOWS, Adder, Dataflow, Tiles, Vectors, axis_sizes
from factory.dataflow.pixels import pixel_order, pool_windows
from factory.memfile import ROLES
from factory.spec import ConvLayer, InputError, SystolicArray

STORE = odd_store()
ARRAYS = [SystolicArray(4, 4), SystolicArray(8, 8), SystolicArray(8, 16), SystolicArray(16, 4)]
SMALL = ["features.6", "features.9", "features.13"]
"""Layers for loops in Python: 6 -> 20 channels by 1x1, 20 -> 9 by 3x3 with stride 2, 9 -> 3 by 2x2."""
IMAGE = 1


def flow_of(name: str, dataflow: str, array: SystolicArray = ARRAYS[0], **fields) -> Dataflow:
    """Return the dataflow of a layer; `it`, `ot`, `pt`, `kij` and `ic` among the fields select part of it."""
    spec = STORE.layers[name].spec
    whole = dict(kij=range(spec.kij_count), ot=range(array.output_tiles(spec.out_channels)))
    if dataflow == "ws":
        whole["it"] = range(array.input_tiles(spec.in_channels))
    else:
        whole |= dict(pt=range(array.pixel_tiles(spec.onij_count)), ic=range(spec.in_channels))
    tiles = Tiles(**{axis: tuple(fields.pop(axis, places)) for axis, places in whole.items()})
    options = dict(weight_field=(4, True), activation_field=(4, dataflow == "os"), adder=Adder(16)) | fields
    return FLOWS[dataflow](spec=spec, array=array, tiles=tiles, **options)


def vectors_of(flow: Dataflow, **fields) -> Vectors:
    layer = STORE.layers[flow.spec.name]
    quantizer = None if layer.threshold is None else (layer.threshold, layer.direction)
    weight, activation = flow.read_weight(layer.weight), flow.read_activation(layer.activation[IMAGE])
    return Vectors(flow, weight, activation, quantizer, where=f"{flow.spec.name}, image {IMAGE}", **fields)


def plain_of(flow: Dataflow) -> PlainLayer:
    layer, adder = STORE.layers[flow.spec.name], flow.adder
    fields = flow.activation_field, flow.weight_field
    return PlainLayer(layer.spec, layer.weight, layer.activation[IMAGE], *fields, adder.bits, adder.overflow)


def by_channel(flow: Dataflow, value) -> list:
    """Return `value(oc)` as `[ot][col]`."""
    cols = flow.array.cols
    return [[value(ot * cols + col) for col in range(cols)] for ot in flow.tiles.ot]


def plain_sums(flow: Dataflow, its: tuple[int, ...] = ()) -> np.ndarray:
    """Return `(ot, onij, col)` by loops, for WS over `its` only."""
    plain, tiles = plain_of(flow), flow.tiles

    def value(oc: int, onij: int) -> int:
        if tiles.it:
            return plain.ws(oc, onij, its or tiles.it, tiles.kij, flow.array.rows)
        return plain.os(oc, onij, len(tiles.ic), tiles.kij)

    sums = [by_channel(flow, lambda oc, onij=onij: value(oc, onij)) for onij in flow.pixels.tolist()]
    return np.array(sums).transpose(1, 0, 2)


@pytest.mark.parametrize("dataflow", FLOWS)
@pytest.mark.parametrize("array", ARRAYS, ids=lambda array: f"{array.rows}x{array.cols}")
@pytest.mark.parametrize("name", SMALL)
def test_accumulators_are_the_loops(name, array, dataflow):
    flow = flow_of(name, dataflow, array)
    conv = vectors_of(flow).conv
    assert conv.axes == ("ot", "onij", "col")
    assert conv.wrapped == 0
    np.testing.assert_array_equal(conv.values, plain_sums(flow))


@pytest.mark.parametrize("array", ARRAYS, ids=lambda array: f"{array.rows}x{array.cols}")
@pytest.mark.parametrize("name", STORE.layers)
def test_accumulators_are_the_convolution(name, array):
    layer = STORE.layers[name]
    flow = flow_of(name, "ws", array, activation_field=(8, True), adder=Adder(32))
    found = untile_output(vectors_of(flow).conv.values, layer.spec)
    np.testing.assert_array_equal(found, plain_conv(layer.spec, layer.weight, layer.activation[IMAGE]))


@pytest.mark.parametrize("dataflow", FLOWS)
@pytest.mark.parametrize("overflow", ["wrap", "saturate"])
@pytest.mark.parametrize("bits", [5, 7])
def test_narrow_adders_settle_every_intermediate_sum(bits, overflow, dataflow):
    part = dict(it=(0, 1, 4)) if dataflow == "ws" else dict(ic=range(9), pt=(0, 3))
    flow = flow_of("features.9", dataflow, kij=(1, 3, 8), ot=(0, 2), adder=Adder(bits, overflow), **part)
    conv, exact = vectors_of(flow).conv, plain_sums(replace(flow, adder=Adder(32)))
    expected = plain_sums(flow)
    np.testing.assert_array_equal(conv.values, expected)
    assert conv.wrapped == np.count_nonzero(expected != exact) > 0


@pytest.mark.parametrize("adder", [Adder(16), Adder(6, "wrap"), Adder(6, "saturate")], ids=str)
def test_accumulators_after_each_tile_are_the_loops(adder):
    flow = flow_of("features.9", "ws", it=(0, 2, 3), kij=(1, 4, 8), adder=adder)
    parts = vectors_of(flow).partial
    assert parts.label("it") == (0, 2, 3)
    for place in range(3):
        np.testing.assert_array_equal(parts.values[place], plain_sums(flow, flow.tiles.it[: place + 1]))


@pytest.mark.parametrize("adder", [Adder(16), Adder(6, "wrap"), Adder(6, "saturate")], ids=str)
@pytest.mark.parametrize("outer", ["it", "ot", "kij", "nij"])
def test_psums_are_the_loops(outer, adder):
    flow = flow_of("features.9", "ws", kij=(0, 5), it=(1, 4), adder=adder)
    plain, rows = plain_of(flow), flow.array.rows
    parts = list(vectors_of(flow).sources("psum", outer))
    axis = 4 if outer == "nij" else ("it", "ot", "kij").index(outer)
    psum = parts[0].values if outer == "nij" else np.concatenate([part.values for part in parts], axis=axis)
    assert len(parts) == (1 if outer == "nij" else psum.shape[axis])

    def column(it: int, kij: int, oc: int) -> list[int]:
        channels = range(it * rows, it * rows + rows)
        return [plain.psum(channels, oc, kij, nij) for nij in range(flow.spec.nij_count)]

    expected = [[by_channel(flow, partial(column, it, kij)) for kij in flow.tiles.kij] for it in flow.tiles.it]
    np.testing.assert_array_equal(psum, np.array(expected).transpose(0, 2, 1, 4, 3))
    wide = vectors_of(replace(flow, adder=Adder(32)))
    exact = np.concatenate([part.values for part in wide.sources("psum", "it")])
    assert sum(part.wrapped for part in parts) == np.count_nonzero(psum != exact)


@pytest.mark.parametrize(
    ("dataflow", "role", "bits", "message"),
    [
        ("ws", "conv", 8, "it 0, kij 1, onij 12, oc 2: a sum must fit 8 bits (-128 to 127), not be 128"),
        ("ws", "conv", 7, "it 0, kij 0, row 4, onij 12, oc 0: a sum must fit 7 bits (-64 to 63), not be -70"),
        ("os", "conv", 8, "ic 0, kij 8, onij 12, oc 2: a sum must fit 8 bits (-128 to 127), not be -138"),
        ("ws", "psum", 7, "it 0, kij 1, row 2, nij 24, oc 0: a sum must fit 7 bits (-64 to 63), not be -70"),
    ],
)
def test_an_adder_can_refuse_to_overflow(dataflow, role, bits, message):
    vectors = vectors_of(flow_of("features.9", dataflow, SystolicArray(8, 8), adder=Adder(bits, "error")))
    with pytest.raises(InputError) as caught:
        list(vectors.sources(role, "ot"))
    assert str(caught.value) == f"features.9, image 1, {message}"


def test_an_unknown_way_to_overflow_is_refused():
    with pytest.raises(InputError, match=r"^overflow must be one of wrap saturate error, not clip$"):
        Adder(16, "clip")


def test_an_adder_that_is_wide_enough_never_refuses():
    wide, strict = (vectors_of(flow_of("features.9", "ws", adder=Adder(16, how))).conv for how in ("wrap", "error"))
    np.testing.assert_array_equal(wide.values, strict.values)


@pytest.mark.parametrize("scale", [1, 2**10, 2**24])
def test_products_are_exact_in_every_arithmetic(scale):
    random = np.random.default_rng(0)
    activation, weight = random.integers(-scale, scale, (3, 40)), random.integers(-scale, scale, (40, 5))
    found = exact_product(activation, weight)
    expected = [
        [sum(int(a) * int(b) for a, b in zip(row, column, strict=True)) for column in weight.T] for row in activation
    ]
    assert found.tolist() == expected


def test_codes_are_what_the_array_reads():
    layer = STORE.layers["features.9"]
    flow = flow_of("features.9", "ws", SystolicArray(8, 8), activation_field=(3, True), weight_field=(3, True))
    weight, activation = flow.read_weight(layer.weight), flow.read_activation(layer.activation[IMAGE])
    plain = plain_of(flow)
    assert activation.values[2, 30].tolist() == [plain.act(ic, 30) for ic in range(16, 24)]
    assert weight.values[2, 1, 4, 0].tolist() == [plain.weight(8, ic, 4) for ic in range(16, 24)]
    assert weight.wrapped == np.count_nonzero(np.abs(layer.weight.astype(int) + 0.5) > 4)
    assert activation.wrapped == np.count_nonzero(layer.activation[IMAGE] > 3)


def test_activations_of_os_are_the_padded_pixels_that_outputs_need():
    flow = flow_of("features.9", "os", SystolicArray(8, 8), pt=(1, 2), ic=(0, 1, 2), kij=(0, 7))
    plain = plain_of(flow)
    named = vectors_of(flow).activation
    expected = [[[plain.act(ic, plain.nij(onij, kij)) for onij in range(8, 20)] for kij in (0, 7)] for ic in range(3)]
    assert named.values.tolist() == expected
    (tiled,) = vectors_of(flow).sources("activation", "pt", pixel_tiles=True)
    assert tiled.axes == ("ic", "kij", "pt", "px")
    assert tiled.values[2, 1].tolist() == [expected[2][1][:8], [*expected[2][1][8:], 0, 0, 0, 0]]


@pytest.mark.parametrize("dataflow", FLOWS)
@pytest.mark.parametrize("post", ["relu", "none", "leaky"])
def test_post_ops_are_their_formulas(post, dataflow):
    vectors = vectors_of(flow_of("features.9", dataflow, SystolicArray(8, 8)), post=post)
    formula = {"relu": lambda x: max(x, 0), "none": lambda x: x, "leaky": lambda x: x >> 6 if x < 0 else x}[post]
    assert vectors.out.values.ravel().tolist() == [formula(x) for x in vectors.conv.values.ravel().tolist()]


def test_the_pool_of_ws_is_the_layers_pool():
    vectors = vectors_of(flow_of("features.3", "ws", SystolicArray(8, 8)), post="relu+maxpool2")
    conv = STORE.layers["features.3"].spec
    expected = np.maximum(max_pool(untile_output(vectors.conv.values, conv), 2), 0)
    assert vectors.out.values.shape == (1, 6, 8)
    np.testing.assert_array_equal(vectors.out.values[0, :, :6].T.reshape(6, 2, 3), expected)


def test_the_pool_of_os_takes_windows_inside_a_tile():
    conv = ConvLayer("c", "image", 1, 1, 4, 4)
    rows = pool_windows(pixel_order(conv, (1, 1)), conv, 8)
    assert rows.tolist() == [[0, 1, 4, 5], [2, 3, 6, 7], [8, 9, 12, 13], [10, 11, 14, 15]]
    blocks = pixel_order(conv, (2, 2))
    assert blocks.tolist() == [0, 1, 4, 5, 2, 3, 6, 7, 8, 9, 12, 13, 10, 11, 14, 15]
    assert pool_windows(blocks, conv, 4).tolist() == np.arange(16).reshape(4, 4).tolist()
    with pytest.raises(InputError, match="must find each 2x2 window"):  # the last column is a tile without a window
        pool_windows(pixel_order(ragged := ConvLayer("c", "image", 1, 1, 4, 5), (4, 4)), ragged, 16)
    with pytest.raises(InputError) as caught:
        pool_windows(pixel_order(conv, (1, 1)), conv, 4)
    assert str(caught.value) == (
        "c: relu+maxpool2 must find each 2x2 window of the 4x4 map in one tile of 4 pixels, without others; "
        "the profile's pixel_block sets their order"
    )


def test_pixels_come_in_blocks():
    conv = ConvLayer("c", "image", 1, 1, 3, 5)
    assert pixel_order(conv, (1, 1)).tolist() == list(range(15))
    assert pixel_order(conv, (2, 4)).tolist() == [0, 1, 2, 3, 5, 6, 7, 8, 4, 9, 10, 11, 12, 13, 14]
    flow = flow_of("features.9", "os", pixel_block=(2, 2))
    np.testing.assert_array_equal(vectors_of(flow).conv.values, plain_sums(flow))


@pytest.mark.parametrize("dataflow", FLOWS)
@pytest.mark.parametrize("block", [(1, 1), (2, 2)])
def test_next_codes_are_what_enters_the_next_layer(dataflow, block):
    flow = flow_of("features.9", dataflow, activation_field=(4, False), pixel_block=block)
    codes = vectors_of(flow).next.values
    taken = STORE.layers["features.13"].activation[IMAGE]
    assert codes.shape == (3, 4, 4)
    np.testing.assert_array_equal(codes.transpose(0, 2, 1).reshape(12, 2, 2)[:9], taken)
    assert not codes.transpose(0, 2, 1).reshape(12, 4)[9:].any()


def test_next_codes_need_the_whole_map():
    with pytest.raises(InputError, match=r"^features\.9: next must have every pixel tile, not 2 of them$"):
        _ = vectors_of(flow_of("features.9", "os", pt=(0, 3))).next


def test_thresholds_and_directions_are_tiled_by_channel():
    layer = STORE.layers["features.9"]
    vectors = vectors_of(flow_of("features.9", "ws", ot=(0, 2)))
    assert vectors.threshold.values[1, :, 0].tolist() == layer.threshold[8].tolist()
    assert vectors.threshold.values[0].T.tolist() == layer.threshold[:4].tolist()
    assert vectors.direction.values.tolist() == [layer.direction[:4].tolist(), [layer.direction[8], 0, 0, 0]]


def test_addresses_are_the_formula():
    flow = flow_of("features.9", "os", SystolicArray(8, 8), pt=(1,), kij=(2, 8))
    pixel, nij_count = nij_of_onij(flow.spec), flow.spec.nij_count
    address = vectors_of(flow, base=1).address
    expected = [[1 + kij * nij_count + pixel[onij, kij] for kij in (2, 8)] for onij in range(8, 16)]
    assert address.values.tolist() == expected


@pytest.mark.parametrize("post", ["relu", "relu+maxpool2"])
@pytest.mark.parametrize(("role", "dataflow"), [(role, flow) for role in ROLES for flow in ROLES[role].axes])
def test_sizes_are_those_of_the_sources(role, post, dataflow):
    part = dict(pt=(0, 1)) if (role, dataflow) == ("out", "os") else {}  # two rows of 7 pixels each, without the fifth
    flow = flow_of("features.3", dataflow, SystolicArray(14, 8), **part)
    tiled = dataflow == "os" and "onij" in ROLES[role].axes["os"] and role not in ("next", "address")
    (named,) = vectors_of(flow, post=post).sources(role, "nij", pixel_tiles=tiled)
    sizes = axis_sizes(flow, role, post, levels=STORE.layers["features.3"].threshold.shape[1])
    assert dict(zip(named.axes, named.values.shape, strict=True)) == {axis: sizes[axis] for axis in named.axes}
    assert ("px" in named.axes) == tiled


def test_a_part_of_the_sum_is_known_as_one():
    assert flow_of("features.9", "ws").sums_all
    assert not flow_of("features.9", "ws", it=(0, 1)).sums_all
    assert not flow_of("features.9", "ws", kij=(0, 1)).sums_all
    assert flow_of("features.9", "os", pt=(0,)).sums_all
    assert not flow_of("features.9", "os", ic=(0, 1, 2)).sums_all
