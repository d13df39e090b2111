"""Which medium an answer has, and how it is sent."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache

from vqtok.serve.http.exchange import PIECE, Exchange
from vqtok.serve.http.faults import Fault, Headers
from vqtok.serve.http.replies import encoded
from vqtok.serve.http.served import Shop
from vqtok.serve.http.threads import in_thread
from vqtok.serve.wire import Failure, Row, by_name, negotiate

__all__ = ["made", "medium_of", "send"]

SMALL = 1 << 16  # numbers that are written without a thread
AT_ONCE = ("application/octet-stream", "application/x-npy", "application/safetensors")


def medium_of(x: Exchange, offered: Sequence[str]) -> str:
    """What the client asks for in ?format= or Accept; a `Fault` where it cannot be had."""
    name = x.query.get("format")
    if name is not None:
        return by_name(name, offered)
    accept = x.headers.get("accept", "")
    found = _negotiated(accept, tuple(offered)) if len(accept) < 300 else negotiate(accept, offered)
    if found is None:
        raise Fault(
            "not_acceptable",
            f"this is answered as {', '.join(offered)}; Accept asks for {accept[:100]!r}",
        )
    return found


_negotiated = lru_cache(512)(negotiate)


async def made(
    shop: Shop,
    rows: Sequence[Row | Failure],
    media: str,
    write: Callable[[], tuple[bytes, dict[str, str]]],
) -> tuple[Headers, bytes]:
    """The body of an answer and its headers, in a thread where that takes long."""
    numbers = sum(part.size for row in rows if isinstance(row, Row) for part in row.parts.values())
    if numbers <= SMALL or media in AT_ONCE:
        body, headers = write()
    else:
        body, headers = await in_thread(shop.threads, write)
    return encoded(headers), body


async def send(x: Exchange, headers: Headers, body: bytes) -> None:
    """An answer of any length."""
    if len(body) <= PIECE:
        await x.answer(200, body, headers)
    else:
        x.hold(len(body))
        whole = memoryview(body)
        pieces = (whole[at : at + PIECE] for at in range(0, len(body), PIECE))
        await x.answer_pieces(200, len(body), pieces, headers)
