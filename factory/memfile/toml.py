"""Profiles as TOML: the shipped ones, a user's own, and the way back to text."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import MISSING, asdict, fields
from pathlib import Path
from typing import Any

from factory.memfile.layout import Layout, Split
from factory.memfile.profile import Profile
from factory.memfile.roles import DATAFLOWS
from factory.spec import InputError, read_toml, typed_values

_SHIPPED = Path(__file__).parent / "profiles"
_SUFFIX = ".toml"


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
        path = _shipped_path(name, dataflow)
        profile = _build(_read(path, path.parent.name))
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
    data = read_toml(path, "profile")
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
    if "name" in table:
        raise InputError(f"layout {name}: its name must be that of its table, the key name must not be there")
    table = {"name": name, "role": name, **table}
    split = table.get("split", [])
    if not isinstance(split, list) or not all(isinstance(item, dict) for item in split):
        raise InputError(f"layout {name}: split must be a list of tables, not {split!r}")
    table["split"] = [_record(Split, item, f"layout {name}: split: ") for item in split]
    return _record(Layout, table, f"layout {name}: ")


def _record(kind: type, values: Mapping[str, Any], where: str = "") -> Any:
    """Build a record from TOML values; raise InputError for a missing, unknown or misshapen key."""
    kinds = {field.name: field.type for field in fields(kind)}
    required = [field.name for field in fields(kind) if field.default is MISSING]
    return kind(**typed_values(values, kinds, required, where))


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
