"""A directory that appears whole or not at all."""

from __future__ import annotations

import os
import re
import secrets
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from factory.spec import InputError

_MARK = "factory"


@contextmanager
def whole_directory(target: Path, force: bool, check_ours: Callable[[Path], None]) -> Iterator[Path]:
    """Yield a new, hidden directory beside `target`, which takes its place when the block ends without an error.

    `target` must be absent or empty, or, with `force`, one that `check_ours` lets pass; else InputError is raised, as
    where the directory cannot be written. After an error nothing is left; after a kill, `target` is as it was or
    absent, and the next call removes what lies beside it.
    """
    target = target.resolve()
    _check(target, force, check_ours)
    made = [parent for parent in target.parents if not parent.exists()]
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        _remove_stale(target)
        temporary = _sibling(target)
        temporary.mkdir()
        try:
            yield temporary
            _check(target, force, check_ours)  # what came there meanwhile is not lost
            _replace(temporary, target)
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise
    except BaseException as error:
        for parent in made:
            with suppress(OSError):  # another export may have gone there meanwhile
                parent.rmdir()
        if isinstance(error, OSError) and error.errno:
            raise InputError(f"{target}: cannot be written: {error.strerror}") from None
        raise


def _check(target: Path, force: bool, check_ours: Callable[[Path], None]) -> None:
    for parent in target.parents:
        if parent.exists() and not parent.is_dir():
            raise InputError(f"{target}: the output must be in a directory, {parent} is a file")
    if not target.exists():
        return
    if not target.is_dir():
        raise InputError(f"{target}: the output must be a directory, it is a file")
    if target == Path.cwd():
        raise InputError(f"{target}: the output must not be the current directory, which cannot be replaced as a whole")
    if not any(target.iterdir()):
        return
    if not force:
        text = f"{target}: the output directory must be empty; add force to replace an earlier export"
        raise InputError(text, options=("force",))
    check_ours(target)


def _sibling(target: Path) -> Path:
    return target.with_name(f".{target.name}.{_MARK}-{os.getpid()}-{secrets.token_hex(4)}")


def _replace(temporary: Path, target: Path) -> None:
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
    pattern = re.compile(re.escape(f".{target.name}.{_MARK}-") + r"(\d+)-[0-9a-f]{8}")
    for sibling in target.parent.iterdir():
        match = pattern.fullmatch(sibling.name)
        if match and not _is_alive(int(match[1])):
            shutil.rmtree(sibling, ignore_errors=True)


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):  # no process has such a number
        return False
    except PermissionError:
        return True
    return True
