import hashlib
import io
import pickle
import re
import struct
import sys
import tracemalloc
import warnings
import zipfile
import zlib

import numpy as np
import pytest
from helpers_network import tiny_network
from hypothesis import given
from hypothesis import strategies as st

from factory.images import NO_LABEL, load_images
from factory.images.cifar import _latin1
from factory.images.collection import Collection, concatenate, pick_images
from factory.spec import InputError, part1, vgg

RANDOM = np.random.default_rng(0)
PIXELS = RANDOM.integers(0, 256, (10, 3, 32, 32)).astype(np.uint8)
LABELS = RANDOM.integers(0, 10, 10).astype(np.uint8)


SAMPLES_SHA256 = "78363b444c83062d418ee9b94231bc2aa57f3906c9f17aa5f15c2eda87537c32"


def load(source, *, network=None, **options):
    return load_images(source, network=network or part1(), **options)


def refused(source, **options) -> str:
    with pytest.raises(InputError) as error:
        images = load(source, **options)
        images.batch(0, images.count)
    assert "\n" not in str(error.value)
    return str(error.value)


def check(source, labelled=True, pixels=PIXELS, **options):
    images = load(source, **options)
    assert images.count == len(pixels)
    for start, stop in ((0, len(pixels)), (1, 4), (0, 1)):
        batch = images.batch(start, stop)
        assert (batch.pixels.dtype, batch.label.dtype, batch.source_index.dtype) == (np.uint8, np.int16, np.int64)
        np.testing.assert_array_equal(batch.pixels, pixels[start:stop])
        np.testing.assert_array_equal(batch.label, LABELS[start:stop] if labelled else NO_LABEL)
        np.testing.assert_array_equal(batch.source_index, np.arange(start, stop))


def records(pixels, labels) -> bytes:
    return np.hstack([labels[:, None], pixels.reshape(len(pixels), -1)]).astype(np.uint8).tobytes()


# CIFAR-10


def test_binary_test_split(tmp_path):
    (tmp_path / "test_batch.bin").write_bytes(records(PIXELS, LABELS))
    check(tmp_path)
    assert load(tmp_path).name == f"{tmp_path.name} test"


def test_train_split_is_five_files_in_order(tmp_path):
    inner = tmp_path / "cifar-10-batches-bin"
    inner.mkdir()
    for n in range(5):
        (inner / f"data_batch_{n + 1}.bin").write_bytes(records(PIXELS[2 * n : 2 * n + 2], LABELS[2 * n : 2 * n + 2]))
    check(tmp_path, split="train")
    picked = load(tmp_path, split="train", pick="7,0,3:5").batch(0, 4)
    np.testing.assert_array_equal(picked.pixels, PIXELS[[7, 0, 3, 4]])
    np.testing.assert_array_equal(picked.label, LABELS[[7, 0, 3, 4]])


@pytest.mark.parametrize("protocol", [2, 4])
def test_python_pickles(tmp_path, protocol):
    batch = {b"batch_label": b"testing batch", b"labels": LABELS.tolist(), b"data": PIXELS.reshape(10, -1)}
    (tmp_path / "test_batch").write_bytes(pickle.dumps(batch, protocol))
    check(tmp_path)


def test_python_pickles_of_the_official_kind(tmp_path):
    """Python 2 and the NumPy of its day name `numpy.core.multiarray`, and write bytes as text."""
    data = pickle.dumps({b"labels": LABELS.tolist(), b"data": PIXELS.reshape(10, -1)}, 2)
    (tmp_path / "test_batch").write_bytes(data.replace(b"cnumpy._core.multiarray", b"cnumpy.core.multiarray"))
    check(tmp_path)
    assert _latin1("\xff\x00", "latin1") == b"\xff\x00"


class Evil:
    def __reduce__(self):
        return print, ("this must not run",)


def test_pickles_run_no_code(tmp_path, capsys):
    (tmp_path / "test_batch").write_bytes(pickle.dumps({b"data": Evil(), b"labels": [1]}))
    message = refused(tmp_path)
    prefix = f"{tmp_path}/test_batch: must be a pickled batch of CIFAR-10: "
    assert message == f"{prefix}UnpicklingError builtins.print is not part of one"
    assert capsys.readouterr().out == ""


