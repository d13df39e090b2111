from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import token_rows
import torch
from offline.deadly import Deadly
from offline.jobs import quiet

from vqtok.offline.decode import Decoded, Decoder
from vqtok.offline.pools import Ahead, Processes, Threads, decoded
from vqtok.offline.records import Failure

ENDED = "the process that decoded it ended without a word, killed or brought down by the file"


def decoder(count: int, deadly: tuple[int, ...] = ()) -> Decoder:
    source = Deadly(count, deadly)
    # Pillow's resize, for torch takes seconds to begin with in each process.
    preprocess = {"policy": "center", "size": 16, "resize": "pillow-bicubic"}
    return Decoder(source, token_rows.plan(source.keys, preprocess=preprocess))


@pytest.mark.parametrize("ahead", [Ahead(1, 1), Ahead(3, 2), Ahead(8, 4)])
def test_samples_come_in_order(ahead: Ahead) -> None:
    pool = Threads(decoder(11), 3)
    numbers = [number for number in range(11) if number % 4]
    found = [each.about.number for each in decoded(pool, numbers, ahead, quiet)]
    pool.close()
    assert found == numbers


def test_threads_that_come_later_have_as_many_of_torch_as_before() -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        pool = Threads(decoder(3), 2)
        assert len(list(decoded(pool, range(3), Ahead(1, 2), quiet))) == 3
        pool.close()
        with ThreadPoolExecutor(1) as later:
            assert later.submit(torch.get_num_threads).result() == 2
    finally:
        torch.set_num_threads(before)


def test_only_so_many_are_decoded_ahead() -> None:
    plain, begun, lock = decoder(40), set[int](), threading.Lock()

    class Watched(Decoder):
        def one(self, index: int) -> Any:
            with lock:
                begun.add(index)
            return plain.one(index)

    pool = Threads(Watched(plain.source, plain.plan), 2)
    coming = decoded(pool, range(40), Ahead(2, 3), quiet)
    next(coming)
    coming.close()
    pool.close()
    assert max(begun) < 8  # those of the first answer, and three more chunks


def test_a_process_that_ends_costs_its_sample_alone() -> None:
    pool = Processes(decoder(7, deadly=(2, 5)), 2)
    found = list(decoded(pool, range(7), Ahead(2, 3), quiet))
    pool.close()
    assert [isinstance(each, Decoded) for each in found] == [
        number not in (2, 5) for number in range(7)
    ]
    assert [each for each in found if isinstance(each, Failure)] == [
        Failure(key=str(n), index=n, rows=1, stage="decode", reason=ENDED) for n in (2, 5)
    ]
    assert [e.about.number for e in found if isinstance(e, Decoded)] == [0, 1, 3, 4, 6]
