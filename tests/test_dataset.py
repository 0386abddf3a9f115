"""Datasets: the same bytes whoever builds them, whole or not at all, whatever happens to a builder."""

import errno
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import h5py
import numpy as np
import pytest
from helpers_network import random_pixels, tiny_network, trained_network
from hypothesis import given
from hypothesis import strategies as st

from factory.build import build
from factory.checkpoint import save_weights
from factory.coverage import coverage, merge
from factory.dataset import Part, Plan, Split, build_shard, open_dataset, read_dataset, read_plan
from factory.dataset import shard as shard_module
from factory.dataset.engine import build_dataset
from factory.dataset.folder import array_expression
from factory.dataset.planning import PlanOptions, extend_dataset, plan_dataset, read_options
from factory.dataset.seal import dataset_status, seal_dataset
from factory.dataset.verified import verify_dataset
from factory.spec import ComparisonError, InputError, SystolicArray
from factory.store import open_store

COUNT = 7


@pytest.fixture(scope="module")
def sources(tmp_path_factory) -> Path:
    """Return a folder with weights of the tiny network, and seven images for it."""
    folder = tmp_path_factory.mktemp("sources")
    save_weights(trained_network(tiny_network()), folder / "w.safetensors")
    np.save(folder / "x.npy", random_pixels(tiny_network(), COUNT).transpose(0, 2, 3, 1))
    return folder


def options(sources: Path, **given) -> PlanOptions:
    small = dict(weights=str(sources / "w.safetensors"), images=str(sources / "x.npy"), shard_images=3, rows=3, cols=2)
    return PlanOptions(**small | given)


@pytest.fixture(scope="module")
def built(sources, tmp_path_factory) -> Path:
    """Return a finished dataset of three shards, which nobody may change."""
    folder = tmp_path_factory.mktemp("built") / "d"
    plan_dataset(folder, options(sources))
    build_dataset(folder, workers=0)
    return folder


@pytest.fixture
def copy(built, tmp_path) -> Path:
    """Return a copy of the finished dataset."""
    return Path(shutil.copytree(built, tmp_path / "d"))


@pytest.fixture
def planned(sources, tmp_path) -> Path:
    """Return the folder of the same dataset, of which nothing is built."""
    plan_dataset(tmp_path / "d", options(sources))
    return tmp_path / "d"


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def factory_command(*words: object, cwd: Path | None = None, **environment: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "factory", *map(str, words)]
    return subprocess.run(command, cwd=cwd, env=os.environ | environment, capture_output=True, text=True, timeout=300)


# The plan


