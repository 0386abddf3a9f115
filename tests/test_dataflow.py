"""Every dataflow against plain loops over Python integers, on layers of odd shapes and arrays of four sizes."""

from dataclasses import replace

import numpy as np
import pytest
from helpers_export import PlainLayer, odd_store, plain_conv

from factory.arithmetic.adders import Adder, exact_product
from factory.arithmetic.bits import Field
from factory.arithmetic.integer import max_pool
from factory.arithmetic.labelled import LabelledArray, Selection
from factory.arithmetic.tiling import nij_of_onij
from factory.dataflow import DATAFLOWS, ROLES, LayerMapping, LayerVectors, axes_of
from factory.dataflow.pixels import pixel_order, pool_windows
from factory.dataflow.sums import arranged
from factory.spec import ConvLayer, InputError, SystolicArray

STORE = odd_store()
ARRAYS = [SystolicArray(4, 4), SystolicArray(8, 8), SystolicArray(8, 16), SystolicArray(16, 4)]
SMALL = ["features.6", "features.9", "features.13"]
"""Layers for loops in Python: 6 -> 20 channels by 1x1, 20 -> 9 by 3x3 with stride 2, 9 -> 3 by 2x2."""
IMAGE = 1
TILED = [name for name, flow in DATAFLOWS.items() if flow.pixel_tiling]
WITH_PSUMS = [name for name, flow in DATAFLOWS.items() if flow.has_psums]


def mapping_of(name: str, dataflow: str, array: SystolicArray = ARRAYS[0], **fields) -> LayerMapping:
    """Return a layer on an array; axes among the fields select part of it."""
    spec, flow = STORE.layers[name].spec, DATAFLOWS[dataflow]
    whole = {axis: range(count) for axis, count in flow.counts(spec, array).items()}
    selection = Selection({axis: tuple(fields.pop(axis, labels)) for axis, labels in whole.items()})
    read = dict(activation=Field(4, False), weight=Field(4, True)) | fields.pop("fields", {})
    return LayerMapping(**dict(dataflow=flow, spec=spec, array=array, selection=selection, fields=read,
                               adder=Adder(16)) | fields)  # fmt: skip


def vectors_of(mapping: LayerMapping, **fields) -> LayerVectors:
    return LayerVectors(mapping, STORE.layers[mapping.spec.name], IMAGE, **fields)


def plain_of(mapping: LayerMapping) -> PlainLayer:
    layer, adder = STORE.layers[mapping.spec.name], mapping.adder
    fields = ((x.bits, x.signed) for x in (mapping.fields["activation"], mapping.fields["weight"]))
    return PlainLayer(layer.spec, layer.weight, layer.activation[IMAGE], *fields, adder.bits, adder.overflow)


def by_output(mapping: LayerMapping, values: LabelledArray) -> np.ndarray:
    """Return sums as `(oc, onij)`; what only fills up the last tile must be 0."""
    tiling = mapping.dataflow.tilings.get("oc")
    if tiling:
        lanes = arranged(values, tiling.outer, tiling.inner, "onij").reshape(-1, values.size("onij"))
        assert not lanes[len(mapping.channels) :].any()
    return arranged(mapping.untile(values), "oc", "onij")


def plain_sums(mapping: LayerMapping, its: tuple[int, ...] = ()) -> np.ndarray:
    """Return `(oc, onij)` by loops, over `its` only where they are given."""
    plain, kept = plain_of(mapping), mapping.selection

    def value(oc: int, onij: int) -> int:
        if "it" in kept:
            return plain.ws(oc, onij, its or kept["it"], kept["kij"], mapping.array.rows)
        return plain.os(oc, onij, len(kept["ic"]), kept["kij"])

    return np.array([[value(oc, onij) for onij in mapping.pixels.tolist()] for oc in mapping.channels.tolist()])


@pytest.mark.parametrize("dataflow", DATAFLOWS)
@pytest.mark.parametrize("array", ARRAYS, ids=lambda array: f"{array.rows}x{array.cols}")
@pytest.mark.parametrize("name", SMALL)
def test_accumulators_are_the_loops(name, array, dataflow):
    mapping = mapping_of(name, dataflow, array, fields={"activation": Field(4, dataflow == "os")})
    sums = vectors_of(mapping).accumulator
    assert sorted(sums.axes) == sorted(axes_of(ROLES["accumulator"], mapping.dataflow))
    assert sums.inexact == 0
    np.testing.assert_array_equal(by_output(mapping, sums), plain_sums(mapping))


