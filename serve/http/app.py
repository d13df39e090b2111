"""The ASGI app: which handler a path has, who may ask, and that each request gets one answer."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any

from vqtok.serve.board import Board, Phase
from vqtok.serve.http.auth import check_key
from vqtok.serve.http.cache import Cache
from vqtok.serve.http.cors import Cors
from vqtok.serve.http.exchange import STALLED, Exchange, Gone, Room, Scope
from vqtok.serve.http.faults import Fault, fault_of
from vqtok.serve.http.log import Log, line_of, trace_of
from vqtok.serve.http.replies import answer_fault
from vqtok.serve.http.routes import OF_MODEL, Route, missing, routes_of, served_at
from vqtok.serve.http.served import Served, Shop
from vqtok.serve.http.threads import Threads
from vqtok.serve.meters import CODES, Meters

if TYPE_CHECKING:
    from vqtok.serve.desk import Desk
    from vqtok.serve.settings import ServeSettings

__all__ = ["App", "Desks", "make_app"]

HELD = 8  # times the largest body are the bytes of bodies that a process holds at once
Desks = Mapping[str, "Desk"]


def make_app(
    desks: Desks | Callable[[], Desks], settings: ServeSettings, board: Board, meters: Meters
) -> App:
    """An ASGI app over desks, by the names that their models have in paths; the first is that of
    paths without a name.

    desks  started ones; or what makes them, asked once, on the loop of the first request: the app
           starts those, and closes them where it hears of the server's end
    """
    return App(desks, settings, board, meters)


class App:
    """See `make_app`."""

    def __init__(
        self,
        desks: Desks | Callable[[], Desks],
        settings: ServeSettings,
        board: Board,
        meters: Meters,
    ) -> None:
        self._desks = desks
        self.settings, self.board, self.meters = settings, board, meters
        self._key = settings.api_key.encode() if settings.api_key else b""
        self._cors = Cors(settings.cors)
        self._log = Log(settings.log == "json")
        self._threads = Threads(settings.decoder_threads, "vqtok-decode")
        self._brief = Threads(1, "vqtok-brief")
        self._room = Room(HELD * settings.max_body)
        self._begun: asyncio.Future[None] | None = None
        self._own: Desks = {}
        self.routes: dict[str, Route] = {}
        self.names: list[str] = []
        self._print = (b"", b"")  # the first one's, for answers about none

    async def __call__(
        self,
        scope: Scope,
        receive: Callable[[], Awaitable[Any]],
        send: Callable[[Any], Awaitable[None]],
    ) -> None:
        """One request; or the server's start and end."""
        if scope["type"] == "lifespan":
            await self._live(receive, send)
        elif scope["type"] == "http":
            limits = self.settings.max_body, self.settings.timeout
            await self._request(Exchange(scope, receive, send, *limits, self._room))
        else:
            await receive()
            await send({"type": "websocket.close"})

    # --- one request ---------------------------------------------------------------------------

    async def _request(self, x: Exchange) -> None:
        try:
            if not self.routes:
                await self._begin()
            await self._serve(x)
        except (Exception, asyncio.CancelledError) as error:
            await self._fail(x, error)
        finally:
            x.close()
            self._record(x)

    async def _serve(self, x: Exchange) -> None:
        self._cors.mark(x)
        route = self.routes.get(x.path)
        served = route.served if route else served_at(x.path, self.routes)
        if served is not None:
            x.common.append(served.print)
        elif route or not OF_MODEL.fullmatch(x.path):
            x.common.append(self._print)
        if self._key and x.method != "OPTIONS" and not (route and route.is_open):
            check_key(x.headers, self._key)
        if route is None:
            raise missing(x.path, self.routes, self.names)
        if served is not None:
            x.model = served.name
        if x.method != route.method:
            await self._other_method(x, route)
            return
        if route.op:
            x.op = route.op  # before anything is refused
            self._check_open()
            if not route.is_long:
                x.check_length()
        await route.handle(x)

    async def _other_method(self, x: Exchange, route: Route) -> None:
        """HEAD is GET, of which the server leaves the body out."""
        if x.method == "HEAD" and route.method == "GET":
            await route.handle(x)
        elif x.method == "OPTIONS":
            await x.answer(204, b"", [(b"allow", route.allow), *self._cors.preflight(x, route)])
        else:
            raise Fault(
                "method_not_allowed",
                f"{x.path} takes {route.method}, not {x.method}",
                [(b"allow", route.allow)],
            )

    def _check_open(self) -> None:
        if self.board.phase == Phase.DRAINING:
            raise Fault(
                "draining", "this server is about to end; ask another", [(b"connection", b"close")]
            )

    async def _fail(self, x: Exchange, error: BaseException) -> None:
        """Answers what went wrong, where nothing was answered yet and somebody is there."""
        fault = self._fault(x, error)
        x.error = fault.code
        if x.answered:  # broken off; the server closes the connection
            return
        x.status = fault.status
        if fault.status == 499:
            return
        try:
            usable = fault.code != "body_stalled" and await x.drain()
            close = [] if usable else [(b"connection", b"close")]
            await answer_fault(x, fault, close)
        except Gone:
            x.status, x.error = 499, "client_gone"

    def _fault(self, x: Exchange, error: BaseException) -> Fault:
        if isinstance(error, asyncio.CancelledError):
            if not x.was_stopped():
                x.status, x.error = 499, "cancelled"
                raise error
            return _stopped(x.stopped)
        if isinstance(error, Gone):
            return _stopped("client_gone")
        fault = fault_of(error)
        if fault.status == 500:
            self._report(x, error)
        return fault

    def _report(self, x: Exchange, error: BaseException) -> None:
        self._log.write(trace_of(x, error))

    def _record(self, x: Exchange) -> None:
        seconds = time.perf_counter() - x.began
        labels = {"model": x.model, "op": x.op}
        if x.status in CODES:
            self.meters.add("vqtok_requests_total", 1, **labels, code=x.status)
        if x.op != "other":
            self.meters.add("vqtok_request_seconds", seconds, **labels)
        if self._log.wanted:
            self._log.write(line_of(x, seconds))

    # --- start and end ---------------------------------------------------------------------------

    async def _begin(self) -> None:
        """Makes the routes, once; who comes meanwhile waits."""
        if self._begun is None:
            self._begun = asyncio.ensure_future(self._open())
        await asyncio.shield(self._begun)

    async def _open(self) -> None:
        desks = self._desks
        if not isinstance(desks, Mapping):
            desks = self._own = desks()
            for desk in desks.values():
                await desk.start()
        served = [Served.of(name, desk, self.settings) for name, desk in desks.items()]
        shop = Shop(
            self.settings,
            self.board,
            self.meters,
            self._threads,
            self._brief,
            tuple(served),
            self._report,
            Cache(self.settings.cache),
        )
        self.names = [one.name for one in served]
        self._print = served[0].print
        self.routes = routes_of(shop)

    async def _live(
        self, receive: Callable[[], Awaitable[Any]], send: Callable[[Any], Awaitable[None]]
    ) -> None:
        """A server's start and end, of one that tells."""
        await receive()
        await self._begin()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await self.close()
        await send({"type": "lifespan.shutdown.complete"})

    async def close(self) -> None:
        """Ends the threads, and the desks that this app has started."""
        self._log.flush()
        self._threads.close()
        self._brief.close()
        for desk in self._own.values():
            desk.close()


def _stopped(why: str) -> Fault:
    if why == "body_stalled":
        return Fault(why, STALLED)
    return Fault("client_gone", "the client left")
