"""Where JAX keeps what it compiled for the command line, so that the next command need not compile it again."""

from __future__ import annotations

import os
from pathlib import Path

_SETTINGS = {"JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}  # a network is many functions, each compiled quickly


def use_compilation_cache() -> None:
    """Have JAX, which reads its settings when it is imported, keep compiled functions in a folder of ours.

    It is `jax` in FACTORY_HOME, or in the user's cache directory. Nothing is done where it cannot be written. What the
    user has set stays.
    """
    from platformdirs import user_cache_path

    home = os.environ.get("FACTORY_HOME")
    folder = (Path(home) if home else user_cache_path("factory")).absolute() / "jax"
    existing = next((path for path in (folder, *folder.parents) if os.access(path, os.F_OK)), folder)
    if os.access(existing, os.W_OK | os.X_OK) and existing.is_dir():
        for name, value in dict(JAX_COMPILATION_CACHE_DIR=str(folder), **_SETTINGS).items():
            os.environ.setdefault(name, value)
