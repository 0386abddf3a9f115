"""Figures: what they draw is what the store and the files hold, and the same figure is the same bytes."""

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.colors import to_rgb

from factory import plot
from factory.audit import audit
from factory.coverage import PickedTiles
from factory.coverage import coverage as count_coverage
from factory.coverage.pick import Pick
from factory.coverage.record import LayerCoverage
from factory.diagnose import diagnose
from factory.diagnose.evidence import KINDS, kinds_of
from factory.plot.layers import side_by_side, value_counts
from factory.plot.streams import crossing
from factory.plot.style import RED, svg_text
from factory.spec import InputError, Range, SystolicArray, part1, resnet
from factory.store import open_store


@pytest.fixture(scope="module")
def store(shown):
    with open_store(shown.store) as store:
        yield store


@settings(max_examples=40)
@given(st.lists(st.integers(-3000, 3000), max_size=30), st.integers(-4000, -3000), st.integers(3000, 9000))
def test_counts_are_those_of_a_plain_loop(values, low, high):
    counts, width = value_counts([np.array(values[:7], np.int16), np.array(values[7:], np.int16)], Range(low, high))
    assert len(counts) <= 512 and counts.sum() == len(values) and width & (width - 1) == 0
    for place, count in enumerate(counts.tolist()):
        start = low + place * width
        assert count == sum(start <= value < start + width for value in values)


def test_few_values_have_a_bin_each():
    counts, width = value_counts([np.array([[3, -2], [3, 1]], np.int8)], Range(-2, 3))
    assert (counts.tolist(), width) == ([1, 0, 0, 1, 0, 2], 1)


def test_maps_are_beside_each_other_with_nothing_between():
    maps = np.arange(12).reshape(2, 2, 3)
    assert side_by_side(maps).tolist() == [[0, 1, 2, None, 6, 7, 8], [3, 4, 5, None, 9, 10, 11]]


@pytest.mark.parametrize("layer", ["maps", "line"])
def test_a_tile_s_figure_holds_the_store_s_values(store, layer):
    held, at = store.layer(layer), dict(image=1, it=0, ot=0, kij=5)
    images = [axes.images[0].get_array() for axes in plot.tile(store, layer, **at).axes[::2]]
    activation, psum = held.activation_tile[1, 0].T, held.psum[1, 0, 0, 5].T
    if layer == "maps":
        size = held.spec.padded_height, held.spec.padded_width
        activation, psum = (side_by_side(x.reshape(-1, *size)) for x in (activation, psum))
    expected = activation, side_by_side(held.weight_tile[0, 0]), psum, side_by_side(held.accumulator[1, :8])
    for drawn, values in zip(images, expected, strict=True):
        assert np.ma.allequal(drawn, values, fill_value=False) or np.array_equal(
            drawn.filled(0), np.ma.filled(values, 0)
        )


def test_the_graph_of_a_store_is_its_network_s_on_its_array(store):
    assert texts_of(plot.network(store)) == texts_of(plot.network(store.network, store.array))


def test_histograms_count_every_value_of_the_images(store):
    (audited,) = (found for found in audit(store, observe=False) if found.name == "line")
    assert audited.observed is None
    figure, held = plot.histograms(store, "line", (0, 1), audited), store.layer("line")
    sizes = [axes.patches[0].get_data().values.sum() for axes in figure.axes]
    assert sizes == [held.activation.size, held.weight.size, held.psum.size, held.accumulator.size]
    assert f"{audited.accumulator.low}..{audited.accumulator.high}, {audited.accumulator.bits} bits" in figure.axes[
        3
    ].get_title(loc="left")
    spare = 16 - audited.running.bits
    text = f"running sums need {audited.running.bits} bits, adders have 16: {spare} bits of head-room"
    assert figure.axes[3].get_xlabel() == text


@pytest.mark.parametrize(("given", "message"), [
    (dict(image=2), "line: image must be 0 to 1, not 2"),
    (dict(it=-1), "line: it must be 0 to 0, not -1"),
    (dict(kij=9), "line: kij must be 0 to 8, not 9"),
])  # fmt: skip
def test_a_place_that_is_not_there_is_one_line(store, given, message):
    with pytest.raises(InputError, match=f"^{message}$"):
        plot.tile(store, "line", **given)


def texts_of(figure) -> list[str]:
    return [text.get_text() for axes in figure.axes for text in axes.texts]


@pytest.mark.parametrize("network", [part1(), resnet("net", (4, 8), 6)], ids=["vgg", "residual"])
def test_a_graph_has_a_box_for_each_step_and_an_arrow_for_each_edge(network):
    from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

    figure = plot.network(network, SystolicArray(4, 4))
    kinds = [type(patch) for patch in figure.axes[0].patches]
    assert kinds.count(FancyBboxPatch) == len(network.steps)
    edges = sum(len(step.inputs) if hasattr(step, "inputs") else 1 for step in network.steps)
    assert kinds.count(FancyArrowPatch) == edges - 1  # the image has no box
    assert {step.name for step in network.steps} <= set(texts_of(figure))


def test_a_word_s_bits_are_the_file_s(shown):
    found = texts_of(plot.memory_word(shown.export, "weight"))
    lines = (shown.export / "line" / "weight_itile0_otile0_kij0.txt").read_text().split()
    bits = [text for text in found if text in ("0", "1")]
    assert "row7" in found and len(bits) >= 96
    drawn = plot.memory_word(shown.export, "weight").axes[0].texts
    first = sorted((text.get_position()[0], text.get_text()) for text in drawn if text.get_position()[1] == 0.38)
    assert "".join(text for _, text in first if len(text) == 1) == lines[0]
    with pytest.raises(InputError, match="layout must be one of weight activation out psum, not x$"):
        plot.memory_word(shown.export, "x")


