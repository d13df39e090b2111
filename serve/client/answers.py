"""What a reply means: results, what failed, and the exceptions that say so."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import orjson

from vqtok.errors import CodesError, ImageError, MismatchError, ServiceError, VqtokError
from vqtok.serve.client.connection import Reply
from vqtok.serve.wire import Failure

__all__ = ["BLAMED", "Refusal", "exception_of", "failures_of", "refusal_of", "service_error"]

# Statuses that say something of what was sent, and nothing of the server.
BLAMED = frozenset({400, 413, 415, 422})
TEXT = 200  # characters shown of an answer that is none of ours


class Refusal(NamedTuple):
    """A failure, and the request that it befell."""

    failure: Failure
    request_id: str | None


def refusal_of(reply: Reply) -> Refusal:
    """What a reply that is an error says; also one that did not come from a server of tokens."""
    found = _document(reply).get("error")
    given = found if isinstance(found, Mapping) else {}
    code, message = given.get("code", ""), given.get("message")
    text = reply.body[: 4 * TEXT].decode("utf-8", "replace").strip()[:TEXT]
    shown = str(message) if message else f"{text!r}" if text else "without a word"
    known = given.get("request_id") or reply.headers.get("x-request-id")
    return Refusal(Failure(reply.status, str(code), shown), known and str(known))


def failures_of(reply: Reply) -> list[Failure]:
    """Of each picture, where a reply that is an error tells them apart; else []."""
    pictures = _document(reply).get("pictures")
    if not isinstance(pictures, list):
        return []
    return [_failure(one, reply.status) for one in pictures]


def _failure(picture: Any, status: int) -> Failure:
    given = picture.get("error") if isinstance(picture, Mapping) else None
    error = given if isinstance(given, Mapping) else {}
    found = error.get("status", status)
    message = str(error.get("message", "without a word"))
    return Failure(found if isinstance(found, int) else status, str(error.get("code", "")), message)


def _document(reply: Reply) -> Mapping[str, Any]:
    try:
        found = orjson.loads(reply.body)
    except orjson.JSONDecodeError:
        return {}
    return found if isinstance(found, Mapping) else {}


def service_error(message: str, refusal: Refusal) -> ServiceError:
    """With what the reply said."""
    status, code, _ = refusal.failure
    return ServiceError(message, status=status, code=code, request_id=refusal.request_id)


def exception_of(
    refusal: Refusal, name: str, url: str, kind: type[ImageError] | type[CodesError]
) -> VqtokError:
    """Why one picture failed. Its cause is a ServiceError, which has status, code and id.

    kind  of the exception where it is the picture's, or the codes', own fault
    """
    status, code, message = refusal.failure
    if status in BLAMED or status == 409:
        text = _named(message, name)
        found: VqtokError = MismatchError(message) if status == 409 else kind(text)
        found.__cause__ = service_error(message, refusal)
        return found
    said = f"{status} {code}".strip()
    return service_error(f"{name}: {url} answered {said}: {message}", refusal)


def _named(message: str, name: str) -> str:
    """With the caller's name for the picture: the server knows its place in one request only."""
    for theirs in _their_names(message):
        if message.startswith(theirs):
            return name + message[len(theirs) :]
    return f"{name}: {message}"


def _their_names(message: str) -> list[str]:
    head, _, rest = message.partition(" ")
    if head == "the":
        return [f"the {noun}" for noun in ("picture", "clip")]
    if head not in ("picture", "clip"):
        return []
    number, _, more = rest.partition(" ")
    number = number.rstrip(":")
    file = f" {more.partition(')')[0]})" if more.startswith("(") else ""
    return [f"{head} {number}{file}"] if number.isdigit() else []
