import errno
import fcntl
import json
import os
import shutil
import stat
import subprocess
import sys
import warnings
from pathlib import Path
from types import SimpleNamespace

import h5py
import numpy as np
import pytest
from helpers_network import odd_network, tiny_network, trained_network
from hypothesis import given
from hypothesis import strategies as st

from factory.lower import lower, tile_layer
from factory.spec import InputError, SystolicArray
from factory.store import (
    ImageOrigin,
    LayerOrigin,
    StorePlan,
    create_store,
    lowered_layer,
    open_store,
    partial_folder,
    plan_store,
    writer,
)
from factory.store.hdf5 import chunk_shape

ARRAY = SystolicArray(4, 8)


def make_plan(network=None, count=5, layers="all", compression=None, source="random", array=ARRAY) -> StorePlan:
    trained = trained_network(network or tiny_network())
    integer = lower(trained)
    planned = [
        lowered_layer(trained.layers[spec.name], tile_layer(integer.layers[spec.name], array))
        for spec in trained.network.select(layers)
    ]
    images = ImageOrigin(count, source, "0", trained.network.image_shape)
    return plan_store(LayerOrigin("lowered", trained.network, trained.sha256), planned, array, images, compression)


def contents(plan: StorePlan, seed: int = 0) -> dict[str, np.ndarray]:
    random = np.random.default_rng(seed)
    limits = {v.path: np.iinfo(v.dtype) for v in plan.streamed}
    return {v.path: random.integers(limits[v.path].min, limits[v.path].max, v.shape, v.dtype) for v in plan.streamed}


def listing(folder) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def write_batch(writer, values, start, stop):
    for path, array in values.items():
        writer.write(path, start, array[start:stop])
    writer.commit(stop)


def write_store(path, plan, values, batch=2):
    with create_store(path, plan) as writer:
        for start in range(writer.done, plan.image_count, batch):
            write_batch(writer, values, start, min(start + batch, plan.image_count))


@pytest.mark.parametrize("compression", [None, "gzip", "lz4", "zstd"])
@pytest.mark.parametrize("network", [tiny_network(), odd_network()], ids=["tiny", "odd"])
def test_what_is_read_is_what_was_written(tmp_path, network, compression):
    plan = make_plan(network, compression=compression)
    values = contents(plan)
    write_store(tmp_path / "s.h5", plan, values)
    assert listing(tmp_path) == ["s.h5"]
    with h5py.File(tmp_path / "s.h5") as file:
        for variable in plan.variables:
            expected = values.get(variable.path, plan.constants.get(variable.path))
            found = file[variable.path]
            assert (found.dtype, found.shape) == (variable.dtype, variable.shape)
            np.testing.assert_array_equal(found[...], expected, err_msg=variable.path)
            assert tuple(d[0].name.rpartition("/")[2] for d in found.dims) == variable.axes


def test_reader_gives_the_records_that_were_written(tmp_path):
    network = odd_network()
    trained, plan = trained_network(network), make_plan(network)
    integer, values = lower(trained), contents(plan)
    write_store(tmp_path / "s.h5", plan, values)
    with open_store(tmp_path / "s.h5") as store:
        assert (store.network, store.array, store.image_count) == (network, ARRAY, 5)
        assert (store.weights_sha256, store.image_source) == ("seed0", "random")
        np.testing.assert_array_equal(store.images.pixels[1:3], values["images/pixels"][1:3])
        for conv in network.layers:
            layer, lowered = store.layer(conv.name), integer.layers[conv.name]
            assert layer.spec == conv
            assert (layer.alpha_w, layer.alpha_a) == (
                trained.layers[conv.name].alpha_w,
                trained.layers[conv.name].alpha_a,
            )
            np.testing.assert_array_equal(layer.weight, lowered.weight)
            np.testing.assert_array_equal(layer.activation_low, lowered.activation_low)
            np.testing.assert_array_equal(layer.psum[-1], values[f"layers/{conv.name}/psum"][-1])
            assert (layer.threshold is None) == (layer.direction is None) == (conv == network.last)
            assert layer.row_count[...].sum() == conv.in_channels
            assert layer.col_count[...].sum() == conv.out_channels
        last = network.last.name
        with pytest.raises(InputError) as error:
            store.layer("conv9")
    names = " ".join(conv.name for conv in network.layers)
    assert str(error.value) == f"{tmp_path}/s.h5: layer must be one of {names}, not conv9"
    assert store.layers[last].threshold is None


