"""Profiles: the memory files that one family of testbenches reads, as named records; shipped ones and users' TOML."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import MISSING, dataclass, fields, replace
from pathlib import Path
from typing import Any

from factory.arithmetic.bits import Field
from factory.arithmetic.labelled import Axis
from factory.dataflow import (
    DATAFLOWS,
    INCLUDES,
    ROLES,
    Dataflow,
    EdgeSchedule,
    dataflow_named,
    operand_fields,
    role_name,
)
from factory.memfile.layout import Align, Layout
from factory.memfile.regroup import Split
from factory.spec import MOST_LANES, MOST_SIZE, InputError, SystolicArray, check_range, read_toml, typed_values
from factory.spec.values import check_kind

POSTS = ("relu", "none", "leaky", "relu+maxpool2")
_SHIPPED = Path(__file__).parent / "profiles"
_SUFFIX = ".toml"
_FEW = 3
"""Profiles that an error names."""


@dataclass(frozen=True)
class Profile:
    """A dataflow's memory files and what the array that reads them does.

    `rows` and `cols` are the array's size, 0 for the store's; each row takes `simd` input channels, so that a tile is
    `rows * simd` x `cols` channels. `post` follows the outputs. `pixel_block` is the order of pixels with tiles:
    blocks of `(height, width)` in row-major order, row-major inside; `(1, 1)` is consecutive `onij`. A profile has the
    roles that its testbench needs, not all.
    """

    name: str
    dataflow: str
    layouts: tuple[Layout, ...]
    about: str = ""
    rows: int = 0
    cols: int = 0
    simd: int = 1
    post: str = "relu"
    pixel_block: tuple[int, int] = (1, 1)

    def __post_init__(self):
        try:
            self._check()
        except InputError as error:
            raise InputError(f"profile {self.name}: {error}") from None

    def _check(self) -> None:
        flow = dataflow_named(self.dataflow)
        if self.post not in POSTS:
            raise InputError(f"post must be one of {' '.join(POSTS)}, not {self.post}")
        flow.check_simd(self.simd)
        for field, least in dict(rows=0, cols=0, simd=1).items():
            check_range(field, getattr(self, field), least, MOST_LANES)
        if len(self.pixel_block) != 2 or min(self.pixel_block) < 1:
            raise InputError(f"pixel_block must be two numbers of at least 1, not {list(self.pixel_block)}")
        if max(self.pixel_block) > MOST_SIZE:  # the side of the largest map
            raise InputError(f"pixel_block must be two numbers of at most {MOST_SIZE}, not {list(self.pixel_block)}")
        if not self.layouts:
            raise InputError("layouts must hold at least one layout, there is none")
        names = [layout.name for layout in self.layouts]
        if len(set(names)) != len(names):
            raise InputError(f"layouts must have different names, not {' '.join(names)}")
        for layout in self.layouts:
            layout.check_axes(flow)
            if ROLES[layout.role].edge and self.simd != 1:
                raise InputError(f"simd must be 1 with role {layout.role}, not {self.simd}")

    @property
    def flow(self) -> Dataflow:
        """The record of the dataflow."""
        return DATAFLOWS[self.dataflow]

    @property
    def fields(self) -> dict[str, Field]:
        """What the processing elements read of each operand: the lanes of its first layout."""
        return operand_fields({layout.role: layout.field for layout in reversed(self.layouts)})

    def tile_array(self, array: SystolicArray) -> SystolicArray:
        """Return the tile that the profile's array takes at a time, `rows * simd` x `cols` lanes."""
        return replace(array, rows=(self.rows or array.rows) * self.simd, cols=self.cols or array.cols)

    def select(self, include: Collection[str]) -> tuple[Layout, ...]:
        """Return the layouts that the words of `include` ask for; raise InputError for a word without any."""
        if not include:
            raise InputError(f"include must name at least one of {' '.join(INCLUDES)}, it is empty")
        held = self._includes
        for word in include:
            if role_name(word) not in held:
                known = " ".join(name for name in INCLUDES if name in held)
                have = [other.name for other in _shipped(self.dataflow) if word in other._includes]
                hint = f"; it is in profile {' and '.join(have)}" if 0 < len(have) <= _FEW else ""
                where = f"in profile {self.name} ({self.dataflow})"
                raise InputError(f"include must be of {known} {where}, not {word}{hint}")
        return tuple(layout for layout in self.layouts if layout.include in map(role_name, include))

    @property
    def _includes(self) -> set[str]:
        return {layout.include for layout in self.layouts}

    def configure(self, psum_bits: int, **given: Any) -> Profile:
        """Return the profile with options in place of its own values; None leaves a value as it is.

        `format` and `header` are those of every layout (the header, with `header_roles`, of layouts of those roles or
        words of include), `activation_signed` and `base` those of the layouts that have activations and addresses,
        `post` is the profile's. Lanes that hold sums are at least `psum_bits` wide. `merge` puts the files of a layer
        and role into one; passes of an edge's stream then follow each other. `content` and `skew` are those of such
        streams.
        """
        given = {name: value for name, value in given.items() if value is not None}
        merge, post = given.pop("merge", False), given.pop("post", self.post)
        base, signed = given.pop("base", None), given.pop("activation_signed", None)
        edge_content, skew = given.pop("content", None), given.pop("skew", None)
        headed, layouts = self._headed(given.pop("header_roles", None)), []
        for layout in self.layouts:
            role, own = ROLES[layout.role], dict(given)
            if signed is not None and self._carries_activations(layout):
                own["signed"] = signed
            if layout.name not in headed:
                own.pop("header", None)
            if base is not None and role.states:
                own["base"] = base
            if role.edge:
                own |= self._crossing(layout, edge_content, skew, merge)
            elif merge:
                own |= dict(files=(), lines=(*layout.files, *layout.lines))
            if role.sums and own.get("edge", layout.edge).has_values:
                own["lane_bits"] = max(layout.lane_bits, psum_bits + layout.edge.valid_bits)
            if merge:
                own["file"] = f"{layout.name}.txt"
            layouts.append(replace(layout, **own))
        return replace(self, layouts=tuple(layouts), post=post)

    def _carries_activations(self, layout: Layout) -> bool:
        """Return whether a layout's lanes hold activation codes, as they are or as they enter the array."""
        role = ROLES[layout.role]
        role = ROLES[self.flow.edges[role.name].role] if role.edge and layout.edge.has_values else role
        return role.operand is not None and role.per_image

    def _crossing(self, layout: Layout, content: str | None, skew: str | None, merge: bool) -> dict[str, Any]:
        """Return the keys of a stream that crosses an edge; `merge` lets all its passes follow each other."""
        edge, own = layout.edge.configured(content, skew), {}
        if merge:
            edge, own = replace(edge, sequence=(*layout.file_axes, *edge.sequence)), dict(files=())
        return own | dict(edge=edge) | ({"signed": True} if edge.addresses else {})

    def _headed(self, roles: Collection[str] | None) -> set[str]:
        """Return the names of the layouts of some roles or words of include; of all where there is no choice."""
        if roles is None:
            return {layout.name for layout in self.layouts}
        if not roles:
            raise InputError("header_roles must name at least one role, it is empty")
        names = {layout.name: {layout.role, layout.include} for layout in self.layouts}
        for word in roles:
            if not any(role_name(word) in known for known in names.values()):
                known = " ".join(dict.fromkeys(layout.role for layout in self.layouts))
                raise InputError(f"header_roles must be of {known}, not {word}")
        return {name for name, known in names.items() if known & set(map(role_name, roles))}


