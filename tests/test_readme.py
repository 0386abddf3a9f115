"""The README's promises: every command in it runs, in its order, and prints what the README shows."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from factory.cli.app import app

ROOT = Path(__file__).parent.parent
FENCE = re.compile(r"(?:<!-- needs: (?P<needs>\w+) -->\n)?```console\n(?P<body>.*?)```", re.DOTALL)
NEEDS = {
    "cifar": lambda: os.environ.get("FACTORY_CIFAR"),
    "reference": lambda: os.environ.get("FACTORY_REFERENCE"),
    "icarus": lambda: shutil.which("iverilog"),
}


def blocks() -> list[tuple[str | None, list[tuple[str, list[str]]]]]:
    """Return, for each console block, what it needs and its commands with the lines shown after each."""
    found = []
    for match in FENCE.finditer((ROOT / "README.md").read_text()):
        commands = []
        for line in match["body"].splitlines():
            if line.startswith("$ "):
                commands.append((line[2:], []))
            elif line.strip():
                commands[-1][1].append(line)
        found.append((match["needs"], commands))
    return found


def shows(expected: str, output: str) -> bool:
    """Whether a line of the output is the expected one, `...` standing for anything."""
    pattern = ".*".join(re.escape(part) for part in expected.rstrip().split("..."))
    return any(re.fullmatch(pattern, line.rstrip()) for line in output.splitlines())


@pytest.mark.slow
def test_every_command_of_the_readme_runs_and_prints_what_it_shows(tmp_path):
    home = tmp_path / "home"
    environment = os.environ | {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "FACTORY_HOME": str(home),
        "FACTORY_INSTALLED": "1",
        "COLUMNS": "200",
    }
    for name in ("scripts", "weights", "factory", "pyproject.toml"):
        (tmp_path / name).symlink_to(ROOT / name)
    ran = 0
    for needs, commands in blocks():
        if needs:
            if not (place := NEEDS[needs]()):
                continue
            environment[needs.upper()] = place
        for command, lines in commands:
            if command == "scripts/test":  # this very run
                continue
            done = subprocess.run(
                ["bash", "-ec", command], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300
            )
            assert done.returncode == 0, f"$ {command}\n{done.stdout}{done.stderr}"
            for line in lines:
                assert shows(line, done.stdout), f"$ {command}\nmust show:\n{line}\nbut shows:\n{done.stdout}"
            ran += 1
    assert ran >= 10


def test_every_command_of_the_tool_is_in_the_readme():
    def help_of(*names: str) -> str:
        return CliRunner().invoke(app, [*names, "--help"], catch_exceptions=False).stdout

    names = re.findall(r"^  (\w[\w-]*)  ", help_of().split("Commands:")[1], re.MULTILINE)
    assert len(names) >= 8
    text = (ROOT / "README.md").read_text()
    for name in names:
        assert f"factory {name}" in text, f"README.md must show `factory {name}`"
        assert len(help_of(name).splitlines()[2].strip()) > 20, f"{name} must have a line of help"
