"""The project's shape: imports go down the floors only, modules stay short, and importing stays light."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from factory.dataflow import DATAFLOWS, ROLES

PACKAGE = Path(__file__).parent.parent / "factory"
FLOORS = (
    {"spec"},  # the words, which every other module uses
    {"tables"},
    {"arithmetic", "quant"},
    {"model", "images", "lower", "dataflow"},
    {"engine", "memfile", "manifest", "checkpoint"},
    {"store", "fileplan"},
    {"testbench", "readers", "audit", "synthetic", "waves"},
    {"coverage"},
    {"build", "export", "verify", "summary", "simulate", "diagnose", "evaluate", "train"},
    {"dataset"},
    {"plot"},
    {"report"},
    {"cli", "cocotb"},
)
FLOOR = {name: floor for floor, names in enumerate(FLOORS) for name in names}
FILES = sorted(path for path in PACKAGE.rglob("*.py") if path.parent != PACKAGE or not path.name.startswith("__"))


def module_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported_modules(path: Path) -> set[str]:
    """Return the package's modules that a file imports, anywhere in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports must be absolute"
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        else:
            continue
        found.update(name.split(".")[1] for name in names if name.startswith("factory."))
    return {name for name in found if name in FLOOR or (PACKAGE / name).is_dir() or (PACKAGE / f"{name}.py").is_file()}


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_go_down_the_floors(path):
    module = module_of(path)
    assert module in FLOOR, f"{module} must stand on a floor"
    for name in imported_modules(path) - {module}:
        assert name in FLOOR, f"{module} imports {name}, which stands on no floor"
        assert FLOOR[name] < FLOOR[module], f"{module} (floor {FLOOR[module]}) imports {name} (floor {FLOOR[name]})"


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_modules_are_short_and_say_what_they_are(path):
    text = path.read_text()
    assert len(text.splitlines()) <= 400
    assert ast.get_docstring(ast.parse(text)), f"{path} must open with a line that says what it is"


@pytest.mark.parametrize(
    "code",
    [
        "import factory",
        "import factory.cli",
        "import factory.export, factory.verify, factory.store, factory.checkpoint, factory.lower",
        "import factory.dataset, factory.dataset.engine, factory.dataset.planning, factory.cli.datasets",
    ],
)
def test_light_imports_load_nothing_heavy(code):
    heavy = "{'jax', 'flax', 'torch', 'matplotlib', 'xarray', 'orbax', 'optax', 'onnx', 'dask', 'distributed'}"
    check = f"{code}\nimport sys\nloaded = {heavy} & set(sys.modules)\nassert not loaded, loaded"
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


TABLES = {PACKAGE / "verify" / "dataflows.py", *(PACKAGE / "dataflow").glob("*.py")}
"""Where dataflows and roles are told apart: the product's tables, and the verifier's own on purpose."""


NAMES = {*ROLES, *DATAFLOWS, *(role.old_name for role in ROLES.values())} - {""}


def compared_names(code: str) -> list[tuple[int, set[str]]]:
    """Return the lines of comparisons with, and matches of, names of roles or dataflows."""
    found = []
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, (ast.Compare, ast.match_case)):
            leaves = ast.walk(getattr(node, "pattern", node))
            names = {leaf.value for leaf in leaves if isinstance(leaf, ast.Constant) and leaf.value in NAMES}
            if names:
                found.append((getattr(node, "lineno", 0), names))
    return found


@pytest.mark.parametrize("path", sorted(set(FILES) - TABLES), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_nothing_branches_on_the_name_of_a_role_or_a_dataflow(path):
    assert compared_names(path.read_text()) == []


def test_the_search_for_branches_finds_them():
    assert compared_names('a == "ws"\nb in ("psum", "x")') == [(1, {"ws"}), (2, {"psum"})]
    assert compared_names('match c:\n    case "is":\n        pass\n') == [(0, {"is"})]
    assert compared_names('d["out"] == 3 or e == "outer"') == [(1, {"out"})] and not compared_names('f("ws")')