def test_attributes_name_geometry_steps_and_bounds(tmp_path):
    plan = make_plan()
    write_store(tmp_path / "s.h5", plan, contents(plan))
    with h5py.File(tmp_path / "s.h5") as file:
        layer = dict(file["layers/features.0"].attrs)
        root = dict(file.attrs)
    assert (layer["kernel"], layer["padding"], layer["signed"], layer["out_height"]) == (3, 1, 1, 4)
    assert np.float32(layer["weight_step"]) == trained_network(tiny_network()).layers["features.0"].weight_scale
    assert layer["psum_low"] < 0 < layer["psum_high"] < layer["accumulator_high"]
    expected = dict(schema="factory-store/2", complete=1, array_rows=4, array_cols=8, psum_bits=16, compression="none")
    assert {key: root[key] for key in expected} == expected


def test_equal_plans_write_equal_bytes(tmp_path):
    plan = make_plan()
    for name, batch in (("a.h5", 1), ("b.h5", 5)):
        write_store(tmp_path / name, plan, contents(plan), batch)
    assert (tmp_path / "a.h5").read_bytes() == (tmp_path / "b.h5").read_bytes()


@pytest.mark.parametrize("compression", [None, "lz4"])
def test_xarray_names_the_axes(tmp_path, compression):
    xarray = pytest.importorskip("xarray")
    plan = make_plan(odd_network(), compression=compression)
    values = contents(plan)
    write_store(tmp_path / "s.h5", plan, values)
    with open_store(tmp_path / "s.h5") as store, warnings.catch_warnings():
        warnings.simplefilter("error")
        tree = store.to_xarray()
        with tree:
            for variable in plan.variables:
                assert tree[variable.path].dims == variable.axes
            picked = tree["layers/features.0/psum"].isel(image=1).sel(kij=4, ot=0).values
        np.testing.assert_array_equal(picked, values["layers/features.0/psum"][1, :, 0, 4])
        name = "layers/features.9" if "features.9" in store.layers else f"layers/{store.network.last.name}"
        with xarray.open_dataset(tmp_path / "s.h5", group=name, engine="h5netcdf") as dataset:
            assert set(dataset.psum.dims) == {"image", "it", "ot", "kij", "nij", "col"}


def test_only_chosen_layers_are_there(tmp_path):
    plan = make_plan(layers="features.3")
    write_store(tmp_path / "s.h5", plan, contents(plan))
    with open_store(tmp_path / "s.h5") as store:
        assert list(store.layers) == ["features.3"]


@given(st.lists(st.integers(1, 40), min_size=1, max_size=6), st.sampled_from([1, 2, 4]), st.integers(1, 4000))
def test_chunks_are_runs_of_the_contiguous_order(shape, itemsize, target):
    chunk = chunk_shape((7, *shape), itemsize, target)
    assert chunk[0] == 1
    assert all(1 <= c <= size for c, size in zip(chunk[1:], shape, strict=True))
    assert np.prod(chunk) * itemsize <= max(target, itemsize)
    outermost = next((i for i, c in enumerate(chunk[1:]) if c > 1), len(shape))
    assert list(chunk[2 + outermost :]) == shape[outermost + 1 :]


# Interruption: what a killed build leaves is gone on with, and nothing unfinished looks finished.


class Killed(BaseException):
    """What ends a build without a chance to tidy up."""


def interrupt(path, plan, values, after):
    with pytest.raises(Killed), create_store(path, plan) as writer:
        for start in range(writer.done, plan.image_count):
            if start == after:
                writer.write("images/pixels", start, values["images/pixels"][start : start + 1])
                raise Killed
            write_batch(writer, values, start, start + 1)


