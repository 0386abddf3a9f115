"""Exports: selections, names, what can be included, and every bad input with its whole message."""

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
from helpers_export import MemoryStore, files_of, odd_store, reference_store, tiled
from helpers_tiling import untile_output

from factory.arithmetic.bits import Field
from factory.dataflow.vectors import kept
from factory.export import export
from factory.fileplan.options import parse_indices, parse_tiles
from factory.memfile import Memory, WordFormat, decode, load_profile
from factory.spec import InputError, SystolicArray

STORE = odd_store(images=3)
SPEC = STORE.layers["features.9"].spec


def names(folder) -> list[str]:
    return sorted(files_of(folder))


def read(path, lanes: int, bits: int, signed: bool = True) -> np.ndarray:
    data = path.read_bytes()
    return decode(data, Memory(data.count(b"\n"), WordFormat(lanes, Field(bits, signed))), "bin")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("all", (0, 1, 2, 3, 4)),
        ("3", (3,)),
        ("0:2,4", (0, 1, 4)),
        (" 4, 1:3,2 ", (1, 2, 4)),
        ("3:", (3, 4)),
        (":2", (0, 1)),
    ],
)
def test_selections_are_ascending_and_each_once(text, expected):
    assert parse_indices(text, 5, "image") == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("5", "image must be 0 to 4, not 5"),
        ("3:6", "image must be 0 to 4, not 5"),
        ("7:9", "image must be 0 to 4, not 7"),
        ("-1", "image must be all, or indices and ranges such as 0:4,7, not -1"),
        ("0:4:2", "image must be all, or indices and ranges such as 0:4,7, not 0:4:2"),
        ("2:2", "image must select at least one index, '2:2' selects none"),
        ("", "image must select at least one index, '' selects none"),
    ],
)
def test_selections_say_what_they_must_be(text, message):
    with pytest.raises(InputError) as caught:
        parse_indices(text, 5, "image")
    assert str(caught.value) == message


def test_tiles_are_selected_by_axis():
    counts = {"it": 3, "ot": 6}
    assert parse_tiles("all", counts, "") == {"it": (0, 1, 2), "ot": (0, 1, 2, 3, 4, 5)}
    assert parse_tiles("it=0:2,ot=5", counts, "") == {"it": (0, 1), "ot": (5,)}
    assert parse_tiles("ot=1,3:5", counts, "") == {"it": (0, 1, 2), "ot": (1, 3, 4)}
    for text, message in [
        ("pt=0", "f: tiles must be all or of it=... and ot=..., not pt=0"),
        ("0:2", "f: tiles must be all or of it=... and ot=..., not 0:2"),
        ("it=0,ot=6", "f: ot must be 0 to 5, not 6"),
        ("it=", "f: it must select at least one index, '' selects none"),
    ]:
        with pytest.raises(InputError) as caught:
            parse_tiles(text, counts, "f: ")
        assert str(caught.value) == message


def test_layers_hold_weights_and_images_the_rest(tmp_path):
    export(STORE, tmp_path / "x", layers="features.9,features.13", images="0,2", kij="0", tiles="all")
    found = names(tmp_path / "x")
    assert [name for name in found if name.startswith("features.13")] == [
        "features.13/image0/activation_tile0.txt",
        "features.13/image0/activation_tile1.txt",
        "features.13/image0/out.txt",
        "features.13/image2/activation_tile0.txt",
        "features.13/image2/activation_tile1.txt",
        "features.13/image2/out.txt",
        "features.13/weight_itile0_otile0_kij0.txt",
        "features.13/weight_itile1_otile0_kij0.txt",
    ]
    assert {name.split("/")[0] for name in found} == {"features.9", "features.13"}
    assert (tmp_path / "x" / "manifest.json").is_file()


