"""Manifests read a piece at a time: whatever the piece, it is what `json.loads` reads, or an error of ours."""

import io
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from factory.manifest import MANIFEST, is_export, open_manifest
from factory.manifest.json_reader import JsonReader
from factory.spec import ComparisonError

LEAVES = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()
VALUES = st.recursive(LEAVES, lambda below: st.lists(below) | st.dictionaries(st.text(), below), max_leaves=20)
LAYOUTS = st.sampled_from([dict(), dict(indent=1), dict(indent="\t", ensure_ascii=False), dict(separators=(",", ":"))])
PIECES = st.integers(1, 40)


def read_object(text: str, piece: int) -> dict:
    """Read an object member by member, and the members that are lists item by item."""
    reader, found = JsonReader(io.StringIO(text), piece), {}
    for key in reader.keys():
        found[key] = list(reader.items()) if reader.peek() == "[" else reader.value()
    reader.end()
    return found


@given(st.dictionaries(st.text(), VALUES), LAYOUTS, PIECES)
def test_any_object_is_read_as_json_loads_does(value, layout, piece):
    assert read_object(f"\n {json.dumps(value, **layout)} \t", piece) == value


@given(st.dictionaries(st.text(max_size=3), VALUES, min_size=1), PIECES, st.data())
def test_a_text_that_is_cut_off_or_goes_on_is_no_json(value, piece, data):
    text = json.dumps(value)
    for wrong in (text[: data.draw(st.integers(0, len(text) - 1))], f"{text}}}", f"{text} 1"):
        with pytest.raises(ValueError):
            read_object(wrong, piece)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "there must be {, not the end (character 0)"),
        ("[1]", "there must be {, not [ (character 0)"),
        ('{"a": 1 "b": 2}', 'there must be , or }, not " (character 8)'),
        ('{"a": 1, "a": 2}', 'an object must have strings as keys, each once, not "a" (character 12)'),
        ('{"a": {"b": {"c": 1, "c": 1}}}', 'an object must have each key once, not "c" twice'),
        ("{1: 2}", "an object must have strings as keys, each once, not 1 (character 2)"),
        ('{"a" 1}', "there must be :, not 1 (character 5)"),
        ('{"a": [1,]}', "Expecting value (character 9)"),
        ('{"a": [1 2]}', "there must be , or ], not 2 (character 9)"),
        ('{"a": nul}', "Expecting value (character 6)"),
        ('{"a": 1} x', "nothing must follow (character 9)"),
    ],
)
@pytest.mark.parametrize("piece", [1, 3, 100])
def test_errors_say_where(text, said, piece):
    with pytest.raises(ValueError) as error:
        read_object(text, piece)
    assert str(error.value) == said


def test_only_what_is_at_hand_is_kept():
    reader = JsonReader(io.StringIO(json.dumps(list(range(100_000)))), piece=100)
    assert [item for item in reader.items() if len(reader._text) > 250] == []


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"7",
        b"\xff",
        b"\xef\xbb\xbf{}",
        b"[" * 100_000,
        b'{"groups":' + b"[" * 100_000,
        b'{"a": ' + b"9" * 5000 + b"}",
    ],
    ids=lambda data: data[:12],
)  # fmt: skip
def test_what_is_no_manifest_is_one_line(data, tmp_path):
    (tmp_path / MANIFEST).write_bytes(data)
    with pytest.raises(ComparisonError, match=r"^manifest\.json: must be a JSON object: .*$"):
        open_manifest(tmp_path)
    assert not is_export(tmp_path)


@pytest.mark.parametrize("groups", [3, {"a": []}, "x", None])
def test_groups_must_be_a_list(groups, tmp_path):
    (tmp_path / MANIFEST).write_text(json.dumps({"schema": "factory-pack-1", "groups": groups}))
    assert is_export(tmp_path)
    with pytest.raises(ComparisonError, match=r"^manifest\.json: must have the key "):
        open_manifest(tmp_path)
