"""What handlers work with: a tokenizer behind a desk, and what all of them share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Self

from vqtok.preprocess import Preprocess
from vqtok.serve.http.cache import Cache
from vqtok.serve.http.exchange import Exchange, Room
from vqtok.serve.http.threads import Threads
from vqtok.serve.wire import Head, Limits, Space, print_text

if TYPE_CHECKING:
    from vqtok.serve.board import Board
    from vqtok.serve.desk import Desk
    from vqtok.serve.facts import Facts
    from vqtok.serve.meters import Meters
    from vqtok.serve.settings import ServeSettings

__all__ = ["Served", "Shop"]

SMALL = 1 << 15  # bytes of a file that is decoded in half a millisecond, as a rule
DISK = 2  # times the longest film are the bytes of films in files that a process has at once


@dataclass(frozen=True)
class Served:
    """A tokenizer by the name that it has in paths.

    limits    of one request, as the wire takes them
    prepares  how a picture becomes pixels here: the tokenizer's way, with the server's limit
    print     the header that says which tokenizer it is
    """

    name: str
    desk: Desk
    facts: Facts
    settings: ServeSettings
    limits: Limits
    prepares: Preprocess
    print: tuple[bytes, bytes]

    @classmethod
    def of(cls, name: str, desk: Desk, settings: ServeSettings) -> Self:
        """What there is behind a desk."""
        facts = desk.facts
        own = facts.preprocess
        text = print_text(facts.fingerprint)
        return cls(
            name,
            desk,
            facts,
            settings,
            Limits(
                settings.max_body, settings.max_pixels, settings.max_images, settings.max_frames
            ),
            own.changed(max_pixels=min(own.max_pixels, settings.max_pixels)),
            (b"x-vqtok-fingerprint", text.encode()),
        )

    @cached_property
    def head(self) -> Head:
        """What answers say of the codebook."""
        facts = self.facts
        return Head(
            facts.fingerprint,
            facts.fingerprint.codebook,
            facts.traits.codebook_size,
            facts.traits.depth,
        )

    @cached_property
    def space(self) -> Space:
        """What reading codes must know."""
        return Space.of(self.facts)


@dataclass(frozen=True)
class Shop:
    """What handlers of a process share; paths without a name are those of the first model."""

    settings: ServeSettings
    board: Board
    meters: Meters
    threads: Threads
    brief: Threads  # one, for small files
    served: tuple[Served, ...]
    report: Callable[[Exchange, BaseException], None]  # of what nobody foresaw, to the log
    cache: Cache  # of decoded pictures, of all models

    @cached_property
    def disk(self) -> Room:
        """Of the films that are in temporary files."""
        return Room(DISK * self.settings.max_film)

    def decoder(self, data: object) -> Threads:
        """Who is to decode it. Small files in two threads at once would spend as much time on
        waiting for Python's lock as on being decoded."""
        is_small = isinstance(data, bytes) and len(data) <= SMALL
        return self.brief if is_small else self.threads

    def count(self, x: Exchange, served: Served, statuses: Sequence[int]) -> None:
        """Counts what became of the pictures of a request."""
        x.pictures = len(statuses)
        labels = {"model": served.name, "op": x.op}
        for status in set(statuses):
            count = statuses.count(status)
            self.meters.add("vqtok_pictures_total", count, **labels, code=status)
