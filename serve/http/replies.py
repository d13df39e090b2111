"""Small answers: JSON, text, files that do not change."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import orjson

from vqtok.serve.http.exchange import Exchange
from vqtok.serve.http.faults import Fault, Headers
from vqtok.serve.wire.headers import FINGERPRINT

__all__ = ["JSON", "answer_fault", "answer_json", "encoded"]

JSON = (b"content-type", b"application/json")


async def answer_json(x: Exchange, status: int, value: Any, headers: Headers = ()) -> None:
    """A value as JSON."""
    body = orjson.dumps(value, option=orjson.OPT_APPEND_NEWLINE)
    await x.answer(status, body, [JSON, *headers])


async def answer_fault(x: Exchange, fault: Fault, headers: Headers = ()) -> None:
    """What went wrong, with the request's id."""
    told = {"error": fault.to_dict() | {"request_id": x.id}, **fault.more}
    await answer_json(x, fault.status, told, [*fault.headers, *headers])


def encoded(headers: Mapping[str, str]) -> Headers:
    """Headers as ASGI has them, but for the fingerprint, which every answer has anyway."""
    return _encoded(tuple(headers.items()))


@lru_cache(512)  # answers to one picture differ little
def _encoded(headers: tuple[tuple[str, str], ...]) -> Headers:
    return tuple(
        (name.lower().encode("latin-1"), value.encode("latin-1"))
        for name, value in headers
        if name.lower() != FINGERPRINT
    )
