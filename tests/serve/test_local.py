"""Desk and worker in one process."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable

import numpy as np
import pytest
from serve_bench import encode
from serve_stubs import StubEngine, codes_of, corners, picture, pixels_of, stub_facts

from vqtok.errors import InputError
from vqtok.serve import local as module
from vqtok.serve import worker as worker_module
from vqtok.serve.board import Board, Phase
from vqtok.serve.local import Local, Sizes
from vqtok.serve.meters import Meters
from vqtok.serve.outcomes import Lost
from vqtok.serve.slab import Op, slab_for

# Of servers that other tests have left running.
OTHERS: set[threading.Thread] = set()


@pytest.fixture(autouse=True)
def others() -> None:
    OTHERS.clear()
    OTHERS.update(threading.enumerate())


def threads() -> list[str]:
    new = set(threading.enumerate()) - OTHERS
    return [one.name for one in new if one.name == "vqtok-worker"]


def test_pictures_in_and_out() -> None:
    pixels = picture(1)
    codes = codes_of(corners(pixels, False))

    async def main() -> None:
        async with Local(StubEngine()) as local:
            assert local.board.phase is Phase.READY
            assert local.desk.alive == 1
            found, answer = await encode(local.desk, pixels, Op.RECONSTRUCT)
            assert np.array_equal(found["codes"], codes)
            assert np.array_equal(found["pixels"], pixels_of(codes))
            assert (answer.size, answer.batch) == ((256, 256), 1)
            again, _ = await encode(local.desk, found["pixels"])
            assert np.array_equal(again["codes"], codes)
            assert local.desk.free == (64, 2)
        assert local.board.phase is Phase.DRAINING

    asyncio.run(main())
    assert threads() == []


def test_a_model_of_clips() -> None:
    clip = picture(1, (9, 64, 48))
    codes = codes_of(corners(clip, True))
    assert codes.shape == (3, 4, 3)

    async def main() -> None:
        facts = stub_facts(size=None, video=True)
        async with Local(StubEngine(facts), sizes=Sizes(64 * 64, 16)) as local:
            found, answer = await encode(local.desk, clip, Op.RECONSTRUCT, kind=1)
            assert np.array_equal(found["codes"], codes)
            assert np.array_equal(found["pixels"], pixels_of(codes, (9, 64, 48)))
            assert answer.size == (9, 64, 48)
            still, _ = await encode(local.desk, clip[0], Op.RECONSTRUCT)
            assert still["codes"].shape == (1, 4, 3)
            assert still["pixels"].shape == (64, 48, 3)

    asyncio.run(main())


def test_a_crowd_goes_through_in_batches() -> None:
    engine = StubEngine(stub_facts(size=None), per_batch=0.005)
    pictures = [picture(seed, (32, 32)) for seed in range(40)]

    async def main() -> None:
        async with Local(engine, slots=16, max_batch=8) as local:
            found = await asyncio.gather(*(encode(local.desk, one) for one in pictures))
            assert local.desk.free == (16, 0)
        for pixels, (parts, _) in zip(pictures, found, strict=True):
            assert np.array_equal(parts["codes"], codes_of(corners(pixels, False)))

    asyncio.run(main())
    lengths = [length for _, length in engine.runs]
    assert sum(lengths) == 40
    assert max(lengths) <= 8
    assert len(lengths) < 20


def test_several_may_share_a_board_and_meters() -> None:
    async def main() -> None:
        board, meters = Board({"a": 1, "b": 1}), Meters({"a": 4096, "b": 4096}, rows=3)
        shared = {"board": board, "meters": meters}
        one, two = StubEngine(stub_facts("a")), StubEngine(stub_facts("b"))
        async with Local(one, row=1, **shared) as a, Local(two, row=2, **shared) as b:
            await encode(a.desk, picture(1))
            await encode(b.desk, picture(2))
            assert (board.up("a"), board.up("b")) == (1, 1)
            assert board.phase is Phase.STARTING
        (used,) = [one for one in meters.families() if one.name == "vqtok_codes_used"]
        assert all(sample.value for sample in used.samples)

    asyncio.run(main())


def test_an_engine_that_cannot_start() -> None:
    class Cold(StubEngine):
        def warm_up(self, max_batch: int, beat: Callable[[], None]) -> None:
            raise ValueError("no weights")

    async def main() -> None:
        async with Local(Cold()):
            pass

    with pytest.raises(ValueError, match="no weights"):
        asyncio.run(main())
    assert threads() == []


def test_it_is_entered_once() -> None:
    async def main() -> None:
        local = Local(StubEngine())
        async with local:
            pass
        with pytest.raises(InputError) as error:
            await local.__aenter__()
        assert str(error.value) == "a Local is entered once; make another one"

    asyncio.run(main())


@pytest.mark.parametrize("how", ["fatal", "broken"])
def test_a_worker_that_ends_says_why_to_all_at_once(
    how: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    colour = (7, 7, 7)
    engine = StubEngine(fatal=colour)
    reason = "RuntimeError: CUDA error: an illegal memory access was encountered"
    if how == "broken":

        def ends(*given: object) -> None:
            raise ValueError("a bug")

        monkeypatch.setattr(worker_module._Worker, "finish", ends)
        reason, colour = "ValueError: a bug", (1, 1, 1)

    async def main() -> None:
        async with Local(engine) as local:
            local.check()
            for _ in range(2):
                with pytest.raises(Lost) as error:
                    await encode(local.desk, picture(1, first=colour))
                assert str(error.value) == f"the worker has ended: {reason}"
            assert local.desk.alive == 0
            assert local.desk.free == (64, 2)
            with pytest.raises(Lost) as error:
                local.check()
            assert str(error.value) == "the worker has ended"

    asyncio.run(main())
    assert threads() == []


def test_a_worker_that_hangs_is_found() -> None:
    ended = threading.Event()

    class Hanging(StubEngine):
        def run(self, *given: object) -> list[dict[str, np.ndarray]]:
            ended.wait(20)
            return []

    async def main() -> None:
        async with Local(Hanging()) as local:
            task = asyncio.ensure_future(encode(local.desk, picture(1)))
            while not local.board.seat("stub", 0).busy_since:
                await asyncio.sleep(0.001)
            await asyncio.sleep(0.01)
            local.check()
            with pytest.raises(Lost) as error:
                local.check(0.005)
            assert str(error.value) == "the worker has been at one batch for more than 0.005 s"
            ended.set()
            await asyncio.wait((task,))
            local.check(0.005)

    asyncio.run(main())


def test_a_batch_that_hangs_is_left_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PATIENCE", 0.05)
    ended = threading.Event()

    class Hanging(StubEngine):
        def run(self, *given: object) -> list[dict[str, np.ndarray]]:
            ended.wait(20)
            return []

    async def main() -> None:
        async with Local(Hanging()) as local:
            task = asyncio.ensure_future(encode(local.desk, picture(1)))
            while not local.board.seat("stub", 0).busy_since:
                await asyncio.sleep(0.001)
            task.cancel()
            await asyncio.wait((task,))
            assert local.desk.free == (63, 2)
        assert threads() == ["vqtok-worker"]
        ended.set()
        while threads():
            await asyncio.sleep(0.01)

    asyncio.run(main())


def test_slots_are_as_large_as_facts_say() -> None:
    facts = stub_facts(size=None)
    slab = slab_for(facts, Sizes(64 * 64, 4), slots=3, clip_slots=2, desks=2)
    picture_bytes, larger = facts.slot_bytes(Sizes(64 * 64, 4))
    assert larger == 0
    assert slab.kinds == ((3, picture_bytes), (0, 0))
    assert slab.desks == 2
