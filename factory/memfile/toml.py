"""Profiles as TOML: the shipped ones, a user's own, and the way back to text."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping
from dataclasses import MISSING, asdict, fields
from pathlib import Path
from typing import Any

from factory.memfile.layout import Layout, Split
from factory.memfile.profile import Profile
from factory.memfile.roles import DATAFLOWS
from factory.spec import InputError

_SHIPPED = Path(__file__).parent / "profiles"
_SUFFIX = ".toml"
_KINDS = {
    "str": "a string",
    "int": "a whole number",
    "bool": "true or false",
    "tuple[str, ...]": "a list of strings",
    "tuple[int, int]": "a list of two whole numbers",
}


def profile_names(dataflow: str) -> tuple[str, ...]:
    """Return the names of the shipped profiles of a dataflow, the default first."""
    names = sorted(path.stem for path in (_SHIPPED / dataflow).glob(f"*{_SUFFIX}"))
    return tuple(sorted(names, key=lambda name: name != "notebook"))


def load_profile(name: str, dataflow: str | None = None) -> Profile:
    """Return the shipped profile called `name`, or the one that the TOML file `name` describes.

    `dataflow` None is the profile's own (`notebook`, which is in both: ws). A file's keys are the fields of Profile,
    with `layouts` a table of tables of the fields of Layout by name, and `extends`, the name of a shipped profile whose
    values it starts from. Raise InputError for anything else.
    """
    if dataflow not in (None, *DATAFLOWS):
        raise InputError(f"dataflow must be one of {' '.join(DATAFLOWS)}, not {dataflow}")
    if name.endswith(_SUFFIX):
        try:
            profile = _build(_read(Path(name), dataflow))
        except InputError as error:
            raise InputError(f"{name}: {error}") from None
    else:
        profile = _build(_read(_shipped_path(name, dataflow), dataflow))
    if dataflow not in (None, profile.dataflow):
        raise InputError(f"profile {name} is for dataflow {profile.dataflow}, not {dataflow}")
    return profile


def _shipped_path(name: str, dataflow: str | None) -> Path:
    order = sorted(DATAFLOWS, key=lambda flow: flow != (dataflow or DATAFLOWS[0]))
    for flow in order:
        if name in profile_names(flow):
            return _SHIPPED / flow / f"{name}{_SUFFIX}"
    known = dict.fromkeys(known for flow in order for known in profile_names(flow))
    raise InputError(f"profile must be one of {' '.join(known)} or a TOML file, not {name}")


def _read(path: Path, dataflow: str | None) -> dict[str, Any]:
    """Return a file's data, laid over that of the profile it extends."""
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"must be a profile's TOML file: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"must be TOML: {error}") from None
    tables = data.get("layouts", {})
    if not isinstance(tables, dict) or not all(isinstance(table, dict) for table in tables.values()):
        raise InputError("layouts must be tables by name")
    data = {"name": path.stem} | data
    if "extends" not in data:
        return data
    base = _read(_shipped_path(str(data.pop("extends")), data.get("dataflow", dataflow)), dataflow)
    layouts = {name: base["layouts"].get(name, {}) | tables.get(name, {}) for name in (*base["layouts"], *tables)}
    return base | data | {"layouts": layouts}


def _build(data: Mapping[str, Any]) -> Profile:
    if "layouts" not in data:
        raise InputError("the key layouts must be there")
    return _record(Profile, {**data, "layouts": [_layout(*item) for item in data["layouts"].items()]})


def _layout(name: str, table: Mapping[str, Any]) -> Layout:
    table = {"name": name, "role": name, **table}
    split = table.get("split", [])
    if not isinstance(split, list) or not all(isinstance(item, dict) for item in split):
        raise InputError(f"layout {name}: split must be a list of tables, not {split!r}")
    table["split"] = [_record(Split, item, f"layout {name}: split: ") for item in split]
    return _record(Layout, table, f"layout {name}: ")


def _record(kind: type, values: Mapping[str, Any], where: str = "") -> Any:
    """Build a record from TOML values, lists as tuples; raise InputError for a missing, unknown or misshapen key."""
    known = {field.name: field for field in fields(kind)}
    for name, value in values.items():
        if name not in known:
            raise InputError(f"{where}keys must be of {' '.join(known)}, not {name}")
        if not _is(value, known[name].type):
            raise InputError(f"{where}{name} must be {_KINDS.get(known[name].type, 'a table')}, not {value!r}")
    missing = [name for name, field in known.items() if field.default is MISSING and name not in values]
    if missing:
        raise InputError(f"{where}the key {missing[0]} must be there")
    return kind(**{name: tuple(value) if isinstance(value, list) else value for name, value in values.items()})


def _is(value: Any, annotation: str) -> bool:
    """Return whether a TOML value is of an annotation's type: a plain one, or a tuple of one."""
    outer, _, inner = annotation.removesuffix("]").partition("[")
    if outer != "tuple":
        return type(value).__name__ == outer
    item, size = inner.split(", ")
    return (
        isinstance(value, list)
        and all(type(each).__name__ == item for each in value)
        and (size == "..." or len(value) == inner.count(item))
    )


def profile_to_toml(profile: Profile) -> str:
    """Return the text that `load_profile` reads back as an equal profile."""
    data = asdict(profile)
    layouts = data.pop("layouts")
    tables = [_table("", data)]
    for layout in layouts:
        splits = layout.pop("split")
        tables.append(_table(f"[layouts.{layout.pop('name')}]\n", layout | ({"split": splits} if splits else {})))
    return "\n".join(tables)


def _table(head: str, values: Mapping[str, Any]) -> str:
    return head + "".join(f"{name} = {_value(value)}\n" for name, value in values.items())


def _value(value: Any) -> str:
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{key} = {_value(item)}" for key, item in value.items()) + " }"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(map(_value, value)) + "]"
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")  # TOML has no surrogate pairs
