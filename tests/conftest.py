"""What every test runs under: strict JAX promotion, shapes and dtypes checked, and where the optional data is."""

import os
import tempfile
from pathlib import Path

import hypothesis
import jax
import jaxtyping
import pytest
from jaxtyping import install_import_hook

os.environ.pop("JAX_ENABLE_COMPILATION_CACHE", None)
if "PYTEST_XDIST_WORKER" not in os.environ:  # one run compiles each function once: its workers and commands share that
    _compiled = tempfile.TemporaryDirectory(prefix="factory-tests-", ignore_cleanup_errors=True)
    os.environ["JAX_COMPILATION_CACHE_DIR"] = _compiled.name
    os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
    os.environ["JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES"] = "-1"
install_import_hook("factory", "beartype.beartype")
hypothesis.settings.register_profile("factory", deadline=None)  # a busy machine is no failure
hypothesis.settings.load_profile("factory")
jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")


def _folder(variable: str, what: str) -> Path:
    value = os.environ.get(variable)
    if not value or not Path(value).is_dir():
        pytest.skip(f"{variable} does not name a folder with {what}")
    return Path(value)


@pytest.fixture(scope="session")
def reference() -> Path:
    """Return the folder of the reference checkpoint, codes and memory files, or skip."""
    return _folder("FACTORY_REFERENCE", "the reference checkpoint and files")


@pytest.fixture(scope="session")
def cases(reference) -> Path:
    """Return the folder of small inputs with their right answers, beside the reference, or skip."""
    folder = reference.parent / "cases"
    if not folder.is_dir():
        pytest.skip(f"{folder} is not there")
    return folder


@pytest.fixture(scope="session")
def cifar() -> Path:
    """Return the folder of CIFAR-10's binary files, or skip."""
    return _folder("FACTORY_CIFAR", "CIFAR-10's binary files")


@pytest.fixture(scope="session")
def shown(tmp_path_factory):
    """Return what reports and figures are of, as `helpers_report.Shown` names it; no test changes it."""
    from helpers_report import make_shown

    return make_shown(tmp_path_factory.mktemp("shown"))


@pytest.fixture(autouse=True)
def _untyped(request):
    """Leave the checks of shapes and dtypes out of a test that is marked `untyped`: it calls thousands of functions."""
    wanted = request.node.get_closest_marker("untyped") is not None
    jaxtyping.config.update("jaxtyping_disable", wanted)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    """Let a skip count as a failure where `FACTORY_NO_SKIP` says that everything a test may need is there."""
    report = yield
    if report.skipped and os.environ.get("FACTORY_NO_SKIP"):
        report.outcome = "failed"
    return report