def plan_of(counts, shard_images=3) -> Plan:
    """Return a plan of parts of so many images, whose digests are made up."""
    parts, first = [], 0
    for number, count in enumerate(counts):
        digests = tuple(f"{number}-{place}" for place in range(-(-count // shard_images)))
        parts.append(Part(f"p{number}", "test", "all", first, count, "1", digests))
        first += count
    return Plan("n", "lowered", True, "0", ("a",), shard_images, "none", SystolicArray(), tuple(parts))


@given(st.lists(st.integers(1, 40), min_size=1, max_size=5), st.integers(1, 9))
def test_every_image_is_in_one_shard(counts, size):
    plan = plan_of(counts, size)
    images = [(shard.number, place) for shard in plan.shards for place in range(shard.count)]
    assert [plan.place(image) for image in range(plan.image_count)] == images
    starts = [plan.parts[shard.part].first + shard.start for shard in plan.shards]
    assert starts == [shard.first for shard in plan.shards]
    assert max(shard.count for shard in plan.shards) <= size
    longer = plan_of([*counts, 5], size)
    assert longer.shards[: len(plan.shards)] == plan.shards
    assert len({plan.digest(shard) for shard in plan.shards}) == len(plan.shards)


@given(st.lists(st.integers(1, 40), min_size=1, max_size=4))
def test_a_plan_is_read_as_it_was_written(counts):
    plan = plan_of(counts)
    assert Plan.from_dict(plan.to_dict(with_places=True)) == plan
    assert Plan.from_dict(plan.to_dict(with_places=False)).shards == plan.shards


@given(st.sets(st.integers(0, 30)))
def test_an_array_expression_names_its_numbers(numbers):
    found = []
    for run in filter(None, array_expression(sorted(numbers)).split(",")):
        first, _, last = run.partition("-")
        found += range(int(first), int(last or first) + 1)
    assert found == sorted(numbers)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (dict(network=3), "network must be a string, not 3"),
        (dict(surprise=1), "keys must be of network origin pictures"),
        (dict(array=[8, 8]), "array must be a table, parts and splits lists"),
        (dict(shard_images=0), "shard_images must be at least 1, not 0"),
        (
            dict(shard_images=4),
            "part x.npy: it must have images from 0 on, a digest a shard, not 7 images from 0 on with 3",
        ),
        (dict(splits=[dict(name="A")]), "a split must have a name of its own of a-z, 0-9, _, . and -, not 'A'"),
    ],
)
def test_a_plan_that_is_damaged_is_one_line(copy, change, message):
    path = copy / "plan.json"
    data = json.loads(path.read_text())
    path.write_text(json.dumps(data | {"plan": data["plan"] | change}))
    with pytest.raises(InputError) as error:
        read_plan(copy)
    assert str(error.value).startswith(f"{path}: {message}")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "must be there: factory dataset plan makes one"),
        ("", "must be JSON: "),
        ("[1]", "schema must be factory-dataset/1, not '[1]'"),
        ('{"schema": "factory-dataset/9"}', "schema must be factory-dataset/1, not 'factory-dataset/9'"),
        ('{"schema": "factory-dataset/1"}', "plan must be a table"),
    ],
)
def test_what_is_no_plan_is_one_line(tmp_path, text, message):
    if text is not None:
        (tmp_path / "plan.json").write_text(text)
    with pytest.raises(InputError) as error:
        dataset_status(tmp_path)
    assert str(error.value).startswith(f"{tmp_path}/plan.json: {message}")


def test_options_come_from_a_file_which_is_kept(sources, tmp_path):
    shutil.copy(sources / "x.npy", tmp_path / "x.npy")
    toml = tmp_path / "mine.toml"
    toml.write_text(
        f'weights = "{sources}/w.safetensors"\nimages = "x.npy"\npick = "1:4"\n[splits]\nsmoke = "0"\n'
        'random-3 = 2\nnarrow = { images = "1:3", layers = "squeezed", tiles = "it=0" }\n'
    )
    plan = plan_dataset(tmp_path / "d", read_options(toml), toml=toml)
    assert (tmp_path / "d" / "plan.toml").read_bytes() == toml.read_bytes()
    assert (plan.image_count, plan.parts[0].source) == (3, str(tmp_path / "x.npy"))
    drawn = plan.split("random-3")
    assert len(drawn.places(3)) == 2
    assert plan.splits == (Split("smoke", "0"), drawn, Split("narrow", "1:3", "squeezed", "it=0"))
    assert plan.split("full").places(3) == [0, 1, 2]
    toml.write_text("shards = 3")
    with pytest.raises(InputError, match="mine.toml: keys must be of weights images split .* not shards$"):
        read_options(toml)


