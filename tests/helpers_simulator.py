"""Simulators in tests: compile once, run often; skipped with the reason where there is none, never skipped in CI."""

from __future__ import annotations

import os

import pytest

from factory.simulate import SIMULATORS, Simulator


def need(name: str) -> Simulator:
    """Return an installed simulator, or skip; fail where the variable CI is set."""
    simulator = SIMULATORS[name]
    if not simulator.installed:
        reason = f"needs {name}: apt install {simulator.package}"
        pytest.fail(reason) if os.environ.get("CI") else pytest.skip(reason)
    return simulator
