#!/usr/bin/env python3
"""Developer commands. Needs Python 3.11+ and nothing else: the first call sets up .venv.

python3 dev.py demo      encode and decode sample pictures with the tokenizer that is shipped
python3 dev.py test      run the tests (further arguments go to pytest)
python3 dev.py check     what CI runs: format, lint, types, the built wheel, tests
python3 dev.py fix       format the code and apply the safe lint fixes
python3 dev.py setup     only set up .venv

VQTOK_TORCH=torch==2.13.0 (any requirement that pip reads) chooses which torch goes into .venv.
"""

from __future__ import annotations  # so that an old Python gets as far as the message in main

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import venv
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent
VENV = ROOT / ".venv"
SCRIPTS = "Scripts" if os.name == "nt" else "bin"
BIN = VENV / SCRIPTS
LINKED = ("training", "serve", "export")
TORCH = os.environ.get("VQTOK_TORCH", "")
# Another implementation that tests compare with. Its own requirements would bring torchvision and
# pytorch-lightning, which the modules compared do not import.
ORACLE = "taming-transformers-rom1504==0.0.6"


def run(*command: str | Path, cwd: Path = ROOT) -> None:
    """Runs a command, shown; its failure ends this program with its exit status."""
    print("+", *command, flush=True)
    code = subprocess.call([str(part) for part in command], cwd=cwd)
    if code:
        sys.exit(code)


def install(*arguments: str | Path, into: Path = BIN / "python") -> None:
    """Pip's install. Not uv's: pip reads the machine's pip.conf (mirrors, proxies)."""
    pip: list[str | Path] = [BIN / "python", "-m", "pip", "--python", into]
    pip.append("--disable-pip-version-check")
    quiet = () if sys.stdout.isatty() else ("-q",)
    run(*pip, "install", *quiet, "-c", "constraints.txt", *arguments)


def setup(tools: bool = True) -> None:
    """Creates .venv and installs vqtok into it; again only where what it depends on changed."""
    stamp = VENV / ("stamp-tools" if tools else "stamp")
    wanted = state()
    if stamp.exists() and stamp.read_text() == wanted:
        return
    if not (BIN / "python").exists() and not (BIN / "python.exe").exists():
        create()
    install("-e", ".[dev]" if tools else ".", *filter(None, [TORCH]))
    if tools:
        install("--no-deps", ORACLE)
        (VENV / "stamp").write_text(wanted)
    stamp.write_text(wanted)


def state() -> str:
    """A print of all that decides what .venv holds."""
    # setuptools records where vqtok.training is only if no link already says so.
    links = [str((ROOT / "vqtok" / name).is_symlink()) for name in LINKED]
    files = [
        (ROOT / name).read_text(encoding="utf-8") for name in ("pyproject.toml", "constraints.txt")
    ]
    return hashlib.sha256("\n".join([*files, *links, ORACLE, TORCH]).encode()).hexdigest()


def create() -> None:
    """Makes an empty .venv."""
    if sys.platform == "linux" and not TORCH and not shutil.which("nvidia-smi"):
        print(
            "No NVIDIA driver here, and yet plain torch comes with CUDA: several GB. For a build "
            "without it, stop and set VQTOK_TORCH, for instance VQTOK_TORCH=torch==2.13.0+cpu with "
            "PIP_EXTRA_INDEX_URL naming PyTorch's index of CPU builds.",
            flush=True,
        )
    try:
        venv.create(VENV, with_pip=True, clear=True, symlinks=os.name != "nt")
    except (subprocess.CalledProcessError, SystemExit):
        shutil.rmtree(VENV, ignore_errors=True)
        sys.exit("this Python has no ensurepip; on Debian or Ubuntu: apt install python3-venv")


def demo(*arguments: str) -> None:
    run(BIN / "python", "-m", "vqtok.demo", *arguments)


def test(*arguments: str) -> None:
    run(BIN / "python", "-m", "pytest", "-m", "not slow", *arguments)


def check() -> None:
    run(BIN / "ruff", "format", "--check", ".")
    run(BIN / "ruff", "check", ".")
    run(BIN / "mypy")
    run(BIN / "mypy", "dev.py")
    with tempfile.TemporaryDirectory() as folder:
        wheel = build(Path(folder))
        compare(wheel)
        test_installed(wheel, Path(folder) / "elsewhere")
    test()


def build(folder: Path) -> Path:
    """Builds the sdist, and from it the wheel."""
    run(BIN / "python", "-m", "build", "--quiet", "--outdir", folder)
    (wheel,) = folder.glob("*.whl")
    return wheel


def compare(wheel: Path) -> None:
    """The wheel holds what git holds of the package: no less, no more."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", "--"]
    listing = subprocess.run([*command, "vqtok", *LINKED], cwd=ROOT, stdout=subprocess.PIPE)
    if listing.returncode:
        sys.exit("dev.py check compares the wheel with git's list of files: run it in a clone")
    names = [name for name in listing.stdout.decode().split("\0") if (ROOT / name).is_file()]
    links = {f"vqtok/{name}" for name in LINKED}  # on Windows they may be small text files
    wanted = {name if name.startswith("vqtok/") else f"vqtok/{name}" for name in names} - links
    held = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    if wanted != held:
        sys.exit(
            f"only in git: {sorted(wanted - held)}; only in the wheel: {sorted(held - wanted)}. "
            "pyproject.toml lists what is shipped, under [tool.setuptools]"
        )


def test_installed(wheel: Path, folder: Path) -> None:
    """Runs tests/test_installed.py on the wheel alone: clean venv, another directory."""
    clean = folder / "venv"
    venv.create(clean, symlinks=os.name != "nt")
    python = clean / SCRIPTS / "python"
    install("--no-deps", wheel, into=python)
    # Everything else is borrowed from .venv. A folder that is named by a .pth file has its own
    # .pth files ignored, among them the one by which .venv finds vqtok in this checkout.
    where = "import sysconfig; print(sysconfig.get_path('purelib'))"
    borrowed, own = (
        subprocess.check_output([str(program), "-c", where], text=True).strip()
        for program in (BIN / "python", python)
    )
    Path(own, "borrowed.pth").write_text(borrowed)
    for name in ("conftest.py", "test_installed.py"):
        shutil.copy(ROOT / "tests" / name, folder)
    run(python, "-c", f"import vqtok; assert vqtok.__file__.startswith({own!r}), vqtok", cwd=folder)
    run(python, "-m", "pytest", "-W", "error", "test_installed.py", cwd=folder)


def fix() -> None:
    run(BIN / "ruff", "check", "--fix", "--exit-zero", ".")
    run(BIN / "ruff", "format", ".")


def main(argv: list[str]) -> None:
    if sys.version_info < (3, 11):
        sys.exit(f"vqtok needs Python 3.11 or newer; this is {sys.version.split()[0]}")
    commands = {function.__name__: function for function in (demo, test, check, fix)}
    name, *arguments = argv or [""]
    if name == "setup":
        setup()
    elif name in commands:
        setup(tools=name != "demo")
        commands[name](*arguments)
    else:
        sys.exit(__doc__)


if __name__ == "__main__":
    main(sys.argv[1:])
