"""What LitServe is made of here: an api and a loop a model, a spec, a transport, a middleware."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from litserve import LitAPI
from litserve.loops.base import LitLoop
from litserve.specs.base import LitSpec
from litserve.transport.base import MessageTransport

from vqtok.errors import VqtokError
from vqtok.serve.board import Board, Phase
from vqtok.serve.lit.family import hush, leave_with_parent
from vqtok.serve.lit.notes import Notes
from vqtok.serve.lit.streams import be_patient, say
from vqtok.serve.worker import work

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

    from vqtok.serve.engine import Engine
    from vqtok.serve.line import Line
    from vqtok.serve.lit.office import Office
    from vqtok.serve.meters import Meters

__all__ = ["Bench", "Front", "Link", "Nothing", "TokenizerAPI", "WorkLoop"]

# Seconds after a SIGTERM in which the main process would have said that all of them go.
GROUP = 1.0
FAILED = 3  # the status of a worker that could not start


@dataclass
class Bench:
    """What the workers of one model work with; picklable, for children that are being spawned."""

    name: str
    make: Callable[[str], Engine]
    line: Line
    board: Board
    meters: Meters
    notes: Notes
    max_batch: int
    first_row: int  # of the meters, for worker 0
    threads: int  # of torch, in each worker


class Nothing(LitSpec):  # type: ignore[misc]
    """No endpoints: it keeps LitServe from adding its own."""

    def __init__(self, path: str) -> None:
        super().__init__()
        self.api_path = path

    def setup(self, server: Any) -> None:
        """Nothing is taken over from LitServe's server."""


class WorkLoop(LitLoop):  # type: ignore[misc]
    """The life of a worker once its engine is there."""

    def __call__(self, lit_api: TokenizerAPI, *rest: Any) -> None:
        lit_api.work()


class TokenizerAPI(LitAPI):  # type: ignore[misc]
    """One model. `setup` and `work` run in its workers."""

    def __init__(self, bench: Bench) -> None:
        # LitServe knows workers by the last part of the path.
        super().__init__(loop=WorkLoop(), spec=Nothing(f"/v1/models/{bench.name}"))
        self.bench = bench
        self._told = 0.0

    def setup(self, device: str) -> None:
        """Loads and warms up; where that fails, the reason is left for the main process."""
        self._settle_in()
        seat = self.bench.board.seat(self.bench.name, self._worker)
        try:
            self.engine = self.bench.make(device)
            self._set_threads()
            if self._worker == 0:
                say(f"warming up {self.bench.name} on {device}")
            self.engine.warm_up(self.bench.max_batch, seat.pulse)
            # All that is there by now stays; looking through it at the end took two seconds.
            gc.collect()
            gc.freeze()
        except Exception as error:
            if not isinstance(error, VqtokError):
                traceback.print_exc()
            reason = " ".join(str(error).split()) or type(error).__name__
            self.bench.notes.write(self.bench.name, self._worker, reason)
            sys.exit(FAILED)

    def predict(self, x: Any) -> Any:
        """Never called: batches are gathered and run by `vqtok.serve.worker`."""
        raise NotImplementedError

    def work(self) -> None:
        """Answers until nobody asks any more."""
        signal.signal(signal.SIGTERM, self._tell)
        bench = self.bench
        work(
            bench.line,
            self._worker,
            self.engine,
            max_batch=bench.max_batch,
            stop=self._stop,
            board=bench.board,
            meters=bench.meters.row(bench.first_row + self._worker),
        )

    def _settle_in(self) -> None:
        be_patient()
        hush()
        leave_with_parent()
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
        self._worker = int(os.environ["LITSERVE_WORKER_ID"])
        # What the user has set stands.
        self._threads = 0 if "OMP_NUM_THREADS" in os.environ else self.bench.threads
        if self._threads:  # for ONNX Runtime, whose sessions have them from the start
            os.environ.setdefault("VQTOK_ONNX_THREADS", str(self._threads))

    def _set_threads(self) -> None:
        torch = sys.modules.get("torch")
        if torch is not None and self._threads:
            torch.set_num_threads(self._threads)

    def _tell(self, number: int, frame: Any) -> None:
        self._told = self._told or time.monotonic()

    def _stop(self) -> bool:
        """Whether to go. A SIGTERM to the whole group leaves that to the main process, for there
        may be work until it has drained; one to this worker alone is obeyed."""
        if self.bench.notes.ended:
            return True
        alone = self._told and time.monotonic() - self._told > GROUP
        return bool(alone) and self.bench.board.phase <= Phase.READY


class Link(MessageTransport):  # type: ignore[misc]
    """Carries nothing. LitServe awaits it in each API process, which is where our part begins."""

    def __init__(self, office: Office) -> None:
        self.office: Office | None = office

    def send(self, item: Any, consumer_id: int) -> None:
        """Never called: no loop of LitServe's runs."""
        raise NotImplementedError

    async def areceive(self, consumer_id: int, timeout: float | None = None) -> Any:
        """Opens the office of API process `consumer_id`, until that ends."""
        assert self.office is not None
        try:
            await self.office.open(consumer_id)
        except Exception:
            traceback.print_exc()
            os._exit(1)
        try:
            await asyncio.Event().wait()
        finally:
            await self.office.close()

    def __getstate__(self) -> dict[str, Any]:
        return {"office": None}  # workers have no use for it


class Front:
    """In front of LitServe's application: all of HTTP is ours, its own start and end stay its."""

    def __init__(self, app: ASGIApp, office: Office) -> None:
        self.app, self.office = app, office

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            app = self.office.app or await self.office.opened()
            await app(scope, receive, send)
        else:
            await self.app(scope, receive, send)
