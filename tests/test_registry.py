"""A part is a file that registers itself, found at the first look-up."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from vqtok.errors import UnknownNameError
from vqtok.registry import Registry

PART = """
from parts_of_a_test import PARTS
PARTS.register({name!r})({value})
"""


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An importable package with two parts, one of them in a file with a leading underscore."""
    folder = tmp_path / "parts_of_a_test"
    folder.mkdir()
    (folder / "__init__.py").write_text(
        "from vqtok.registry import Registry\nPARTS = Registry('part', __name__)\n"
    )
    (folder / "round.py").write_text(PART.format(name="round", value=1))
    (folder / "_flat.py").write_text(PART.format(name="flat", value=2))
    monkeypatch.syspath_prepend(tmp_path)
    yield folder
    for name in [name for name in sys.modules if name.split(".")[0] == "parts_of_a_test"]:
        del sys.modules[name]


def parts() -> Registry[int]:
    import parts_of_a_test

    found: Registry[int] = parts_of_a_test.PARTS
    return found


@pytest.mark.usefixtures("package")
def test_parts_are_found_by_importing_the_package() -> None:
    assert parts()["round"] == 1
    assert list(parts()) == ["flat", "round"]
    assert "flat" in parts()
    assert "long" not in parts()


@pytest.mark.usefixtures("package")
def test_nothing_is_imported_before_a_look_up() -> None:
    assert parts().kind == "part"
    assert "parts_of_a_test.round" not in sys.modules
    assert "round" in parts()
    assert "parts_of_a_test.round" in sys.modules


def test_a_new_part_is_a_new_file(package: Path) -> None:
    (package / "long.py").write_text(PART.format(name="long", value=3))
    assert parts()["long"] == 3


@pytest.mark.usefixtures("package")
def test_a_part_from_elsewhere_may_join() -> None:
    @parts().register("mine")
    class Mine:
        pass

    assert parts()["mine"] is Mine
    assert list(parts()) == ["flat", "mine", "round"]


@pytest.mark.usefixtures("package")
@pytest.mark.parametrize(
    ("name", "hint"), [("rond", "Did you mean 'round'? "), ("", ""), (None, "")]
)
def test_an_unknown_name(name: str, hint: str) -> None:
    with pytest.raises(UnknownNameError) as error:
        parts()[name]
    assert str(error.value) == f"there is no part called {name!r}. {hint}Known: flat, round."
    assert error.value.__suppress_context__


@pytest.mark.usefixtures("package")
def test_two_parts_of_one_name() -> None:
    assert "round" in parts()
    with pytest.raises(ValueError) as error:
        parts().register("round")(5)
    assert str(error.value) == "two parts are called 'round'"


def test_a_part_that_cannot_be_imported_says_why_each_time(package: Path) -> None:
    (package / "broken.py").write_text("import nothing_of_that_name")
    for _ in range(2):
        with pytest.raises(ModuleNotFoundError, match="nothing_of_that_name"):
            parts()["round"]
