"""YAML as people expect it: `off` and `no` are words, 1e-4 is a number, no key stands twice.

That is YAML 1.2's core schema; PyYAML alone reads 1.1, in which `dead_codes: off` is `false` and
1e-4 a word.
"""

from __future__ import annotations

import re
from typing import Any

import yaml

from vqtok.errors import ConfigError

__all__ = ["read_yaml", "write_yaml"]

# tag, what a plain word of that kind looks like, and the characters it begins with
SCHEMA = (
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("bool", r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    ("int", r"[-+]?[0-9]+", list("-+0123456789")),
    (
        "float",
        r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)"
        r"|\.(nan|NaN|NAN)",
        list("-+.0123456789"),
    ),
)


class _Loader(yaml.SafeLoader):
    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012 (PyYAML's own, as a dict)


class _Dumper(yaml.SafeDumper):
    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012

    def ignore_aliases(self, data: Any) -> bool:
        """Equal lists are written out, each in its place."""
        return True


def _map(loader: _Loader, node: yaml.MappingNode) -> dict[Any, Any]:
    """A map; PyYAML would let the last of two equal keys win."""
    found: dict[Any, Any] = {}
    for key_node, value_node in node.value:
        key = loader.construct_object(key_node, deep=True)
        if not isinstance(key, str):
            raise _problem(key_node, f"a setting's name is a word; got {key!r}")
        if key in found:
            raise _problem(key_node, f"{key!r} stands twice")
        found[key] = loader.construct_object(value_node, deep=True)
    return found


def _problem(node: yaml.Node, text: str) -> yaml.constructor.ConstructorError:
    return yaml.constructor.ConstructorError(None, None, text, node.start_mark)


for _tag, _pattern, _first in SCHEMA:
    for _kind in (_Loader, _Dumper):
        _kind.add_implicit_resolver(
            f"tag:yaml.org,2002:{_tag}", re.compile(f"(?:{_pattern})\\Z"), _first
        )
_Loader.add_constructor("tag:yaml.org,2002:map", _map)
# PyYAML takes 010 for eight.
_Loader.add_constructor("tag:yaml.org,2002:int", lambda loader, node: int(node.value))


def read_yaml(text: str, where: str) -> Any:
    """The value of one YAML document; `where` stands before a complaint."""
    try:
        return yaml.load(text, _Loader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        line = f", line {mark.line + 1}" if mark and "\n" in text.strip() else ""
        raise ConfigError(f"{where}{line}: {error.problem}") from None
    except yaml.YAMLError as error:
        raise ConfigError(f"{where}: {' '.join(str(error).split())}") from None


def write_yaml(value: Any) -> str:
    """What `read_yaml` reads back as `value`, in the order it has."""
    text: str = yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=100)
    return text
