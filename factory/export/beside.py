"""Work that goes with the writing of files: beside it, each kind on a thread of its own, or in turn with it."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

MOST_PENDING = 4
Item = TypeVar("Item")
_END = object()


class Beside:
    """Two threads, one that makes what is to be written and one that hashes what is written; a context manager.

    One of `buffers` is being written while the next one is made, and up to `MOST_PENDING` wait to be hashed.
    """

    buffers = MOST_PENDING + 3

    def __init__(self):
        self._maker, self._hasher = ThreadPoolExecutor(1), ThreadPoolExecutor(1)
        self._pending: deque[Future] = deque()

    def __enter__(self) -> Beside:
        return self

    def __exit__(self, *exception: object) -> None:
        self._maker.shutdown()
        self._hasher.shutdown()

    def ahead(self, items: Iterator[Item]) -> Iterator[Item]:
        """Yield the items, the next one being made while one is used."""
        made = self._maker.submit(next, items, _END)
        while (item := made.result()) is not _END:
            made = self._maker.submit(next, items, _END)
            yield item

    def update(self, hash: Any, piece: bytes | memoryview) -> None:
        """Update a hash of `hashlib` with bytes that stay as they are for `MOST_PENDING` more calls."""
        if len(self._pending) == MOST_PENDING:
            self._pending.popleft().result()
        self._pending.append(self._hasher.submit(hash.update, piece))

    def finish_hashes(self) -> None:
        """Wait until every hash has all that it was given."""
        while self._pending:
            self._pending.popleft().result()


class InTurn:
    """The same on the calling thread, one thing after the other: for many writers, each on a thread of its own."""

    buffers = 1

    def __enter__(self) -> InTurn:
        return self

    def __exit__(self, *exception: object) -> None:
        pass

    def ahead(self, items: Iterator[Item]) -> Iterator[Item]:
        """Return the items."""
        return items

    def update(self, hash: Any, piece: bytes | memoryview) -> None:
        """Update a hash of `hashlib`."""
        hash.update(piece)

    def finish_hashes(self) -> None:
        """Do nothing: every hash has all that it was given."""
