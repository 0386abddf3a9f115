import errno
import functools
import os
import signal
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
from helpers_network import odd_network, random_pixels, tiny_network, trained_network
from helpers_twin import twin_accumulators, twin_next_codes, twin_psums

from factory.arithmetic.tiling import tile_activation, tile_weight
from factory.build import build, default_store
from factory.build.fill import batch_size
from factory.checkpoint import save_weights
from factory.lower import lower
from factory.spec import InputError, SystolicArray
from factory.store import StoreWriter, open_store

trained = functools.cache(trained_network)


@pytest.fixture
def pixels(tmp_path):
    """Return five images of the odd and of the tiny network, as files."""
    for network in (odd_network(), tiny_network()):
        np.save(tmp_path / f"{network.name}.npy", random_pixels(network, 5).transpose(0, 2, 3, 1))
    return tmp_path


def build_odd(folder: Path, name="s.h5", **options) -> Path:
    options = dict(weights=trained(odd_network()), images=folder / "odd.npy", pick="all") | options
    return build(folder / name, **options)


def build_tiny(folder: Path, name="s.h5", **options) -> Path:
    options = dict(weights=trained(tiny_network()), images=folder / "tiny.npy", pick="all") | options
    return build(folder / name, **options)


def listing(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_every_variable_equals_the_plain_loops(pixels):
    network, array = odd_network(), SystolicArray(8, 4)
    integer, images = lower(trained(network)), random_pixels(network, 5)
    with open_store(build_odd(pixels, array=array, pick="3,1")) as store:
        assert (store.image_count, store.image_source, store.weights_sha256) == (2, "odd.npy", "seed0")
        assert store.images.source_index[...].tolist() == [3, 1]
        assert store.images.label[...].tolist() == [-1, -1]
        np.testing.assert_array_equal(store.images.pixels, images[[3, 1]])
        codes = [np.stack([integer.input_table[c][image[c]] for c in range(3)]) for image in images[[3, 1]]]
        for conv in network.layers:
            stored, layer = store.layer(conv.name), integer.layers[conv.name]
            np.testing.assert_array_equal(stored.weight_tile, tile_weight(layer.weight, array))
            np.testing.assert_array_equal(stored.activation, np.stack(codes))
            np.testing.assert_array_equal(stored.activation_tile, tile_activation(np.stack(codes), conv, array))
            np.testing.assert_array_equal(stored.psum, np.stack([twin_psums(layer, array, x) for x in codes]))
            sums = [twin_accumulators(layer, x) for x in codes]
            np.testing.assert_array_equal(stored.accumulator, np.stack(sums))
            if layer.threshold is not None:
                np.testing.assert_array_equal(stored.threshold, layer.threshold)
                np.testing.assert_array_equal(stored.direction, layer.direction)
                codes = [twin_next_codes(layer, x) for x in sums]


@pytest.mark.parametrize("compression", [None, "gzip"])
def test_the_batch_size_does_not_matter(pixels, compression):
    files = [build_tiny(pixels, f"{n}.h5", batch=n, compression=compression).read_bytes() for n in (1, 2, 5, 64)]
    assert files[0] == files[1] == files[2] == files[3]


def test_the_first_image_is_the_default(pixels):
    with open_store(build_tiny(pixels, pick=None)) as store:
        assert store.images.source_index[...].tolist() == [0]


def test_chosen_layers_are_those_of_the_whole_network(pixels):
    network = odd_network()
    names = f"{network.layers[3].name},{network.layers[1].name}"
    with open_store(build_odd(pixels, "all.h5")) as whole, open_store(build_odd(pixels, layers=names)) as part:
        assert list(part.layers) == [network.layers[1].name, network.layers[3].name]
        for name, layer in part.layers.items():
            np.testing.assert_array_equal(layer.psum, whole.layer(name).psum)


def test_weights_may_be_a_file(pixels):
    save_weights(trained(tiny_network()), pixels / "w.safetensors")
    with open_store(build_tiny(pixels, weights=pixels / "w.safetensors")) as store:
        assert store.network == tiny_network()


def test_progress_counts_the_bytes(pixels):
    seen = []
    path = build_tiny(pixels, batch=2, progress=lambda *event: seen.append(event))
    done, totals, texts = zip(*seen, strict=True)
    with h5py.File(path) as file:
        streamed = [file["images"][name] for name in ("pixels", "label", "source_index")]
        for layer in file["layers"].values():
            streamed += [layer[name] for name in ("activation", "activation_tile", "psum", "conv")]
        assert set(totals) == {sum(dataset.nbytes for dataset in streamed)}
    assert list(done) == sorted(done) and done[-1] == totals[0]
    assert texts[:4] == ("images", "features.0", "features.3", "2 images")


def test_batches_are_sized_by_their_bytes():
    def plan(image_bytes, count):
        return type("Plan", (), dict(image_bytes=image_bytes, image_count=count))

    assert [batch_size.__wrapped__(plan(size, 100)) for size in (1, 2**22, 2**27, 2**30)] == [64, 32, 1, 1]
    assert batch_size.__wrapped__(plan(1, 3)) == 3


# Interruption and failure

KILLED = """
import os, signal, sys
sys.path[:0] = sys.argv[2:]
from pathlib import Path
from test_build import *
def kill(done, total, text):
    if text == "3 images":
        os.kill(os.getpid(), signal.SIGKILL)
build_tiny(Path.cwd(), batch=1, compression=sys.argv[1] or None, progress=kill)
"""


@pytest.mark.parametrize("compression", ["", "gzip"])
def test_a_killed_build_goes_on_where_it_stopped(pixels, compression):
    paths = [str(Path(__file__).parent), str(Path.cwd())]
    killed = subprocess.run([sys.executable, "-c", KILLED, compression, *paths], cwd=pixels, timeout=200)
    assert killed.returncode == -signal.SIGKILL
    assert "s.h5.partial" in listing(pixels) and "s.h5" not in listing(pixels)
    written = []
    build_tiny(pixels, batch=1, compression=compression or None, progress=lambda *event: written.append(event[2]))
    commits = [text for text in written if text.endswith(" images")]
    assert commits in (["4 images", "5 images"], ["5 images"])  # a batch may have been committed after the event
    whole = build_tiny(pixels, "whole.h5", compression=compression or None)
    assert (pixels / "s.h5").read_bytes() == whole.read_bytes()
    assert "s.h5.partial" not in listing(pixels)


def test_other_images_of_the_same_name_start_afresh(pixels, monkeypatch):
    def interrupt(done, total, text):
        if text == "3 images":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build_tiny(pixels, batch=1, progress=interrupt)
    np.save(pixels / "tiny.npy", random_pixels(tiny_network(), 5, seed=1).transpose(0, 2, 3, 1))
    with open_store(build_tiny(pixels, batch=1)) as store:
        np.testing.assert_array_equal(store.images.pixels, random_pixels(tiny_network(), 5, seed=1))


def test_a_full_disk_is_one_line_and_leaves_nothing(pixels, monkeypatch):
    before = listing(pixels)

    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(InputError) as error:
        build_tiny(pixels)
    assert str(error.value) == f"{pixels}/s.h5: must be writable: No space left on device"
    assert listing(pixels) == before


@pytest.mark.parametrize("failing", ["images/label", "features.0/psum", "features.3/conv"])
def test_a_batch_that_is_not_whole_is_not_committed(pixels, monkeypatch, failing):
    """The error of a write is seen late; what is queued behind it by then, commits too, must not be done."""
    commits = []
    commit, write = StoreWriter.commit, StoreWriter.write

    def fail(writer, variable, first, values):
        if first == 2 and variable.endswith(failing):
            raise InputError("disk")
        write(writer, variable, first, values)

    monkeypatch.setattr(StoreWriter, "write", fail)
    monkeypatch.setattr(StoreWriter, "commit", lambda writer, done: commits.append(done) or commit(writer, done))
    with pytest.raises(InputError) as error:
        build_tiny(pixels, batch=1)
    assert (str(error.value), commits) == ("disk", [1, 2])


def test_an_unreadable_image_leaves_nothing(pixels):
    for n in range(3):
        pytest.importorskip("PIL.Image").new("RGB", (4, 4)).save(pixels / f"{n}.png")
    (pixels / "2.png").write_bytes((pixels / "1.png").read_bytes()[:40])
    before = listing(pixels)
    with pytest.raises(InputError, match=r"/2.png: must be an image: "):
        build_tiny(pixels, images=pixels)
    assert listing(pixels) == before


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(pick="5"), "pick must be 0 to 4, not 5"),
        (dict(pick="2:2"), "pick must select at least one index, '2:2' selects none"),
        (dict(pick=""), "pick must select at least one index, '' selects none"),
        (dict(layers="conv1"), "layer must be one of features.0 features.3, not conv1"),
        (dict(layers=","), "the selection of layers must hold at least one layer, it is empty"),
        (dict(batch=0), "batch must be at least 1, not 0"),
        (dict(compression="rar"), "compression must be one of gzip lz4 zstd, not rar"),
        (dict(images="photos"), "images must be samples, a folder, an .npy or an .npz, not photos"),
    ],
)
def test_wrong_parameters(pixels, options, message):
    before = listing(pixels)
    with pytest.raises(InputError) as error:
        build_tiny(pixels, **options)
    assert str(error.value) == message
    assert listing(pixels) == before


