"""What a client's steps ask of whoever runs them; nothing here does anything.

An operation is a generator (`Steps`) that yields these and is sent what came of them. So the same
steps run in threads and in an event loop.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from typing import Any, NamedTuple, TypeAlias, TypeVar

__all__ = [
    "END",
    "Call",
    "Effect",
    "Give",
    "Join",
    "Pull",
    "Reply",
    "Request",
    "Send",
    "Sleep",
    "Spawn",
    "Steps",
    "Unreachable",
    "advance",
]

T = TypeVar("T")
END = object()  # what `Pull` gives after the last item


class Request(NamedTuple):
    """One HTTP request; `path` begins with a slash."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes = b""


class Reply(NamedTuple):
    """What came back; names of `headers` are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Unreachable(Exception):
    """No reply came; the text says why."""


class Send(NamedTuple):
    """A request, to be given up after so many seconds -> its `Reply`, or raises `Unreachable`."""

    request: Request
    seconds: float


class Sleep(NamedTuple):
    """Waits."""

    seconds: float


class Call(NamedTuple):
    """A function that may take a while, such as one that reads a file -> what it returns."""

    function: Callable[[], Any]


class Pull(NamedTuple):
    """The next item of an iterator, plain or asynchronous -> that, or `END`."""

    items: Any


class Spawn(NamedTuple):
    """Begins other steps, beside these -> what `Join` takes."""

    steps: Steps[Any]


class Join(NamedTuple):
    """Waits for steps that were begun -> what they returned; raises what they raised."""

    task: Any


class Give(NamedTuple):
    """Hands something to whoever iterates over the operation."""

    value: Any


Effect: TypeAlias = Send | Sleep | Call | Pull | Spawn | Join | Give
Steps: TypeAlias = Generator[Effect, Any, T]


def advance(steps: Steps[Any], reply: Any, error: Exception | None) -> Effect:
    """The next effect of steps that are sent what came of the last one."""
    return steps.send(reply) if error is None else steps.throw(error)
