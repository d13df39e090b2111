"""Codes and latents that come in, to be decoded."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, TypeGuard

import numpy as np

from vqtok.errors import InputError
from vqtok.serve.http.answers import (
    check_pictures,
    check_query,
    made,
    pictures_medium,
    rate_of,
    send,
)
from vqtok.serve.http.cache import Kept, key_of
from vqtok.serve.http.exchange import Exchange
from vqtok.serve.http.faults import Fault, Headers, fault_of
from vqtok.serve.http.films import answer_clip, can_flow
from vqtok.serve.http.served import Served, Shop
from vqtok.serve.http.streams import Decoding, gathered, is_long
from vqtok.serve.http.threads import in_thread
from vqtok.serve.http.work import Work
from vqtok.serve.slab import Op
from vqtok.serve.wire import Failure, Latents, Row, read_tokens, write_pictures
from vqtok.types import Codes

if TYPE_CHECKING:
    from vqtok.serve.desk import Ticket

__all__ = ["Decode"]

SMALL = 1 << 16  # bytes of a body that is read without a thread

Tokens = Codes | Latents


class Decode:
    """Codes, or latents -> the pictures that they stand for."""

    def __init__(self, shop: Shop, served: Served) -> None:
        self.shop, self.served = shop, served

    async def __call__(self, x: Exchange) -> None:
        check_query(x, "format", "fps")
        video = self.served.facts.traits.is_video
        check_pictures(x, video=video)
        found = await self._read(x)
        media = pictures_medium(x, len(found), video=video)
        fps = rate_of(x, media)
        key = self._key(found, media, fps)
        if key is not None and await self._answer_kept(x, key, len(found)):
            return
        tag = [] if key is None else [(b"etag", b'"%s"' % key)]
        if len(found) == 1 and self._is_long(one := found[0]) and can_flow(media):
            await self._send_clip(x, one, media, fps, tag)
            return
        headers, body = await self._made(x, found, media, fps)
        headers = [*headers, *tag]
        if key is not None:
            self.shop.cache.put(key, Kept(headers, body))
        await send(x, headers, body)

    def _is_long(self, one: Tokens | Failure) -> TypeGuard[Tokens]:
        """Whether it is a clip that goes through the model as a stream."""
        return not isinstance(one, Failure) and is_long(self.served, self._whole(one))

    def _whole(self, one: Tokens) -> tuple[int, ...]:
        """The pixels that it stands for."""
        facts = self.served.facts
        if isinstance(one, Latents):
            return facts.traits.size_of(one.values.shape[1:])
        return facts.decoded_size(one)

    async def _send_clip(
        self, x: Exchange, one: Tokens, media: str, fps: float, tag: Headers
    ) -> None:
        """A longer clip, as it is made."""
        whole = self._whole(one)
        self._check(whole)
        async with Work(x, self.shop, self.served) as work:
            work.begin()
            row = _row(one, self.served)
            async with Decoding(work, row, whole) as frames:
                await answer_clip(work, frames, Row({}, row.size), media, fps, tag)
            work.count([200])

    async def _made(
        self, x: Exchange, found: Sequence[Tokens | Failure], media: str, fps: float
    ) -> tuple[Headers, bytes]:
        """The answer; what it was made of is no more when it is sent."""
        async with Work(x, self.shop, self.served) as work:
            for one in found:
                await self._take(work, one)
            rows = await work.results()
        write = partial(write_pictures, rows, self.served.head, media, fps=fps)
        answer = await made(self.shop, rows, media, write)
        work.let_go()
        return answer

    async def _read(self, x: Exchange) -> list[Tokens | Failure]:
        """The body's codes as this tokenizer decodes them."""
        body = await x.body()
        read = partial(_tokens, dict(x.headers), body, self.served)
        found = read() if len(body) <= SMALL else await in_thread(self.shop.threads, read)
        if any(isinstance(one, Latents) for one in found):
            x.op = "decode_latents"
        return found

    def _key(self, found: Sequence[Tokens | Failure], media: str, fps: float) -> bytes | None:
        """Of what decides each byte of the answer; None where a picture has come to nothing."""
        tokens = [one for one in found if not isinstance(one, Failure)]
        if len(tokens) < len(found):
            return None
        _, fingerprint = self.served.print  # the whole one: JSON and safetensors have it
        made_of = self.served.name, fingerprint.decode(), self.served.facts.precision
        return key_of(tokens, *made_of, media, str(fps))

    async def _answer_kept(self, x: Exchange, key: bytes, count: int) -> bool:
        """Whether the client has the answer already, or it is kept here."""
        wanted = x.headers.get("if-none-match", "")
        if wanted.strip() == "*" or f'"{key.decode()}"' in wanted:
            self.shop.count(x, self.served, [304] * count)
            await x.answer(304, b"", [(b"etag", b'"%s"' % key)])
            return True
        kept = self.shop.cache.get(key)
        if kept is None:
            return False
        self.shop.count(x, self.served, [200] * count)
        await send(x, kept.headers, kept.body)
        return True

    async def _take(self, work: Work, one: Tokens | Failure) -> None:
        if isinstance(one, Failure):
            work.failed(one)
            return
        facts, whole = self.served.facts, self._whole(one)
        self._check(whole)
        if self._is_long(one):
            work.later(_gathered, work, one, whole)
            return
        if isinstance(one, Latents):
            op, size = Op.DECODE_LATENTS, one.size or whole
        else:
            op, size = Op.DECODE, tuple(one.sizes[0].tolist())
        work.promise(op, whole)
        ticket = await work.ticket(facts.slot_kind(whole, self.served.settings))
        with work.filling(ticket):
            _lay(ticket, one, facts.traits.dtype)
        work.later(work.run_and_close, ticket, op, size)

    def _check(self, size: Sequence[int]) -> None:
        """Raises where codes stand for more pixels than there is room for."""
        facts, settings = self.served.facts, self.served.settings
        *frames, height, width = size
        most = facts.largest_area(settings)
        if height * width > most:
            raise Fault(
                "too_many_pixels",
                f"these codes stand for {width} x {height} pixels; at most {most:,} are made here",
            )
        if frames and frames[0] > facts.traits.plan_frames(settings.max_frames).padded:
            raise Fault(
                "too_many_frames",
                f"these codes stand for {frames[0]:,} frames; at most {settings.max_frames:,} are "
                "made here",
            )


