"""A diagnosis as text of 80 columns, and as JSON."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from typing import Any

import numpy as np

from factory.arithmetic.labelled import Address
from factory.diagnose.case import Case
from factory.diagnose.diagnosis import Diagnosis
from factory.diagnose.evidence import Counts, First, kinds_of
from factory.diagnose.rank import Finding

WIDTH = 80
_COLUMNS, _LANES = 64, 32
_SYMBOLS = ".#x-."
"""Of values of each of `KINDS`."""
_MOST_GROUPS, _MOST_LABELS, _MOST_SAME = 12, 8, 4


def report(found: Diagnosis) -> str:
    """Return what `factory diagnose` prints."""
    return "\n".join(_lines(found))


def _lines(found: Diagnosis) -> Iterator[str]:
    yield from _wrapped(_counted("all", found.counts))
    wrong = [each for each in found.compared if not each.counts.passes]
    if len(found.compared) > 1:
        for each in wrong[:_MOST_GROUPS]:
            yield from _wrapped(_counted(_named(each.where, each.layout), each.counts))
        if len(wrong) > _MOST_GROUPS:
            yield f"and {len(wrong) - _MOST_GROUPS} more layers, images or roles"
    case = found.case
    if case is None:
        if not found.passes:
            yield "every word that is wanted is right, and more came"
        return
    name = _named(case.group.where, case.group.files.layout.name)
    if found.first is not None:
        yield ""
        yield from _first_lines(found.first)
    yield ""
    kind = "wrong" if case.wrong.any() else "missing"
    yield from _wrapped(f"where the {np.count_nonzero(case.looked_at):,} {kind} values of {name} are:")
    yield from _axis_lines(found)
    yield ""
    yield from _cause_lines(found)
    yield ""
    yield "lanes down, words of the files in their order to the right"
    yield "(. right, # wrong, + some wrong, x undefined, - missing):"
    yield from picture(case)


def _named(where: Address, layout: str) -> str:
    """Return the name of words: the role, and the layout where that is called otherwise, as that of valid bits is."""
    return f"{where}, {where.role}" if layout == where.role else f"{where}, {where.role} ({layout})"


def _counted(name: str, counts: Counts) -> str:
    parts = [f"{counts.expected:,} words expected, {counts.given:,} given"]
    kinds = ("equal", "wrong", "undefined", "missing", "extra")
    parts += [f"{getattr(counts, kind):,} {kind}" for kind in kinds if kind != "extra" or counts.extra]
    return f"{name}: {', '.join(parts)}"


def _wrapped(text: str, indent: str = "") -> list[str]:
    return textwrap.wrap(text, WIDTH, initial_indent=indent, subsequent_indent=indent + "  ", break_on_hyphens=False)


def _first_lines(first: First) -> Iterator[str]:
    is_now = "undefined" if first.have is None else str(first.have)
    yield from _wrapped(f"first: {first.address}: {first.address.role} must be {first.must}, not {is_now}")
    differing = f"; of its bits {_listed(first.bits)} differ" if first.bits else ""
    where = f"{first.path}, line {first.line} (word {first.word}), bits {first.high} to {first.low}{differing}"
    yield from _wrapped(where, "  ")


def _listed(numbers: tuple[int, ...]) -> str:
    shown = " ".join(map(str, numbers[:_MOST_LABELS]))
    return f"{shown} ..." if len(numbers) > _MOST_LABELS else shown


def _axis_lines(found: Diagnosis) -> Iterator[str]:
    for axis, (wrong, each) in found.axes.items():
        labels = wrong.label(axis)
        hit = [(label, count) for label, count in zip(labels, wrong.values.tolist(), strict=True) if count]
        if len(labels) < 2 or not hit:
            continue
        if len(hit) == 1:
            text = f"all in {axis} {hit[0][0]}"
        elif len(hit) == len(labels):
            counts = [count for _, count in hit]
            few, many = min(counts), max(counts)
            span = str(few) if few == many else f"{few} to {many}"
            text = f"all {len(labels)} places, {span} of {int(each.values.max())} each"
        else:
            shown = " ".join(f"{label}({count})" for label, count in hit[:_MOST_LABELS])
            text = f"{len(hit)} of {len(labels)} places: {shown}{' ...' if len(hit) > _MOST_LABELS else ''}"
        yield from _wrapped(f"{axis:>6}: {text}")
    if found.on_border:
        yield "        only pixels of the map's border"


def _cause_lines(found: Diagnosis) -> Iterator[str]:
    for note in found.notes:
        yield from _wrapped(f"note: {note}")
    if not found.causes:
        few = found.case.wrong.any()
        yield "cause: unknown, nothing explains half of it" if few else "cause: words are missing, none is wrong"
        return
    yield "causes, the best first:"
    for place, cause in enumerate(found.causes, 1):
        yield from _wrapped(f"{place}. {cause.name}", "  ")
        against = f", and would change {cause.contradicted:,} right ones" if cause.contradicted else ""
        of = f" of {cause.groups} layers or images" if cause.groups > 1 else ""
        text = f"explains {cause.explained:,} of {cause.wrong:,} values{of}{against}"
        yield from _wrapped(text, "     ")
        for hypothesis in cause.hypotheses:
            yield from _wrapped(f"check: {hypothesis.check}", "     ")
        for name in cause.same[:_MOST_SAME]:
            yield from _wrapped(f"the same bits: {name}", "     ")
        if len(cause.same) > _MOST_SAME:
            yield f"     the same bits: {len(cause.same) - _MOST_SAME} more"


def picture(case: Case) -> list[str]:
    """Return lanes x time as text: a line for each lane, or a few, a character for some words."""
    kinds = kinds_of(case)
    count, lanes = kinds.shape
    times = np.linspace(0, count, min(count, _COLUMNS) + 1).astype(int)
    groups = np.linspace(0, lanes, min(lanes, _LANES) + 1).astype(int)
    return [
        f"{low:>4} " + "".join(_symbol(kinds[a:b, low:high]) for a, b in zip(times, times[1:], strict=False))
        for low, high in zip(groups.tolist(), groups[1:].tolist(), strict=False)
    ]


def _symbol(kinds: np.ndarray) -> str:
    """Return one character for values of some `KINDS`; padding is drawn as what is right."""
    symbols = {_SYMBOLS[kind] for kind in np.unique(kinds).tolist()}
    return "+" if len(symbols) > 1 else symbols.pop()


def to_json(found: Diagnosis) -> dict[str, Any]:
    """Return a diagnosis as plain JSON types."""
    return {
        "passes": found.passes,
        "words": vars(found.counts),
        "groups": [
            {"where": str(x.where), "role": x.where.role, "layout": x.layout, "words": vars(x.counts)}
            for x in found.compared
        ],
        "first": None if found.first is None else _first_json(found.first),
        "looked_into": None
        if found.case is None
        else _named(found.case.group.where, found.case.group.files.layout.name),
        "axes": {
            axis: {"labels": list(wrong.label(axis)), "wrong": wrong.values.tolist(), "of": each.values.tolist()}
            for axis, (wrong, each) in found.axes.items()
        },
        "only_on_border": found.on_border,
        "causes": [_cause_json(cause) for cause in found.causes],
        "notes": list(found.notes),
    }


def _first_json(first: First) -> dict[str, Any]:
    address = first.address
    return vars(first) | {"address": str(address), "labels": dict(address.labels), "bits": list(first.bits)}


def _cause_json(cause: Finding) -> dict[str, Any]:
    return {
        "name": cause.name,
        "hypotheses": [hypothesis.name for hypothesis in cause.hypotheses],
        "detail": cause.detail,
        "explained": cause.explained,
        "wrong": cause.wrong,
        "groups": cause.groups,
        "contradicted": cause.contradicted,
        "score": round(cause.score, 4),
        "looks": [hypothesis.looks for hypothesis in cause.hypotheses],
        "check": [hypothesis.check for hypothesis in cause.hypotheses],
        "same": list(cause.same),
    }
