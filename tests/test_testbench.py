import json
from dataclasses import replace
from importlib.resources import files as package_files

import numpy as np
import pytest
from helpers_bench import random_store
from hypothesis import given, settings
from hypothesis import strategies as st

from factory.arithmetic.labelled import LabelledArray, axes
from factory.export import export
from factory.fileplan import ExportPlan, FileSet, read_plan
from factory.memfile import Layout, Placement, Profile, Split, encode, load_profile
from factory.spec import InputError, SystolicArray
from factory.testbench import Job, Load, bench_files, bench_of, jobs_text, package_text, read_jobs
from factory.testbench.streams import StreamFiles
from factory.testbench.words import LoadedMemory

AXES = ("it", "ot", "kij", "col", "row")
RTL = package_files("factory") / "rtl"


@st.composite
def placements(draw):
    """Fields of any layout of weights: each axis, and both parts of a split one, in files, in lines or in lanes."""
    names, split = list(AXES), ()
    if draw(st.booleans()):
        split, names = (Split("row", "row", "simd", 2),), [*names, "simd"]
    names = draw(st.permutations(names))
    places = {axis: draw(st.sampled_from(("files", "lines"))) for axis in names}
    places["row"] = "lanes"
    places["ot"] = draw(st.sampled_from(("files", "lines", "lanes")))
    if split:
        places["simd"] = draw(st.sampled_from(("files", "lines", "lanes")))
    named = {
        place: tuple(f"{draw(st.sampled_from(('', '-')))}{axis}" for axis in names if places[axis] == place)
        for place in ("files", "lines", "lanes")
    }
    return named | dict(
        split=split, word_bits=draw(st.sampled_from((0, 64))), words=draw(st.sampled_from((0, 200))),
        lane0_left=draw(st.booleans()), format=draw(st.sampled_from(("bin", "hex"))),
        header=draw(st.sampled_from(("none", "verilog"))),
    )  # fmt: skip


@settings(max_examples=40)
@given(placements(), st.integers(0, 2**32 - 1))
def test_a_walk_reads_what_a_layout_wrote(tmp_path_factory, placement, seed):
    folder = tmp_path_factory.mktemp("files")
    named = {place: axes(*placement[place]) for place in ("files", "lines", "lanes")}
    layout = Layout(**dict(name="weight", role="weight", file="w.txt", lane_bits=4, signed=True) | placement | named)
    shape = dict(it=2, ot=3, kij=2, col=3, row=4)
    values = np.random.default_rng(seed).integers(-8, 8, tuple(shape.values()))
    placement = Placement(layout, AXES, shape)
    arranged = placement.arrange(LabelledArray(values, AXES, {})).values
    files = arranged.reshape(placement.file_count, placement.lines, placement.word.lanes)
    memory = placement.memory
    padded = np.pad(files, ((0, 0), (0, memory.words - files.shape[1]), (0, 0)))
    paths = tuple(f"{i}.txt" for i in range(len(files)))
    for path, codes in zip(paths, padded, strict=True):
        (folder / path).write_bytes(placement.header_lines() + encode(codes, memory, layout.format))
    held = StreamFiles(FileSet(layout, placement, "w", {}), paths, "row")
    for ot in range(shape["ot"]):
        walk = held.walk((("it", 2), ("kij", 2), ("col", 3)), {"ot": ot})
        read = LoadedMemory(folder, held.stream, Load("weight", paths, memory.words))
        words = np.array([word for word in read.words(walk)]).reshape(2, 2, 3, 1)
        codes = (words >> np.arange(0, 16, 4)) % 16
        assert np.array_equal(codes, values[:, ot] % 16)


def exported(tmp_path, conv=None, **options) -> ExportPlan:
    """Return the plan, read from its manifest, of an export of a small random layer on 2 x 2 processing elements."""
    fields = dict(in_channels=3, out_channels=5, height=2, width=2, kernel=2, padding=0) | (conv or {})
    export(random_store(SystolicArray(2, 2), **fields), tmp_path / "x", flat=True, **options)
    return read_plan(tmp_path / "x")


