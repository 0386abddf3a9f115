"""The fewest tiles: the greedy choice is the plain one, covers what it says, and catches what one bin alone shows."""

import json
from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
from helpers_coverage import PlainCoverage, counter_of

from factory.build.codes import store_codes
from factory.cli import main
from factory.coverage import POINTS, PickedTiles, coverage, pairs, pick_from, read_picks
from factory.coverage.pick import Pick, pick_tiles
from factory.coverage.record import union
from factory.export import ExportOptions
from factory.export.picks import export_picks
from factory.spec import GIVEN, CodedLayer, CodedNetwork, ConvLayer, InputError, SystolicArray
from factory.store import open_store

FLOWS = ("ws", "os", "is")
pytestmark = pytest.mark.untyped
IMPLIED = ("activation", "weight")


def plain_layers(flow: str, images: int = 2) -> list[list[PlainCoverage]]:
    """Return two small layers, each with some images."""
    random, found = np.random.default_rng(3), []
    for name, channels, size in (("a", (3, 4), (2, 3)), ("b", (5, 3), (3, 2))):
        spec = ConvLayer(
            name, GIVEN, *channels, *size, kernel=2, padding=(1, 0), weight_bits=3, activation_bits=2, batch_norm=False
        )
        weight = random.integers(-3, 4, spec.weight_shape).astype(np.int8)
        maps = random.integers(0, 4, (images, spec.in_channels, *size)).astype(np.int16)
        found.append([PlainCoverage(spec, SystolicArray(2, 2, 6), flow, weight, codes) for codes in maps])
    return found


def counters_of(layers: list[list[PlainCoverage]]):
    found = []
    for images in layers:
        one = counter_of(images[0])
        whole = np.stack([plain.activation for plain in images])
        found.append(replace(one, vectors=replace(one.vectors, source=replace(one.vectors.source, activation=whole))))
    return found


def ends_of(counter) -> dict[str, tuple[int, int]]:
    return {
        name: bins.ends for name, bins in (("psum", counter.inside), ("accumulator", counter.outside or counter.inside))
    }


def plain_greedy(layers, counters, cost: str):
    """Return the candidates' bins, and the picks of a greedy choice over all of them, the useless ones left out."""
    candidates = []
    for images, counter in zip(layers, counters, strict=True):
        for image, plain in enumerate(images):
            for tile, bins in sorted(plain.tiles(ends_of(counter)).items()):
                kept = frozenset(bin for bin in bins if bin[0] not in IMPLIED)
                candidates.append((counter.name, image, tile, price_of(plain, cost), kept))
    left, picks = set().union(*(bins for *_, bins in candidates)), []
    while left:
        picks.append(max(candidates, key=lambda each: len(each[-1] & left) / each[-2]))
        left -= picks[-1][-1]
    for pick in list(reversed(picks)):
        others = [each[-1] for each in picks if each is not pick]
        if pick[-1] <= set().union(*others):
            picks = [each for each in picks if each is not pick]
    return candidates, picks


def price_of(plain: PlainCoverage, cost: str) -> int:
    """Return what a tile costs, counted by the first one's passes."""
    passes = [words for tile, words in plain.passes() if tile == (0, 0)]
    rows, cols = plain.array.rows, plain.array.cols
    words, terms = len(passes[0]), len(passes[0][0][0])
    if cost == "cycles":
        return sum((terms if plain.flow == "os" else words) + 2 * rows + cols - 2 for _ in passes)
    if plain.flow == "os":
        return 2 * terms
    return words + len(passes) * cols if plain.flow == "ws" else len(passes) * (words + cols)