def test_a_selection_is_part_of_the_whole(tmp_path):
    export(STORE, tmp_path / "all", layers="features.9", include="activation,weight,psum")
    export(
        STORE,
        tmp_path / "part",
        layers="features.9",
        include="activation,weight,psum",
        tiles="it=1:3,ot=1",
        kij="2,5:7",
    )
    whole, part = files_of(tmp_path / "all"), files_of(tmp_path / "part")
    assert len(part) == 2 + 2 * 3 + 2 * 3
    assert {name: whole[name] for name in part} == part


def test_a_selection_of_one_keeps_the_notebooks_names(tmp_path):
    export(STORE, tmp_path / "ws", layers="features.9", tiles="it=2,ot=1", kij="4", flat=True)
    assert names(tmp_path / "ws") == ["activation_tile2.txt", "out.txt", "weight_itile2_otile1_kij4.txt"]
    export(STORE, tmp_path / "os", dataflow="os", layers="features.9", tiles="pt=1,ot=1", input_channels=3, flat=True)
    assert names(tmp_path / "os") == ["activation_os_3ic_tile1.txt", "out.txt", "weight_os_3ic.txt"]
    several = dict(dataflow="os", layers="features.9", include="weight,out,conv", flat=True)
    export(STORE, tmp_path / "several", tiles="pt=0:2,ot=0:2", **several)
    assert names(tmp_path / "several") == [
        "acc_tile0_otile0.txt",
        "acc_tile0_otile1.txt",
        "acc_tile1_otile0.txt",
        "acc_tile1_otile1.txt",
        "out_tile0_otile0.txt",
        "out_tile0_otile1.txt",
        "out_tile1_otile0.txt",
        "out_tile1_otile1.txt",
        "weight_os_20ic_otile0.txt",
        "weight_os_20ic_otile1.txt",
    ]
    export(STORE, tmp_path / "one", tiles="pt=2,ot=0", **several)
    assert names(tmp_path / "one") == ["acc_otile0.txt", "out.txt", "weight_os_20ic.txt"]


def test_outputs_are_sums_over_what_is_selected(tmp_path):
    summary = export(
        STORE, tmp_path / "x", layers="features.9", tiles="it=0,ot=0", kij="0:2", flat=True, include="psum,out"
    )
    acc = 0
    for kij in range(2):
        psum = read(tmp_path / "x" / f"psum_itile0_otile0_kij{kij}.txt", 8, 16)
        acc = acc + np.array([psum[(oi * 2) * 11 + oj * 2 + kij] for oi in range(4) for oj in range(5)], np.int64)
    np.testing.assert_array_equal(read(tmp_path / "x" / "out.txt", 8, 16), np.maximum(acc, 0))
    assert summary.warnings == (
        "features.9: the outputs sum over the selected input channels and kernel positions only",
    )


