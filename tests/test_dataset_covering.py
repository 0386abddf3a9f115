"""The split `coverage` of a dataset: picked once, kept, anew where the dataset is another, exported and simulated."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from helpers_simulator import need
from test_dataset_reading import random_dataset

import factory
from factory.cli.app import main
from factory.coverage import pick_from, read_picks
from factory.dataset import covering
from factory.dataset.covering import covering_tiles, exports_of
from factory.dataset.engine import build_dataset
from factory.dataset.planning import PlanOptions, extend_dataset
from factory.dataset.regression import Setup, cases_of, regress
from factory.fileplan import ExportOptions
from factory.spec import InputError


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return random_dataset(tmp_path_factory.mktemp("covering") / "d")


def picked(folder: Path, name: str = "coverage", **options):
    with factory.open_dataset(folder) as dataset:
        return covering_tiles(dataset, name, ExportOptions(**options))


def test_the_split_is_what_is_picked_of_the_whole_dataset_and_kept(folder, monkeypatch):
    found = picked(folder)
    with factory.open_dataset(folder) as dataset:
        assert found == pick_from(dataset, "all")
    (kept,) = (folder / "coverage").iterdir()
    assert read_picks(kept) == found and kept.name.startswith("ws-")
    monkeypatch.setattr(covering, "pick_from", lambda *given, **options: pytest.fail("it is kept"))
    assert picked(folder) == found
    kept.write_text("{}")
    with pytest.raises(pytest.fail.Exception):
        picked(folder)
    kept.unlink()


def test_another_dataflow_adder_or_dataset_has_picks_of_its_own(folder, tmp_path):
    shutil.copytree(folder, tmp_path / "d")
    found = [picked(tmp_path / "d"), picked(tmp_path / "d", dataflow="os"), picked(tmp_path / "d", psum_bits=9)]
    extend_dataset(tmp_path / "d", PlanOptions(source=str(folder / "sources/0.h5")), lambda line: None)
    build_dataset(tmp_path / "d", workers=0)
    found.append(picked(tmp_path / "d"))
    assert len({path.name for path in (tmp_path / "d/coverage").iterdir()}) == 4
    assert found[1].dataflow == "os" and found[3].candidates > found[0].candidates


def test_a_split_planned_under_that_name_and_other_splits_are_what_they_say(folder):
    with factory.open_dataset(folder) as dataset:
        named = replace(dataset.record.plan.splits[0], name="coverage")
        plan = replace(dataset.record.plan, splits=(named,))
        other = replace(dataset, record=replace(dataset.record, plan=plan))
        assert covering_tiles(other, "coverage", ExportOptions()) is None
        assert covering_tiles(dataset, "smoke", ExportOptions()) is None


@pytest.mark.parametrize(
    "given",
    [dict(layers="all"), dict(images="0"), dict(tiles="it=0"), dict(kij="0")],
    ids=lambda given: next(iter(given)),
)
def test_what_the_split_says_is_not_given(folder, given):
    with pytest.raises(InputError, match=f"^{next(iter(given))} must not be given with split coverage, which says it$"):
        picked(folder, **given)


def test_a_name_that_is_empty_is_no_split(folder, tmp_path, monkeypatch, capsys):
    wrong = "split must be one of full smoke random-7 coverage, not empty"
    with factory.open_dataset(folder) as dataset, pytest.raises(InputError, match=f"^{wrong}$"):
        cases_of(Setup(folder, ExportOptions(), split=""), dataset)
    monkeypatch.setattr("sys.argv", ["factory", "export", str(folder), "--split", "", "-o", str(tmp_path / "x")])
    with pytest.raises(SystemExit) as stop:
        main()
    assert (stop.value.code, capsys.readouterr().err) == (2, f"factory: --{wrong.strip()}\n")


def test_the_exports_hold_the_tiles_that_were_picked(folder):
    picks = picked(folder)
    options = list(exports_of(picks, ExportOptions()))
    wanted = {(pick.layer, pick.image, *pick.tiles.values()) for pick in picks.picks}
    held = set()
    for one in options:
        tiles = [int(part.partition("=")[2]) for part in one.tiles.split(",")]
        held |= {(one.layers, int(image), *tiles) for image in one.images.split(",")}
    assert held == wanted and len(options) <= len(picks.picks)
    assert picks.covered == picks.reachable > 0


@pytest.mark.simulator
def test_a_regression_simulates_the_tiles_that_were_picked(folder, tmp_path):
    need("icarus")
    picks = picked(folder)
    found = regress(Setup(folder, ExportOptions(), "icarus", split="coverage"), tmp_path / "r", workers=2)
    assert found.passes and sum(case.jobs for case in found.cases) == len(picks.picks)
    assert found.cases[0].name.startswith(f"{picks.picks[0].layer}/it{picks.picks[0].tiles['it']}-ot")
