"""Pictures and clips that come in: to be encoded, or decoded again at once."""

from __future__ import annotations

import math
import time
from functools import partial
from typing import TYPE_CHECKING

from vqtok.pictures import Pixels
from vqtok.serve.http.answers import (
    check_pictures,
    check_query,
    made,
    medium_of,
    pictures_medium,
    send,
)
from vqtok.serve.http.exchange import STALLED, Exchange
from vqtok.serve.http.faults import Fault, Headers
from vqtok.serve.http.films import answer_clip, begun, can_flow, open_headers, raw_clip, spooled
from vqtok.serve.http.frames import FILL, ReadFrames, wrong_length
from vqtok.serve.http.laying import as_it_is, check_area, lay, taken
from vqtok.serve.http.served import Served, Shop
from vqtok.serve.http.streams import Decoding, encoded, gathered, is_left
from vqtok.serve.http.threads import in_thread
from vqtok.serve.http.work import Work
from vqtok.serve.slab import Op
from vqtok.serve.wire import (
    CARRIERS,
    Failure,
    PictureReader,
    Row,
    Upload,
    picture_reader,
    write_pictures,
    write_tokens,
)

if TYPE_CHECKING:
    from vqtok.serve.desk import Ticket

__all__ = ["Encode", "Reconstruct", "take"]


class Encode:
    """Pictures -> codes, or codes and what they were before quantization."""

    def __init__(self, shop: Shop, served: Served) -> None:
        self.shop, self.served = shop, served

    async def __call__(self, x: Exchange) -> None:
        check_query(x, "output", "format")
        output = x.query.get("output", "codes")
        op = self._op(output)
        x.op = op.name.lower()
        media = medium_of(x, CARRIERS)
        await send(x, *await self._made(x, op, media, output))

    async def _made(self, x: Exchange, op: Op, media: str, output: str) -> tuple[Headers, bytes]:
        """The answer; what it was made of is no more when it is sent."""
        async with Work(x, self.shop, self.served) as work:
            rows = await take(x, work, op)
        write = partial(write_tokens, rows, self.served.head, media, main=output)
        return await made(self.shop, rows, media, write)

    def _op(self, output: str) -> Op:
        if output not in ("codes", "latents"):
            raise Fault("bad_request", f"output is codes or latents; got {output[:60]!r}")
        if output == "codes":
            return Op.ENCODE
        if self.served.facts.traits.latent_channels is None:
            raise Fault("cannot_be_done", f"{self.served.name} gives no latents, only codes")
        return Op.LATENTS


class Reconstruct:
    """Pictures -> the same, as their codes have them."""

    def __init__(self, shop: Shop, served: Served) -> None:
        self.shop, self.served = shop, served

    async def __call__(self, x: Exchange) -> None:
        check_query(x, "format", "fps")
        video = self.served.facts.traits.is_video
        fps = check_pictures(x, video=video)
        answer = await self._made(x, video, fps)
        if answer is not None:
            await send(x, *answer)

    async def _made(self, x: Exchange, video: bool, fps: float) -> tuple[Headers, bytes] | None:
        """The answer; what it was made of is no more when it is sent. None where it is sent."""
        medium = partial(pictures_medium, x, video=video)
        async with Work(x, self.shop, self.served, check=medium) as work:
            rows = await take(x, work, Op.RECONSTRUCT)
            media = work.check(len(rows))
            if video and len(rows) == 1 and is_left(row := rows[0]) and can_flow(media):
                async with Decoding(work, row, self._whole(row)) as frames:
                    await answer_clip(work, frames, row, media, fps)
                return None
            if video:
                rows = [
                    await gathered(work, row, self._whole(row)) if is_left(row) else row
                    for row in rows
                ]
        write = partial(write_pictures, rows, self.served.head, media, fps=fps)
        answer = await made(self.shop, rows, media, write)
        work.let_go()
        return answer

    def _whole(self, row: Row) -> tuple[int, ...]:
        """The pixels that a clip's codes stand for."""
        return self.served.facts.traits.size_of(row.parts["codes"].shape[:3])


async def take(x: Exchange, work: Work, op: Op) -> list[Row | Failure]:
    """All pictures of a body -> what came of each; see `encoded` for clips."""
    served = work.served
    if served.facts.traits.is_video:
        return await _take_clips(x, work, op)
    reader = picture_reader(x.headers, served.limits)
    work.check(reader.count or 1)
    shape = reader.shape
    if shape is not None and reader.count is not None and as_it_is(shape, served.prepares):
        await _take_raw(x, work, op, shape, reader.count)
    else:
        await _take_files(x, work, op, reader)
    return await work.results()


