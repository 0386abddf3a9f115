"""Tables for people: as wide as they need to be, or cut between groups of columns to fit a terminal."""

import os
import subprocess
import sys

import pytest
from helpers_network import tiny_network, trained_network

from factory.checkpoint import save_weights
from factory.summary import layer_table, summarize
from factory.tables import html_table, is_numeric, styled, table, wrapped

GROUPS = (("layer",), ("a", "b"), ("long heading",), ("c",))
ROWS = [("features.0", 1, 2, 3, 4), ("x", "-", 20, "", 400)]
WHOLE = """\
layer       a   b  long heading    c
features.0  1   2             3    4
x           -  20                400"""
CUT = """\
layer       a   b  long heading
features.0  1   2             3
x           -  20

layer         c
features.0    4
x           400"""


def test_a_table_is_one_where_it_fits():
    for width in (0, 36, 1000):
        assert table(GROUPS, ROWS, width) == WHOLE
    assert max(map(len, WHOLE.splitlines())) == 36


def test_a_table_is_cut_between_groups_where_it_does_not_fit():
    assert table(GROUPS, ROWS, 35) == CUT
    narrow = table(GROUPS, ROWS, 5)  # no group fits: each has a table
    assert narrow.count("layer") == 3
    assert table(GROUPS, []) == "layer  a  b  long heading  c"


def test_numbers_stand_at_the_right_and_texts_at_the_left():
    assert is_numeric(["-240..210 (9b)", "0..15 (4b)", "-"]) and is_numeric(["13.2 MB", "1", ""])
    assert is_numeric(["1e-05", "-3", "12 %"]) and not is_numeric(["-", ""]) and not is_numeric(["4x4", "1"])
    assert table((("name", "n", "map"),), [("a", 1, "4x4"), ("b", 20, "16x16")]) == (
        "name   n  map\na      1  4x4\nb     20  16x16"
    )


@pytest.mark.parametrize("width", [10, 40, 60])
def test_a_long_text_is_wrapped_where_the_terminal_is_narrower(width):
    note = "padding that is missing or on the wrong side at a border pixel: outputs move or are lost"
    text = table((("id",), ("note",)), [("border-3", note), ("zero", "-")], width)
    assert " ".join(line[10:].strip() for line in text.splitlines()[1:-1]) == note
    assert max(map(len, text.splitlines())) <= max(width, 30)  # a column of text keeps 20 places


def test_a_line_is_wrapped_at_a_terminal_s_width():
    assert wrapped("warning: features.27: a b", 21) == "warning: features.27:\n  a b"
    assert wrapped("x" * 90 + " y") == "x" * 90 + " y"


def test_headings_are_bold_on_a_terminal_alone(monkeypatch):
    text = "layer  a\nx      1\n\nlayer  b\nx      2"
    assert styled(text) == text  # no terminal
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    assert styled(text) == "\x1b[1mlayer  a\x1b[0m\nx      1\n\n\x1b[1mlayer  b\x1b[0m\nx      2"
    for name, value in dict(NO_COLOR="1", TERM="dumb").items():
        with monkeypatch.context() as context:
            context.setenv(name, value)
            assert styled(text) == text


def test_a_table_in_html_is_escaped_and_marks_its_numbers():
    text = html_table(("a<b", "n"), [("x & y", 3)], "c")
    assert "<caption>c</caption>" in text and "a&lt;b" in text and "x &amp; y" in text
    assert '<td class="n" align="right">3</td>' in text and text.count("<tr>") == 2
    assert "<tbody>" in html_table(("a",), [])


def show(path, **environment) -> str:
    environment = {name: value for name, value in os.environ.items() if name != "COLUMNS"} | environment
    command = [sys.executable, "-m", "factory", "show", path]
    return subprocess.run(command, capture_output=True, text=True, check=True, env=environment, timeout=100).stdout


def test_show_takes_the_columns_that_there_are(tmp_path):
    trained = trained_network(tiny_network())
    save_weights(trained, tmp_path / "w.safetensors")
    whole = layer_table(summarize(trained)) + "\n"
    assert max(map(len, whole.splitlines())) > 80
    assert show(tmp_path / "w.safetensors") == whole  # a pipe: what reads it wants one row a layer
    narrow = show(tmp_path / "w.safetensors", COLUMNS="80")
    assert max(map(len, narrow.splitlines())) <= 80
    assert set(narrow.split()) == set(whole.split())
