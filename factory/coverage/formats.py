"""Coverage in the formats of others, without a time of day: UCIS XML of Accellera, and the YAML of cocotb-coverage."""

from __future__ import annotations

import json
from collections.abc import Iterator
from xml.sax.saxutils import quoteattr

import numpy as np

from factory import __version__
from factory.coverage.points import POINTS
from factory.coverage.record import Coverage, PointCoverage

_NO_TIME = "2000-01-01T00:00:00"
_SOURCE = 'file="1" line="1" inlineCount="1"'


def _bins(point: PointCoverage) -> Iterator[tuple[str, int, str]]:
    """Yield each bin's name, hits, and the reason why it is unreachable, if it is so."""
    whole = np.ones(point.hits.shape, bool)
    why = np.full(point.hits.shape, "", object)
    for reason, bins in point.reasons.items():
        why[bins & (point.hits == 0)] = reason
    for labels, hits, reason in zip(point.labels(whole), point.hits.flat, why.flat, strict=True):
        yield " ".join(f"{axis}={label}" for axis, label in labels.items()), int(hits), reason


def to_ucis(coverage: Coverage) -> str:
    """Return all layers as one cover group in UCIS XML: a cover point for each point, a bin for each bin.

    A count is that of vectors. Bins that no input can hit are of type `ignore`, their alias being the reason.
    """
    total, source = coverage.total, quoteattr(coverage.source)
    text = [
        '<?xml version="1.0" encoding="UTF-8"?>',
        f'<UCIS ucisVersion="1.0" writtenBy="factory" writtenTime="{_NO_TIME}">',
        f'<sourceFiles fileName={source} id="1"/>',
        f'<historyNodes historyNodeId="0" logicalName={source} testStatus="true" date="{_NO_TIME}" '
        'toolCategory="UCIS:Simulator" ucisVersion="1.0" vendorId="factory" vendorTool="factory" '
        f'vendorToolVersion="{__version__}"/>',
        f'<instanceCoverages name="array" key="0" moduleName="array_{coverage.dataflow}">',
        f"<id {_SOURCE}/>",
        "<covergroupCoverage>",
        f'<cgInstance name={quoteattr(total.layer)} key="0"><options/><cgId cgName="vectors" moduleName="array">'
        f"<cginstSourceId {_SOURCE}/><cgSourceId {_SOURCE}/></cgId>",
    ]
    for key, point in enumerate(total.points.values()):
        comment = quoteattr(POINTS[point.point].meaning) if point.point in POINTS else '""'
        text.append(f'<coverpoint name={quoteattr(point.point)} key="{key}"><options comment={comment}/>')
        for place, (name, hits, reason) in enumerate(_bins(point)):
            kind, alias = ("ignore", f" alias={quoteattr(reason)}") if reason else ("bins", "")
            text.append(
                f'<coverpointBin name={quoteattr(name)} key="{place}" type="{kind}"{alias}>'
                f'<range from="{place}" to="{place}"><contents coverageCount="{hits}"/></range></coverpointBin>'
            )
        text.append("</coverpoint>")
    return "\n".join([*text, "</cgInstance>", "</covergroupCoverage>", "</instanceCoverages>", "</UCIS>", ""])


def to_yaml(coverage: Coverage) -> str:
    """Return all layers as one in the YAML that cocotb-coverage exports and merges; unreachable bins are left out."""
    points = {name: [each for each in _bins(point) if not each[2]] for name, point in coverage.total.points.items()}
    text = []
    for name, bins in {"": [bin for each in points.values() for bin in each], **dict(sorted(points.items()))}.items():
        hit = sum(hits > 0 for _, hits, _ in bins)
        share = round(100 * hit / len(bins), 2) if bins else 100
        kind = "CoverPoint" if name else "CoverItem"
        text += [f"{'.'.join(filter(None, ('top', name)))}:"]
        if name:
            text += ["  at_least: 1", "  bins:_hits:" + ("" if bins else " {}")]
            text += [f"    {json.dumps(label)}: {hits}" for label, hits, _ in bins]
        text += [f"  cover_percentage: {share}", f"  coverage: {hit}", f"  size: {len(bins)}"]
        text += [f"  type: <class 'cocotb_coverage.coverage.{kind}'>", *(["  weight: 1"] if name else [])]
    return "\n".join([*text, ""])