@pytest.mark.parametrize("dataflow", DATAFLOWS)
@pytest.mark.parametrize("array", ARRAYS, ids=lambda array: f"{array.rows}x{array.cols}")
@pytest.mark.parametrize("name", STORE.layers)
def test_accumulators_are_the_convolution(name, array, dataflow):
    layer = STORE.layers[name]
    mapping = mapping_of(name, dataflow, array, fields={"activation": Field(8, True)}, adder=Adder(32))
    found = by_output(mapping, vectors_of(mapping).accumulator)
    expected = plain_conv(layer.spec, layer.weight, layer.activation[IMAGE])
    np.testing.assert_array_equal(found, expected.reshape(len(expected), -1)[:, mapping.pixels])


@pytest.mark.parametrize("dataflow", DATAFLOWS)
@pytest.mark.parametrize("overflow", ["wrap", "saturate"])
@pytest.mark.parametrize("bits", [5, 7])
def test_narrow_adders_settle_every_intermediate_sum(bits, overflow, dataflow):
    part = {"ws": dict(it=(0, 1, 4), ot=(0, 2)), "os": dict(ic=range(9), pt=(0, 3), ot=(0, 2)),
            "is": dict(it=(0, 1, 4), pt=(0, 3), oc=(0, 1, 7, 8))}[dataflow]  # fmt: skip
    mapping = mapping_of("features.9", dataflow, kij=(1, 3, 8), adder=Adder(bits, overflow), **part)
    sums, exact = vectors_of(mapping).accumulator, plain_sums(replace(mapping, adder=Adder(32)))
    expected = plain_sums(mapping)
    np.testing.assert_array_equal(by_output(mapping, sums), expected)
    assert sums.inexact == np.count_nonzero(expected != exact) > 0


@pytest.mark.parametrize("dataflow", WITH_PSUMS)
@pytest.mark.parametrize("adder", [Adder(16), Adder(6, "wrap"), Adder(6, "saturate")], ids=str)
def test_accumulators_after_each_tile_are_the_loops(adder, dataflow):
    mapping = mapping_of("features.9", dataflow, it=(0, 2, 3), kij=(1, 4, 8), adder=adder)
    parts = vectors_of(mapping).running_sum
    assert parts.label("it") == (0, 2, 3)
    for place, it in enumerate((0, 2, 3)):
        part = parts.pick("it", it)
        found = LabelledArray(part.values[0], part.axes[1:], {})
        np.testing.assert_array_equal(
            by_output(mapping, found), plain_sums(mapping, mapping.selection["it"][: place + 1])
        )


@pytest.mark.parametrize("adder", [Adder(16), Adder(6, "wrap"), Adder(6, "saturate")], ids=str)
@pytest.mark.parametrize("outer", ["it", "ot", "kij", "nij", "oc"])
@pytest.mark.parametrize("dataflow", WITH_PSUMS)
def test_psums_are_the_loops(dataflow, outer, adder):
    mapping = mapping_of("features.9", dataflow, kij=(0, 5), it=(1, 4), adder=adder)
    plain, rows = plain_of(mapping), mapping.array.rows
    parts = list(vectors_of(mapping).psums(outer))
    pixel = mapping.dataflow.reads[-1]
    axes = ("it", *mapping.dataflow.axes(("oc",)), "kij", pixel)
    if outer in mapping.selection:
        assert len(parts) == len(mapping.selection[outer])
        psum = np.concatenate([arranged(part, *axes) for part in parts], axis=axes.index(outer))
    else:
        psum = arranged(parts[0], *axes)
    psum = psum.reshape(2, -1, *psum.shape[-2:])

    def column(it: int, oc: int, kij: int) -> list[int]:
        channels = range(it * rows, it * rows + rows)
        nijs = range(mapping.spec.nij_count) if pixel == "nij" else [plain.nij(x, kij) for x in mapping.pixels.tolist()]
        return [plain.psum(channels, oc, kij, nij) for nij in nijs]

    ocs = range(psum.shape[1])
    expected = [[[column(it, oc, kij) for kij in mapping.selection["kij"]] for oc in ocs] for it in (1, 4)]
    np.testing.assert_array_equal(psum, np.array(expected))
    wide = vectors_of(replace(mapping, adder=Adder(32)))
    exact = np.concatenate([arranged(part, *axes).reshape(1, -1, *psum.shape[-2:]) for part in wide.psums("it")])
    assert sum(part.inexact for part in parts) == np.count_nonzero(psum != exact)


