"""The server's HTTP side: an ASGI app over desks. No web framework is needed for it."""

from __future__ import annotations

from vqtok.serve.http.app import App, Desks, make_app

__all__ = ["App", "Desks", "make_app"]
