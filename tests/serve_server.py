"""The HTTP app over an engine, in threads of this process: no LitServe, no second process.

```python
with local_server(StubEngine(), max_images=4) as url:
    httpx.get(f"{url}/v1/model")
```
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import AsyncExitStack, contextmanager
from typing import Any

from vqtok.serve.board import Board, Phase
from vqtok.serve.desk import Desk
from vqtok.serve.engine import Engine
from vqtok.serve.local import Local
from vqtok.serve.meters import Meters
from vqtok.serve.settings import ServeSettings

START = 20.0


class Served:
    """What `serving` gives: where the server is, and what is inside, to look at."""

    def __init__(self) -> None:
        self.url = ""
        self.desks: dict[str, Desk] = {}
        self.board: Board
        self.meters: Meters
        self.loop: asyncio.AbstractEventLoop

    def free(self) -> bool:
        """Whether all slots are free and nothing is under way."""
        return all(
            not desk.in_flight and desk.free == tuple(count for count, _ in desk.line.slab.kinds)
            for desk in self.desks.values()
        )


def settle(served: Served, seconds: float = 5.0) -> None:
    """Waits until nothing is under way: a client may have left before the server noticed."""
    end = time.monotonic() + seconds
    while not served.free() and time.monotonic() < end:
        time.sleep(0.01)


@contextmanager
def local_server(engine: Engine | Mapping[str, Engine], **settings: Any) -> Iterator[str]:
    """The address of a server of one engine or of several by name; settings as in a file."""
    with serving(engine, **settings) as served:
        yield served.url


@contextmanager
def serving(engine: Engine | Mapping[str, Engine], **settings: Any) -> Iterator[Served]:
    """`local_server` with its inside."""
    engines = dict(engine) if isinstance(engine, Mapping) else {engine.facts.name: engine}
    models = {name: {"tokenizer": one.facts.tokenizer} for name, one in engines.items()}
    chosen = ServeSettings(**{"models": models, "log": "off", **settings})
    served, ready, failed = Served(), threading.Event(), []
    stop: list[Any] = []

    def run() -> None:
        try:
            asyncio.run(_serve(engines, chosen, served, ready, stop))
        except BaseException as error:
            failed.append(error)
        ready.set()

    thread = threading.Thread(target=run, name="vqtok-test-server", daemon=True)
    thread.start()
    if not ready.wait(START):
        raise TimeoutError("the test server did not start")
    if failed:
        raise failed[0]
    try:
        yield served
    finally:
        stop[0].should_exit = True
        thread.join(START)


async def _serve(
    engines: dict[str, Engine],
    settings: ServeSettings,
    served: Served,
    ready: threading.Event,
    stop: list[Any],
) -> None:
    import uvicorn

    from vqtok.serve.http import make_app

    books = {name: one.facts.traits.codebook_size for name, one in engines.items()}
    served.board = Board(dict.fromkeys(engines, 1))
    served.meters = Meters(books, rows=1 + len(engines))
    served.loop = asyncio.get_running_loop()
    async with AsyncExitStack() as stack:
        for row, (name, engine) in enumerate(engines.items(), 1):
            local = _local(engine, settings, served, row)
            served.desks[name] = (await stack.enter_async_context(local)).desk
        served.board.phase = Phase.READY
        app = make_app(served.desks, settings, served.board, served.meters)
        server = uvicorn.Server(_config(app))
        stop.append(server)
        serving = asyncio.ensure_future(server.serve())
        while not server.started and not serving.done():
            await asyncio.sleep(0.01)
        served.url = f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
        ready.set()
        await serving


def _local(engine: Engine, settings: ServeSettings, served: Served, row: int) -> Local:
    return Local(
        engine,
        slots=settings.slots,
        clip_slots=settings.clip_slots,
        streams=settings.streams,
        max_batch=settings.max_batch,
        timeout=settings.timeout,
        sizes=settings,
        board=served.board,
        meters=served.meters,
        row=row,
    )


def _config(app: Any) -> Any:
    import uvicorn

    from vqtok.serve.http.heads import Connection

    return uvicorn.Config(
        app,
        host="127.0.0.1",
        port=0,
        log_level="error",
        access_log=False,
        http=Connection,
        lifespan="off",
        timeout_graceful_shutdown=2,
    )
