import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from helpers_bench import random_store
from helpers_simulator import need

from factory.cocotb import Scoreboard, Vectors
from factory.export import export
from factory.spec import ComparisonError, SystolicArray

LogicArray = pytest.importorskip("cocotb.types", reason="needs cocotb: pip install 'factory[cocotb]'").LogicArray
SCRIPT = Path(__file__).parent.parent / "scripts/cocotb_example.py"
EVERYTHING = "activation,weight,out,psum,conv"


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("export") / "x"
    export(random_store(SystolicArray(3, 4, psum_bits=9)), folder, flat=True, include=EVERYTHING, tiles="ot=1")
    return folder


def play(vectors: Vectors, board: Scoreboard, change=lambda stream, place, word: word) -> int:
    """Give the scoreboard the vectors' own words, changed."""
    for job in vectors.jobs():
        board.begin(job)
        for stream in ("psum", "partial", "acc", "out"):
            for place, word in enumerate(job.words(stream)):
                board.take(stream, change(stream, place, word))
    return board.finish()


def test_words_are_as_wide_as_the_ports(folder):
    vectors = Vectors.read(folder)
    job = next(vectors.jobs())
    act, weight = next(job.words("act")), list(job.words("weight"))
    assert (len(act), len(weight[0]), len(weight)) == (3 * 4, 4 * 4, 9 * 4)
    first = (folder / "weight_itile0_otile1_kij0.txt").read_text().splitlines()
    assert [str(word) for word in weight[:4]] == [f"0000{line}" for line in first]
    assert [str(word) for word in job.words("psum")][30] == (folder / PSUM).read_text().splitlines()[0]
    assert job.job.ports["job_kernel_y"] == job.job.ports["job_kernel_x"] == 3 and vectors.parameters["PSUM_BITS"] == 9


PSUM = "psum_itile0_otile1_kij1.txt"


def test_a_scoreboard_counts_what_is_right(folder):
    vectors = Vectors.read(folder)
    assert play(vectors, Scoreboard(vectors)) == vectors.bench.compared == 2 * 9 * 30 + 2 * 12 + 12 + 12


def test_a_scoreboard_takes_a_devices_narrower_lanes(folder):
    vectors = Vectors.read(folder)

    def narrow(stream, place, word):
        lanes = [word[16 * col + 15 : 16 * col].to_signed() for col in reversed(range(4))]
        return LogicArray("".join(str(LogicArray.from_signed(lane, 9)) for lane in lanes))

    assert play(vectors, Scoreboard(vectors), narrow) == vectors.bench.compared


def test_a_scoreboard_says_what_is_wrong(folder):
    vectors = Vectors.read(folder)
    board = Scoreboard(vectors)

    def wrong(stream, place, word):
        if (stream, place) == ("psum", 37) and not board.mismatches:
            word[16:16] = LogicArray.from_unsigned(1 - word[16:16].to_unsigned(), 1)
        if (stream, place) == ("out", 5):
            word[63:48] = LogicArray("X" * 16)
        return word

    job = next(vectors.jobs())
    psum = list(job.words("psum"))[37][31:16].to_signed()
    with pytest.raises(ComparisonError) as caught:
        play(vectors, board, wrong)
    first, second = str(caught.value).splitlines()
    assert first == f"layer, image 0, it 0, ot 1, kij 1, nij 7, col 1: psum must be {psum}, not {psum ^ 1}"
    assert second.startswith("layer, image 0, ot 1, onij 5, col 3: out must be ")
    assert second.endswith(", not XXXXXXXXXXXXXXXX")


def test_a_scoreboard_stops_at_the_last_mismatch_it_notes(folder):
    vectors = Vectors.read(folder)
    board = Scoreboard(vectors, most=3)
    with pytest.raises(ComparisonError):
        play(vectors, board, lambda stream, place, word: LogicArray("X" * len(word)))
    assert len(board.mismatches) == 3 and board.compared == 1


