"""Rows by column, and columns as JSON."""

from __future__ import annotations

import datetime
import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from token_rows import plan, row, rows, same

from vqtok.errors import InputError
from vqtok.offline.rows import Rows, check_row, columns_text, parse_columns

plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.binary()
    | st.text(st.characters(codec="utf-8")),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(st.characters(codec="utf-8")), inner),
    max_leaves=8,
)  # fmt: skip


@settings(max_examples=50)
@given(st.dictionaries(st.text(st.characters(codec="utf-8")), plain))
def test_columns_come_back(columns: dict[str, Any]) -> None:
    text = columns_text(columns)
    assert parse_columns(text) == columns
    if columns:
        json.loads(text, parse_constant=pytest.fail)


def test_columns_are_canonical() -> None:
    one = columns_text({"b": 1, "a": "ü"})
    assert one == columns_text({"a": "ü", "b": 1}) == '{"a":"ü","b":1}'
    assert columns_text({}) == ""


@pytest.mark.parametrize(
    ("value", "stored"),
    [
        (b"\x00\xff", '{"base64":"AP8="}'),
        (float("inf"), '{"float":"inf"}'),
        ({"base64": "AP8="}, '{"object":{"base64":"AP8="}}'),
        ({"object": 1}, '{"object":{"object":1}}'),
        (np.float32(0.5), "0.5"),
        (np.array([[1, 2]]), "[[1,2]]"),
        (datetime.date(2026, 1, 2), '"2026-01-02"'),
        ((1, "a"), '[1,"a"]'),
    ],
)
def test_values_that_json_has_no_word_for(value: Any, stored: str) -> None:
    assert columns_text({"x": value}) == '{"x":' + stored + "}"


def test_not_a_number_comes_back() -> None:
    found = parse_columns(columns_text({"x": float("nan")}))
    assert np.isnan(found["x"])


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        (
            {"x": object()},
            "the column 'x' holds a object; columns hold what JSON can, bytes, dates and arrays",
        ),
        ({"x": "\udc80"}, 'columns is no text that UTF-8 can hold: \'{"x":"\\udc80"}\''),
        (
            {(1, 2): 1},
            "columns are named by text; got (1, 2)",
        ),
    ],
)
def test_columns_that_cannot_be_stored(columns: Any, said: str) -> None:
    with pytest.raises(InputError) as error:
        columns_text(columns)
    assert str(error.value) == said


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"key": "\udc80"}, "key is no text that UTF-8 can hold: '\\udc80'"),
        ({"text": "\ud800"}, "text is no text that UTF-8 can hold: '\\ud800'"),
        ({"label": 1 << 63}, "a label is a number of 64 bits; got 9223372036854775808"),
    ],
)
def test_rows_that_no_format_could_write(changes: dict[str, Any], said: str) -> None:
    good = row("a", plan())
    check_row(good)
    with pytest.raises(InputError) as error:
        check_row(good._replace(**changes))
    assert str(error.value) == said


def test_rows_by_column_are_the_rows() -> None:
    of = plan(what="both")
    made = [row(key, of, seed) for seed, key in enumerate("abc")]
    found = Rows.of(made)
    assert len(found) == 3 and all(map(same, found, made)) and same(found[-1], made[2])
    assert isinstance(found.codes, np.ndarray) and found.codes.shape == (3, 4, 4)
    with pytest.raises(IndexError) as error:
        found[3]
    assert str(error.value) == "there are 3 rows; asked for 3"


def test_arrays_of_several_shapes_are_a_list() -> None:
    of = plan()
    made = [row("a", of), row("b", of, grid=(2, 6))]
    found = Rows.of(made)
    assert isinstance(found.codes, list) and all(map(same, found, made))
    joined = Rows.concat([rows("c", of), found, Rows.of([])])
    assert [one.key for one in joined] == ["c", "a", "b"] and isinstance(joined.codes, list)


def test_rows_are_taken_and_joined() -> None:
    of = plan()
    found = rows("abcd", of)
    taken = found.take([2, 0])
    assert same(taken[0], found[2]) and same(taken[1], found[0]) and len(taken) == 2
    joined = Rows.concat([taken, rows("e", of)])
    assert [one.key for one in joined] == ["c", "a", "e"] and isinstance(joined.codes, np.ndarray)
    assert len(Rows.concat([])) == len(found.take([])) == 0


def test_rows_have_arrays_all_or_none() -> None:
    of = plan()
    with pytest.raises(InputError) as error:
        Rows.of([row("a", of), row("b", of, codes=None)])
    assert str(error.value) == "1 of 2 rows have codes; all have, or none has"
    with pytest.raises(InputError) as error:
        Rows.concat([rows("a", of), rows("b", of, codes=None)])
    assert str(error.value) == "some of these rows have codes and some have not"
