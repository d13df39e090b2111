"""Requests to one server, and what comes back."""

from __future__ import annotations

import asyncio
import os
import ssl
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack
from typing import NamedTuple

import httpx

from vqtok.errors import ConfigError
from vqtok.serve.client.address import Address

__all__ = ["Connection", "NoConnection", "Reply", "Request", "Streamed", "Unreachable"]

CONNECT = 10.0  # seconds to reach a server that may not exist
WAIT = 3600.0  # seconds that a server may be at a clip without a word
ENVIRONMENT = "HTTP_PROXY, HTTPS_PROXY, ALL_PROXY, SSL_CERT_FILE and SSL_CERT_DIR"


class Request(NamedTuple):
    """One HTTP request; `path` begins with a slash.

    body   or what makes one, each time that it is sent
    flows  whether it may take any time as long as something moves, as that of a clip may
    waits  whether nothing may move for long, as until a server has encoded all of a clip
    """

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes | Callable[[], AsyncIterator[bytes]] = b""
    flows: bool = False
    waits: bool = False

    @property
    def content(self) -> bytes | AsyncIterator[bytes]:
        """What is sent now."""
        return self.body() if callable(self.body) else self.body

    def timeout(self, seconds: float) -> httpx.Timeout:
        """Seconds until something moves; of other requests the whole is timed."""
        if not self.flows:
            return httpx.Timeout(None, connect=CONNECT)
        read = max(seconds, WAIT) if self.waits else seconds
        return httpx.Timeout(seconds, connect=CONNECT, read=read, pool=None)


class Reply(NamedTuple):
    """What came back; names of `headers` are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Streamed(NamedTuple):
    """A reply that is all right, in pieces; where they break off, `Unreachable` says so."""

    status: int
    headers: Mapping[str, str]
    pieces: AsyncIterator[bytes]


class Unreachable(Exception):
    """No reply came; the text says why."""


class NoConnection(Unreachable):
    """There was not even a connection, as while a server starts."""


class Connection:
    """As many connections as there are requests at once; they are kept and used again.

    After a fork those of before are the parent's: they stay untouched, since two who read one get
    half an answer each and closing them would change what the parent's event loop watches.
    """

    def __init__(self, address: Address, headers: Mapping[bytes, bytes]) -> None:
        self.url = address.shown
        self._url = address.url
        self._headers = headers
        self._of_process = {os.getpid(): self._made()}

    def _made(self) -> httpx.AsyncClient:
        try:
            return httpx.AsyncClient(
                headers=self._headers,
                verify=self._url.startswith("https:"),  # to load certificates takes long
                limits=httpx.Limits(max_connections=None, max_keepalive_connections=None),
            )
        except (httpx.InvalidURL, ImportError, OSError, ValueError) as error:
            raise ConfigError(
                f"no connection to {self.url} can be made as this environment has it "
                f"({ENVIRONMENT} are read): {error}"
            ) from error

    @property
    def _http(self) -> httpx.AsyncClient:
        pid = os.getpid()
        if pid not in self._of_process:
            self._of_process[pid] = self._made()
        return self._of_process[pid]

    async def send(self, request: Request, seconds: float) -> Reply:
        """One request and its whole reply, or `Unreachable` after so many seconds.

        Where it flows, these are seconds without anything that moves.
        """
        try:
            async with asyncio.timeout(None if request.flows else seconds):
                reply = await self._http.send(self._built(request, seconds))
        except TimeoutError:
            raise Unreachable("no answer in time") from None
        except httpx.RequestError as error:
            raise _unreachable(error) from error
        return Reply(reply.status_code, reply.headers, reply.content)

    async def stream(
        self, request: Request, seconds: float, stack: AsyncExitStack
    ) -> Streamed | Reply:
        """The same of a reply that is read as it comes, where it is a good one.

        stack  ends it
        """
        try:
            reply = await self._http.send(self._built(request, seconds), stream=True)
            stack.push_async_callback(reply.aclose)
            if reply.status_code == 200:
                return Streamed(200, reply.headers, _pieces(reply))
            return Reply(reply.status_code, reply.headers, await reply.aread())
        except httpx.RequestError as error:
            raise _unreachable(error) from error

    def _built(self, request: Request, seconds: float) -> httpx.Request:
        return self._http.build_request(
            request.method,
            self._url + request.path,
            headers=request.headers,
            content=request.content,
            timeout=request.timeout(seconds),
        )

    async def close(self) -> None:
        """Closes those of this process."""
        found = self._of_process.get(os.getpid())
        if found is not None:
            await found.aclose()


async def _pieces(reply: httpx.Response) -> AsyncIterator[bytes]:
    try:
        async for piece in reply.aiter_bytes():
            yield piece
    except httpx.RequestError as error:
        raise _unreachable(error) from error


def _unreachable(error: httpx.RequestError) -> Unreachable:
    """What went wrong, in words; some of httpx's errors have none of their own."""
    if isinstance(error, httpx.ConnectTimeout):
        return NoConnection("no connection in time")
    if isinstance(error, httpx.TimeoutException):
        return Unreachable("nothing came in time")
    found: BaseException = error
    while isinstance(error, httpx.ConnectError) and found.__cause__ is not None:
        found = found.__cause__
        if isinstance(found, BaseExceptionGroup):
            found = found.exceptions[0]
    # A certificate that is not trusted will not be with time.
    passes = isinstance(error, httpx.ConnectError) and not isinstance(found, ssl.SSLError)
    return (NoConnection if passes else Unreachable)(str(found) or type(found).__name__)
