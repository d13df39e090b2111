"""Tokenizers behind HTTP: a server that batches on a device, and its client.

The folder stands at the top of the repository and installs as `vqtok.serve`. What is in `__all__`
is loaded when it is first asked for; a client needs nothing of what a server needs.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vqtok.serve.client import AsyncClient, Client
    from vqtok.serve.http import make_app
    from vqtok.serve.local import Local
    from vqtok.serve.main import run
    from vqtok.serve.settings import ServeSettings

if __name__ == "serve":
    raise ImportError("import vqtok.serve, not serve (docs/adr/0001-layout.md says why)")

__all__ = ["AsyncClient", "Client", "Local", "ServeSettings", "make_app", "run"]

_HOMES = {
    "AsyncClient": "vqtok.serve.client",
    "Client": "vqtok.serve.client",
    "Local": "vqtok.serve.local",
    "ServeSettings": "vqtok.serve.settings",
    "make_app": "vqtok.serve.http",
    "run": "vqtok.serve.main",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