def splitmix(seed: int) -> Iterator[int]:
    """Yield the numbers of SplitMix64, as its authors write it."""
    while True:
        seed = (seed + 0x9E3779B97F4A7C15) % 2**64
        z = (seed ^ (seed >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
        z = (z ^ (z >> 27)) * 0x94D049BB133111EB % 2**64
        yield z ^ (z >> 31)


def test_a_drawn_split_is_the_same_everywhere(sources, tmp_path):
    plan = plan_dataset(tmp_path / "d", options(sources, splits={"random-0": "3", "random-12": 3}))
    assert [split.images for split in plan.splits][:2] == ["0:7", "2,4,6"]
    for seed, split in zip((0, 12), plan.splits[1:], strict=True):
        words = list(islice(splitmix(seed), COUNT))
        assert split.places(COUNT) == sorted(sorted(range(COUNT), key=words.__getitem__)[:3])


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (dict(splits={"full": "0"}), "split full must be left out: it is every image"),
        (dict(splits={"A": "0"}), "a split must have a name of its own of a-z, 0-9, _, . and -, not 'A'"),
        (dict(splits={"smoke": "7"}), "split smoke must be 0 to 6, not 7"),
        (dict(splits={"smoke": 7}), "split smoke: images must be a string, not 7"),
        (dict(splits={"random-x": "3"}), f"split random-x: its name must end with a seed, 0 to {2**63 - 1}"),
        (dict(splits={"random-1": "8"}), "split random-1: images must be at most 7, not 8"),
        (dict(source="x.npz"), "one of images, source, corners and random must be given"),
        (dict(images="", random=3), "weights must be given with images only"),
        (dict(images="", weights="", source="x.npz", split="train"), "split must be given with images only"),
        (dict(count=3), "count must be given with random only"),
        (dict(compression="zip"), "compression must be none or of gzip lz4 zstd, not zip"),
        (dict(layers="conv9"), "layer must be one of features.0 features.3, not conv9"),
    ],
)
def test_a_wrong_option_is_one_line_and_leaves_nothing(sources, tmp_path, given, message):
    with pytest.raises(InputError) as error:
        plan_dataset(tmp_path / "d", options(sources, **given))
    assert str(error.value) == message
    assert contents(tmp_path) == {}


# What a dataset holds


def test_a_dataset_is_one_store_of_all_its_images(built, sources, tmp_path):
    given = dict(weights=sources / "w.safetensors", images=sources / "x.npy", pick="all", array=SystolicArray(3, 2))
    with open_store(build(tmp_path / "s.h5", **given)) as whole, open_store(built / "dataset.h5") as merged:
        assert (merged.network, merged.weights_sha256, merged.array) == (
            whole.network,
            whole.weights_sha256,
            whole.array,
        )
        for name in ("pixels", "label", "source_index"):
            np.testing.assert_array_equal(getattr(merged.images, name)[...], getattr(whole.images, name)[...])
        assert merged.images.origin == whole.images.origin
        for name, layer in whole.layers.items():
            found = merged.layer(name)
            for variable in ("weight", "weight_tile", "activation", "psum", "accumulator"):
                np.testing.assert_array_equal(getattr(found, variable)[...], getattr(layer, variable)[...])
    with h5py.File(built / "shards/00001.h5") as shard, h5py.File(built / "dataset.h5") as merged:
        for path in ("images/image", "layers/features.3/image"):
            assert shard[path][...].tolist() == [3, 4, 5] and merged[path][...].tolist() == list(range(COUNT))
        axes = [dimension[0].name for dimension in merged["layers/features.3/activation"].dims]
        assert axes == [f"/layers/features.3/{axis}" for axis in ("image", "ic", "y", "x")]


def test_the_coverage_of_a_dataset_is_that_of_its_shards(built):
    with open_dataset(built) as dataset:
        whole = coverage(dataset).total.points
    shards = merge([coverage(path) for path in sorted(built.glob("shards/*.h5"))]).total.points
    assert len(whole) > 10 and whole.keys() == shards.keys()
    for name, point in whole.items():
        np.testing.assert_array_equal(point.hits, shards[name].hits)
        np.testing.assert_array_equal(point.unreachable, shards[name].unreachable)


def test_the_sums_are_those_of_sha256sum(built):
    done = subprocess.run(["sha256sum", "-c", "SHA256SUMS"], cwd=built, capture_output=True, text=True, check=True)
    assert done.stdout.count(": OK\n") == 6
    assert sorted(path.name for path in built.iterdir()) == [
        "README.md", "SHA256SUMS", "dataset.h5", "dataset.json", "plan.json", "shards",
    ]  # fmt: skip
    assert not any(str(built.parent) in text for text in (built / "dataset.json").read_text().splitlines())


def wide_store(folder: Path) -> Path:
    """Write arrays whose codes fill 8 bits."""
    codes = np.arange(-128, 128).reshape(4, 1, 64)
    np.savez(folder / "a.npz", **{"s.weight": np.ones((2, 64), int), "s.activation": codes})
    return folder / "a.npz"


