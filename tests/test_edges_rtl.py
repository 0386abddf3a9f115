"""Testbenches of edge streams: a device that its edges alone drive, on Icarus and Verilator, and what they catch."""

import shutil
import subprocess
from dataclasses import replace
from functools import cache
from importlib.resources import files
from pathlib import Path

import pytest
from helpers_bench import Builds
from helpers_edges import layer_store, odd_layer
from helpers_simulator import need

from factory.arithmetic.bits import Field
from factory.arithmetic.labelled import axes
from factory.dataflow import DATAFLOWS, EDGES
from factory.diagnose import diagnose
from factory.diagnose.report import report
from factory.export import export
from factory.fileplan import read_plan
from factory.memfile import Layout, Profile, load_profile
from factory.simulate import simulate
from factory.spec import ComparisonError, InputError, SystolicArray
from factory.testbench import EdgeDevice, bench_of
from factory.verify import verify_export

pytestmark = pytest.mark.simulator
RTL = Path(str(files("factory") / "rtl"))
SOURCES = sorted(RTL.glob("*.sv"))
ARRAY = SystolicArray(3, 4)
STREAMS = ",".join(EDGES)


def changed(profile: Profile, change) -> Profile:
    """Return a profile with each layout as `change` has it, those without anything left out."""
    return replace(profile, layouts=tuple(layout for old in profile.layouts if (layout := change(old)) is not None))


def scheduled(dataflow: str, joined: bool = False, sequence: tuple[str, ...] = (), **edge) -> Profile:
    """Return the profile of edges with a schedule; `joined`: a valid bit is the lowest of its value's lane."""

    def change(layout: Layout) -> Layout | None:
        if layout.role not in EDGES:
            return layout
        if joined and layout.edge.content == "valid":
            return None
        own = replace(layout.edge, sequence=sequence, **edge)
        kept = tuple(axis for axis in layout.files if axis.name not in sequence)
        if joined:
            return replace(layout, edge=replace(own, content="value+valid"), lane_bits=layout.lane_bits + 1, files=kept)
        return replace(layout, edge=own, files=kept)

    return changed(load_profile("edges", dataflow), change)


def streams(folder: Path, profile: Profile, layer: str = "odd", array: SystolicArray = ARRAY, **options) -> Path:
    """Export what crosses the edges, with a testbench."""
    chosen = dict(include=STREAMS, images="0", flat="images" not in options, testbench=True) | options
    export(layer_store(odd_layer(layer), array=array), folder, profile=profile, **chosen)
    return folder


@pytest.fixture(scope="module")
def builds(tmp_path_factory) -> Builds:
    return Builds(tmp_path_factory.mktemp("builds"))


@pytest.fixture(scope="module")
def exports(tmp_path_factory):
    """Return what gives a dataflow's export, all passes back to back.

    Its layer has no border: a late weight for zeros would do no harm.
    """
    return cache(lambda flow: streams(tmp_path_factory.mktemp(flow) / "x", scheduled(flow), files="layer"))


@pytest.mark.parametrize("dataflow", DATAFLOWS)
def test_streams_alone_drive_the_array(exports, builds, dataflow):
    folder = exports(dataflow)
    valid = (folder / "south_valid.txt").read_text().count("1")
    result = builds.run(folder)
    assert (result.jobs, result.compared, result.unchecked) == (1, valid, ()) and valid > 100


def shifted(folder: Path, edge: str, what: str) -> None:
    """Shift a stream by one cycle or one lane, its valid bits with it."""
    lanes = {"west": ARRAY.rows, "north": ARRAY.cols}[edge]
    for file in (folder / f"{edge}.txt", folder / f"{edge}_valid.txt"):
        lines = file.read_text().splitlines()
        lane = len(lines[0]) // lanes
        moved = [lines[-1], *lines[:-1]] if what == "cycle" else [line[lane:] + line[:lane] for line in lines]
        file.write_text("".join(f"{line}\n" for line in moved))


@pytest.mark.parametrize("edge", ["west", "north"])
@pytest.mark.parametrize("what", ["cycle", "lane"])
@pytest.mark.parametrize("dataflow", DATAFLOWS)
def test_a_shifted_stream_is_caught(exports, builds, tmp_path, dataflow, what, edge):
    folder = shutil.copytree(exports(dataflow), tmp_path / "x")
    shifted(folder, edge, what)
    with pytest.raises(ComparisonError, match=r"\nodd, image 0, cycle \d+, .*: south must be -?\d+, not "):
        builds.run(folder)


@pytest.mark.slow
@pytest.mark.parametrize("dataflow", ["ws", "os"])
def test_verilator_agrees(exports, builds, tmp_path, dataflow):
    assert builds.run(exports(dataflow), "verilator") == replace(builds.run(exports(dataflow)), simulator="verilator")
    for edge, what in (("west", "lane"), ("north", "cycle")):
        folder = shutil.copytree(exports(dataflow), tmp_path / edge)
        shifted(folder, edge, what)
        with pytest.raises(ComparisonError, match=r"\nodd, image 0, cycle \d+, "):
            builds.run(folder, "verilator")


