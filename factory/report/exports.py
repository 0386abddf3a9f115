"""The sections of an export: its files, how their words are built, and what a dump of them has wrong."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from pathlib import Path

from factory import plot
from factory.diagnose import Diagnosis, diagnose
from factory.diagnose.golden import groups
from factory.fileplan import ExportPlan, read_plan
from factory.manifest import open_manifest
from factory.plot.files import word_figure
from factory.report.page import Pictures, Section, card, facts
from factory.spec import Progress
from factory.tables import bytes_text, html_table

_MOST_ROWS = 200


def export_sections(
    directory: Path, dumps: Sequence[Path], store: Path | None, pictures: Pictures, progress: Progress | None = None
) -> list[Section]:
    """Return what a page shows of an export and, where there are dumps, of what is wrong with them."""
    manifest = open_manifest(directory)
    known, counts, plan = manifest.facts, manifest.facts["counts"], read_plan(directory)
    array, pe = known["array"], known["pe"]
    cards = facts({
        "profile": f"{known['profile']} ({known['dataflow']})",
        "files": f"{counts['files']:,}",
        "words": f"{counts['words']:,}",
        "bytes": bytes_text(counts["bytes"]),
        "array": f"{array['rows']} × {array['cols']}, adders of {pe['psum_bits']} bits, {pe['overflow']}",
        "inexact values": f"{counts['inexact']:,}",
    })  # fmt: skip
    rows = [
        (group.where.layer, "all" if group.where.image is None else group.where.image, group.where.role,
         len(group.paths), group.memory.words, group.memory.word.width, group.paths[0])
        for group in groups(directory, plan)
    ]  # fmt: skip
    headings = ("layer", "image", "role", "files", "words", "bits", "the first")
    warned = "".join(f'<p class="bad">{escape(text)}</p>' for text in known["warnings"])
    shown = rows[:_MOST_ROWS]
    rest = f'<p class="faint">and {len(rows) - len(shown)} more</p>' if len(rows) > len(shown) else ""
    sections = [
        Section("files", "Files", f"{cards}{warned}{card(html_table(headings, shown), 'wide')}{rest}"),
        Section("words", "Memory words", _words(directory, plan, pictures)),
    ]
    if dumps:
        if progress:
            progress(0, 1, "comparing")
        sections.append(Section("mismatch", "Mismatch", _mismatch(diagnose(directory, dumps, store=store), pictures)))
    return sections


def _words(directory: Path, plan: ExportPlan, pictures: Pictures) -> str:
    seen, cards = set(), []
    for group in groups(directory, plan):
        name = group.files.layout.name
        if name in seen or not group.files.format.radix:
            continue
        seen.add(name)
        drawn = pictures.html(word_figure(group), f"word-{name}", f"bits of a word of {name}, by lane")
        cards.append(card(f"<h3>{escape(name)}</h3>{drawn}"))
    text = "Bits of the first words of each kind of file, the most significant at the left, coloured by lane."
    return f'<p class="faint">{text}</p>' + "\n".join(cards)


def _mismatch(found: Diagnosis, pictures: Pictures) -> str:
    rows = [
        (str(x.where), x.where.role, x.counts.expected, x.counts.equal, x.counts.wrong, x.counts.undefined,
         x.counts.missing)
        for x in found.compared
    ]  # fmt: skip
    counted = html_table(("where", "role", "words", "equal", "wrong", "undefined", "missing"), rows)
    parts = [card(counted, "wide")]
    if found.case is None:
        return "<p>Every word is right.</p>" + parts[0]
    parts.insert(0, f"<p><b>{_verdict(found)}</b></p>")
    if (first := found.first) is not None:
        have = "undefined" if first.have is None else first.have
        parts.insert(1, (
            f'<p>First: {escape(str(first.address))}: <b>{first.address.role} must be {first.must}, not {have}</b><br>'
            f"<code>{escape(first.path)}</code>, line {first.line}, bits {first.high} to {first.low}</p>"
        ))  # fmt: skip
    parts.append(card(pictures.html(plot.mismatches(found), "mismatch", "which values are wrong")))
    if found.causes:
        causes = "".join(
            f"<li><b>{escape(x.name)}</b><br>explains {x.explained:,} of {x.wrong:,} values<br>"
            + "".join(f'<span class="faint">check: {escape(each.check)}</span>' for each in x.hypotheses) + "</li>"
            for x in found.causes
        )  # fmt: skip
        parts.append(f'<h3>Causes, the best first</h3><ol class="causes">{causes}</ol>')
    parts += [f'<p class="faint">{escape(note)}</p>' for note in found.notes]
    return "\n".join(parts)


def _verdict(found: Diagnosis) -> str:
    counts = found.counts
    wrong = f"{counts.expected - counts.equal:,} of {counts.expected:,} words are not what they must be"
    return f"{wrong}: {escape(found.causes[0].name)}" if found.causes else f"{wrong}; no cause explains half of them"


def export_provenance(directory: Path) -> list[tuple[str, str]]:
    """Return where an export comes from, as names and values."""
    known = open_manifest(directory).facts
    return [
        ("export", directory.resolve().name),
        ("pack id", known["pack_id"]),
        ("weights sha256", known["weights_sha256"]),
        ("made by", " ".join(known["generator"].values())),
    ]
