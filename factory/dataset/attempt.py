"""Attempts to make files of a dataset: each in a folder of its own, and moved to its place when it is whole.

No lock is taken. Files are on the disk before they are moved, one at a time, and the one that says so comes last. So a
process may be killed anywhere, and two that make the same put the same bytes in the same place.
"""

from __future__ import annotations

import hashlib
import os
import re
import secrets
import shutil
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from factory.spec import InputError, is_alive
from factory.store.writer import reach_disk

ATTEMPTS = "attempts"


def publish(target: Path, files: Sequence[Path]) -> None:
    """Move files to their place, the last one once the others are on the disk there."""
    target.mkdir(exist_ok=True)
    reach_disk(*files)
    for path in files[:-1]:
        path.replace(target / path.name)
    reach_disk(target)
    files[-1].replace(target / files[-1].name)
    reach_disk(target)


def file_sha256(path: Path) -> str:
    """Return the sha256 (hex) of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def attempt(folder: Path, name: str) -> Iterator[Path]:
    """Yield a new folder for one attempt at what is called `name`, a shard or the seal.

    Attempts of processes of this machine that are dead go before, so that they take no room on a full disk; once one
    has succeeded, all go, also those of other machines, of which nobody can tell whether they are dead. So an attempt
    that fails may have been overtaken. Raise InputError for what the system says of files.
    """
    host = re.sub(r"[^A-Za-z0-9-]", "_", socket.gethostname())
    attempts = folder / ATTEMPTS
    scratch = attempts / f"{name}.{host}.{os.getpid()}.{secrets.token_hex(4)}"
    try:
        for path in attempts.glob(f"{name}.{host}.*"):
            process = path.name.split(".")[2]
            if process.isdigit() and not is_alive(int(process)):
                shutil.rmtree(path, ignore_errors=True)
        scratch.mkdir(parents=True)
        yield scratch
        for path in attempts.glob(f"{name}.*"):
            shutil.rmtree(path, ignore_errors=True)
    except OSError as error:
        raise InputError(f"{folder}: must be writable: {error.strerror or error}") from None
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
