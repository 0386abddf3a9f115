"""Work that is done beside the writing of files, each kind on a thread of its own."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

MOST_PENDING = 4
Item = TypeVar("Item")
_END = object()


class Beside:
    """Two threads, one that makes what is to be written and one that hashes what is written; a context manager."""

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