@pytest.mark.parametrize("cost", ["cycles", "words"])
@pytest.mark.parametrize("flow", FLOWS)
def test_the_greedy_choice_is_the_plain_one(flow, cost):
    layers = plain_layers(flow)
    counters = counters_of(layers)
    candidates, picks = plain_greedy(layers, counters, cost)
    found = pick_tiles(counters, (0, 1), "here", cost)
    assert [(x.layer, x.image, tuple(x.tiles.values()), x.cost) for x in found.picks] == [x[:4] for x in picks]
    target = set().union(*(bins for *_, bins in candidates))
    seen: set = set()
    for pick, (*_, bins) in zip(found.picks, picks, strict=True):
        assert pick.new == len(bins - seen)
        seen |= bins
        others = set().union(*(other for *_, other in picks if other is not bins))
        assert pick.sole == len(bins - others)
    assert seen == target and found.covered == found.reachable == len(target)
    assert found.candidates == len(candidates)
    few = pick_tiles(counters, (0, 1), "here", cost, count=2)
    assert len(few.picks) == 2 and few.reachable == found.reachable


@pytest.mark.parametrize("bits", [((2, 3), (3, 3)), ((3, 2), (2, 3))])
@pytest.mark.parametrize("flow", FLOWS)
def test_layers_of_few_and_of_many_codes_are_one_without_processing_elements(flow, bits, monkeypatch):
    monkeypatch.setattr(pairs, "MOST_BINS", 128)
    few, many = (
        [
            replace(
                plain,
                spec=replace(plain.spec, activation_bits=activation, weight_bits=weight),
                weight=plain.weight.clip(1 - (1 << (weight - 1)), (1 << (weight - 1)) - 1),
            )
            for plain in plains
        ]
        for plains, (activation, weight) in zip(plain_layers(flow), bits, strict=True)
    )
    counters = counters_of([few, many])
    layers = [counter.coverage((0, 1)) for counter in counters]
    total, own = union("all", layers).points["pair"], [layer.points["pair"] for layer in layers]
    assert [len(pair.axes) for pair in own] == [4, 2 if bits[1] == (3, 3) else 4]
    assert list(total.axes) == ["activation", "weight"]
    ends = {"psum": (0, 0), "accumulator": (0, 0)}
    assert {tuple(x.values()) for x in total.labels(total.hits > 0)} == {
        bin[-2:] for plain in (*few, *many) for bin in plain.hits(ends) if bin[0] == "pair"
    }
    could = {(x["activation"], x["weight"]) for pair in own for x in pair.labels(~pair.unreachable)}
    assert {tuple(x.values()) for x in total.labels(~total.unreachable)} == could
    found = pick_tiles(counters, (0, 1), "here")
    assert found.covered == found.reachable
    assert found.reachable >= np.count_nonzero(total.hits)


def test_no_choice_costs_less_than_the_bound():
    layers = plain_layers("ws", images=1)[:1]
    counters = counters_of(layers)
    candidates, _ = plain_greedy(layers, counters, "words")
    target = set().union(*(bins for *_, bins in candidates))
    covering = [
        sum(price for *_, price, _ in chosen)
        for count in range(1, len(candidates) + 1)
        for chosen in combinations(candidates, count)
        if set().union(*(bins for *_, bins in chosen)) == target
    ]
    found = pick_tiles(counters, (0,), "here", "words")
    assert 0 < found.least_cost <= min(covering) <= found.total_cost


