"""The manifest's published schema, and what checks a manifest by it.

`check_schema` validates the part of JSON Schema (2020-12) that the schema uses.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Any

from factory.spec import ComparisonError

_TYPES = {
    "object": dict, "array": list, "string": str, "integer": int, "boolean": bool, "null": type(None),
}  # fmt: skip
KEYWORDS = frozenset(
    "$ref type const enum required properties additionalProperties items minItems maxItems minimum pattern".split()
)
NOTES = frozenset("$schema $defs title description".split())


@cache
def manifest_schema() -> Mapping[str, Any]:
    """Return the published schema of `manifest.json`; roles and dataflows are those of the tables."""
    return json.loads((files("factory") / "schemas" / "manifest.schema.json").read_text())


def check_schema(value: Any, schema: Mapping[str, Any], root: Mapping[str, Any], where: str) -> None:
    """Raise ComparisonError, with the place below `where`, unless a value is what a schema says."""
    if "$ref" in schema:
        target = root
        for key in schema["$ref"].removeprefix("#/").split("/"):
            target = target[key]
        check_schema(value, target, root, where)
    _check_scalar(value, schema, where)
    if isinstance(value, dict):
        _check_object(value, schema, root, where)
    if isinstance(value, list):
        least, most = schema.get("minItems", 0), schema.get("maxItems")
        if len(value) < least or (most is not None and len(value) > most):
            expected = f"at least {least}" if most is None else f"{least} to {most}"
            raise ComparisonError(f"{where}: must hold {expected} items, not {len(value)}")
        if "items" in schema:
            for place, item in enumerate(value):
                check_schema(item, schema["items"], root, f"{where}[{place}]")


def _check_scalar(value: Any, schema: Mapping[str, Any], where: str) -> None:
    kinds = schema.get("type", ())
    kinds = (kinds,) if isinstance(kinds, str) else kinds
    if kinds and type(value) not in [_TYPES[kind] for kind in kinds]:
        raise ComparisonError(f"{where}: must be of type {' or '.join(kinds)}, not {_shown(value)}")
    allowed = schema.get("enum", [schema["const"]] if "const" in schema else None)
    if allowed is not None and not any(type(value) is type(item) and value == item for item in allowed):
        raise ComparisonError(f"{where}: must be one of {' '.join(map(str, allowed))}, not {_shown(value)}")
    if isinstance(value, str) and not value.isprintable():
        raise ComparisonError(f"{where}: must be text that can be printed, not {value!a}")
    if "minimum" in schema and isinstance(value, int) and value < schema["minimum"]:
        raise ComparisonError(f"{where}: must be at least {schema['minimum']}, not {value}")
    if "pattern" in schema and not re.search(schema["pattern"], value):
        raise ComparisonError(f"{where}: must match {schema['pattern']}, not {value!r}")


def _check_object(value: dict[str, Any], schema: Mapping[str, Any], root: Mapping[str, Any], where: str) -> None:
    for key in schema.get("required", ()):
        if key not in value:
            raise ComparisonError(f"{where}: must have the key {key}")
    known, others = schema.get("properties", {}), schema.get("additionalProperties", True)
    for key, item in value.items():
        if not key.isprintable():
            raise ComparisonError(f"{where}: must have keys that can be printed, not {key!a}")
        if key in known:
            check_schema(item, known[key], root, f"{where}.{key}")
        elif others is False:
            raise ComparisonError(f"{where}: must have keys of {' '.join(known)} only, not {key}")
        elif others is not True:
            check_schema(item, others, root, f"{where}.{key}")


def _shown(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 80 else f"{text[:80]}..."
