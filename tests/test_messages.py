"""Whatever a message names exists: options, commands, extras, variables, attributes, arguments."""

from __future__ import annotations

import ast
import builtins
import importlib
import re
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import pytest

ROOT = Path(__file__).resolve().parent.parent
OTHERS = ("diffusers", "numpy", "torch", "transformers", "vqtok")
CODE = re.compile(r"(?<!`)`([^`\n]+)`(?!`)")
DOTTED = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*")
PATTERNS = {
    "option": re.compile(r"(?<![\w-])--[a-z][a-z_-]*"),
    "extra": re.compile(r"(?<=\bvqtok\[)[^\]]+(?=\])"),
    "variable": re.compile(r"\bVQTOK_[A-Z0-9_]+"),
    "command": re.compile(r"(?:(?<=run vqtok )|(?<=use vqtok )|(?<=`vqtok ))[a-z][a-z-]*"),
    "member": re.compile(r"(?<![`\w])[A-Z]\w+(?:\.[a-z_]\w*)+"),
}
# Of other programs.
LAUNCHER = {"--data-binary", "--head", "--multi_gpu", "--nproc-per-node", "--sparse"}
ARGUMENT = re.compile(r"(?<![\w.\"'-])([a-z_][a-z0-9_]*)=(?!=)")


class Mention(NamedTuple):
    kind: str
    name: str


def trees() -> Iterator[ast.Module]:
    for folder in ("vqtok", "training", "serve", "export"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            if not any(parent.is_symlink() for parent in path.parents):
                yield ast.parse(path.read_text(encoding="utf-8"))


def docstrings(tree: ast.AST) -> set[ast.AST]:
    alone = (node for node in ast.walk(tree) if isinstance(node, ast.Expr))
    return {node.value for node in alone}


def texts(tree: ast.AST) -> Iterator[str]:
    """Every string of a piece of code but its docstrings, with … for what is filled in."""
    skip = docstrings(tree)
    for node in ast.walk(tree):
        match node:
            case ast.JoinedStr(values=parts):
                skip.update(parts)
                yield "".join(p.value if isinstance(p, ast.Constant) else "…" for p in parts)
            case ast.Constant(value=str(text)) if node not in skip:
                yield text


def complaints(tree: ast.AST) -> Iterator[str]:
    """The strings of errors and warnings alone."""
    for node in ast.walk(tree):
        warns = isinstance(node, ast.Call) and ast.unparse(node.func).endswith("warn")
        if isinstance(node, ast.Raise) or warns:
            yield from texts(node)


def mentions(tree: ast.AST) -> Iterator[Mention]:
    for text in texts(tree):
        for kind, pattern in PATTERNS.items():
            yield from (Mention(kind, name) for name in pattern.findall(text))
        for code in CODE.findall(text):
            name = code.partition("(")[0].partition("=")[0]
            if DOTTED.fullmatch(name):
                yield Mention("attribute", name)
    for text in complaints(tree):
        yield from (Mention("argument", name) for name in ARGUMENT.findall(text))


@cache
def commands() -> dict[str, set[str]]:
    """The verbs of the command line, and the options of each."""
    import typer

    from vqtok import cli

    (app,) = (value for value in vars(cli).values() if isinstance(value, typer.Typer))
    main = typer.main.get_command(app)
    return {
        name: {option for parameter in verb.params for option in parameter.opts}
        for name, verb in {"": main, **getattr(main, "commands", {})}.items()
    }


@cache
def names() -> tuple[set[str], set[str], dict[str, set[str]]]:
    """All names in the code, those that can stand before an `=` in a call, those of each class."""
    known, arguments, members = set(dir(builtins)), set(), {}
    for tree in trees():
        for node in ast.walk(tree):
            match node:
                case ast.ClassDef(name=name, body=body):
                    own = {n.attr for n in ast.walk(node) if isinstance(n, ast.Attribute)}
                    own |= {n.name for n in body if isinstance(n, ast.FunctionDef)}
                    own |= {
                        n.target.id
                        for n in body
                        if isinstance(n, ast.AnnAssign) and isinstance(n.target, ast.Name)
                    }
                    members[name] = own
                    known.add(name)
                    arguments |= own
                case ast.FunctionDef(name=name):
                    known.add(name)
                case ast.arg(arg=name) | ast.keyword(arg=str(name)):
                    arguments.add(name)
                case ast.Attribute(attr=name) | ast.Name(id=name):
                    known.add(name)
                case ast.Constant(value=str(name)) if name.isidentifier():
                    known.add(name)
    return known | arguments, arguments, members


@cache
def variables() -> set[str]:
    """Environment variables: strings that stand alone in the code, and settings of the server."""
    from vqtok.serve.settings import PREFIX, ServeSettings

    return {PREFIX + name.upper() for name in ServeSettings.model_fields} | {
        node.value
        for tree in trees()
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and str(node.value).startswith("VQTOK_")
    }


def resolves(dotted: str) -> bool:
    """Whether `package.module.attribute` can be imported."""
    first, *rest = dotted.split(".")
    value: Any = importlib.import_module(first)
    path = first
    for part in rest:
        path += f".{part}"
        if not hasattr(value, part):
            try:
                importlib.import_module(path)
            except ModuleNotFoundError:
                return False
        value = getattr(value, part)
    return True


def has_attribute(dotted: str) -> bool:
    known, _, members = names()
    first, *rest = dotted.split(".")
    if first in OTHERS:
        return resolves(dotted)
    if first in members and rest:
        import vqtok

        public = getattr(vqtok, first, None) if first in vqtok.__all__ else None
        return rest[0] in members[first] or hasattr(public, rest[0])
    return all(part in known for part in (first, *rest))


def exists(mention: Mention) -> bool:
    kind, name = mention
    match kind:
        case "option":
            return name in set().union(LAUNCHER, *commands().values())
        case "command":
            return name in commands()
        case "extra":
            project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
            return set(name.split(",")) <= set(project["project"]["optional-dependencies"])
        case "variable":
            return name in variables()
        case "argument":
            return name in names()[1]
        case "member":  # of a class of ours; README.md is none
            return name.partition(".")[0] not in names()[2] or has_attribute(name)
    return has_attribute(name)


def test_names_in_messages_exist() -> None:
    found = {mention for tree in trees() for mention in mentions(tree)}
    wrong = [f"{kind}: {name}" for kind, name in sorted(found) if not exists(Mention(kind, name))]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("raise E('see `vqtok.search.nearest` ')", []),
        ("raise E('see `vqtok.search.farthest`')", [("attribute", "vqtok.search.farthest")]),
        ("raise E(f'{x!r}: use Codes.grid, not Codes.gird')", [("member", "Codes.gird")]),
        ("raise E('`Codes.gird` is not in README.md')", [("attribute", "Codes.gird")]),
        ("raise E('call `nearset(x)`')", [("attribute", "nearset")]),
        ("raise E(f'pass --nonsense={x}')", [("option", "--nonsense")]),
        ("raise E(f'run vqtok encodify {x}')", [("command", "encodify")]),
        ("help = 'pip install vqtok[dev] or vqtok[deb]'", [("extra", "deb")]),
        ("x = f'set VQTOK_NOTHING to {x}'", [("variable", "VQTOK_NOTHING")]),
        ("raise E('dept=1 is not depth=1')", [("argument", "dept")]),
        ("x = 'p=0.5'", []),
        ("def f():\n    '''See `nowhere`.'''", []),
    ],
)
def test_the_check_itself(code: str, expected: list[tuple[str, str]]) -> None:
    assert [m for m in mentions(ast.parse(code)) if not exists(m)] == expected
