"""The folder of an export, which appears whole or not at all, and what it may take the place of."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from factory.spec import InputError, whole_folder


@contextmanager
def whole_directory(target: Path, force: bool, check_ours: Callable[[Path], None]) -> Iterator[Path]:
    """Yield a new, hidden directory beside `target`, which takes its place when the block ends without an error.

    `target` must be absent or empty, or, with `force`, one that `check_ours` lets pass; else InputError is raised, as
    where the directory cannot be written. After an error nothing is left; after a kill, `target` is as it was or
    absent, and the next call removes what lies beside it.
    """
    target = target.resolve()
    _check(target, force, check_ours)
    try:
        # checked once more at the end: what came there meanwhile is not lost
        with whole_folder(target, lambda: _check(target, force, check_ours)) as root:
            yield root
    except OSError as error:
        if error.errno:
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
