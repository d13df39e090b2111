"""The frames of a clip as its server makes them."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import numpy as np

from vqtok.errors import CodesError
from vqtok.pictures import Pixels
from vqtok.serve.client.answers import exception_of, refusal_of
from vqtok.serve.client.connection import Reply, Request, Streamed, Unreachable
from vqtok.serve.client.retries import Attempts
from vqtok.serve.client.talk import Talk
from vqtok.serve.wire import WireError
from vqtok.serve.wire.headers import SHAPE, needed, parse_dims

__all__ = ["FrameFlow"]


class FrameFlow:
    """One clip's frames, some at a time; taken as they are asked for.

    Where the connection breaks, all is asked for again, and what was given already is left out.
    """

    def __init__(self, talk: Talk, request: Request) -> None:
        self._talk, self._request = talk, request
        self._attempts: Attempts | None = None
        self._given = self._before = 0  # frames; those when the connection was made
        self._stack = AsyncExitStack()
        self._frames: AsyncIterator[list[Pixels]] | None = None
        self._ended = False

    async def next(self) -> list[Pixels]:
        """The next frames, (H, W, 3) uint8 each; [] after the last."""
        if self._attempts is None:
            self._attempts = self._talk.patience.start()
        while not self._ended:
            try:
                if self._frames is None:
                    self._frames = await self._begun(self._attempts)
                found = await anext(self._frames, None)
            except Unreachable as error:
                await self.close()
                if self._given > self._before:  # it does get on
                    self._attempts = self._talk.patience.start()
                await self._talk.again(error, self._attempts)
                continue
            if found is None:
                self._ended = True
                await self.close()
            elif found:
                self._given += len(found)
                return found
        return []

    async def _begun(self, attempts: Attempts) -> AsyncIterator[list[Pixels]]:
        self._before = self._given
        streamed = await self._talk.stream(self._request, attempts, self._stack)
        if isinstance(streamed, Reply):
            raise exception_of(refusal_of(streamed), "the clip", self._talk.url, CodesError)
        try:
            dims = parse_dims(needed(streamed.headers, SHAPE, "there is no shape"), SHAPE)
            if len(dims) not in (4, 5) or dims[-1] != 3:
                raise WireError("wrong_shape", f"{SHAPE} is {dims}")
        except WireError as error:
            reply = Reply(streamed.status, streamed.headers, b"")
            raise self._talk.unreadable(error, reply) from error
        return _left(_frames(streamed, dims[-3:]), self._given)

    def cancel(self) -> None:
        """Ends what nobody waits for any more, without waiting for that."""
        self._closing = asyncio.ensure_future(self.close())

    async def close(self) -> None:
        """Ends it, and returns when it has ended."""
        self._frames = None
        await self._stack.aclose()


async def _frames(streamed: Streamed, shape: tuple[int, ...]) -> AsyncIterator[list[Pixels]]:
    """As many as are there at a time."""
    step, held = math.prod(shape), bytearray()
    async for piece in streamed.pieces:
        held += piece
        count = len(held) // step
        if count:
            whole = np.frombuffer(bytes(held[: count * step]), np.uint8).copy()
            del held[: count * step]
            yield list(whole.reshape(count, *shape))


async def _left(frames: AsyncIterator[list[Pixels]], given: int) -> AsyncIterator[list[Pixels]]:
    """All but the first so many."""
    async for some in frames:
        left, given = some[given:], max(0, given - len(some))
        yield left
