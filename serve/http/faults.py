"""What can be wrong with a request, and the status and words that it is answered with."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from vqtok.errors import (
    CodesError,
    ImageError,
    InputError,
    MismatchError,
    MissingExtraError,
    VqtokError,
)
from vqtok.serve import wire
from vqtok.serve.outcomes import Busy, Deadly, EngineError, Late, Lost, Refused
from vqtok.serve.wire import Failure, WireError

__all__ = ["STATUS", "Fault", "Gone", "Headers", "fault_of", "word_of"]

Headers = Sequence[tuple[bytes, bytes]]

# The word of an error in JSON -> its status; those of the wire are there, too.
STATUS = dict(wire.STATUS) | {
    "bad_request": 400,
    "unauthorized": 401,
    "not_found": 404,
    "method_not_allowed": 405,
    "body_stalled": 408,
    "cannot_be_done": 422,
    "picture_does_not_fit": 422,
    "busy": 429,
    "client_gone": 499,
    "internal": 500,
    "draining": 503,
    "no_worker": 503,
    "worker_died": 503,
    "deadline": 504,
}

# Seconds after which it is worth asking again.
RETRY = {"busy": 1, "draining": 5, "no_worker": 2}


class Fault(VqtokError):
    """An answer that is an error: the word and the sentence of it, and headers to send along."""

    def __init__(self, code: str, message: str, headers: Headers = ()) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.status = STATUS[code]
        retry = [(b"retry-after", b"%d" % RETRY[code])] if code in RETRY else []
        self.headers: Headers = [*headers, *retry]
        self.more: dict[str, Any] = {}  # what JSON tells beside the error

    @classmethod
    def of(cls, failure: Failure) -> Fault:
        """What went wrong with one picture, as the answer to the whole request."""
        return cls(failure.code, failure.message)

    @property
    def failure(self) -> Failure:
        """The same, said of one picture of several."""
        return Failure(self.status, self.code, self.message)

    def to_dict(self) -> dict[str, Any]:
        """As JSON has it, without the request's id."""
        return {"status": self.status, "code": self.code, "message": self.message}


class Gone(VqtokError):
    """The client left; there is nobody to answer."""


def fault_of(error: BaseException) -> Fault:
    """What an error is to the client; one that nobody foresaw is an "internal" one."""
    match error:
        case Fault():
            return error
        case Gone():
            return Fault("client_gone", str(error))
        case WireError():
            return Fault(error.code, str(error))
        case EngineError():
            return _of_engine(error)
        case ImageError():
            return Fault("not_a_picture", str(error))
        case MismatchError():
            return Fault("codebook_mismatch", str(error))
        case CodesError():
            return Fault("not_codes", str(error))
        case MissingExtraError():
            return Fault("unsupported_media_type", f"this server lacks what it needs: {error}")
        case InputError():
            return Fault("cannot_be_done", str(error))
        case _:
            return Fault("internal", "something went wrong here; the log has it under this id")


def word_of(error: BaseException, stopped: str) -> str:
    """The word for what ended a request; `stopped` is why it was cancelled, where it was."""
    if isinstance(error, asyncio.CancelledError):
        return stopped or "client_gone"
    return fault_of(error).code


def _of_engine(error: EngineError) -> Fault:
    match error:
        case Busy():
            return Fault("busy", str(error))
        case Late():
            return Fault("deadline", str(error))
        case Deadly():
            return Fault("worker_died", str(error))
        case Lost():
            return Fault("no_worker", str(error))
        case Refused():
            return Fault("cannot_be_done", str(error))
        case _:
            return Fault("internal", "the model failed on this; the log has it under this id")
