"""Which of an export's words each dump holds."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from factory.dataflow import ROLES, role_name
from factory.diagnose.dump import ASIDE, GIVEN, MISSING, GivenWords, dump_bytes, nothing_given, read_dump
from factory.diagnose.golden import Group
from factory.manifest import MANIFEST
from factory.memfile import Memory, decode
from factory.spec import InputError
from factory.testbench import FOLDER as TESTBENCH


@dataclass
class Given:
    """What dumps hold of one group, by its files; those without a dump are `lacking`: MISSING, or ASIDE."""

    group: Group
    dumps: dict[int, GivenWords] = field(default_factory=dict)
    lacking: int = MISSING

    def arrays(self) -> tuple[np.ndarray, np.ndarray, int]:
        """Return the values and the states, `(file, line, lane)`, and how many words are too many."""
        shape = self.group.shape
        values, state = np.zeros(shape, np.int64), np.full(shape, self.lacking, np.uint8)
        for file, given in self.dumps.items():
            words = self.group.lines_of(given)
            values[file], state[file] = words.values[: shape[1]], words.state[: shape[1]]
        return values, state, sum(words.extra for words in self.dumps.values())


def of_role(groups: Sequence[Group], role: str | None) -> list[Group]:
    """Return the groups that may be compared: of a role, or those of every vector that leaves the array."""
    if role is None:
        return [group for group in groups if group.files.role.follows]
    name = role_name(role)
    found = [group for group in groups if name in (group.files.role.name, group.files.layout.name)]
    if not found:
        held = dict.fromkeys(group.files.role.name for group in groups if group.files.role.follows)
        raise InputError(f"role must be one that the export holds, {' '.join(held)}, not {role}")
    return found


def read_all(dumps: Iterable[Path], groups: Sequence[Group], others: Sequence[Group]) -> Iterator[Given]:
    """Yield what the dumps give, group by group; raise InputError where it is not clear what one holds.

    A dump is a folder of files that are called as the export's, a file that is, or a file of another name, which holds
    all words of the role, from its first file to its last. Files of a folder that are called as those of `others`,
    which are not compared, are left aside.
    """
    compared = set(map(id, groups))
    every = [*groups, *(group for group in others if group.paths[0] not in groups[0].paths)]
    places = {path: (group, file) for group in every for file, path in enumerate(group.paths)}
    stems: dict[str, list[str]] = {}
    for name in places:
        stems.setdefault(Path(name).stem, []).append(name)
    named: dict[int, dict[int, Path]] = {}
    whole: list[Path] = []
    for dump in dumps:
        if not dump.exists():
            raise InputError(f"{dump}: must be a dump, there is no such file or folder")
        files = list(_files(dump)) if dump.is_dir() else [dump]
        for path in files:
            found = _place_of(path, places, stems, inside=dump.is_dir())
            if found is None:
                whole.append(path)
                continue
            group, file = places[found]
            if id(group) not in compared:
                if not dump.is_dir():
                    role = group.files.role.name
                    raise InputError(f"{path}: must be called as a file that is compared, {found} holds {role}")
                continue
            taken = named.setdefault(id(group), {})
            if file in taken:
                raise InputError(f"{path}: {found} must be given once, {taken[file]} is that too")
            taken[file] = path
    yield from _named(named, groups)
    for path in whole:
        if len(whole) > 1 or named:
            raise InputError(f"{path}: must be called as a file of the export, or be the only dump")
        yield from _whole(path, groups)


def _files(folder: Path) -> Iterator[Path]:
    """Yield a folder's files, without what an export has beside its words."""
    for path in sorted(folder.rglob("*")):
        first, *rest = path.relative_to(folder).parts
        if path.is_file() and not (first == MANIFEST and not rest or first == TESTBENCH and rest):
            yield path