def test_broken_cifar_files(tmp_path):
    name = tmp_path / "test_batch.bin"
    name.write_bytes(records(PIXELS, LABELS)[:-1])
    assert refused(tmp_path) == f"{name}: must be whole records of 3073 bytes, not 30729 bytes"
    assert refused(tmp_path, split="train") == (
        f"{tmp_path}: must hold data_batch_1.bin or data_batch_1 for split train, it does not"
    )
    assert refused(tmp_path, split="valid") == "split must be train or test, not valid"
    assert refused(tmp_path, network=tiny_network()) == (
        f"{tmp_path}: images must be (3, 4, 4) for this network, CIFAR-10's are (3, 32, 32)"
    )
    name.unlink()
    (tmp_path / "test_batch").write_bytes(pickle.dumps({b"data": PIXELS[0], b"labels": [1]}))
    assert refused(tmp_path) == f"{tmp_path}/test_batch: data must be uint8 (1, 3072), not uint8 (3, 32, 32)"


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([1, 70_000], "labels: must be 0 to 32767, not 70000"),
        ([1, -1], "labels: must be 0 to 32767, not -1"),
        ([1, 2**70], "labels: must be integers (2,), not object (2,)"),
        ([1, 1.5], "labels: must be integers (2,), not float64 (2,)"),
        ([[1], [2]], "labels: must be integers (2,), not int64 (2, 1)"),
        ([1], "data must be uint8 (1, 3072), not uint8 (2, 3072)"),
    ],
)
def test_labels_of_pickles_that_are_none(tmp_path, labels, message):
    batch = {b"labels": labels, b"data": PIXELS[:2].reshape(2, -1)}
    (tmp_path / "test_batch").write_bytes(pickle.dumps(batch))
    assert refused(tmp_path) == f"{tmp_path}/test_batch: {message}"


def test_pickles_of_nothing(tmp_path):
    (tmp_path / "test_batch").write_bytes(pickle.dumps({b"labels": [], b"data": np.zeros((0, 3072), np.uint8)}))
    assert refused(tmp_path) == f"{tmp_path}/test_batch: must hold at least one image, it is empty"
    (tmp_path / "test_batch").write_bytes(b"h\xff.")
    address = f"{tmp_path}/test_batch: must be a pickled batch of CIFAR-10"
    assert refused(tmp_path) == f"{address}: UnpicklingError Memo value not found at index 255"


@pytest.mark.cifar
def test_official_files(cifar):
    images = load(cifar, pick="0:16")
    assert load(cifar).count == 10_000
    assert load(cifar, split="train").count == 50_000
    assert images.batch(0, 16).label.max() < 10


# NumPy files


def test_npy(tmp_path):
    np.save(tmp_path / "a.npy", PIXELS.transpose(0, 2, 3, 1))
    check(tmp_path / "a.npy", labelled=False)
    assert load(tmp_path / "a.npy").name == "a.npy"


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
@pytest.mark.parametrize(
    "arrays",
    [
        dict(pixels=PIXELS, labels=LABELS, other=PIXELS),
        dict(pixels=PIXELS.transpose(0, 2, 3, 1), label=LABELS.astype(np.int64)),
        dict(images=PIXELS.transpose(0, 2, 3, 1), labels=LABELS),
    ],
)
def test_npz(tmp_path, save, arrays):
    save(tmp_path / "a.npz", **arrays)
    check(tmp_path / "a.npz")


def test_npz_without_labels_and_backwards(tmp_path):
    np.savez_compressed(tmp_path / "a.npz", PIXELS.transpose(0, 2, 3, 1))
    check(tmp_path / "a.npz", labelled=False)
    picked = load(tmp_path / "a.npz", pick="9,2:4,0").batch(0, 4)
    np.testing.assert_array_equal(picked.pixels, PIXELS[[9, 2, 3, 0]])


@pytest.mark.parametrize(
    ("array", "found"),
    [
        (PIXELS, "uint8 (10, 3, 32, 32)"),
        (PIXELS.transpose(0, 2, 3, 1).astype(np.float32), "float32 (10, 32, 32, 3)"),
        (PIXELS[0].transpose(1, 2, 0), "uint8 (32, 32, 3)"),
        (PIXELS[:, :, :28, :28].transpose(0, 2, 3, 1), "uint8 (10, 28, 28, 3)"),
        (np.array(7), "int64 ()"),
    ],
)
def test_wrong_shape_or_dtype(tmp_path, array, found):
    np.save(tmp_path / "a.npy", array)
    expected = f"must be uint8 (images, 32, 32, 3), not {found}"
    assert refused(tmp_path / "a.npy") == f"{tmp_path}/a.npy: {expected}"
    if array.ndim == 4:
        np.savez(tmp_path / "a.npz", images=array)
        assert refused(tmp_path / "a.npz") == f"{tmp_path}/a.npz: images: {expected}"


