"""Regressions: each way in which a simulation can end, what is run again, and that a testbench is compiled once."""

import json
import shlex
import shutil
from pathlib import Path
from xml.etree import ElementTree

import pytest
from helpers_bench import device
from helpers_simulator import need
from mutants.array import MUTANTS
from test_dataset_reading import random_dataset

from factory.dataset import regression
from factory.dataset.outcomes import CaseResult, Results, load_results
from factory.dataset.regression import Setup, regress
from factory.fileplan import ExportOptions
from factory.spec import InputError
from factory.testbench import DEVICE_SOURCES

ONE = ExportOptions(layers="uniform", images="0")


@pytest.fixture(scope="module")
def dataset(tmp_path_factory) -> Path:
    return random_dataset(tmp_path_factory.mktemp("regression") / "d")


def end_of(text: str) -> tuple[str, str]:
    """Return the change of a device that has a process of its own, which begins when the reset is over."""
    return "endmodule", f"  initial begin\n    #200;\n    {text}\n  end\nendmodule"


@pytest.mark.simulator
def test_every_case_passes_and_each_testbench_is_compiled_once(dataset, tmp_path, monkeypatch):
    need("icarus")
    compiled, done = [], []
    compile_bench = regression.compile_bench
    monkeypatch.setattr(regression, "compile_bench", lambda *given: compiled.append(given) or compile_bench(*given))
    setup = Setup(dataset, ExportOptions(images="0:5"), "icarus", dut=(device(tmp_path),), stall=3, batch=3)
    found = regress(setup, tmp_path / "r", workers=2, progress=lambda *at: done.append(at))
    assert found.passes and found.counts == {"pass": 4} and len(compiled) == 1
    names = ["uniform/0-2", "uniform/3-4", "sparse/0-2", "sparse/3-4"]
    assert [case.name for case in found.cases] == names and all(case.compared > 30 for case in found.cases)
    assert done[0] == (0, 4, "compiling") and sorted(at[2] for at in done[1:]) == sorted(f"{x} pass" for x in names)
    assert sorted(path.name for path in (tmp_path / "r").iterdir()) == ["junit.xml", "results.json"]
    assert load_results(tmp_path / "r") == found


ENDS = {
    "mismatch": (("total = 0;", "total = c;"), "uniform, image 0, it 1, ot 0, onij 0, col 1: out must be "),
    "timeout": (end_of("forever;"), "it did not end within 2 s"),
    "crash": (end_of('$fatal(1, "fifo 3 is full");'), "exit code 1: FATAL: "),
    "no banner": (end_of("$finish;"), "it said nothing"),
    "compile": (end_of("no such thing;"), "device.sv:"),
}


def test_a_bucket_leaves_out_the_address_of_a_mismatch_alone():
    said = "tb.sv:163: error: Unknown module type: factory_array"
    assert CaseResult("a/0", "a", "compile", first=said).bucket == f"compile: {said.replace('163', '#')}"
    assert CaseResult("a/0", "a", "mismatch", first="a, col 1: out must be 3, not -2").bucket == (
        "mismatch: out must be #, not #"
    )


@pytest.mark.simulator
@pytest.mark.untyped
@pytest.mark.parametrize("state", ENDS)
def test_a_case_ends_in_its_state(dataset, tmp_path, state):
    need("icarus")
    change, first = ENDS[state]
    found = regress(Setup(dataset, ONE, "icarus", dut=(device(tmp_path, change),), limit=2.0), tmp_path / "r")
    (case,), (bucket,) = found.cases, found.buckets
    assert (case.state, case.name, case.layer) == (state, "uniform/0", "uniform") and first in case.first
    assert (bucket.cases, bucket.first) == (1, "uniform/0") and bucket.name.startswith(state)
    assert (tmp_path / "r/runs/uniform/0/vectors/manifest.json").is_file() == (state != "compile")
    assert not (tmp_path / "r/builds").exists()
    words = shlex.split(case.rerun)
    assert words[:4] == ["factory", "dataset", "simulate", str(dataset)] and words[-2:] == ["--only", "uniform/0"]
    record = json.loads((tmp_path / "r/results.json").read_text())
    assert (record["passes"], record["counts"]) == (False, {state: 1})
    assert record["cases"][0]["bucket"] == record["buckets"][0]["name"] == bucket.name
    (item,) = ElementTree.parse(tmp_path / "r/junit.xml").getroot().iter("testcase")
    (wrong,) = item
    assert wrong.tag == ("error" if state in ("crash", "compile") else "failure")
    assert (wrong.attrib["type"], wrong.attrib["message"]) == (state, case.first) and case.rerun in wrong.text