@pytest.mark.parametrize("compression", [None, "gzip"])
def test_an_interrupted_build_goes_on_where_it_stopped(tmp_path, compression):
    path, plan = tmp_path / "s.h5", make_plan(compression=compression)
    values = contents(plan)
    interrupt(path, plan, values, after=3)
    with pytest.raises(InputError) as error:
        open_store(path)
    assert str(error.value) == f"{path}: must be a finished store, it is still being written in {path}.partial"
    with create_store(path, plan) as writer:
        assert writer.done == 3
        write_batch(writer, values, 3, 5)
    with open_store(path) as store:
        np.testing.assert_array_equal(store.layer("features.0").psum, values["layers/features.0/psum"])
    assert listing(tmp_path) == ["s.h5"]


@pytest.mark.parametrize(
    "other", [dict(source="other"), dict(count=6), dict(layers="features.0"), dict(array=SystolicArray(4, 4))]
)
def test_another_plan_starts_afresh(tmp_path, other):
    path, plan = tmp_path / "s.h5", make_plan()
    interrupt(path, plan, contents(plan), after=3)
    plan = make_plan(**other)
    with create_store(path, plan) as writer:
        assert writer.done == 0
        write_batch(writer, contents(plan), 0, plan.image_count)


def test_a_restart_of_the_machine_starts_afresh(tmp_path, monkeypatch):
    path, plan = tmp_path / "s.h5", make_plan()
    interrupt(path, plan, contents(plan), after=3)
    monkeypatch.setattr("factory.store.writer._boot", lambda: "another")
    with create_store(path, plan) as writer:
        assert writer.done == 0
        write_batch(writer, contents(plan), 0, 5)


def finish_afresh(path, plan):
    """Finish an interrupted build of which nothing may be used."""
    with create_store(path, plan) as writer:
        assert writer.done == 0
        write_batch(writer, contents(plan, seed=1), 0, plan.image_count)
    with open_store(path) as store:
        expected = contents(plan, seed=1)
        np.testing.assert_array_equal(store.images.pixels, expected["images/pixels"])
        np.testing.assert_array_equal(store.layer("features.0").psum, expected["layers/features.0/psum"])
    assert listing(path.parent) == [path.name]


@pytest.mark.parametrize(
    "progress",
    ["", "[]", "5", "null", "{}", "[" * 100_000, "\xff", {"images": None}, {"images": "3"}, {"images": 3.0},
     {"images": True}, {"images": [3]}, {"images": -1}, {"images": 6}, {"plan": None}, {"boot": 7}, {"more": 1}],
)  # fmt: skip
def test_progress_of_another_form_is_none(tmp_path, progress):
    path, plan = tmp_path / "s.h5", make_plan()
    interrupt(path, plan, contents(plan), after=3)
    file = partial_folder(path) / "progress.json"
    text = progress if isinstance(progress, str) else json.dumps(json.loads(file.read_text()) | progress)
    file.write_bytes(text.encode("latin1"))
    finish_afresh(path, plan)


def another_store(path):
    plan = make_plan(array=SystolicArray(4, 4))
    write_store(path.with_name("other.h5"), plan, contents(plan))
    path.with_name("other.h5").replace(path)


DAMAGES = {
    "missing": Path.unlink,
    "empty": lambda path: path.write_bytes(b""),
    "junk": lambda path: path.write_bytes(b"junk" * 5000),
    "cut": lambda path: os.truncate(path, path.stat().st_size - 1),
    "folder": lambda path: (path.unlink(), path.mkdir()),
    "another": another_store,
    "HDF5 of something else": lambda path: h5py.File(path, "w").close(),
}


@pytest.mark.parametrize(("compression", "name"), [(None, "store.h5"), ("gzip", "000000000001.h5")])
@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_progress_without_the_data_that_it_promises_is_none(tmp_path, compression, name, damage):
    path, plan = tmp_path / "s.h5", make_plan(compression=compression)
    interrupt(path, plan, contents(plan), after=3)
    damage(partial_folder(path) / name)
    finish_afresh(path, plan)


def test_a_partial_file_that_cannot_be_opened_is_one_line(tmp_path, monkeypatch):
    def fail(*_):
        raise OSError("Unable to synchronously open file\nsecond line")

    monkeypatch.setattr("factory.store.writer.data_offsets", fail)
    with pytest.raises(InputError) as error, create_store(tmp_path / "s.h5", make_plan()):
        pass
    assert str(error.value) == f"{tmp_path}/s.h5: must be writable: Unable to synchronously open file"
    assert listing(tmp_path) == []


