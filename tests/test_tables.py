"""Tables for people: as wide as they need to be, or cut between groups of columns to fit a terminal."""

import os
import subprocess
import sys

from helpers_network import tiny_network, trained_network

from factory.checkpoint import save_weights
from factory.summary import layer_table, summarize
from factory.tables import table

GROUPS = (("layer",), ("a", "b"), ("long heading",), ("c",))
ROWS = [("features.0", 1, 2, 3, 4), ("x", "-", 20, "", 400)]
WHOLE = """\
layer       a  b   long heading  c
features.0  1  2   3             4
x           -  20                400"""
CUT = """\
layer       a  b   long heading
features.0  1  2   3
x           -  20

layer       c
features.0  4
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
