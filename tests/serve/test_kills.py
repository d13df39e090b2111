"""Workers in processes of their own, killed under load."""

from __future__ import annotations

import asyncio
import time

import numpy as np
import pytest
from serve_bench import Bench, encode
from serve_scenes import until
from serve_stubs import StubEngine, picture, stub_facts

from vqtok.serve.desk import Desk
from vqtok.serve.line import Answered
from vqtok.serve.outcomes import Lost


def test_workers_killed_at_any_instant_lose_nothing_and_answer_nothing_twice() -> None:
    bench = Bench(StubEngine(stub_facts(size=None), per_batch=0.01), workers=2, slots=12)
    rng = np.random.default_rng(7)
    heard: list[tuple[int, int]] = []
    hear = Desk._answered

    def counting(desk: Desk, worker: int, answer: Answered) -> None:
        before = desk.in_flight
        hear(desk, worker, answer)
        if desk.in_flight < before:
            heard.append((answer.uid, answer.attempt))

    async def client(number: int) -> int:
        rounds = 0
        while not ended:
            seed = 1000 * number + rounds
            pixels = picture(seed, (32, 48))
            codes = pixels[::16, ::16, 0] + (pixels[::16, ::16, 1] & np.uint16(15)) * 256
            found, _ = await encode(bench.desk, pixels)
            assert np.array_equal(found["codes"], codes)
            rounds += 1
        return rounds

    async def main() -> list[int | BaseException]:
        await bench.desk.start()
        processes = [bench.spawn(worker) for worker in (0, 1)]
        await asyncio.gather(*(ready(bench, worker, 1) for worker in (0, 1)))
        clients = asyncio.gather(*map(client, range(16)), return_exceptions=True)
        try:
            for kill in range(5):
                worker = kill % 2
                await asyncio.sleep(float(rng.uniform(0, 0.05)))
                processes[worker].kill()
                await asyncio.to_thread(processes[worker].join)
                processes[worker] = bench.spawn(worker)
                await ready(bench, worker, 2 + kill // 2)
            ended.append(True)
            results = await clients
            await until(bench.all_free)
        finally:
            for process in processes:
                process.kill()
                process.join()
        bench.desk.close()
        return results

    ended: list[bool] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Desk, "_answered", counting)
        results = asyncio.run(main())
    rounds = [one for one in results if isinstance(one, int)]
    assert len(rounds) == 16, results
    assert sum(rounds) == len(heard) > 50
    assert len({uid for uid, _ in heard}) == len(heard)
    assert max(attempt for _, attempt in heard) == 2


async def ready(bench: Bench, worker: int, generation: int) -> None:
    seat = bench.board.seat("stub", worker)
    limit = time.monotonic() + 30
    while not seat.ready or seat.generation < generation:
        await asyncio.sleep(0.005)
        assert time.monotonic() < limit


def test_a_picture_that_kills_workers_is_lost_alone() -> None:
    killer = (1, 2, 3)
    engine = StubEngine(stub_facts(size=None), kill=killer)
    bench = Bench(engine, slots=8)

    async def one(number: int) -> str:
        pixels = picture(number, (32, 48), killer if number == 3 else None)
        try:
            await encode(bench.desk, pixels)
        except Lost as error:
            return str(error)
        return "answered"

    async def main() -> list[str]:
        await bench.desk.start()
        process = bench.spawn()
        tasks = [asyncio.ensure_future(one(number)) for number in range(6)]
        for _ in range(2):
            await asyncio.to_thread(process.join)
            process = bench.spawn()
        found = await asyncio.gather(*tasks)
        await until(bench.all_free)
        process.kill()
        process.join()
        bench.desk.close()
        return found

    lost = "2 workers died over it"
    assert asyncio.run(main()) == [*["answered"] * 3, lost, *["answered"] * 2]
