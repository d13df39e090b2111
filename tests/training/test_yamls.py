"""YAML as settings are written in it."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vqtok.errors import ConfigError
from vqtok.training.yamls import read_yaml, write_yaml


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("off", "off"),
        ("no", "no"),
        ("yes", "yes"),
        ("On", "On"),
        ("true", True),
        ("False", False),
        ("tRue", "tRue"),
        ("1e-4", 1e-4),
        ("4.5e-6", 4.5e-6),
        (".5", 0.5),
        ("1.", 1.0),
        ("-1E3", -1000.0),
        ("-.inf", float("-inf")),
        ("010", 10),
        ("+3", 3),
        ("1_000", "1_000"),
        ("0x10", "0x10"),
        ("1:30", "1:30"),
        ("2026-01-01", "2026-01-01"),
        ("", None),
        ("~", None),
        ("null", None),
        ("'1'", "1"),
        ("<samples>", "<samples>"),
        ("[off, 1e-3, {a: no}]", ["off", 1e-3, {"a": "no"}]),
    ],
)
def test_plain_words(text: str, expected: Any) -> None:
    found = read_yaml(text, "here")
    assert found == expected
    assert type(found) is type(expected)
    assert read_yaml(write_yaml(expected), "here") == expected


words = st.text() | st.sampled_from(["off", "1e-4", "true", "010", "~", "", "<<", "=", "a: b"])
scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | words


@given(
    st.recursive(
        scalars, lambda inner: st.lists(inner) | st.dictionaries(words, inner), max_leaves=8
    )
)
def test_what_is_written_is_read(value: Any) -> None:
    assert read_yaml(write_yaml(value), "here") == value


def test_equal_lists_are_written_out() -> None:
    twice = ["Block"]
    assert write_yaml({"down": twice, "up": twice}) == "down:\n- Block\nup:\n- Block\n"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("size: 1\nflip: true\nsize: 2\n", "my.yaml, line 3: 'size' stands twice"),
        ("data: {size: 1, size: 2}", "my.yaml: 'size' stands twice"),
        ("a: 1\n2: b\n", "my.yaml, line 2: a setting's name is a word; got 2"),
        ("a: 1\noff: b\ntrue: c\n", "my.yaml, line 3: a setting's name is a word; got True"),
        (
            "a:\n  b: 1\n c: 2\n",
            "my.yaml, line 3: expected <block end>, but found '<block mapping start>'",
        ),
        ("[1", "my.yaml: expected ',' or ']', but got '<stream end>'"),
        ("a: *b", "my.yaml: found undefined alias 'b'"),
        (
            "!!python/name:os.system x",
            "my.yaml: could not determine a constructor for the tag "
            "'tag:yaml.org,2002:python/name:os.system'",
        ),
        (
            "a: \x01",
            "my.yaml: unacceptable character #x0001: special characters are not allowed in "
            '"<unicode string>", position 3',
        ),
    ],
)
def test_what_is_no_yaml(text: str, expected: str) -> None:
    with pytest.raises(ConfigError) as error:
        read_yaml(text, "my.yaml")
    assert str(error.value) == expected
