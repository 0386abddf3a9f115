"""An export's directory is the old one, the new one, or none: whatever fails, and whenever the process is killed."""

import dataclasses
import errno
import itertools
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from helpers_export import files_of, odd_store

from factory.export import export
from factory.export import write as writing
from factory.spec import InputError

STORE = odd_store(images=1)
OPTIONS = dict(layers="features.13")
SLOW_EXPORT = """
import sys, time
from pathlib import Path
from helpers_export import odd_store
from factory.export import export

def wait(done, total, text):
    Path(sys.argv[2]).touch()
    time.sleep(60)

export(odd_store(images=1), sys.argv[1], layers="features.9", force=True, progress=wait)
"""


def no_space(file, piece):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_full_disk_is_one_line_and_leaves_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(writing, "_write_all", no_space)
    target = tmp_path / "new" / "deep" / "x"
    with pytest.raises(InputError) as caught:
        export(STORE, target, **OPTIONS)
    assert str(caught.value) == f"{target}: cannot be written: No space left on device"
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_leaves_the_old_export(tmp_path, monkeypatch):
    export(STORE, tmp_path / "x", **OPTIONS)
    before = files_of(tmp_path / "x")
    monkeypatch.setattr(writing, "_write_all", no_space)
    with pytest.raises(InputError):
        export(STORE, tmp_path / "x", force=True, **OPTIONS)
    assert files_of(tmp_path / "x") == before
    assert [path.name for path in tmp_path.iterdir()] == ["x"]


def test_the_failure_of_one_worker_ends_the_others(tmp_path, monkeypatch):
    write_all, calls, threads = writing._write_all, itertools.count(), threading.active_count()
    monkeypatch.setattr(writing, "_write_all", lambda *call: (no_space if next(calls) == 100 else write_all)(*call))
    with pytest.raises(InputError) as caught:
        export(odd_store(images=9), tmp_path / "x", layers="features.9,features.13", images="all", workers=3)
    assert str(caught.value) == f"{tmp_path / 'x'}: cannot be written: No space left on device"
    assert list(tmp_path.iterdir()) == []
    assert threading.active_count() == threads


def test_an_error_beside_the_writers_ends_them_first(tmp_path):
    class Places(dict):
        def __getitem__(self, image):
            if image == 1:
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            return image

    store, threads = odd_store(images=9), threading.active_count()
    store = dataclasses.replace(store, images=SimpleNamespace(source_index=Places()))
    with pytest.raises(InputError) as caught:
        export(store, tmp_path / "x", layers="features.9,features.13", images="all", workers=3)
    assert str(caught.value) == f"{tmp_path / 'x'}: cannot be written: Input/output error"
    assert threading.active_count() == threads
    assert list(tmp_path.iterdir()) == []


def test_what_comes_to_the_place_meanwhile_is_not_lost(tmp_path):
    def somebody(done, total, text):
        (tmp_path / "x").mkdir(exist_ok=True)
        (tmp_path / "x" / "thesis.tex").write_text("mine")

    for force in (False, True):
        with pytest.raises(InputError, match="x: "):
            export(STORE, tmp_path / "x", force=force, progress=somebody, **OPTIONS)
        assert [path.name for path in tmp_path.rglob("*")] == ["x", "thesis.tex"]
        (tmp_path / "x" / "thesis.tex").unlink()


def test_a_name_with_a_number_that_no_process_has_is_stale(tmp_path):
    stale = tmp_path / ".x.factory-99999999999999999999-01234567"
    stale.mkdir()
    export(STORE, tmp_path / "x", **OPTIONS)
    assert [path.name for path in tmp_path.iterdir()] == ["x"]


@pytest.mark.parametrize("name", ["manifest.json", "testbench/testbench.f"])
def test_no_layout_takes_a_name_of_the_export_itself(name, tmp_path):
    (tmp_path / "mine.toml").write_text(f'extends = "notebook"\n[layouts.out]\nfile = "{name.rpartition("/")[2]}"\n')
    options = dict(profile=str(tmp_path / "mine.toml"), dataflow="ws", tiles="it=0,ot=0", flat=True)
    if "/" in name:
        export(STORE, tmp_path / "x", testbench=True, **OPTIONS, **options)
        assert (tmp_path / "x" / "testbench.f").is_file() and (tmp_path / "x" / name).is_file()
        return
    with pytest.raises(InputError) as caught:
        export(STORE, tmp_path / "x", **OPTIONS, **options)
    assert str(caught.value) == "layouts must give each file a name of its own, manifest.json would be there twice"
    assert not (tmp_path / "x").exists()


def test_an_interrupt_leaves_nothing(tmp_path):
    def interrupt(*call):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        export(STORE, tmp_path / "x", progress=interrupt, **OPTIONS)
    assert list(tmp_path.iterdir()) == []


