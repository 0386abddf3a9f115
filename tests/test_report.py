"""Reports: whole and well-formed pages, the same bytes every time, values that are the store's."""

import base64
import json
import re
import shutil
import subprocess
import sys
from contextlib import closing
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from helpers_report import unchecked

from factory.arithmetic.labelled import LabelledArray
from factory.coverage import coverage, pick_from
from factory.dataset import build_shard, open_dataset
from factory.dataset.outcomes import CaseResult, Results
from factory.dataset.planning import PlanOptions, plan_dataset
from factory.dataset.seal import seal_dataset
from factory.report import ReportOptions, report
from factory.report.page import Section, page, whole
from factory.report.tiles import BUDGET, layers_data, spread
from factory.spec import InputError
from factory.store import open_store

VOID = {"meta", "img", "br", "link", "input", "hr", "image", "path", "use"}
KINDS = {"i1": "<i1", "u1": "<u1", "i2": "<i2", "i4": "<i4"}


@pytest.fixture(scope="module")
def written(shown, tmp_path_factory):
    folder = tmp_path_factory.mktemp("reports")
    with unchecked():
        return report([shown.store, shown.export], folder / "whole.html", dumps=(shown.dump,))


class Checked(HTMLParser):
    """Every element that is opened is closed, in order; names and places of links are kept."""

    def __init__(self):
        super().__init__()
        self.open, self.ids, self.links, self.sources, self.inline = [], [], [], [], []

    def handle_starttag(self, tag, attrs):
        found = dict(attrs)
        self.ids += [found["id"]] if "id" in found else []
        self.links += [found["href"][1:]] if found.get("href", "").startswith("#") else []
        self.sources += [value for name, value in attrs if name in ("src", "href") and not value.startswith("#")]
        executed = tag == "script" and "src" not in found and found.get("type") != "application/json"
        self.inline += [tag] if "style" in found or tag == "style" or executed else []
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_startendtag(self, tag, attrs):
        self.inline += ["style"] if "style" in dict(attrs) else []


def checked(text: str) -> Checked:
    parser = Checked()
    parser.feed(text)
    assert not parser.open
    assert set(parser.links) <= set(parser.ids) and len(set(parser.ids)) == len(parser.ids)
    return parser


def test_a_page_is_whole_and_asks_for_nothing(written):
    text = written.read_text()
    parser = checked(text)
    assert parser.sources == []
    assert set(re.findall(r"https?://[\w./]+", text)) <= {"http://www.w3.org/1999/xlink", "http://www.w3.org/2000/svg"}
    sections = ["network", "layers", "files", "words", "mismatch", "provenance"]
    assert [name for name in parser.ids if name in sections] == sections
    assert re.search(r"<b>[\w ]*lanes rotated: by \d", text)
    assert "Not in this report" not in text or "factory coverage" in text
    assert len(text) < 1_000_000


