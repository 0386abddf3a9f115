"""Regressions: many exports of one source, each simulated in a folder of its own, compiled once for each testbench."""

from __future__ import annotations

import hashlib
import re
import shlex
import shutil
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from factory.dataset.covering import covering_tiles, exports_of
from factory.dataset.engine import connected
from factory.dataset.outcomes import RESULTS, CaseResult, Results, load_results
from factory.dataset.plan import FULL, SMOKE, Split
from factory.dataset.reading import OpenDataset, open_source
from factory.diagnose import diagnose
from factory.export import export, plan_export
from factory.fileplan import ExportOptions, read_plan
from factory.simulate import (
    COMPILE,
    MISMATCH,
    MOST_SEED,
    BenchRun,
    CompileError,
    check_stall,
    compile_bench,
    find_simulator,
    watch_bench,
)
from factory.spec import FactoryError, InputError, Progress, check_range
from factory.store import Store
from factory.testbench import Bench, bench_files, bench_of, write_given

VECTORS, GIVEN, RUNS, BUILDS = "vectors", "given", "runs", "builds"
_SAID = 20
_LONGEST_NAME = 60
_LONGEST, _MOST_BATCH = 10**7, 1 << 20
_MOST_NAMES = 8
_ERROR = re.compile("error|fatal", re.IGNORECASE)
_FREE = ("--layers", "--images", "--batch", "--dut", "--simulator", "--limit", "--output")
"""Options that decide which cases there are, and what runs them, but no bit of a case of some name."""


@dataclass(frozen=True)
class Setup:
    """What all cases of a regression have in common.

    `source` is a store or the folder of a dataset, `split` the name of one of its splits, `options` what is exported,
    `simulator` its name, `dut` the sources of another device than the reference array, `stall` a seed of random stalls.
    `batch` images of a layer are one case, and a simulation is ended after `limit` seconds.
    """

    source: Path
    options: ExportOptions
    simulator: str | None = None
    split: str | None = None
    dut: tuple[Path, ...] = ()
    stall: int | None = None
    batch: int = 8
    limit: float = 3600.0

    def __post_init__(self):
        if not 0.001 <= self.limit <= _LONGEST:
            raise InputError(f"limit must be 0.001 to {_LONGEST} seconds, not {self.limit:g}")
        check_range("batch", self.batch, 1, _MOST_BATCH)
        if self.stall is not None:
            check_range("stall", self.stall, 0, MOST_SEED)
        for path in self.dut:
            if not path.is_file():
                raise InputError(f"{path}: must be a SystemVerilog source, there is no such file")

    def command(self, *more: str) -> str:
        """Return the command that does the same, with more flags."""
        own = {"split": None, "dut": (), "stall": None, "batch": Setup.batch, "limit": Setup.limit}
        pairs = [(name, getattr(self, name), default) for name, default in own.items()]
        pairs += [(name, getattr(self.options, name), default) for name, default in asdict(ExportOptions()).items()]
        words = ["factory", "dataset", "simulate", str(self.source), "--simulator", self.simulator]
        for name, value, default in pairs:
            for each in value if isinstance(value, tuple) else (value,) if value != default else ():
                words += [f"--{name.replace('_', '-')}", str(each)]
        return shlex.join([*words, *more])


@dataclass(frozen=True)
class Case:
    """One simulation of a regression: what is exported of some images of one layer.

    `key` names all that is compiled for it: cases that have it in common share one simulation.
    """

    name: str
    layer: str
    options: ExportOptions
    key: str