def test_everything_that_can_be_included(tmp_path):
    include = "activation,weight,out,psum,conv,threshold,next,address"
    export(STORE, tmp_path / "x", layers="features.9", include=include, flat=True)
    folder, layer = tmp_path / "x", STORE.layers["features.9"]
    kinds = {name.partition("_")[0].partition(".")[0] for name in names(folder)}
    assert kinds == {"activation", "weight", "out", "psum", "acc", "threshold", "direction", "next", "address"}
    acc = np.stack([read(folder / f"acc_otile{ot}.txt", 8, 16) for ot in range(2)])
    np.testing.assert_array_equal(acc, np.stack([read(folder / f"acc_itile2_otile{ot}.txt", 8, 16) for ot in range(2)]))
    out = np.stack([read(folder / f"out_otile{ot}.txt", 8, 16) for ot in range(2)])
    np.testing.assert_array_equal(out, np.maximum(acc, 0))
    threshold = np.concatenate([read(folder / f"threshold_otile{ot}.txt", 8, 32) for ot in range(2)], axis=1)
    np.testing.assert_array_equal(threshold[:, :9].T, layer.threshold)
    direction = np.concatenate([read(folder / f"direction_otile{ot}.txt", 8, 2) for ot in range(2)], axis=1)
    np.testing.assert_array_equal(direction[0, :9], layer.direction)
    codes = np.stack([read(folder / f"next_otile{ot}.txt", 8, 4, False) for ot in range(2)])
    taken = STORE.layers["features.13"]
    pooled = replace(SPEC, height=2, width=2, kernel=1, stride=1, padding=0, pool=1)
    np.testing.assert_array_equal(untile_output(codes, pooled), taken.activation[0])
    address = read(folder / "address.txt", 1, 11, False).ravel()
    assert address[:10].tolist() == [kij * 99 + (kij // 3) * 11 + kij % 3 for kij in range(9)] + [2]


def test_addresses_are_as_wide_as_the_layer_needs(tmp_path):
    export(STORE, tmp_path / "small", layers="features.9", include="address", address_base=1, flat=True)
    assert (tmp_path / "small" / "address.txt").read_text().startswith("00000000001\n00001100101\n")
    export(STORE, tmp_path / "large", layers="features.3", include="address", flat=True)
    assert 25 * 9 * 11 > 2**11
    assert (tmp_path / "large" / "address.txt").read_text().splitlines()[1] == f"{99 + 1:012b}"


def test_the_last_layer_has_no_next_one(tmp_path):
    summary = export(STORE, tmp_path / "x", layers="features.13", include="weight,next,threshold")
    warning = "features.13: no layer follows it, so that it has no thresholds and no next codes"
    assert summary.warnings == (warning,)
    with pytest.raises(InputError) as caught:
        export(STORE, tmp_path / "y", layers="features.13", include="next,threshold")
    assert str(caught.value) == f"the export must hold at least one file: {warning}"


@pytest.mark.parametrize(
    ("include", "dataflow"),
    [
        ("psum", "ws"),
        *((include, flow) for include in ("activation", "weight", "conv", "out") for flow in ("ws", "os")),
    ],
)
def test_a_file_for_each_layer_is_the_files_of_its_tiles_in_order(include, dataflow, tmp_path):
    options = dict(dataflow=dataflow, layers="features.9", include=include, tiles="ot=0:2")
    export(STORE, tmp_path / "tile", **options)
    export(STORE, tmp_path / "layer", files="layer", **options)
    merged = files_of(tmp_path / "layer")
    manifest = json.loads((tmp_path / "tile" / "manifest.json").read_text())
    for group in manifest["groups"]:
        for files in group["sets"]:
            joined = b"".join(
                (tmp_path / "tile" / files["directory"] / file["name"]).read_bytes() for file in files["files"]
            )
            assert merged.pop(f"{files['directory']}/{files['layout']}.txt") == joined
    assert not merged


def test_images_can_share_a_directory_where_names_hold_them(tmp_path):
    export(
        STORE,
        tmp_path / "x",
        layers="features.13",
        images="0,2",
        tiles="it=0",
        kij="0",
        profile="ws-multimap",
        flat=True,
    )
    assert names(tmp_path / "x") == [
        "activation_tile0.txt",
        "activation_tile2.txt",
        "out0.txt",
        "out2.txt",
        "weight_kij0.txt",
    ]


def test_formats_and_headers_are_options(tmp_path):
    options = dict(layers="features.13", tiles="it=0", kij="0", flat=True)
    export(STORE, tmp_path / "bin", **options)
    plain = files_of(tmp_path / "bin")
    export(STORE, tmp_path / "verilog", header="verilog", **options)
    for name, data in files_of(tmp_path / "verilog").items():
        assert data.endswith(plain[name]) and data.count(b"//") == 3
    assert (
        (tmp_path / "verilog" / "weight_itile0_otile0_kij0.txt").read_text().startswith("//col0row7[msb-lsb],col0row6[")
    )
    export(STORE, tmp_path / "hex", format="hex", **options)
    for name, data in files_of(tmp_path / "hex").items():
        words = plain[name.replace(".hex", ".txt")].split()
        assert data.decode().split() == [f"{int(word, 2):0{len(word) // 4}x}" for word in words]


def test_adders_of_other_widths_are_an_option(tmp_path):
    options = dict(layers="features.9", include="conv", flat=True)
    wide = export(STORE, tmp_path / "wide", psum_bits=24, **options)
    narrow = export(STORE, tmp_path / "narrow", psum_bits=9, **options)
    clipped = export(STORE, tmp_path / "clipped", psum_bits=9, overflow="saturate", **options)
    assert len((tmp_path / "wide" / "acc_otile0.txt").read_text().splitlines()[0]) == 8 * 24
    exact = read(tmp_path / "wide" / "acc_otile0.txt", 8, 24)
    held = read(tmp_path / "narrow" / "acc_otile0.txt", 8, 16)
    np.testing.assert_array_equal(held, (exact + 256) % 512 - 256)
    assert (held != exact).any()
    assert np.abs(read(tmp_path / "clipped" / "acc_otile0.txt", 8, 16)).max() == 256
    assert wide.inexact == 0 < narrow.inexact
    assert [line.partition(" sums ")[2] for line in narrow.warnings] == [
        "of acc do not fit 9 bits and were wrapped",
        "of partial do not fit 9 bits and were wrapped",
    ]
    assert clipped.warnings[0].endswith("sums of acc do not fit 9 bits and were saturated")


@pytest.mark.parametrize("selection", [{}, dict(tiles="it=0,2,ot=1", kij="2:4,7"), dict(files="layer", kij="1,8")])
def test_the_stores_own_tiles_give_the_same_files(selection, tmp_path):
    options = dict(layers="features.9", images="0,2", include="activation,weight,psum") | selection
    export(STORE, tmp_path / "made", **options)
    export(tiled(STORE), tmp_path / "read", **options)
    assert files_of(tmp_path / "made") == files_of(tmp_path / "read")


@pytest.mark.parametrize(
    ("options", "reads"),
    [({}, True), (dict(pe_activation="signed"), False), (dict(psum_bits=9), False), (dict(profile="ws-wide"), False)],
)
def test_stored_psums_are_read_only_where_they_follow_from_the_files(options, reads, tmp_path):
    store = tiled(STORE)
    marked = replace(store.layers["features.9"], psum=np.full_like(store.layers["features.9"].psum, 77))
    options = dict(layers="features.9", include="psum") | options
    export(replace(store, layers={"features.9": marked}), tmp_path / "marked", **options)
    words = (tmp_path / "marked" / "features.9" / "image0" / "psum_itile0_otile0_kij0.txt").read_text().split()
    assert (words == [f"{77:016b}" * 8] * 99) == reads


def test_outputs_follow_from_the_bits_that_the_array_reads(tmp_path):
    options = dict(layers="features.9", include="activation,out", tiles="ot=0", flat=True)
    unsigned = export(STORE, tmp_path / "unsigned", **options)
    signed = export(STORE, tmp_path / "signed", pe_activation="signed", **options)
    activation = files_of(tmp_path / "unsigned")
    assert activation.pop("out.txt") != (tmp_path / "signed" / "out.txt").read_bytes()
    assert all((tmp_path / "signed" / name).read_bytes() == data for name, data in activation.items())
    assert unsigned.warnings == ()
    large = np.count_nonzero(STORE.layers["features.9"].activation[0] > 7)
    assert signed.warnings == (
        f"features.9: {large} activation codes do not fit 4 bits signed; the files hold their low bits, "
        "and the outputs follow from those",
    )
    assert signed.inexact == large


def test_a_signed_layer_needs_a_signed_array(tmp_path):
    with pytest.raises(InputError) as caught:
        export(STORE, tmp_path / "x", layers="features.0")
    assert str(caught.value) == (
        "features.0: its activation codes are signed, the array reads them unsigned; add pe_activation signed"
    )
    export(STORE, tmp_path / "weights", layers="features.0", include="weight")
    export(STORE, tmp_path / "signed", layers="features.0", pe_activation="signed")
    assert read(tmp_path / "signed" / "features.0" / "image0" / "activation_tile0.txt", 8, 4)[:, 3:].any() == 0


def test_names_that_are_long_for_testbenches_are_told(tmp_path):
    store = replace(STORE, array=SystolicArray(1, 1))
    summary = export(store, tmp_path / "x", layers="features.3", tiles="it=10:20,ot=0:6", kij="8:10", include="weight")
    assert summary.warnings == ()
    summary = export(store, tmp_path / "y", layers="features.9", include="weight", profile="ws-tiled", tiles="it=18:20")
    assert summary.warnings == (
        "file names of up to 35 characters, such as weight_tile179_octile8_ictile19.txt: common testbenches hold 30",
    )


BAD_OPTIONS = [
    (
        dict(layers="features.99"),
        "layer must be one of features.0 features.3 features.6 features.9 features.13, not features.99",
    ),
    (dict(layers=""), "the selection of layers must hold at least one layer, it is empty"),
    (dict(images="3"), "images must be 0 to 2, not 3"),
    (dict(tiles="it=7"), "features.13: it must be 0 to 1, not 7"),
    (dict(tiles="pt=0"), "features.13: tiles must be all or of it=... and ot=..., not pt=0"),
    (dict(dataflow="os", tiles="it=0"), "features.13: tiles must be all or of pt=... and ot=..., not it=0"),
    (dict(kij="9"), "features.13: kij must be 0 to 3, not 9"),
    (dict(dataflow="os", input_channels=10), "features.13: input_channels must be 1 to 9, not 10"),
    (dict(dataflow="os", input_channels=0), "features.13: input_channels must be 1 to 9, not 0"),
    (
        dict(input_channels=3),
        "input_channels must be given where channels are summed one by one, not with dataflow ws: there tiles it=... "
        "selects them",
    ),
    (
        dict(include=""),
        "include must name at least one of activation weight out psum accumulator threshold next address "
        "west north south, it is empty",
    ),
    (
        dict(include="weight,bias"),
        "include must be of activation weight out psum accumulator threshold next address in profile notebook (ws), "
        "not bias",
    ),
    (
        dict(dataflow="os", include="psum"),
        "include must be of activation weight out accumulator threshold next address in profile notebook (os), "
        "not psum",
    ),
    (dict(layers="all", pe_activation="signed", flat=True), "flat must be given with one layer, not 5"),
    (dict(images="all", flat=True), "flat must be given with one image, not 3"),
    (dict(files="row"), "files must be one of tile layer, not row"),
    (dict(pe_activation="float"), "pe_activation must be one of unsigned signed, not float"),
    (dict(overflow="clip"), "overflow must be one of wrap saturate error, not clip"),
    (dict(psum_bits=40), "psum_bits must be 2 to 32, not 40"),
    (dict(post="tanh"), "profile notebook: post must be one of relu none leaky relu+maxpool2, not tanh"),
    (
        dict(format="xml"),
        "layout activation: format must be one of bin hex dec csv coe coe-hex coe-dec mif mif-hex mif-dec mif-uns "
        "c sv sv-packed npy raw, not xml",
    ),
    (dict(header="xml"), "layout activation: header must be one of none tokens verilog short, not xml"),
    (
        dict(format="raw", header="tokens"),
        "layout activation: header must be none in format raw, which has no comments, not tokens",
    ),
    (
        dict(dataflow="os", post="relu+maxpool2"),
        "features.13: relu+maxpool2 must find each 2x2 window of the 3x3 map in one tile of 8 pixels, without"
        " others; the profile's pixel_block sets their order",
    ),
    (
        dict(psum_bits=6, overflow="error"),
        "features.13, image 0, it 0, kij 0, row 7, onij 5, oc 0: a sum must fit 6 bits (-32 to 31), not be 39",
    ),
]


@pytest.mark.parametrize(("options", "message"), BAD_OPTIONS)
def test_bad_options_are_one_line_and_leave_nothing(options, message, tmp_path):
    with pytest.raises(InputError) as caught:
        export(STORE, tmp_path / "new" / "x", **{"layers": "features.13"} | options)
    assert str(caught.value).removeprefix("memory.h5: ").removeprefix("network odd: ") == message
    assert list(tmp_path.iterdir()) == []


def test_two_files_never_share_a_name(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text('extends = "notebook"\n[layouts.acc]\nfile = "out.txt"\n')
    with pytest.raises(InputError) as caught:
        export(STORE, tmp_path / "x", layers="features.13", profile=str(path), include="out,conv")
    assert str(caught.value) == "layouts must give each file a name of its own, out.txt would be there twice"
    assert list(tmp_path.iterdir()) == [path]


def test_a_profile_of_the_library_can_be_given(tmp_path):
    profile = replace(load_profile("ws-wide"), post="none")
    export(STORE, tmp_path / "x", profile=profile, layers="features.9", tiles="ot=0", include="out,conv", flat=True)
    assert (tmp_path / "x" / "out.txt").read_bytes() == (tmp_path / "x" / "acc_otile0.txt").read_bytes()


def test_progress_counts_files(tmp_path):
    calls = []
    export(STORE, tmp_path / "x", layers="features.13", progress=lambda *call: calls.append(call))
    assert calls[0] == (8, 11, "features.13")
    assert calls[-1] == (11, 11, "features.13, image 0")


def test_files_and_progress_do_not_depend_on_the_workers(tmp_path):
    written, calls = {}, {}
    for workers in (1, 2, 5):
        folder, calls[workers] = tmp_path / str(workers), []
        options = dict(layers="features.9,features.13", images="all", include="activation,weight,out,psum")
        export(STORE, folder, **options, workers=workers, progress=lambda *call, to=calls[workers]: to.append(call))
        written[workers] = files_of(folder)
    assert written[1] == written[2] == written[5] and len(written[1]) > 100
    assert calls[1] == calls[2] == calls[5] and len(calls[1]) > 4


def test_there_must_be_a_worker(tmp_path):
    with pytest.raises(InputError) as caught:
        export(STORE, tmp_path / "x", workers=0)
    assert str(caught.value) == "workers must be at least 1, not 0"


@pytest.mark.reference
def test_the_pool_of_an_output_stationary_tile_is_two_rows(reference, tmp_path):
    store: MemoryStore = reference_store(reference, "w4a4")
    options = dict(profile="os-all", tiles="pt=1,ot=0", flat=True)
    export(store, tmp_path / "pooled", post="relu+maxpool2", **options)
    export(store, tmp_path / "plain", **options)
    pooled, plain = (read(tmp_path / name / "out_relu.txt", 8, 16) for name in ("pooled", "plain"))
    np.testing.assert_array_equal(pooled, plain.reshape(2, 2, 2, 8).max(axis=(0, 2)))


def test_padded_files_are_made_a_few_at_a_time(tmp_path, monkeypatch):
    """However many files of however many words: no more zeros at once than a run holds."""
    profile = tmp_path / "deep.toml"
    profile.write_text('extends = "notebook"\n[layouts.weight]\nwords = 100\n')
    options = dict(layers="features.9", dataflow="ws", include="weight", profile=profile)
    export(STORE, tmp_path / "a", **options)
    sizes = []

    class Spy:
        def __getattr__(self, name):
            return getattr(np, name)

        def pad(self, array, width):
            padded = np.pad(array, width)
            sizes.append(padded.size)
            return padded

    monkeypatch.setattr("factory.export.render.np", Spy())
    monkeypatch.setattr("factory.export.render.RUN_BYTES", 2000)
    export(STORE, tmp_path / "b", **options)
    assert len(sizes) > 10 and max(sizes) <= 2000
    assert files_of(tmp_path / "a") == files_of(tmp_path / "b")


def test_what_is_kept_is_computed_once_without_a_lock():
    """Each of two threads computes while the other does, which `functools.cached_property` allows from 3.12 on."""
    both = threading.Barrier(2, timeout=20)

    class Slow:
        @kept
        def value(self):
            """Some value."""
            both.wait()
            return object()

    one, other = Slow(), Slow()
    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(lambda slow: slow.value, (one, other))
    assert one.value is first and other.value is second and first is not second
    assert Slow.value.__doc__ == "Some value."
