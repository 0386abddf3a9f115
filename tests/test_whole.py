"""Files and folders that appear whole or not at all."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from factory.spec import InputError, whole_folder, write_whole


def tree(folder: Path) -> dict[str, bytes]:
    return {str(x.relative_to(folder)): x.read_bytes() for x in folder.rglob("*") if x.is_file()}


def test_a_folder_appears_at_the_end_and_replaces_the_old_one(tmp_path):
    for contents in (b"old", b"new"):
        before = tree(tmp_path / "x")
        with whole_folder(tmp_path / "x") as folder:
            (folder / contents.decode()).write_bytes(contents)
            assert tree(tmp_path / "x") == before
        assert tree(tmp_path) == {f"x/{contents.decode()}": contents}
        assert [path.name for path in tmp_path.iterdir()] == ["x"]


def test_an_error_leaves_what_was_there_and_no_new_folder(tmp_path):
    with pytest.raises(ValueError), whole_folder(tmp_path / "new/deep/x"):
        raise ValueError
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "x").mkdir()
    (tmp_path / "x/old").write_bytes(b"old")

    def refuse() -> None:
        raise InputError("somebody else's")

    with pytest.raises(InputError), whole_folder(tmp_path / "x", refuse) as folder:
        (folder / "new").write_bytes(b"new")
    assert tree(tmp_path) == {"x/old": b"old"}


def test_what_a_killed_process_left_is_removed_and_a_living_one_s_is_not(tmp_path):
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    names = {f".x.factory-{process}-01234567": process for process in (dead.pid, os.getppid(), 2**70)}
    for name in names:
        (tmp_path / name).mkdir()
    with whole_folder(tmp_path / "x"):
        pass
    assert sorted(path.name for path in tmp_path.iterdir()) == [f".x.factory-{os.getppid()}-01234567", "x"]


def test_a_file_is_written_or_left_as_it_was(tmp_path, monkeypatch):
    write_whole(tmp_path / "a", b"old")
    monkeypatch.setattr(Path, "replace", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(InputError) as error:
        write_whole(tmp_path / "a", b"new")
    assert str(error.value) == f"{tmp_path}/a: must be writable: No space left on device"
    assert tree(tmp_path) == {"a": b"old"}


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="has no named pipes")
def test_a_pipe_is_written_to_and_not_replaced(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    try:
        write_whole(pipe, b"bits")
        assert os.read(reader, 9) == b"bits" and pipe.is_fifo()
    finally:
        os.close(reader)