@pytest.fixture
def disk(monkeypatch):
    """Return what happens to the file of a store, in order: the wait for the disk, the mark, the name."""
    events = []

    def log(event, function):
        def call(*arguments):
            events.append(event(*arguments))
            return function(*arguments)

        return call

    def kind(file: int) -> str:
        return "wait for folder" if stat.S_ISDIR(os.fstat(file).st_mode) else "wait for file"

    monkeypatch.setattr(os, "fsync", log(kind, os.fsync))
    monkeypatch.setattr("factory.store.writer.mark_complete", log(lambda *_: "complete", writer.mark_complete))
    monkeypatch.setattr(Path, "replace", log(lambda source, _: source.name, Path.replace))
    return events


@pytest.mark.parametrize("compression", [None, "gzip"])
def test_data_is_on_the_disk_before_the_mark_and_the_mark_before_the_name(tmp_path, disk, compression):
    plan = make_plan(compression=compression)
    write_store(tmp_path / "s.h5", plan, contents(plan), batch=5)
    ending = disk[disk.index("progress.json.new") + 1 :]
    assert ending == ["wait for file", "wait for folder", "complete", "wait for file", "store.h5", "wait for folder"]


@pytest.mark.parametrize("compression", [None, "gzip"])
def test_commits_wait_for_the_disk_where_a_restart_has_no_name(tmp_path, monkeypatch, disk, compression):
    monkeypatch.setattr("factory.store.writer._boot", lambda: "")
    path, plan = tmp_path / "s.h5", make_plan(compression=compression)
    interrupt(path, plan, contents(plan), after=1)
    assert disk[-3:] == ["wait for file", "wait for folder", "progress.json.new"]
    with create_store(path, plan) as writer:
        assert writer.done == 1
        write_batch(writer, contents(plan), 1, 5)


@pytest.mark.parametrize("at_end", [False, True], ids=["on the way", "at the end"])
def test_a_disk_that_fails_later_fails_the_build(tmp_path, monkeypatch, at_end):
    def flush(file):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    plan, path = make_plan(), tmp_path / "s.h5"
    if at_end:
        monkeypatch.setattr("factory.store.writer._ContiguousWriter._put", lambda self, *_: None)
    with pytest.raises(InputError) as error, create_store(path, plan) as store:
        if at_end:
            store._flushed = store._flusher.submit(flush, 0)
        monkeypatch.setattr("factory.store.writer._flush", flush)
        write_batch(store, contents(plan), 0, 5)
        store.commit(5)
    assert str(error.value) == f"{path}: must be writable: Input/output error"
    assert listing(tmp_path) == []


def test_a_store_holds_layers_and_they_hold_integers(tmp_path):
    plan, path = make_plan(), tmp_path / "s.h5"
    write_store(path, plan, contents(plan), batch=5)
    with h5py.File(path, "r+") as file:
        name, weight = next((f"layers/{name}/weight", layer["weight"][...]) for name, layer in file["layers"].items())
        del file[name]
        file[name] = weight.astype(np.float64)
    with pytest.raises(InputError) as error:
        open_store(path)
    assert str(error.value) == f"{path}: {name} must hold integers, not float64"
    with h5py.File(path, "r+") as file:
        del file["layers"]
    with pytest.raises(InputError) as error:
        open_store(path)
    assert str(error.value) == f"{path}: must hold at least one layer, it holds none"


def test_an_exception_removes_what_was_written(tmp_path):
    plan = make_plan()
    with pytest.raises(ZeroDivisionError), create_store(tmp_path / "s.h5", plan) as writer:
        write_batch(writer, contents(plan), 0, 2)
        raise ZeroDivisionError
    assert listing(tmp_path) == []


def test_a_store_that_lacks_images_is_not_finished(tmp_path):
    plan = make_plan()
    with pytest.raises(ValueError, match="2 of 5 images"), create_store(tmp_path / "s.h5", plan) as writer:
        write_batch(writer, contents(plan), 0, 2)
    assert listing(tmp_path) == []


