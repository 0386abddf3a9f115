"""The selection of a synthetic store's layers and images by their flags."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from factory.spec import ConvLayer, InputError


def with_flags(
    source: Any, flags: str, specs: tuple[ConvLayer, ...], images: tuple[int, ...]
) -> tuple[tuple[ConvLayer, ...], tuple[int, ...]]:
    """Return the layers that have one of the flags, and the images that have one, of those that are chosen."""
    patterns = {name: getattr(layer, "pattern", None) for name, layer in source.layers.items()}
    of_layers = {name: pattern.flags for name, pattern in patterns.items() if pattern}
    of_images = {place: pattern.flags for place, pattern in enumerate(getattr(source.images, "patterns", ()))}
    known = sorted({flag for held in (*of_layers.values(), *of_images.values()) for flag in held})
    words = [word.strip() for word in flags.split(",") if word.strip()]
    wrong = [word for word in words if word not in known]
    if wrong or not words:
        raise InputError(f"flags must be of {' '.join(known) or 'a synthetic store'}, not {flags}")
    chosen = _having(words, of_layers, [spec.name for spec in specs])
    places = _having(words, of_images, images)
    if not chosen or not places:
        none = "image" if chosen else "layer"
        raise InputError(f"flags must select at least one of the chosen {none}s, {flags} selects none")
    return tuple(spec for spec in specs if spec.name in chosen), tuple(places)


def _having(words: list[str], flags: Mapping[Any, tuple[str, ...]], chosen: Sequence[Any]) -> list[Any]:
    """Return those of `chosen` that have one of the words; all of them where no word is a flag of their kind."""
    if not any(set(words) & set(held) for held in flags.values()):
        return list(chosen)
    return [key for key in chosen if set(words) & set(flags[key])]
