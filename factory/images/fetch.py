"""CIFAR-10's binary files, from its official site or from a local copy."""

from __future__ import annotations

import gzip
import shutil
import tarfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from factory.images.cifar import FILES, RECORD
from factory.spec import InputError, whole_folder

URL = "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz"
SHA256 = "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd"
FOLDER = "cifar-10-batches-bin"
BATCHES = tuple(f"{name}.bin" for split in ("train", "test") for name in FILES[split])
_ARCHIVE = "cifar-10-binary.tar.gz"


def fetch_cifar10(folder: str | Path, url: str = URL, sha256: str = SHA256, local: str | Path | None = None) -> Path:
    """Put CIFAR-10's six binary files into `folder/cifar-10-batches-bin`, and return that path.

    They come from `url`, a tar.gz file that must have the `sha256`; or from `local`, such a file or a folder that holds
    them, of which only the form is checked. Where they are there already, nothing is done. Raise InputError where the
    source cannot be had, is another file, or does not hold the six files; nothing is left behind then.
    """
    target = Path(folder) / FOLDER
    if target.exists():
        _check(target, target)
        return target
    with whole_folder(target) as files:
        source = Path(local) if local is not None else _download(url, sha256, files)
        address = url if local is None else source
        if source.is_dir():
            _copy(source, files)
        else:
            _extract(source, files, address)
        (files / _ARCHIVE).unlink(missing_ok=True)
        _check(files, address)
    return target


def _download(url: str, sha256: str, folder: Path) -> Path:
    try:
        import pooch
    except ImportError:
        raise InputError("fetching CIFAR-10 needs pooch: pip install 'factory[train]'") from None
    pooch.get_logger().setLevel("WARNING")
    try:
        return Path(pooch.retrieve(url, f"sha256:{sha256}", fname=_ARCHIVE, path=folder))
    except OSError as error:
        raise InputError(f"{url}: must be there to download: {error}") from None
    except ValueError:
        raise InputError(f"{url}: the file's sha256 must be {sha256}, it is another") from None


def _copy(source: Path, files: Path) -> None:
    found = source / FOLDER if (source / FOLDER).is_dir() else source
    for name in BATCHES:
        if (found / name).is_file():
            shutil.copyfile(found / name, files / name)


def _extract(source: Path, files: Path, address: str | Path) -> None:
    """Write the six files that an archive holds; whatever else is in it, and wherever it points, is not touched."""
    with _readable(source, address) as archive:
        for member in archive:
            name = member.name.removeprefix("./").removeprefix(f"{FOLDER}/")
            if name in BATCHES and member.isfile():
                with archive.extractfile(member) as contents, (files / name).open("wb") as file:
                    shutil.copyfileobj(contents, file)


@contextmanager
def _readable(source: Path, address: str | Path) -> Iterator[tarfile.TarFile]:
    if not source.is_file():
        raise InputError(f"{address}: must be a tar.gz file or a folder of CIFAR-10's binary files, it is not there")
    try:
        with tarfile.open(source, "r:gz") as archive:
            yield archive
    except (tarfile.TarError, EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise InputError(f"{address}: must be a whole tar.gz file: {error}") from None


def _check(files: Path, address: str | Path) -> None:
    for name in BATCHES:
        size = (files / name).stat().st_size if (files / name).is_file() else 0
        if size == 0 or size % RECORD:
            raise InputError(f"{address}: {name} must hold whole records of {RECORD} bytes, it has {size} bytes")
