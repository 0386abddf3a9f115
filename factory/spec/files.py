"""Files that have their name only when they are whole."""

from __future__ import annotations

import os
from pathlib import Path

from factory.spec.errors import InputError


def write_whole(path: Path, contents: bytes) -> None:
    """Write a file, or nothing: it is written beside its place and moved there.

    Raise InputError where it cannot be written; nothing is left then, and what was there before stays.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        try:
            temporary.write_bytes(contents)
            temporary.replace(path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
    except OSError as error:
        raise InputError(f"{path}: must be writable: {error.strerror}") from None
