"""The manifest: its schema, what it says of every file, and that the same input gives the same bytes."""

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import jsonschema
import numpy as np
import pytest
from helpers_export import SHIPPED, MemoryStore, files_of, odd_store, tiled

import factory
from factory.arithmetic.bits import Field
from factory.arithmetic.tiling import tile_weight
from factory.dataflow import KnownLayer
from factory.export import export
from factory.memfile import Memory, WordFormat, decode
from factory.spec import ConvLayer

STORE = odd_store(images=3)
SCHEMA = json.loads((Path(factory.__file__).parent / "schemas" / "manifest.schema.json").read_text())


def manifest_of(folder: Path) -> dict:
    return json.loads((folder / "manifest.json").read_text())


def file_sets(manifest: dict):
    return [(group, files) for group in manifest["groups"] for files in group["sets"]]


def test_the_schema_is_one():
    jsonschema.Draft202012Validator.check_schema(SCHEMA)


@pytest.mark.parametrize(("dataflow", "profile"), SHIPPED)
@pytest.mark.parametrize("files", ["tile", "layer"])
def test_every_profiles_manifest_fits_the_schema(files, dataflow, profile, tmp_path):
    include = "activation,weight,out,conv,threshold,next,address"
    options = dict(layers="features.9", include=include, images="0,2", dataflow=dataflow, profile=profile, files=files)
    summary = export(STORE, tmp_path / "x", **options)
    manifest = manifest_of(tmp_path / "x")
    jsonschema.Draft202012Validator(SCHEMA).validate(manifest)
    listed = {
        f"{one['directory']}/{file['name']}": (one, file) for _, one in file_sets(manifest) for file in one["files"]
    }
    written = files_of(tmp_path / "x")
    assert list(sorted(listed)) == sorted(written)
    for path, data in written.items():
        one, file = listed[path]
        assert file["sha256"] == hashlib.sha256(data).hexdigest()
        assert {axis for axis in file if axis not in ("name", "sha256")} == {
            axis.lstrip("-") for axis in manifest["layouts"][one["layout"]]["files"]
        }
        word = WordFormat(one["lanes"], Field(one["lane_bits"], one["signed"]), width=one["word_bits"])
        memory = Memory(one["words"], word)
        assert decode(data, memory, "bin").shape == (one["words"], one["lanes"])
    counts = manifest["counts"]
    assert counts["files"] == len(written) == summary.files
    assert counts["bytes"] == sum(map(len, written.values())) == summary.bytes
    assert counts["words"] == sum(data.count(b"\n") for data in written.values()) == summary.words
    assert counts["inexact"] == sum(one["inexact"] for _, one in file_sets(manifest)) == summary.inexact


def test_the_facts_of_an_export(tmp_path):
    options = dict(layers="features.9", images="1", tiles="it=1:3,ot=1", kij="2,5:7", psum_bits=12)
    export(tiled(STORE), tmp_path / "x", **options)
    manifest = manifest_of(tmp_path / "x")
    groups = manifest.pop("groups")
    conv = ConvLayer(**manifest.pop("layers")["features.9"]["spec"])
    assert conv == STORE.layers["features.9"].spec
    assert list(manifest.pop("layouts")) == ["activation", "weight", "out"]
    assert len(manifest.pop("pack_id")) == 64
    assert manifest == {
        "schema": "factory-pack-2",
        "generator": {"name": "factory", "version": factory.__version__},
        "store": "memory.h5",
        "network": "odd",
        "weights_sha256": "0" * 64,
        "image_source": "memory",
        "dataflow": "ws",
        "profile": "notebook",
        "array": {"rows": 8, "cols": 8, "simd": 1},
        "pe": {
            "activation_bits": 4,
            "activation_signed": False,
            "weight_bits": 4,
            "weight_signed": True,
            "psum_bits": 12,
            "overflow": "wrap",
        },
        "post": "relu",
        "pixel_block": [1, 1],
        "one_file_per": "tile",
        "flat": False,
        "counts": {"files": 9, "words": 2 * 99 + 6 * 8 + 20, "bytes": 33 * (2 * 99 + 6 * 8) + 129 * 20, "inexact": 0},
        "warnings": ["features.9: the outputs sum over the selected input channels and kernel positions only"],
        "testbench": [],
    }
    assert [(group["layer"], group["image"], group.get("source_index")) for group in groups] == [
        ("features.9", None, None),
        ("features.9", 1, 41),
    ]
    weight, activation, out = (one for group in groups for one in group["sets"])
    places = [{axis: file[axis] for axis in ("it", "ot", "kij")} for file in weight["files"]]
    assert places == [{"it": it, "ot": 1, "kij": kij} for it in (1, 2) for kij in (2, 5, 6)]
    assert weight["source"] == {"dataset": "layers/features.9/weight_tile"}
    assert activation["source"] == {"dataset": "layers/features.9/activation_tile", "image": 1}
    assert out["source"] == {"dataset": "layers/features.9/conv", "image": 1}
    assert weight["axes"] == {"it": 2, "ot": 1, "kij": 3, "col": 8, "row": 8}


def test_places_lead_to_the_slice_of_the_store(tmp_path):
    export(STORE, tmp_path / "x", layers="features.9", include="weight")
    (_, weight) = file_sets(manifest_of(tmp_path / "x"))[0]
    tiles = tile_weight(STORE.layers["features.9"].weight, STORE.array)
    for file in weight["files"]:
        data = (tmp_path / "x" / weight["directory"] / file["name"]).read_bytes()
        codes = decode(data, Memory(8, WordFormat(8, Field(4, True))), "bin")
        np.testing.assert_array_equal(codes, tiles[file["it"], file["ot"], file["kij"]])