def test_numpy_files_that_are_broken(tmp_path):
    npy, npz = tmp_path / "a.npy", tmp_path / "a.npz"
    npy.write_text("no array")
    npz.write_text("no archive")
    assert refused(npy).startswith(f"{npy}: must be a NumPy array: ")
    assert refused(npz) == f"{npz}: must be an archive of NumPy arrays: File is not a zip file"
    np.save(npy, np.zeros((0, 32, 32, 3), np.uint8))
    assert refused(npy) == f"{npy}: must hold at least one image, it is empty"
    np.savez(npz, a=PIXELS, b=PIXELS)
    found = "must hold images as pixels or as its only array with four axes, its arrays are a b"
    assert refused(npz) == f"{npz}: {found}"
    np.savez(npz, a=np.asfortranarray(PIXELS), b=LABELS)
    assert refused(npz) == f"{npz}: a: must be in C order, not in Fortran's"
    np.savez(npz, pixels=PIXELS, labels=LABELS[:3])
    assert refused(npz) == f"{npz}: labels: must be integers (10,), not uint8 (3,)"
    whole = io.BytesIO()
    np.save(whole, PIXELS)
    with zipfile.ZipFile(npz, "w") as archive:
        archive.writestr("pixels.npy", whole.getvalue()[:-1])
    assert refused(npz) == f"{npz}: pixels must be a whole array: it ends in row 9"
    np.savez(npy.with_suffix(""), pixels=PIXELS)
    npy.with_suffix(".npz").replace(npy)
    assert refused(npy) == f"{npy}: must be a NumPy array: it is an archive of arrays (.npz)"


def test_labels_that_are_none(tmp_path):
    npz = tmp_path / "a.npz"
    for wrong in (-1, 32768, 65535):
        np.savez(npz, pixels=PIXELS, labels=np.array([*range(9), wrong]))
        assert refused(npz) == f"{npz}: labels: must be 0 to 32767, not {wrong}"
    np.savez(npz, pixels=PIXELS, labels=np.full(10, 32767, np.uint16))
    assert load(npz).batch(0, 10).label.tolist() == [32767] * 10
    np.savez(npz, pixels=PIXELS, labels=LABELS.astype(np.float32))
    assert refused(npz) == f"{npz}: labels: must be integers (10,), not float32 (10,)"
    labels = np.arange(9000, dtype=np.int64)
    np.savez(npz, pixels=np.zeros((9000, 4, 4, 3), np.uint8), labels=labels)
    damaged = bytearray(npz.read_bytes())
    damaged[damaged.rindex(labels.tobytes()) + 70_000] ^= 1
    npz.write_bytes(damaged)
    whole = f"{npz}: labels must be a whole array: Bad CRC-32 for file 'labels.npy'"
    assert refused(npz, network=tiny_network()) == whole


def damaged(path, old, new):
    whole = path.read_bytes()
    assert old in whole and len(old) == len(new)
    path.write_bytes(whole.replace(old, new))
    return path


@pytest.mark.parametrize("pick", [None, "0"])
@pytest.mark.parametrize("name", ["pixels", "images"])
def test_one_damaged_pixel_of_an_archive(tmp_path, name, pick):
    npz, last = tmp_path / "a.npz", PIXELS[-1].tobytes()
    np.savez(npz, **{name: PIXELS.reshape(10, 32, 32, 3), "label": LABELS})
    damaged(npz, last, last[:-1] + bytes([last[-1] ^ 1]))
    assert refused(npz, pick=pick) == f"{npz}: {name} must be a whole array: Bad CRC-32 for file '{name}.npy'"


def test_damaged_compressed_archive(tmp_path):
    npz = tmp_path / "a.npz"
    np.savez_compressed(npz, pixels=PIXELS)
    with zipfile.ZipFile(npz) as archive, archive.open("pixels.npy"):
        start = archive.fp.tell()
    whole = npz.read_bytes()
    npz.write_bytes(whole[:start] + b"\xff" + whole[start + 1 :])
    error = "Error -3 while decompressing data: invalid block type"
    assert refused(npz) == f"{npz}: must be an archive of NumPy arrays: {error}"


LOCAL, CENTRAL = b"PK\x03\x04", b"PK\x01\x02"


