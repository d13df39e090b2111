"""What a client does, as steps (`vqtok.serve.client.effects`), without threads or sockets."""

from __future__ import annotations

import os
import re
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from functools import partial
from typing import Any, Literal

import orjson

from vqtok.errors import ConfigError, InputError, LoadError, VqtokError
from vqtok.sequences import OutputType, check_output_type
from vqtok.serve.client.answers import BLAMED, Refusal, exception_of, failures_of, refusal_of
from vqtok.serve.client.effects import Give, Join, Reply, Request, Sleep, Spawn, Steps
from vqtok.serve.client.items import Item, as_item, pictures_of, token_item, tokens_of
from vqtok.serve.client.parts import FAILED, Parts, Room
from vqtok.serve.client.requests import Work, decoding, encoding, latents, reconstructing
from vqtok.serve.client.retries import AGAIN, FULL, LATE, Attempts, Patience
from vqtok.serve.client.talk import Talk
from vqtok.serve.facts import Facts
from vqtok.serve.wire import Failure, Limits, WireError

__all__ = ["KEY", "Core", "OnError", "Options", "Served", "headers_of"]

KEY = "VQTOK_API_KEY"
SIZE = 16 << 20  # bytes at which a request is full, whatever the server would take
# Of a 413, what no smaller request helps against.
TOO_LARGE_ALONE = ("too_many_pixels", "too_many_frames")
NONE_DONE = 503  # what it counts as when none of several pictures was done, but may be yet

OnError = Literal["raise", "return"]


def headers_of(api_key: str | None) -> dict[str, str]:
    """What every request carries; the key from the environment where none is given."""
    key = os.environ.get(KEY, "") if api_key is None else api_key
    headers = {"accept-encoding": "identity", "user-agent": "vqtok"}
    return headers | ({"authorization": f"Bearer {key}"} if key else {})


