"""The measured tables: every wrong array, planted fault and noise, and the cause that is named."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from helpers_diagnose import NOISE, documented, line_of
from helpers_simulator import need
from mutants.array import MUTANTS
from mutants.causes import CAUSES, NOT_NAMED
from mutants.faults import FAULTS, PAIRS

HERE = Path(__file__).parent
TITLES = {
    "arrays": "Wrong arrays, simulated",
    "corner_arrays": "Wrong arrays, on the corner store",
    "faults": "Planted faults, on a trained layer",
    "corner_faults": "Planted faults, on the corner store",
}
"""The tables of the documentation, by what is measured."""
NOT_SEEN = {"activations have the other sign"}
"""Faults that change no word of the trained layer: none of this image's codes has the top bit."""
BY_NAME = {fault.what: fault for fault in (*FAULTS, *PAIRS)}


def measured(what: str) -> list[dict]:
    path = os.pathsep.join([str(HERE.parent), os.environ.get("PYTHONPATH", "")])
    command = [sys.executable, str(HERE / "measure_diagnosis.py"), what]
    done = subprocess.run(
        command, env=os.environ | {"PYTHONPATH": path, "OPENBLAS_NUM_THREADS": "1"}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.mark.slow
@pytest.mark.simulator
def test_the_causes_of_wrong_arrays_are_named():
    need("icarus")
    rows = measured("arrays")
    assert [(found["what"], found["flow"]) for found in rows] == list(CAUSES)
    causes = [CAUSES[found["what"], found["flow"]] for found in rows]
    assert [line_of(*pair) for pair in zip(rows, causes, strict=True)] == documented(TITLES["arrays"])
    assert [not found["names"] for found in rows] == [each == NOT_NAMED for each in causes]


@pytest.mark.slow
@pytest.mark.parametrize("what", ["faults", "corner_faults"])
def test_the_causes_of_planted_faults_are_named_and_noise_has_none(what):
    rows = measured(what)
    assert {found["what"] for found in rows} == {*BY_NAME, *NOISE}
    for found in rows:
        if found["what"] in NOISE:
            assert not found["names"], found
        elif found["what"] in {fault.what for fault in PAIRS}:
            assert found["pair"] == list(BY_NAME[found["what"]].causes), found
        elif found["names"]:
            assert (found["explained"], found["contradicted"]) == (found["wrong"], 0), found
    single = [found for found in rows if found["what"] in {fault.what for fault in FAULTS}]
    seen = [found for found in single if found["wrong"]]
    assert [line_of(found, BY_NAME[found["what"]].causes) for found in seen] == documented(TITLES[what])
    assert {found["what"] for found in single if not found["wrong"]} <= NOT_SEEN


@pytest.mark.parametrize("what", TITLES)
def test_nine_of_ten_are_named(what):
    assert {name for name, _ in CAUSES} == {mutant.what for mutant in MUTANTS}
    rows = documented(TITLES[what])
    assert len(rows) >= 38 and sum("| unknown |" not in row for row in rows) >= 0.9 * len(rows)