def test_a_kill_leaves_the_old_export_and_the_next_run_cleans_up(tmp_path):
    export(STORE, tmp_path / "x", **OPTIONS)
    before, begun = files_of(tmp_path / "x"), tmp_path / "begun"
    tests = Path(__file__).parent
    path = os.pathsep.join([str(tests), str(tests.parent)])
    process = subprocess.Popen(
        [sys.executable, "-c", SLOW_EXPORT, str(tmp_path / "x"), str(begun)], env=os.environ | {"PYTHONPATH": path}
    )
    try:
        for _ in range(600):
            if begun.exists():
                break
            time.sleep(0.05)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    begun.unlink()
    assert files_of(tmp_path / "x") == before
    assert sum(path.name.startswith(".x.factory-") for path in tmp_path.iterdir()) == 1
    export(STORE, tmp_path / "x", force=True, layers="features.9")
    assert [path.name for path in tmp_path.iterdir()] == ["x"]
    assert all(name.startswith("features.9/") for name in files_of(tmp_path / "x"))


def test_what_another_process_writes_is_left_alone(tmp_path):
    theirs = tmp_path / f".x.factory-{os.getppid()}-01234567"
    theirs.mkdir()
    export(STORE, tmp_path / "x", **OPTIONS)
    assert theirs.is_dir()


def test_only_an_empty_directory_is_filled(tmp_path):
    (tmp_path / "x").mkdir()
    export(STORE, tmp_path / "x", **OPTIONS)
    with pytest.raises(InputError) as caught:
        export(STORE, tmp_path / "x", **OPTIONS)
    assert str(caught.value) == (
        f"{tmp_path / 'x'}: the output directory must be empty; add force to replace an earlier export"
    )


@pytest.mark.parametrize("manifest", [None, "{}", "[]", "not json", '{"schema": "factory-store-1"}'])
def test_force_replaces_only_an_export(manifest, tmp_path):
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "thesis.tex").touch()
    if manifest is not None:
        (tmp_path / "x" / "manifest.json").write_text(manifest)
    with pytest.raises(InputError) as caught:
        export(STORE, tmp_path / "x", force=True, **OPTIONS)
    assert str(caught.value) == (
        f"{tmp_path / 'x'}: force replaces only an earlier export, and there is no manifest of one"
    )
    assert (tmp_path / "x" / "thesis.tex").exists()


def test_force_does_not_remove_what_the_export_did_not_write(tmp_path):
    export(STORE, tmp_path / "x", testbench=True, **OPTIONS)
    export(STORE, tmp_path / "x", force=True, **OPTIONS)
    mine = tmp_path / "x" / "features.13" / "my_tb.sv"
    mine.touch()
    with pytest.raises(InputError) as caught:
        export(STORE, tmp_path / "x", force=True, **OPTIONS)
    said = "force replaces only an earlier export, features.13/my_tb.sv is not of it: move it away"
    assert str(caught.value) == f"{tmp_path / 'x'}: {said}"
    assert mine.exists()
    mine.unlink()
    (tmp_path / "x" / "manifest.json").write_text('{"schema": "factory-pack-1"}')
    export(STORE, tmp_path / "x", force=True, **OPTIONS)


def test_the_output_must_be_a_directory_of_its_own(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    with pytest.raises(InputError) as caught:
        export(STORE, tmp_path / "file", **OPTIONS)
    assert str(caught.value) == f"{tmp_path / 'file'}: the output must be a directory, it is a file"
    with pytest.raises(InputError) as caught:
        export(STORE, tmp_path / "file" / "x", **OPTIONS)
    assert str(caught.value) == (
        f"{tmp_path / 'file' / 'x'}: the output must be in a directory, {tmp_path / 'file'} is a file"
    )
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError) as caught:
        export(STORE, ".", **OPTIONS)
    assert str(caught.value) == (
        f"{tmp_path}: the output must not be the current directory, which cannot be replaced as a whole"
    )


def test_a_directory_that_cannot_be_written_is_told(tmp_path, monkeypatch):
    def refuse(self, *args, **kwargs):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(Path, "mkdir", refuse)
    with pytest.raises(InputError) as caught:
        export(STORE, tmp_path / "x", **OPTIONS)
    assert str(caught.value) == f"{tmp_path / 'x'}: cannot be written: Permission denied"


def test_files_have_the_users_own_permissions(tmp_path):
    before = os.umask(0o027)
    try:
        export(STORE, tmp_path / "x", **OPTIONS)
    finally:
        os.umask(before)
    assert (tmp_path / "x").stat().st_mode & 0o777 == 0o750
    modes = {path.stat().st_mode & 0o777 for path in (tmp_path / "x").rglob("*") if path.is_file()}
    assert modes == {0o640}
