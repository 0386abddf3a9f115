"""Coverage on disk and on the command line: JSON, merges, UCIS XML, YAML, missing bins, exports, activity."""

import csv
import io
import json

import numpy as np
import pytest
from test_coverage_pick import counters_of, labels_hit, plain_layers, run, store  # noqa: F401 (a fixture)

from factory.build.synthetic import corners
from factory.cli import main
from factory.coverage import (
    POINTS,
    Coverage,
    coverage,
    merge,
    pick_from,
    read_coverage,
    to_ucis,
    to_yaml,
    write_activity,
)
from factory.coverage.activity import _counted, switching_activity
from factory.coverage.record import NO_BIN
from factory.export import export
from factory.spec import InputError
from factory.summary import coverage_table, selection_table

FLOWS = ("ws", "os", "is")
pytestmark = pytest.mark.untyped


@pytest.fixture(scope="module")
def counted(store):  # noqa: F811
    return coverage(store)


def test_json_comes_back(counted, tmp_path):
    path = tmp_path / "c.json"
    path.write_text(json.dumps(counted.to_json()))
    again = read_coverage(path)
    assert again.to_json() == counted.to_json()
    assert counted.to_json()["total"]["sign"] == {"bins": 13, "hit": 13, "unreachable": 0, "missing": 0}
    for text, message in (
        ("{", "c.json: must be a coverage in JSON"),
        ("[]", "c.json: must be a coverage of schema factory-coverage-1, not none"),
        ('{"schema": "factory-coverage-1"}', "c.json: must be a whole coverage"),
        (json.dumps(counted.to_json() | {"dataflow": "zz"}), "c.json: dataflow must be one of ws os is, not zz"),
        (
            json.dumps(counted.to_json()).replace('"hits": [', '"hits": [-', 1),
            r"c.json: .*: hits must be 0 or more, not -",
        ),
        (
            json.dumps(counted.to_json()).replace('"hits": [', '"hits": [0.5, ', 1),
            "c.json: must be a whole coverage: .*'float' object cannot be interpreted as an integer",
        ),
        (
            json.dumps(counted.to_json()).replace('"hits": [', '"hits": [1' + 30 * "0" + ", ", 1),
            "c.json: must be a whole",
        ),
        (json.dumps(counted.to_json()).replace('"images": 2', '"images": 1e999', 1), "c.json: must be a whole"),
    ):
        path.write_text(text)
        with pytest.raises(InputError, match=message):
            read_coverage(path)


def test_layers_and_coverages_are_one_where_any_hits_and_all_agree(counted):
    total, points = counted.total.points, [layer.points for layer in counted.layers]
    for name, point in total.items():
        hit = [labels_hit(each[name]) for each in points if name in each]
        assert labels_hit(point) == set().union(*hit)
        apart = [tuple(x.values()) for x in point.labels(point.unreachable)]
        assert not set(apart) & labels_hit(point)
        for each in points:
            there = {tuple(x.values()) for x in each[name].labels(each[name].missing)} if name in each else set()
            assert not there & set(apart)
        assert NO_BIN not in point.reasons or name == "border"
    twice = merge([counted, counted])
    assert [layer.images for layer in twice.layers] == [4, 4]
    for name, point in twice.total.points.items():
        np.testing.assert_array_equal(point.hits, 2 * total[name].hits)
        np.testing.assert_array_equal(point.unreachable, total[name].unreachable)
    other = Coverage("other", "os", counted.array, ())
    with pytest.raises(InputError, match="other: must be of ws on 2 x 2 with 16 bits as s.h5, not of os"):
        merge([counted, other])


