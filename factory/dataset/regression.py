"""Regressions: many exports of one source, each simulated in a folder of its own, compiled once for each testbench."""

from __future__ import annotations

import hashlib
import shlex
import shutil
import time
from collections.abc import Iterator
from concurrent.futures import Executor, ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from factory.dataset.outcomes import RESULTS, CaseResult, Results, load_results
from factory.dataset.reading import open_source
from factory.diagnose import diagnose
from factory.export import ExportSource, export, plan_export
from factory.fileplan import ExportOptions
from factory.simulate import (
    COMPILE,
    MISMATCH,
    BenchRun,
    CompileError,
    compile_bench,
    find_simulator,
    watch_bench,
)
from factory.spec import FactoryError, InputError, Progress
from factory.testbench import Bench, bench_files, bench_of, write_given

VECTORS, GIVEN, RUNS, BUILDS = "vectors", "given", "runs", "builds"
_SAID = 20
_LONGEST_NAME = 60


@dataclass(frozen=True)
class Setup:
    """What all cases of a regression have in common.

    `source` is a store or the folder of a dataset, `split` the name of one of its splits, `options` what is exported,
    `simulator` its name, `dut` the sources of another device than the reference array, `stall` a seed of random stalls.
    `batch` images of a layer are one case, and a simulation is ended after `limit` seconds.
    """

    source: Path
    options: ExportOptions
    simulator: str
    split: str | None = None
    dut: tuple[Path, ...] = ()
    stall: int | None = None
    batch: int = 8
    limit: float = 600.0

    def __post_init__(self):
        for name, least in (("limit", 0.001), ("batch", 1), ("stall", 0)):
            value = getattr(self, name)
            if value is not None and value < least:
                raise InputError(f"{name} must be at least {least:g}, not {value:g}", options=(name,))
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
    """One simulation of a regression: what is exported of some images of one layer, and the bench that runs it."""

    name: str
    layer: str
    options: ExportOptions
    bench: Bench

    def build_key(self, setup: Setup) -> str:
        """Return a name for all that is compiled: cases that have it in common share one simulation."""
        sources = [data for path, data in sorted(bench_files(self.bench).items()) if path.endswith(".sv")]
        return hashlib.sha256(b"\0".join([setup.simulator.encode(), *sources])).hexdigest()[:16]


def cases_of(setup: Setup, source: ExportSource) -> list[Case]:
    """Return the cases of a regression; raise InputError for options that do not fit, before anything is written.

    An array that reads unsigned codes is told to read signed ones in the layers that have them, unless the options say.
    """
    layers = source.network.select(setup.options.layer_names)
    found, signed = [], setup.options.pe_activation
    for spec in (spec for spec in layers if spec.name in source.layers or "all" not in setup.options.layer_names):
        own = replace(setup.options, layers=spec.name, pe_activation=signed or ("signed" if spec.signed else None))
        images = plan_export(source, own).images
        for first in range(0, len(images), setup.batch):
            part = images[first : first + setup.batch]
            options = replace(own, images=",".join(map(str, part)), testbench=True)
            bench = bench_of(plan_export(source, options))
            found.append(Case(f"{spec.name}/{_short(part)}", spec.name, options, bench))
    return found