@pytest.mark.simulator
@pytest.mark.untyped
def test_equal_causes_are_one_bucket_that_a_diagnosis_names(dataset, tmp_path):
    need("icarus")
    mutant = next(mutant for mutant in MUTANTS if mutant.what == "ki and kj are swapped")
    sources = [Path(shutil.copy(path, tmp_path)) for path in DEVICE_SOURCES]
    changed = next(path for path in sources if path.stem == f"factory_{mutant.file}")
    changed.write_text(changed.read_text().replace(mutant.old, mutant.new))
    options = ExportOptions(layers="uniform", images="0:4")
    found = regress(Setup(dataset, options, "icarus", dut=tuple(sources), batch=2), tmp_path / "r")
    (bucket,) = found.buckets
    assert (bucket.name, bucket.cases, bucket.first) == ("mismatch: out must be #, not #", 2, "uniform/0-1")
    assert bucket.cause.startswith("kernel positions reordered: transposed")
    first, again = found.cases[0].first, (tmp_path / "r/runs/uniform/0-1/given")
    assert first.startswith("uniform, image 0, it 1, ot 0, onij ") and again.is_dir()
    assert f"2 x {bucket.name} ({bucket.cause})\n  uniform/0-1: {first}\n" in found.report(tmp_path)


@pytest.mark.simulator
def test_what_passed_is_not_run_again(dataset, tmp_path, monkeypatch):
    need("icarus")
    four = ExportOptions(layers="uniform", images="0:4")
    run = []
    monkeypatch.setattr(
        regression, "_run", lambda *given, own=regression._run: run.append(given[-1].name) or own(*given)
    )
    wrong = Setup(dataset, ExportOptions(layers="uniform", images="0"), "icarus", batch=1, limit=1e-3)
    assert regress(wrong, tmp_path / "r").counts == {"timeout": 1}
    right = Setup(dataset, four, "icarus", batch=1)
    assert regress(right, tmp_path / "r", only="uniform/2").counts == {"pass": 1, "timeout": 1}
    assert run == ["uniform/0", "uniform/2"]
    assert regress(right, tmp_path / "r", failed=True, workers=2).counts == {"pass": 4}
    assert sorted(run[2:]) == ["uniform/0", "uniform/1", "uniform/3"]
    assert [case.name for case in load_results(tmp_path / "r").cases] == [f"uniform/{image}" for image in range(4)]
    assert regress(right, tmp_path / "r", failed=True).passes and len(run) == 5
    kept = (tmp_path / "r/results.json").read_bytes()
    stalled = Setup(dataset, four, "icarus", stall=3, batch=1)
    for again in (dict(failed=True), dict(only="uniform/2")):
        with pytest.raises(InputError) as caught:
            regress(stalled, tmp_path / "r", **again)
        said = f"must be of {dataset} --stall 3, whose cases are to stay, it is of {dataset}"
        assert str(caught.value) == f"{tmp_path / 'r/results.json'}: {said}"
    assert len(run) == 5 and (tmp_path / "r/results.json").read_bytes() == kept


@pytest.mark.simulator
def test_a_store_has_cases_too_and_a_layer_with_signs_is_read_with_them(dataset, tmp_path):
    need("icarus")
    found = regress(Setup(dataset / "sources/0.h5", ExportOptions(layers="all", images="1"), "icarus"), tmp_path / "r")
    assert found.passes and [case.name for case in found.cases] == ["uniform/1", "sparse/1"]
    with pytest.raises(InputError, match="0.h5: split must be given with a dataset, this is a store$"):
        regress(Setup(dataset / "sources/0.h5", ONE, "icarus", split="smoke"), tmp_path / "r")