def test_values_of_another_dtype_or_shape_are_refused(tmp_path):
    plan = make_plan()
    values = contents(plan)["layers/features.0/psum"]
    for wrong in (values.astype(np.int32), values[:, :, :, :1], np.concatenate([values, values])):
        with pytest.raises(ValueError, match="psum from 0 must be"), create_store(tmp_path / "s.h5", plan) as writer:
            writer.write("layers/features.0/psum", 0, wrong)


def test_a_full_disk_leaves_nothing(tmp_path, monkeypatch):
    plan = make_plan()

    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.raises(InputError) as error, create_store(tmp_path / "s.h5", plan) as writer:
        write_batch(writer, contents(plan), 0, 2)
        monkeypatch.setattr(os, "pwrite", full)
        write_batch(writer, contents(plan), 2, 4)
    assert str(error.value) == f"{tmp_path}/s.h5: must be writable: No space left on device"
    assert listing(tmp_path) == []


def test_a_disk_without_room_is_known_before_anything_is_computed(tmp_path, monkeypatch):
    plan = make_plan(count=50)
    disk = SimpleNamespace(free=plan.nbytes - 1)
    monkeypatch.setattr("shutil.disk_usage", lambda _: disk)
    with pytest.raises(InputError) as error, create_store(tmp_path / "s.h5", plan):
        pass
    assert str(error.value) == f"{tmp_path}/s.h5: must have {plan.nbytes:,} bytes of disk, {disk.free:,} are free"
    assert listing(tmp_path) == []


def test_what_is_committed_stays_where_there_is_no_room_to_go_on(tmp_path, monkeypatch):
    plan, path = make_plan(), tmp_path / "s.h5"
    interrupt(path, plan, contents(plan), after=3)
    with monkeypatch.context() as patch:
        patch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=0))
        with pytest.raises(InputError, match=" bytes of disk, 0 are free$"), create_store(path, plan):
            pass
    with create_store(path, plan) as writer:
        assert writer.done == 3
        write_batch(writer, contents(plan), 3, 5)


def test_a_folder_that_another_build_has_removed_is_not_locked(tmp_path, monkeypatch):
    """It is removed, and made anew by a third build, between being opened and being locked."""
    partial, lock = tmp_path / "s.h5.partial", writer.fcntl.flock

    def late(folder, how):
        shutil.rmtree(partial)
        partial.mkdir()
        lock(folder, how)

    monkeypatch.setattr(writer.fcntl, "flock", late)
    with (
        pytest.raises(InputError, match=r"s\.h5: another build is writing it now$"),
        create_store(tmp_path / "s.h5", make_plan()),
    ):
        pass


def lock_only(real, error, allowed):
    """Return a `flock` that fails with `error` for descriptors that are not `allowed`."""

    def flock(descriptor, how):
        if not allowed(descriptor):
            raise OSError(error, os.strerror(error))
        return real(descriptor, how)

    return flock


def writable(descriptor) -> bool:
    return fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_ACCMODE != os.O_RDONLY


def test_the_lock_is_one_that_nfs_gives(tmp_path, monkeypatch):
    """There a lock for one process alone needs a descriptor that may be written."""
    monkeypatch.setattr(writer.fcntl, "flock", lock_only(fcntl.flock, errno.EBADF, writable))
    test_two_builds_do_not_write_one_store(tmp_path)


@pytest.mark.parametrize("error", [errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS])
def test_a_folder_without_locks_takes_a_store(tmp_path, monkeypatch, error):
    monkeypatch.setattr(writer.fcntl, "flock", lock_only(fcntl.flock, error, lambda _: False))
    write_store(tmp_path / "s.h5", make_plan(), contents(make_plan()))
    assert listing(tmp_path) == ["s.h5"]


LIMITED = """
import resource, sys
sys.path[:0] = sys.argv[3:]
from test_store import *
plan = make_plan(compression=None if sys.argv[2] == "none" else sys.argv[2])
values = contents(plan)
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]),) * 2)
try:
    write_store(Path("s.h5"), plan, values)
except InputError as error:
    print(error)
"""