PACKAGE = """\
// Generated with the vectors, from the records that wrote them.
package factory_pkg;
  localparam int ROWS = 2;
  localparam int COLS = 2;
  localparam int SIMD = 1;
  localparam int ACT_BITS = 4;
  localparam int ACT_SIGNED = 0;
  localparam int WEIGHT_BITS = 4;
  localparam int PSUM_BITS = 16;
  localparam int ACC_BITS = 16;
  localparam int SATURATE = 0;
  localparam int DEPTH = 1024;

  localparam int ACT_LINE_BITS = 8;
  localparam int ACT_PARTS = 1;
  localparam int ACT_DEPTH = 65536;
  localparam int ACT_HEX = 1;
  localparam int ACT_HEADER_LINES = 3;
  localparam int ACT_FIELD_BITS = 4;
  localparam int ACT_WORD_BITS = 8;
  // The lanes of a word, lane 0 lowest, from its 1 line(s), the first one lowest.
  function automatic logic [7:0] act_lanes(input logic [7:0] lines);
    act_lanes = {lines[3:0], lines[7:4]};
  endfunction
"""


def test_the_package_is_the_layout(tmp_path):
    text = package_text(bench_of(exported(tmp_path, profile="ws-reversed", format="hex", header="verilog")))
    assert text.startswith(PACKAGE)


def test_lanes_of_several_lines_are_put_side_by_side(tmp_path):
    text = package_text(bench_of(exported(tmp_path, conv=dict(activation_bits=2), profile="simd2-odd")))
    assert "  function automatic logic [15:0] weight_lanes(input logic [15:0] lines);\n" in text
    assert "    weight_lanes = {lines[7:4], lines[15:12], lines[3:0], lines[11:8]};\n" in text


JOBS = """\
load act 0 4 activation_tile0.txt
load act 4 4 activation_tile1.txt
load weight 0 8 weight_tile4_octile2_ictile0.txt
load weight 8 8 weight_tile5_octile2_ictile1.txt
load out 0 1 out_octile2_relu.txt
load acc 0 1 out_octile2.txt
job layer \
0 0 2 0 \
0 0 2 2 2 1 1 1 1 2 1 4 4 1 1 \
2 4 4 0 4 0 1 0 0 \
2 4 2 0 8 2 1 0 0 \
0 0 0 0 0 0 0 0 0 \
0 0 0 0 0 0 0 0 0 \
1 1 1 0 0 0 1 0 0 \
1 1 1 0 0 0 1 0 0
end 1 2
"""


def test_a_job_is_a_tile(tmp_path):
    bench = bench_of(exported(tmp_path, tiles="ot=2", profile="ws-tiled"))
    assert jobs_text(bench) == JOBS
    assert (bench.jobs, bench.compared, bench.unchecked) == (1, 2, ())


def test_each_it_is_a_job_where_what_is_accumulated_is_compared(tmp_path):
    bench = bench_of(exported(tmp_path, include="activation,weight,out,psum,accumulator,next,address"))
    jobs = [step for step in bench.steps if isinstance(step, Job)]
    assert [(job.ot, job.it, job.continues, sorted(job.walks)) for job in jobs[:2]] == [
        (0, 0, False, ["act", "partial", "psum", "weight"]),
        (0, 1, True, ["acc", "act", "out", "partial", "psum", "weight"]),
    ]
    assert (bench.jobs, bench.compared) == (6, 3 * (2 * 4 * 4 + 2 + 1 + 1))
    assert bench.unchecked == ("address",)


def test_files_that_a_stream_still_holds_are_not_loaded_again(tmp_path):
    bench = bench_of(exported(tmp_path, images="all", profile="ws-multimap"))
    kinds = [step.stream if isinstance(step, Load) else "job" for step in bench.steps]
    assert kinds == ["act", "weight", "out", "job", "job", "job", "act", "out", "job", "job", "job"]


def test_the_files_of_a_testbench(tmp_path):
    files = bench_files(bench_of(exported(tmp_path)))
    named = [path for name in ("testbench", "device") for path in files[f"testbench/{name}.f"].decode().split()]
    rest = {"testbench/jobs.txt", "testbench/testbench.f", "testbench/device.f"}
    assert len(named) == len(set(named)) and set(files) == {*named, *rest}
    assert files["testbench/rtl/factory_array.sv"] == (RTL / "factory_array.sv").read_bytes()
    assert all(data.endswith(b"\n") for data in files.values())