def cases_of(setup: Setup, source: Store | OpenDataset, progress: Progress | None = None) -> list[Case]:
    """Return the cases of a regression; raise InputError for options that do not fit, before anything is written.

    Images, layers and tiles are those of the split, unless the options name others. An array that reads codes without a
    sign is told to read signed ones in the layers that have them, unless the options say.
    """
    found, signed = [], setup.options.pe_activation
    for where, options in _of_split(setup, source, progress):
        for spec in source.network.select(options.layer_names, source.layers, f"{source.path}: "):
            own = replace(options, layers=spec.name, pe_activation=signed or ("signed" if spec.signed else None))
            images = plan_export(source, own).images
            for first in range(0, len(images), setup.batch):
                part = images[first : first + setup.batch]
                exported = replace(own, images=",".join(map(str, part)), testbench=True)
                bench = bench_of(plan_export(source, exported))
                check_stall(bench, setup.stall)
                found.append(Case(f"{spec.name}/{where}{_short(part)}", spec.name, exported, _build_key(bench)))
    return found


def _of_split(
    setup: Setup, source: Store | OpenDataset, progress: Progress | None
) -> Iterator[tuple[str, ExportOptions]]:
    """Yield the options with what they leave open taken from the split, and what tells them apart in names of cases."""
    options = setup.options
    if isinstance(source, OpenDataset):
        name = SMOKE if setup.split is None else setup.split
        if picks := covering_tiles(source, name, options, progress):
            for own in exports_of(picks, options):
                yield own.tiles.replace("=", "").replace(",", "-") + "/", own
            return
        split = source.record.plan.split(name)
    elif setup.split is None:
        split = Split(FULL)
    else:
        raise InputError(f"{source.path}: split must be given with a dataset, this is a store", options=("split",))
    yield "", split.of(options)


def _build_key(bench: Bench) -> str:
    sources = [data for path, data in sorted(bench_files(bench).items()) if path.endswith(".sv")]
    return hashlib.sha256(b"\0".join(sources)).hexdigest()[:16]


def _short(images: tuple[int, ...]) -> str:
    """Return images, ascending, as a name of their own: `0-7`, `3`, `0,5,9`, or `0..900-1f2e3d4c` where that is long.

    The digest tells images apart that begin and end alike: results of others must not pass for theirs.
    """
    first, last = images[0], images[-1]
    if images == tuple(range(first, last + 1)):
        return str(first) if first == last else f"{first}-{last}"
    text = ",".join(map(str, images))
    if len(text) <= _LONGEST_NAME:
        return text
    return f"{first}..{last}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"


def regress(
    setup: Setup,
    folder: Path,
    workers: int = 1,
    scheduler: str | None = None,
    only: str | None = None,
    failed: bool = False,
    progress: Progress | None = None,
) -> Results:
    """Simulate the cases of a regression, and write `results.json` and `junit.xml` into `folder`.

    `workers` simulations run at once, or as many as the workers of a Dask `scheduler`, its address or its file, have
    threads; they must see the same files. `only` is the name of one case; with `failed`, those cases run that the
    results in `folder` do not say passed; the others' results stay. A case that does not pass keeps its vectors in
    `runs/<case>`. Raise InputError where nothing can be simulated, or the results that would stay are of other vectors.
    """
    if workers < 1:
        raise InputError(f"workers must be at least 1, not {workers}")
    folder, dut = folder.resolve(), tuple(path.resolve() for path in setup.dut)
    simulator = find_simulator(setup.simulator).name
    setup = replace(setup, source=setup.source.resolve(), simulator=simulator, dut=dut)
    with open_source(setup.source) as source:
        cases = cases_of(setup, source, progress)
    _check_asked(cases, only, folder)
    board = _Board(folder, setup.command("--output", str(folder)), cases)
    if partial := failed or only is not None and (folder / RESULTS).is_file():
        board.keep(_results_before(folder, board.command))
    wanted = [case for case in cases if only in (None, case.name) and not (failed and board.passed(case))]
    with _executor(workers, scheduler) as executor:
        board.clear(BUILDS, *(() if partial else (RUNS,)))
        folder.mkdir(parents=True, exist_ok=True)
        board.results.save(folder)  # what is ended here has nothing of an earlier one
        try:
            for result in _run_all(setup, folder, wanted, executor, progress):
                board.add(result)
            board.causes |= _causes(setup, folder, board.results, wanted, executor)
        finally:
            board.results.save(folder)
            board.clear(BUILDS, *((RUNS,) if board.results.passes else ()))
    return board.results