def test_what_is_missing_reads_as_no_code(copy, tmp_path):
    """HDF5 gives the fill value: outside of the codes, in a wider type where they fill their own."""
    wide = tmp_path / "wide"
    plan_dataset(wide, PlanOptions(source=str(wide_store(tmp_path)), shard_images=2))
    build_dataset(wide, workers=0)
    for folder, group, first, fill in ((wide, "layers/s", 2, -(2**15)), (copy, "layers/features.3", 3, 255)):
        (folder / "shards/00001.h5").rename(tmp_path / f"{folder.name}.h5")
        with h5py.File(folder / "dataset.h5") as file:
            codes = file[f"{group}/activation"][...]
            assert (codes[first : first + 2] == fill).all() and (codes[:first] != fill).all()
            assert (file["images/label"][first] == -(2**15)).all() and (file["images/label"][:first] == -1).all()
        with pytest.raises(InputError, match=r"shards/00001.h5 must be there: No such file"):
            read_dataset(folder)
    (tmp_path / "wide.h5").rename(wide / "shards/00001.h5")
    with open_store(wide / "dataset.h5") as merged, open_store(wide / "sources/0.h5") as whole:
        np.testing.assert_array_equal(merged.layer("s").psum[...], whole.layer("s").psum[...])


# The same bytes


def test_neither_order_nor_attempts_change_a_byte(planned, built):
    for number in (2, 0, 1, 2):
        build_shard(planned, number)
    seal_dataset(planned)
    assert contents(planned) == contents(built)


def test_processes_of_dask_write_the_same_bytes(planned, built):
    done = factory_command("dataset", "build", planned, "--workers", 2)
    assert (done.returncode, done.stdout) == (0, f"{planned}  7 images  3 shards\n"), done.stderr
    assert done.stderr == ""
    assert contents(planned) == contents(built)


CLUSTER = """
import os, signal, subprocess, sys, threading, time
from pathlib import Path
from dask_jobqueue import SLURMCluster
from factory.dataset.engine import build_dataset

def work():
    return subprocess.Popen(["bash", "job.sh"], start_new_session=True)

if __name__ == "__main__":
    folder = Path(sys.argv[1])
    given = dict(cores=1, processes=1, memory="4GB", walltime="01:00:00", interface="lo", local_directory=os.getcwd())
    with SLURMCluster(**given, scheduler_options=dict(dashboard_address="127.0.0.1:0")) as cluster:
        script = cluster.job_script()
        Path("job.sh").write_text(script)
        done = threading.Thread(target=build_dataset, args=(folder, None, cluster.scheduler_address))
        done.start()
        first = work()
        while not any((folder / "attempts").glob("*")):
            time.sleep(0.01)
        os.killpg(first.pid, signal.SIGKILL)
        left = [path.name for path in (folder / "attempts").iterdir()]
        second = work()
        done.join()
        os.killpg(second.pid, signal.SIGTERM)
        print("left", len(left), "by", first.pid != second.pid)
        print(script)
"""