@pytest.mark.parametrize(
    ("dataflow", "role", "bits", "message"),
    [
        ("ws", "accumulator", 8, "it 0, kij 1, onij 12, oc 2: a sum must fit 8 bits (-128 to 127), not be 128"),
        ("ws", "accumulator", 7, "it 0, kij 0, row 4, onij 12, oc 0: a sum must fit 7 bits (-64 to 63), not be -70"),
        ("os", "accumulator", 8, "ic 0, kij 8, onij 12, oc 2: a sum must fit 8 bits (-128 to 127), not be -138"),
        ("ws", "psum", 7, "it 0, kij 1, row 2, nij 24, oc 0: a sum must fit 7 bits (-64 to 63), not be -70"),
        ("is", "accumulator", 7, "it 0, kij 0, row 4, onij 12, oc 0: a sum must fit 7 bits (-64 to 63), not be -70"),
        ("is", "psum", 7, "it 0, kij 0, row 4, onij 12, oc 0: a sum must fit 7 bits (-64 to 63), not be -70"),
    ],
)
def test_an_adder_can_refuse_to_overflow(dataflow, role, bits, message):
    fields = {"activation": Field(4, dataflow == "os")}
    mapping = mapping_of("features.9", dataflow, SystolicArray(8, 8), adder=Adder(bits, "error"), fields=fields)
    with pytest.raises(InputError) as caught:
        list(ROLES[role].values(vectors_of(mapping), "ot"))
    assert str(caught.value) == f"features.9, image 1, {message}"


def test_an_unknown_way_to_overflow_is_refused():
    with pytest.raises(InputError, match=r"^overflow must be one of wrap saturate error, not clip$"):
        Adder(16, "clip")


def test_an_adder_that_is_wide_enough_never_refuses():
    adders = (Adder(16, how) for how in ("wrap", "error"))
    wide, strict = (vectors_of(mapping_of("features.9", "ws", adder=adder)).accumulator for adder in adders)
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
    fields = dict(activation=Field(3, True), weight=Field(3, True))
    mapping = mapping_of("features.9", "ws", SystolicArray(8, 8), fields=fields)
    weight, activation = vectors_of(mapping).weight, vectors_of(mapping).activation
    plain = plain_of(mapping)
    assert arranged(activation, "it", "nij", "row")[2, 30].tolist() == [plain.act(ic, 30) for ic in range(16, 24)]
    found = arranged(weight, "it", "ot", "kij", "col", "row")[2, 1, 4, 0]
    assert found.tolist() == [plain.weight(8, ic, 4) for ic in range(16, 24)]
    assert weight.inexact == np.count_nonzero(np.abs(layer.weight.astype(int) + 0.5) > 4)
    assert activation.inexact == np.count_nonzero(layer.activation[IMAGE] > 3)


@pytest.mark.parametrize("dataflow", TILED)
def test_activations_are_the_padded_pixels_that_outputs_need(dataflow):
    mapping = mapping_of("features.9", dataflow, SystolicArray(8, 8), pt=(1, 2), kij=(0, 7))
    plain, pixels = plain_of(mapping), range(8, 20)
    found = vectors_of(mapping).activation
    if "it" in found.axes:
        found = arranged(found, "it", "row", "kij", "onij").reshape(-1, 2, 12)
    else:
        found = arranged(found, "ic", "kij", "onij")
    expected = [[[plain.act(ic, plain.nij(x, kij)) for x in pixels] for kij in (0, 7)] for ic in range(len(found))]
    assert found.tolist() == expected