def _check_asked(cases: Sequence[Case], only: str | None, folder: Path) -> None:
    """Raise InputError where there is no case called `only`, or a regression cannot be written to a folder."""
    if only is not None and only not in {case.name for case in cases}:
        names = " ".join(case.name for case in cases[:_MOST_NAMES])
        raise InputError(f"only must be a case such as {names}, not {only}")
    if folder.exists() and not (folder / RESULTS).is_file() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(f"{folder}: must be a new folder, or have the {RESULTS} of a regression")


@dataclass
class _Board:
    """A regression's folder while its cases end: what came of each, by name, and the causes of buckets."""

    folder: Path
    command: str
    cases: Sequence[Case]
    found: dict[str, CaseResult] = field(default_factory=dict)
    causes: dict[str, str] = field(default_factory=dict)

    @property
    def results(self) -> Results:
        """What there is by now, in the order of the cases."""
        ended = (self.found[case.name] for case in self.cases if case.name in self.found)
        return Results(self.command, tuple(ended), self.causes)

    def keep(self, before: Results) -> None:
        """Take the results of an earlier run, which stay until their cases end again."""
        self.found, self.causes = {case.name: case for case in before.cases}, dict(before.causes)

    def passed(self, case: Case) -> bool:
        """Return whether a case has passed."""
        return case.name in self.found and self.found[case.name].passes

    def add(self, result: CaseResult) -> None:
        """Take what came of a case, with the command that runs it again."""
        rerun = f"{self.command} --only {shlex.quote(result.name)}"
        self.found[result.name] = replace(result, rerun=rerun)

    def clear(self, *places: str) -> None:
        """Remove folders in the regression's."""
        for place in places:
            shutil.rmtree(self.folder / place, ignore_errors=True)


def _results_before(folder: Path, command: str) -> Results:
    """Return the results in a folder; raise InputError where a case of theirs has other vectors than a command's."""
    before = load_results(folder)
    found, wanted = _vectors_of(before.command), _vectors_of(command)
    if found != wanted:
        raise InputError(f"{folder / RESULTS}: must be of {wanted}, whose cases are to stay, it is of {found}")
    return before


def _vectors_of(command: str) -> str:
    """Return what decides the vectors of a case in the command of a regression: its source, and most options."""
    words = shlex.split(command)
    pairs = zip(words[4::2], words[5::2], strict=False)
    return shlex.join([*words[3:4], *(word for pair in pairs if pair[0] not in _FREE for word in pair)])


@contextmanager
def _executor(workers: int, scheduler: str | None) -> Iterator[Executor]:
    """Yield what runs tasks: threads of this process, each of which waits for a simulator, or a Dask cluster."""
    if scheduler is None:
        with ThreadPoolExecutor(workers) as pool:
            try:
                yield pool
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise
        return
    place = (None, scheduler) if Path(scheduler).is_file() else (scheduler, None)
    with connected(0, *place) as client:
        yield client.get_executor(pure=False)


def _run_all(
    setup: Setup, folder: Path, cases: list[Case], executor: Executor, progress: Progress | None
) -> Iterator[CaseResult]:
    """Yield the results of cases, in the order in which they end; each testbench is compiled once."""
    first = {case.key: case for case in reversed(cases)}
    compiling = {executor.submit(_compile, setup, folder, case): key for key, case in first.items()}
    if progress:
        progress(0, len(cases), "compiling")
    said = {compiling[done]: done.result() for done in as_completed(compiling)}
    wrong = [case for case in cases if said[case.key]]
    for case in wrong:
        yield CaseResult(case.name, case.layer, COMPILE, first=_telling(said[case.key]), said=said[case.key])
    running = [executor.submit(_run, setup, folder, case) for case in cases if not said[case.key]]
    for at, done in enumerate(as_completed(running), len(wrong) + 1):
        result = done.result()
        if progress:
            progress(at, len(cases), f"{result.name} {result.state}")
        yield result


