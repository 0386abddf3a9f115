"""The manifest of an export as every reader takes it: by its published schema, and its groups of files one by one.

`factory/schemas/manifest.schema.json` describes it. Manifests of the schema before are read too: what has another name
now is given that name.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from factory.dataflow import role_name
from factory.manifest.json_reader import JsonReader
from factory.manifest.schema import KEYWORDS as KEYWORDS
from factory.manifest.schema import NOTES as NOTES
from factory.manifest.schema import check_schema as check_schema
from factory.manifest.schema import manifest_schema as manifest_schema
from factory.spec import ComparisonError, InputError

MANIFEST = "manifest.json"
SCHEMA, SCHEMA_BEFORE = "factory-pack-2", "factory-pack-1"
_GROUPS = "groups"


@dataclass(frozen=True)
class Manifest:
    """A manifest on the disk. `facts` is all of it but the groups of files, of which memory may not hold all.

    Of a manifest of the schema before, the key `schema` still says so.
    """

    path: Path
    facts: Mapping[str, Any]

    def groups(self) -> Iterator[dict[str, Any]]:
        """Read the groups, one after the other; raise ComparisonError at one that the schema does not allow."""
        schema, old = manifest_schema(), self.facts["schema"] == SCHEMA_BEFORE
        with _reader(self.path) as reader:
            for key in reader.keys():
                if key != _GROUPS:
                    reader.value()
                    continue
                for place, group in enumerate(reader.items()):
                    group = _renamed_group(group) if old else group
                    check_schema(group, schema["properties"][key]["items"], schema, f"{MANIFEST}.{key}[{place}]")
                    yield group


def open_manifest(directory: Path) -> Manifest:
    """Return the manifest of an export; raise InputError where there is none, ComparisonError where it is damaged."""
    path = directory / MANIFEST
    if not path.is_file():
        raise InputError(f"{directory}: must be an export, it has no {MANIFEST}")
    facts = _facts(path)
    if facts.get("schema") == SCHEMA_BEFORE:
        facts = _renamed_facts(facts)
    check_schema(facts, manifest_schema(), manifest_schema(), MANIFEST)
    return Manifest(path, facts)


def _renamed(record: Any, names: Mapping[str, str]) -> Any:
    """Return an object with other keys; anything else as it is, for the schema to refuse."""
    return {names.get(key, key): value for key, value in record.items()} if isinstance(record, dict) else record


def _renamed_role(record: Any) -> Any:
    if not isinstance(record, dict):
        return record
    named = {key: role_name(record[key]) for key in ("role", "include") if isinstance(record.get(key), str)}
    return record | named


def _renamed_facts(facts: dict[str, Any]) -> dict[str, Any]:
    """Return the facts of a manifest of the schema before with the names of now."""
    facts = facts | {"counts": _renamed(facts.get("counts"), {"wrapped": "inexact"})}
    if isinstance(facts.get("layers"), dict):
        names = {"conv": "spec", "tiles": "selection"}
        facts["layers"] = {name: _renamed(layer, names) for name, layer in facts["layers"].items()}
    if isinstance(facts.get("layouts"), dict):
        layouts = ((name, _renamed_role(layout)) for name, layout in facts["layouts"].items())
        facts["layouts"] = {name: {"depth": 0} | x if isinstance(x, dict) else x for name, x in layouts}
    return facts


def _renamed_group(group: Any) -> Any:
    """Return a group of files of the schema before with the names of now; it did not count operands without files."""
    if isinstance(group, dict) and isinstance(group.get("sets"), list):
        sets = (_renamed_role(_renamed(record, {"wrapped": "inexact"})) for record in group["sets"])
        return group | {"sets": [{"inexact_operands": None} | x if isinstance(x, dict) else x for x in sets]}
    return group


def is_export(directory: Path) -> bool:
    """Return whether a directory has a manifest of ours."""
    try:
        return _facts(directory / MANIFEST).get("schema") in (SCHEMA, SCHEMA_BEFORE)
    except (OSError, ComparisonError):
        return False


def first_unlisted(directory: Path) -> str | None:
    """Return the path of a file in an export that its manifest does not list; None where there is none.

    Raise ComparisonError where the manifest is damaged.
    """
    manifest = open_manifest(directory)
    listed = {MANIFEST, *(entry["path"] for entry in manifest.facts["testbench"])}
    for group in manifest.groups():
        for files in group["sets"]:
            folder = f"{files['directory']}/" if files["directory"] else ""
            listed.update(f"{folder}{entry['name']}" for entry in files["files"])
    found = (Path(folder, name).relative_to(directory) for folder, _, names in os.walk(directory) for name in names)
    return min((path.as_posix() for path in found if path.as_posix() not in listed), default=None)


def _facts(path: Path) -> dict[str, Any]:
    """Return the object in a file, with an empty list in place of the groups."""
    facts: dict[str, Any] = {}
    with _reader(path) as reader:
        for key in reader.keys():
            if key == _GROUPS and reader.peek() == "[":
                facts[key] = []
                for _ in reader.items():
                    pass
            else:
                facts[key] = reader.value()
        reader.end()
    return facts


@contextmanager
def _reader(path: Path) -> Iterator[JsonReader]:
    try:
        with path.open(encoding="utf-8") as file:
            yield JsonReader(file)
    except (ValueError, RecursionError) as error:  # of JSON, of UTF-8, of numbers with thousands of digits
        raise ComparisonError(f"{MANIFEST}: must be a JSON object: {error}") from None
