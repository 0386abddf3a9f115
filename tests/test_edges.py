"""Edge streams: driven through a plain array, verified by the second path, damaged, drawn, counted and refused."""

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from helpers_edges import SHAPES, PlainArray, layer_store, odd_layer
from helpers_verify import edit_manifest, repair
from hypothesis import given, settings
from hypothesis import strategies as st

from factory.dataflow import DATAFLOWS, EDGES, ROLES, EdgeSchedule, LayerMapping, LayerVectors
from factory.dataflow.edges import edge_toggles, edge_traffic
from factory.dataflow.schedule import lay_in_time
from factory.diagnose import Waveform
from factory.export import ExportOptions, export
from factory.fileplan import read_plan
from factory.memfile import explain, load_profile, profile_to_toml
from factory.spec import ComparisonError, InputError, SystolicArray
from factory.verify import verify
from factory.waves import parse_cycles, write_waves

SMALL = SystolicArray(3, 2)
HOLDING = [name for name, flow in DATAFLOWS.items() if flow.has_psums]


def stream(name: str, dataflow: str, edge: EdgeSchedule, array=SMALL, layer: str = "odd", **fields) -> np.ndarray:
    """Return one stream of all passes `(cycle, lane)`."""
    spec = odd_layer(layer, **fields)
    flow, source = DATAFLOWS[dataflow], layer_store(spec, array=array).layer(layer)
    vectors = LayerVectors(LayerMapping.whole(flow, spec, array), source, image=0, edge=edge)
    vectors = replace(vectors, mapping=replace(vectors.mapping, fields=load_profile("edges", dataflow).fields))
    (found,) = ROLES[name].values(vectors, "")
    return found.values


schedules = st.builds(
    EdgeSchedule,
    order=st.sampled_from(["map", "pixels", "window"]),
    gap=st.sampled_from([0, 2]),
    depth=st.integers(1, 3),
    drain=st.integers(1, 3),
    load=st.sampled_from([0, 5]),
    double_buffered=st.booleans(),
)


