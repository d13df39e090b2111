"""`__all__` is what a module offers: everything in it exists, and nothing public is left out."""

from __future__ import annotations

import ast
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

import vqtok

ROOT = Path(__file__).resolve().parent.parent


def modules() -> list[str]:
    found = []
    for folder in ("vqtok", "training", "serve", "export"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            if any(parent.is_symlink() for parent in path.parents) or parts[-1].startswith("_m"):
                continue  # a link, and __main__.py
            name = ".".join(part for part in parts if part != "__init__")
            found.append(name if folder == "vqtok" else f"vqtok.{name}")
    return found


def defined(path: Path) -> set[str]:
    """The public functions and classes at the top of a file; a command's verbs are not offered."""
    body = ast.parse(path.read_text(encoding="utf-8")).body
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    return {
        node.name
        for node in body
        if isinstance(node, kinds)
        and not node.name.startswith("_")
        and not any(ast.unparse(line).startswith("app.") for line in node.decorator_list)
    }


@pytest.mark.parametrize("name", modules())
def test_all_is_what_there_is(name: str) -> None:
    module = importlib.import_module(name)
    here = defined(Path(str(module.__file__)))
    offered = getattr(module, "__all__", None)
    assert offered is not None or not here, f"{name} needs an __all__"
    offered = offered or []
    assert len(offered) == len(set(offered))
    assert [n for n in offered if not hasattr(module, n)] == []
    assert sorted(here - set(offered)) == []


def test_the_packages_names_are_lazy_and_listed() -> None:
    assert set(vqtok.__all__) <= set(dir(vqtok))
    assert set(vqtok.__all__) - {"__version__"} == set(vqtok._HOMES) - {"ModelMixin"}


def test_a_public_name_is_the_one_of_its_module() -> None:
    for name, home in vqtok._HOMES.items():
        assert getattr(vqtok, name) is getattr(importlib.import_module(home), name)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError) as error:
        vqtok.Tokeniser  # noqa: B018
    assert str(error.value) == "module 'vqtok' has no attribute 'Tokeniser'"


def test_a_star_import_brings_the_public_names() -> None:
    code = (
        "from vqtok import *; print(sorted(n for n in dir() if n in __import__('vqtok').__all__))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == str(sorted(vqtok.__all__))
