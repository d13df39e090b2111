"""Which medium an answer has, and how it is sent."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache

from vqtok.errors import did_you_mean
from vqtok.movies import FPS, is_rate
from vqtok.serve.http.exchange import PIECE, Exchange
from vqtok.serve.http.faults import Fault, Headers
from vqtok.serve.http.replies import encoded
from vqtok.serve.http.served import Shop
from vqtok.serve.http.threads import in_thread
from vqtok.serve.wire import Failure, Row, WireError, by_name, negotiate, offered_pictures
from vqtok.serve.wire.files import MOVIES

__all__ = [
    "check_pictures",
    "check_query",
    "made",
    "medium_of",
    "pictures_medium",
    "rate_of",
    "send",
]

SMALL = 1 << 16  # numbers that are written without a thread
SLOWEST, FASTEST = 1, 240  # frames a second of films
AT_ONCE = ("application/octet-stream", "application/x-npy", "application/safetensors")


def check_query(x: Exchange, *known: str) -> None:
    """Raises where a parameter is none of these, or is there twice."""
    if not x.scope.get("query_string"):
        return
    names = [name for name, _ in x.parameters]
    for name in names:
        if name not in known:
            hint = did_you_mean(name[:60], known)
            raise Fault("bad_request", f"there is no parameter called {name[:60]!r}. {hint}")
        if names.count(name) > 1:
            raise Fault("bad_request", f"{name} is there {names.count(name)} times; give it once")


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


def check_pictures(x: Exchange, *, video: bool) -> float:
    """Raises where no number of pictures can be had in what is asked for; the rate of films."""
    offered = (*offered_pictures(1, video=video), *offered_pictures(2, video=video))
    return rate_of(x, medium_of(x, offered))


def pictures_medium(x: Exchange, count: int, *, video: bool) -> str:
    """The same, of so many pictures; says so where they are too many for a medium of one."""
    try:
        return medium_of(x, offered_pictures(count, video=video))
    except (Fault, WireError):
        if count == 1:
            raise
        one = medium_of(x, offered_pictures(1, video=video))  # or that it can't be had anyway
        several = ", ".join(offered_pictures(count, video=video))
        raise Fault(
            "not_acceptable",
            f"{one} holds one picture, and these are {count}: ask for {several}, or send them one "
            "by one",
        ) from None


def rate_of(x: Exchange, media: str) -> float:
    """Frames a second of a film that is answered: ?fps=, which nothing else has, or the usual."""
    text = x.query.get("fps")
    if text is None:
        return FPS
    try:
        fps = float(text)
    except ValueError:
        fps = 0.0
    if not is_rate(fps) or not SLOWEST <= fps <= FASTEST:
        raise Fault(
            "bad_request",
            f"fps is a number of frames a second, {SLOWEST} to {FASTEST}; got {text[:60]!r}",
        )
    if media not in MOVIES:
        raise Fault(
            "bad_request",
            f"fps is for films ({', '.join(MOVIES)}), and this is answered as {media}; ask for one "
            "in Accept or format, or leave fps out",
        )
    return fps


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
        x.hold(len(body), of_answer=True)
        whole = memoryview(body)
        pieces = (whole[at : at + PIECE] for at in range(0, len(body), PIECE))
        await x.answer_pieces(200, len(body), pieces, headers)