@pytest.mark.parametrize("dataflow", DATAFLOWS)
@pytest.mark.parametrize("post", ["relu", "none", "leaky"])
def test_post_ops_are_their_formulas(post, dataflow):
    vectors = vectors_of(mapping_of("features.9", dataflow, SystolicArray(8, 8)), post=post)
    formula = {"relu": lambda x: max(x, 0), "none": lambda x: x, "leaky": lambda x: x >> 6 if x < 0 else x}[post]
    expected = [formula(x) for x in vectors.accumulator.values.ravel().tolist()]
    assert vectors.out.values.ravel().tolist() == expected


@pytest.mark.parametrize("dataflow", ["ws", "is"])
def test_the_pool_is_the_layers_pool(dataflow):
    array = SystolicArray(8, 24)  # whole rows of windows in each tile of pixels
    mapping = mapping_of("features.3", dataflow, array)
    if dataflow == "is":
        mapping = mapping_of("features.3", dataflow, SystolicArray(8, mapping.spec.onij_count))
    vectors = vectors_of(mapping, post="relu+maxpool2")
    spec = mapping.spec
    acc = by_output(mapping, vectors.accumulator).reshape(-1, spec.out_height, spec.out_width)
    expected = np.maximum(max_pool(acc, 2), 0)
    np.testing.assert_array_equal(by_output(mapping, vectors.out), expected.reshape(len(expected), -1))


def test_the_pool_of_os_takes_windows_inside_a_tile():
    spec = ConvLayer("c", "image", 1, 1, 4, 4)
    rows = pool_windows(pixel_order(spec, (1, 1)), spec, 8)
    assert rows.tolist() == [[0, 1, 4, 5], [2, 3, 6, 7], [8, 9, 12, 13], [10, 11, 14, 15]]
    blocks = pixel_order(spec, (2, 2))
    assert blocks.tolist() == [0, 1, 4, 5, 2, 3, 6, 7, 8, 9, 12, 13, 10, 11, 14, 15]
    assert pool_windows(blocks, spec, 4).tolist() == np.arange(16).reshape(4, 4).tolist()
    with pytest.raises(InputError, match="must find each 2x2 window"):  # the last column is a tile without a window
        pool_windows(pixel_order(ragged := ConvLayer("c", "image", 1, 1, 4, 5), (4, 4)), ragged, 16)
    with pytest.raises(InputError) as caught:
        pool_windows(pixel_order(spec, (1, 1)), spec, 4)
    assert str(caught.value) == (
        "c: relu+maxpool2 must find each 2x2 window of the 4x4 map in one tile of 4 pixels, without others; "
        "the profile's pixel_block sets their order"
    )


@pytest.mark.parametrize("dataflow", TILED)
def test_pixels_come_in_blocks(dataflow):
    spec = ConvLayer("c", "image", 1, 1, 3, 5)
    assert pixel_order(spec, (1, 1)).tolist() == list(range(15))
    assert pixel_order(spec, (2, 4)).tolist() == [0, 1, 2, 3, 5, 6, 7, 8, 4, 9, 10, 11, 12, 13, 14]
    mapping = mapping_of("features.9", dataflow, pixel_block=(2, 2))
    np.testing.assert_array_equal(by_output(mapping, vectors_of(mapping).accumulator), plain_sums(mapping))


@pytest.mark.parametrize("dataflow", DATAFLOWS)
@pytest.mark.parametrize("block", [(1, 1), (2, 2)])
def test_next_codes_are_what_enters_the_next_layer(dataflow, block):
    mapping = mapping_of("features.9", dataflow, pixel_block=block)
    taken = STORE.layers["features.13"].activation[IMAGE]
    found = by_output(mapping, vectors_of(mapping).next)
    np.testing.assert_array_equal(found.reshape(9, 2, 2), taken)


@pytest.mark.parametrize("dataflow", TILED)
def test_next_codes_need_the_whole_map(dataflow):
    with pytest.raises(InputError, match=r"^features\.9: next must have every pixel tile, not 2 of them$"):
        _ = vectors_of(mapping_of("features.9", dataflow, pt=(0, 3))).next