@pytest.mark.parametrize("compression", ["none", "gzip"])
@pytest.mark.parametrize("limit", [1000, 30_000])
def test_a_file_that_may_not_grow_is_one_line_and_leaves_nothing(tmp_path, compression, limit):
    found = subprocess.run(
        [sys.executable, "-c", LIMITED, str(limit), compression, Path(__file__).parent, Path.cwd()],
        cwd=tmp_path, capture_output=True, text=True, timeout=100,
    )  # fmt: skip
    assert (found.stdout, found.stderr) == ("s.h5: must be writable: File too large\n", "")
    assert listing(tmp_path) == []


def test_two_builds_do_not_write_one_store(tmp_path):
    plan = make_plan()
    with create_store(tmp_path / "s.h5", plan) as writer:
        with pytest.raises(InputError) as error, create_store(tmp_path / "s.h5", plan):
            pass
        write_batch(writer, contents(plan), 0, 5)
    assert str(error.value) == f"{tmp_path}/s.h5: another build is writing it now"
    assert listing(tmp_path) == ["s.h5"]


def refused_target(path) -> str:
    with pytest.raises(InputError) as error, create_store(path, make_plan()):
        pass
    assert not partial_folder(path).exists()
    return str(error.value)


def test_targets_that_are_no_store_are_left_alone(tmp_path):
    (tmp_path / "photo.jpg").write_bytes(b"a picture")
    (tmp_path / "folder").mkdir()
    photo, folder, nowhere = tmp_path / "photo.jpg", tmp_path / "folder", tmp_path / "no" / "s.h5"
    assert refused_target(photo) == f"{photo}: must be a store or a new file, not a file of another kind"
    assert refused_target(folder) == f"{folder}: must be a file, not a folder"
    assert refused_target(nowhere) == f"{nowhere}: must lie in a folder that exists, not in {tmp_path}/no"
    assert photo.read_bytes() == b"a picture"


def test_a_finished_store_is_replaced(tmp_path):
    for count in (2, 3):
        plan = make_plan(count=count)
        write_store(tmp_path / "s.h5", plan, contents(plan))
    with open_store(tmp_path / "s.h5") as store:
        assert store.image_count == 3


def test_an_unknown_compression_is_refused():
    with pytest.raises(InputError) as error:
        make_plan(compression="rar")
    assert str(error.value) == "compression must be one of gzip lz4 zstd, not rar"


# What is not a finished store is refused in one line.


def refused(path) -> str:
    with pytest.raises(InputError) as error:
        open_store(path)
    return str(error.value)


@pytest.fixture
def stored(tmp_path):
    plan = make_plan()
    write_store(tmp_path / "s.h5", plan, contents(plan))
    return tmp_path / "s.h5"


def test_no_store(tmp_path):
    (tmp_path / "text").write_text("not HDF5")
    assert refused(tmp_path / "s.h5") == f"{tmp_path}/s.h5: must be a store, there is no such file"
    assert refused(tmp_path / "text") == f"{tmp_path}/text: must be a store, it is not an HDF5 file"
    assert refused(tmp_path) == f"{tmp_path}: must be a store, it is not an HDF5 file"


@pytest.mark.parametrize("kept", [0.0, 0.01, 0.5, 0.999])
def test_truncated_store(stored, kept):
    os.truncate(stored, int(stored.stat().st_size * kept))
    message = refused(stored)
    assert message.startswith(f"{stored}: must be a") and "\n" not in message


def test_other_schema(stored):
    with h5py.File(stored, "r+") as file:
        file.attrs["schema"] = "factory-store/9"
    assert refused(stored) == f"{stored}: schema must be factory-store/2, not factory-store/9"
    with h5py.File(stored, "r+") as file:
        del file.attrs["schema"]
    assert refused(stored) == f"{stored}: schema must be factory-store/2, not none"


def test_unfinished_file(stored):
    with h5py.File(stored, "r+") as file:
        file.attrs["complete"] = 0
    assert refused(stored) == f"{stored}: must be a finished store, it is still being written"


def test_missing_and_misshapen_datasets(stored):
    with h5py.File(stored, "r+") as file:
        del file["layers/features.0/psum"]
    assert refused(stored) == f"{stored}: must hold layers/features.0/psum of schema factory-store/2, it does not"
    with h5py.File(stored, "r+") as file:
        file["layers/features.0/psum"] = np.zeros((5, 1, 1, 9, 36, 4), np.int16)
    assert refused(stored) == f"{stored}: features.0: psum must be (5, 1, 1, 9, 36, 8), not (5, 1, 1, 9, 36, 4)"


