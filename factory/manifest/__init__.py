"""The manifest of an export as every reader takes it: by its published schema, and its groups of files one by one."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from factory.manifest.schema import KEYWORDS as KEYWORDS
from factory.manifest.schema import NOTES as NOTES
from factory.manifest.schema import check_schema as check_schema
from factory.manifest.schema import manifest_schema as manifest_schema
from factory.manifest.stream import JsonReader
from factory.spec import ComparisonError, InputError

MANIFEST = "manifest.json"
SCHEMA = "factory-pack-1"
_GROUPS = "groups"


@dataclass(frozen=True)
class Manifest:
    """A manifest on the disk. `facts` is all of it but the groups of files, of which memory may not hold all."""

    path: Path
    facts: Mapping[str, Any]

    def groups(self) -> Iterator[dict[str, Any]]:
        """Read the groups, one after the other; raise ComparisonError at one that the schema does not allow."""
        schema = manifest_schema()
        with _reader(self.path) as reader:
            for key in reader.keys():
                if key != _GROUPS:
                    reader.value()
                    continue
                for place, group in enumerate(reader.items()):
                    check_schema(group, schema["properties"][key]["items"], schema, f"{MANIFEST}.{key}[{place}]")
                    yield group

    def whole(self) -> dict[str, Any]:
        """Return all of it; raise ComparisonError where a group is not what the schema allows."""
        return {**self.facts, _GROUPS: list(self.groups())}


def open_manifest(directory: Path) -> Manifest:
    """Return the manifest of an export; raise InputError where there is none, ComparisonError where it is damaged."""
    path = directory / MANIFEST
    if not path.is_file():
        raise InputError(f"{directory}: must be an export, it has no {MANIFEST}")
    facts = _facts(path)
    check_schema(facts, manifest_schema(), manifest_schema(), MANIFEST)
    return Manifest(path, facts)


def is_export(directory: Path) -> bool:
    """Return whether a directory has a manifest of ours."""
    try:
        return _facts(directory / MANIFEST).get("schema") == SCHEMA
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
