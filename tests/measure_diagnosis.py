"""What a diagnosis names: a program, `faults`, `arrays` or `corner_faults`, JSON lines.

It is a program so that it runs without the checks of shapes and types, which take longer than the diagnoses.
"""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from importlib.resources import files
from pathlib import Path

import numpy as np
from helpers_bench import export_bench, given_store, random_store
from helpers_diagnose import NOISE, SQUEEZED, plain_layer, row, text_of
from mutants.array import MUTANTS, STALLED
from mutants.causes import CAUSES
from mutants.corners import RAMP, corner_store
from mutants.faults import FAULTS, PAIRS, Fault, Plain, narrow, relu

from factory.build import build
from factory.diagnose import Diagnosis, diagnose
from factory.export import export
from factory.simulate import simulate
from factory.spec import ComparisonError, SystolicArray
from factory.store import open_store

RTL = Path(str(files("factory") / "rtl"))
FIELDS = {
    "stride": dict(stride=2, kernel=2, padding=0, height=7, width=6),
    "simd": dict(activation_bits=2),
    "by axis": dict(kernel=(2, 3), stride=(2, 1), dilation=(3, 2), height=8, width=7),
}
OPTIONS = {
    "stride": dict(post="leaky", include="activation,weight,out,accumulator"),
    "simd": dict(profile="simd2-even"),
    "saturate": dict(overflow="saturate"),
    "partial": dict(overflow="saturate", include="activation,weight,out,accumulator"),
}


def faults(folder: Path) -> Iterator[dict]:
    """Yield what is named for every planted fault, pair and noise, on the squeezed layer of an array of 4 x 4."""
    with open_store(build(folder / "store.h5", images="samples", pick="0:2", layers="features.27")) as store:
        for flow in SQUEEZED:
            export(store, folder / flow, layers="features.27", images="all", rows=4, cols=4, **SQUEEZED[flow])
            yield from _planted(folder / flow, flow, [plain_layer(store, folder / flow)])


def corner_faults(folder: Path) -> Iterator[dict]:
    """Yield the same on a layer of the corner store of such an array, for three images."""
    store = corner_store(SystolicArray(4, 4))
    layer, *_ = RAMP.split("/")
    images = sorted(map(store.images.origin.index, ("ramp", "binary", "checkerboard-row-pixel")))
    for flow in SQUEEZED:
        export(store, folder / flow, layers=layer, images=",".join(map(str, images)), **SQUEEZED[flow])
        pairs = zip(images, images[1:] + images[:1], strict=True)
        plains = [plain_layer(store, folder / flow, *pair) for pair in pairs]
        bits = max(map(narrow, plains))  # one device, of one width
        yield from _planted(folder / flow, flow, [replace(plain, result_bits=bits) for plain in plains])


def _planted(folder: Path, flow: str, plains: list[Plain]) -> Iterator[dict]:
    noises = [Fault(what, (), lambda p, n=noise: n(np.random.default_rng(1), relu(p.acc())))
              for what, noise in NOISE.items()]  # fmt: skip
    dump = folder.with_suffix(".txt")
    for fault in (*FAULTS, *PAIRS, *noises):
        if flow in fault.flows:
            dump.write_text("".join(text_of(fault.words(plain), plain.tile) for plain in plains))
            yield row(fault.what, flow, diagnose(folder, [dump], role=fault.role))


def arrays(folder: Path) -> Iterator[dict]:
    """Yield what is named for every wrong array, simulated."""
    by_name = {mutant.what: mutant for mutant in MUTANTS}
    for what, flow in CAUSES:
        place = folder / f"{what} {flow}"
        place.mkdir()
        yield row(what, flow, _simulated(place, by_name[what], flow))
        shutil.rmtree(place)


def _simulated(folder: Path, mutant, flow: str) -> Diagnosis:
    options = dict(dataflow=flow, include="activation,weight,out") | OPTIONS.get(mutant.case, {})
    if flow == "ws":
        options["include"] += ",psum"
    fields = dict(height=6) | FIELDS.get(mutant.case, {})
    made_of = given_store if "dilation" in fields else random_store  # a network has no dilation
    made = export_bench(made_of(SystolicArray(3, 4, psum_bits=9), 1, 5, **fields), folder / "x", **options)
    bench = made / "testbench" / "factory_tb.sv"
    bench.write_text(bench.read_text().replace("PATIENCE = 100000", "PATIENCE = 1000"))
    sources = Path(shutil.copytree(RTL, folder / "rtl"))
    path = sources / f"factory_{mutant.file}.sv"
    path.write_text(path.read_text().replace(mutant.old, mutant.new))
    stall = 3 if mutant.what in STALLED else None
    try:
        simulate(made, "icarus", dut=sorted(sources.glob("*.sv")), stall=stall, dump=folder / "given")
    except ComparisonError as error:
        assert str(error).splitlines()[-1].startswith("factory diagnose "), error
    return diagnose(made, [folder / "given"])


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as name:
        for found in {f.__name__: f for f in (faults, corner_faults, arrays)}[sys.argv[1]](Path(name)):
            print(json.dumps(found), flush=True)