@pytest.mark.slow
def test_a_worker_that_a_job_script_starts_may_be_killed(planned, built, tmp_path):
    """The script that dask-jobqueue makes for SLURM runs as it is, killed in the middle of a shard and run again."""
    done = subprocess.run(
        [sys.executable, "-c", CLUSTER, planned], cwd=tmp_path, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    assert "left 1 by True" in done.stdout
    for line in ("#SBATCH -n 1", "#SBATCH -t 01:00:00", "--nthreads 1"):
        assert line in done.stdout
    assert contents(planned) == contents(built)


# Killed, overtaken, out of room


@pytest.fixture(scope="module")
def random_store(tmp_path_factory) -> Path:
    """Return a store of random codes, of which shards are cut without JAX."""
    folder = tmp_path_factory.mktemp("random")
    plan_dataset(folder / "d", PlanOptions(random=5, count=20, rows=2, cols=3))
    return Path(shutil.move(folder / "d/sources/0.h5", folder / "codes.h5"))


def plan_random(folder: Path, store: Path, shard_images: int) -> Path:
    plan_dataset(folder, PlanOptions(source=str(store), shard_images=shard_images))
    return folder


@pytest.fixture(scope="module")
def random_built(random_store, tmp_path_factory) -> Path:
    folder = plan_random(tmp_path_factory.mktemp("built") / "d", random_store, 9)
    build_dataset(folder, workers=0)
    return folder


KILLED = """
import os, signal, sys
from pathlib import Path
from factory.dataset.engine import build_dataset
folder, name = sys.argv[1:]
replace = Path.replace
def kill(path, target):
    if path.name == name and target.parent.name in ("shards", "d"):
        os.kill(os.getpid(), signal.SIGKILL)
    return replace(path, target)
Path.replace = kill
build_dataset(folder, workers=0)
"""


@pytest.mark.parametrize(
    ("name", "missing", "done"),
    [
        ("00002.h5", "2-4", 2),
        ("00002.json", "2-4", 2),
        ("dataset.h5", "", 5),
        ("SHA256SUMS", "", 5),
        ("dataset.json", "", 5),
    ],
)
def test_a_builder_that_is_killed_leaves_whole_shards_only(random_store, random_built, tmp_path, name, missing, done):
    folder = plan_random(tmp_path / "d", random_store, 9)
    killed = subprocess.run([sys.executable, "-c", KILLED, folder, name], timeout=100)
    assert killed.returncode == -signal.SIGKILL
    status = dataset_status(folder)
    assert (status.missing, status.sealed) == (missing, False)
    assert [path.name.split(".")[0] for path in (folder / "attempts").iterdir()] == ["00002" if missing else "seal"]
    with pytest.raises(InputError, match="must be a finished dataset, it is not: factory dataset status"):
        read_dataset(folder)
    kept = {path: path.stat().st_ino for path in sorted(folder.glob("shards/*.h5"))[:done]}
    build_dataset(folder, workers=0)
    assert contents(folder) == contents(random_built)
    assert {path: path.stat().st_ino for path in kept} == kept  # none was built again


def test_a_full_disk_is_one_line_and_a_rerun_finishes(planned, built, monkeypatch):
    writes, pwrite = [], os.pwrite

    def full(*given):
        writes.append(given)
        if len(writes) > 9:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return pwrite(*given)

    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", full)
        with pytest.raises(InputError, match=r"0000\d.h5: must be writable: No space left on device$"):
            build_dataset(planned, workers=0)
    assert list((planned / "attempts").iterdir()) == []
    assert dataset_status(planned).missing in ("1-2", "2")
    build_dataset(planned, workers=0)
    assert contents(planned) == contents(built)


def test_a_full_disk_while_it_is_sealed_leaves_no_seal(random_store, random_built, tmp_path):
    folder = plan_random(tmp_path / "d", random_store, 9)
    code = (
        "import resource, sys; from factory.dataset.engine import build_dataset\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]),) * 2); build_dataset(sys.argv[1], workers=0)"
    )
    limit = max(path.stat().st_size for path in random_built.glob("shards/*.h5"))
    assert limit < (random_built / "dataset.h5").stat().st_size
    done = subprocess.run([sys.executable, "-c", code, folder, str(limit)], capture_output=True, text=True)
    assert f"InputError: {folder}: must be writable: File too large" in done.stderr
    assert not list(folder.glob("*.h5")) and dataset_status(folder).missing == ""
    build_dataset(folder, workers=0)
    assert contents(folder) == contents(random_built)


def test_two_builds_of_one_folder_do_no_harm(random_store, random_built, tmp_path):
    folder = plan_random(tmp_path / "d", random_store, 9)
    code = "import sys; from factory.dataset.engine import build_dataset; build_dataset(sys.argv[1], workers=0)"
    both = [subprocess.Popen([sys.executable, "-c", code, folder]) for _ in range(2)]
    assert [process.wait(timeout=100) for process in both] == [0, 0]
    assert contents(folder) == contents(random_built)


def test_a_builder_that_is_overtaken_takes_what_is_there(random_store, random_built, tmp_path):
    """Another process finishes the shard, and removes the attempts at it, while it is being built."""
    folder, seen = plan_random(tmp_path / "d", random_store, 9), []

    def overtake(*_):
        if not seen:
            seen.append(build_shard(folder, 1))

    assert build_shard(folder, 1, overtake) == seen[0]
    assert not list((folder / "attempts").iterdir())
    assert (folder / "shards/00001.h5").read_bytes() == (random_built / "shards/00001.h5").read_bytes()


def test_no_lock_is_needed(random_store, random_built, tmp_path, monkeypatch):
    def none(*_):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr("fcntl.flock", none)
    folder = plan_random(tmp_path / "d", random_store, 9)
    build_dataset(folder, workers=0)
    assert contents(folder) == contents(random_built)


def test_few_file_descriptors_are_enough(random_store, tmp_path):
    """Forty shards, and room for some twenty files beside those of Python itself."""
    folder = plan_random(tmp_path / "d", random_store, 1)
    code = """
import resource, sys, numpy as np
import factory
from factory.dataset.engine import build_dataset
resource.setrlimit(resource.RLIMIT_NOFILE, (32, 32))
build_dataset(sys.argv[1], workers=0)
with factory.open_dataset(sys.argv[1]) as dataset, factory.open_store(sys.argv[2]) as whole:
    for name, layer in whole.layers.items():
        assert np.array_equal(dataset.layer(name).activation[...], layer.activation[...])
    print(dataset.image_count)
"""
    done = subprocess.run([sys.executable, "-c", code, folder, random_store], capture_output=True, text=True)
    assert done.stdout == "40\n", done.stderr


def test_an_array_of_jobs_builds_shards(random_store, random_built, tmp_path):
    folder = plan_random(tmp_path / "d", random_store, 9)
    script = f'for k in 0 1 2 3 4; do "{sys.executable}" -m factory dataset build d --shard $k & done; wait'
    subprocess.run(["bash", "-ec", script], cwd=tmp_path, check=True, timeout=200)
    assert str(dataset_status(folder)) == f"{folder}: 5 of 5 shards, 40 images\nmust be sealed: factory dataset build"
    seal_dataset(folder)
    assert contents(folder) == contents(random_built)


# What is wrong is said


FAILING = """
import sys, threading
from distributed import LocalCluster
from factory.dataset.engine import build_dataset
from factory.spec import InputError

def build(folder, cluster, progress=None):
    try:
        build_dataset(folder, scheduler=cluster.scheduler_address, progress=progress)
    except InputError as error:
        print(error)

with LocalCluster(1, processes=False, threads_per_worker=1, dashboard_address="127.0.0.1:0") as cluster:
    build(sys.argv[1], cluster)
    stop = lambda done, *_: done and threading.Thread(target=cluster.close).start()
    build(sys.argv[2], cluster, stop)
"""


def test_what_fails_on_a_cluster_is_one_line(random_store, tmp_path):
    """Shards whose source is another one now; a scheduler that goes away."""
    for name in "ab":
        shutil.copy(random_store, tmp_path / f"{name}.h5")
        plan_random(tmp_path / name, tmp_path / f"{name}.h5", 1 if name == "b" else 9)
    (tmp_path / "a.h5").unlink()
    done = subprocess.run(
        [sys.executable, "-c", FAILING, tmp_path / "a", tmp_path / "b"], capture_output=True, text=True, timeout=200
    )
    first, second = done.stdout.splitlines()
    assert first == f"shard 0: {tmp_path}/a.h5: must be a store, there is no such file; shards that failed: 0-4"
    assert re.fullmatch(r"inproc://\S+: its scheduler must stay until all is built, it went away", second)
    missing = dataset_status(tmp_path / "b").missing
    assert missing.endswith("-39") and missing != "0-39"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (dict(workers=-1), "workers must be at least 0, not -1"),
        (dict(workers=1, scheduler="x"), "one of workers, scheduler and scheduler_file must be given"),
        (dict(scheduler_file="none.json"), "none.json: must be a scheduler's file: No such file or directory"),
        (dict(scheduler_file=__file__), f"{__file__}: must be a scheduler's file, with its address"),
    ],
)
def test_a_cluster_that_is_not_there_is_one_line(planned, given, message):
    with pytest.raises(InputError) as error:
        build_dataset(planned, **given)
    assert str(error.value) == message


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda shard: shard.unlink(), "shards/00001.h5 must be there: No such file or directory"),
        (lambda shard: os.truncate(shard, 999), "shards/00001.h5 must have {size} bytes, it has 999"),
        (lambda shard: shard.write_bytes(b""), "shards/00001.h5 must have {size} bytes, it has 0"),
    ],
)
def test_a_shard_that_is_missing_or_short_is_named_and_built_again(copy, built, damage, reason):
    reason = reason.format(size=(copy / "shards/00001.h5").stat().st_size)
    damage(copy / "shards/00001.h5")
    with pytest.raises(InputError) as error:
        read_dataset(copy)
    assert str(error.value) == f"{copy}: {reason}; shards that must be built: 1"
    status = dataset_status(copy)
    assert (status.unfinished, status.sealed) == ({1: reason}, False)
    build_dataset(copy, workers=0)
    assert contents(copy) == contents(built)


