"""The command line as its users type it: what it prints, what it refuses, and what it leaves behind."""

import errno
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest

from factory.cli import main

LAYERS = " ".join(f"features.{n}" for n in (0, 3, 7, 10, 14, 17, 20, 24, 27, 29, 32, 35, 38))


@pytest.fixture
def factory(capsys, monkeypatch):
    """Return a function that runs a command line and gives `(exit code, stdout, stderr)`."""

    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["factory", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as stop:
            main()
        out, err = capsys.readouterr()
        return stop.value.code or 0, out, err

    return run


@pytest.fixture(scope="session")
def store(tmp_path_factory) -> Path:
    """A store of the squeezed layer and two sample images, on the default array."""
    from factory.build import build

    path = tmp_path_factory.mktemp("store") / "s.h5"
    build(path, pick="0:2", layers="features.0,squeezed")
    return path


def left_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*"))


def test_the_four_commands_of_a_first_session(factory, tmp_path):
    store, vectors = tmp_path / "s.h5", tmp_path / "v"
    assert factory("build", "-o", store, "--layers", "squeezed")[0] == 0
    code, out, err = factory("show", store)
    assert (code, err) == (0, "")
    assert "features.27" in out and "-240..210 (9b)" in out and "-1215..1305 (12b)" in out
    for dataflow in ("ws", "os"):
        assert factory("export", store, "--dataflow", dataflow, "--tiles", "all", "-o", vectors / dataflow)[0] == 0
        code, out, err = factory("verify", vectors / dataflow)
        assert (code, err) == (0, "")
    assert (vectors / "ws/features.27/weight_itile0_otile0_kij8.txt").is_file()
    assert (vectors / "os/features.27/image0/out_tile1.txt").is_file()
    assert factory("verify", store, "--sample", "all")[0] == 0


def test_without_a_store_export_builds_the_default_one(factory, tmp_path, monkeypatch):
    monkeypatch.setenv("FACTORY_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    code, out, err = factory("export", "--dataflow", "ws", "--tiles", "all")
    assert code == 0, err
    assert (tmp_path / "home/default.h5").is_file()
    assert "manifest.json" in left_in(tmp_path)
    with h5py.File(tmp_path / "home/default.h5") as file:
        assert len(file["layers"]) == 13


def test_flat_puts_the_notebooks_very_names_into_the_folder(factory, store, tmp_path):
    assert factory("export", store, "--dataflow", "ws", "--flat", "-o", tmp_path / "flat")[0] == 0
    names = {
        "activation_tile0.txt",
        "out.txt",
        "manifest.json",
        *(f"weight_itile0_otile0_kij{k}.txt" for k in range(9)),
    }
    assert set(left_in(tmp_path / "flat")) == names


def test_a_second_export_is_the_same_to_the_byte(factory, store, tmp_path):
    for name in ("a", "b"):
        assert factory("export", store, "--dataflow", "os", "--images", "all", "-o", tmp_path / name)[0] == 0
    files = [path.relative_to(tmp_path / "a") for path in (tmp_path / "a").rglob("*") if path.is_file()]
    assert len(files) > 5
    for path in files:
        assert (tmp_path / "a" / path).read_bytes() == (tmp_path / "b" / path).read_bytes()


def test_a_flipped_bit_is_exit_code_1(factory, store, tmp_path):
    assert factory("export", store, "--dataflow", "ws", "--flat", "-o", tmp_path / "v")[0] == 0
    path = tmp_path / "v/out.txt"
    text = bytearray(path.read_bytes())
    text[5] ^= 1
    path.write_bytes(bytes(text))
    code, out, err = factory("verify", tmp_path / "v")
    assert (code, out) == (1, "")
    assert err.startswith("factory: ") and "out.txt" in err and err.count("\n") == 1


BAD_EXPORTS = [
    (["--layers", "features.1"], "layer must be one of features.0 features.27, not features.1"),
    (["--psum-bits", "40"], "factory: --psum-bits must be 2 to 32, not 40"),
    (["--layers", "features.3"], "layer must be one of features.0 features.27, not features.3"),
    (["--images", "2"], "0 to 1"),
    (["--images", ""], "--images must select at least one index, '' selects none"),
    (["--tiles", "it=1"], "0 to 0"),
    (["--tiles", "pt=0"], "features.27: tiles must be all or of it=... and ot=..., not pt=0"),
    (["--tiles", "it=0:0"], "features.27: it must select at least one index, '0:0' selects none"),
    (["--kij", "9"], "0 to 8"),
    (["--kij", "x"], "features.27: kij must be all, or indices and ranges such as 0:4,7, not x"),
    (["--layers", "features.0,features.27", "--flat", "--pe-activation", "signed"], "flat"),
    (["--flat", "--images", "0:2"], "flat"),
    (["--layers", "features.0"], "--pe-activation signed"),
    (["--profile", "nobody"], "nobody"),
    (["--format", "nothing"], "nothing"),
    (["--input-channels", "9"], "input"),
    (["--split", "smoke"], "s.h5: --split must be given with a dataset, this is a store"),
    (["--split", ""], "s.h5: --split must be given with a dataset, this is a store"),
    (["--split", "smoke", "--selection", "s.json"], "one of --split and --selection must be given, not both"),
]


@pytest.mark.parametrize(("arguments", "words"), BAD_EXPORTS, ids=lambda x: " ".join(x) if isinstance(x, list) else "")
def test_a_bad_export_is_one_line_and_nothing_left(factory, store, tmp_path, arguments, words):
    code, out, err = factory("export", store, "--dataflow", "ws", "-o", tmp_path / "v", *arguments)
    assert (code, out) == (2, "")
    assert err.startswith("factory: ") and err.count("\n") == 1 and words in err, err
    assert left_in(tmp_path) == []


BAD_BUILDS = [
    (["--rows", "0"], "--rows must be at least 1, not 0"),
    (["--cols", "-3"], "--cols must be at least 1, not -3"),
    (["--layers", "conv1"], f"layer must be one of {LAYERS}, not conv1"),
    (["--layers", ","], "the selection of layers must hold at least one layer, it is empty"),
    (["--pick", "400"], "400"),
    (["--pick", "3:3"], "3:3"),
    (["--images", "nowhere"], "nowhere"),
    (["--weights", "nowhere.safetensors"], "weights must be a file, not nowhere.safetensors"),
    (["--compression", "rar"], "rar"),
]


@pytest.mark.parametrize(("arguments", "words"), BAD_BUILDS, ids=lambda x: " ".join(x) if isinstance(x, list) else "")
def test_a_bad_build_is_one_line_and_nothing_left(factory, tmp_path, arguments, words):
    code, out, err = factory("build", "-o", tmp_path / "s.h5", *arguments)
    assert (code, out) == (2, "")
    assert err.startswith("factory: ") and err.count("\n") == 1 and words in err, err
    assert left_in(tmp_path) == []


BAD_WORDS = [
    ([], "foo", "No such command 'foo'; see factory --help"),
    (["export", "x.h5"], "--nope", "No such option: --nope"),
    (["export"], "--dataflow", "Option '--dataflow' requires an argument; see factory"),
    (["build", "--rows"], "x", "Invalid value for '--rows': "),
    (["train"], None, "Missing option '--data'; see factory train --help"),
    (["data"], None, "Missing command; see factory data --help"),
    (["profiles", "a"], "b", "; see factory profiles --help"),
]


@pytest.mark.parametrize(("command", "wrong", "words"), BAD_WORDS)
def test_a_bad_command_line_is_one_line(factory, command, wrong, words):
    code, out, err = factory(*command, *filter(None, [wrong]))
    assert (code, out) == (2, "")
    assert err.startswith("factory: ") and err.count("\n") == 1 and words in err, err


def test_no_command_is_a_question_what_there_is(factory):
    assert factory() == factory("--help")
    assert factory()[0] == 0


@pytest.mark.parametrize(
    "array",
    [np.zeros((2, 32, 32, 3), np.float32), np.zeros((2, 28, 28, 3), np.uint8), np.zeros((0, 32, 32, 3), np.uint8)],
    ids=["dtype", "shape", "none"],
)
def test_images_of_another_kind_are_refused(factory, tmp_path, array):
    np.save(tmp_path / "images.npy", array)
    code, out, err = factory("build", "-o", tmp_path / "s.h5", "--images", tmp_path / "images.npy")
    assert (code, out) == (2, "")
    assert err.count("\n") == 1 and "images.npy" in err
    assert left_in(tmp_path) == ["images.npy"]


def test_stores_that_are_none_are_refused(factory, store, tmp_path):
    text, cut, other = tmp_path / "text.h5", tmp_path / "cut.h5", tmp_path / "other.h5"
    text.write_text("not a store")
    cut.write_bytes(store.read_bytes()[:4000])
    shutil.copy(store, other)
    with h5py.File(other, "r+") as file:
        file.attrs["schema"] = "someone-else/7"
    for path in (text, cut, other, tmp_path / "missing.h5"):
        for command in (["show"], ["verify"], ["audit"], ["export", "--dataflow", "ws", "-o", tmp_path / "v"]):
            code, out, err = factory(command[0], path, *command[1:])
            assert (code, out) == (2, ""), command
            assert err.count("\n") == 1 and str(path) in err, err
    assert not (tmp_path / "v").exists()


def test_output_folders_are_not_overwritten(factory, store, tmp_path):
    full = tmp_path / "full"
    full.mkdir()
    (full / "thesis.txt").write_text("years of work")
    for extra in ([], ["--force"]):
        code, out, err = factory("export", store, "--dataflow", "ws", "-o", full, *extra)
        assert (code, out) == (2, "") and err.count("\n") == 1 and str(full) in err
    assert left_in(tmp_path) == ["full", "thesis.txt"]


@pytest.mark.skipif(os.geteuid() != 0 and not shutil.which("sh"), reason="needs a place that nobody can write to")
@pytest.mark.parametrize("command", ["build", "export"])
def test_a_place_that_cannot_be_written_is_refused(factory, store, command):
    arguments = ["export", store, "--dataflow", "ws", "-o"] if command == "export" else ["build", "-o"]
    code, out, err = factory(*arguments, "/proc/nobody/here")
    assert (code, out) == (2, "") and err.count("\n") == 1 and "/proc/nobody" in err


def test_a_full_disk_is_one_line_and_nothing_left(factory, store, tmp_path, monkeypatch):
    def full(*arguments, **options):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    for name in ("write", "pwrite", "writev", "pwritev"):
        monkeypatch.setattr(os, name, full)
    code, out, err = factory("export", store, "--dataflow", "ws", "-o", tmp_path / "v")
    assert (code, out) == (2, "") and err.count("\n") == 1 and os.strerror(errno.ENOSPC) in err
    assert left_in(tmp_path) == []


def test_the_manifest_says_what_was_exported(factory, store, tmp_path):
    assert factory("export", store, "--dataflow", "ws", "-o", tmp_path / "v")[0] == 0
    manifest = json.loads((tmp_path / "v/manifest.json").read_text())
    assert manifest["dataflow"] == "ws"


def test_the_library_does_what_the_commands_do(store, tmp_path):
    import factory

    for _ in range(2):  # a module of the package must not take an entry point's place once it is loaded
        assert all(callable(getattr(factory, name)) for name in factory._LAZY)
        summary = factory.export_vectors(store, tmp_path / "v", dataflow="ws", force=True)
        assert factory.verify_export(tmp_path / "v", store=store).compared > summary.files


def test_every_command_reports_where_it_is(factory, store, tmp_path, monkeypatch):
    from contextlib import contextmanager

    from factory.cli import options

    seen = []

    @contextmanager
    def recorder():
        yield lambda done, total, text: seen.append((done, total, text))

    monkeypatch.setattr(options, "progress_bar", recorder)
    commands = [
        ["build", "-o", tmp_path / "p.h5", "--layers", "squeezed"],
        ["export", store, "--dataflow", "ws", "--testbench", "-o", tmp_path / "v"],
        ["verify", tmp_path / "v"],
        ["verify", store],
    ]
    if shutil.which("iverilog"):
        commands.append(["simulate", tmp_path / "v", "--simulator", "icarus"])
    for command in commands:
        seen.clear()
        assert factory(*command)[0] == 0
        assert seen and seen[-1][0] == seen[-1][1], command


def test_a_failed_export_leaves_its_neighbours(factory, store, tmp_path):
    """Two exports into one new folder at once: the one that fails takes away nothing but its own."""
    from factory.export.atomic import whole_directory

    with pytest.raises(RuntimeError):
        with whole_directory(tmp_path / "new/a", False, lambda path: None):
            assert factory("export", store, "--dataflow", "ws", "-o", tmp_path / "new/b")[0] == 0
            raise RuntimeError
    assert "b" in left_in(tmp_path) and "a" not in left_in(tmp_path)
    assert (tmp_path / "new/b/manifest.json").is_file()


def test_an_address_memory_begins_at_0_whatever_is_added_to_its_addresses(factory, store, tmp_path):
    arguments = ["--dataflow", "ws", "--include", "address", "--format", "mif", "--address-base", "1"]
    assert factory("export", store, *arguments, "-o", tmp_path / "v")[0] == 0
    lines = (tmp_path / "v/features.27/address.mif").read_text().splitlines()
    assert lines[0] == "DEPTH = 144;" and lines[5].split(":")[0].strip("0 ") == ""
    assert lines[5].endswith(f"{1:011b};")
    assert factory("verify", tmp_path / "v")[0] == 0


def test_a_profile_of_ones_own_begins_as_a_shipped_one(factory, store, tmp_path):
    code, text, err = factory("profiles", "ws-reversed", "--toml")
    assert (code, err) == (0, "")
    (tmp_path / "mine.toml").write_text(text.replace('"output.txt"', '"expected.txt"'))
    assert factory("export", store, "--profile", tmp_path / "mine.toml", "-o", tmp_path / "mine")[0] == 0
    assert factory("export", store, "--profile", "ws-reversed", "-o", tmp_path / "theirs")[0] == 0
    mine, theirs = (tmp_path / name / "features.27/image0" for name in ("mine", "theirs"))
    assert (mine / "expected.txt").read_bytes() == (theirs / "output.txt").read_bytes()
    assert factory("profiles", "notebook", "--dataflow", "os", "--toml")[1].count('name = "notebook"') == 1
    assert factory("profiles", "--toml") == (2, "", "factory: --toml and --dataflow need the name of a profile\n")


def test_an_export_is_checked_whole(factory, store, tmp_path):
    assert factory("export", store, "--dataflow", "ws", "-o", tmp_path / "v")[0] == 0
    code, out, err = factory("verify", tmp_path / "v", "--sample", "5%")
    assert (code, out) == (2, "")
    assert err == f"factory: {tmp_path / 'v'}: a sample must be of a store, not of an export, which is checked whole\n"


def test_a_reader_that_has_seen_enough_is_no_failure():
    command = f"set -o pipefail; {sys.executable} -m factory profiles | head -1; test $? -ne 1"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("flow  profile")


LOST_IN_A_CALLBACK = """
def press(phase, info):
    gc.callbacks.remove(press)
    signal.raise_signal(signal.SIGINT)
gc.callbacks.append(press)
gc.collect()
time.sleep(20)
"""
MADE_AN_IMPORT_ERROR = """
try:
    signal.raise_signal(signal.SIGINT)
except KeyboardInterrupt as error:
    raise ImportError("an extension") from error
"""


@pytest.mark.parametrize("work", [LOST_IN_A_CALLBACK, MADE_AN_IMPORT_ERROR, "signal.raise_signal(signal.SIGINT)"])
def test_an_interrupted_command_ends_in_silence(work):
    """Also where Ctrl-C comes while an extension is imported, or in a callback of the garbage collector."""
    code = f"""
import gc, signal, sys, time
from factory.cli.app import app, main
@app.command()
def work():
    exec({work!r}, globals())
sys.argv[1:] = ["work"]
main()
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["plan", "--images", ""], "--images must not be empty"),
        (["plan", "--source", ""], "--source must not be empty"),
        (["plan", "--weights", ""], "--weights must not be empty"),
        (["plan", "--name", "a=0:2", "--name", "a=3"], "--name must name each split once, a is 0:2 and 3"),
        (
            ["plan", "--images", "samples", "--corners"],
            "one of --images, --source, --corners and --random must be given",
        ),
        (["build", "--shard", 0, "--workers", 1], "only one of --shard, --workers and --scheduler must be given"),
        (["extend", "--images", ""], "--images must not be empty"),
    ],
)
def test_a_dataset_takes_no_option_that_is_empty_twice_or_one_too_many(factory, tmp_path, words, said):
    assert factory("dataset", words[0], tmp_path / "d", *words[1:]) == (2, "", f"factory: {said}\n")
    assert left_in(tmp_path) == []
