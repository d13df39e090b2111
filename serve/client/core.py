"""What a client does: requests made of what callers hand in, and results of the answers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, fields, replace
from functools import partial
from typing import Any, Literal, Self

import orjson

from vqtok.errors import CodesError, ConfigError, InputError, LoadError
from vqtok.sequences import OutputType, check_output_type
from vqtok.serve.client.address import address_of, headers_of, model_of
from vqtok.serve.client.answers import BLAMED, Refusal, exception_of, failures_of, refusal_of
from vqtok.serve.client.bodies import Body, Unread
from vqtok.serve.client.connection import Connection, Reply, Request
from vqtok.serve.client.flow import Flow
from vqtok.serve.client.frames import FrameFlow
from vqtok.serve.client.items import Item, as_item, pictures_of, token_item, tokens_of
from vqtok.serve.client.parts import FAILED, Call, Parts, Room
from vqtok.serve.client.requests import DECODE, Work, decoding, encoding, latents, reconstructing
from vqtok.serve.client.retries import AGAIN, LATE, Attempts, Patience
from vqtok.serve.client.talk import Talk
from vqtok.serve.facts import Facts
from vqtok.serve.wire import Failure, Limits, WireError
from vqtok.serve.wire.media import RAW
from vqtok.types import Codes

__all__ = ["Core", "OnError", "Options", "Served"]

SIZE = 16 << 20  # bytes at which a request is full, whatever the server would take
# Of a 413, what no smaller request helps against.
TOO_LARGE_ALONE = ("too_many_pixels", "too_many_frames")

OnError = Literal["raise", "return"]


@dataclass(frozen=True)
class Options:
    """How much a client does, checked.

    timeout      seconds for a request, with all that it is sent again
    retries      how often that is at most after failures; no connection, 429 and 503 are none
    concurrency  requests of one call that are under way at once
    per_request  pictures in one
    """

    timeout: float
    retries: int
    concurrency: int
    per_request: int

    def __post_init__(self) -> None:
        if isinstance(self.timeout, bool) or not 0 < self.timeout < float("inf"):
            raise ConfigError(f"timeout is a number of seconds above 0; got {self.timeout!r}")
        for name, least in (("retries", 0), ("concurrency", 1), ("per_request", 1)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise ConfigError(f"{name} is a whole number, at least {least}; got {value!r}")


@dataclass(frozen=True)
class Served:
    """A model as its server describes it."""

    facts: Facts
    limits: Limits


class Core:
    """One server, and what is remembered of it."""

    def __init__(self, url: str, model: str | None, api_key: str | None, options: Options) -> None:
        address = address_of(url)
        self.url = address.shown
        self.connection = Connection(address, headers_of(api_key))
        self._talk = Talk(self.connection, Patience(options.timeout, options.retries))
        self._options = options
        self._base = "/v1" if model is None else f"/v1/models/{model_of(model)}"
        self._about = "/v1/model" if model is None else self._base
        self._served: dict[str, Served] = {}
        self._call: Call = asyncio.to_thread

    def using(self, call: Call) -> Self:
        """The same, which reads pictures through `call`."""
        found = copy(self)
        found._call = call
        return found

    # --- what is asked ----------------------------------------------------------------------

    async def served(self) -> Served:
        """The model, asked for once."""
        if not self._served:
            reply = await self._talk.exchange(Request("GET", self._about, {}))
            if reply.status != 200:
                raise self._talk.refused(refusal_of(reply))
            self._served["served"] = self._read_served(reply)
        return self._served["served"]

    async def model(self) -> Facts:
        """What the server says of it."""
        return (await self.served()).facts

    async def wait_until_ready(self, seconds: float) -> None:
        """See `Client.wait_until_ready`."""
        await self._talk.wait_until_ready(seconds)

    async def encode(self, images: Any, on_error: OnError) -> Any:
        """See `Client.encode`."""
        return await self._of_pictures(encoding, images, on_error)

    async def encode_many(self, images: Any, on_error: OnError) -> Flow:
        """See `Client.encode_many`."""
        _check_on_error(on_error)
        served = await self.served()
        _, parts = await self._parts(images, served)
        return self._flow(encoding(served.facts, served.limits), parts, on_error)

    async def latents(self, images: Any, on_error: OnError) -> Any:
        """See `Client.latents`."""
        return await self._of_pictures(latents, images, on_error)

    async def reconstruct(self, images: Any, output_type: OutputType, on_error: OnError) -> Any:
        """See `Client.reconstruct`."""
        check_output_type(output_type)
        return await self._of_pictures(lambda *_: reconstructing(output_type), images, on_error)

    async def decode(self, codes: Any, output_type: OutputType, on_error: OnError) -> Any:
        """See `Client.decode`."""
        check_output_type(output_type)
        _check_on_error(on_error)
        served = await self.served()
        single, tokens = tokens_of(codes, served.facts)
        make = partial(token_item, facts=served.facts, single=single)
        parts = Parts(tokens, make, self._room(served))
        found = await self._flow(decoding(output_type), parts, on_error).all()
        return found[0] if single else found

    async def encode_clip(self, clip: Any) -> Codes:
        """See `Client.encode_clip`."""
        served = await self.served()
        _check_video(served.facts)
        work = encoding(served.facts, served.limits)
        source = iter([clip])
        make = partial(as_item, facts=served.facts, limits=served.limits, single=True)
        found = await self._flow(work, Parts(source, make, self._room(served)), "raise").all()
        codes: Codes = found[0]
        return codes

    async def decode_frames(self, codes: Any) -> FrameFlow:
        """See `Client.decode_frames`."""
        served = await self.served()
        _check_video(served.facts)
        single, tokens = tokens_of(codes, served.facts)
        if not single:
            raise CodesError("frames come of the codes of one clip; these are of several")
        item = token_item(next(tokens), 0, served.facts, single=True)
        work = decoding("np")
        body, headers = work.write([item])
        request = self._request(replace(work, accept=RAW), [item], body, headers)
        return FrameFlow(self._talk, request)

    # --- many at once -----------------------------------------------------------------------

    async def _of_pictures(
        self, work_of: Callable[[Facts, Limits], Work], images: Any, on_error: OnError
    ) -> Any:
        _check_on_error(on_error)
        served = await self.served()
        single, parts = await self._parts(images, served)
        work = work_of(served.facts, served.limits)
        found = await self._flow(work, parts, on_error).all()
        return found[0] if single else found

    async def _parts(self, images: Any, served: Served) -> tuple[bool, Parts]:
        single, sources = await self._call(partial(pictures_of, images, served.facts))
        make = partial(as_item, facts=served.facts, limits=served.limits, single=single)
        return single, Parts(sources, make, self._room(served))

    def _room(self, served: Served) -> Room:
        limits = served.limits
        count = min(self._options.per_request, limits.max_images)
        # What stands around files in a form takes some bytes, too.
        return Room(count, min(SIZE, limits.max_body - min(limits.max_body // 2, 1 << 16)))

    def _flow(self, work: Work, parts: Parts, on_error: OnError) -> Flow:
        most, raises = self._options.concurrency, on_error == "raise"
        done = partial(self._done, work, parts.room)
        return Flow(parts, done, self._call, most, raises=raises)

    async def _done(self, work: Work, room: Room, items: list[Item]) -> list[Any]:
        """A part -> for each item its result or exception; some are asked for again."""
        if items[0].kind == FAILED:
            return [item.data for item in items]
        attempts = self._talk.patience.start()
        found: dict[int, Any] = {}
        waiting = list(items)
        while waiting:
            outcomes = await self._asked(work, waiting, attempts, room)
            found.update((item.place, one) for item, one in zip(waiting, outcomes, strict=True))
            later = [item for item in waiting if _may_pass(found[item.place], item)]
            # A request that brought some of them further was no failure.
            pause = attempts.pause({}, failed=len(later) == len(waiting)) if later else None
            if pause is None:
                break
            await self._talk.patience.sleep(pause)
            waiting = later
        return [self._result(work, item, found[item.place]) for item in items]

    async def _asked(
        self, work: Work, items: list[Item], attempts: Attempts, room: Room
    ) -> list[Any]:
        """One request -> for each item its result or a `Refusal`.

        One that is refused whole is halved, until only what is to blame is left.
        """
        body, headers = work.write(items)
        request = self._request(work, items, body, headers)
        try:
            reply = await self._talk.exchange(request, attempts, partial(_spent, items))
        except Unread as error:
            return [error.error]
        if reply.status == 200:
            return self._read(work, reply, len(items))
        refusal = refusal_of(reply)
        each = failures_of(reply)
        if len(each) == len(items):
            return [Refusal(failure, refusal.request_id) for failure in each]
        if reply.status not in BLAMED | {409, 500, LATE}:
            raise self._talk.refused(refusal)
        if _befalls_all(refusal, items):
            return [refusal] * len(items)
        if reply.status == 413 and refusal.failure.code not in TOO_LARGE_ALONE:
            room.shrink(sum(item.size for item in items))
        half = len(items) // 2
        first = await self._asked(work, items[:half], attempts, room)
        return first + await self._asked(work, items[half:], attempts, room)

    def _request(
        self, work: Work, items: Sequence[Item], body: bytes | Body, headers: Mapping[str, str]
    ) -> Request:
        named = {**headers, "accept": work.accept}
        first = items[0]
        return Request(
            "POST",
            self._base + work.path,
            named,
            partial(body.pieces, self._call) if isinstance(body, Body) else bytes(body),
            flows=first.flows,
            waits=first.flows and work.path != DECODE,
        )

    # --- answers ----------------------------------------------------------------------------

    def _read(self, work: Work, reply: Reply, count: int) -> list[Any]:
        try:
            found = list(work.read(reply))
        except WireError as error:
            raise self._talk.unreadable(str(error), reply) from error
        if len(found) != count:
            raise self._talk.unreadable(f"{len(found)} results for {count}", reply)
        known = reply.headers.get("x-request-id")
        return [Refusal(one, known) if isinstance(one, Failure) else one for one in found]

    def _result(self, work: Work, item: Item, outcome: Any) -> Any:
        if isinstance(outcome, Refusal):
            return exception_of(outcome, item.name, self.url, work.fault)
        return outcome

    def _read_served(self, reply: Reply) -> Served:
        try:
            told = orjson.loads(reply.body)
            limits = told["limits"]
            known = {one.name: int(limits[one.name]) for one in fields(Limits)}
            return Served(Facts.from_dict(told), Limits(**known))
        except (orjson.JSONDecodeError, LoadError, ConfigError, KeyError, TypeError) as error:
            raise self._talk.unreadable(
                f"{self._about} does not describe a tokenizer: {error}", reply
            ) from error


def _may_pass(outcome: Any, item: Item) -> bool:
    passes = isinstance(outcome, Refusal) and outcome.failure.status in AGAIN
    return passes and not _spent([item])


def _spent(items: Sequence[Item]) -> bool:
    """Whether they can't be sent again."""
    return any(isinstance(item.data, Body) and item.data.spent for item in items)


def _befalls_all(refusal: Refusal, items: Sequence[Item]) -> bool:
    """Whether none of the items would fare better without the others."""
    status, code, _ = refusal.failure
    if len(items) == 1 or status not in BLAMED:
        return True
    shapes = {getattr(item.data, "shape", item.place) for item in items}
    return code in TOO_LARGE_ALONE and len(shapes) == 1


def _check_video(facts: Facts) -> None:
    if not facts.traits.is_video:
        raise InputError(f"{facts.name} takes pictures, not clips")


def _check_on_error(on_error: str) -> None:
    if on_error not in ("raise", "return"):
        raise InputError(f"on_error is 'raise' or 'return'; got {on_error!r}")
