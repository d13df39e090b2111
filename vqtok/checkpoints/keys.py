"""Renaming keys, and settings that only the user can tell."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from torch import Tensor

from vqtok.checkpoints.heed import look
from vqtok.errors import ConfigError, LoadError

__all__ = ["asked", "need", "renamed", "shape_of"]


def renamed(
    tensors: Mapping[str, Tensor], rules: Sequence[tuple[str, str]], origin: str
) -> dict[str, Tensor]:
    """Each key by the first of the rules, (pattern, replacement) as in `re.sub`, that fits it.

    A key that no rule matches is a `LoadError`: better than a model with a hole in it.
    """
    compiled = [(re.compile(pattern), replacement) for pattern, replacement in rules]
    found: dict[str, Tensor] = {}
    for key, tensor in tensors.items():
        match = next(((m, new) for p, new in compiled if (m := p.fullmatch(key))), None)
        if match is None:
            raise LoadError(f"{origin} holds {key!r}, which is no key of its family")
        found[match[0].expand(match[1])] = tensor
    return found


def need(tensors: Mapping[str, Tensor], keys: Iterable[str], origin: str) -> None:
    """Raises where one of `keys` is missing."""
    missing = [key for key in keys if key not in tensors]
    if missing:
        raise LoadError(
            f"{origin} lacks {missing[0]!r}"
            + (f" and {len(missing) - 1} more keys" if len(missing) > 1 else "")
        )


def shape_of(tensors: Mapping[str, Tensor], key: str, axes: int, origin: str) -> tuple[int, ...]:
    """The shape of `tensors[key]`; `LoadError` where it lacks, has other axes, or is empty.

    For whatever settings are read from: files may hold anything under the names of a family.
    """
    need(tensors, (key,), origin)
    shape = tuple(tensors[key].shape)
    if len(shape) != axes or 0 in shape:
        raise LoadError(
            f"{origin} holds {key!r} of shape {shape}; it has {axes} axes, each at least 1"
        )
    return shape


def asked(settings: Mapping[str, Any], name: str, what: str, origin: str) -> Any:
    """A setting that neither keys nor shapes tell: `what` says what it is, and what is usual."""
    if name not in settings:
        error = ConfigError(
            f"{origin} does not tell {name}, {what}: pass the YAML or JSON that it was trained "
            f"with as config, or {name} itself"
        )
        error.add_note(
            f"On the command line: --set {name}=VALUE; in Python: config={{{name!r}: VALUE}}. To "
            f"train from it, convert it first: vqtok convert FILE DIR --set {name}=VALUE"
        )
        raise error
    return look(settings, name)
