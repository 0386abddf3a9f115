"""The grammar of places."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from factory.spec import InputError, parse_ranges


@pytest.mark.parametrize(
    ("text", "places"),
    [
        ("all", range(20)), (" all ", range(20)), ("3", [3]), ("0:16", range(16)), ("1,5:7", [1, 5, 6]),
        ("18:", [18, 19]), (":2", [0, 1]), (":", range(20)), (" 4 , 2 ", [4, 2]), ("5,5", [5, 5]), ("2:2,1,", [1]),
        ("19", [19]), ("0:20", range(20)), ("007", [7]), ("30:30,0:0,1", [1]),
    ],
)  # fmt: skip
def test_places(text, places):
    assert parse_ranges(text, 20, "pick") == list(places)


@given(st.lists(st.integers(0, 99), min_size=1, max_size=9))
def test_what_is_listed_is_what_is_read(places):
    assert parse_ranges(",".join(map(str, places)), 100, "pick") == places
    assert parse_ranges(",".join(f"{n}:{n + 1}" for n in places), 100, "pick") == places


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("20", "pick must be 0 to 19, not 20"),
        ("18:30", "pick must be 0 to 19, not 20"),
        ("25:30", "pick must be 0 to 19, not 25"),
        ("0:999999999999999999", "pick must be 0 to 19, not 20"),
        ("5:5", "pick must select at least one index, '5:5' selects none"),
        ("7:5", "pick must select at least one index, '7:5' selects none"),
        ("", "pick must select at least one index, '' selects none"),
        (",", "pick must select at least one index, ',' selects none"),
        ("-1", "pick must be all, or indices and ranges such as 0:4,7, not -1"),
        ("1,a:b", "pick must be all, or indices and ranges such as 0:4,7, not 1,a:b"),
        ("0:9:2", "pick must be all, or indices and ranges such as 0:4,7, not 0:9:2"),
        ("9" * 5000, f"pick must be all, or indices and ranges such as 0:4,7, not {'9' * 5000}"),
    ],
)
def test_other_words_are_refused(text, message):
    with pytest.raises(InputError) as error:
        parse_ranges(text, 20, "pick")
    assert str(error.value) == message