def _tokens(headers: dict[str, str], body: bytes, served: Served) -> list[Tokens | Failure]:
    found = read_tokens(headers, body, served.space, served.limits)
    return [_known(one, served) if isinstance(one, Codes) else one for one in found]


def _known(codes: Codes, served: Served) -> Codes | Failure:
    """Codes with all that the model must know of them, such as their scales."""
    size = tuple(codes.sizes[0].tolist())
    try:
        return served.facts.codes(
            codes.ids[0],
            size if any(size) else None,
            codebook=codes.codebook,
            scales=codes.scales,
        )
    except InputError as error:
        return fault_of(error).failure


def _row(one: Tokens, served: Served) -> Row:
    """As a stream takes it."""
    if isinstance(one, Latents):
        return Row({"latents": one.values}, one.size)
    ids = one.ids[0].astype(served.facts.traits.dtype, copy=False)
    return Row({"codes": ids}, tuple(one.sizes[0].tolist()))


async def _gathered(work: Work, one: Tokens, whole: tuple[int, ...]) -> Row:
    row = await gathered(work, _row(one, work.served), whole)
    return Row({"pixels": row.parts["pixels"]}, row.size)


def _lay(ticket: Ticket, one: Tokens, dtype: np.dtype[Any]) -> None:
    """Into a slot, as an engine takes them."""
    slot = ticket.slot
    if isinstance(one, Latents):
        slot.put("latents", one.values)
        return
    slot.put("codes", one.ids[0].astype(dtype))
    if one.scales:
        slot.put("scales", np.array(one.scales, np.int32))
