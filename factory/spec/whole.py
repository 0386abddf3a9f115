"""Files and folders that have their name only when they are whole."""

from __future__ import annotations

import os
import re
import secrets
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from factory.spec.errors import InputError


def write_whole(path: Path, contents: bytes) -> None:
    """Write a file, or nothing: it is written beside its place and moved there.

    What is there and is no file, such as a pipe or `/dev/stdout`, is written to as it is. Raise InputError where it
    cannot be written; nothing is left then, and what was there before stays.
    """
    temporary = path.parent / f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}"
    try:
        if path.exists() and not path.is_file():
            path.write_bytes(contents)
            return
        try:
            temporary.write_bytes(contents)
            temporary.replace(path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
    except OSError as error:
        raise InputError(f"{path}: must be writable: {error.strerror}") from None


@contextmanager
def whole_folder(target: Path, check: Callable[[], None] = lambda: None) -> Iterator[Path]:
    """Yield a new, hidden folder beside `target`, which takes its place when the block ends without an error.

    What is there then is replaced, unless `check`, which is called just before, raises an error. After an error nothing
    is left, also none of the folders above `target` that were missing; after a kill, `target` is as it was or absent,
    and the next call removes what lies beside it.
    """
    made = [parent for parent in target.parents if not parent.exists()]
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        _remove_stale(target)
        temporary = _sibling(target)
        temporary.mkdir()
        try:
            yield temporary
            check()
            _replace(temporary, target)
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise
    except BaseException:
        for parent in made:
            with suppress(OSError):  # something else may have gone there meanwhile
                parent.rmdir()
        raise


def _sibling(target: Path) -> Path:
    return target.with_name(f".{target.name}.factory-{os.getpid()}-{secrets.token_hex(4)}")


def _replace(temporary: Path, target: Path) -> None:
    """Move a folder to its place. An old one goes aside first: a rename replaces no folder that is not empty."""
    if not target.exists():
        temporary.rename(target)
        return
    old = _sibling(target)
    target.rename(old)
    try:
        temporary.rename(target)
    except BaseException:
        old.rename(target)
        raise
    shutil.rmtree(old, ignore_errors=True)


def _remove_stale(target: Path) -> None:
    """Remove what earlier calls for `target` left beside it when they were killed."""
    pattern = re.compile(re.escape(f".{target.name}.factory-") + r"(\d+)-[0-9a-f]{8}")
    for sibling in target.parent.iterdir():
        match = pattern.fullmatch(sibling.name)
        if match and not is_alive(int(match[1])):
            shutil.rmtree(sibling, ignore_errors=True)


def is_alive(process: int) -> bool:
    """Return whether a process of this machine is running."""
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):  # no process has such a number
        return False
    except PermissionError:
        return True
    return True
