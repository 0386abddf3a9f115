"""Where values lie: `locate` and `address_at` are inverse to each other, and are what the files hold."""

from collections.abc import Iterator

import numpy as np
import pytest
from helpers_bench import random_store
from helpers_export import odd_store
from hypothesis import given, settings
from hypothesis import strategies as st

from factory.arithmetic.labelled import Address, LabelledArray, axes
from factory.dataflow import DATAFLOWS, ROLES
from factory.export import ExportOptions, export, plan_export
from factory.fileplan import FileSet, read_plan
from factory.memfile import Layout, Placement, Split, Spot, decode, profile_names
from factory.spec import InputError, SystolicArray

SHIPPED = [(flow, name) for flow in DATAFLOWS for name in profile_names(flow)]
STORES = {bits: odd_store(images=1, activation_bits=bits) for bits in (2, 4)}
PARTS = {"ws": "it=1,ot=0:2", "os": "ot=1", "is": "it=0,oc=2:7,8"}


def included(flow: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(role.include for role in ROLES.values() if role.axes(DATAFLOWS[flow])))


def sets_of(flow: str, name: str, tiles: str, kij: str = "all", **fields) -> list[FileSet]:
    """Return every set of files of the odd layer that has a border, a stride and ragged tiles."""
    options = ExportOptions(flow, "features.9", tiles=tiles, kij=kij, profile=name, include=included(flow), **fields)
    plan = plan_export(STORES[2 if "simd" in name else 4], options)
    return [files for layer in plan.layers for files in (*layer.own, *layer.of_image)]


def spots(placement: Placement, stride: int = 1) -> Iterator[Spot]:
    """Yield the spot of every lane of every line, zeros among them, or of each `stride`th."""
    lines, lanes = placement.lines, placement.word.lanes
    for index in range(0, placement.file_count * lines * lanes, stride):
        rest, lane = divmod(index, lanes)
        yield Spot(*divmod(rest, lines), placement.word.low_bit(lane))


@pytest.mark.parametrize(
    ("flow", "name", "merged"),
    [*((*shipped, "tile") for shipped in SHIPPED), *((flow, "notebook", "layer") for flow in DATAFLOWS)],
)
def test_every_bit_has_one_address_and_every_address_its_bits(flow, name, merged):
    for files in sets_of(flow, name, PARTS[flow], kij="1,5", files=merged):
        placement = files.placement
        values = int(np.prod([placement.sizes[axis] for axis in placement.axes]))
        found, stride = set(), max(1, values // 60)  # of large vectors a share, which a stride spreads over all axes
        for spot in spots(placement, stride):
            labels = placement.address_at(*spot)
            if labels is not None:
                assert placement.locate(labels) == spot
                found.add(tuple(labels.values()))
                top = spot.bit + placement.word.field.bits - 1
                assert placement.address_at(spot.file, spot.word, top) == labels
        assert len(found) == values if stride == 1 else len(found) > 15
        assert placement.address_at(0, placement.lines, 0) is None
        assert placement.address_at(placement.file_count, 0, 0) is None


@st.composite
def placed(draw):
    """Any layout of psums of odd sizes: axes in files, lines and lanes, reversed or not, some split, ragged too."""
    sizes = {axis: draw(st.integers(1, 3)) for axis in ("it", "ot", "kij", "nij", "col")}
    names, splits = list(sizes), []
    for axis in draw(st.sets(st.sampled_from(list(sizes)), max_size=2)):
        splits.append((axis, f"{axis}a", f"{axis}b", draw(st.integers(1, 4))))
        at = names.index(axis)
        names[at : at + 1] = [f"{axis}a", f"{axis}b"]
    names = draw(st.permutations(names))
    cuts = sorted(draw(st.tuples(st.integers(0, len(names)), st.integers(0, len(names)))))
    signs = [draw(st.sampled_from(("", "-"))) for _ in names]
    texts = [f"{sign}{name}" for sign, name in zip(signs, names, strict=True)]
    return sizes, splits, (texts[: cuts[0]], texts[cuts[0] : cuts[1]], texts[cuts[1] :]), draw(st.booleans())


@settings(max_examples=25)
@given(placed(), st.integers(0, 2**32 - 1))
def test_values_lie_where_locate_says(drawn, seed):
    sizes, splits, (files, lines, lanes), left = drawn
    layout = Layout(
        name="psum", role="psum", file="p.txt", files=axes(*files), lines=axes(*lines), lanes=axes(*lanes), lane_bits=7,
        signed=True, lane0_left=left, split=tuple(Split(*split) for split in splits),
    )  # fmt: skip
    labels = {"it": tuple(range(3, 3 + sizes["it"])), "kij": tuple(range(0, 2 * sizes["kij"], 2))}
    placement = Placement(layout, tuple(sizes), sizes, labels)
    values = np.random.default_rng(seed).integers(-64, 64, tuple(sizes.values()))
    array = LabelledArray(values, tuple(sizes), labels)
    held = placement.arrange(array).values.reshape(placement.file_count, placement.lines, placement.word.lanes)
    seen = 0
    for spot in spots(placement):
        address = placement.address_at(*spot)
        value = held[spot.file, spot.word, placement.word.lane_at(spot.bit)]
        if address is None:
            assert value == 0
        else:
            index = tuple(array.label(axis).index(label) for axis, label in address.items())
            assert values[index] == value and placement.locate(address) == spot
            seen += 1
    assert seen == values.size


def test_an_address_is_found_in_the_written_file(tmp_path):
    store = random_store(SystolicArray(3, 4), in_channels=7, height=5)
    for flow in DATAFLOWS:
        export(store, tmp_path / flow, dataflow=flow, images="1", include="activation,out")
        (layer,) = read_plan(tmp_path / flow).layers
        activation = next(files for files in layer.of_image if files.role.operand is not None)
        where = Address("layer", 1)
        for name, _ in list(activation.files(1))[:3]:
            data = (tmp_path / flow / "layer" / "image1" / name).read_bytes()
            codes = decode(data, activation.memory, "bin")
            for word, lane in np.argwhere(codes)[::5]:
                bit = activation.memory.word.low_bit(int(lane))
                address = activation.address_at(where, name, int(word), bit)
                assert activation.locate(address) == (name, word, bit)
                ic = address.labels.get("ic", address.labels.get("it", 0) * 3 + address.labels.get("row", 0))
                nij = address.labels.get("nij")
                if nij is None:
                    (oy, ox), (ky, kx) = divmod(address.labels["onij"], 3), divmod(address.labels["kij"], 3)
                    nij = (oy + ky) * 5 + ox + kx
                y, x = divmod(nij, 5)
                assert store.layer("layer").activation[1, ic, y - 1, x - 1] == codes[word, lane] % 16
    with pytest.raises(InputError, match="^file must be one of act_itile0_tile0_kij0.txt .*, not x$"):
        activation.address_at(where, "x", 0, 0)


def test_an_address_has_one_form():
    assert str(Address("features.27", 3).at(it=0, kij=4, row=5)) == "features.27, image 3, it 0, kij 4, row 5"
    assert str(Address("features.27", role="weight", labels={"oc": 1})) == "features.27, oc 1"
