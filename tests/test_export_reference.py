"""The notebook's files, written by plain loops that share nothing with the product, byte for byte."""

import pytest
from helpers_export import files_of, reference_store

from factory.export import export

pytestmark = pytest.mark.reference


def test_weight_stationary_equals_the_notebooks_files(reference, tmp_path):
    export(reference_store(reference, "w4a4"), tmp_path / "ws", dataflow="ws", tiles="all", flat=True)
    assert files_of(tmp_path / "ws") == files_of(reference / "ws")


def test_output_stationary_equals_the_notebooks_files(reference, tmp_path):
    store = reference_store(reference, "w4a4")
    export(store, tmp_path / "os", dataflow="os", tiles="pt=0,ot=0", input_channels=3, flat=True)
    assert files_of(tmp_path / "os") == files_of(reference / "os")


def test_simd_equals_the_reference_files(reference, tmp_path):
    export(reference_store(reference, "w4a2"), tmp_path / "simd", profile="simd2-even", flat=True)
    assert files_of(tmp_path / "simd") == files_of(reference / "simd")