@pytest.mark.untyped
@pytest.mark.slow
@settings(max_examples=20, deadline=None)
@given(
    st.sampled_from(sorted(DATAFLOWS)), st.sampled_from(sorted(SHAPES)), schedules, st.integers(1, 3), st.integers(1, 3)
)
def test_streams_alone_drive_an_array_to_its_sums(dataflow, layer, edge, rows, cols):
    flow, array = DATAFLOWS[dataflow], SystolicArray(rows, cols)
    edge = replace(edge, sequence=flow.pass_axes)
    value = {name: stream(name, dataflow, edge, array, layer).tolist() for name in EDGES}
    valid = {name: stream(name, dataflow, replace(edge, content="valid"), array, layer).tolist() for name in EDGES}
    words = [cycle for cycle, lanes in enumerate(valid["west"]) if lanes[0]]
    passes = edge_traffic(LayerMapping.whole(flow, odd_layer(layer), array), edge).passes
    plain = PlainArray(rows, cols, flow.has_psums, len(words) // passes, edge.depth, edge.drain)
    for cycle in range(len(value["west"])):
        entering = [list(zip(value[name][cycle], valid[name][cycle], strict=True)) for name in ("west", "north")]
        for col, (sum_, given_) in enumerate(plain.step(*entering)):
            if valid["south"][cycle][col]:
                assert (sum_, bool(given_)) == (value["south"][cycle][col], True), (cycle, col)
            elif flow.has_psums and col == 0:  # others may be without a channel
                assert not given_, cycle


def test_the_diagonal_is_as_drawn_by_hand():
    """Two words of two channels through 2 x 2 elements: weights first, the last row on top, then the diagonal."""
    times = EdgeSchedule().times(2, 2, 2, holds_operand=True)
    words = np.array([[[10, 11], [20, 21]]])  # (pass, word, lane)
    west, north, south = (lay_in_time(words, getattr(times, name), times, 0).tolist() for name in EDGES)
    assert west == [[0, 0], [0, 0], [10, 0], [20, 11], [0, 21], [0, 0], [0, 0]]
    assert north == [[20, 21], [10, 11], [0, 0], [0, 0], [0, 0], [0, 0], [0, 0]]
    assert south == [[0, 0], [0, 0], [0, 0], [0, 0], [10, 0], [20, 11], [0, 21]]
    times = EdgeSchedule().times(2, 2, 2, holds_operand=False)
    west, north, south = (lay_in_time(words, getattr(times, name), times, 0).tolist() for name in EDGES)
    assert west == north == [[10, 0], [20, 11], [0, 21], [0, 0], [0, 0], [0, 0]]
    assert south == [[0, 0], [0, 0], [0, 0], [20, 0], [10, 21], [0, 11]]
    later = EdgeSchedule(gap=3, double_buffered=True).times(2, 2, 9, holds_operand=True)
    assert (later.period, later.cycles(2)) == (9 + 3, 12 + later.length)


@pytest.mark.parametrize(("rows", "cols"), [(1, 1), (3, 5), (8, 8)])
def test_without_skew_a_word_leaves_as_late_as_from_the_reference_array(rows, cols):
    times = EdgeSchedule(skew="none").times(rows, cols, 7, holds_operand=True)
    assert times.south.first - times.west.first == rows + cols - 1  # LATENCY of factory_array.sv
    assert times.west.slope == times.north.slope == times.south.slope == 0


def exported(folder: Path, dataflow: str, layer: str = "odd", **options) -> Path:
    fields = options.pop("spec", {})
    chosen = dict(profile="edges", include="west,north,south") | options
    store = layer_store(odd_layer(layer, **fields), array=SMALL)
    export(store, folder, ExportOptions(dataflow if chosen["profile"] == "edges" else None, "all", **chosen))
    return folder


def profile_of(dataflow: str, **edge):
    """Return the profile of edges with other schedules."""
    found = load_profile("edges", dataflow)
    kept = [replace(x, edge=replace(x.edge, **edge)) if ROLES[x.role].edge else x for x in found.layouts]
    return replace(found, layouts=tuple(kept))


@pytest.mark.untyped
@settings(max_examples=15, deadline=None)
@given(st.data())
def test_exports_are_those_of_the_second_path(tmp_path_factory, data):
    dataflow, layer = data.draw(st.sampled_from(sorted(DATAFLOWS))), data.draw(st.sampled_from(sorted(SHAPES)))
    flow, layouts = DATAFLOWS[dataflow], []
    order = data.draw(st.sampled_from(["map", "pixels", "window"]))
    for layout in load_profile("edges", dataflow).layouts:
        if ROLES[layout.role].edge:
            content = data.draw(st.sampled_from(["value", "value+valid", "address"]))
            content = "valid" if layout.edge.content == "valid" else content
            sequence = data.draw(st.lists(st.sampled_from(flow.pass_axes), unique=True))
            edge = replace(
                data.draw(schedules), content=content, sequence=tuple(sequence), order=order,
                skew=data.draw(st.sampled_from(["diagonal", "none"])), row0_first=data.draw(st.booleans()),
            )  # fmt: skip
            files = tuple(axis for axis in layout.files if axis.name not in sequence)
            apart = data.draw(st.integers(0, len(files)))
            layout = replace(
                layout, edge=edge, files=files[:apart], lines=(*files[apart:], *layout.lines),
                lane_bits=layout.lane_bits + edge.valid_bits, signed=layout.signed or edge.addresses,
            )  # fmt: skip
        layouts.append(layout)
    options = dict(
        profile=replace(load_profile("edges", dataflow), layouts=tuple(layouts)),
        include=data.draw(st.sampled_from(["west,north,south", "west,north,south,activation,weight"])),
        format=data.draw(st.sampled_from(["bin", "csv", "hex", "npy"])),
        psum_bits=data.draw(st.sampled_from([6, 16])),
        overflow=data.draw(st.sampled_from(["wrap", "saturate"])),
        renumber=data.draw(st.booleans()),
    )
    if order != "window":
        options |= data.draw(st.sampled_from([{}, {"kij": "0"}, {"tiles": f"{flow.tile_axes[-1]}=0"}]))
    folder = exported(tmp_path_factory.mktemp("x") / "x", dataflow, layer, spec=dict(padding=1), **options)
    report = verify(folder)
    assert set(EDGES) <= set(report.counts)
    valued = any(ROLES[layout.role].edge and layout.edge.has_values for layout in layouts)
    missing = valued and "activation" not in options["include"]
    assert any("neither in the export" in line for line in report.unchecked) == missing


DAMAGES = {
    "cycle": (lambda lines: [lines[-1], *lines[:-1]], r"west\.txt: word \d+, lane \d+ \(cycle \d+, row \d\): must be "),
    "lane": (lambda lines: [x[-4:] + x[:-4] for x in lines], r"west\.txt: word \d+, lane \d+ \(cycle \d+, row \d\): "),
}


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("dataflow", HOLDING[:1])
def test_a_shifted_file_is_found(tmp_path, dataflow, damage):
    folder = exported(tmp_path / "x", dataflow, include="west,activation,weight", files="layer")
    change, message = DAMAGES[damage]
    path = next(folder.rglob("west.txt"))
    path.write_text("".join(f"{line}\n" for line in change(path.read_text().splitlines())))
    repair(folder)
    with pytest.raises(ComparisonError, match=message):
        verify(folder)


def test_another_schedule_in_the_manifest_is_found(tmp_path):
    folder = exported(tmp_path / "x", "ws", include="west,activation,weight")
    verify(folder)
    for edge, message in (
        ({"depth": 2}, "west: axes must be "),
        ({"dept": 2}, "layouts: west: edge must be a schedule, not have dept 2"),
        ({"depth": "2"}, "not have depth '2'"),
        ({"gap": 1 << 30}, "not have gap 1073741824"),
        ({"order": "x"}, "not have order 'x'"),
        ({"sequence": ["nij"]}, r"not have sequence \['nij'\]"),
    ):
        edit_manifest(folder, lambda manifest, edge=edge: manifest["layouts"]["west"].update(edge=edge))
        with pytest.raises(ComparisonError, match=message):
            verify(folder)


def test_csv_has_the_cycle_and_then_lane_0(tmp_path):
    folder = exported(tmp_path / "x", "ws", "point", format="csv", files="layer", include="west", content="address")
    rows = [list(map(int, row)) for row in csv.reader(next(folder.rglob("west.csv")).read_text().splitlines())]
    expected = stream("west", "ws", EdgeSchedule(content="address", sequence=("ot", "it", "kij")), layer="point")
    assert rows == [[cycle, *lanes] for cycle, lanes in enumerate(expected.tolist())]
    assert rows[3:6] == [[3, 0, -1, -1], [4, 9, 1, -1], [5, 18, 10, 2]]  # nine channels a pixel, a row apart each cycle


@pytest.mark.parametrize("dataflow", DATAFLOWS)
def test_show_counts_what_the_streams_hold(tmp_path, dataflow):
    store = layer_store(odd_layer("odd"), array=SMALL)
    folder = exported(tmp_path / "x", dataflow, files="layer")
    traffic = edge_traffic(LayerMapping.whole(DATAFLOWS[dataflow], odd_layer("odd"), SMALL), EdgeSchedule())
    for name in EDGES:
        lines = next(folder.rglob(f"{name}_valid.txt")).read_text().splitlines()
        assert len(lines) == traffic.cycles
        assert sum(line.count("1") for line in lines) == traffic.values[name]
    products = store.layer("odd").spec.onij_count * 5 * 7 * 6
    assert traffic.products == products / (traffic.cycles * SMALL.rows * SMALL.cols)


@pytest.mark.parametrize("dataflow", DATAFLOWS)
def test_toggles_are_those_of_plain_bits(dataflow):
    flow, spec = DATAFLOWS[dataflow], odd_layer("odd")
    mapping = replace(LayerMapping.whole(flow, spec, SMALL), fields=load_profile("edges", dataflow).fields)
    bits = dict(west=4, north=4, south=16)
    found = edge_toggles(LayerVectors(mapping, layer_store(spec, array=SMALL).layer("odd"), image=0), bits)
    for name, width in bits.items():
        lines = stream(name, dataflow, EdgeSchedule(sequence=flow.pass_axes)).tolist()
        texts = [[format(value % (1 << width), f"0{width}b") for value in line] for line in lines]
        pairs = [pair for two in zip(texts, texts[1:], strict=False) for pair in zip(*two, strict=True)]
        flips = sum(x != y for a, b in pairs for x, y in zip(a, b, strict=True))
        assert found[name] == flips / len(pairs) > 0


def test_a_waveform_is_the_streams(tmp_path):
    folder = exported(tmp_path / "x", "is", include="west,south", files="layer")
    signals, cycles = write_waves(folder, tmp_path / "x.vcd", parse_cycles("2:90"))
    assert (signals, cycles) == (2 * (3 + 2), 88)
    expected = stream("south", "is", EdgeSchedule(sequence=("pt", "it", "kij")))[2:90, 1]
    valid = stream("south", "is", EdgeSchedule(sequence=("pt", "it", "kij"), content="valid"))[2:90, 1]
    scope = "edges.odd.image0.all.south"
    words = Waveform(tmp_path / "x.vcd", f"{scope}_px1", "edges.clk", (f"{scope}_valid_px1",)).words()
    found = [int(bytes(word), 2) for word in words]
    assert found == [value % (1 << 16) for value in expected[valid == 1].tolist()] and len(found) > 20


def test_a_waveform_needs_streams_and_a_name(tmp_path):
    folder = exported(tmp_path / "x", "ws", include="activation")
    for target, text, message in (
        ("a.vcd", "5", f"{folder}: the export must include west, north or south"),
        ("store.h5", "5", "output must be a file with the ending .vcd, not store.h5"),
        ("a.vcd", "5:3", "cycles must be such as 200 or 100:300, not 5:3"),
        ("a.vcd", "x", "cycles must be such as 200 or 100:300, not x"),
    ):
        with pytest.raises(InputError) as error:
            write_waves(folder, Path(target), parse_cycles(text))
        assert str(error.value) == message
    folder = exported(tmp_path / "y", "ws", include="west")
    with pytest.raises(InputError, match="cycles must begin before the streams' end, not at 100000"):
        write_waves(folder, tmp_path / "a.vcd", (100000, None))


@pytest.mark.parametrize("name", ["edges", "scalesim"])
@pytest.mark.parametrize("dataflow", DATAFLOWS)
def test_profiles_come_back_from_toml_and_manifests(tmp_path, dataflow, name):
    profile = load_profile(name, dataflow)
    (tmp_path / "mine.toml").write_text(profile_to_toml(profile))
    again = load_profile(str(tmp_path / "mine.toml"))
    assert again == profile
    store = layer_store(odd_layer("point"), array=SMALL)
    export(store, tmp_path / "x", ExportOptions(dataflow, "all", profile=name, include="west,north,south"))
    plan = read_plan(tmp_path / "x")
    assert plan.layouts == tuple(x for x in profile.configure(16).layouts if ROLES[x.role].edge)
    assert explain(profile).count("cycle") >= 3


@pytest.mark.parametrize(
    ("toml", "message"),
    [
        ('edge = { skew = "left" }', "layout west: edge: skew must be one of diagonal none, not left"),
        ("edge = { depth = 0 }", "layout west: edge: depth must be at least 1, not 0"),
        ("edge = { gaps = 1 }", "layout west: edge: keys must be of "),
        ("edge = 3", "layout west: edge must be a table, not 3"),
        ('edge = { sequence = ["nij"] }', "layout west: sequence must be of the axes of passes, it ot kij, not nij"),
        ('edge = { content = "address" }', "layout west: signed must be true where edge has content address: "),
        ("edge = { offset = 3 }", "layout west: edge: offset must be 0 with content value, not 3"),
    ],
)
def test_wrong_schedules_are_refused(tmp_path, toml, message):
    path = tmp_path / "mine.toml"
    path.write_text(f'extends = "edges"\ndataflow = "ws"\n[layouts.west]\n{toml}\n')
    with pytest.raises(InputError) as error:
        load_profile(str(path))
    assert message in str(error.value)


def test_rows_of_several_channels_are_refused(tmp_path):
    (tmp_path / "mine.toml").write_text('extends = "edges"\ndataflow = "ws"\nsimd = 2\n')
    with pytest.raises(InputError, match="profile mine: simd must be 1 with role west, not 2"):
        load_profile(str(tmp_path / "mine.toml"))


def test_wrong_options_are_refused(tmp_path):
    for options, message in (
        (dict(skew="left"), "skew must be one of diagonal none, not left"),
        (dict(content="valid"), "content must be one of value address, not valid"),
        (dict(skew="none", include="weight"), "skew must be given with include west,north,south, not with weight"),
        (dict(profile=profile_of("ws", load=2)), "odd: load must be at least the rows of the array, 3, not 2"),
        (
            dict(profile=profile_of("ws", order="window"), kij="0"),
            "odd: order window must have every kij and input channel, not a part of them",
        ),
    ):
        with pytest.raises(InputError) as error:
            exported(tmp_path / "x", "ws", **options)
        assert str(error.value) == message
    assert not (tmp_path / "x").exists()
