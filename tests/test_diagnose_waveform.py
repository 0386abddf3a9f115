"""Words from a waveform: at rising edges of the clock, where all that must be valid is 1, in the order of the jobs."""

import builtins
import subprocess
from pathlib import Path

import pytest
from helpers_bench import export_bench, random_store
from helpers_simulator import need

from factory.diagnose import Waveform, diagnose
from factory.export import export
from factory.fileplan import read_plan
from factory.spec import InputError, SystolicArray
from factory.testbench import bench_of, read_jobs

HEAD = """$timescale 1ns $end
$scope module tb $end
$var wire 1 c clk $end
$var wire 1 v valid $end
$var wire 1 r ready $end
$var wire {bits} w word [{high}:0] $end
$upscope $end
$enddefinitions $end
"""


def write_vcd(path: Path, words: list[str]) -> Path:
    """Write a clock of period 10; each word waits a clock for its ready, and one comes that is not valid."""
    lines, time = [HEAD.format(bits=len(words[0]), high=len(words[0]) - 1), "#0", "0c", "0v", "0r"], 0
    for word in words:
        for valid, ready, bits in ((1, 0, word), (1, 1, word), (0, 1, "1" * len(word))):
            lines += [f"#{time + 5}", "1c", f"{valid}v", f"{ready}r", f"b{bits} w", f"#{time + 10}", "0c"]
            time += 10
    path.write_text("\n".join([*lines, f"#{time + 5}", "1c", ""]))
    return path


@pytest.fixture(scope="module")
def vectors(tmp_path_factory):
    folder = tmp_path_factory.mktemp("waveform") / "x"
    export(random_store(SystolicArray(3, 4)), folder, images="all", include="activation,weight,psum,out")
    return folder


def words_of(folder: Path, stream: str) -> list[str]:
    bench = bench_of(read_plan(folder))
    bits = bench.device.cols * bench.streams[stream].field_bits
    return [format(word, f"0{bits}b") for job in read_jobs(folder, bench) for word in job.words(stream)]


def waveform(path: Path) -> Waveform:
    return Waveform(path, "tb.word", "tb.clk", ("tb.valid", "tb.ready"))


@pytest.mark.untyped
@pytest.mark.parametrize("stream", ["psum", "out"])
def test_a_waveform_gives_the_words(vectors, tmp_path, stream):
    words = words_of(vectors, stream)
    path = write_vcd(tmp_path / "a.vcd", words)
    assert diagnose(vectors, (), role=stream, waveform=waveform(path)).passes
    write_vcd(path, [word[32:] + word[:32] for word in words])
    found = diagnose(vectors, (), role=stream, waveform=waveform(path))
    assert found.causes[0].name == "lanes rotated: by 2"
    write_vcd(path, [*words, words[-1]])
    found = diagnose(vectors, (), role=stream, waveform=waveform(path))
    assert (found.counts.extra, found.counts.equal, found.passes) == (1, len(words), False)
    write_vcd(path, ["x" * 16 + word[16:] if place == 3 else word for place, word in enumerate(words[:-2])])
    found = diagnose(vectors, (), role=stream, waveform=waveform(path))
    assert (found.counts.undefined, found.counts.missing) == (1, 2)


WAVES = """module waves;
  initial begin
    $dumpfile("waves.fst");
    $dumpvars(0, factory_tb);
  end
endmodule
"""


@pytest.mark.untyped
@pytest.mark.simulator
def test_the_fst_of_a_simulation_gives_the_words(vectors, tmp_path):
    need("icarus")
    folder = tmp_path / "x"
    export_bench(random_store(SystolicArray(3, 4)), folder, images="all", include="activation,weight,psum,out")
    (tmp_path / "waves.sv").write_text(WAVES)
    tops = ("-s", "factory_tb", "-s", "waves", str(tmp_path / "waves.sv"))
    files = ("-f", "testbench/testbench.f", "-f", "testbench/device.f")
    for command in (
        ("iverilog", "-g2012", "-o", "simulation", *tops, *files),
        ("vvp", "-n", "simulation", "-fst", "+stall=3"),
    ):
        subprocess.run(command, cwd=folder, check=True, capture_output=True)
    path = folder / "waves.fst"
    for stream in ("psum", "out"):
        given = Waveform(path, f"factory_tb.{stream}", "factory_tb.clk", (f"factory_tb.{stream}_take",))
        found = diagnose(vectors, (), role=stream, waveform=given)
        assert found.passes and found.counts.equal == len(words_of(vectors, stream))
    valid = Waveform(path, "factory_tb.out", "factory_tb.clk", ("factory_tb.out_valid",))  # some words wait a clock
    assert diagnose(vectors, (), role="out", waveform=valid).counts.extra > 0
    path.write_bytes(path.read_bytes()[:3000])
    with pytest.raises(InputError, match=rf"^{path}: must be a VCD or FST file: .*$"):
        diagnose(vectors, (), role="out", waveform=valid)


def test_what_a_waveform_must_be(vectors, tmp_path, monkeypatch):
    def said(given: Waveform, role: str | None = "out") -> str:
        with pytest.raises(InputError) as caught:
            diagnose(vectors, (), role=role, waveform=given)
        return str(caught.value)

    path = write_vcd(tmp_path / "a.vcd", ["0" * 63])
    good = waveform(path)
    assert said(good, None) == "role must be given with a waveform, one of out psum"
    assert said(good) == f"{path}: tb.word must have 4 lanes of 16 bits, not 63 bits in all"
    assert said(Waveform(path, "word", "tb.clk", ("tb.valid",))) == (
        f"{path}: signal must be one that it has, such as tb.word, not word"
    )
    assert said(Waveform(path, "tb.word", "tb.word", ("tb.valid",))) == f"{path}: tb.word must be one bit, not 63"
    none = tmp_path / "none.vcd"
    assert said(waveform(none)) == f"{none}: must be a VCD or FST file, there is no such file"
    none.write_text("nothing")
    assert said(waveform(none)).startswith(f"{none}: must be a VCD or FST file: ")
    real = builtins.__import__

    def without(name, *rest):
        if name == "pywellen":
            raise ImportError
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    assert said(good) == "waveforms need pywellen: pip install 'factory[waves]'"
