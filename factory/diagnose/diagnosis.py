"""The diagnosis of dumps: what is wrong, where, and the causes that explain it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from factory.arithmetic.labelled import Address, LabelledArray
from factory.dataflow import ROLES, KnownLayer, LayerVectors
from factory.diagnose.case import Case
from factory.diagnose.evidence import Counts, First, by_axis, count, first_wrong, only_on_border
from factory.diagnose.golden import Group, groups, in_profile, operands
from factory.diagnose.hypotheses import TABLE, Hypothesis
from factory.diagnose.matching import Given, of_role, read_all
from factory.diagnose.rank import Finding, rank, smaller
from factory.diagnose.waveform import Waveform, dumped
from factory.fileplan import read_plan
from factory.memfile import load_profile
from factory.spec import InputError
from factory.store import Store, opened

_OTHERS = 8
_MOST_VALUES = 300_000
"""Values, about, on which causes are tried: a larger group is cut to some of its tiles, small ones are tried together.
"""
_MOST_GROUPS = 8
_ORDER = {name: place for place, name in enumerate(ROLES)}


@dataclass(frozen=True)
class Compared:
    """The words of one layer, image and role, in the files of one `layout`."""

    where: Address
    counts: Counts
    layout: str


@dataclass(frozen=True)
class Diagnosis:
    """What dumps are, against an export.

    `compared` are the groups of files. `case` is the group that was looked into, None where all is right: the first
    role on the way through the array that is wrong, and of its groups the one with most wrong values. `causes` are
    the best explanations of it, and of other groups of its role where these are small; none where none explains
    enough. `notes` say what could not be tried, `on_border` that only pixels of the map's border are wrong.
    """

    directory: Path
    compared: tuple[Compared, ...]
    case: Case | None = None
    first: First | None = None
    axes: Mapping[str, tuple[LabelledArray, LabelledArray]] = field(default_factory=dict)
    causes: tuple[Finding, ...] = ()
    notes: tuple[str, ...] = ()
    on_border: bool = False

    @property
    def counts(self) -> Counts:
        """The words of all groups."""
        return sum((each.counts for each in self.compared), Counts())

    @property
    def passes(self) -> bool:
        """Whether every word is there and right."""
        return self.counts.passes


def diagnose(
    directory: str | Path,
    dumps: Iterable[str | Path],
    role: str | None = None,
    store: Store | str | Path | None = None,
    top: int = 3,
    hypotheses: Sequence[Hypothesis] = TABLE,
    waveform: Waveform | None = None,
    profile: str | Path | None = None,
) -> Diagnosis:
    """Compare dumps with an export, and find what explains a mismatch.

    `dumps` are folders or files that are called as the export's, or one file of all words of `role` (`out`, `psum`,
    `accumulator`, or another role or layout that the export holds). A `waveform` has the words of one role, and takes
    the place of dumps. `store` is what the export was made from, for codes that the export does not include. `top`
    causes are kept. `profile`, a name or a TOML file, says how dumps are laid out that are not as the export. Raise
    InputError for what is no export or dump.
    """
    if top < 1:
        raise InputError(f"top must be at least 1, not {top}")
    directory = Path(directory)
    plan = read_plan(directory)
    every = list(groups(directory, plan))
    wanted = of_role(every, role)
    if not wanted:
        raise InputError(f"{directory}: must hold something to compare, such as out")
    if profile is not None:
        named = load_profile(profile, plan.profile.dataflow)
        wanted = [in_profile(group, named) for group in wanted]
    if waveform is not None:
        roles = list(dict.fromkeys(group.files.role.name for group in wanted))
        if len(roles) > 1:
            raise InputError(f"role must be given with a waveform, one of {' '.join(roles)}")
        with dumped(plan, roles[0], waveform) as folder:
            return diagnose(directory, [folder], role, store, top, hypotheses)
    compared, cases = [], []
    for given in read_all(map(Path, dumps), wanted, every):
        found, extra = _case(given)
        compared.append(Compared(given.group.where, count(found, extra), given.group.files.layout.name))
        cases = _looked_into(cases, found)
    if not compared:
        empty = f"{' '.join(map(str, dumps))}: " if dumps else ""
        wanted_names = f", with files called as {wanted[0].paths[0]}" if dumps else ""
        raise InputError(f"{empty}a dump must be given{wanted_names}")
    if not cases:
        return Diagnosis(directory, tuple(compared))
    with opened(store) as source:
        (case, notes), *more = [_with_operands(case, source) for case in cases]
    case = replace(case, others=dict(_others(case, wanted)))
    alike = [other for other, said in more if said == notes]
    causes, tried = _explained(case, alike, hypotheses, top) if case.wrong.any() else ((), ())
    axes = by_axis(case)
    return Diagnosis(
        directory, tuple(compared), case, first_wrong(case), axes, causes, notes + tried, only_on_border(case, axes)
    )


def _explained(
    case: Case, alike: Sequence[Case], hypotheses: Sequence[Hypothesis], top: int
) -> tuple[tuple[Finding, ...], tuple[str, ...]]:
    """Return the causes of a case and of others like it, and a note where a part of it must do."""
    kept = smaller(case, _MOST_VALUES)
    causes = rank([case.part(kept)[0] if kept else case, *alike], hypotheses, top)
    axes = ", ".join(f"{axis} {' '.join(map(str, labels))}" for axis, labels in kept.items())
    return causes, (f"causes were tried on a part of it: {axes}",) if kept else ()


def _case(given: Given) -> tuple[Case, int]:
    group, (values, state, extra) = given.group, given.arrays()
    plain = group.plain
    if plain is not group:
        values, state = plain.place(group.values(values)), plain.place(group.states(state)).astype(np.uint8)
    return Case(plain, plain.read(), values, state), extra


def _looked_into(cases: list[Case], new: Case) -> list[Case]:
    """Return the cases to look into when there is another: the first of all, then small ones of its role.

    What is right is not among them.
    """
    if not (new.wrong.any() or new.absent.any()):
        return cases
    first, *others = sorted([*cases, new], key=_looks_first, reverse=True)
    size, kept = first.expected.size, [first]
    for case in others:
        size += case.expected.size
        if case.group.files.role == first.group.files.role and case.wrong.any() and size <= _MOST_VALUES:
            kept.append(case)
    return kept[:_MOST_GROUPS]


def _looks_first(case: Case) -> tuple[bool, int, int]:
    """Return what orders cases: wrong values before missing ones, early roles first, and many before few."""
    wrong, absent = int(np.count_nonzero(case.wrong)), int(np.count_nonzero(case.absent))
    return bool(wrong), -_ORDER[case.group.files.role.name] if wrong or absent else -len(_ORDER), wrong or absent


def _with_operands(case: Case, store: Store | None) -> tuple[Case, tuple[str, ...]]:
    """Return the case with what its words follow from."""
    group, role, spec = case.group, case.group.files.role, case.mapping.spec
    found, source = operands(group), _quantizer(group)
    if store is not None:
        layer = store.layer(spec.name)
        vectors = LayerVectors(case.mapping, layer, post=case.post).of_image(group.image)
        found = found or vectors.operands()
        source = KnownLayer(spec, threshold=layer.threshold, direction=layer.direction)
    case = replace(case, operands=found, source=source)
    if found is None:
        names = " and ".join(case.mapping.fields)
        return case, (f"causes inside the array were not tried: the export has no {names}; name its store",)
    if role.of_next and (source.threshold is None or source.direction is None):
        return replace(case, operands=None), ("causes inside the array were not tried: the thresholds are not known",)
    if not case.recomputes:
        return case, ("causes inside the array were not tried: the codes do not give the words that are expected",)
    return case, ()


def _quantizer(group: Group) -> KnownLayer:
    """Return the next layer's quantizer, where the export has it."""
    group = group.root_group
    mapping, found = group.layer.mapping, {}
    for files in group.layer.own:
        if files.role.of_next:
            own = Group(group.root, group.plan, group.layer, None, files)
            held = mapping.untile(own.values(own.read())).values
            found[files.role.name] = np.zeros((mapping.spec.out_channels, *held.shape[1:]), np.int32)
            found[files.role.name][mapping.channels] = held
    threshold, direction = found.get("threshold"), found.get("direction")
    signs = None if direction is None else direction.astype(np.int8)
    return KnownLayer(mapping.spec, threshold=threshold, direction=signs)


def _others(case: Case, every: Sequence[Group]) -> Iterator[tuple[str, np.ndarray]]:
    """Yield right words of other images, layers and roles that could lie in the same files."""
    own, taken = case.group, 0
    for group in (group.plain for group in every):
        if group is own or group.shape != own.shape or group.axes != own.axes or taken == _OTHERS:
            continue
        if group.where == own.where or np.array_equal(words := group.read(), case.expected):
            continue
        taken += 1
        yield f"{group.files.role.name} of {Address(group.layer.name, group.image)}", case.wrapped(words)
