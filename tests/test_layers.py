"""Imports point down, and siblings don't meet."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

# A module may import what stands above its own row here, and its own package.
ROWS = """
errors
registry contents types precision pictures sheets zoo frames layouts extras files truncation
bicubic verdicts
search estimators vocab resize sequences strides videos
quantizers architectures metrics geometry readers movies traits config_file
autoencoders preprocess streams
prints
checkpoints fingerprint probe hub attach card batches token_ids sources
codec folders clips
conversions clip_codec grid_codes
obtain
backends
tokenizer
hf wanted
evaluation
offline training serve export
commands
cli demo
__main__
"""
LEVEL = {name: row for row, names in enumerate(ROWS.split("\n")) for name in names.split()}
LINKED = ("training", "serve", "export")
# Each belongs to one of the linked folders, or comes through diffusers.
FOREIGN = {"accelerate", "litserve", "onnx", "onnxruntime", "ray"}


def sources(root: Path) -> Iterator[tuple[str, Path]]:
    """(the name below vqtok that a file belongs to, the file), links left out."""
    for path in sorted((root / "vqtok").iterdir()):
        if path.suffix == ".py":
            yield path.stem, path
        elif path.is_dir() and not path.is_symlink() and path.name not in LINKED:
            yield from ((path.name, inner) for inner in sorted(path.rglob("*.py")))
    for name in LINKED:
        for inner in sorted((root / name).rglob("*.py")):
            # `python -m` of a folder is one of its verbs under another name.
            yield "cli" if inner.name == "__main__.py" else name, inner


def is_type_checking(node: ast.AST) -> bool:
    names = ("TYPE_CHECKING", "typing.TYPE_CHECKING")
    return isinstance(node, ast.If) and ast.unparse(node.test) in names


def nodes(tree: ast.AST) -> Iterator[ast.AST]:
    """Everything in a module but what only type checkers see."""
    for child in ast.iter_child_nodes(tree):
        if is_type_checking(child):
            for other in child.orelse:  # type: ignore[attr-defined]
                yield from (other, *nodes(other))
        else:
            yield from (child, *nodes(child))


def imports(path: Path) -> Iterator[str]:
    """The dotted names that a file imports; `from vqtok import x` counts as vqtok.x."""
    for node in nodes(ast.parse(path.read_text(encoding="utf-8"))):
        match node:
            case ast.Import():
                yield from (alias.name for alias in node.names)
            case ast.ImportFrom(module=str(module), level=0):
                yield from (f"{module}.{alias.name}" for alias in node.names)
            case ast.ImportFrom():
                yield "."
            case ast.Call(func=function, args=[ast.Constant(value=str(module)), *_]):
                if ast.unparse(function).endswith("import_module"):
                    yield module


def fault(name: str, target: str) -> str | None:
    """What is wrong with `name` importing the dotted `target`, or None."""
    library, _, rest = target.partition(".")
    inner = rest.partition(".")[0]
    if target == ".":
        return "imports relatively"
    if library in FOREIGN and name not in LINKED:
        return f"imports {library}"
    if library in LINKED:
        return f"imports {library} instead of vqtok.{library}"
    if library != "vqtok" or inner in (name, "__version__"):
        return None
    if inner not in LEVEL:
        return f"imports {target}, which is no module with a row"
    if name == "__init__":
        return None if target.startswith("vqtok.hf.register") else f"imports vqtok.{inner}"
    return None if LEVEL[inner] < LEVEL[name] else f"imports vqtok.{inner}"


def faults(root: Path) -> list[str]:
    found = []
    for name, path in sources(root):
        where = path.relative_to(root).as_posix()
        if name != "__init__" and name not in LEVEL:
            found.append(f"{where} has no row in tests/test_layers.py")
            continue
        wrong = (fault(name, target) for target in imports(path))
        found += [f"{where} {what}" for what in wrong if what]
    return found


def test_imports_point_down() -> None:
    wrong = faults(ROOT)
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize(
    ("file", "text", "expected"),
    [
        ("vqtok/search.py", "from vqtok.errors import InputError", []),
        ("vqtok/search.py", "import torch", []),
        ("vqtok/cli.py", "def f():\n    from vqtok.training import loop", []),
        ("training/loop.py", "import accelerate\nfrom vqtok.training import step", []),
        ("vqtok/search.py", "if TYPE_CHECKING:\n    from vqtok.cli import main", []),
        ("vqtok/__init__.py", "import vqtok.hf.register", []),
        ("vqtok/hub.py", "from vqtok import __version__", []),
        ("vqtok/search.py", "from vqtok.cli import main", ["imports vqtok.cli"]),
        ("vqtok/search.py", "from vqtok import cli", ["imports vqtok.cli"]),
        ("vqtok/search.py", "import vqtok.cli as c", ["imports vqtok.cli"]),
        ("vqtok/search.py", "def f():\n    import vqtok.cli", ["imports vqtok.cli"]),
        ("vqtok/search.py", "import_module('vqtok.cli')", ["imports vqtok.cli"]),
        ("vqtok/search.py", "from vqtok.vocab import x", ["imports vqtok.vocab"]),
        ("vqtok/quantizers/a.py", "from vqtok.metrics import x", ["imports vqtok.metrics"]),
        ("training/loop.py", "from vqtok.serve import api", ["imports vqtok.serve"]),
        ("training/loop.py", "import serve", ["imports serve instead of vqtok.serve"]),
        ("vqtok/search.py", "import ray", ["imports ray"]),
        ("vqtok/search.py", "from . import cli", ["imports relatively"]),
        ("vqtok/__init__.py", "import vqtok.search", ["imports vqtok.search"]),
        ("vqtok/search.py", "if not TYPE_CHECKING:\n    import ray", ["imports ray"]),
        ("vqtok/new.py", "", ["has no row in tests/test_layers.py"]),
        (
            "vqtok/hub.py",
            "from vqtok import VisualTokenizer",
            ["imports vqtok.VisualTokenizer, which is no module with a row"],
        ),
        (
            "vqtok/hub.py",
            "if TYPE_CHECKING:\n    pass\nelse:\n    import vqtok.cli",
            ["imports vqtok.cli"],
        ),
    ],
)
def test_the_check_itself(tmp_path: Path, file: str, text: str, expected: list[str]) -> None:
    for folder in ("vqtok", *LINKED):
        (tmp_path / folder).mkdir()
    (tmp_path / file).parent.mkdir(exist_ok=True)
    (tmp_path / file).write_text(text)
    assert faults(tmp_path) == [f"{file} {what}" for what in expected]


HELP = "import sys; sys.argv = ['vqtok', '--help']; from vqtok.cli import main\ntry: main()\n"


@pytest.mark.parametrize(
    "start", ["import vqtok", HELP + "except SystemExit as end: assert not end.code"]
)
def test_a_start_brings_nothing_heavy(start: str) -> None:
    heavy = "{'torch', 'diffusers', 'transformers'}"
    code = f"{start}\nimport sys; print('loaded:', sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stderr == ""
    assert done.stdout.splitlines()[-1] == "loaded: []"
