"""Which pages of other origins a browser lets call."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from vqtok.serve.http.exchange import Exchange
from vqtok.serve.http.faults import Headers

if TYPE_CHECKING:
    from vqtok.serve.http.routes import Route

__all__ = ["Cors"]

# What scripts may read of an answer beside its body and type.
EXPOSED = (
    b"etag, retry-after, server-timing, www-authenticate, x-request-id, x-vqtok-codebook, "
    b"x-vqtok-codebook-size, x-vqtok-dtype, x-vqtok-fingerprint, x-vqtok-scales, x-vqtok-shape, "
    b"x-vqtok-sizes, x-vqtok-status"
)
ASKED = (
    b"accept, authorization, content-type, if-none-match, x-api-key, x-request-id, "
    b"x-vqtok-codebook, x-vqtok-codebook-size, x-vqtok-dtype, x-vqtok-fingerprint, "
    b"x-vqtok-scales, x-vqtok-shape, x-vqtok-sizes, x-vqtok-status"
)
DAY = b"86400"


class Cors:
    """`origins` as settings have them; "*" is any. Requests without an Origin are left alone."""

    def __init__(self, origins: Sequence[str]) -> None:
        self._any = "*" in origins
        self._origins = frozenset(origin.rstrip("/") for origin in origins)

    def mark(self, x: Exchange) -> None:
        """Tells a browser that the answer to come is for its page, where it is."""
        if not self._origins:
            return
        x.common.append((b"vary", b"origin"))
        if self._allows(x):
            x.common += [
                (b"access-control-allow-origin", x.headers["origin"].encode("latin-1")),
                (b"access-control-expose-headers", EXPOSED),
            ]

    def preflight(self, x: Exchange, route: Route) -> Headers:
        """What a browser is told that asks before it sends."""
        if not self._allows(x):
            return ()
        return [
            (b"access-control-allow-methods", route.allow),
            (b"access-control-allow-headers", ASKED),
            (b"access-control-max-age", DAY),
        ]

    def _allows(self, x: Exchange) -> bool:
        origin = x.headers.get("origin")
        return origin is not None and (self._any or origin in self._origins)
