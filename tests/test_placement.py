"""Where values lie: `locate` and `address_at` are inverse to each other, and are what the files hold."""

from collections.abc import Iterator

import numpy as np
import pytest
from helpers_bench import random_store
from helpers_export import SHIPPED, odd_store
from hypothesis import given, settings
from hypothesis import strategies as st

from factory.arithmetic.labelled import Address, LabelledArray, axes
from factory.dataflow import DATAFLOWS
from factory.export import ExportOptions, export, plan_export
from factory.fileplan import FileSet, read_plan
from factory.memfile import Align, Layout, Placement, Split, Spot, decode, load_profile
from factory.memfile.regroup import Join, Keep, Repeat
from factory.spec import InputError, SystolicArray

STORES = {bits: odd_store(images=1, activation_bits=bits) for bits in (2, 4)}
PARTS = {"ws": "it=1,ot=0:2", "os": "ot=1", "is": "it=0,oc=2:7,8"}


def included(flow: str, name: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(layout.include for layout in load_profile(name, flow).layouts))


def sets_of(flow: str, name: str, tiles: str, kij: str = "all", **fields) -> list[FileSet]:
    """Return every set of files of the odd layer that has a border, a stride and ragged tiles."""
    options = ExportOptions(
        flow, "features.9", tiles=tiles, kij=kij, profile=name, include=included(flow, name), **fields
    )
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


@st.composite
def regrouped(draw):
    """Any layout of activations whose axes have other names, with line strides and beats, and its vector's steps."""
    rows, cols, row, top = draw(st.tuples(*[st.integers(1, 3)] * 3, st.integers(0, 1)))
    sizes = dict(it=draw(st.integers(1, 2)), nij=(rows + top) * (cols + 1), row=row, bit=draw(st.integers(1, 4)))
    joined, border, mapped, copies, bits = draw(st.tuples(*[st.booleans()] * 5))
    vector = ("it", "nij", "row", *["bit"] * bits)
    inner = tuple((y + top) * (cols + 1) + x for y in range(rows) for x in range(cols))
    steps = [(Join, "it", "row", "ic", draw(st.integers(1, sizes["it"] * row)))] if joined else []
    steps += [] if border else [(Keep, "nij", inner)]
    steps += [(Split, "nij", "y", "x", cols + border)] if mapped else []
    steps += [(Repeat, "ot", draw(st.integers(1, 3)))] if copies else []
    names = [*(["ic"] if joined else ["it", "row"]), *(["y", "x"] if mapped else ["nij"]), *["ot"] * copies]
    names = draw(st.permutations([*names, *["bit"] * bits]))
    cuts = sorted(draw(st.tuples(st.integers(0, len(names)), st.integers(0, len(names)))))
    texts = [f"{draw(st.sampled_from(('', '-')))}{name}" for name in names]
    lines = names[cuts[0] : cuts[1]]
    align = tuple((axis, draw(st.integers(1, 5))) for axis in lines if draw(st.booleans()))
    bus = draw(st.integers(0, 9))
    pow2, code = draw(st.booleans()), draw(st.sampled_from(("twos_complement", "sign_magnitude")))
    keys = dict(
        lane_bits=sizes["bit"], lane0_left=draw(st.booleans()), code=code, align=align, bus_bits=bus, border=border,
        beats=draw(st.integers(0, 3)) if bus and not pow2 else 0, beats_pow2=bus > 0 and pow2,
        highest_beat_first=bus > 0 and draw(st.booleans()), words=draw(st.integers(0, 9)),
    )  # fmt: skip
    return vector, sizes, steps, (texts[: cuts[0]], texts[cuts[0] : cuts[1]], texts[cuts[1] :]), keys


@settings(max_examples=40)
@given(regrouped(), st.integers(0, 2**32 - 1))
def test_every_bit_of_regrouped_axes_is_found_again(drawn, seed):
    vector, sizes, steps, (files, lines, lanes), keys = drawn
    layout = Layout(
        name="a", role="activation", file="a.txt", files=axes(*files), lines=axes(*lines), lanes=axes(*lanes),
        signed=True, **keys | {"align": tuple(Align(*align) for align in keys["align"])},
    )  # fmt: skip
    labels = {"it": tuple(range(3, 3 + sizes["it"]))}
    placement = Placement(layout, vector, sizes, labels, tuple(step(*values) for step, *values in steps))
    field, word, memory = placement.layout.field, placement.word, placement.memory
    own = ("it", "nij", "row")
    shape = tuple(placement.sizes[axis] for axis in own)
    values = np.random.default_rng(seed).integers(field.low, field.high + 1, shape)
    patterns = field.encode(values).astype(np.int64) % (1 << field.bits)
    split = "bit" in placement.axes
    held = patterns[..., None] >> np.arange(field.bits) & 1 if split else values
    lines = placement.fill(LabelledArray(held, placement.axes, {"it": placement.labels["it"]}))
    packed = word.pack(lines)
    digits = np.unpackbits(packed, axis=1)[:, ::-1] if placement.beats is None else placement.beats.cut(packed)
    digits = digits.reshape(placement.file_count, -1, digits.shape[-1])  # file, word of the file, bit
    seen = np.zeros(digits.shape, bool)
    for index in np.ndindex(*shape):
        labels = dict(zip(own, (index[0] + 3, *index[1:]), strict=True))
        try:
            spots = list(placement.spots(labels))
        except InputError:  # a lane without a channel, or the border
            continue
        assert spots[0] == placement.locate(labels)
        assert len(spots) == np.prod([*placement.copies.values(), field.bits if split else 1])
        for spot in spots:
            at = placement.address_at(*spot)
            assert {**at, **labels} == at and placement.locate(at) in spots
            for place in (at["bit"],) if split else range(field.bits):
                beat, bit = spot.word, spot.bit + (0 if split else place)
                if placement.beats is not None:  # a field may go on in the next beat, or end in the one before
                    line, beat = divmod(spot.word, placement.beats.count)
                    bit = placement.beats.bit(beat, spot.bit) + (0 if split else place)
                    beat, bit = placement.beats.spot(bit)
                    beat += line * placement.beats.count
                assert placement.address_at(spot.file, beat, bit) == at
                assert digits[spot.file, beat, bit] == patterns[index] >> place & 1
                seen[spot.file, beat, bit] = True
    assert not digits[~seen].any() and memory.words >= digits.shape[1]
    for file, beat, bit in np.argwhere(~seen):
        assert placement.address_at(int(file), int(beat), int(bit)) is None


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