@pytest.mark.parametrize("flow", FLOWS)
def test_the_picks_catch_a_fault_that_one_pair_of_codes_in_one_element_shows(flow):
    layers = plain_layers(flow)
    counters = counters_of(layers)
    found = pick_tiles(counters, (0, 1), "here")
    words = {}
    for images, counter in zip(layers, counters, strict=True):
        for image, plain in enumerate(images):
            for tile, held in plain.passes():
                words.setdefault((counter.name, image, tile), []).append(held)
    pairs = {
        (row, lane, a, w)
        for passes in words.values()
        for held in passes
        for word in held
        for lane, terms in enumerate(word)
        for row, a, w in terms
    }
    picked = [words[x.layer, x.image, tuple(x.tiles.values())] for x in found.picks]
    for fault in sorted(pairs)[:: max(1, len(pairs) // 40)]:

        def sums(passes, fault=None):
            return [
                [[sum(a * w + ((row, lane, a, w) == fault) for row, a, w in terms) for lane, terms in enumerate(word)]
                 for word in held]
                for held in passes
            ]  # fmt: skip

        assert any(sums(passes) != sums(passes, fault) for passes in picked), fault


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """Return a store of two small layers and two images."""
    layers = [
        CodedLayer(images[0].spec, images[0].weight, np.stack([x.activation for x in images]), "made by hand")
        for images in plain_layers("ws")
    ]
    network = CodedNetwork("small", tuple(layers), ("first", "second"))
    return store_codes(network, tmp_path_factory.mktemp("picks") / "s.h5", "captured", SystolicArray(2, 2, 16))


@pytest.mark.parametrize("flow", FLOWS)
def test_exports_of_the_picks_reach_what_the_picks_cover(store, tmp_path, capsys, monkeypatch, flow):
    arguments = ["coverage", str(store), "--pick", "all", "--dataflow", flow, "--selection", str(tmp_path / "p.json")]
    run(monkeypatch, *arguments)
    picks = read_picks(tmp_path / "p.json")
    assert f"{len(picks.picks)} of {picks.candidates} tiles" in capsys.readouterr().out
    run(monkeypatch, "export", str(store), "--selection", str(tmp_path / "p.json"), "-o", str(tmp_path / "x"))
    folders = sorted(path for path in (tmp_path / "x").iterdir() if path.is_dir())
    assert len(folders) == len(picks.picks)
    run(monkeypatch, "coverage", str(tmp_path / "x"))
    assert f"{len(folders) - 3} more: {flow} on 2 x 2" in capsys.readouterr().out
    reached, own = (coverage(*paths, dataflow=flow).total.points for paths in ((tmp_path / "x",), (store,)))
    for name in own:
        # the ends of a range are those of a selection's own weights
        if POINTS[name].of_tile or flow == "os" and name.startswith("accumulator"):
            assert name.endswith("range") or labels_hit(own[name]) <= labels_hit(reached[name]), name


def labels_hit(point) -> set[tuple]:
    return {tuple(labels.values()) for labels in point.labels(point.hits > 0)}


def run(monkeypatch, *arguments: str) -> None:
    monkeypatch.setattr("sys.argv", ["factory", *arguments])
    with pytest.raises(SystemExit) as stopped:
        main()
    assert stopped.value.code in (0, None)


def test_what_is_no_selection_is_refused(store, tmp_path):
    path, picks = tmp_path / "no.json", (Pick("a", 0, {"it": 0, "ot": 0}, 1, 1, 1),)
    whole = json.dumps(PickedTiles("s.h5", "ws", 2, 2, "cycles", 5, 1, 1, picks).to_json())
    for text, message in (
        ('{"schema": "other"}', "must be a selection of schema factory-selection-1, not other"),
        ("[]", "must be a selection in JSON"),
        ('{"schema": "factory-selection-1"}', "must be a selection in JSON"),
        (whole.replace('"cost": 1', '"cost": 1e999'), "must be a selection in JSON: TypeError"),
        (whole.replace('"reachable": 1', '"reachable": null'), "must be a selection in JSON: TypeError"),
    ):
        path.write_text(text)
        with pytest.raises(InputError, match=f"no.json: {message}"):
            read_picks(path)
    with pytest.raises(InputError, match="nowhere.json: must be a selection: No such file"):
        read_picks(tmp_path / "nowhere.json")
    with open_store(store) as source:
        picks = pick_from(source, "1")
    for options, message in (
        (dict(tiles="it=0"), "tiles must not be given with selection"),
        (dict(layers="a"), "layers must not be given with selection"),
        (dict(dataflow="os"), "dataflow must be ws, the selection's, not os"),
    ):
        with pytest.raises(InputError, match=message):
            export_picks(store, tmp_path / "y", picks, ExportOptions(**options))
    with pytest.raises(InputError, match="selection must be of 2 x 2, as s.h5 is, not of 3 x 2"):
        export_picks(store, tmp_path / "y", replace(picks, rows=3))
    assert not (tmp_path / "y").exists()
    for pick, message in (
        ("0", "pick must be at least 1, not 0"),
        ("few", "pick must be all, or a whole number, not few"),
    ):
        with pytest.raises(InputError, match=message):
            pick_from(store, pick)
    with pytest.raises(InputError, match="cost must be one of cycles words, not time"):
        pick_from(store, "1", "time")
