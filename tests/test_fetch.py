"""Fetching CIFAR-10: from a server on this machine, from local copies, and from what is neither."""

import gc
import hashlib
import io
import tarfile
import threading
import warnings
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from factory.images.fetch import BATCHES, FOLDER, SHA256, URL, fetch_cifar10
from factory.spec import InputError

RECORDS = {name: bytes([i]) * 3073 * 2 for i, name in enumerate(BATCHES)}


def archive(path: Path, members: dict[str, bytes], links: dict[str, str] | None = None) -> Path:
    with tarfile.open(path, "w:gz") as tar:
        for name, target in (links or {}).items():
            link = tarfile.TarInfo(name)
            link.type, link.linkname = tarfile.SYMTYPE, target
            tar.addfile(link)
        for name, contents in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(contents)
            tar.addfile(member, io.BytesIO(contents))
    return path


def folder_of(path: Path) -> Path:
    path.mkdir(parents=True)
    for name, contents in RECORDS.items():
        (path / name).write_bytes(contents)
    return path


def official(path: Path) -> Path:
    return archive(path, {f"{FOLDER}/{name}": contents for name, contents in RECORDS.items()})


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def holds_all(folder: Path) -> bool:
    return {path.name: path.read_bytes() for path in folder.iterdir()} == RECORDS


@pytest.fixture
def server(tmp_path, monkeypatch):
    """Serve `tmp_path/site` and yield its address."""
    monkeypatch.setenv("NO_PROXY", "*")

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    (tmp_path / "site").mkdir()
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=tmp_path / "site")) as http:
        thread = threading.Thread(target=http.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{http.server_port}"
        http.shutdown()
        thread.join()
    with warnings.catch_warnings(action="ignore", category=ResourceWarning):
        gc.collect()  # pooch leaves the connection of a refused request to the collector


def test_the_official_address_and_digest():
    assert URL == "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz"
    assert SHA256 == "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd"


def test_downloads_checks_and_extracts(server, tmp_path):
    path = official(tmp_path / "site/c.tar.gz")
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    found = fetch_cifar10(tmp_path / "new/data", f"{server}/c.tar.gz", digest)
    assert found == tmp_path / "new/data" / FOLDER
    assert holds_all(found)
    assert names(tmp_path / "new/data") == [FOLDER]


def test_what_is_there_is_not_fetched_again(tmp_path):
    folder_of(tmp_path / FOLDER)
    assert fetch_cifar10(tmp_path, "http://nowhere.invalid/") == tmp_path / FOLDER


def test_another_file_is_refused_and_leaves_nothing(server, tmp_path):
    official(tmp_path / "site/c.tar.gz")
    with pytest.raises(InputError) as error:
        fetch_cifar10(tmp_path / "data", f"{server}/c.tar.gz", "0" * 64)
    assert str(error.value) == f"{server}/c.tar.gz: the file's sha256 must be {'0' * 64}, it is another"
    assert not (tmp_path / "data").exists()


def test_a_missing_file_is_refused_and_leaves_nothing(server, tmp_path):
    with pytest.raises(InputError) as error:
        fetch_cifar10(tmp_path / "data", f"{server}/none.tar.gz")
    assert str(error.value).startswith(f"{server}/none.tar.gz: must be there to download: 404 ")
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize("form", ["archive", "folder", "parent"])
def test_accepts_a_local_copy(form, tmp_path):
    local = {
        "archive": lambda: official(tmp_path / "c.tar.gz"),
        "folder": lambda: folder_of(tmp_path / "copy"),
        "parent": lambda: folder_of(tmp_path / "copy" / FOLDER).parent,
    }[form]()
    assert holds_all(fetch_cifar10(tmp_path / "data", local=local))


def test_an_archive_cannot_write_outside(tmp_path):
    """Members that climb out, absolute ones, and links to follow are not extracted."""
    outside = tmp_path / "outside"
    outside.mkdir()
    members = {f"{FOLDER}/{name}": contents for name, contents in RECORDS.items()}
    evil = {"../evil": b"x", str(outside / "evil"): b"x", f"{FOLDER}/../evil": b"x", "sub/test_batch.bin": b"x"}
    local = archive(tmp_path / "c.tar.gz", members | evil, {f"{FOLDER}/test_batch.bin": str(outside / "followed")})
    assert holds_all(fetch_cifar10(tmp_path / "data", local=local))
    assert names(outside) == []
    assert names(tmp_path) == ["c.tar.gz", "data", "outside"]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: None, "must be a tar.gz file or a folder of CIFAR-10's binary files, it is not there"),
        (lambda path: path.write_bytes(b"text"), "must be a whole tar.gz file: not a gzip file"),
        (
            lambda path: path.write_bytes(official(path).read_bytes()[:-40]),
            "must be a whole tar.gz file: Compressed file ended before the end-of-stream marker was reached",
        ),
        (
            lambda path: archive(path, {f"{FOLDER}/{name}": RECORDS[name] for name in BATCHES[1:]}),
            "data_batch_1.bin must hold whole records of 3073 bytes, it has 0 bytes",
        ),
        (
            lambda path: archive(path, {f"{FOLDER}/{name}": RECORDS[name][:-1] for name in BATCHES}),
            "data_batch_1.bin must hold whole records of 3073 bytes, it has 6145 bytes",
        ),
    ],
    ids=["missing", "text", "truncated", "incomplete", "ragged"],
)
def test_what_is_no_copy_is_refused_and_leaves_nothing(make, message, tmp_path):
    local = tmp_path / "c.tar.gz"
    make(local)
    with pytest.raises(InputError) as error:
        fetch_cifar10(tmp_path / "data", local=local)
    assert str(error.value) == f"{local}: {message}"
    assert not (tmp_path / "data").exists()


def test_folders_that_were_there_before_stay(tmp_path):
    (tmp_path / "old").mkdir()
    for folder in ("old", "old/new/data"):
        with pytest.raises(InputError):
            fetch_cifar10(tmp_path / folder, local=tmp_path / "none")
    assert names(tmp_path) == ["old"] and names(tmp_path / "old") == []


def test_a_damaged_folder_is_not_taken_for_the_data(tmp_path):
    (folder_of(tmp_path / FOLDER) / "test_batch.bin").write_bytes(b"")
    with pytest.raises(InputError) as error:
        fetch_cifar10(tmp_path)
    assert str(error.value) == (
        f"{tmp_path / FOLDER}: test_batch.bin must hold whole records of 3073 bytes, it has 0 bytes"
    )
