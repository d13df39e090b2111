"""Settings that people wrote: what is read, and what is called wrong."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from vqtok.checkpoints.told import (
    assumed,
    check_told,
    choice,
    entropy_settings,
    flag,
    listed,
    number,
    numbers,
    section,
    whole,
)
from vqtok.errors import ConfigError


def test_numbers_in_figures_and_in_strings() -> None:
    assert number({"a": "1e-8"}, "a", 1.0) == 1e-8  # as PyYAML reads 1e-8
    assert number({"a": 2}, "a", 1.0, least=2) == 2.0
    assert number({}, "a", 0.25, least=0) == 0.25
    assert (whole({"a": "3"}, "a", 1), whole({"a": 4.0}, "a", 1), whole({}, "a", 5)) == (3, 4, 5)
    assert numbers({"a": [0.5, "1", 2]}, "a", (0.0,) * 3) == (0.5, 1.0, 2.0)
    assert numbers({}, "a", (0.1, 0.2)) == (0.1, 0.2)
    assert flag({"a": False}, "a", True) is False and flag({}, "a", True) is True
    assert choice({"a": "y"}, "a", "x", ("x", "y")) == "y"


Reader = Callable[[dict[str, Any]], Any]
SAYS = "the settings of the checkpoint say"


@pytest.mark.parametrize(
    ("read", "value", "right"),
    [
        (lambda told: number(told, "a", 1.0), None, "a number"),
        (lambda told: number(told, "a", 1.0), True, "a number"),
        (lambda told: number(told, "a", 1.0), "large", "a number"),
        (lambda told: number(told, "a", 1.0), float("nan"), "a number"),
        (lambda told: number(told, "a", 1.0), [1], "a number"),
        (lambda told: number(told, "a", 1.0, least=0), -1, "a number of at least 0"),
        (lambda told: number(told, "a", 1.0, above=0), 0, "a number above 0"),
        (lambda told: whole(told, "a", 1), 0, "a whole number of at least 1"),
        (lambda told: whole(told, "a", 1, least=0), 2.5, "a whole number of at least 0"),
        (lambda told: whole(told, "a", 1), "1.x", "a whole number of at least 1"),
        (lambda told: numbers(told, "a", (0.0, 0.0)), [1], "a list of 2 numbers"),
        (lambda told: numbers(told, "a", (0.0, 0.0)), 1, "a list of 2 numbers"),
        (lambda told: numbers(told, "a", (1.0, 1.0), above=0), [1, 0], "a list of 2 numbers above"),
        (lambda told: flag(told, "a", True), "yes", "true or false"),
        (lambda told: flag(told, "a", True), None, "true or false"),
        (lambda told: choice(told, "a", "x", ("x", "y")), "z", "one of x, y"),
        (lambda told: choice(told, "a", "x", ("x", "y")), None, "one of x, y"),
    ],
)
def test_settings_that_cannot_be_read(read: Reader, value: Any, right: str) -> None:
    right = f"{right} 0" if right.endswith("above") else right
    with pytest.raises(ConfigError) as error:
        read({"a": value})
    assert str(error.value) == f"a is {right}; {SAYS} {value!r}"


def test_settings_inside_others() -> None:
    settings = {"a": {"b": {"c": 1}}, "d": 3}
    assert section(settings, "a", "b") == {"c": 1}
    assert (
        section(settings, "a", "x") == section(settings, "d") == section(settings, "d", "e") == {}
    )


def test_settings_of_another_checkpoint() -> None:
    check_told({}, "n", 3, "x.pt")
    check_told({"n": (1, 2)}, "n", [1, 2], "x.pt")
    with pytest.raises(ConfigError) as error:
        check_told({"n": 4}, "n", 3, "x.pt")
    assert str(error.value) == (
        "the settings say n=4, and the shapes in x.pt n=3: they belong to another checkpoint"
    )


def test_what_nothing_tells_is_said() -> None:
    assert assumed({"a": 2, "b": 3}, {"a": 1, "b": 1}) == ({"a": 2, "b": 3}, ())
    assert assumed({"a": 2}, {"a": 1, "b": 0.5, "c": True}) == (
        {"a": 2, "b": 0.5, "c": True},
        (
            "Nothing tells how it was trained: b=0.5 and c=True, as of the published ones. "
            "Training alone depends on that.",
        ),
    )
    assert listed({"a": 1}) == "a=1" and listed({"a": 1, "b": 2, "c": 3}) == "a=1, b=2 and c=3"


def test_the_two_halves_of_an_entropy_loss() -> None:
    found = entropy_settings({"sure": "2", "even": 3}, 0.1, "sure", "even")
    assert found == {"entropy_loss_weight": 0.2, "diversity_gamma": 1.5}
