import os

import pytest

from factory.cli.cache import use_compilation_cache

FOLDER, SECONDS = "JAX_COMPILATION_CACHE_DIR", "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"


@pytest.fixture(autouse=True)
def environment(monkeypatch, tmp_path):
    """Let each test set the environment, and put it back."""
    monkeypatch.setattr(os, "environ", dict(os.environ))
    for name in (FOLDER, SECONDS):
        os.environ.pop(name, None)
    os.environ["FACTORY_HOME"] = str(tmp_path)


def settings() -> tuple[str | None, str | None]:
    use_compilation_cache()
    return os.environ.get(FOLDER), os.environ.get(SECONDS)


def test_compiled_functions_lie_in_the_home(tmp_path):
    assert settings() == (str(tmp_path / "jax"), "0")
    assert not (tmp_path / "jax").exists()


def test_without_a_home_they_lie_in_the_users_cache(tmp_path, monkeypatch):
    del os.environ["FACTORY_HOME"]
    monkeypatch.setattr("platformdirs.user_cache_path", lambda name: tmp_path / "cache" / name)
    assert settings() == (str(tmp_path / "cache" / "factory" / "jax"), "0")


def test_what_the_user_has_set_stays():
    os.environ[FOLDER], os.environ[SECONDS] = "elsewhere", "5"
    assert settings() == ("elsewhere", "5")


def test_a_folder_that_cannot_be_made_is_no_error(tmp_path):
    (tmp_path / "file").write_text("")
    os.environ["FACTORY_HOME"] = str(tmp_path / "file")
    assert settings() == (None, None)


def test_a_folder_that_cannot_be_written_is_no_error(monkeypatch):
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    assert settings() == (None, None)
