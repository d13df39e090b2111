"""LitServe's server with the parts taken out that stand in a request's way."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Mapping, Sequence
from multiprocessing.process import BaseProcess
from typing import TYPE_CHECKING, Any

from litserve import LitServer

from vqtok.serve.board import Phase
from vqtok.serve.http.heads import Connection
from vqtok.serve.lit.api import Bench, Front, Link, TokenizerAPI
from vqtok.serve.lit.family import ended_by, hush, interrupts_held
from vqtok.serve.lit.ports import check_port, listen
from vqtok.serve.lit.streams import say
from vqtok.serve.lit.supervise import Supervisor

if TYPE_CHECKING:
    from vqtok.serve.lit.office import Office
    from vqtok.serve.lit.supervise import Signals
    from vqtok.serve.settings import ServeSettings

__all__ = ["Server"]

TRIES = 3
PAUSE = 0.25  # seconds before the second, twice that before the third
# Seconds that connections stay open between requests: longer than balancers keep theirs.
KEEP_ALIVE = 75


class _NoManager:
    """LitServe shuts its manager down; there is none."""

    def shutdown(self) -> None:
        pass


class Server(LitServer):  # type: ignore[misc]
    """Workers and API processes of some models.

    benches  of the models, in order
    devices  a worker of each model on each, `workers_per_device` times
    """

    def __init__(
        self,
        benches: Sequence[Bench],
        office: Office,
        settings: ServeSettings,
        devices: Sequence[str],
        signals: Signals,
    ) -> None:
        super().__init__(
            [TokenizerAPI(bench) for bench in benches],
            accelerator="cpu",  # devices are named below
            workers_per_device=settings.workers_per_device,
            timeout=settings.timeout,
            restart_workers=True,
            disable_openapi_url=True,
        )
        # Before all middleware: LitServe's gzip alone would spend 4 ms on pixels that it can hardly
        # make smaller.
        self.app.middleware_stack = Front(self.app.build_middleware_stack(), office)
        self.devices = list(devices)
        self.monitor_internal = 0.25  # seconds between looks at the workers
        self.uvicorn_graceful_timeout = int(settings.timeout) + 1
        self.settings, self.office, self.signals = settings, office, signals
        self.benches = {bench.name: bench for bench in benches}
        self.notes = benches[0].notes
        self.workers: dict[tuple[str, int], BaseProcess] = {}
        self.started: dict[tuple[str, int], float] = {}
        self._fruitless: dict[tuple[str, int], int] = {}
        self.supervisor = Supervisor(self)

    def say_serving(self) -> None:
        """Where it is, for people."""
        chosen = self.settings
        host = chosen.host if chosen.host == "127.0.0.1" else socket.gethostname()
        on = ", ".join(self.devices)
        apis = f"{chosen.api_processes} API process{'es' * (chosen.api_processes > 1)}"
        page = "the page is there, too" if chosen.page else "no page"
        say(
            f"serving {', '.join(self.benches)} at http://{host}:{chosen.port}/ "
            f"({on}; {apis}; {page})"
        )

    def serve(self) -> int:
        """Blocks until the end; the exit status."""
        self.signals.given_to(self.supervisor.kill)
        # Once more: models took their time to load, and uvicorn would only say a number.
        check_port(self.settings.host, self.settings.port)
        self.run(
            host=self.settings.host,
            port=self.settings.port,
            num_api_servers=self.settings.api_processes,
            log_level="error",
            log_config=None,  # uvicorn's own wants a standard output
            generate_client_file=False,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            ws="none",
            http=Connection,
            timeout_keep_alive=KEEP_ALIVE,
        )
        return self.supervisor.status

    # --- what LitServe calls ------------------------------------------------------------------

    def _init_manager(self, num_api_servers: int) -> _NoManager:
        """Instead of a process that every request would go through, nothing."""
        hush()
        self.workers_setup_status: dict[str, str] = {}
        self._shutdown_event = threading.Event()
        self.litapi_request_queues = {api.api_path: None for api in self.litapi_connector}
        self._transport = Link(self.office)
        return _NoManager()

    def verify_worker_status(self) -> None:
        """LitServe would listen only now. /startup tells from the first moment how it goes."""

    def launch_inference_worker(self, lit_api: TokenizerAPI) -> list[BaseProcess]:
        with interrupts_held():
            started: list[BaseProcess] = super().launch_inference_worker(lit_api)
        for number, process in enumerate(started):
            self._note(lit_api.bench.name, number, process)
        return started

    def launch_single_inference_worker(self, lit_api: TokenizerAPI, worker_id: int) -> BaseProcess:
        """Another worker in the place of a dead one, unless there were `TRIES` in vain."""
        key = lit_api.bench.name, worker_id
        try:
            if not self.notes.ended and self._may_go_on(*key):
                lit_api.bench.board.seat(*key).restarted()
                with interrupts_held():
                    process = super().launch_single_inference_worker(lit_api, worker_id)
                self._note(*key, process)
        except Exception as error:  # LitServe's thread would end, and no worker start any more
            self.supervisor.fail(f"worker {worker_id} of {key[0]} cannot be started: {error}")
        return self.workers[key]

    def _start_server(self, port: int, count: int, log_level: str, sockets: Any, kind: str,
                      **options: Any) -> dict[int, BaseProcess]:  # fmt: skip
        # Here, where it can be told: two servers may bind one port, of which one can listen.
        listen(sockets, self.settings.host, port)
        started: dict[int, BaseProcess] = super()._start_server(
            port, count, log_level, sockets, kind, **options
        )
        # Or connections would wait in vain for an answer once the API processes have gone.
        for one in sockets:
            one.close()
        return started

    def _start_worker_monitoring(self, manager: Any, uvicorn_workers: Mapping[int, Any]) -> None:
        super()._start_worker_monitoring(manager, uvicorn_workers)
        self.supervisor.start(list(uvicorn_workers.values()))

    # --- workers that end ---------------------------------------------------------------------

    def _note(self, model: str, worker: int, process: BaseProcess) -> None:
        self.workers[model, worker] = process
        self.started[model, worker] = time.monotonic()

    def _may_go_on(self, model: str, worker: int) -> bool:
        """Says what happened, and whether another try is due."""
        dead = self.workers[model, worker]
        seat = self.benches[model].board.seat(model, worker)
        reason = self.notes.take(model, worker)
        what = f"worker {worker} of {model}"
        if seat.pid == dead.pid:  # it has sat there, so it could start
            self._fruitless[model, worker] = 0
            say(f"{what} ended ({ended_by(dead.exitcode)}); another one starts")
            return True
        tries = self._fruitless[model, worker] = self._fruitless.get((model, worker), 0) + 1
        text = f"{what} cannot start: {reason or ended_by(dead.exitcode)}"
        if tries >= TRIES:
            self.supervisor.fail(f"{text} ({tries} times running)")
            return False
        if self.benches[model].board.phase < Phase.LEAVING:
            say(f"{text}; trying again")
        time.sleep(tries * PAUSE)
        return True
