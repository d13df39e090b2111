"""The hierarchy, and the sentence for names that are nearly right."""

from __future__ import annotations

import inspect

import pytest

from vqtok import errors
from vqtok.errors import VqtokError, did_you_mean, plural

STANDARD = {
    "UnknownNameError": ValueError,
    "ConfigError": ValueError,
    "InputError": ValueError,
    "ImageError": errors.InputError,
    "CodesError": errors.InputError,
    "MismatchError": errors.InputError,
    "CollapseError": RuntimeError,
    "ServiceError": RuntimeError,
    "LoadError": OSError,
    "MissingExtraError": ImportError,
}


def test_every_error_has_the_base_that_callers_expect() -> None:
    classes = {name for name, value in vars(errors).items() if inspect.isclass(value)}
    assert classes - {"Iterable"} == {*STANDARD, "VqtokError"}
    for name, base in STANDARD.items():
        assert issubclass(getattr(errors, name), (VqtokError,))
        assert issubclass(getattr(errors, name), base)


def test_the_docstring_is_the_hierarchy() -> None:
    document = errors.__doc__ or ""
    lines = [line for line in document.splitlines() if "──" in line]
    assert [line.split("── ")[1].split()[0] for line in lines] == list(STANDARD)
    for line in lines:
        name = line.split("── ")[1].split()[0]
        nested = line.startswith("│")
        assert issubclass(getattr(errors, name), errors.InputError) == (
            nested or name == "InputError"
        )


@pytest.mark.parametrize(
    ("name", "known", "expected"),
    [
        ("vectr", ["lfq", "vector"], "Did you mean 'vector'? Known: lfq, vector."),
        ("nothing like it", ["vector", "lfq"], "Known: lfq, vector."),
        ("x", [], "Known: none."),
        (None, ["vector"], "Known: vector."),
        (16, ["fp16"], "Did you mean 'fp16'? Known: fp16."),
    ],
)
def test_did_you_mean(name: object, known: list[str], expected: str) -> None:
    assert did_you_mean(name, known) == expected
    assert did_you_mean(name, iter(known)) == expected


def test_one_thing_and_several() -> None:
    assert [plural(count, "row") for count in (0, 1, 2, 1000)] == [
        "0 rows",
        "1 row",
        "2 rows",
        "1,000 rows",
    ]
