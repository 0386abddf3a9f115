"""How long work reports where it is."""

from __future__ import annotations

from collections.abc import Callable

Progress = Callable[[int, int, str], None]
"""Called with what is done, what there is in all (in the same unit), and what is being worked on."""
