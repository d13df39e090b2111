"""The client for event loops."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import httpx

from vqtok.errors import ServiceError
from vqtok.sequences import OutputType
from vqtok.serve.client.core import Core, OnError, Options, headers_of
from vqtok.serve.client.effects import (
    END,
    Call,
    Effect,
    Give,
    Join,
    Pull,
    Reply,
    Send,
    Sleep,
    Spawn,
    Steps,
    Unreachable,
    advance,
)
from vqtok.serve.client.lanes import reason, timeouts

if TYPE_CHECKING:
    from vqtok.serve.facts import Facts

__all__ = ["AsyncClient"]


class AsyncClient:
    """`Client` for asyncio: the same arguments, methods and results; see there.

    It belongs to the loop that it is first used in. Also takes asynchronous iterables of pictures.
    """

    def __init__(
        self,
        url: str,
        *,
        model: str | None = None,
        api_key: str | None = None,
        timeout: float = 60.0,
        retries: int = 4,
        concurrency: int = 4,
        per_request: int = 32,
    ) -> None:
        self._core = Core(url, model, Options(timeout, retries, concurrency, per_request))
        self._http = httpx.AsyncClient(
            headers=headers_of(api_key),
            verify=self._core.url.startswith("https:"),
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=concurrency),
        )
        self._closed = False

    # --- pictures and codes -----------------------------------------------------------------

    async def encode(self, images: Any, *, on_error: OnError = "raise") -> Any:
        """See `Client.encode`."""
        return await self._run(self._core.encode(images, on_error))

    def encode_many(self, images: Any, *, on_error: OnError = "raise") -> AsyncIterator[Any]:
        """See `Client.encode_many`."""
        return self._iterate(self._core.encode_many(images, on_error))

    async def decode(
        self, codes: Any, *, output_type: OutputType = "pil", on_error: OnError = "raise"
    ) -> Any:
        """See `Client.decode`."""
        return await self._run(self._core.decode(codes, output_type, on_error))

    async def reconstruct(
        self, images: Any, *, output_type: OutputType = "pil", on_error: OnError = "raise"
    ) -> Any:
        """See `Client.reconstruct`."""
        return await self._run(self._core.reconstruct(images, output_type, on_error))

    async def latents(self, images: Any, *, on_error: OnError = "raise") -> Any:
        """See `Client.latents`."""
        return await self._run(self._core.latents(images, on_error))

    # --- the server -------------------------------------------------------------------------

    async def model(self) -> Facts:
        """See `Client.model`."""
        facts: Facts = await self._run(self._core.model())
        return facts

    async def wait_until_ready(self, seconds: float = 60.0) -> None:
        """See `Client.wait_until_ready`."""
        await self._run(self._core.wait_until_ready(seconds))

    async def aclose(self) -> None:
        """Closes the connections; the client is of no use afterwards."""
        self._closed = True
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.aclose()

    def __repr__(self) -> str:
        return f"AsyncClient({self._core.url!r})"

    # --- inside -----------------------------------------------------------------------------

    async def _run(self, steps: Steps[Any]) -> Any:
        """What steps that give nothing return."""
        self._check_open()
        tasks: set[asyncio.Task[Any]] = set()
        try:
            return await self._finish(steps, tasks)
        finally:
            await _end(tasks)

    async def _finish(self, steps: Steps[Any], tasks: set[asyncio.Task[Any]]) -> Any:
        reply: Any = None
        error: Exception | None = None
        while True:
            try:
                effect = advance(steps, reply, error)
            except StopIteration as end:
                return end.value
            reply, error = await self._outcome(effect, tasks)

    async def _iterate(self, steps: Steps[None]) -> AsyncIterator[Any]:
        self._check_open()
        tasks: set[asyncio.Task[Any]] = set()
        reply: Any = None
        error: Exception | None = None
        try:
            while True:
                try:
                    effect = advance(steps, reply, error)
                except StopIteration:
                    return
                reply = error = None
                if isinstance(effect, Give):
                    yield effect.value
                else:
                    reply, error = await self._outcome(effect, tasks)
        finally:
            await _end(tasks)

    async def _outcome(
        self, effect: Effect, tasks: set[asyncio.Task[Any]]
    ) -> tuple[Any, Exception | None]:
        try:
            return await self._perform(effect, tasks), None
        except Exception as error:
            return None, error

    async def _perform(self, effect: Effect, tasks: set[asyncio.Task[Any]]) -> Any:
        match effect:
            case Send():
                return await self._send(effect)
            case Call(function):
                return await asyncio.to_thread(function)
            case Pull(items):
                if hasattr(items, "__anext__"):
                    return await anext(items, END)
                return next(items, END)
            case Spawn(steps):
                task = asyncio.create_task(self._finish(steps, tasks))
                tasks.add(task)
                return task
            case Join(task):
                found = await task
                tasks.discard(task)
                return found
            case Sleep(seconds):
                return await self._sleep(seconds)

    async def _sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    async def _send(self, effect: Send) -> Reply:
        request = effect.request
        try:
            reply = await self._http.request(
                request.method,
                self._core.url + request.path,
                headers=request.headers,
                content=request.body,
                timeout=timeouts(effect.seconds),
            )
        except httpx.TransportError as error:
            raise Unreachable(reason(error)) from error
        return Reply(reply.status_code, reply.headers, reply.content)

    def _check_open(self) -> None:
        if self._closed:
            raise ServiceError(f"this client of {self._core.url} is closed; make a new one")


async def _end(tasks: set[asyncio.Task[Any]]) -> None:
    """Of tasks that nobody waits for any more."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
