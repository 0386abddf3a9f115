"""The wheel: it carries everything that the package reads, and works without a checkout."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
DATA = {".toml", ".sv", ".json"}


@pytest.mark.slow
def test_a_wheel_carries_weights_profiles_sources_and_schemas(tmp_path):
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    subprocess.run([*pip, "--wheel-dir", tmp_path, ROOT], check=True, capture_output=True, cwd=tmp_path)
    (wheel,) = tmp_path.glob("factory-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        archive.extractall(tmp_path / "site")
    expected = {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "factory").rglob("*")
        if path.suffix in DATA | {".py"} and path.relative_to(ROOT).parts[1] != "_data"
    }
    assert len([name for name in expected if not name.endswith(".py")]) > 20
    assert expected <= names
    assert {f"factory/_data/{name}.safetensors" for name in ("vgg16_w4a4", "resnet20_w4a4")} <= names
    environment = os.environ | {"PYTHONPATH": str(tmp_path / "site"), "FACTORY_HOME": str(tmp_path / "home")}
    shown = (["show"], "features.27"), (["show", "resnet20"], "layer2.0.downsample.0"), (["profiles"], "simd2-even")
    for arguments, words in shown:
        shown = subprocess.run(
            [sys.executable, "-m", "factory", *arguments],
            check=True, capture_output=True, text=True, cwd=tmp_path, env=environment,
        )  # fmt: skip
        assert words in shown.stdout
    where = subprocess.run(
        [sys.executable, "-c", "import factory; print(factory.__file__)"],
        check=True, capture_output=True, text=True, cwd=tmp_path, env=environment,
    )  # fmt: skip
    assert Path(where.stdout.strip()).is_relative_to(tmp_path)
