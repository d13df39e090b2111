"""Talks to a server of tokens: pictures to codes and back, from Python.

`Client` and `AsyncClient` have the same methods. What they do is written once, in
`vqtok.serve.client.core`, as coroutines; `Client` has an event loop in a thread to run them in.
Neither needs torch, nor what a server needs.
"""

from __future__ import annotations

from vqtok.extras import require

for _module in ("httpx", "orjson"):
    require(_module, "vqtok[serve]", "vqtok.serve.Client works")

from vqtok.serve.client.asynchronous import AsyncClient  # noqa: E402
from vqtok.serve.client.sync import Client  # noqa: E402
from vqtok.serve.wire import Latents  # noqa: E402

__all__ = ["AsyncClient", "Client", "Latents"]