async def _take_clips(x: Exchange, work: Work, op: Op) -> list[Row | Failure]:
    """The same of one clip of any length, or of several that are held."""
    served, settings = work.served, work.shop.settings
    headers, is_open = open_headers(x)
    reader = picture_reader(headers, served.limits, video=True)
    work.check(reader.count or 1)
    if (source := raw_clip(work, reader, is_open)) is not None:
        work.begin()
        work.done(await encoded(work, op, source, claims=True))
        return await work.results()
    start = await begun(x, work)
    if x.limit > settings.max_body:
        with spooled(work) as spool:
            await spool.fill(x, start)
            work.begin()
            work.done(await encoded(work, op, spool.source(work), claims=True))
            return await work.results()
    shape = reader.shape
    one = served.facts.chunk_frames(settings)
    if (
        shape is not None
        and reader.count is not None
        and (len(shape) < 4 or shape[0] <= one)
        and as_it_is(shape, served.prepares)
    ):
        await _take_raw(x, work, op, shape, reader.count)
    else:
        await _take_files(x, work, op, reader, start)
    return await work.results()


# --- pixels that are right as they come ----------------------------------------------------------


async def _take_raw(x: Exchange, work: Work, op: Op, shape: tuple[int, ...], count: int) -> None:
    """From the socket into slots."""
    _check_length(x, shape, count)
    size = shape[:-1]
    check_area(size[-2], size[-1], "the picture", work.served)
    kind = work.served.facts.slot_kind(size, work.served.settings)
    body = _Body(x, count * math.prod(shape))
    work.check_room(kind)
    for number in range(count):
        work.promise(op, size)
        await body.begin()  # a slot is for those who send
        ticket = await work.ticket(kind)
        with work.filling(ticket):
            until = time.monotonic() + FILL * x.patience
            await body.fill(_room(ticket.slot.lay("pixels", "u1", shape)), until)
            if number == count - 1:
                await body.end()
        work.restart(ticket)
        if count == 1:
            work.done(await work.run_and_close(ticket, op, size))
        else:
            work.later(work.run_and_close, ticket, op, size)


def _room(view: Pixels) -> memoryview:
    return memoryview(view).cast("B")  # type: ignore[arg-type]  # arrays are buffers


def _check_length(x: Exchange, shape: tuple[int, ...], count: int) -> None:
    """Raises where the body says that it has another length than its shape."""
    said, expected = x.headers.get("content-length"), count * math.prod(shape)
    if said is not None and int(said) != expected:
        raise wrong_length(int(said), expected)


class _Body:
    """A body that is poured into one room after another."""

    def __init__(self, x: Exchange, expected: int) -> None:
        self._x, self._expected = x, expected
        self._left = memoryview(b"")

    async def begin(self) -> None:
        """Waits until there is something."""
        if not self._left:
            self._left = memoryview(await self._x.read())
            if not self._left:
                raise wrong_length(self._x.got, self._expected)

    async def fill(self, room: memoryview, until: float) -> None:
        """Exactly as much as there is room for; a `Fault` where that takes too long."""
        filled = 0
        while filled < len(room):
            if not self._left:
                await self.begin()
                if time.monotonic() > until:
                    raise Fault("body_stalled", STALLED)
            part = self._left[: len(room) - filled]
            room[filled : filled + len(part)] = part
            filled, self._left = filled + len(part), self._left[len(part) :]

    async def end(self) -> None:
        """Raises where there is more."""
        if self._left or await self._x.read():
            raise wrong_length(self._x.got, self._expected)


# --- files, and arrays that must be prepared -----------------------------------------------------


async def _take_files(
    x: Exchange, work: Work, op: Op, reader: PictureReader, start: bytes = b""
) -> None:
    """Each is handed in as soon as it has arrived, and decoded in a thread.

    start  what was read of the body already
    """
    work.check_room()
    only = reader.count == 1
    x.hold(len(start))
    found = reader.feed(start) if start else []
    for upload in found:
        await _take_file(work, op, upload, only)
    async for piece in x.pieces():
        for upload in reader.feed(piece):
            await _take_file(work, op, upload, only)
    for upload in reader.end():
        await _take_file(work, op, upload, only)


async def _take_file(work: Work, op: Op, upload: Upload, only: bool) -> None:
    if upload.clip or work.served.facts.traits.is_video:
        until = time.monotonic() + work.x.patience
        upload = await in_thread(work.shop.threads, taken, upload, work.served, until=until)
    if isinstance(upload.data, Failure):
        work.failed(upload.data)
        return
    if upload.clip:
        first = work.begin()
        work.later(encoded, work, op, ReadFrames(work, upload), first)
        return
    ticket = await work.ticket(0)
    if only:
        work.done(await _lay_and_run(work, op, upload, ticket))
    else:
        work.later(_lay_and_run, work, op, upload, ticket)


async def _lay_and_run(work: Work, op: Op, upload: Upload, ticket: Ticket) -> Row:
    with work.filling(ticket):
        begin = time.perf_counter()
        threads = work.shop.decoder(upload.data)
        size = await in_thread(threads, lay, ticket, upload, work, until=ticket.deadline)
        work.decoded(time.perf_counter() - begin)
        work.promise(op, size)
    return await work.run_and_close(ticket, op, size)