def test_a_foreign_shard_is_refused(copy, built, random_built, sources, tmp_path):
    """It is another plan's by its record; by its attribute, where it has the right record and size."""
    for suffix in ("h5", "json"):
        shutil.copy(random_built / f"shards/00001.{suffix}", copy / f"shards/00001.{suffix}")
    assert dataset_status(copy).unfinished == {1: "shard 1 is another plan's"}
    for suffix in ("h5", "json"):
        shutil.copy(built / f"shards/00001.{suffix}", copy / f"shards/00001.{suffix}")
    shutil.copy(copy / "shards/00000.h5", copy / "shards/00001.h5")
    (copy / "dataset.json").unlink()
    with pytest.raises(InputError, match=r"shards/00001.h5: must be shard 1 of the plan, it is another store$"):
        seal_dataset(copy)
    whole = (built / "shards/00001.h5").read_bytes()
    (copy / "shards/00001.h5").write_bytes(bytes(5000) + whole[5000:])
    with pytest.raises(InputError, match="shards/00001.h5: must be a whole HDF5 file"):
        seal_dataset(copy)


@pytest.mark.parametrize("name", ["shards/00001.h5", "dataset.h5", "README.md", "dataset.json"])
def test_a_bit_that_has_changed_fails_the_verification(copy, name):
    assert "6 files have the sha256" in list(verify_dataset(copy, "all", "all"))[0]
    flip(copy / name) if name != "dataset.json" else (copy / name).write_text((copy / name).read_text() + " ")
    with pytest.raises(ComparisonError, match=rf"{name}: sha256 must be [0-9a-f]{{64}}, not [0-9a-f]{{64}}$"):
        list(verify_dataset(copy))


