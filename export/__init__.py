"""Tokenizers as ONNX graphs that keep their ids, and what runs them.

The folder stands at the top of the repository and installs as `vqtok.export`. What is in `__all__`
is loaded when it is first asked for; `vqtok.export.runtime` needs neither torch nor onnx.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vqtok.export.api import export
    from vqtok.export.report import Report

if __name__ == "export":
    raise ImportError("import vqtok.export, not export (docs/adr/0001-layout.md says why)")

__all__ = ["Report", "export"]

_HOMES = {"Report": "vqtok.export.report", "export": "vqtok.export.api"}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