SCHEDULES = {
    "passes": ("ws", {}, {}),
    "skewed by the device": ("ws", dict(skew="none", depth=2), dict(files="layer")),
    "skewed by the device, os": ("os", dict(skew="none", drain=3), dict(files="layer")),
    "row 0 first": ("ws", dict(row0_first=True, load=5, gap=2, drain=0), dict(files="layer")),
    "double buffers": ("ws", dict(double_buffered=True, depth=3), dict(files="layer", layer="stride")),
    "double buffers, is": ("is", dict(double_buffered=True, row0_first=True, skew="none"), dict(files="layer")),
    "double buffers, os": ("os", dict(double_buffered=True, depth=2, drain=0), dict(files="layer", layer="line")),
    "over kij": ("ws", dict(sequence=("kij",), joined=True), dict(format="hex", layer="tall")),
    "output pixels": ("ws", dict(order="pixels", joined=True), dict(overflow="saturate", psum_bits=8)),
    "window": ("is", dict(order="window"), dict(files="layer", header="verilog")),
    "one element": ("os", dict(double_buffered=True), dict(files="layer", layer="point", array=SystolicArray(1, 1))),
}


@pytest.mark.parametrize("name", SCHEDULES)
def test_every_schedule_drives_the_array(tmp_path, name):
    dataflow, edge, options = SCHEDULES[name]
    folder = streams(tmp_path / "x", scheduled(dataflow, **edge), **options)
    log = tmp_path / "given"
    result = simulate(folder, need("icarus").name, dump=log)
    assert result.compared > 20 and result.unchecked == ()
    given = sorted(path.name for path in log.iterdir())
    assert given == sorted(path.name for path in folder.glob("south*"))
    skipped = 3 if options.get("header") else 0
    assert all((log / x).read_text().splitlines() == (folder / x).read_text().splitlines()[skipped:] for x in given)


UNSIGNED = ("edge_pe", "(NORTH_SIGNED != 0) && factor[NORTH_BITS-1]", "1'b0")
LATE = ("edge_array", "DRAIN + HELD", "DRAIN + 1 + HELD")
WRONG = {
    "a sum is late": ("ws", LATE),
    "a sum is never valid": ("ws", ("edge_pe", "{late_from[SUM_BITS], sum}", "{1'b0, sum}")),
    "weights of the pass before": ("ws", ("edge_pe", "a_first ? b_out[NORTH_BITS-1:0] : held", "held")),
    "a sum of the pass before": ("os", ("edge_pe", "first ? '0 : total", "total")),
    "sums leave in the wrong order": ("os", ("edge_pe", "done ? sum : shift ? above", "done ? sum : shift ? below")),
    "unsigned weights": ("os", UNSIGNED),
}


def wrong_device(folder: Path, file: str, old: str, new: str) -> list[Path]:
    """Return the sources of a device that differs from the one that ships."""
    folder.mkdir()
    for path in SOURCES:
        shutil.copy(path, folder)
    path = folder / f"factory_{file}.sv"
    text = path.read_text()
    assert text.count(old) == 1
    path.write_text(text.replace(old, new))
    return sorted(folder.glob("*.sv"))


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_device_is_caught(exports, tmp_path, name):
    dataflow, change = WRONG[name]
    with pytest.raises(ComparisonError, match=r"\nodd, image 0, cycle \d+, col \d .*: south must be -?\d+, not "):
        simulate(exports(dataflow), need("icarus").name, wrong_device(tmp_path / "rtl", *change))


def dumped(tmp_path: Path, change: tuple[str, str, str], **options) -> tuple[Path, list[str]]:
    """Simulate one stream with a wrong device, its dump beside it; return the export and what was said."""
    folder = streams(tmp_path / "x", scheduled("ws", joined=True), tiles="ot=0,it=0", kij="0", **options)
    device = wrong_device(tmp_path / "rtl", *change)
    with pytest.raises(ComparisonError) as caught:
        simulate(folder, need("icarus").name, device, dump=tmp_path / "given")
    return folder, str(caught.value).splitlines()[1:]


def test_what_is_wrong_is_said_with_its_file_and_cycle(tmp_path):
    folder, (first, second, *_) = dumped(tmp_path, LATE)
    (south,) = folder.glob("south*")
    sums = [int(line[-17:-1], 2) for line in south.read_text().splitlines()]
    assert (
        first
        == f"odd, image 0, it 0, ot 0, kij 0, cycle 6, col 0 (south.txt, line 7): south must be {sums[6]}, not invalid"
    )
    assert second.endswith(f", cycle 7, col 0 (south.txt, line 8): south must be {sums[7]}, not {sums[6]}")
    assert "late by 1 word" in report(diagnose(folder, [tmp_path / "given"]))


