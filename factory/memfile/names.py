"""File names from templates: `{it}` an index, `[_tile{pt}]` a part that is there only where several `pt` are."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable

from factory.spec import InputError

_SUFFIX = {"it": "_itile{it}", "pt": "_tile{pt}", "ot": "_otile{ot}"}
_OPTIONAL = re.compile(r"\[([^\[\]]*)\]")
_FIELD = re.compile(r"\{([^{}]*)\}")
TEXT_EXTENSION = ".txt"


def template_fields(template: str) -> tuple[str, ...]:
    """Return the names in a template's braces, in order."""
    return tuple(_FIELD.findall(template))


def check_template(template: str, known: Iterable[str]) -> None:
    """Raise InputError unless a template is a plain file name whose fields are all `known`."""
    plain = _FIELD.sub("0", _OPTIONAL.sub(r"\1", template))
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.\-]*", plain):
        raise InputError(f"file must be a plain file name with fields in braces, not {template!r}")
    known = tuple(known)
    for field in template_fields(template):
        if field not in known:
            raise InputError(f"file must have fields of {' '.join(known)}, not {field}")


def complete_template(template: str, axes: Iterable[str], several: Collection[str], extension: str) -> str:
    """Return the template as a plain format string for files that are selected by `axes`.

    An axis that the template does not name gets a part of its own at the end, there where the axis holds `several`.
    `extension` takes the place of `.txt`.
    """
    stem, dot, rest = template.rpartition(".")
    stem, tail = (stem, dot + rest) if dot else (template, "")
    fields = template_fields(template)
    for axis in axes:
        if axis not in fields:
            stem += f"[{_SUFFIX.get(axis, f'_{axis}{{{axis}}}')}]"
    stem = _OPTIONAL.sub(lambda part: part[1] if set(several) & set(template_fields(part[1])) else "", stem)
    return stem + (extension if tail == TEXT_EXTENSION else tail)