@pytest.mark.untyped
def test_a_mismatch_is_drawn_where_it_is(shown):
    found = diagnose(shown.export, [shown.dump / "line" / "image0" / "out.txt"])
    kinds = kinds_of(found.case)
    assert np.count_nonzero(kinds == KINDS.index("wrong")) == np.count_nonzero(found.case.wrong) > 0
    (image,) = plot.mismatches(found).axes[0].images
    assert np.array_equal(image.get_array(), kinds.T)
    right = diagnose(shown.export, [shown.export])
    with pytest.raises(InputError, match="every word is right$"):
        plot.mismatches(right)


def test_the_same_figure_is_the_same_bytes(store, tmp_path):
    for name in ("a.svg", "b.svg", "a.png", "b.png", "a.pdf", "b.pdf"):
        plot.save(plot.histograms(store, "line"), tmp_path / name)
    for kind in ("svg", "png", "pdf"):
        first, second = (tmp_path / f"{name}.{kind}" for name in "ab")
        assert first.read_bytes() == second.read_bytes() or kind == "svg"  # an SVG's own names follow from the file's
    assert b"date" not in (tmp_path / "a.svg").read_bytes()
    figures = [svg_text(plot.tile(store, "line"), "t") for _ in range(2)]
    assert figures[0] == figures[1] and figures[0].startswith("<svg") and "#1f2933" not in figures[0]
    with pytest.raises(InputError, match="a figure must be one of .svg .png .pdf, not .bmp$"):
        plot.save(plot.histograms(store, "line"), tmp_path / "a.bmp")


def test_results_are_drawn():
    figure = plot.board([("a", "0-7", "pass"), ("a", "8-15", "mismatch"), ("b", "0-7", "timeout")])
    assert texts_of(figure) == ["M", "T"] and len(figure.axes[0].patches) == 3
    picks = tuple(Pick("a", image, {"it": 0, "ot": 0}, 10, new, new) for image, new in ((1, 4), (0, 2)))
    curve = plot.selection_curve(PickedTiles("s.h5", "ws", 2, 2, "cycles", 5, 8, 17, picks))
    assert np.array_equal(curve.axes[0].lines[0].get_xydata(), [[0, 0], [10, 50], [20, 75]])
    assert texts_of(curve) == [" all of it costs 17 at least"]


@pytest.mark.untyped
def test_coverage_is_drawn_as_it_was_counted(store):
    found = count_coverage(store, dataflow="ws", layers="line")
    figure = plot.coverage(found)
    points = list(found.total.points.values())
    widths = [[bar.get_width() for bar in bars] for bars in figure.axes[0].containers]
    for place, point in enumerate(points):
        counts = point.counts
        drawn = [round(counts.bins * each[place]) for each in widths]
        assert drawn == [counts.hit, counts.unreachable, counts.missing]
    with pytest.raises(InputError, match="layer must be one of line, not x$"):
        plot.coverage(found, "x")
    (image,) = plot.pairs(found).axes[0].images
    pair = found.total.points["pair"]
    drawn = image.get_array().reshape(-1, image.get_array().shape[1], 4)
    red = np.isclose(drawn[..., :3], to_rgb(RED)).all(axis=-1) & (drawn[..., 3] == 1)
    assert red.sum() == pair.missing.sum()
    row, col, activation, weight = (int(place) for place in np.argwhere(pair.missing)[0])
    weights, activations = len(pair.axes["weight"]), len(pair.axes["activation"])
    assert list(pair.axes) == ["row", "col", "activation", "weight"]
    assert red[row * (weights + 1) + weight, col * (activations + 1) + activation]
    one = LayerCoverage("line", 2, {"pair": pair.over(["activation", "weight"])})  # as of many codes
    (image,) = plot.pairs(replace(found, layers=(one,))).axes[0].images
    assert image.get_array().shape[:2] == (weights, activations)
    red = np.isclose(image.get_array()[..., :3], to_rgb(RED)).all(axis=-1)
    assert np.array_equal(red, one.points["pair"].missing.T)


def test_edge_streams_are_skewed_and_the_store_s(store):
    values, valid = crossing(store, "line", image=1)["west"]
    tile = store.layer("line").activation_tile[1, 0]
    first = int(valid.any(axis=1).argmax())
    for lane in range(tile.shape[1]):  # lane l begins l cycles after lane 0
        run = slice(first + lane, first + lane + len(tile))
        assert valid[run, lane].all() and valid[:, lane].sum() == len(tile)
        assert np.array_equal(values[run, lane], tile[:, lane])
    figure = plot.edge_streams(store, "line", 1)
    assert [axes.get_title(loc="left").split()[0] for axes in figure.axes] == ["west", "north", "south"]
    shown = figure.axes[0].images[0].get_array()
    assert np.ma.count(shown) == len(figure.axes[0].texts) == valid[first : first + shown.shape[1]].sum()


def test_matplotlib_is_loaded_by_a_figure_alone_and_missed_in_one_line():
    code = (
        "import sys, factory.plot, factory.report\nassert 'matplotlib' not in sys.modules\n"
        "sys.modules['matplotlib'] = None\nfactory.plot.board([])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stderr.strip().endswith("InputError: figures need matplotlib: pip install 'factory[plot]'")