def test_shards_are_recomputed(copy, sources):
    reports = list(verify_dataset(copy, "1:3", "all", sources / "w.safetensors"))
    assert [report.path.name for report in reports[1:]] == ["00001.h5", "00002.h5"]
    assert all("activation" in report.counts and "psum" in report.counts for report in reports[1:])
    with pytest.raises(InputError, match="^shards must be 0 to 2, not 3$"):
        list(verify_dataset(copy, "3"))


def test_sums_that_do_not_list_the_files_fail(copy):
    sums = copy / "SHA256SUMS"
    lines = sums.read_text().splitlines(keepends=True)
    sums.write_text("".join(lines[:-1]))
    with pytest.raises(ComparisonError, match=r"must list the files of the dataset: see shards/00002.h5$"):
        list(verify_dataset(copy))
    sums.write_text("".join(lines).replace(lines[-1][:64], "0" * 64))
    with pytest.raises(ComparisonError, match=r"shards/00002.h5 must have [0-9a-f]{64}, not 0{64}$"):
        list(verify_dataset(copy))
    sums.write_text("?")
    with pytest.raises(InputError, match=r"SHA256SUMS: must be a list of sha256sum$"):
        list(verify_dataset(copy))


def test_a_source_that_has_changed_is_refused(sources, tmp_path, monkeypatch):
    for name in ("w.safetensors", "x.npy"):
        shutil.copy(sources / name, tmp_path / name)
    plan_dataset(tmp_path / "d", options(tmp_path))
    np.save(tmp_path / "x.npy", random_pixels(tiny_network(), COUNT, seed=1).transpose(0, 2, 3, 1))
    with pytest.raises(InputError, match=r"x.npy: images 0 to 2 must be those of the plan, they are others$"):
        build_shard(tmp_path / "d", 0)
    np.save(tmp_path / "x.npy", random_pixels(tiny_network(), 5).transpose(0, 2, 3, 1))
    shard_module._cached_part.cache_clear()
    with pytest.raises(InputError, match=r"x.npy: it must have 7 images of all, not 5$"):
        build_shard(tmp_path / "d", 0)
    save_weights(trained_network(tiny_network(), seed=1), tmp_path / "w.safetensors")
    with pytest.raises(InputError, match=r"w.safetensors: weights must have the plan's sha256 .*, they are others$"):
        build_shard(tmp_path / "d", 0)
    monkeypatch.setattr("factory.__version__", "9")
    with pytest.raises(InputError, match=r"d: it must be built by factory 0.1.0, as planned, not 9$"):
        build_shard(tmp_path / "d", 0)


