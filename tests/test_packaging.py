"""What is shipped is what exists, and it imports under the one name."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import vqtok

ROOT = Path(__file__).resolve().parent.parent
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
SETUPTOOLS = PYPROJECT["tool"]["setuptools"]
LINKED = [name.removeprefix("vqtok.") for name in SETUPTOOLS["package-dir"] if "." in name]


def packages_on_disk() -> set[str]:
    found = set()
    for package, folder in SETUPTOOLS["package-dir"].items():
        for init in (ROOT / folder).rglob("__init__.py"):
            inner = init.parent.relative_to(ROOT / folder).parts
            if package == "vqtok" and inner[:1] and inner[0] in LINKED:
                continue  # a link to ../training and the like
            found.add(".".join((package, *inner)))
    return found


def test_every_package_is_shipped() -> None:
    assert set(SETUPTOOLS["packages"]) == packages_on_disk()


def test_the_three_folders_are_linked() -> None:
    assert sorted(LINKED) == ["export", "serve", "training"]


@pytest.mark.parametrize("name", LINKED)
def test_links_point_home(name: str) -> None:
    link = ROOT / "vqtok" / name
    if not link.is_symlink():
        pytest.skip("this checkout has no symbolic links; only type checkers need them")
    assert link.resolve() == ROOT / name


@pytest.mark.parametrize("name", LINKED)
def test_the_short_name_is_refused(name: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", f"import {name}"], cwd=ROOT, capture_output=True, text=True
    )
    message = f"import vqtok.{name}, not {name} (docs/adr/0001-layout.md says why)"
    assert done.stderr.splitlines()[-1] == f"ImportError: {message}"


@pytest.mark.parametrize("links", ["none", "text"])
def test_a_checkout_without_links_imports(tmp_path: Path, links: str) -> None:
    leave = shutil.ignore_patterns(*LINKED, "zoo", "__pycache__")
    shutil.copytree(ROOT / "vqtok", tmp_path / "vqtok", ignore=leave)
    for name in LINKED:
        shutil.copytree(ROOT / name, tmp_path / name)
        if links == "text":  # what git leaves where it may not make links
            (tmp_path / "vqtok" / name).write_text(f"../{name}")
    code = "\n".join(f"import vqtok.{name}; print(vqtok.{name}.__file__)" for name in LINKED)
    # -S: no site-packages, so that an installed vqtok cannot help.
    command = [sys.executable, "-S", "-c", f"import sys; sys.path.insert(0, '.')\n{code}"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.stderr == ""
    wanted = [str((tmp_path / name / "__init__.py").resolve()) for name in LINKED]
    assert done.stdout.splitlines() == wanted


def test_the_changelog_is_at_this_version() -> None:
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    top = re.search(r"^## \[([^\]]+)\]", text, re.MULTILINE)
    assert top and top[1] == vqtok.__version__


def test_constraints_fit_the_requirements() -> None:
    def name(line: str) -> str:
        return re.split(r"[<>=\[; ]", line, maxsplit=1)[0].replace("_", "-").lower()

    extras = PYPROJECT["project"]["optional-dependencies"].values()
    wanted = {name(line) for extra in extras for line in extra}
    wanted |= {name(line) for line in PYPROJECT["project"]["dependencies"]}
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pinned = {name(line) for line in lines if line and not line.startswith("#")}
    # VQTOK_TORCH chooses torch, and extras name others of vqtok's own.
    assert wanted - pinned == {"torch", "vqtok"}


def test_no_torchvision() -> None:
    lines = PYPROJECT["project"]["dependencies"]
    assert not [line for line in lines if line.startswith("torchvision")]