@pytest.mark.simulator
def test_the_workers_of_a_scheduler_do_the_same(dataset, tmp_path):
    need("icarus")
    distributed = pytest.importorskip("distributed")
    one = dict(n_workers=1, threads_per_worker=2, processes=False, dashboard_address=None, memory_limit=0)
    with distributed.LocalCluster(**one) as cluster:
        found = regress(Setup(dataset, ONE, "icarus"), tmp_path / "r", scheduler=cluster.scheduler_address)
    assert found.passes and found.counts == {"pass": 1}


WRONG = {
    "batch": (dict(batch=0), "batch must be at least 1, not 0"),
    "limit": (dict(limit=0.0), "limit must be 0.001 to 10000000 seconds, not 0"),
    "no limit": (dict(limit=float("inf")), "limit must be 0.001 to 10000000 seconds, not inf"),
    "stall": (dict(stall=-1), "stall must be at least 0, not -1"),
    "dut": (dict(dut=(Path("none.sv"),)), "none.sv: must be a SystemVerilog source, there is no such file"),
    "split": (dict(split="nope"), "split must be one of full smoke random-7 coverage, not nope"),
    "images": (dict(options=ExportOptions(images="9")), "images must be 0 to 7, not 9"),
    "stall of streams": (
        dict(stall=3, options=ExportOptions(images="0", profile="edges", include="west,north,south")),
        "stall must be 0 with edge streams, which never wait, not 3",
    ),
    "source": (dict(source=Path("none.h5")), "must be a store, there is no such file"),
}


@pytest.mark.parametrize("what", WRONG)
def test_what_is_wrong_is_said_before_anything_is_written(dataset, tmp_path, what):
    change, said = WRONG[what]
    need("icarus")
    with pytest.raises(InputError) as caught:
        regress(Setup(**dict(source=dataset, options=ONE, simulator="icarus") | change), tmp_path / "r")
    assert str(caught.value).endswith(said) and not (tmp_path / "r").exists()


def test_a_folder_of_other_things_stays_as_it_is(dataset, tmp_path):
    need("icarus")
    (tmp_path / "runs").mkdir()
    setup = Setup(dataset, ONE, "icarus")
    with pytest.raises(InputError, match=f"^{tmp_path}: must be a new folder, or have the results.json of a reg"):
        regress(setup, tmp_path)
    with pytest.raises(InputError, match="there is no results.json$"):
        regress(setup, tmp_path / "r", failed=True)
    with pytest.raises(InputError, match="^only must be a case such as uniform/0, not uniform/5$"):
        regress(setup, tmp_path / "r", only="uniform/5")
    with pytest.raises(InputError, match="^workers must be at least 1, not 0$"):
        regress(setup, tmp_path / "r", workers=0)
    (tmp_path / "results.json").write_text('{"schema": "x"}')
    with pytest.raises(InputError, match="results.json: must be results of factory-regression-1: schema x$"):
        load_results(tmp_path)


def test_results_without_a_case_do_not_pass_and_any_text_is_xml(tmp_path):
    assert not Results("", ()).passes
    case = CaseResult("a/0", "a", "crash", first="exit code -11: \x1b[31m<&>\ud800", said=("\x00 ]]>",), rerun="x")
    Results("", (case,)).save(tmp_path)
    (wrong,) = ElementTree.parse(tmp_path / "junit.xml").getroot().iter("error")
    assert wrong.attrib["message"] == "exit code -11: ?[31m<&>?" and wrong.text == "? ]]>\n\nx"
    assert load_results(tmp_path).cases == (case,)


def test_other_images_have_another_name():
    one, other = tuple(range(0, 900, 3)), (0, *range(5, 890, 4), 897)
    assert [regression._short(images) for images in ((3,), (0, 1, 2), (0, 5, 9))] == ["3", "0-2", "0,5,9"]
    assert regression._short(one).startswith("0..897-") and regression._short(one) != regression._short(other)


@pytest.mark.parametrize("command, what", [(3, "command 3"), ("factory 'dataset", "No closing quotation")])
def test_results_of_no_command_are_one_line(tmp_path, command, what):
    Results("factory", ()).save(tmp_path)
    path = tmp_path / "results.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"command": command}))
    with pytest.raises(InputError, match=f"must be results of .*: {what}$"):
        load_results(tmp_path)
