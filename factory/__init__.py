"""Golden vectors for systolic arrays: every psum of a quantized network, exact, in HDF5 and in memory files."""

from __future__ import annotations

from typing import Any

from factory.spec.errors import ComparisonError as ComparisonError
from factory.spec.errors import FactoryError as FactoryError
from factory.spec.errors import InputError as InputError

__version__ = "0.1.0"

_LAZY = {
    "open_store": ("factory.store", "open_store"),
    "plan_dataset": ("factory.dataset.planning", "plan_dataset"),
    "build_dataset": ("factory.dataset.engine", "build_dataset"),
    "open_dataset": ("factory.dataset", "open_dataset"),
    "load_weights": ("factory.checkpoint", "load_weights"),
    "import_checkpoint": ("factory.checkpoint", "import_checkpoint"),
    "lower_network": ("factory.lower", "lower"),
    "build_store": ("factory.build", "build"),
    "capture": ("factory.build.captured", "capture"),
    "corners": ("factory.build.synthetic", "corners"),
    "export_vectors": ("factory.export", "export"),
    "verify_store": ("factory.verify", "verify_store"),
    "verify_export": ("factory.verify", "verify_export"),
    "count_coverage": ("factory.coverage", "coverage"),
    "audit_overflow": ("factory.audit", "audit"),
    "write_report": ("factory.report", "report"),
}
"""Entry points by name: the module that has each, and its name there. None has the name of a module of the package."""


def __getattr__(name: str) -> Any:
    """Import the library's entry points when they are first used, so that `import factory` stays light."""
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    module, attribute = _LAZY[name]
    return getattr(import_module(module), attribute)


def __dir__() -> list[str]:
    return sorted([*globals(), *_LAZY])