def test_a_scoreboard_wants_every_word_and_no_more(folder):
    vectors = Vectors.read(folder)
    first, second = vectors.jobs()
    board = Scoreboard(vectors)
    with pytest.raises(ComparisonError, match="^588 words must be compared, not 0$"):
        board.finish()
    board.begin(first)
    words = list(first.words("partial"))
    for word in words:
        board.take("partial", word)
    board.take("out", words[0])  # not compared before the last it
    with pytest.raises(ComparisonError, match="it 0, ot 1, onij 0, col 0: must give 12 words of partial, not more$"):
        board.take("partial", words[0])
    with pytest.raises(ComparisonError, match="kij 0, nij 0, col 0: must give 270 words of psum, not 0$"):
        board.begin(second)


@pytest.fixture(scope="module")
def edges(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("edges") / "x"
    store = random_store(SystolicArray(3, 4), out_channels=3)
    chosen = dict(profile="edges", include="west,north,south", tiles="it=0", kij="0:2", images="1")
    export(store, folder, flat=True, dataflow="ws", **chosen)
    return folder


def give(vectors: Vectors, board: Scoreboard, valid: int) -> int:
    """Give the scoreboard the right lanes, and others where nobody looks, with the device's valid bits."""
    for job in vectors.jobs():
        board.begin(job)
        for lanes in job.expected("south"):
            board.take("south", [123 if lane is None else lane for lane in lanes], valid)
    return board.finish()


def test_edge_streams_are_compared_where_they_are_valid(edges):
    vectors = Vectors.read(edges)
    job = next(vectors.jobs())
    assert [len(next(job.words(name))) for name in ("west", "west_valid", "north", "south")] == [
        3 * 4,
        3,
        4 * 4,
        4 * 16,
    ]
    assert vectors.top == "factory_edge_array" and job.job.ports == {"words": 30}
    assert next(job.lanes("north_valid")) == [1, 1, 1, 0]
    board = Scoreboard(vectors)
    assert give(vectors, board, 0b1111) == vectors.bench.compared == 2 * 3 * 30
    with pytest.raises(
        ComparisonError, match="^layer, image 1, .*kij 0, cycle 7, col 1: south must be .*, not invalid"
    ):
        give(vectors, Scoreboard(vectors, most=1), 0b1101)


def run_script(folder: Path) -> subprocess.CompletedProcess:
    need("icarus")
    return subprocess.run([sys.executable, SCRIPT, folder], capture_output=True, text=True, timeout=120)


@pytest.mark.simulator
@pytest.mark.slow
def test_the_example_drives_the_array(folder):
    done = run_script(folder)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "588 words compared" in done.stdout + done.stderr


@pytest.mark.simulator
@pytest.mark.slow
def test_the_example_drives_the_array_output_stationary(tmp_path):
    export(random_store(SystolicArray(3, 4)), tmp_path / "x", dataflow="os", include="activation,weight,out,conv")
    done = run_script(tmp_path / "x")
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.simulator
@pytest.mark.slow
def test_the_example_plays_edge_streams(edges):
    done = run_script(edges)
    assert done.returncode == 0 and "180 words compared" in done.stdout + done.stderr


@pytest.mark.simulator
@pytest.mark.slow
def test_the_example_fails_on_wrong_vectors(folder, tmp_path):
    wrong = Path(shutil.copytree(folder, tmp_path / "x"))
    path = wrong / PSUM
    lines = path.read_text().splitlines()
    path.write_text("".join(f"{line}\n" for line in (*lines[1:], lines[0])))
    done = run_script(wrong)
    assert done.returncode == 1
    assert "layer, image 0, it 0, ot 1, kij 1, nij " in done.stdout + done.stderr


def test_the_example_wants_an_export(tmp_path):
    done = subprocess.run([sys.executable, SCRIPT, tmp_path], capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert done.stderr == f"{tmp_path}: must be an export, it has no manifest.json\n"
