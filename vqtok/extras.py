"""Packages that an extra, such as vqtok[video], brings."""

from __future__ import annotations

import importlib
from typing import Any

from vqtok.errors import MissingExtraError

__all__ = ["require"]


def require(module: str, extra: str, what: str) -> Any:
    """The module; or an error that begins with `what`, such as "'a.mp4' is read"."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise MissingExtraError(
            f"{what} with {module}, which is not installed: pip install '{extra}'"
        ) from error
