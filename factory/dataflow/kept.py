"""Properties that are computed once, without a lock."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


class kept:
    """A property whose first value is kept by its object.

    `functools.cached_property` does the same, but until Python 3.12 one lock serves all objects of a class: threads,
    each with an object of its own, would wait for each other.
    """

    def __init__(self, compute: Callable[[Any], Any]):
        self._compute = compute
        self.__doc__ = compute.__doc__

    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        if instance is None:
            return self
        value = instance.__dict__[self._compute.__name__] = self._compute(instance)
        return value