# More images


def stamps(folder: Path) -> dict[str, tuple[int, int]]:
    """Return which file each of the shards is, and when it was written."""
    files = ((path, path.stat()) for path in (folder / "shards").iterdir())
    return {path.name: (stat.st_ino, stat.st_mtime_ns) for path, stat in files}


def test_extending_touches_no_sealed_shard(copy, built, sources):
    before = stamps(copy)
    extend_dataset(copy, PlanOptions(images=str(sources / "x.npy"), pick="1:3"))
    status = dataset_status(copy)
    assert (status.missing, status.sealed) == ("3", False)
    assert read_dataset(copy).plan.image_count == COUNT  # as it was sealed
    build_dataset(copy, workers=0)
    assert {path: stamp for path, stamp in stamps(copy).items() if path in before} == before
    with open_store(copy / "dataset.h5") as merged, open_store(built / "dataset.h5") as old:
        codes, first = (store.layer("features.3").activation[...] for store in (merged, old))
        np.testing.assert_array_equal(codes, np.concatenate([first, first[1:3]]))
    for wrong, message in (
        (PlanOptions(random=3), "d: images must be given, as it was planned$"),
        (PlanOptions(), "d: images must be given, as it was planned$"),
        (PlanOptions(images="nothing"), "images must be samples, a folder, an .npy or an .npz, not nothing"),
    ):
        with pytest.raises(InputError, match=message):
            extend_dataset(copy, wrong)
    assert dataset_status(copy).sealed


def test_a_dataset_of_arrays_takes_more_of_the_same_weights(tmp_path):
    path = wide_store(tmp_path)
    plan_dataset(tmp_path / "d", PlanOptions(source=str(path), shard_images=3))
    build_dataset(tmp_path / "d", workers=0)
    extend_dataset(tmp_path / "d", PlanOptions(source=str(path), pick="3,0"))
    build_dataset(tmp_path / "d", workers=0)
    with open_store(tmp_path / "d/dataset.h5") as merged:
        codes = merged.layer("s").activation[...].reshape(6, 64)
        np.testing.assert_array_equal(codes, np.arange(-128, 128).reshape(4, 64)[[0, 1, 2, 3, 3, 0]])
    np.savez(path, **{"s.weight": np.full((2, 64), 2), "s.activation": np.arange(-128, 128).reshape(4, 1, 64)})
    with pytest.raises(InputError, match="a.npz: weights must have the plan's sha256 .*, they are others$"):
        extend_dataset(tmp_path / "d", PlanOptions(source=str(path)))