def _short(images: tuple[int, ...]) -> str:
    """Return images, ascending, as a name: `0-7`, `3`, `0,5,9`, or `0..900` where that would be long."""
    first, last = images[0], images[-1]
    if images == tuple(range(first, last + 1)):
        return str(first) if first == last else f"{first}-{last}"
    text = ",".join(map(str, images))
    return text if len(text) <= _LONGEST_NAME else f"{first}..{last}"


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

    `workers` simulations run at once, or as many as the Dask `scheduler` has threads, on machines that see the same
    files. `only` is the name of one case; with `failed`, those cases run that the results in `folder` do not say
    passed; the others' results stay. A case that does not pass keeps its vectors in `runs/<case>`. Raise InputError
    where nothing can be simulated.
    """
    if workers < 1:
        raise InputError(f"workers must be at least 1, not {workers}", options=("workers",))
    folder, source = folder.resolve(), setup.source.resolve()
    setup = replace(setup, source=source, dut=tuple(path.resolve() for path in setup.dut))
    with open_source(source) as opened:
        cases = cases_of(setup, opened)
    partial = failed or only is not None and (folder / RESULTS).exists()
    found = {case.name: case for case in load_results(folder).cases} if partial else {}
    found = {case.name: found[case.name] for case in cases if case.name in found}
    if only is not None and only not in {case.name for case in cases}:
        names = " ".join(case.name for case in cases[:8])
        raise InputError(f"only must be a case such as {names}, not {only}", options=("only",))
    wanted = [
        case for case in cases
        if only in (None, case.name) and not (failed and case.name in found and found[case.name].passes)
    ]  # fmt: skip
    for place in (RUNS, BUILDS) if not partial else (BUILDS,):
        shutil.rmtree(folder / place, ignore_errors=True)
    folder.mkdir(parents=True, exist_ok=True)
    causes: dict[str, str] = {}
    command = setup.command("-o", str(folder))
    try:
        with _executor(workers, scheduler) as executor:
            for case in _run_all(setup, folder, wanted, executor, progress):
                found[case.name] = replace(case, rerun=f"{command} --only {shlex.quote(case.name)}")
            results = Results(command, tuple(found[case.name] for case in cases if case.name in found))
            causes = _causes(setup, folder, results, {case.name: case for case in cases}, executor)
    finally:
        results = Results(command, tuple(found[case.name] for case in cases if case.name in found), causes)
        results.save(folder)
        shutil.rmtree(folder / BUILDS, ignore_errors=True)
    return results


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
    from distributed import Client

    with Client(scheduler) as client:
        yield client.get_executor(pure=False)


def _run_all(
    setup: Setup, folder: Path, cases: list[Case], executor: Executor, progress: Progress | None
) -> Iterator[CaseResult]:
    """Yield the results of cases, in the order in which they end; each testbench is compiled once."""
    keys = {case.name: case.build_key(setup) for case in cases}
    first = {keys[case.name]: case for case in reversed(cases)}
    compiling = {
        executor.submit(_compile, setup, folder / BUILDS / key, case.bench): key for key, case in first.items()
    }
    said = {compiling[done]: done.result() for done in as_completed(compiling)}
    running = []
    for case in cases:
        key = keys[case.name]
        if said[key]:
            first_line = next((line for line in said[key] if "error" in line.lower()), said[key][0])
            yield CaseResult(case.name, case.layer, COMPILE, first=first_line, said=said[key])
        else:
            running.append(executor.submit(_run, setup, folder, folder / BUILDS / key, case))
    for at, done in enumerate(as_completed(running)):
        result = done.result()
        if progress:
            progress(at + 1, len(running), f"{result.name} {result.state}")
        yield result


def _compile(setup: Setup, build: Path, bench: Bench) -> tuple[str, ...]:
    """Compile a bench into a new folder; return what the simulator said where it does not compile, else nothing."""
    for path, data in bench_files(bench).items():
        (build / path).parent.mkdir(parents=True, exist_ok=True)
        (build / path).write_bytes(data)
    try:
        compile_bench(build, build, find_simulator(setup.simulator), setup.dut)
    except CompileError as error:
        return tuple(str(error).splitlines()[1:]) or (str(error),)
    return ()


def _run(setup: Setup, folder: Path, build: Path, case: Case) -> CaseResult:
    """Export and simulate one case; its folder stays unless it passes."""
    place, start = folder / RUNS / case.name, time.perf_counter()
    shutil.rmtree(place, ignore_errors=True)
    with open_source(setup.source) as source:
        export(source, place / VECTORS, case.options, workers=1)
    simulator = find_simulator(setup.simulator)
    run = watch_bench(place / VECTORS, build, simulator, case.bench, setup.stall, limit=setup.limit)
    said = () if run.passes else tuple(run.said[-_SAID:])
    if run.passes:
        shutil.rmtree(place)
    seconds, bench = round(time.perf_counter() - start, 3), case.bench
    return CaseResult(case.name, case.layer, run.state, seconds, bench.jobs, bench.compared, _first(run, setup), said)


def _first(run: BenchRun, setup: Setup) -> str:
    """Return what went wrong first in a run, in one line; nothing where it passed."""
    if run.passes:
        return ""
    if run.wrong:
        return run.wrong[0]
    if run.code is None:
        return f"it did not end within {setup.limit:g} s"
    last = next((line for line in reversed(run.said) if line), "it said nothing")
    return f"exit code {run.code}: {last}" if run.code else f"{last}"


def _causes(setup: Setup, folder: Path, results: Results, cases: dict[str, Case], executor: Executor) -> dict[str, str]:
    """Return the cause that a diagnosis names of each bucket of mismatches, from its first case, run once more."""
    cases_of_buckets = {bucket.name: cases[bucket.first] for bucket in results.buckets}
    diagnosing = {
        executor.submit(_diagnose, setup, folder, folder / BUILDS / case.build_key(setup), case): name
        for name, case in cases_of_buckets.items()
        if name.startswith(MISMATCH)
    }
    found = {diagnosing[done]: done.result() for done in as_completed(diagnosing)}
    return {name: cause for name, cause in found.items() if cause}


def _diagnose(setup: Setup, folder: Path, build: Path, case: Case) -> str:
    """Run a case once more for what the device gives, beside its vectors, and return the best cause, if any."""
    place = folder / RUNS / case.name
    log, given = place / "given.log", place / GIVEN
    watch_bench(
        place / VECTORS, build, find_simulator(setup.simulator), case.bench, setup.stall, log=log, limit=setup.limit
    )
    try:
        write_given(case.bench, log, given)
        causes = diagnose(place / VECTORS, [given]).causes
    except (FactoryError, OSError):  # what it gave can be no dump at all
        return ""
    return causes[0].name if causes else ""