@dataclass(frozen=True)
class Options:
    """How much a client does, checked.

    timeout      seconds for a request, with all that it is sent again
    retries      how often that is at most; a server that is full is asked until the timeout
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

    def __init__(self, url: str, model: str | None, options: Options) -> None:
        self.url = _checked_url(url)
        self._talk = Talk(self.url, Patience(options.timeout, options.retries))
        self._options = options
        self._base = "/v1" if model is None else f"/v1/models/{_checked_model(model)}"
        self._about = "/v1/model" if model is None else self._base
        self._served: dict[str, Served] = {}

    # --- what is asked ----------------------------------------------------------------------

    def served(self) -> Steps[Served]:
        """The model, asked for once."""
        if not self._served:
            reply = yield from self._talk.exchange(Request("GET", self._about, {}))
            if reply.status != 200:
                raise self._talk.refused(refusal_of(reply))
            self._served["served"] = self._read_served(reply)
        return self._served["served"]

    def model(self) -> Steps[Facts]:
        """What the server says of it."""
        return (yield from self.served()).facts

    def wait_until_ready(self, seconds: float) -> Steps[None]:
        """See `Client.wait_until_ready`."""
        return self._talk.wait_until_ready(seconds)

    def encode(self, images: Any, on_error: OnError) -> Steps[Any]:
        """See `Client.encode`."""
        return self._of_pictures(encoding, images, on_error)

    def encode_many(self, images: Any, on_error: OnError) -> Steps[None]:
        """See `Client.encode_many`."""
        _check_on_error(on_error)
        served = yield from self.served()
        _, parts = self._parts(images, served)
        yield from self._in_order(encoding(served.facts, served.limits), parts, on_error)

    def latents(self, images: Any, on_error: OnError) -> Steps[Any]:
        """See `Client.latents`."""
        return self._of_pictures(latents, images, on_error)

    def reconstruct(self, images: Any, output_type: OutputType, on_error: OnError) -> Steps[Any]:
        """See `Client.reconstruct`."""
        check_output_type(output_type)
        return self._of_pictures(lambda *_: reconstructing(output_type), images, on_error)

    def decode(self, codes: Any, output_type: OutputType, on_error: OnError) -> Steps[Any]:
        """See `Client.decode`."""
        check_output_type(output_type)
        _check_on_error(on_error)
        served = yield from self.served()
        single, tokens = tokens_of(codes, served.facts)
        make = partial(token_item, facts=served.facts, single=single)
        parts = Parts(tokens, make, self._room(served))
        found: list[Any] = []
        yield from self._in_order(decoding(output_type), parts, on_error, found)
        return found[0] if single else found

    # --- many at once -----------------------------------------------------------------------

    def _of_pictures(
        self, work_of: Callable[[Facts, Limits], Work], images: Any, on_error: OnError
    ) -> Steps[Any]:
        _check_on_error(on_error)
        served = yield from self.served()
        single, parts = self._parts(images, served)
        found: list[Any] = []
        yield from self._in_order(work_of(served.facts, served.limits), parts, on_error, found)
        return found[0] if single else found

    def _parts(self, images: Any, served: Served) -> tuple[bool, Parts]:
        single, sources = pictures_of(images, served.facts)
        make = partial(as_item, facts=served.facts, limits=served.limits, single=single)
        return single, Parts(sources, make, self._room(served))

    def _room(self, served: Served) -> Room:
        limits = served.limits
        count = min(self._options.per_request, limits.max_images)
        # What stands around files in a form takes some bytes, too.
        return Room(count, min(SIZE, limits.max_body - min(limits.max_body // 2, 1 << 16)))

    def _in_order(
        self, work: Work, parts: Parts, on_error: OnError, found: list[Any] | None = None
    ) -> Steps[None]:
        """What becomes of each item goes to `found`, or is given to whoever iterates."""
        part = yield from parts.next()
        following = yield from parts.next()
        if not following:
            if part:
                outcomes = yield from self._done(work, part, parts.room)
                yield from _delivered(outcomes, on_error, found)
            return
        running: deque[Any] = deque()
        while part or running:
            if part:
                running.append((yield Spawn(self._done(work, part, parts.room))))
                part = following
            if not part or len(running) >= self._options.concurrency:
                outcomes = yield Join(running.popleft())
                yield from _delivered(outcomes, on_error, found)
            following = (yield from parts.next()) if part else []

    def _done(self, work: Work, items: Sequence[Item], room: Room) -> Steps[list[Any]]:
        """A part -> for each item its result or exception; some are asked for again."""
        if items[0].kind == FAILED:
            return [item.data for item in items]
        attempts = self._talk.patience.start()
        found: dict[int, Any] = {}
        waiting = list(items)
        while waiting:
            outcomes = yield from self._asked(work, waiting, attempts, room)
            found.update((item.place, one) for item, one in zip(waiting, outcomes, strict=True))
            later = [item for item in waiting if _may_pass(found[item.place])]
            # A request that brought some of them further was no failure.
            status = FULL if len(later) < len(waiting) else NONE_DONE
            pause = attempts.pause(status, {}) if later else None
            if pause is None:
                break
            yield Sleep(pause)
            waiting = later
        return [self._result(work, item, found[item.place]) for item in items]

    def _asked(
        self, work: Work, items: list[Item], attempts: Attempts, room: Room
    ) -> Steps[list[Any]]:
        """One request -> for each item its result or a `Refusal`.

        One that is refused whole is halved, until only what is to blame is left.
        """
        body, headers = work.write(items)
        request = Request(
            "POST", self._base + work.path, {**headers, "accept": work.accept}, bytes(body)
        )
        reply = yield from self._talk.exchange(request, attempts)
        if reply.status == 200:
            return self._read(work, reply, len(items))
        refusal = refusal_of(reply)
        each = failures_of(reply)
        if len(each) == len(items):
            return [Refusal(failure, refusal.request_id) for failure in each]
        if reply.status not in BLAMED | {409, 500, LATE}:
            raise self._talk.refused(refusal)
        if len(items) == 1 or reply.status not in BLAMED:
            return [refusal] * len(items)
        if reply.status == 413 and refusal.failure.code not in TOO_LARGE_ALONE:
            room.shrink(len(body))
        half = len(items) // 2
        first = yield from self._asked(work, items[:half], attempts, room)
        return first + (yield from self._asked(work, items[half:], attempts, room))

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


def _may_pass(outcome: Any) -> bool:
    return isinstance(outcome, Refusal) and outcome.failure.status in AGAIN


def _delivered(outcomes: list[Any], on_error: OnError, found: list[Any] | None) -> Steps[None]:
    if on_error == "raise":
        for outcome in outcomes:
            if isinstance(outcome, VqtokError):
                raise outcome
    if found is None:
        for outcome in outcomes:
            yield Give(outcome)
    else:
        found += outcomes


def _check_on_error(on_error: str) -> None:
    if on_error not in ("raise", "return"):
        raise InputError(f"on_error is 'raise' or 'return'; got {on_error!r}")


def _checked_url(url: str) -> str:
    if not isinstance(url, str) or not re.match(r"https?://[^/?#]+[^?#]*$", url):
        raise ConfigError(
            f"a server's address is such as http://127.0.0.1:8000, without what follows a ? or #; "
            f"got {url!r}"
        )
    return url.rstrip("/")


def _checked_model(model: str) -> str:
    if not isinstance(model, str) or not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", model):
        raise ConfigError(
            f"a model's name is letters, digits, '.', '_' and '-', as it stands in the server's "
            f"paths; got {model!r}"
        )
    return model
