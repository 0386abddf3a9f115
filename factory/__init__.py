"""Golden vectors for systolic arrays: every psum of a quantized network, exact, in HDF5 and in memory files."""

from __future__ import annotations

from typing import Any

from factory.spec.errors import ComparisonError as ComparisonError
from factory.spec.errors import FactoryError as FactoryError
from factory.spec.errors import InputError as InputError

__version__ = "0.1.0"

_LAZY = {
    "open_store": "factory.store",
    "load_weights": "factory.checkpoint",
    "import_checkpoint": "factory.checkpoint",
    "lower": "factory.lower",
    "build": "factory.build",
    "export": "factory.export",
    "verify_store": "factory.verify",
    "verify_export": "factory.verify",
}


def __getattr__(name: str) -> Any:
    """Import the library's entry points when they are first used, so that `import factory` stays light."""
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_LAZY[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_LAZY])
