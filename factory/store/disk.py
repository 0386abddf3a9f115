"""The folder in which a store is built: held by one process, and on the disk when that is said."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from factory.spec import InputError

flush = getattr(os, "fdatasync", os.fsync)  # macOS has no fdatasync


@contextlib.contextmanager
def input_errors(path: Path) -> Iterator[None]:
    """Raise InputError that names `path` for what the system says of files."""
    try:
        yield
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else str(error).partition("\n")[0]
        raise InputError(f"{path}: must be writable: {reason}") from None


@contextlib.contextmanager
def hold(path: Path, partial: Path) -> Iterator[None]:
    """Hold the folder for this process alone; the system lets go of it however the process ends."""
    with input_errors(path):
        folder = os.open(partial, os.O_RDONLY)
    try:
        if not _is_locked(folder, partial):
            raise InputError(f"{path}: another build is writing it now")
        yield
    finally:
        os.close(folder)


def _is_locked(folder: int, partial: Path) -> bool:
    """Lock an open folder; return whether that could be done, and the folder is still the one that has the name."""
    try:
        fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return os.path.samestat(os.fstat(folder), partial.stat())
    except (BlockingIOError, FileNotFoundError):
        return False


def boot() -> str:
    """Return a name of this start of the machine: what a killed process wrote outlives the process, not a power cut.

    Empty where the system has none: there a commit waits for the disk.
    """
    path = Path("/proc/sys/kernel/random/boot_id")
    return path.read_text().strip() if path.exists() else ""


def reach_disk(*paths: Path) -> None:
    """Wait until the contents of files, and the names in folders, are on the disk."""
    for path in paths:
        file = os.open(path, os.O_RDONLY)
        try:
            os.fsync(file)
        finally:
            os.close(file)
