"""JSON too large for memory: values read one after the other, of which only the one at hand is kept."""

from __future__ import annotations

import json
from collections.abc import Iterator
from io import TextIOBase
from typing import Any

PIECE = 1 << 20
_AFTER_VALUE = tuple(", ]}:\t\n\r")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        key = next(key for place, (key, _) in enumerate(pairs) if key in dict(pairs[:place]))
        raise ValueError(f"an object must have each key once, not {json.dumps(key)} twice")
    return found


_DECODER = json.JSONDecoder(object_pairs_hook=_object)


class JsonReader:
    """Reads a JSON text from its beginning to its end, `piece` characters at a time or as many as a value needs.

    What is not JSON raises ValueError, lists and objects nested too deeply RecursionError.
    """

    def __init__(self, file: TextIOBase, piece: int = PIECE):
        self._file, self._piece = file, piece
        self._text, self._at, self._before = "", 0, 0

    def value(self) -> Any:
        """Read a value."""
        self.peek()
        while True:
            try:
                value, end = _DECODER.raw_decode(self._text, self._at)
            except json.JSONDecodeError as error:
                if self._more():
                    continue
                raise self._error(error.msg, error.pos) from None
            if self._text[end : end + 1] in _AFTER_VALUE or not self._more():  # a number may go on in the next piece
                self._at = end
                return value

    def items(self) -> Iterator[Any]:
        """Read a list, item by item."""
        for _ in self._parts("[", "]"):
            yield self.value()

    def keys(self) -> Iterator[str]:
        """Read an object, key by key; whoever takes a key must then read its value."""
        seen = set()
        for _ in self._parts("{", "}"):
            key = self.value()
            if not isinstance(key, str) or key in seen:
                raise self._error(f"an object must have strings as keys, each once, not {json.dumps(key)}", self._at)
            seen.add(key)
            self._take(":")
            yield key

    def end(self) -> None:
        """Raise ValueError unless nothing follows but white space."""
        if self.peek():
            raise self._error("nothing must follow", self._at)

    def peek(self) -> str:
        """Return the next character that is no white space, without reading it; nothing at the end."""
        while True:
            while self._at < len(self._text) and self._text[self._at] in " \t\n\r":
                self._at += 1
            if self._at < len(self._text):
                return self._text[self._at]
            if not self._more():
                return ""

    def _parts(self, opening: str, closing: str) -> Iterator[None]:
        self._take(opening)
        if self.peek() == closing:
            self._take(closing)
            return
        yield
        while self._take("," + closing) == ",":
            yield

    def _take(self, allowed: str) -> str:
        found = self.peek()
        if not found or found not in allowed:
            raise self._error(f"there must be {' or '.join(allowed)}, not {found or 'the end'}", self._at)
        self._at += 1
        return found

    def _more(self) -> bool:
        """Read on, twice as much as there is, so that a long value is not begun anew too often; False at the end."""
        read = self._file.read(max(self._piece, len(self._text) - self._at))
        if read:
            self._before += self._at
            self._text, self._at = self._text[self._at :] + read, 0
        return bool(read)

    def _error(self, text: str, at: int) -> ValueError:
        return ValueError(f"{text} (character {self._before + at})")
