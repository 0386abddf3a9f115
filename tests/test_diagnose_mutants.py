"""Every wrong array of the mutants in a simulator, and the cause that is named for what it gave."""

import shutil
from importlib.resources import files
from pathlib import Path

import pytest
from helpers_bench import export_bench, random_store
from helpers_diagnose import table_lines
from helpers_simulator import need
from mutants.array import MUTANTS
from mutants.causes import CAUSES, NOT_NAMED

from factory.diagnose import diagnose
from factory.simulate import simulate
from factory.spec import ComparisonError, SystolicArray

RTL = Path(str(files("factory") / "rtl"))
BY_NAME = {mutant.what: mutant for mutant in MUTANTS}
STALLED = {
    "the mesh moves while a psum waits",
    "an activation is taken while the mesh waits",
    "an activation does not wait for its weight",
    "an output does not wait to be taken",
}
FIELDS = {
    "stride": dict(stride=2, kernel=2, padding=0, height=7, width=6),
    "simd": dict(activation_bits=2),
}
OPTIONS = {
    "stride": dict(post="leaky", include="activation,weight,out,accumulator"),
    "simd": dict(profile="simd2-even"),
    "saturate": dict(overflow="saturate"),
    "partial": dict(overflow="saturate", include="activation,weight,out,accumulator"),
}


def wrong_dump(folder: Path, what: str, flow: str) -> tuple[Path, Path]:
    """Simulate a mutant and return the export and what the device gave."""
    mutant = BY_NAME[what]
    options = dict(dataflow=flow, include="activation,weight,out") | OPTIONS.get(mutant.case, {})
    if flow == "ws":
        options["include"] += ",psum"
    store = random_store(SystolicArray(3, 4, psum_bits=9), 1, 5, **dict(height=6) | FIELDS.get(mutant.case, {}))
    export = export_bench(store, folder / "x", **options)
    bench = export / "testbench" / "factory_tb.sv"
    bench.write_text(bench.read_text().replace("PATIENCE = 100000", "PATIENCE = 1000"))
    sources = Path(shutil.copytree(RTL, folder / "rtl"))
    path = sources / f"factory_{mutant.file}.sv"
    path.write_text(path.read_text().replace(mutant.old, mutant.new))
    stall = 3 if what in STALLED else None
    with pytest.raises(ComparisonError) as caught:
        simulate(export, "icarus", dut=sorted(sources.glob("*.sv")), stall=stall, dump=folder / "given")
    assert str(caught.value).endswith(f"\nfactory diagnose {export} {folder / 'given'}")
    return export, folder / "given"


@pytest.mark.simulator
@pytest.mark.parametrize(("what", "flow"), CAUSES, ids=lambda value: value)
def test_the_cause_of_a_wrong_array_is_named(tmp_path, what, flow):
    need("icarus")
    found = diagnose(*(lambda export, given: (export, [given]))(*wrong_dump(tmp_path, what, flow)))
    names = [found.causes[0].name, *found.causes[0].same] if found.causes else []
    accepted = CAUSES[what, flow]
    assert not found.passes
    assert any(name.split(":")[0] in accepted for name in names) if accepted else not names, names
    share = f"{found.causes[0].explained:,} of {found.causes[0].wrong:,}" if found.causes else ""
    named = next((name for name in names if name.split(":")[0] in accepted), "unknown")
    assert f"| {what} | {flow} | {named} | {share} |" in table_lines()


def test_nine_of_ten_wrong_arrays_are_named():
    assert {what for what, _ in CAUSES} == set(BY_NAME)
    named = [causes for causes in CAUSES.values() if causes != NOT_NAMED]
    assert len(named) >= 0.9 * len(CAUSES)