def test_ucis_is_read_by_pyucis_and_never_changes(counted, tmp_path):
    ucis = pytest.importorskip("ucis.xml.xml_reader")
    from ucis.report.coverage_report_builder import CoverageReportBuilder
    from ucis.xml import validate_ucis_xml

    path, text = tmp_path / "c.xml", to_ucis(counted)
    assert text == to_ucis(Coverage.from_json(counted.to_json()))
    path.write_text(text)
    assert validate_ucis_xml(str(path))
    with path.open() as file:
        (group,) = CoverageReportBuilder.build(ucis.XmlReader().read(file)).covergroups
    read = {point.name: point for point in group.coverpoints}
    assert set(read) == set(counted.total.points)
    for name, point in counted.total.points.items():
        counts = point.counts
        assert len(read[name].bins) == counts.bins - counts.unreachable
        assert len(read[name].ignore_bins) == counts.unreachable
        hit = {bin.name: bin.count for bin in read[name].bins}
        for labels, hits in zip(point.labels(point.hits > 0), point.hits[point.hits > 0], strict=True):
            assert hit[" ".join(f"{axis}={label}" for axis, label in labels.items())] == hits


def test_yaml_has_the_keys_of_cocotb_coverage(counted):
    yaml = pytest.importorskip("yaml")
    read = yaml.safe_load(to_yaml(counted))
    assert set(read) == {"top", *(f"top.{name}" for name in counted.total.points)}
    for name, point in counted.total.points.items():
        bins = read[f"top.{name}"]["bins:_hits"]
        assert len(bins) == read[f"top.{name}"]["size"] == point.counts.bins - point.counts.unreachable
        assert sum(hits > 0 for hits in bins.values()) == read[f"top.{name}"]["coverage"] == point.counts.hit


def test_an_export_has_the_coverage_of_what_its_files_hold(store, counted, tmp_path):  # noqa: F811
    export(store, tmp_path / "whole", layers="all", images="all", pe_activation="unsigned")
    whole = coverage(tmp_path / "whole")
    for mine, theirs in zip(whole.layers, counted.layers, strict=True):
        for name, point in mine.points.items():
            assert labels_hit(point) == labels_hit(theirs.points[name]), name
        assert theirs.points.keys() - mine.points.keys() <= {"threshold"}
    export(store, tmp_path / "part", layers="b", tiles="it=0,ot=1", kij="1", images="1")
    part = coverage(tmp_path / "part")
    assert [layer.layer for layer in part.layers] == ["b"] and part.layers[0].images == 1
    assert labels_hit(part.total.points["tile"]) == {("full", "ragged")}
    assert {kij for kij, _ in labels_hit(part.total.points["border"])} == {"0,1"}
    assert labels_hit(part.total.points["pair"]) < labels_hit(whole.total.points["pair"])
    with pytest.raises(InputError, match="part: dataflow must be ws, the export's own, not os"):
        coverage(tmp_path / "part", dataflow="os")
    with pytest.raises(InputError, match="part: layer must be one of b, not a"):
        coverage(tmp_path / "part", layers="a")
    export(store, tmp_path / "outputs", layers="b", include="out")
    with pytest.raises(InputError, match="outputs: b: there must be files of activation"):
        coverage(tmp_path / "outputs")


@pytest.mark.slow
@pytest.mark.parametrize("flow", FLOWS)
def test_what_is_missing_gets_vectors(store, tmp_path, flow):  # noqa: F811
    before, said = coverage(store, dataflow=flow, psum_bits=8), []
    path = corners(tmp_path / "m.h5", missing=before, say=said.append)
    after = merge([before, coverage(path, dataflow=flow, psum_bits=8)])
    named = {line.split(":")[0] for line in said}
    assert {name for name, point in before.total.points.items() if point.missing.any()} - named
    for name, point in after.total.points.items():
        assert name in named or not point.missing.any(), name
    with pytest.raises(InputError, match="at least one bin must be missing, none is|no corner case hits"):
        corners(tmp_path / "n.h5", missing=after)
    assert not (tmp_path / "n.h5").exists()


