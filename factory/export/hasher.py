"""Hashes that are computed beside the formatting and the writing of what is hashed."""

from __future__ import annotations

from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

MOST_PENDING = 4


class Hasher:
    """A thread that updates hashes in the order of the calls; a context manager."""

    def __init__(self):
        self._thread = ThreadPoolExecutor(1)
        self._pending: deque[Future] = deque()

    def __enter__(self) -> Hasher:
        return self

    def __exit__(self, *exception: object) -> None:
        self._thread.shutdown()

    def update(self, hash: Any, piece: bytes | memoryview) -> None:
        """Update a hash of `hashlib` with bytes that stay as they are for `MOST_PENDING` more calls."""
        if len(self._pending) == MOST_PENDING:
            self._pending.popleft().result()
        self._pending.append(self._thread.submit(hash.update, piece))

    def finish(self) -> None:
        """Wait until every hash has all that it was given."""
        while self._pending:
            self._pending.popleft().result()