def test_an_array_of_another_size_is_not_said_to_be_the_stores_tiles(tmp_path):
    export(tiled(STORE), tmp_path / "x", layers="features.9", profile="ws-wide", include="weight")
    assert file_sets(manifest_of(tmp_path / "x"))[0][1]["source"] == {"dataset": "layers/features.9/weight"}


def test_the_pack_id_is_the_hash_of_the_listing(tmp_path):
    summary = export(STORE, tmp_path / "x", layers="features.9,features.13", images="0,2")
    listing = "".join(
        f"{file['sha256']}  {one['directory']}/{file['name']}\n"
        for _, one in file_sets(manifest_of(tmp_path / "x"))
        for file in one["files"]
    )
    assert summary.pack_id == hashlib.sha256(listing.encode()).hexdigest()


def test_a_testbench_is_listed_beside_the_vectors(tmp_path):
    plain = export(STORE, tmp_path / "plain", layers="features.13")
    both = export(STORE, tmp_path / "both", layers="features.13", testbench=True)
    manifest = manifest_of(tmp_path / "both")
    jsonschema.Draft202012Validator(SCHEMA).validate(manifest)
    added = {path: data for path, data in files_of(tmp_path / "both").items() if path.startswith("testbench/")}
    assert {one["path"]: one["sha256"] for one in manifest["testbench"]} == {
        path: hashlib.sha256(data).hexdigest() for path, data in added.items()
    }
    assert "testbench/factory_tb.sv" in added
    assert set(files_of(tmp_path / "both")) == set(files_of(tmp_path / "plain")) | set(added)
    assert both == replace(plain, directory=both.directory)


def test_the_same_input_gives_the_same_bytes(tmp_path):
    options = dict(images="0:3", include="out,psum,weight,activation")
    export(STORE, tmp_path / "a", layers="features.9,features.13", **options)
    export(STORE, tmp_path / "b", layers=["features.13", "features.9"], **options | dict(images="2,0,1,0"))
    export(replace(STORE, path=tmp_path / "elsewhere" / "memory.h5"), tmp_path / "b", force=True, **options | dict(
        layers="features.13,features.9", include="activation,psum,out,weight"
    ))  # fmt: skip
    assert files_of(tmp_path / "a") == files_of(tmp_path / "b")
    assert (tmp_path / "a" / "manifest.json").read_bytes() == (tmp_path / "b" / "manifest.json").read_bytes()


def test_a_manifest_is_the_same_where_its_groups_go_to_the_disk(tmp_path, monkeypatch):
    export(STORE, tmp_path / "a", layers="features.9,features.13", images="0:3")
    monkeypatch.setattr("factory.export.SPOOL_BYTES", 100)
    export(STORE, tmp_path / "b", layers="features.9,features.13", images="0:3")
    assert (tmp_path / "a" / "manifest.json").read_bytes() == (tmp_path / "b" / "manifest.json").read_bytes()


def formula_store() -> MemoryStore:
    """Return one layer whose integers are formulas, so that no random generator's version can change them."""
    conv = STORE.layers["features.9"].spec
    weight = (np.arange(np.prod(conv.weight_shape)) * 37 % 15 - 7).astype(np.int8).reshape(conv.weight_shape)
    activation = (np.arange(20 * 5 * 7) * 29 % 16).astype(np.uint8).reshape(1, 20, 5, 7)
    threshold = (np.arange(9)[:, None] * 5 - 200 + np.arange(15) * 40).astype(np.int32)
    direction = np.where(np.arange(9) % 3, 1, -1).astype(np.int8)
    layer = KnownLayer(conv, weight, activation, threshold, direction)
    return MemoryStore(STORE.network, {conv.name: layer}, images=SimpleNamespace(source_index=np.arange(1)))


DIGESTS = {
    ("ws", "int8"): "c5f8493f51e3e640",
    ("ws", "notebook"): "06a18b4372a77872",
    ("ws", "simd2-even"): "115c3e13210e3e2d",
    ("ws", "simd2-even-otile"): "a9fa82796bec7c9c",
    ("ws", "simd2-odd"): "cf94b583ca16e5d5",
    ("ws", "simd2-split"): "1d63d1294e0acb31",
    ("ws", "ws-multimap"): "9eb82ff5e8a34771",
    ("ws", "ws-onefile"): "7facca1f64a20134",
    ("ws", "ws-reversed"): "b6014c43c69fcb81",
    ("ws", "ws-tiled"): "26b59f0cfe408b41",
    ("ws", "ws-wide"): "0c32fd7749e38535",
    ("os", "int8"): "1d9fb988d644324c",
    ("os", "notebook"): "6a747b11830c3217",
    ("os", "os-all"): "b130fb4be3a39938",
    ("os", "os-perkij"): "923abde372190fde",
    ("is", "int8"): "f11a34e004473ea4",
    ("is", "notebook"): "9e494bd02c28a1e2",
}


@pytest.mark.parametrize(("dataflow", "profile"), SHIPPED)
def test_the_files_of_a_small_layer_are_known_answers(dataflow, profile, tmp_path):
    options = dict(layers="features.9", include="activation,weight,out,conv,threshold,next,address")
    summary = export(formula_store(), tmp_path / "x", dataflow=dataflow, profile=profile, **options)
    assert summary.pack_id[:16] == DIGESTS[dataflow, "notebook" if profile == "edges" else profile]
