"""One request until there is an answer to it: retries, the deadline, and whose answer it is."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from typing import TypeVar

from vqtok.errors import MismatchError, ServiceError, plural
from vqtok.serve.client.answers import Refusal, refusal_of, service_error
from vqtok.serve.client.connection import (
    Connection,
    NoConnection,
    Reply,
    Request,
    Streamed,
    Unreachable,
)
from vqtok.serve.client.retries import AGAIN, LATE, PASSING, Attempts, Patience
from vqtok.serve.wire import Failure, WireError, parse_print
from vqtok.serve.wire.headers import FINGERPRINT

__all__ = ["Talk"]

R = TypeVar("R", Reply, Streamed | Reply)
POLL = 0.2  # seconds between two looks whether a server is ready
LOOK = 5.0  # seconds that one of them takes at most


class Talk:
    """A server, and the fingerprint of the tokenizer behind it."""

    def __init__(self, connection: Connection, patience: Patience) -> None:
        self.url = connection.url
        self.patience = patience
        self._connection = connection
        self._prints: dict[str, str] = {}

    async def exchange(
        self,
        request: Request,
        attempts: Attempts | None = None,
        spent: Callable[[], bool] = lambda: False,
    ) -> Reply:
        """The reply, once there is one that asking again would not change.

        spent  whether the body can't be sent again
        """
        attempts = attempts or self.patience.start()

        async def send() -> Reply:
            return await self._connection.send(request, self._seconds(request, attempts))

        return await self._answered(send, request, attempts, spent)

    async def stream(
        self, request: Request, attempts: Attempts, stack: AsyncExitStack
    ) -> Streamed | Reply:
        """The same of a reply that is read as it comes; see `Connection.stream`."""

        async def send() -> Streamed | Reply:
            await stack.aclose()  # the one before
            return await self._connection.stream(request, self._seconds(request, attempts), stack)

        return await self._answered(send, request, attempts, lambda: False)

    def _seconds(self, request: Request, attempts: Attempts) -> float:
        return self.patience.timeout if request.flows else attempts.left

    async def _answered(
        self,
        send: Callable[[], Awaitable[R]],
        request: Request,
        attempts: Attempts,
        spent: Callable[[], bool],
    ) -> R:
        while True:
            begin = self.patience.clock()
            try:
                reply = await send()
            except Unreachable as error:
                self._extend(request, attempts, begin)
                await self.again(error, attempts, spent)
                continue
            self._extend(request, attempts, begin)
            if reply.status not in AGAIN:
                self._check_print(reply)
                return reply
            pause = attempts.pause(reply.headers, failed=not _passes(reply))
            if pause is None or spent():
                if reply.status == LATE:
                    return reply  # which may be the fault of what it brings
                assert isinstance(reply, Reply)  # what is streamed is all right
                raise self.refused(refusal_of(reply), _tries(attempts))
            await self.patience.sleep(pause)

    def _extend(self, request: Request, attempts: Attempts, begin: float) -> None:
        """What flows may take its time; only waiting for it to begin may not."""
        if request.flows:
            attempts.deadline += self.patience.clock() - begin

    async def again(
        self, error: Unreachable, attempts: Attempts, spent: Callable[[], bool] = lambda: False
    ) -> None:
        """Returns when it is time to ask again; a `ServiceError` where it is not to be."""
        pause = attempts.pause({}, failed=not isinstance(error, NoConnection))
        if pause is None or spent():
            what = f"cannot be reached: {error}"
            raise ServiceError(f"{self.url} {what} {_tries(attempts)}") from error
        await self.patience.sleep(pause)

    def refused(self, refusal: Refusal, tries: str = "") -> ServiceError:
        """The exception for a request that is refused for what it is, not for what it brings."""
        status, code, message = refusal.failure
        said = f"{status} {code}".strip()
        return service_error(f"{self.url} answered {said}: {message} {tries}".rstrip(), refusal)

    def unreadable(self, error: WireError | str, reply: Reply) -> ServiceError:
        """The exception for an answer that makes no sense."""
        refusal = Refusal(Failure(reply.status, "", ""), reply.headers.get("x-request-id"))
        return service_error(f"{self.url} answered what cannot be read: {error}", refusal)

    def _check_print(self, reply: Reply | Streamed) -> None:
        """Raises where the tokenizer is not the one that it was at first."""
        text = reply.headers.get(FINGERPRINT)
        if text is None:
            return
        first = self._prints.setdefault("first", text)
        if text != first:
            raise MismatchError(
                f"the tokenizer at {self.url} changed: its fingerprint was {_shown(first)} and is "
                f"now {_shown(text)}; make a new client to go on with the new one"
            )

    async def wait_until_ready(self, seconds: float) -> None:
        """Returns once the server says that it is."""
        clock = self.patience.clock
        deadline = clock() + seconds
        while True:
            why = await self._look(max(min(LOOK, deadline - clock()), 0.1))
            if why is None:
                return
            if clock() + POLL > deadline:
                raise ServiceError(f"{self.url} was not ready within {seconds:g} s: {why}")
            await self.patience.sleep(POLL)

    async def _look(self, seconds: float) -> str | None:
        """Why the server is not ready."""
        try:
            reply = await self._connection.send(Request("GET", "/ready", {}), seconds)
        except Unreachable as error:
            return str(error)
        return None if reply.status == 200 else f"it answered {reply.status}"


def _tries(attempts: Attempts) -> str:
    return f"({plural(attempts.tries, 'attempt')})"


def _shown(text: str) -> str:
    """A fingerprint as people read it."""
    try:
        return str(parse_print(text))
    except WireError:
        return repr(text[:40])


def _passes(reply: Reply | Streamed) -> bool:
    return reply.status in PASSING and "retry-after" in reply.headers