def test_thresholds_and_directions_are_tiled_by_channel():
    layer = STORE.layers["features.9"]
    vectors = vectors_of(mapping_of("features.9", "ws", ot=(0, 2)))
    threshold = arranged(vectors.threshold, "ot", "level", "col")
    assert threshold[1, :, 0].tolist() == layer.threshold[8].tolist()
    assert threshold[0].T.tolist() == layer.threshold[:4].tolist()
    direction = arranged(vectors.direction, "ot", "col")
    assert direction.tolist() == [layer.direction[:4].tolist(), [layer.direction[8], 0, 0, 0]]
    streamed = vectors_of(mapping_of("features.9", "is", oc=(1, 8)))
    assert streamed.threshold.values.tolist() == layer.threshold[[1, 8]].tolist()


def test_addresses_are_the_formula():
    mapping = mapping_of("features.9", "os", SystolicArray(8, 8), pt=(1,), kij=(2, 8))
    pixel, nij_count = nij_of_onij(mapping.spec), mapping.spec.nij_count
    address = vectors_of(mapping, base=1).address
    expected = [[1 + at * nij_count + pixel[onij, kij] for at, kij in enumerate((2, 8))] for onij in range(8, 16)]
    assert address.values.tolist() == expected


@pytest.mark.parametrize("post", ["relu", "relu+maxpool2"])
@pytest.mark.parametrize(
    ("role", "dataflow"),
    [
        (role, name)
        for role in ROLES
        for name, flow in DATAFLOWS.items()
        if ROLES[role].axes(flow) and not ROLES[role].edge  # whose cycles are of a schedule
    ],
)
def test_sizes_are_those_of_the_sources(role, post, dataflow):
    part = dict(pt=(0, 1)) if (role, dataflow) == ("out", "os") else {}  # two rows of 7 pixels each, without the fifth
    mapping = mapping_of("features.3", dataflow, SystolicArray(14, 14), **part)
    if (role, dataflow) == ("out", "is"):
        mapping = mapping_of("features.3", dataflow, SystolicArray(14, 14), pt=(0, 1))
    (array,) = ROLES[role].values(vectors_of(mapping, post=post), "nij")
    pixels, tile_pixels, _ = ROLES[role].pixels(mapping, post)
    levels = STORE.layers["features.3"].threshold.shape[1]
    sizes = mapping.sizes(pixels=len(pixels), tile_pixels=tile_pixels, levels=levels)
    assert sorted(array.axes) == sorted(axes_of(ROLES[role], mapping.dataflow))
    assert dict(zip(array.axes, array.values.shape, strict=True)) == {axis: sizes[axis] for axis in array.axes}


def test_a_part_of_the_sum_is_known_as_one():
    assert mapping_of("features.9", "ws").sums_all
    assert not mapping_of("features.9", "ws", it=(0, 1)).sums_all
    assert not mapping_of("features.9", "ws", kij=(0, 1)).sums_all
    assert mapping_of("features.9", "os", pt=(0,)).sums_all
    assert not mapping_of("features.9", "os", ic=(0, 1, 2)).sums_all
    assert mapping_of("features.9", "is", pt=(0,), oc=(3,)).sums_all
    assert not mapping_of("features.9", "is", it=(0,)).sums_all


def test_the_source_is_read_where_it_holds_what_the_array_computes():
    layer = STORE.layers["features.9"]
    acc = np.stack([plain_conv(layer.spec, layer.weight, codes) for codes in layer.activation]).astype(np.int32)
    for dataflow in DATAFLOWS:
        for adder in (Adder(16), Adder(7), Adder(7, "saturate")):
            mapping = mapping_of("features.9", dataflow, adder=adder)
            computed = LayerVectors(mapping, layer, IMAGE).accumulator
            read = LayerVectors(mapping, replace(layer, accumulator=acc), IMAGE).accumulator
            np.testing.assert_array_equal(read.values, computed.values)
            assert (read.axes, read.inexact) == (computed.axes, computed.inexact)
    planted = replace(layer, accumulator=acc + 1)
    whole, part = mapping_of("features.9", "ws"), mapping_of("features.9", "ws", kij=(0, 1))
    assert (LayerVectors(whole, planted, IMAGE).accumulator.values.max() == acc[IMAGE].max() + 1).all()
    computed = LayerVectors(part, layer, IMAGE).accumulator
    np.testing.assert_array_equal(LayerVectors(part, planted, IMAGE).accumulator.values, computed.values)