def test_the_same_sources_are_the_same_bytes_in_another_process(shown, written, tmp_path):
    command = [sys.executable, "-m", "factory", "report", str(shown.store), str(shown.export)]
    done = subprocess.run(
        [*command, "--dump", str(shown.dump), "-o", "again.html"], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr  # where matplotlib may say that it looks for fonts
    assert done.stdout.startswith("again.html  ")
    assert (tmp_path / "again.html").read_bytes() == written.read_bytes()


def test_the_values_in_a_page_are_the_store_s(shown, written):
    text = written.read_text()
    data = json.loads(re.search(r'id="data">(.*?)</script>', text, re.DOTALL)[1])
    assert len(data["colours"]["codes"]) == 6 * 256
    with open_store(shown.store) as store:
        for name, held in data["layers"].items():
            layer, array = store.layer(name), store.array
            values = {
                role: np.frombuffer(base64.b64decode(held[role][1]), KINDS[held[role][0]])
                for role in ("activation", "weight", "accumulator")
            }
            at = np.ix_(held["its"], held["ots"])
            assert np.array_equal(values["weight"], layer.weight_tile[...][at].ravel())
            tiles = layer.activation_tile[...][held["images"]][:, held["its"]]
            assert np.array_equal(values["activation"], tiles.ravel())
            sums = layer.accumulator[...].reshape(2, layer.spec.out_channels, -1)
            sums = np.pad(sums, ((0, 0), (0, -sums.shape[1] % array.cols), (0, 0)))
            maps = sums.reshape(2, -1, array.cols, layer.spec.onij_count)
            assert np.array_equal(values["accumulator"], maps[held["images"]][:, held["ots"]].ravel())
            acts = values["activation"].reshape(2, len(held["its"]), -1, array.rows).astype(int)
            weights = values["weight"].reshape(len(held["its"]), len(held["ots"]), -1, array.cols, array.rows)
            psums = np.einsum("nipr,iokcr->niokpc", acts, weights)
            assert np.array_equal(psums, layer.psum[...][held["images"]][:, held["its"]][:, :, held["ots"]])


def test_the_tiles_of_a_large_layer_are_fewer(shown, monkeypatch):
    with open_store(shown.store) as store:
        whole = layers_data(store, ["maps"], (0, 1))["maps"]
        assert (len(whole["its"]), whole["its"][-1], whole["images"]) == (4, 7, [0, 1])
        monkeypatch.setattr("factory.report.tiles.BUDGET", 20_000)
        fewer = layers_data(store, ["maps"], (0, 1))["maps"]
        assert len(fewer["its"]) < 4
        monkeypatch.setattr("factory.report.tiles.BUDGET", 100)
        assert layers_data(store, ["maps"], (0, 1)) == {}
    assert BUDGET * 4 / 3 < 2_000_000
    assert (spread(1, 4), spread(5, 4), spread(64, 4)) == ([0], [0, 1, 3, 4], [0, 21, 42, 63])


def test_split_pages_have_no_inline_parts(shown, tmp_path):
    path = report([shown.store, shown.export], tmp_path / "r.html", layers="line", split=True)
    parser = checked(path.read_text())
    assert parser.inline == []
    assert sorted(set(parser.sources)) == sorted(
        str(file.relative_to(tmp_path)) for file in (tmp_path / "r").iterdir()
    )  # fmt: skip
    assert all((tmp_path / source).stat().st_size > 100 for source in parser.sources)
    assert (tmp_path / "r" / "network.png").read_bytes().startswith(b"\x89PNG")


def test_what_is_not_there_is_a_line_with_the_command_that_makes_it(shown, tmp_path):
    text = report([shown.export], tmp_path / "e.html").read_text()
    checked(text)
    assert "factory simulate DIR --dump FOLDER" in text and 'id="layers"' not in text
    right = report([shown.export], tmp_path / "right.html", dumps=(shown.export,)).read_text()
    assert "Every word is right." in right


@pytest.mark.untyped
def test_results_have_sections(shown, tmp_path):
    with open_store(shown.store) as store:
        found = coverage(store, dataflow="ws", layers="line")
        picked = pick_from(shown.store, "all", "cycles", "ws", "line")
    for name, record in {"coverage.json": found, "picks.json": picked}.items():
        (tmp_path / name).write_text(json.dumps(record.to_json()))
    cases = [CaseResult("line/0-1", "line", "pass"), CaseResult("line/2", "line", "mismatch", first="at <x>: 3")]
    cases += [CaseResult(f"line/it{it}-ot0/2", "line", "pass") for it in (0, 1)]
    (tmp_path / "runs").mkdir()
    Results("factory dataset simulate", tuple(cases), {}).save(tmp_path / "runs")
    sources = [tmp_path / name for name in ("coverage.json", "picks.json", "runs")]
    text = report(sources, tmp_path / "r.html").read_text()
    assert [name for name in checked(text).ids if name in ("coverage", "selection", "regression")] == [
        "coverage", "selection", "regression",
    ]  # fmt: skip
    assert all(f">{place}<" in text for place in ("2", "it0-ot0/2", "it1-ot0/2"))  # each case has a place on the board
    assert "at &lt;x&gt;: 3" in text and f"{found.total.points['pair'].counts.unreachable:,}: " in text
    (tmp_path / "coverage.json").write_text('{"schema": "factory-coverage-9"}')
    with pytest.raises(InputError, match="must be a coverage of schema"):
        report(sources[:1], tmp_path / "r.html")


def test_a_dataset_is_reported_as_a_store(tmp_path):
    options = PlanOptions(random=7, count=2, rows=3, cols=4, shard_images=2)
    for shard in plan_dataset(tmp_path / "set", options).shards:
        build_shard(tmp_path / "set", shard.number)
    seal_dataset(tmp_path / "set")
    with closing(open_dataset(tmp_path / "set")) as dataset:
        assert "images in" in dataset._repr_html_()
        name = next(iter(dataset.layers))
    text = report([tmp_path / "set"], tmp_path / "r.html", layers=name).read_text()
    assert "<dt>shards</dt>" in text and "split smoke" in text and f'id="layer-{name}"' in text


def test_texts_are_escaped():
    text = whole(page("<b>&", "lead", [Section("a", "<i>", "html")], [], {})).decode()
    checked(text)
    assert "<h1>&lt;b&gt;&amp;</h1>" in text and "&lt;i&gt;" in text


@pytest.mark.parametrize(("sources", "given", "message"), [
    (["{store}", "{store}"], {}, "store.h5: a report must be of one store, there is {store} too"),
    ([], {}, "a report must be of a source, none is given"),
    (["{store}"], dict(images="7"), "store.h5: images must be 0 to 1, not 7"),
    (["{store}"], dict(layers="other"), "layer must be one of maps line, not other"),
    (["{store}"], dict(dumps=(Path("x"),)), "dump must be given with the export that it is of"),
    (["{export}"], dict(layers="nope"), "layers must be given with the store that they are of"),
    (["{export}"], dict(images="0"), "images must be given with the store that they are of"),
    (["nowhere.h5"], {}, "nowhere.h5: must be a source of a report, there is no such file or folder"),
    (["{folder}"], {}, "{folder}: must be a store or a dataset, it is a folder of something else"),
    (["{store}", "nowhere"], {}, "nowhere: must be a source of a report, there is no such file or folder"),
])  # fmt: skip
def test_what_cannot_be_reported_is_one_line(shown, tmp_path, sources, given, message):
    places = dict(store=shown.store, export=shown.export, folder=tmp_path)
    paths = [source.format(**places) for source in sources]
    with pytest.raises(InputError, match=re.escape(message.format(**places)) + "$"):
        report(paths, tmp_path / "r.html", **given)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("name", "message"), [
    ("r.txt", "the report must be called *.html"),
    ("no/r.html", "the report must be a file in a folder that is there"),
    ("folder.html", "the report must be a file in a folder that is there"),
])  # fmt: skip
def test_a_page_has_a_place(shown, tmp_path, name, message):
    (tmp_path / "folder.html").mkdir()
    with pytest.raises(InputError, match=re.escape(message) + "$"):
        report([shown.store], tmp_path / name, ReportOptions(layers="line"))


def test_a_damaged_export_is_one_line(shown, tmp_path):
    shutil.copytree(shown.export, tmp_path / "x")
    (tmp_path / "x" / "line" / "image0" / "out.txt").write_text("1\n")
    with pytest.raises(InputError, match=r"out\.txt"):
        report([tmp_path / "x"], tmp_path / "r.html")


def test_notebooks_show_tables(shown, tmp_path):
    from factory.export import export

    with open_store(shown.store) as store:
        assert "line</td>" in store._repr_html_() and "2 images" in store._repr_html_()
        layer = store.layer("line")
        assert "2 × 1 × 1 × 9 × 36 × 8" in layer._repr_html_()
        summary = export(store, tmp_path / "v", dataflow="ws", layers="line")
        assert f"pack {summary.pack_id[:12]}" in summary._repr_html_()
    assert "closed" in store._repr_html_()
    vector = LabelledArray(np.arange(-3, 17).reshape(2, 10), ("it", "row"), {"it": (3, 5)}, 1)
    assert "int64, -3 to 16, 1 inexact" in vector._repr_html_()
    assert "3 5</td>" in vector._repr_html_() and "0 1 … 9</td>" in vector._repr_html_()