def profile_names(dataflow: str) -> tuple[str, ...]:
    """Return the names of the shipped profiles of a dataflow, the default first."""
    names = sorted(path.stem for path in (_SHIPPED / dataflow).glob(f"*{_SUFFIX}"))
    return tuple(sorted(names, key=lambda name: name != "notebook"))


def _shipped(dataflow: str) -> list[Profile]:
    return [load_profile(name, dataflow) for name in profile_names(dataflow)]


def load_profile(name: str, dataflow: str | None = None) -> Profile:
    """Return the shipped profile called `name`, or the one that the TOML file `name` describes.

    `dataflow` None is the profile's own (`notebook`, which is in all: ws). A file's keys are the fields of Profile,
    with `layouts` a table of tables of the fields of Layout by name, and `extends`, the name of a shipped profile whose
    values it starts from. Raise InputError for anything else.
    """
    if dataflow is not None:
        dataflow_named(dataflow)
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
    order = sorted(DATAFLOWS, key=lambda flow: flow != (dataflow or next(iter(DATAFLOWS))))
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
    check_kind("extends", data["extends"], "str")
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
    for key, kind in (("split", Split), ("align", Align)):
        items = table.get(key, [])
        if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
            raise InputError(f"layout {name}: {key} must be a list of tables, not {items!r}")
        table[key] = [_record(kind, item, f"layout {name}: {key}: ") for item in items]
    if "edge" in table:
        table["edge"] = _edge(table["edge"], f"layout {name}: edge")
    for key in ("role", "include"):
        if isinstance(table.get(key), str):
            table[key] = role_name(table[key])
    return _record(Layout, table, f"layout {name}: ")


def _edge(given: Any, where: str) -> EdgeSchedule:
    if not isinstance(given, dict):
        raise InputError(f"{where} must be a table, not {given!r}")
    try:
        return _record(EdgeSchedule, given)
    except InputError as error:
        raise InputError(f"{where}: {error}") from None


def _record(kind: type, values: Mapping[str, Any], where: str = "") -> Any:
    """Build a record from TOML values; raise InputError for a missing, unknown or misshapen key."""
    kinds = {field.name: field.type.replace("Axis", "str") for field in fields(kind)}
    required = [field.name for field in fields(kind) if field.default is MISSING]
    typed = typed_values(values, kinds, required, where)
    axes = [field.name for field in fields(kind) if "Axis" in field.type and field.name in typed]
    return kind(**typed | {name: tuple(map(Axis.parse, typed[name])) for name in axes})


def profile_to_toml(profile: Profile) -> str:
    """Return the text that `load_profile` reads back as an equal profile."""
    data = {field.name: getattr(profile, field.name) for field in fields(profile)}
    tables = [_table("", {name: value for name, value in data.items() if name != "layouts"})]
    for layout in (layout.to_record() for layout in profile.layouts):
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