def test_a_store_is_replaced_only_by_force(pixels):
    path = build_tiny(pixels)
    before = path.read_bytes()
    with pytest.raises(InputError) as error:
        build_tiny(pixels, pick="1")
    assert str(error.value) == f"{path}: must be a new file, this one is there already (--force replaces a store)"
    assert path.read_bytes() == before
    with open_store(build_tiny(pixels, pick="1", force=True)) as store:
        assert store.image_count == 1


MEMORY = """
import resource, sys
sys.path[:0] = sys.argv[2:]
from pathlib import Path
from test_build import *
build_odd(Path.cwd(), pick="all", images=Path.cwd() / f"{sys.argv[1]}.npy", name=f"{sys.argv[1]}.h5")
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024))
"""


@pytest.mark.slow
def test_memory_does_not_grow_with_the_number_of_images(tmp_path):
    peaks, paths = [], [str(Path(__file__).parent), str(Path.cwd())]
    for count in (200, 2000):
        np.save(tmp_path / f"{count}.npy", random_pixels(odd_network(), count).transpose(0, 2, 3, 1))
        arguments = [sys.executable, "-c", MEMORY, str(count), *paths]
        peaks.append(int(subprocess.run(arguments, cwd=tmp_path, capture_output=True, check=True, timeout=300).stdout))
    assert (tmp_path / "2000.h5").stat().st_size > 3 * 10**8
    assert peaks[1] - peaks[0] < 5 * 10**7


# The default store


def test_the_default_store_lies_in_the_checkout(monkeypatch, tmp_path):
    monkeypatch.delenv("FACTORY_HOME", raising=False)
    root = Path(__file__).parents[1]
    if (root / "factory").is_dir():
        assert default_store() == root / "datasets" / "default.h5"
    monkeypatch.setattr("factory.build.__file__", str(tmp_path / "site-packages" / "factory" / "build" / "__init__.py"))
    monkeypatch.setattr("platformdirs.user_cache_path", lambda name: tmp_path / "cache" / name)
    assert default_store() == tmp_path / "cache" / "factory" / "default.h5"


def test_factory_home_overrides_and_is_made(monkeypatch, pixels):
    monkeypatch.setenv("FACTORY_HOME", str(pixels / "new" / "home"))
    assert default_store() == pixels / "new" / "home" / "default.h5"
    path = build(weights=trained(tiny_network()), images=pixels / "tiny.npy")
    assert path == default_store() and path.is_file()


def test_the_default_store_is_found_without_jax():
    script = "import sys; from factory.build import default_store; default_store(); print('jax' in sys.modules)"
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=100, check=True)
    assert found.stdout == "False\n"