def test_a_dump_tells_what_is_wrong_inside_the_array(tmp_path):
    folder, _ = dumped(tmp_path, UNSIGNED, include=f"activation,weight,{STREAMS}")
    assert "weight codes taken as unsigned" in report(diagnose(folder, [tmp_path / "given"]))


def test_streams_alone_say_what_the_elements_read(exports):
    (layer,) = read_plan(exports("ws")).layers
    assert layer.mapping.fields == {"activation": Field(4, False), "weight": Field(4, True)}


@pytest.mark.parametrize(
    ("dataflow", "include", "streamed"),
    [
        ("ws", f"activation,weight,out,{STREAMS}", False),
        ("ws", f"weight,out,{STREAMS}", True),
        ("ws", f"activation,weight,{STREAMS}", True),
        ("is", f"activation,weight,out,{STREAMS}", True),
    ],
)
def test_the_bench_is_the_one_that_can_be(tmp_path, dataflow, include, streamed):
    bench = bench_of(read_plan(streams(tmp_path / "x", load_profile("edges", dataflow), "line", include=include)))
    assert isinstance(bench.device, EdgeDevice) == streamed
    rest = set(include.split(",")) - set(EDGES) if streamed else {x + y for x in EDGES for y in ("", "_valid")}
    assert set(bench.unchecked) == rest


def other_layouts(dataflow: str = "ws", **fields: dict) -> Profile:
    """Return the profile of edges with other fields of the layouts that are named, or of their schedules."""

    def change(layout: Layout) -> Layout:
        given = dict(fields.get(layout.name, {}))
        return replace(layout, edge=replace(layout.edge, **given.pop("edge", {})), **given)

    return changed(load_profile("edges", dataflow), change)


def test_streams_lie_in_any_layout(tmp_path):
    profile = other_layouts(
        west=dict(files=axes("kij"), lines=axes("ot", "it", "cycle"), lanes=axes("-row"), word_bits=64),
        west_valid=dict(lines=axes("cycle", "row"), lanes=()),
        north=dict(lane0_left=False, words=700),
        south=dict(files=(), lines=axes("kij", "cycle", "ot", "it", "-col"), lanes=(), file="south.txt"),
    )
    folder = streams(tmp_path / "x", profile, format="hex", images="all")
    result = simulate(folder, need("icarus").name, dump=tmp_path / "given")
    assert (result.jobs, result.compared) == (2 * 24, 2 * 2520) and diagnose(folder, [tmp_path / "given"]).passes


NO_BENCH = "the export must include activation and weight, or west, north and south with values and valid bits"


@pytest.mark.parametrize(
    ("profile", "options", "message"),
    [
        (other_layouts(north=dict(edge=dict(gap=1))), {}, "layout north: edge must be that of layout west but for its "
         "content, {}, not {'gap': 1}"),
        (load_profile("edges", "ws"), dict(include="west,north"), NO_BENCH),
        (load_profile("edges", "ws"), dict(content="address"), NO_BENCH),
        (load_profile("edges", "ws"), dict(format="csv"), "layout west: format must be one of bin hex, not csv"),
        (other_layouts(west=dict(files=axes("cycle"), lines=axes("ot", "it", "kij"))), {},
         "layout west: its axis cycle must be in its lines"),
        (other_layouts(south_valid=dict(lane_bits=4)), {}, "layout south_valid: lane_bits must be 1, not 4"),
    ],
)  # fmt: skip
def test_streams_that_no_testbench_plays(tmp_path, profile, options, message):
    with pytest.raises(InputError) as caught:
        streams(tmp_path / "x", profile, **options)
    assert str(caught.value) == f"testbench: {message}"


def test_streams_never_stall(exports):
    with pytest.raises(InputError, match="^stall must be 0 with edge streams, which never wait, not 7$"):
        simulate(exports("ws"), stall=7)


def test_an_export_with_its_testbench_is_verified(exports):
    assert verify_export(exports("is")).counts["files"] == 6 + 12


@pytest.mark.parametrize(
    "parameters",
    [
        {},
        {"ROWS": 1, "COLS": 1, "OS": 1},
        {"SKEW": 1, "DEPTH": 3, "DRAIN": 0},
        {"OS": 1, "SKEW": 1, "ROWS": 40, "COLS": 1},
    ],
)
def test_the_array_is_lint_clean(parameters):
    need("verilator")
    sizes = [f"-G{name}={value}" for name, value in parameters.items()]
    command = ["verilator", "--lint-only", "-Wall", "--top-module", "factory_edge_array", *sizes, *map(str, SOURCES)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_icarus_has_no_warning(exports):
    need("icarus")
    lists = ["-f", "testbench/testbench.f", "-f", "testbench/device.f"]
    command = ["iverilog", "-g2012", "-Wall", "-t", "null", "-s", "factory_tb", *lists]
    done = subprocess.run(command, capture_output=True, text=True, cwd=exports("ws"))
    assert (done.returncode, done.stdout + done.stderr) == (0, "")
