"""Where the default store lies: the checkout's `datasets/`, the user's cache directory, or FACTORY_HOME."""

from __future__ import annotations

import os
from pathlib import Path

_NAME = "default.h5"


def default_store() -> Path:
    """Return the path of the store that commands use when none is named; neither it nor its folder need be there."""
    if home := os.environ.get("FACTORY_HOME"):
        return Path(home) / _NAME
    checkout = Path(__file__).parents[2]
    if (checkout / "pyproject.toml").is_file() and (checkout / "datasets").is_dir():
        return checkout / "datasets" / _NAME
    from platformdirs import user_cache_path

    return user_cache_path("factory") / _NAME
