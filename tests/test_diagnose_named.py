"""The measured tables: every wrong array, planted fault and noise, and the cause that is named."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from helpers_diagnose import NOISE
from helpers_simulator import need
from mutants.array import MUTANTS
from mutants.causes import CAUSES, NOT_NAMED
from mutants.faults import FAULTS, PAIRS

HERE = Path(__file__).parent
DOCUMENTED = (HERE.parent / "factory" / "diagnose" / "measured.md").read_text().splitlines()
NOT_SEEN = {"activations have the other sign"}
"""Faults that change no word: none of this image's codes has the top bit."""


def measured(what: str) -> list[dict]:
    path = os.pathsep.join([str(HERE.parent), os.environ.get("PYTHONPATH", "")])
    command = [sys.executable, str(HERE / "measure_diagnosis.py"), what]
    done = subprocess.run(
        command, env=os.environ | {"PYTHONPATH": path, "OPENBLAS_NUM_THREADS": "1"}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def line_of(found: dict, causes: tuple[str, ...]) -> str:
    """Return the line of the documentation: the name that is right, if it is among those of the first place."""
    named = next((name for name in found["names"] if name.split(":")[0] in causes), "unknown")
    share = f"{found['explained']:,} of {found['wrong']:,}" if found["names"] else ""
    return f"| {found['what']} | {found['flow']} | {named} | {share} |"


@pytest.mark.slow
@pytest.mark.simulator
def test_the_causes_of_wrong_arrays_are_named():
    need("icarus")
    rows = measured("arrays")
    assert [(found["what"], found["flow"]) for found in rows] == list(CAUSES)
    for found in rows:
        causes = CAUSES[found["what"], found["flow"]]
        line = line_of(found, causes)
        assert line in DOCUMENTED
        assert ("| unknown |" in line) == (not found["names"]) == (causes == NOT_NAMED), found


@pytest.mark.slow
def test_the_causes_of_planted_faults_are_named_and_noise_has_none():
    by_name = {fault.what: fault for fault in (*FAULTS, *PAIRS)}
    rows = measured("faults")
    assert {found["what"] for found in rows} == {*by_name, *NOISE}
    for found in rows:
        if found["what"] in NOISE:
            assert not found["names"], found
        elif found["what"] in {fault.what for fault in PAIRS}:
            assert found["pair"] == list(by_name[found["what"]].causes), found
        elif found["what"] in NOT_SEEN:
            assert not found["wrong"], found
        else:
            assert line_of(found, by_name[found["what"]].causes) in DOCUMENTED
            assert (found["explained"], found["contradicted"]) == (found["wrong"], 0), found


def test_nine_of_ten_wrong_arrays_are_named():
    assert {what for what, _ in CAUSES} == {mutant.what for mutant in MUTANTS}
    by_axis = {mutant.what for mutant in MUTANTS if mutant.case == "by axis"}  # a square layer's words stay right
    square = [causes for (what, _), causes in CAUSES.items() if what not in by_axis]
    assert sum(causes != NOT_NAMED for causes in square) >= 0.9 * len(square)