@pytest.mark.parametrize(
    ("offset", "value", "message"),
    [
        (2, 1, "File 'pixels.npy' is encrypted, password required for extraction"),
        (2, 32, "compressed patched data (flag bit 5)"),
        (4, 99, "pixels.npy must be stored or deflated, not compressed by method 99"),
        (4, 14, "pixels.npy must be stored or deflated, not compressed by method 14"),
    ],
)
def test_archives_of_another_kind(tmp_path, offset, value, message):
    """Flags and method lie 6 and 8 bytes into the header of a member, 8 and 10 into its entry in the directory."""
    npz = tmp_path / "a.npz"
    with zipfile.ZipFile(npz, "w") as archive, archive.open("pixels.npy", "w") as file:
        np.save(file, PIXELS)
    whole = bytearray(npz.read_bytes())
    whole[whole.index(LOCAL) + 4 + offset] = value
    whole[whole.index(CENTRAL) + 6 + offset] = value
    npz.write_bytes(whole)
    assert refused(npz) == f"{npz}: must be an archive of NumPy arrays: {message}"


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (b"(10, 3", b"(-1, 3", "pixels.npy must have a shape that is not negative, not (-1, 32, 32, 3)"),
        (b", 3), }", b", 3(, }", "its header cannot be read"),
        (b"|u1", b"|q1", "descr is not a valid dtype descriptor: '|q1'"),
        (b"\x93NUMPY", b"\x93NUMPX", "the magic string is not correct; expected b'\\x93NUMPY', got b'\\x93NUMPX'"),
    ],
)
def test_damaged_headers(tmp_path, old, new, message):
    npy, npz = tmp_path / "a.npy", tmp_path / "a.npz"
    np.save(npy, PIXELS.reshape(10, 32, 32, 3))
    np.savez(npz, pixels=PIXELS.reshape(10, 32, 32, 3))
    assert refused(damaged(npz, old, new)) == f"{npz}: must be an archive of NumPy arrays: {message}"
    assert refused(damaged(npy, old, new)).startswith(f"{npy}: must be ")


def test_archives_of_no_images(tmp_path):
    np.savez(tmp_path / "a.npz", pixels=PIXELS[:0])
    assert refused(tmp_path / "a.npz") == f"{tmp_path}/a.npz: pixels: must hold at least one image, it is empty"


def test_archives_are_read_in_bounded_memory(tmp_path):
    npz = tmp_path / "a.npz"
    np.savez_compressed(npz, pixels=np.zeros((20_000, 32, 32, 3), np.uint8))
    tracemalloc.start()
    images = load(npz)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert images.count == 20_000 and peak < 8 * 2**20


# Image files


def save_picture(path, pixels, mode=None):
    image = pytest.importorskip("PIL.Image").fromarray(pixels.transpose(1, 2, 0))
    (image.convert(mode) if mode else image).save(path)


def test_folder_of_image_files_in_the_order_of_names(tmp_path):
    for n in (3, 1, 0, 2):
        save_picture(tmp_path / f"{n}.png", PIXELS[n], "RGBA" if n == 1 else None)
    (tmp_path / "notes.txt").write_text("no image")
    check(tmp_path, labelled=False, pixels=PIXELS[:4])
    assert load(tmp_path).name == tmp_path.name


def test_grey_images(tmp_path):
    save_picture(tmp_path / "0.png", PIXELS[0], "L")
    network = vgg("grey", [4], image=(1, 32, 32), mean=(0.5,), std=(0.2,))
    assert load(tmp_path, network=network).batch(0, 1).pixels.shape == (1, 1, 32, 32)


def test_image_files_that_are_refused(tmp_path):
    assert refused(tmp_path) == f"{tmp_path}: must hold CIFAR-10's files or image files, it does not"
    save_picture(tmp_path / "a.png", PIXELS[0][:, :20])
    assert refused(tmp_path) == f"{tmp_path}/a.png: must be 32x32 pixels, not 32x20"
    (tmp_path / "a.png").write_bytes(b"no image")
    assert re.fullmatch(re.escape(f"{tmp_path}/a.png: must be an image: ") + ".+", refused(tmp_path))


def png_of_size(path, width, height):
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")))


def test_huge_images_are_one_line(tmp_path):
    pytest.importorskip("PIL.Image")
    png_of_size(tmp_path / "a.png", 10_000, 10_000)
    with warnings.catch_warnings(record=True) as caught:
        assert refused(tmp_path) == f"{tmp_path}/a.png: must be 32x32 pixels, not 10000x10000"
    assert caught == []
    png_of_size(tmp_path / "a.png", 20_000, 20_000)
    assert refused(tmp_path) == (
        f"{tmp_path}/a.png: must be 32x32 pixels: Image size (400000000 pixels) exceeds limit of 178956970 pixels, "
        "could be decompression bomb DOS attack."
    )


