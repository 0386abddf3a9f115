"""Memory files read back into codes: exports in every profile, and foreign files without a manifest."""

import json
import shutil

import numpy as np
import pytest
from helpers_export import SHIPPED, odd_store, read_back

from factory.build.captured import capture
from factory.dataflow import DATAFLOWS
from factory.export import export
from factory.fileplan import ExportOptions
from factory.readers.exports import read_export
from factory.spec import InputError, SystolicArray
from factory.store import open_store

STORE = odd_store(images=2)
LAYER = "features.9"


def codes_as_read(dataflow: str, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Return the layer's codes as the operands' lanes hold them."""
    fields = ExportOptions(dataflow, profile=name).chosen.fields
    layer = STORE.layers[LAYER]
    weight, activation = (
        np.vectorize(lambda code, field=field: read_back(code, field.bits, field.signed))(codes.astype(int))
        for codes, field in ((layer.weight, fields["weight"]), (layer.activation, fields["activation"]))
    )
    return weight, activation


@pytest.mark.parametrize(("dataflow", "name"), SHIPPED)
def test_every_profile_is_read_back(tmp_path, dataflow, name):
    options = dict(layers=LAYER, images="all", include="activation,weight,out,accumulator")
    export(STORE, tmp_path / "x", dataflow=dataflow, profile=name, **options)
    found = read_export(tmp_path / "x")
    (layer,) = found.layers
    weight, activation = codes_as_read(dataflow, name)
    np.testing.assert_array_equal(layer.weight, weight)
    np.testing.assert_array_equal(layer.activation, activation)
    assert found.images == ("captured x image 0", "captured x image 1")
    for note in found.notes:
        equal, _, total = note.partition(": ")[2].partition(": ")[2].split()[:3]
        assert equal == total and int(total) > 0


@pytest.mark.parametrize("dataflow", DATAFLOWS)
@pytest.mark.parametrize(
    "how", [dict(format="hex"), dict(format="npy", files="layer"), dict(format="mif", header="none")]
)
def test_every_format_is_read_back(tmp_path, dataflow, how):
    export(STORE, tmp_path / "x", dataflow=dataflow, layers=LAYER, rows=5, cols=3, **how)
    (layer,) = read_export(tmp_path / "x").layers
    np.testing.assert_array_equal(layer.activation[0], codes_as_read(dataflow, "notebook")[1][0])


GEOMETRY = """[layers."features.9"]
in_channels = 20
out_channels = 9
height = {height}
width = {width}
kernel = {kernel}
stride = {stride}
padding = {padding}
"""


def foreign(folder, **changes):
    """Export a layer, forget its manifest, and describe it."""
    spec = STORE.layers[LAYER].spec
    export(STORE, folder / "x", dataflow="ws", layers=LAYER, images="all", psum_bits=16)
    (folder / "x" / "manifest.json").unlink()
    geometry = {name: spec.to_dict()[name] for name in ("height", "width", "kernel", "stride", "padding")} | changes
    (folder / "geometry.toml").write_text(GEOMETRY.format(**geometry))
    return folder / "x", folder / "geometry.toml", ExportOptions("ws", profile="notebook", layers="all")


def test_foreign_files_are_decoded_and_recomputed(tmp_path):
    files, geometry, options = foreign(tmp_path)
    found = read_export(files, geometry, options)
    np.testing.assert_array_equal(found.layers[0].activation, codes_as_read("ws", "notebook")[1])
    assert len(found.images) == 2
    (note,) = found.notes
    assert note.startswith(f"{LAYER}: out: ") and note.endswith("values are what the codes give")
    flat = tmp_path / "flat"
    flat.mkdir()
    for file in (*(files / LAYER).glob("*.txt"), *(files / LAYER / "image0").glob("*.txt")):
        shutil.copy(file, flat)
    assert (read_export(flat, geometry, options).layers[0].activation == found.layers[0].activation[:1]).all()
    out = files / LAYER / "image1" / "out_otile0.txt"
    text = out.read_text()
    out.write_text(text[:-2] + "01"["10".index(text[-2])] + "\n")  # the last bit of the last word: col 0
    (note,) = read_export(files, geometry, options).notes
    equal, total = (int(word) for word in note.split()[2:5:2])
    assert total - equal == 1
    assert f"; first: {LAYER}, image 1, ot 0, onij 19, col 0: " in note
    capture(None, output=tmp_path / "s.h5", from_export=files, description=geometry, layout=options)
    with open_store(tmp_path / "s.h5") as store:
        assert (store.origin, store.layer(LAYER).spec.activation_bits) == ("captured", 4)


def test_what_is_not_whole_is_refused(tmp_path):
    files, geometry, options = foreign(tmp_path)
    with pytest.raises(InputError, match=r"x: must have manifest\.json, or a profile and a description of its layers"):
        read_export(files)
    with pytest.raises(InputError, match=r"none: must be a folder of memory files, it is not there$"):
        read_export(tmp_path / "none")
    weight = files / LAYER / "weight_itile2_otile1_kij4.txt"
    text = weight.read_text()
    weight.write_text(text.replace("0", "x", 1))
    with pytest.raises(InputError, match=r"weight_itile2_otile1_kij4\.txt: "):
        read_export(files, geometry, options)
    weight.unlink()
    with pytest.raises(InputError, match=r"weight_itile2_otile1_kij4\.txt: must be a file of weight: No such file"):
        read_export(files, geometry, options)
    weight.write_text("1" * len(text.splitlines()[0]) + text[len(text.splitlines()[0]) :])
    with pytest.raises(InputError, match=r"^features\.9: weight: lanes that stand for no code must hold 0$"):
        read_export(files, geometry, options)
    geometry.write_text(geometry.read_text() + "wide = 3\n")
    with pytest.raises(InputError, match=r"geometry\.toml: keys must be of name source "):
        read_export(files, geometry, options)


def test_a_part_of_a_layer_is_refused(tmp_path):
    export(STORE, tmp_path / "x", dataflow="ws", layers=LAYER, tiles="it=0")
    with pytest.raises(InputError, match=r"^features\.9: weight: the files must hold every code, not 648 of 1620$"):
        read_export(tmp_path / "x")
    export(STORE, tmp_path / "y", dataflow="ws", layers=LAYER, include="activation,out")
    with pytest.raises(InputError, match=r"y: features\.9: there must be files of weight$"):
        read_export(tmp_path / "y")


def test_an_export_of_captured_codes_comes_back(tmp_path):
    rng = np.random.default_rng(3)
    arrays = {"fc.weight": rng.integers(-128, 128, (5, 7)), "fc.activation": rng.integers(0, 256, (2, 3, 7))}
    np.savez(tmp_path / "mine.npz", **arrays)
    capture(tmp_path / "mine.npz", output=tmp_path / "s.h5", array=SystolicArray(4, 3, 32))
    for dataflow in DATAFLOWS:
        export(tmp_path / "s.h5", tmp_path / dataflow, dataflow=dataflow, layers="all", images="all")
        capture(None, output=tmp_path / f"{dataflow}.h5", from_export=tmp_path / dataflow)
        with open_store(tmp_path / f"{dataflow}.h5") as back, open_store(tmp_path / "s.h5") as own:
            for name in ("weight", "activation", "accumulator"):
                np.testing.assert_array_equal(getattr(back.layer("fc"), name)[...], getattr(own.layer("fc"), name)[...])
    assert json.loads((tmp_path / "ws" / "manifest.json").read_text())["pe"]["activation_signed"] is False


def test_layers_that_share_lanes_keep_their_own_signs(tmp_path):
    rng = np.random.default_rng(4)
    arrays = {"a.weight": rng.integers(-7, 8, (2, 3, 3, 3)), "a.activation": rng.integers(0, 256, (1, 3, 4, 4))}
    arrays |= {"b.weight": rng.integers(-7, 8, (2, 3)), "b.activation": rng.integers(-128, 128, (1, 5, 3))}
    np.savez(tmp_path / "mine.npz", **arrays)
    (tmp_path / "mine.toml").write_text("[layers.a]\nzero_point = 128\n")
    capture(tmp_path / "mine.npz", output=tmp_path / "s.h5", description=tmp_path / "mine.toml")
    export(tmp_path / "s.h5", tmp_path / "x", dataflow="ws", layers="all")
    first, second = read_export(tmp_path / "x").layers
    assert (first.spec.signed, first.spec.zero_point, second.spec.signed) == (False, 128, True)
    np.testing.assert_array_equal(first.activation, arrays["a.activation"])
    np.testing.assert_array_equal(second.activation[:, :, 0].swapaxes(1, 2), arrays["b.activation"])


def test_codes_of_wide_lanes_are_not_cut(tmp_path):
    files, geometry, _ = foreign(tmp_path)
    wide = tmp_path / "wide.toml"
    wide.write_text('extends = "notebook"\ndataflow = "ws"\n[layouts.weight]\nlane_bits = 16\n')
    for file in (files / LAYER).glob("weight_*.txt"):
        lines = [f"{int(line, 2):032b}" for line in file.read_text().split()]
        lanes = [[line[i : i + 4] for i in range(0, 32, 4)] for line in lines]
        file.write_text("".join("".join(lane[0] * 12 + lane for lane in line) + "\n" for line in lanes))
    options = ExportOptions("ws", profile=str(wide), layers="all")
    assert read_export(files, geometry, options).layers[0].weight.min() == -7
    file = files / LAYER / "weight_itile0_otile0_kij0.txt"
    file.write_text(file.read_text()[:-17] + f"{300:016b}\n")
    with pytest.raises(
        InputError, match=r"^features\.9: weight codes must be -128 to 127, those of the files are -7 to 300$"
    ):
        read_export(files, geometry, options)