def _compile(setup: Setup, folder: Path, case: Case) -> tuple[str, ...]:
    """Compile a case's testbench in `builds/<key>`; return what the simulator said if it does not compile."""
    build = folder / BUILDS / case.key
    with open_source(setup.source) as source:
        files = bench_files(bench_of(plan_export(source, case.options)))
    for path, data in files.items():
        (build / path).parent.mkdir(parents=True, exist_ok=True)
        (build / path).write_bytes(data)
    try:
        compile_bench(build, build, find_simulator(setup.simulator), setup.dut)
    except CompileError as error:
        return tuple(str(error).splitlines()[1:]) or (str(error),)
    return ()


def _run(setup: Setup, folder: Path, case: Case) -> CaseResult:
    """Export and simulate one case; its folder stays unless it passes."""
    place, start = folder / RUNS / case.name, time.perf_counter()
    shutil.rmtree(place, ignore_errors=True)
    with open_source(setup.source) as source:
        export(source, place / VECTORS, case.options, workers=1)
    run = _watch(setup, folder, case)
    said = () if run.passes else tuple(run.said[-_SAID:])
    if run.passes:
        shutil.rmtree(place)
    jobs, compared, seconds = run.bench.jobs, run.bench.compared, round(time.perf_counter() - start, 3)
    return CaseResult(case.name, case.layer, run.state, seconds, jobs, compared, _first(run, setup), said)


def _watch(setup: Setup, folder: Path, case: Case, log: Path | None = None) -> BenchRun:
    """Simulate the vectors of a case with what was compiled for it."""
    vectors, build = folder / RUNS / case.name / VECTORS, folder / BUILDS / case.key
    bench = bench_of(read_plan(vectors))
    return watch_bench(vectors, build, find_simulator(setup.simulator), bench, setup.stall, log=log, limit=setup.limit)


def _telling(said: Sequence[str]) -> str:
    """Return the line of a simulator's that says most: the first that names an error, else the last."""
    lines = [line for line in said if line]
    return next((line for line in lines if _ERROR.search(line)), lines[-1] if lines else "it said nothing")


def _first(run: BenchRun, setup: Setup) -> str:
    """Return what went wrong first in a run, in one line; nothing where it passed."""
    if run.passes:
        return ""
    if run.wrong:
        return run.wrong[0]
    if run.code is None:
        return f"it did not end within {setup.limit:g} s"
    return f"exit code {run.code}: {_telling(run.said)}" if run.code else _telling(run.said)


def _causes(setup: Setup, folder: Path, results: Results, cases: list[Case], executor: Executor) -> dict[str, str]:
    """Return the cause that a diagnosis names of each bucket of mismatches that begins with one of these cases."""
    first = {bucket.first: bucket.name for bucket in results.buckets if bucket.name.startswith(MISMATCH)}
    diagnosing = {
        executor.submit(_diagnose, setup, folder, case): first[case.name] for case in cases if case.name in first
    }
    return {diagnosing[done]: done.result() for done in as_completed(diagnosing)}


def _diagnose(setup: Setup, folder: Path, case: Case) -> str:
    """Run a case once more for what the device gives, beside its vectors, and return the best cause, if any."""
    place = folder / RUNS / case.name
    log, given = place / "given.log", place / GIVEN
    try:
        run = _watch(setup, folder, case, log)
        write_given(run.bench, log, given)
        causes = diagnose(place / VECTORS, [given]).causes
    except (FactoryError, OSError):  # what a broken device gives may be no dump at all
        return ""
    return causes[0].name if causes else ""