def test_damaged_images_are_one_line(tmp_path, capfd):
    image = pytest.importorskip("PIL.Image").fromarray(PIXELS[0].transpose(1, 2, 0))
    image.save(tmp_path / "a.tiff")
    whole = (tmp_path / "a.tiff").read_bytes()
    samples = struct.pack("<HHIH", 277, 3, 1, 3)
    (tmp_path / "a.tiff").write_bytes(whole.replace(samples, struct.pack("<HHIH", 277, 3, 1, 2048)))
    assert refused(tmp_path) == f"{tmp_path}/a.tiff: must be an image: cannot identify image file '{tmp_path}/a.tiff'"
    assert capfd.readouterr() == ("", "")
    (tmp_path / "a.tiff").unlink()
    image.save(tmp_path / "a.png")
    (tmp_path / "a.png").write_bytes((tmp_path / "a.png").read_bytes()[:1500])
    assert refused(tmp_path) == f"{tmp_path}/a.png: must be an image: image file is truncated"


def test_other_sources_are_refused(tmp_path):
    missing = tmp_path / "a.npy"
    assert refused("photos") == "images must be samples, a folder, an .npy or an .npz, not photos"
    assert refused(missing) == f"{missing}: must be a file of images, there is none"
    assert refused("samples", split="train") == (
        "samples: split train must be of a folder with CIFAR-10's files, this is none"
    )


# Samples


def test_samples_are_the_same_bytes_everywhere():
    images = load("samples")
    assert (images.count, images.name) == (16, "samples")
    assert hashlib.sha256(images.batch(0, 16).pixels.tobytes()).hexdigest() == SAMPLES_SHA256


def test_samples_come_in_any_size_and_all_differ():
    for shape in ((3, 32, 32), (1, 5, 7), (4, 1, 1), (13, 4, 4), (14, 4, 4), (40, 4, 4)):
        colours = shape[0]
        network = vgg("any", [4], image=shape, mean=(0.5,) * colours, std=(0.2,) * colours)
        pixels = load("samples", network=network).batch(0, 16).pixels
        assert pixels.shape == (16, *shape)
    pixels = load("samples").batch(0, 16).pixels
    assert len(np.unique(pixels.reshape(16, -1), axis=0)) == 16
    assert (pixels.min(), pixels.max()) == (0, 255)


# Picks


@pytest.mark.parametrize(("pick", "places"), [(None, range(20)), ("all", range(20)), ("18:,3,3", [18, 19, 3, 3])])
def test_picks(pick, places):
    assert pick_images(pick, 20).tolist() == list(places)


@pytest.mark.parametrize(
    ("pick", "message"),
    [
        ("20", "pick must be 0 to 19, not 20"),
        ("", "pick must select at least one index, '' selects none"),
        ("-1", "pick must be all, or indices and ranges such as 0:4,7, not -1"),
    ],
)
def test_picks_that_are_refused(pick, message):
    with pytest.raises(InputError) as error:
        pick_images(pick, 20)
    assert str(error.value) == message


@given(st.lists(st.integers(1, 6), min_size=1, max_size=5), st.data())
def test_concatenated_parts_read_like_one(counts, data):
    def part(count, first):
        def read(index):
            assert (index >= 0).all() and (index < count).all()
            label = (first + index).astype(np.int16)
            return np.broadcast_to(label[:, None, None, None], (len(index), 1, 2, 2)).astype(np.uint8), label

        return Collection("part", count, read)

    starts = np.cumsum([0, *counts])
    whole = concatenate("whole", [part(count, first) for count, first in zip(counts, starts, strict=False)])
    assert whole.count == sum(counts)
    index = data.draw(st.lists(st.integers(0, whole.count - 1), min_size=1, max_size=9))
    pixels, label = whole.read(np.array(index))
    assert label.tolist() == index
    assert pixels[:, 0, 1, 1].tolist() == index


def test_digest_is_of_what_is_picked():
    first, again, other = (load("samples", pick=pick).sha256() for pick in ("0:3", "0,1,2", "1,0,2"))
    assert first == again != other


def test_sources_are_read_lazily(tmp_path):
    """A gigabyte of images costs no memory: the file is sparse and only the first batch is read."""
    header = io.BytesIO()
    count = 2**30 // 3072
    np.lib.format.write_array_header_1_0(header, dict(descr="|u1", fortran_order=False, shape=(count, 32, 32, 3)))
    with (tmp_path / "big.npy").open("wb") as file:
        file.write(header.getvalue())
        file.truncate(len(header.getvalue()) + count * 3072)
    images = load(tmp_path / "big.npy")
    assert images.count == count
    assert not images.batch(count - 2, count).pixels.any()
    assert sys.getsizeof(images.source_index) < 4 * 2**20
