"""Clips longer than a slot: desks and workers, chunk by chunk."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from serve_bench import Bench, Hand
from serve_kinds import CLIPS, clip, kind
from serve_scenes import play, until
from serve_stubs import StubEngine, StubPassage, codes_of, corners, picture, stub_facts

from vqtok.serve.desk import Desk
from vqtok.serve.engine import TokenizerEngine
from vqtok.serve.items import Item
from vqtok.serve.line import Said
from vqtok.serve.local import Local, Sizes
from vqtok.serve.outcomes import Broken, Busy, Late, Refused, Severed
from vqtok.serve.slab import Op
from vqtok.serve.streams import SEVERED, Stream

FRAMES = picture(3, (30, 32, 32))
CODES = codes_of(corners(FRAMES, clip=True))
FACTS = stub_facts(size=32, video=True)
BAD = (1, 2, 3)


@dataclass
class Watched(StubEngine):
    """Knows which of its passages somebody holds."""

    made: list[weakref.ref[StubPassage]] = field(default_factory=list)

    def passage(self, op: Op) -> StubPassage:
        found = super().passage(op)
        self.made.append(weakref.ref(found))
        return found

    @property
    def held(self) -> int:
        gc.collect()
        return sum(one() is not None for one in self.made)


def local(engine: Any = None, frames: int = 8, **settings: Any) -> Local:
    sizes = Sizes(32 * 32, frames)
    return Local(engine or Watched(FACTS), sizes=sizes, clip_slots=4, **settings)


async def step(
    desk: Desk,
    stream: Stream,
    part: npt.NDArray[Any],
    *,
    last: bool = False,
    op: Op = Op.ENCODE,
    size: tuple[int, ...] = (),
    seconds: float = 20.0,
) -> dict[str, npt.NDArray[Any]]:
    """Hands in the next chunk; what came of it."""
    with await desk.wait(1, seconds) as ticket:
        ticket.slot.put("codes" if op == Op.DECODE else "pixels", part)
        answer = await stream.run(ticket, op, size or part.shape[:-1], last=last)
        return {name: part.copy() for name, part in answer.parts.items()}


async def encoded(desk: Desk, frames: npt.NDArray[np.uint8], chunk: int = 8) -> Any:
    """The codes of a clip, by a stream."""
    parts = []
    async with desk.streams.begin(5.0) as stream:
        for start in range(0, len(frames), chunk):
            last = start + chunk >= len(frames)
            found = await step(desk, stream, frames[start : start + chunk], last=last)
            parts += [found["codes"]] if "codes" in found else []
    return np.concatenate(parts)


def run(scene: Callable[[Local], Awaitable[Any]], made: Local) -> Any:
    async def main() -> Any:
        async with made:
            found = await scene(made)
            await until(lambda: not made.desk.in_flight)
            return found

    return asyncio.run(main())


# --- what comes of a stream -----------------------------------------------------------------------


@pytest.mark.parametrize("chunk", [1, 3, 8])
def test_codes_do_not_depend_on_chunks(chunk: int) -> None:
    made = local()
    assert np.array_equal(run(lambda one: encoded(one.desk, FRAMES, chunk), made), CODES)


@pytest.mark.parametrize("name", CLIPS)
@pytest.mark.parametrize("chunk", [1, 5, 8])
def test_they_are_those_of_the_tokenizer(name: str, chunk: int) -> None:
    tok = kind(name)
    frames = clip(23)
    codes = tok.encode_clip(frames)
    engine = TokenizerEngine(tok, name="toy", tokenizer="toy")
    passage = engine.passage(Op.ENCODE)
    parts = []
    for start in range(0, 23, chunk):
        part = frames[start : start + chunk]
        found = passage.step(Item({"pixels": part}, part.shape[:-1]), start + chunk >= 23, beat)
        parts += [found["codes"]] if found else []
    assert np.array_equal(np.concatenate(parts), codes.ids[0])
    assert parts[0].dtype == engine.facts.traits.dtype
    back = engine.passage(Op.DECODE)
    frames = []
    tokens = codes.ids[0]
    for start in range(len(tokens)):
        item = Item({"codes": tokens[start : start + 1]}, (23, 16, 16))
        found = back.step(item, start + 1 == len(tokens), beat)
        frames += list(found.get("pixels", ()))
    assert np.array_equal(np.stack(frames), np.stack(list(tok.codec.decode_frames(codes))))


def beat() -> None:
    pass


def test_pictures_are_done_between_two_chunks() -> None:
    engine = Watched(FACTS)

    async def scene(one: Local) -> None:
        async with one.desk.streams.begin() as stream:
            await step(one.desk, stream, FRAMES[:8])
            with one.desk.claim() as ticket:
                ticket.slot.put("pixels", FRAMES[:1])
                answer = await ticket.run(Op.ENCODE, (1, 32, 32))
                assert np.array_equal(answer.parts["codes"], CODES[:1])
            found = await step(one.desk, stream, FRAMES[8:16], last=True)
            assert np.array_equal(found["codes"], CODES[2:4])

    run(scene, local(engine))
    assert engine.held == 0


def test_streams_take_turns() -> None:
    other = picture(9, (30, 32, 32))

    async def scene(one: Local) -> None:
        both = encoded(one.desk, FRAMES), encoded(one.desk, other, 5)
        first, second = await asyncio.gather(*both)
        assert np.array_equal(first, CODES)
        assert np.array_equal(second, codes_of(corners(other, clip=True)))

    engine = Watched(FACTS)
    run(scene, local(engine, streams=2))
    assert engine.held == 0


# --- how they end ---------------------------------------------------------------------------------


def test_no_more_at_once_than_there_may_be() -> None:
    async def scene(one: Local) -> None:
        streams = one.desk.streams
        async with streams.begin(), streams.begin():
            for seconds in (0.0, 0.05):
                with pytest.raises(Busy) as error:
                    async with streams.begin(seconds):
                        pass
                assert str(error.value) == (
                    "all 2 streams, for clips longer than a slot, are taken; try again soon"
                )
            assert streams.open == 2
        assert streams.open == 0
        assert np.array_equal(await encoded(one.desk, FRAMES), CODES)

    run(scene, local(streams=2))


def test_who_waits_for_a_stream_gets_the_next_one() -> None:
    async def scene(one: Local) -> None:
        async with one.desk.streams.begin():
            waiting = asyncio.ensure_future(encoded(one.desk, FRAMES))
            await asyncio.sleep(0.05)
            assert not waiting.done()
        assert np.array_equal(await waiting, CODES)

    run(scene, local(streams=1))


def test_of_a_stream_that_is_left_nothing_is_held() -> None:
    engine = Watched(FACTS)

    async def scene(one: Local) -> None:
        async with one.desk.streams.begin() as stream:
            await step(one.desk, stream, FRAMES[:8])
            assert engine.held == 1
        await until(lambda: engine.held == 0)

    run(scene, local(engine))


def test_nor_of_one_that_is_left_while_a_chunk_is_under_way() -> None:
    engine = Watched(FACTS, per_batch=0.2)

    async def scene(one: Local) -> None:
        task = asyncio.ensure_future(encoded(one.desk, FRAMES))
        await until(lambda: engine.made)
        task.cancel()
        await asyncio.wait([task])
        assert one.desk.streams.open == 0
        await until(lambda: engine.held == 0 and set(one.desk.line.slab.states) == {0})

    run(scene, local(engine))


def test_a_chunk_that_fails_ends_it() -> None:
    engine = Watched(FACTS, refused=BAD, poison=(3, 2, 1))

    async def scene(one: Local) -> None:
        for first, kind_of in ((BAD, Refused), ((3, 2, 1), Broken)):
            async with one.desk.streams.begin() as stream:
                await step(one.desk, stream, FRAMES[:8])
                with pytest.raises(kind_of):
                    await step(one.desk, stream, picture(1, (8, 32, 32), first))
                with pytest.raises(Broken) as error:
                    await step(one.desk, stream, FRAMES[8:16])
                assert str(error.value) == (
                    "RuntimeError: this is a chunk of a stream that is not held here"
                )

    run(scene, local(engine))


def test_a_chunk_has_a_deadline() -> None:
    engine = Watched(FACTS, per_batch=0.3)

    async def scene(one: Local) -> None:
        async with one.desk.streams.begin() as stream:
            await step(one.desk, stream, FRAMES[:8])
            with pytest.raises(Late):
                await step(one.desk, stream, FRAMES[8:16], seconds=0.05)
        await until(lambda: engine.held == 0)
        assert np.array_equal(await encoded(one.desk, FRAMES), CODES)  # longer than one deadline

    run(scene, local(engine, timeout=1.0))


def test_pictures_are_no_streams() -> None:
    engine = TokenizerEngine(kind("cnn"), name="toy", tokenizer="toy")
    with pytest.raises(Exception, match="toy takes pictures, of which none is a stream"):
        engine.passage(Op.ENCODE)


def test_a_codec_that_takes_no_clip_piece_by_piece(monkeypatch: pytest.MonkeyPatch) -> None:
    tok = kind(CLIPS[0])
    engine = TokenizerEngine(tok, name="toy", tokenizer="toy")
    monkeypatch.delattr(type(tok.codec), "frame_encoder")
    with pytest.raises(Exception, match="toy takes no clip piece by piece here"):
        engine.passage(Op.ENCODE)


# --- workers --------------------------------------------------------------------------------------


def answered(hand: Hand, **parts: npt.NDArray[Any]) -> Any:
    """Plays the worker for the one question that waits."""
    (question,) = hand.read()
    hand.done(question, **parts)
    return question


def test_a_worker_that_is_killed_takes_its_streams_along() -> None:
    bench = Bench(StubEngine(FACTS), workers=1)

    async def main() -> None:
        await bench.desk.start()
        process = bench.spawn()
        try:
            await until(lambda: bench.desk.alive)
            async with bench.desk.streams.begin() as stream:
                await step(bench.desk, stream, FRAMES[:8])
                process.kill()
                with pytest.raises(Severed):
                    for start in range(8, 30):
                        await step(bench.desk, stream, FRAMES[start : start + 1])
            process = bench.spawn()
            assert np.array_equal(await encoded(bench.desk, FRAMES), CODES)
            await until(bench.all_free)
        finally:
            process.kill()
            bench.desk.close()

    asyncio.run(main())


async def begin(bench: Bench, stream: Stream, last: bool = False) -> asyncio.Task[Any]:
    task = asyncio.ensure_future(step(bench.desk, stream, FRAMES[:4], last=last))
    await until(lambda: bench.desk.in_flight)
    return task


def test_what_a_worker_is_told_of_chunks() -> None:
    async def scene(bench: Bench, hand: Hand) -> None:
        found = []
        async with bench.desk.streams.begin() as stream:
            for last in (False, True):
                task = await begin(bench, stream, last)
                await asyncio.sleep(0)
                found.append(answered(hand, codes=CODES[:1]))
                await task
        numbers = [(one.stream, one.step, one.last, one.alone) for one in found]
        assert numbers == [(1, 0, 0, 1), (1, 1, 1, 1)]
        assert hand.read() == []
        async with bench.desk.streams.begin() as stream:
            task = await begin(bench, stream)
            await asyncio.sleep(0)
            answered(hand, codes=CODES[:1])
            await task
        (over,) = await until(hand.read)
        assert (over.attempt, over.stream) == (0, 2)

    play(scene)


def test_all_chunks_go_to_one_worker() -> None:
    async def scene(bench: Bench, hand: Hand) -> None:
        hands = [hand, Hand(bench.line, 1)]
        hands[1].hello()
        await until(lambda: bench.desk.alive == 2)
        async with bench.desk.streams.begin() as one, bench.desk.streams.begin() as other:
            seen = []
            for stream in (one, other) * 3:
                task = await begin(bench, stream)
                await asyncio.sleep(0)
                for number, each in enumerate(hands):
                    for question in each.read():
                        seen.append((number, question.stream))
                        each.done(question, codes=CODES[:1])
                await task
        assert len(seen) == 6
        assert len(set(seen)) == 2

    play(scene, workers=2)


def test_the_first_chunk_may_go_to_another_worker() -> None:
    async def scene(bench: Bench, hand: Hand) -> None:
        async with bench.desk.streams.begin() as stream:
            task = await begin(bench, stream)
            hand.hello()  # the one before has ended
            (question,) = await until(lambda: [one for one in hand.read() if one.attempt == 2])
            hand.done(question, codes=CODES[:1])
            await task
            task = await begin(bench, stream)
            await asyncio.sleep(0)
            answered(hand, codes=CODES[:1])
            await task

    play(scene)


def test_no_other_worker_goes_on_with_a_stream() -> None:
    async def scene(bench: Bench, hand: Hand) -> None:
        for under_way in (True, False):
            async with bench.desk.streams.begin() as stream:
                task = await begin(bench, stream)
                await asyncio.sleep(0)
                answered(hand, codes=CODES[:1])
                await task
                if under_way:
                    task = await begin(bench, stream)
                    hand.hello()
                else:
                    hand.say(Said.GOODBYE)
                    await until(lambda: not bench.desk.alive)
                    task = asyncio.ensure_future(step(bench.desk, stream, FRAMES[:4]))
                with pytest.raises(Severed) as error:
                    await task
                assert str(error.value) == SEVERED
            hand.read()
        assert bench.all_free()

    play(scene)
