"""Requests to one server, and what comes back."""

from __future__ import annotations

import asyncio
import os
import ssl
from collections.abc import Mapping
from typing import NamedTuple

import httpx

from vqtok.errors import ConfigError
from vqtok.serve.client.address import Address

__all__ = ["Connection", "NoConnection", "Reply", "Request", "Unreachable"]

CONNECT = 10.0  # seconds to reach a server that may not exist
ENVIRONMENT = "HTTP_PROXY, HTTPS_PROXY, ALL_PROXY, SSL_CERT_FILE and SSL_CERT_DIR"


class Request(NamedTuple):
    """One HTTP request; `path` begins with a slash."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes = b""


class Reply(NamedTuple):
    """What came back; names of `headers` are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


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
        """One request and its whole reply, or `Unreachable` after so many seconds."""
        try:
            async with asyncio.timeout(seconds):
                reply = await self._http.request(
                    request.method,
                    self._url + request.path,
                    headers=request.headers,
                    content=request.body,
                    timeout=httpx.Timeout(None, connect=CONNECT),
                )
        except TimeoutError:
            raise Unreachable("no answer in time") from None
        except httpx.RequestError as error:
            raise _unreachable(error) from error
        return Reply(reply.status_code, reply.headers, reply.content)

    async def close(self) -> None:
        """Closes those of this process."""
        found = self._of_process.get(os.getpid())
        if found is not None:
            await found.aclose()


def _unreachable(error: httpx.RequestError) -> Unreachable:
    """What went wrong, in words; some of httpx's errors have none of their own."""
    if isinstance(error, httpx.ConnectTimeout):
        return NoConnection("no connection in time")
    found: BaseException = error
    while isinstance(error, httpx.ConnectError) and found.__cause__ is not None:
        found = found.__cause__
        if isinstance(found, BaseExceptionGroup):
            found = found.exceptions[0]
    # A certificate that is not trusted will not be with time.
    passes = isinstance(error, httpx.ConnectError) and not isinstance(found, ssl.SSLError)
    return (NoConnection if passes else Unreachable)(str(found) or type(found).__name__)