def test_an_export_lists_its_testbench(tmp_path):
    files = bench_files(bench_of(exported(tmp_path, testbench=True)))
    manifest = json.loads((tmp_path / "x" / "manifest.json").read_text())
    assert {item["path"] for item in manifest["testbench"]} == set(files)
    assert all((tmp_path / "x" / path).read_bytes() == data for path, data in files.items())


def test_the_words_of_a_job_are_those_of_the_store(tmp_path):
    store = random_store(SystolicArray(2, 2), in_channels=3, out_channels=5, height=2, width=2, kernel=2, padding=0)
    export(store, tmp_path / "x", images="1", profile="ws-reversed")
    jobs = list(read_jobs(tmp_path / "x", bench_of(read_plan(tmp_path / "x"))))
    layer = store.layer("layer")
    pixels = np.pad(layer.activation[1].reshape(3, 4), ((0, 1), (0, 0)))
    words = [sum(int(code) << 4 * row for row, code in enumerate(pixels[2 * it : 2 * it + 2, nij]))
             for it in range(2) for _ in range(4) for nij in range(4)]  # fmt: skip
    assert list(jobs[2].words("act")) == words
    sums = np.einsum("oikl,ikl->o", layer.weight.astype(int), layer.activation[1].astype(int))
    assert list(jobs[2].words("out")) == [max(int(sums[4]), 0)]
    assert list(jobs[2].words("psum")) == []
    with pytest.raises(InputError, match="^stream must be one of act weight psum partial acc out, not x$"):
        next(jobs[0].words("x"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(format="coe"), "layout activation: format must be one of bin hex, not coe"),
        (
            dict(header="tokens"),
            "layout activation: header must be none or verilog ($readmemb takes no # lines), not tokens",
        ),
        (
            dict(include="activation,out"),
            "the export must include activation and weight, or west, north and south with values and valid bits",
        ),
        (
            dict(post="relu+maxpool2", conv=dict(height=4, width=4)),
            "layer: something must be compared; include psum or accumulator, or out with post none, relu or leaky",
        ),
        (dict(kij="0:3"), "layer: every kij must be selected, not 3 of 4"),
        (dict(tiles="it=0,2", conv=dict(in_channels=5)), "layer: the it selected must follow each other, not be 0 2"),
        (
            dict(conv=dict(in_channels=1, out_channels=1, height=257, width=256, kernel=1)),
            "layer: act_count must be at most 65535, not 65792",
        ),
    ],
)
def test_what_a_testbench_cannot_run(tmp_path, options, message):
    plan = exported(tmp_path, **options)
    with pytest.raises(InputError) as caught:
        bench_of(plan)
    assert str(caught.value) == f"testbench: {message}"


def changed_layout(name: str, layout: str, **fields) -> Profile:
    profile = load_profile(name)
    layouts = tuple(replace(old, **fields) if old.name == layout else old for old in profile.layouts)
    return replace(profile, layouts=layouts)


def test_layouts_that_a_testbench_cannot_walk(tmp_path):
    wide = changed_layout("notebook", "activation", lines=(), lanes=axes("nij", "row"))
    with pytest.raises(InputError) as caught:
        bench_of(exported(tmp_path / "wide", profile=wide))
    expected = "testbench: layout activation: its axis nij must not be split, and be in its files or lines"
    assert str(caught.value) == expected
    unsigned = changed_layout("notebook", "weight", signed=False)
    with pytest.raises(InputError, match="^testbench: weights must be signed, not unsigned$"):
        bench_of(exported(tmp_path / "unsigned", profile=unsigned))


def test_layers_whose_words_differ_need_a_testbench_each(tmp_path):
    first = random_store(SystolicArray(2, 2), activation_bits=2)
    second = random_store(SystolicArray(2, 2), activation_bits=2, name="next", out_channels=8)
    network = replace(first.network, layers=(*first.network.layers, *(x.spec for x in second.layers.values())))
    store = replace(first, network=network, layers=first.layers | second.layers)
    export(store, tmp_path / "x", layers="all", profile="simd2-even")
    with pytest.raises(InputError) as caught:
        bench_of(read_plan(tmp_path / "x"))
    assert str(caught.value) == (
        "testbench: next: out must have the same words in every layer, of 96 bits, not 128; "
        "export the layers one by one"
    )
