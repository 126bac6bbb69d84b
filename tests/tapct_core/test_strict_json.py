"""JSON within the standard and within bounds: everything else is one JSONError, and what is read can be written."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tapct_core.errors import UserError
from tapct_core.strict_json import DEPTH, ELEMENTS, JSONError, parse_json, read_json

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63) + 1, 2**63 - 1) | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4),
    max_leaves=20,
)  # fmt: skip


@given(VALUES)
def test_what_the_standard_has_comes_through(value):
    for ascii_only in (True, False):
        assert parse_json(json.dumps(value, ensure_ascii=ascii_only)) == value


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"a": NaN}', "NaN"),
        ("[-Infinity]", "Infinity"),
        ("[1e999]", "out of range"),
        ("[0." + "0" * 2000 + "1]", "out of range"),
        (f"[{2**63}]", "out of range"),
        ("[" + "9" * 100_000 + "]", "100000 digits"),
        ('["\\ud800"]', "surrogate"),
        ('{"\\udc00": 1}', "surrogate"),
        ('{"a": 1, "a": 2}', "twice"),
        ("[" * (DEPTH + 1) + "]" * (DEPTH + 1), "nested"),
        ("[" * 1_000_000, "nested"),
        ('["' + '\\"' * 500_000 + "[" * 70 + "\\", "line 1"),
        ("[" + "0," * (ELEMENTS + 1) + "0]", "values"),
        ("[1, 2", "line 1"),
        ("[1,\n2,,]", "line 2"),
        (b"\xff\xfe", "UTF-8"),
        (b"\x00", "line 1"),
        ("", "line 1"),
    ],
)
def test_what_is_outside_is_named(text, said):
    with pytest.raises(JSONError, match=said) as caught:
        parse_json(text)
    assert "\n" not in str(caught.value)


def test_pairs_of_surrogates_and_a_byte_order_mark_are_text():
    assert parse_json('["\\ud83d\\ude00"]') == ["\U0001f600"]
    assert parse_json(b"\xef\xbb\xbf[1]") == [1]
    assert parse_json('["' + "[" * 500 + '"]') == ["[" * 500]


def test_brackets_in_strings_do_not_nest():
    assert parse_json("[" + '"[[[", ' * 100 + "1]")[-1] == 1


def test_a_file_too_large_is_not_read(tmp_path):
    path = tmp_path / "a.json"
    path.write_text("[" + " " * 100 + "]")
    assert read_json(path) == []
    with pytest.raises(UserError, match="a.json has more than 50 bytes"):
        read_json(path, 50)