def _place_of(path: Path, places: Mapping[str, object], stems: Mapping[str, list[str]], inside: bool) -> str | None:
    """Return the export's file that a dump's path ends in, or the only one of its name."""
    ends = ("/".join(path.parts[first:]) for first in range(len(path.parts)))
    if found := next((end for end in ends if end in places), None):
        return found
    same = stems.get(path.stem, [])
    if len(same) > 1:
        raise InputError(f"{path}: its folder must say which one it is, {' or '.join(same[:4])}")
    if inside and not same:
        raise InputError(f"{path}: must be called as a file of the export, such as {next(iter(places))}")
    return next(iter(same), None)


def _named(named: Mapping[int, Mapping[int, Path]], groups: Sequence[Group]) -> Iterator[Given]:
    """Yield the groups of roles of which there are dumps; files that are not there are missing."""
    roles = {group.files.layout.name for group in groups if id(group) in named}
    single = sum(map(len, named.values())) == 1  # a dump of one file says nothing of the others
    for group in groups:
        files = named.get(id(group), {})
        if group.files.layout.name in roles and (files or not single):
            words = {file: _read(path, group, file) for file, path in files.items()}
            yield Given(group, words, ASIDE if single else MISSING)


def _read(path: Path, group: Group, number: int) -> GivenWords:
    """Return what a dump of one of the group's files holds: in the export's own format, or as other tools write it."""
    files, made = group.files, group.files.format
    if path.suffix != Path(group.paths[number]).suffix or path.suffix == ".npy":
        return read_dump(path, group.memory, made.radix)
    data = b"?"
    try:
        data = dump_bytes(path, group.memory)
        codes = files.read(data, number, group.image).astype(np.int64)
        return GivenWords(codes, np.full(codes.shape, GIVEN, np.uint8))
    except OSError as error:
        raise InputError(f"{path}: must be a dump: {error}") from None
    except InputError as error:
        stated = made.radix != 10 or path.suffix in (".coe", ".mif")
        words = not made.is_lanewise and stated and not group.memory.blocks
        if not data or words and getattr(made, "endian", "little") == "little":
            return read_dump(path, group.memory, made.radix)
        if made.is_lanewise and not made.has_dimensions and (short := _short(data, group)) is not None:
            return short
        raise InputError(f"{path}: {error}") from None


def _short(data: bytes, group: Group) -> GivenWords | None:
    """Return what a file of the export's own format holds that ends before its last word."""
    held = nothing_given(group.memory)
    count = sum(not line.startswith((b"#", b"//", b"@")) for line in data.splitlines())
    if group.memory.blocks or not 0 < count < group.memory.words:
        return None
    try:
        held.values[:count] = decode(data, replace(group.memory, words=count), group.files.format)
    except InputError:
        return None
    held.state[:count] = GIVEN
    return held


def _whole(path: Path, groups: Sequence[Group]) -> Iterator[Given]:
    """Yield the groups of one role from a dump of all of its words; of its layouts, the one that is called so."""
    if len({group.files.role.name for group in groups}) == 1:
        groups = [group for group in groups if group.files.layout.name == group.files.role.name] or groups
    names = list(dict.fromkeys(group.files.layout.name for group in groups))
    if len(names) > 1:
        known = " ".join(name for name in names if name in ROLES) or " ".join(names)
        raise InputError(f"{path}: role must be given, one of {known}: no file of the export is called so",
                         options=("role",))  # fmt: skip
    if len(groups) == 1 and len(groups[0].paths) == 1:
        yield Given(groups[0], {0: _read(path, groups[0], 0)})
        return
    memory = groups[0].memory
    if any(group.memory.word != memory.word for group in groups):
        raise InputError(f"{path}: must be called as a file of the export, whose words differ by layer")
    counts = [len(group.paths) * group.memory.words for group in groups]
    words = read_dump(path, Memory(sum(counts), memory.word, memory.base))
    first = 0
    for group, count in zip(groups, counts, strict=True):
        size = group.memory.words
        last = group is groups[-1]
        parts = {
            file: GivenWords(
                words.values[at : at + size], words.state[at : at + size],
                words.extra if last and file == len(group.paths) - 1 else 0,
            )
            for file, at in enumerate(range(first, first + count, size))
        }  # fmt: skip
        first += count
        yield Given(group, parts)
