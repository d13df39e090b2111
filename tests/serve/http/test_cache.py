"""Which answers are kept."""

from __future__ import annotations

import numpy as np

from vqtok.serve.http.cache import OVERHEAD, Cache, Kept, key_of
from vqtok.serve.wire import Latents
from vqtok.types import Codes


def kept(size):
    return Kept((), b"x" * size)


def test_what_was_used_last_stays():
    cache = Cache(8 * (1000 + OVERHEAD))
    for name in range(8):
        cache.put(b"%d" % name, kept(1000))
    assert cache.get(b"0") == kept(1000)
    cache.put(b"8", kept(1000))
    assert (len(cache), cache.get(b"1"), cache.get(b"0")) == (8, None, kept(1000))
    assert cache.size == cache.limit


def test_one_answer_takes_no_more_than_an_eighth():
    cache = Cache(8 * (1000 + OVERHEAD))
    cache.put(b"a", kept(1001))
    assert (len(cache), cache.size) == (0, 0)
    empty = Cache(0)
    empty.put(b"a", kept(0))
    assert len(empty) == 0


def test_the_same_key_takes_room_once():
    cache = Cache(100_000)
    cache.put(b"a", kept(1000))
    cache.put(b"a", kept(2000))
    assert (len(cache), cache.size) == (1, 2000 + OVERHEAD)


def codes(ids, **changes):
    return Codes(np.asarray(ids)[None], np.array([[8, 8]], np.int32), 16, **changes)


def test_a_key_is_that_of_all_that_decides_the_answer():
    same = key_of([codes([[1, 2]])], "print", "image/png")
    assert same == key_of([codes(np.array([[1, 2]], np.uint32))], "print", "image/png")
    latents = Latents(np.zeros((2, 1, 2), np.float32))
    others = [
        key_of([codes([[1, 3]])], "print", "image/png"),
        key_of([codes([[1], [2]])], "print", "image/png"),
        key_of([codes([[1, 2]])], "print", "image/webp"),
        key_of([codes([[1, 2]])] * 2, "print", "image/png"),
        key_of([latents], "print", "image/png"),
        key_of([latents._replace(size=(8, 8))], "print", "image/png"),
    ]
    assert len({same, *others}) == 7