@pytest.mark.parametrize(
    ("group", "name"),
    [
        ("/", "compression"),
        ("/", "network"),
        ("/", "psum_bits"),
        ("/", "image_source"),
        ("/layers/features.0", "alpha_a"),
    ],
)
def test_missing_attributes(stored, group, name):
    with h5py.File(stored, "r+") as file:
        del file[group].attrs[name]
    assert refused(stored) == (
        f"{stored}: must hold attribute {name} of {group} of schema factory-store/2, it does not"
    )


WHOLE = "must be a whole store of schema factory-store/2: "


@pytest.mark.parametrize(
    ("group", "name", "value", "message"),
    [
        ("/", "network", "{", WHOLE + "Expecting property name enclosed in double quotes: line 1 column 2 (char 1)"),
        ("/", "network", "{}", "network description: 'layers'"),
        ("/", "network", 3, "attribute network must be text, not 3"),
        ("/", "weights_sha256", 3, "attribute weights_sha256 must be text, not 3"),
        ("/", "schema", "factory\n/1", "schema must be factory-store/2, not factory\\n/1"),
        ("/", "psum_bits", "x", WHOLE + "invalid literal for int() with base 10: 'x'"),
        ("/", "array_rows", 0, "rows must be at least 1, not 0"),
        ("/layers/features.0", "alpha_w", "one", WHOLE + "could not convert string to float: 'one'"),
        ("/layers/features.0", "alpha_w", 1e300, WHOLE + "overflow encountered in cast"),
    ],
)
def test_damaged_attributes(stored, group, name, value, message):
    with h5py.File(stored, "r+") as file:
        file[group].attrs[name] = value
    assert refused(stored) == f"{stored}: {message}"


def test_damage_to_the_index_of_a_group(stored):
    """Some of it h5py tells by a RuntimeError."""
    whole, found = stored.read_bytes(), 0
    while (found := whole.find(b"TREE", found + 1)) > 0:
        stored.write_bytes(whole[:found] + b"tree" + whole[found + 4 :])
        message = refused(stored)
        assert message.startswith(f"{stored}: must ") and "\n" not in message


@pytest.mark.parametrize(
    ("function", "message"),
    [
        ("_read_store", WHOLE + "Can't get info (wrong B-tree signature)"),
        ("h5py.File", "must be a whole HDF5 file: Can't get info (wrong B-tree signature)"),
    ],
)
def test_every_kind_of_error_of_h5py_is_one_line(stored, monkeypatch, function, message):
    def fail(*_):
        raise RuntimeError("Can't get info (wrong B-tree signature)\nsecond line")

    monkeypatch.setattr(f"factory.store.reader.{function}", fail)
    assert refused(stored) == f"{stored}: {message}"


@pytest.fixture
def held(stored):
    """Let another process hold the store open for writing."""
    hold = "import h5py, sys; file = h5py.File(sys.argv[1], 'r+'); print('held', flush=True); sys.stdin.read()"
    command = [sys.executable, "-c", hold, stored]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "held\n"
        yield stored
        process.stdin.close()


def test_a_store_that_another_process_writes_is_neither_read_nor_replaced(held):
    before = held.read_bytes()
    assert refused(held) == f"{held}: held open for writing by another process"
    with pytest.raises(InputError) as error, create_store(held, make_plan()):
        pass
    assert str(error.value) == f"{held}: held open for writing by another process"
    assert held.read_bytes() == before and listing(held.parent) == [held.name]


def test_a_group_in_place_of_a_dataset(stored):
    with h5py.File(stored, "r+") as file:
        del file["layers/features.0/psum"]
        file.create_group("layers/features.0/psum")
    assert refused(stored) == f"{stored}: must hold layers/features.0/psum of schema factory-store/2, it does not"


def test_reading_needs_no_jax(stored):
    script = (
        "import sys; from factory.store import open_store; open_store(sys.argv[1]).close(); print('jax' in sys.modules)"
    )
    found = subprocess.run(
        [sys.executable, "-c", script, stored], capture_output=True, text=True, timeout=100, check=True
    )
    assert found.stdout == "False\n"
