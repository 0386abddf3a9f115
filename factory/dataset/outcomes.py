"""What came of a regression's cases: buckets of equal causes, results.json, and JUnit XML for CI."""

from __future__ import annotations

import json
import re
import shlex
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from factory.simulate import COMPILE, CRASH, MISMATCH, PASS, STATES
from factory.spec import InputError, write_whole

RESULTS, JUNIT = "results.json", "junit.xml"
SCHEMA = "factory-regression-1"
_NOT_XML = re.compile("[^\t\n\x20-\ud7ff\ue000-\ufffd]")


@dataclass(frozen=True)
class CaseResult:
    """What came of one case: some images of one layer, simulated by one process.

    `state` is one of `STATES`. `first` says what went wrong first, beginning with its address where it has one;
    `said` are the simulator's lines, where it did not pass. `compared` words of `jobs` jobs were to be compared.
    `rerun` is the command that does this case again.
    """

    name: str
    layer: str
    state: str
    seconds: float = 0.0
    jobs: int = 0
    compared: int = 0
    first: str = ""
    said: tuple[str, ...] = ()
    rerun: str = ""

    @property
    def passes(self) -> bool:
        """Whether every word came, and was right."""
        return self.state == PASS

    @property
    def bucket(self) -> str:
        """What equal causes have in common: the state, and what went wrong first without numbers.

        A mismatch begins with an address, which is left out too.
        """
        what = self.first.rpartition(": ")[2] if self.state == MISMATCH else self.first
        return f"{self.state}: {re.sub(r'-?[0-9]+', '#', what)}" if what else self.state


@dataclass(frozen=True)
class Bucket:
    """Cases that failed alike: the first one's name, how many, and the `cause` that its diagnosis names, or nothing."""

    name: str
    first: str
    cases: int
    cause: str = ""


@dataclass(frozen=True)
class Results:
    """The results of a regression, in the order of its cases; `command` made them, `causes` are those of buckets."""

    command: str
    cases: tuple[CaseResult, ...]
    causes: Mapping[str, str] = field(default_factory=dict)

    @property
    def passes(self) -> bool:
        """Whether there are cases, and all of them passed."""
        return bool(self.cases) and all(case.passes for case in self.cases)

    @property
    def counts(self) -> dict[str, int]:
        """How many cases ended in each state that occurs, in the order of `STATES`."""
        found = Counter(case.state for case in self.cases)
        return {state: found[state] for state in STATES if state in found}

    @property
    def failed(self) -> tuple[CaseResult, ...]:
        """The cases that did not pass."""
        return tuple(case for case in self.cases if not case.passes)

    @property
    def buckets(self) -> tuple[Bucket, ...]:
        """The cases that failed, those that failed alike together, the largest bucket first."""
        first = {case.bucket: case.name for case in reversed(self.failed)}
        counts = Counter(case.bucket for case in self.failed)
        return tuple(
            Bucket(name, first[name], cases, self.causes.get(name, "")) for name, cases in counts.most_common()
        )

    def report(self, folder: Path) -> str:
        """Return in a few lines what came of it, and of each bucket the first case and how to run it again."""
        counts = ", ".join(f"{count} {state}" for state, count in self.counts.items()) or "none ran"
        words = sum(case.compared for case in self.cases if case.passes)
        cases = "1 case" if len(self.cases) == 1 else f"{len(self.cases)} cases"
        lines = [f"{folder / RESULTS}  {cases}: {counts}  {words} words compared"]
        named = {case.name: case for case in self.cases}
        for bucket in self.buckets:
            cause, first = f" ({bucket.cause})" if bucket.cause else "", named[bucket.first]
            lines += [f"{bucket.cases} x {bucket.name}{cause}", f"  {first.name}: {first.first}", f"  {first.rerun}"]
        return "\n".join(lines)

    def save(self, folder: Path) -> None:
        """Write `results.json` and `junit.xml` into a folder."""
        record = {
            "schema": SCHEMA,
            "command": self.command,
            "passes": self.passes,
            "counts": self.counts,
            "buckets": [asdict(bucket) for bucket in self.buckets],
            "cases": [asdict(case) | {"bucket": None if case.passes else case.bucket} for case in self.cases],
        }
        write_whole(folder / RESULTS, (json.dumps(record, indent=1) + "\n").encode())
        write_whole(folder / JUNIT, self._junit())

    def _junit(self) -> bytes:
        errors = sum(case.state in (CRASH, COMPILE) for case in self.cases)
        suite = ElementTree.Element(
            "testsuite", name="factory", tests=str(len(self.cases)), errors=str(errors),
            failures=str(len(self.failed) - errors), time=f"{sum(case.seconds for case in self.cases):.3f}",
        )  # fmt: skip
        for case in self.cases:
            item = ElementTree.SubElement(
                suite, "testcase", classname=case.layer, name=case.name, time=f"{case.seconds:.3f}"
            )
            if not case.passes:
                kind = "error" if case.state in (CRASH, COMPILE) else "failure"
                text = _NOT_XML.sub("?", "\n".join([*case.said, "", case.rerun]))
                found = ElementTree.SubElement(item, kind, type=case.state, message=_NOT_XML.sub("?", case.first))
                found.text = text
        ElementTree.indent(suite)
        return ElementTree.tostring(suite, encoding="utf-8", xml_declaration=True) + b"\n"


def load_results(folder: Path) -> Results:
    """Return the results that `Results.save` wrote into a folder; raise InputError where there are none."""
    path = folder / RESULTS
    try:
        record: Any = json.loads(path.read_bytes())
        if record["schema"] != SCHEMA:
            raise ValueError(f"schema {record['schema']}")
        if not isinstance(record["command"], str):
            raise ValueError(f"command {record['command']!r}")
        shlex.split(record["command"])  # ValueError where it is none: what is to stay is told by its words
        cases = [{name: value for name, value in case.items() if name != "bucket"} for case in record["cases"]]
        return Results(
            record["command"],
            tuple(CaseResult(**case | {"said": tuple(case["said"])}) for case in cases),
            {bucket["name"]: bucket["cause"] for bucket in record["buckets"]},
        )
    except FileNotFoundError:
        raise InputError(f"{folder}: must hold the results of a regression, there is no {RESULTS}") from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path}: must be results of {SCHEMA}: {error}") from None
