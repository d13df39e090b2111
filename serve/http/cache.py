"""Answers that are kept, by what they are of, up to a number of bytes; the oldest go first."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Iterable
from typing import NamedTuple

from vqtok.serve.http.faults import Headers
from vqtok.serve.wire import Latents
from vqtok.types import Codes

__all__ = ["Cache", "Kept", "key_of"]

OVERHEAD = 1024  # bytes that an entry takes beside its body, about


class Kept(NamedTuple):
    """An answer as it was sent."""

    headers: Headers
    body: bytes


class Cache:
    """What was used last is kept, `limit` bytes of it; nothing where that is 0."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.size = 0
        self._kept: OrderedDict[bytes, Kept] = OrderedDict()

    def __len__(self) -> int:
        return len(self._kept)

    def get(self, key: bytes) -> Kept | None:
        """What is kept under `key`."""
        kept = self._kept.get(key)
        if kept is not None:
            self._kept.move_to_end(key)
        return kept

    def put(self, key: bytes, kept: Kept) -> None:
        """Keeps an answer; one that would take more than an eighth of the room is not."""
        size = len(kept.body) + OVERHEAD
        if size * 8 > self.limit:
            return
        self._drop(key)
        self._kept[key] = kept
        self.size += size
        while self.size > self.limit:
            self._drop(next(iter(self._kept)))

    def _drop(self, key: bytes) -> None:
        kept = self._kept.pop(key, None)
        if kept is not None:
            self.size -= len(kept.body) + OVERHEAD


def key_of(tokens: Iterable[Codes | Latents], *parts: str) -> bytes:
    """A hash of tokens, and of what else decides how their pixels come out, in hexadecimal."""
    digest = hashlib.blake2b("\n".join(parts).encode(), digest_size=16)
    for one in tokens:
        if isinstance(one, Latents):
            digest.update(f"\n{one.values.shape}{one.size}\n".encode())
            digest.update(one.values.tobytes())
        else:
            told = (one.ids.shape, one.sizes.tolist(), one.codebook_size, one.depth, one.scales)
            digest.update(f"\n{told}\n".encode())
            digest.update(bytes(one))
    return digest.hexdigest().encode()