def plain_bits(passes: np.ndarray, bits: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return toggles, ones and zeros of words, bit by bit and word by word."""
    toggles, ones = (np.zeros((passes.shape[2], bits), int) for _ in range(2))
    zeros = np.zeros(passes.shape[2], int)
    for words in passes:
        for before, now in zip([None, *words.tolist()], words.tolist(), strict=False):
            for lane, value in enumerate(now):
                zeros[lane] += value & ((1 << bits) - 1) == 0
                for bit in range(bits):
                    ones[lane, bit] += value >> bit & 1
                    toggles[lane, bit] += before is not None and (value ^ before[lane]) >> bit & 1
    return toggles, ones, zeros


@pytest.mark.parametrize("bits", [1, 4, 8, 11, 16, 20, 32])
def test_bits_of_words_are_counted_as_one_by_one(bits):
    words = np.random.default_rng(bits).integers(-(2**31), 2**31, (300, 3, 2)).astype(np.int64) >> (32 - bits)
    found = _counted(words, bits)
    toggles, ones, zeros = plain_bits(words, bits)
    np.testing.assert_array_equal(found.toggles, toggles)
    np.testing.assert_array_equal(found.ones, ones)
    np.testing.assert_array_equal(found.zeros, zeros)
    assert (found.words, found.pairs) == (900, 600)


def test_a_value_whose_low_bits_are_0_is_0_on_the_bus():
    assert _counted(np.array([[[16], [-32], [1]]]), 4).zeros.tolist() == [2]


def plain_words(plain, words) -> dict[str, np.ndarray]:
    """Return what crosses each bus in one pass, `(word, lane)`."""
    at = np.array(words)[..., 1:]  # (word, lane, term, activation or weight)
    activation, weight = at[..., 0], at[..., 1]
    operands = {
        "ws": lambda: (activation[:, 0], weight[0]),
        "os": lambda: (activation[:, 0].T, weight[0].T),
        "is": lambda: (activation[0], weight[:, 0]),
    }[plain.flow]()
    return dict(zip(("activation", "weight"), operands, strict=True)) | {
        plain.inside: (activation * weight).sum(axis=2)
    }


@pytest.mark.parametrize("flow", FLOWS)
def test_activity_is_that_of_plain_passes(flow, tmp_path):
    layers = plain_layers(flow)
    activity = switching_activity(counters_of(layers), (0, 1), "here")
    expected: dict[str, list] = {}
    for plain in (plain for images in layers for plain in images):
        for _, words in plain.passes():
            for bus, held in plain_words(plain, words).items():
                bits = {"activation": 2, "weight": 3}.get(bus, 6)
                expected.setdefault(bus, []).append((len(held), *plain_bits(held[None], bits)))
    for bus, found in expected.items():
        counts, toggles, ones, zeros = (np.sum([each[at] for each in found], axis=0) for at in range(4))
        mine = activity.buses[bus]
        np.testing.assert_array_equal(mine.toggles, toggles)
        np.testing.assert_array_equal(mine.ones, ones)
        np.testing.assert_array_equal(mine.zeros, zeros)
        assert (mine.words, mine.pairs) == (counts, counts - len(found))
    lines = list(csv.DictReader(io.StringIO(write_activity(activity, tmp_path / "a.csv"))))
    assert len(lines) == 2 * sum(x.toggles.size for x in activity.buses.values())
    assert sum(int(x["toggles"]) for x in lines if x["codes"] == "real") == sum(
        x.toggles.sum() for x in activity.buses.values()
    )
    saif = write_activity(activity, tmp_path / "a.SAIF")
    assert saif.count("(TC ") == len(lines) // 2 and saif.count("(") == saif.count(")")
    data = json.loads(write_activity(activity, tmp_path / "a.json"))
    assert data["real"]["activation"]["hamming"] == activity.buses["activation"].hamming
    assert data["random"]["activation"] != data["real"]["activation"] and data["random"].keys() == data["real"].keys()


def test_the_command_prints_and_writes(store, tmp_path, capsys, monkeypatch):  # noqa: F811
    names = {suffix: str(tmp_path / f"c.{suffix}") for suffix in ("xml", "yml", "csv")}
    run(monkeypatch, "coverage", str(store), "--ucis", names["xml"], "--yaml", names["yml"], "--activity", names["csv"])
    out = capsys.readouterr().out
    assert "sign " in out and "13" in out and "bits that toggle" in out
    assert (tmp_path / "c.xml").read_text().startswith("<?xml") and (tmp_path / "c.csv").read_text().startswith(
        "codes,"
    )
    run(monkeypatch, "coverage", str(store), "--json")
    (tmp_path / "c.json").write_text(capsys.readouterr().out)
    run(monkeypatch, "coverage", "--merge", str(tmp_path / "c.json"), str(tmp_path / "c.json"))
    assert "layers: 2, images: 4" in capsys.readouterr().out
    assert set(read_coverage(tmp_path / "c.json").total.points) <= set(POINTS)


def refused(monkeypatch, capsys, *arguments: str) -> str:
    monkeypatch.setattr("sys.argv", ["factory", *arguments])
    with pytest.raises(SystemExit) as stopped:
        main()
    assert stopped.value.code == 2
    return capsys.readouterr().err


def test_a_folder_of_something_else_is_no_source(tmp_path, capsys, monkeypatch):
    said = f"factory: {tmp_path}: must be a store or a dataset, it is a folder of something else\n"
    assert refused(monkeypatch, capsys, "coverage", str(tmp_path)) == said


def test_results_take_the_place_of_no_source_and_of_no_other_result(store, tmp_path, capsys, monkeypatch):  # noqa: F811
    held, before = str(store), store.read_bytes()
    own = "must be a file of its own, not a source or another result"
    for option in ("ucis", "yaml", "activity"):
        said = refused(monkeypatch, capsys, "coverage", held, f"--{option}", held)
        assert said == f"factory: {held}: --{option} {own}\n"
    both = str(tmp_path / "both")
    said = refused(monkeypatch, capsys, "coverage", held, "--ucis", both, "--yaml", both)
    assert said == f"factory: {both}: --yaml {own}\n"
    for path in (str(tmp_path), str(tmp_path / "none" / "c.csv")):
        said = refused(monkeypatch, capsys, "coverage", held, "--activity", path)
        assert said == f"factory: {path}: --activity must be a file in a folder that is there\n"
    assert store.read_bytes() == before and not list(tmp_path.iterdir())


def test_options_that_would_change_nothing_are_refused(store, counted, tmp_path, capsys, monkeypatch):  # noqa: F811
    path = tmp_path / "c.json"
    path.write_text(json.dumps(counted.to_json()))
    for option, value in (("layers", "features.27"), ("dataflow", "os"), ("psum-bits", "8")):
        said = refused(monkeypatch, capsys, "coverage", "--merge", str(path), f"--{option}", value)
        assert said == f"factory: --{option} must be given without merge, whose coverages say it\n"
    said = refused(monkeypatch, capsys, "coverage", str(store), "--cost", "words")
    assert said == "factory: --cost must be given with --pick\n"


def test_what_picks_cover_is_as_wide_as_a_terminal(store):  # noqa: F811
    picks = pick_from(store, "all")
    wide, narrow = selection_table(picks), selection_table(picks, 80)
    assert " ".join(narrow.split()) == " ".join(wide.split())
    assert max(map(len, narrow.splitlines())) <= 80 < max(map(len, wide.splitlines()))


def test_points_of_another_version_are_shown_and_get_no_vectors(counted, tmp_path):
    data = counted.to_json()
    for layer in data["layers"]:
        layer["points"][0]["point"] = "other"
    other = Coverage.from_json(data)
    assert "other " in coverage_table(other)
    with pytest.raises(InputError, match="points must be of activation weight pair .*, not other"):
        corners(tmp_path / "m.h5", missing=other)
    none = Coverage.from_json(data | {"layers": []})
    with pytest.raises(InputError, match="points must be of .*, pair among them, which is not there"):
        corners(tmp_path / "m.h5", missing=none)
    assert not list(tmp_path.iterdir())
