"""Connections of the client in threads: each can be ended from another thread."""

from __future__ import annotations

import contextlib
import os
import socket
import ssl
from collections import deque
from collections.abc import Iterator, Mapping
from typing import Any

import httpx

from vqtok.serve.client.effects import Reply, Request, Unreachable

__all__ = ["Lane", "Lanes", "reason", "timeouts"]

CONNECT = 10.0  # seconds to reach a server that may not exist


def timeouts(seconds: float) -> httpx.Timeout:
    """For one attempt that has so long."""
    return httpx.Timeout(max(seconds, 0.001), connect=max(min(seconds, CONNECT), 0.001))


def reason(error: httpx.TransportError) -> str:
    """What went wrong, in words; some of httpx's errors have none of their own."""
    if isinstance(error, httpx.ConnectTimeout):
        return "no connection in time"
    if isinstance(error, httpx.TimeoutException):
        return "no answer in time"
    return str(error) or type(error).__name__


class Lane:
    """One connection, kept open from request to request, used by one thread at a time."""

    def __init__(self, url: str, headers: Mapping[str, str], verify: ssl.SSLContext | bool) -> None:
        self._url = url
        self._sockets: list[socket.socket] = []
        self._ended = False
        self._http = httpx.Client(
            headers=headers, verify=verify, limits=httpx.Limits(max_connections=1)
        )

    def send(self, request: Request, seconds: float) -> Reply:
        """One request and its reply."""
        try:
            reply = self._http.request(
                request.method,
                self._url + request.path,
                headers=request.headers,
                content=request.body,
                timeout=timeouts(seconds),
                extensions={"trace": self._trace},
            )
        except httpx.TransportError as error:
            raise Unreachable(reason(error)) from error
        return Reply(reply.status_code, reply.headers, reply.content)

    def _trace(self, event: str, info: Mapping[str, Any]) -> None:
        """Remembers the socket as soon as there is one: closing it would not wake who reads it."""
        if event in ("connection.connect_tcp.complete", "connection.start_tls.complete"):
            self._sockets = [info["return_value"].get_extra_info("socket")]
            if self._ended:
                self.end()

    def end(self) -> None:
        """Ends the request under way, if there is one; from any thread."""
        self._ended = True
        for each in self._sockets:
            with contextlib.suppress(OSError, ValueError):
                each.shutdown(socket.SHUT_RDWR)

    @property
    def ended(self) -> bool:
        """Whether it is of no further use."""
        return self._ended

    def close(self) -> None:
        """Gives back what it holds."""
        self._http.close()


class Lanes:
    """Lanes to one server, as many as are in use at once; those that are idle are kept."""

    def __init__(self, url: str, headers: Mapping[str, str]) -> None:
        self._url = url
        self._headers = headers
        self._verify: ssl.SSLContext | bool = False
        if url.startswith("https:"):
            self._verify = httpx.create_ssl_context()  # takes long, so once for all lanes
        self._idle: deque[Lane] = deque()  # its methods need no lock, which a fork could copy held
        self._process = os.getpid()
        self._closed = False

    @contextlib.contextmanager
    def lane(self) -> Iterator[Lane]:
        """One for the caller alone."""
        self._leave_parent()
        try:
            lane = self._idle.pop()
        except IndexError:
            lane = Lane(self._url, self._headers, self._verify)
        try:
            yield lane
        except BaseException:
            lane.close()
            raise
        if lane.ended or self._closed:
            lane.close()
        else:
            self._idle.append(lane)

    def _leave_parent(self) -> None:
        """After a fork, the connections are the parent's; two who read one get half an answer."""
        if self._process != os.getpid():
            self._drop()
            self._process = os.getpid()

    def close(self) -> None:
        """Closes those that are idle; the others close when they are given back."""
        self._closed = True
        self._drop()

    def _drop(self) -> None:
        while self._idle:
            with contextlib.suppress(IndexError):
                self._idle.pop().close()
