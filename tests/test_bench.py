"""The benchmark's arithmetic, and that what it compares the engine with computes the same psums."""

import json
import subprocess
import sys
from pathlib import Path

import bench_rivals
import numpy as np
import pytest
from bench_engine import Psums, engine_figures, growth_figures
from bench_figure import Figure, best_seconds, limit, slope, table
from bench_forms import form_figures
from helpers_network import integer_network, odd_network, random_pixels
from helpers_twin import twin_psums

from factory.arithmetic.tiling import tile_activation, tile_weight
from factory.engine import forward, layer_psums, prepare
from factory.spec import SystolicArray

SCRIPTS = Path(__file__).parents[1] / "scripts"
ARRAY = SystolicArray(4, 8)
LAYERS = [conv.name for conv in odd_network().layers]


def rival_case(name: str):
    """Return a layer, its codes for one image and its tiled weights `(it, ot, kij, row, col)`."""
    layer = integer_network(odd_network()).layers[name]
    conv = layer.spec
    shape = (conv.in_channels, conv.height, conv.width)
    codes = np.random.default_rng(0).integers(layer.activation_low.max(), 16, shape).astype(np.int16)
    return layer, codes, tile_weight(layer.weight, ARRAY).swapaxes(-1, -2).astype(np.float32)


@pytest.mark.parametrize("name", LAYERS)
def test_einsum_computes_the_same_psums(name):
    layer, codes, weight = rival_case(name)
    found = bench_rivals.einsum_psums(codes, weight, layer.spec, ARRAY)
    np.testing.assert_array_equal(found, twin_psums(layer, ARRAY, codes))


@pytest.mark.torch
@pytest.mark.parametrize("name", LAYERS)
def test_torch_computes_the_same_psums(name):
    layer, codes, weight = rival_case(name)
    found = bench_rivals.torch_psums(codes, bench_rivals.rival_weight(weight), layer.spec, ARRAY)
    assert found.dtype == np.int16 and found.flags.c_contiguous
    np.testing.assert_array_equal(found, twin_psums(layer, ARRAY, codes))


@pytest.mark.torch
def test_the_notebooks_loop_computes_the_same_psums():
    layer, codes, weight = rival_case(LAYERS[1])
    activation = tile_activation(codes, layer.spec, ARRAY)[0]
    found, seconds = bench_rivals.notebook_loop(activation, weight[0, 0, 0].T, 11)
    np.testing.assert_array_equal(found, twin_psums(layer, ARRAY, codes)[0, 0, 0, :11])
    assert seconds > 0


def test_psums_are_computed_anew():
    values = list(forward(prepare(integer_network(odd_network())), random_pixels(odd_network(), 1)))
    psums = Psums(values)
    before = [np.array(array) for array in psums.arrays]
    old = psums.arrays
    psums.compute()
    assert all(array.is_deleted() for array in old)
    for array, expected in zip(psums.arrays, before, strict=True):
        np.testing.assert_array_equal(array, expected)
    assert psums.nbytes == sum(array.nbytes for array in before)


@pytest.mark.parametrize("has_torch", [pytest.param(True, marks=pytest.mark.torch), False])
def test_the_engine_is_measured_on_any_network(has_torch, monkeypatch):
    monkeypatch.setattr("bench_engine.NOTEBOOK_CALLS", 20)
    monkeypatch.setattr("bench_engine.HAS_TORCH", has_torch)
    network = odd_network()
    figures = engine_figures(prepare(integer_network(network)), random_pixels(network, 1), 1)
    assert all(figure.measured > 0 and (figure.reference is None or figure.reference > 0) for figure in figures)
    assert [figure.target for figure in figures if figure.target] == [0.5, 10_000]
    assert len(figures) == 4 + 2 + has_torch + len(network.layers)
    (notebook,) = [figure for figure in figures if figure.target == 10_000]
    assert (notebook.ratio is None) != has_torch
    assert ("not measured: torch is not there" in table([notebook])) != has_torch


def test_a_folder_that_is_not_there_is_one_line(tmp_path):
    for script in ("bench.py", "bench_export.py"):
        command = [sys.executable, SCRIPTS / script, "--dir", tmp_path / "missing", "--quick"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=100)
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr == f"--dir must be a folder that exists, not {tmp_path}/missing\n"


@pytest.mark.parametrize(("array", "layers"), [(ARRAY, slice(3)), (SystolicArray(8, 8), slice(3, None))])
def test_every_form_gives_the_engines_values(array, layers, monkeypatch):
    monkeypatch.setattr("bench_forms.CACHE", 1000)
    values = list(forward(prepare(integer_network(odd_network()), array), random_pixels(odd_network(), 2)))[layers]
    figures = form_figures(values, 1)
    assert len(figures) == len(values) * (4 + 4 + 4)
    assert all(figure.ratio > 0 for figure in figures)


def test_a_form_that_gives_other_values_is_found(monkeypatch):
    values = list(forward(prepare(integer_network(odd_network())), random_pixels(odd_network(), 1)))
    monkeypatch.setattr("bench_forms.layer_psums", lambda layer, codes, reuse: layer_psums(layer, codes, reuse) + 1)
    with pytest.raises(ValueError, match=r"^psums of .*: \w.* must give the engine's values$"):
        form_figures(values, 1)


def test_the_bytes_of_psums_grow_as_they_must():
    images, channels, array = growth_figures(1)
    assert images.reference == pytest.approx(1)
    assert channels.reference == pytest.approx(2)
    assert array.reference == pytest.approx(-1)


# Figures


def test_ratios_and_targets():
    assert Figure("f", 3, 4, "GB/s", "r").passed is None
    assert (Figure("f", 3, 4, "GB/s", "r", 0.75).passed, Figure("f", 3, 4, "GB/s", "r", 0.76).passed) == (True, False)
    assert (limit("f", 2, 2, "s").passed, limit("f", 2.1, 2, "s").passed) == (True, False)
    assert json.loads(json.dumps(limit("f", 3, 2, "s").record()))["ratio"] == 1.5
    alone = Figure("f", 3, None, "s", "not measured: no r", 1)
    assert (alone.ratio, alone.passed, alone.record()["passed"]) == (None, None, None)


def test_table():
    figures = [
        Figure("fast", 1234.5, 10, "MB/s", "slow", 100),
        limit("small", 1, 4, "s"),
        Figure("plain", 1, 2, "", "x"),
        Figure("alone", 1, None, "s", "not measured: no x", 2),
    ]
    assert table(figures).splitlines()[2:] == [
        "| fast | 1,234 MB/s | 10.00 MB/s, slow | 123 | 100 | yes |",
        "| small | 1.00 s | 4.00 s, the limit | 0.25 | at most 1 | yes |",
        "| plain | 1.00 | 2.00, x | 0.50 |  |  |",
        "| alone | 1.00 s | not measured: no x |  | 2 |  |",
    ]


def test_slope_is_the_exponent():
    sizes = [1, 2, 4, 8]
    assert slope(sizes, [3 * size**1.5 for size in sizes]) == pytest.approx(1.5)


def test_every_round_runs_every_task():
    calls = []
    seconds = best_seconds(3, dict(a=lambda: calls.append("a"), b=lambda: calls.append("b")))
    assert calls == ["a", "b"] * 3
    assert set(seconds) == {"a", "b"} and all(taken >= 0 for taken in seconds.values())
