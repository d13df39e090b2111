"""Who may ask: those with the key, where there is one."""

from __future__ import annotations

import hmac
from collections.abc import Mapping

from vqtok.serve.http.faults import Fault

__all__ = ["check_key"]

CHALLENGE = ((b"www-authenticate", b'Bearer realm="vqtok"'),)


def check_key(headers: Mapping[str, str], key: bytes) -> None:
    """Raises unless a request carries the key, as a bearer token or as X-API-Key."""
    kind, _, token = headers.get("authorization", "").partition(" ")
    given = token.strip() if kind.lower() == "bearer" else headers.get("x-api-key", "")
    if not hmac.compare_digest(given.encode("latin-1"), key):
        said = "is another one" if given else "is missing"
        raise Fault(
            "unauthorized",
            f"the key {said}; send it as 'Authorization: Bearer KEY' or 'X-API-Key: KEY'",
            CHALLENGE,
        )
