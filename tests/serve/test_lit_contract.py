"""What of LitServe the server rests on: fails when a release moves it, before users see it."""

from __future__ import annotations

import asyncio
import inspect
import multiprocessing
import os
import pickle
import signal
import threading
from collections.abc import Callable, Iterator
from multiprocessing.process import BaseProcess
from types import SimpleNamespace
from typing import Any

import litserve
import pytest
from litserve.callbacks import CallbackRunner
from litserve.loops import inference_worker
from serve_stubs import StubEngine, stub_facts

from vqtok.errors import ConfigError
from vqtok.serve.lit import server as lit_server
from vqtok.serve.lit.api import Front, Link, TokenizerAPI, WorkLoop
from vqtok.serve.lit.server import Server
from vqtok.serve.lit.supervise import Signals
from vqtok.serve.main import _devices, _server
from vqtok.serve.settings import ServeSettings

SETTINGS = ServeSettings(api_processes=2, workers_per_device=2, slots=4)


def make_server(signals: Signals) -> Server:
    loads = {name: (stub_facts(name, size=64), StubEngine()) for name in ("small", "large")}
    return _server(loads, SETTINGS, ["cuda:0", "cuda:1"], signals)


@pytest.fixture
def server() -> Iterator[Server]:
    made = make_server(Signals())
    yield made
    for bench in made.benches.values():
        bench.line.close()


def parameters(function: Callable[..., Any]) -> list[str]:
    return list(inspect.signature(function).parameters)


@pytest.mark.parametrize(
    "name",
    [
        "_init_manager",
        "verify_worker_status",
        "launch_inference_worker",
        "launch_single_inference_worker",
        "_start_worker_monitoring",
    ],
)
def test_overridden_methods_are_there(name: str) -> None:
    theirs, ours = getattr(litserve.LitServer, name), getattr(Server, name)
    assert parameters(theirs) == parameters(ours)


def test_server_is_started_with_the_listening_sockets() -> None:
    theirs = parameters(litserve.LitServer._start_server)
    assert theirs[:6] == [
        "self",
        "port",
        "num_uvicorn_servers",
        "log_level",
        "sockets",
        "uvicorn_worker_type",
    ]


def test_run_takes_what_it_is_given() -> None:
    taken = set(parameters(litserve.LitServer.run))
    assert taken >= {"host", "port", "num_api_servers", "log_level", "generate_client_file"}


def test_run_calls_the_overridden_methods(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the order that they rely on, and with nothing started."""
    called: list[str] = []

    def note(name: str, answer: Any = None) -> None:
        def method(*given: Any, **named: Any) -> Any:
            called.append(name)
            if name == "_start_worker_monitoring":
                server._shutdown_event.set()
            return answer

        monkeypatch.setattr(server, name, method)

    note("launch_inference_worker", [])
    note("verify_worker_status")
    note("_start_server", {})
    note("_start_worker_monitoring")
    monkeypatch.setattr("uvicorn.Config.bind_socket", lambda config: None)
    assert server.serve() == 0
    assert called == [
        "launch_inference_worker",
        "launch_inference_worker",
        "verify_worker_status",
        "_start_server",
        "_start_worker_monitoring",
    ]


def test_gzip_and_endpoints_are_left_out(server: Server) -> None:
    assert isinstance(server.app.middleware_stack, Front)
    assert "/v1/models/small" not in {getattr(route, "path", "") for route in server.app.routes}


def test_each_model_has_its_workers_on_each_device(server: Server) -> None:
    config = server._inference_workers_config_for_api("/v1/models/small")
    assert sorted(config) == ["cuda:0", "cuda:0", "cuda:1", "cuda:1"]
    assert [bench.first_row for bench in server.benches.values()] == [2, 6]


def test_there_is_no_manager(server: Server) -> None:
    server._init_manager(2).shutdown()
    assert isinstance(server._shutdown_event, threading.Event)
    assert server._get_request_queue("/v1/models/large") is None


def test_monitor_restarts_the_dead(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """It maps workers in a row to the models' own numbers."""
    server._init_manager(2)
    asked: list[tuple[str, int]] = []
    alive = SimpleNamespace(is_alive=lambda: True, name="inference-worker")
    dead = SimpleNamespace(is_alive=lambda: False, name="inference-worker")

    def launch(api: TokenizerAPI, worker: int) -> Any:
        asked.append((api.bench.name, worker))
        server._shutdown_event.set()
        return alive

    monkeypatch.setattr(server, "launch_single_inference_worker", launch)
    server.inference_workers = [alive] * 5 + [dead] + [alive] * 2
    server.monitor_internal = 0.01
    litserve.LitServer._start_worker_monitoring(server, None, {})
    assert server._shutdown_event.wait(30)
    assert asked == [("large", 1)]
    assert server.inference_workers[5] is alive


def test_all_processes_that_were_started_are_ended_and_no_others(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are known by their names, which LitServe gives."""
    started: list[BaseProcess] = []
    ended: list[BaseProcess] = []
    monkeypatch.setattr(BaseProcess, "start", lambda self: started.append(self))
    monkeypatch.setattr(BaseProcess, "kill", lambda self: ended.append(self))
    server._init_manager(2)
    api = server.litapi_connector.lit_apis[0]
    server.launch_inference_worker(api)
    litserve.LitServer.launch_single_inference_worker(server, api, 0)
    server._start_server(8000, 2, "error", [], "process")
    assert len(started) == 4 + 1 + 2
    others = [multiprocessing.Process(name="somebody-s")]
    monkeypatch.setattr(multiprocessing, "active_children", lambda: [*started, *others])
    server.supervisor.kill()
    assert ended == started


def test_worker_that_cannot_be_forked_ends_the_server(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """LitServe's thread would end with the error, and no worker be replaced from then on."""
    server._init_manager(2)
    dead = SimpleNamespace(pid=1, exitcode=-35)
    server.workers["small", 0] = dead  # type: ignore[assignment]

    def launch(*given: Any) -> Any:
        raise BlockingIOError(11, "Resource temporarily unavailable")

    monkeypatch.setattr(litserve.LitServer, "launch_single_inference_worker", launch)
    api = server.litapi_connector.lit_apis[0]
    assert server.launch_single_inference_worker(api, 0) is dead
    assert server.supervisor._failed == (
        "worker 0 of small cannot be started: [Errno 11] Resource temporarily unavailable"
    )


def test_ready_is_when_all_api_processes_answer(server: Server) -> None:
    supervisor = server.supervisor
    supervisor._apis = [SimpleNamespace(), SimpleNamespace()]  # type: ignore[list-item]
    for name in server.benches:
        server.office.board.seat(name, 0).ready = True
    server.office.pulses.beat(1)
    assert not supervisor._is_up()
    server.office.pulses.beat(0)
    assert supervisor._is_up()


def test_signals_that_nobody_reads_stop_nothing() -> None:
    signals = Signals()
    signals.given_to(lambda: None)
    for _ in range(70_000):  # more than a pipe holds
        signals._came(signal.SIGTERM, None)
    assert signals.heard()


def test_api_process_ends_with_its_application(server: Server) -> None:
    closed: list[str] = []

    class App:
        async def close(self) -> None:
            closed.append("app")

    office = server.office
    office.app = App()  # type: ignore[assignment]
    office._open = {"small": SimpleNamespace(close=lambda: closed.append("desk"))}  # type: ignore[dict-item]
    asyncio.run(office.close())
    assert closed == ["app", "desk"]


def test_worker_is_set_up_and_then_loops(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LITSERVE_WORKER_ID", "")
    done: list[Any] = []

    class Api(TokenizerAPI):
        def setup(self, device: str) -> None:
            done.append((device, os.environ["LITSERVE_WORKER_ID"]))

        def work(self) -> None:
            done.append("works")

    api = Api(server.benches["small"])
    assert isinstance(api.loop, WorkLoop)
    inference_worker(api, "cuda:1", 3, None, None, {}, CallbackRunner(), True)
    assert done == [("cuda:1", "3"), "works"]


def test_api_process_opens_its_office_on_the_running_loop(server: Server) -> None:
    done: list[Any] = []

    class Desks:
        async def open(self, index: int) -> None:
            done.append(("open", index, asyncio.get_running_loop()))

        async def close(self) -> None:
            done.append("close")

    async def live() -> asyncio.AbstractEventLoop:
        server._transport = Link(Desks())  # type: ignore[arg-type]
        server.app.response_queue_id = 1
        async with server.lifespan(server.app):
            await asyncio.sleep(0.05)
            assert done[-1][0] == "open"
        return asyncio.get_running_loop()

    loop = asyncio.run(live())
    assert done == [("open", 1, loop), "close"]


def test_front_leaves_the_lifespan_to_litserve() -> None:
    async def theirs(scope: Any, receive: Any, send: Any) -> None:
        seen.append(("theirs", scope["type"]))

    async def ours(scope: Any, receive: Any, send: Any) -> None:
        seen.append(("ours", scope["type"]))

    async def opened() -> Any:
        return ours

    seen: list[tuple[str, str]] = []
    front = Front(theirs, SimpleNamespace(app=None, opened=opened))  # type: ignore[arg-type]
    for kind in ("lifespan", "http", "websocket"):
        asyncio.run(front({"type": kind}, None, None))  # type: ignore[arg-type]
    assert seen == [("theirs", "lifespan"), ("ours", "http"), ("theirs", "websocket")]


def test_what_is_spawned_with_can_be_pickled(server: Server) -> None:
    """As far as it holds no file descriptors, which only a process being started takes."""
    server._init_manager(2)
    assert pickle.loads(pickle.dumps(server._transport)).office is None
    api = server.litapi_connector.lit_apis[0]
    api.bench = None
    again = pickle.loads(pickle.dumps(api))
    assert again.spec.api_path == "/v1/models/small"


# --- devices ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "gpus", "expected"),
    [
        ({}, 0, ["cpu"]),
        ({}, 2, ["cuda:0"]),
        ({"device": "cpu"}, 2, ["cpu"]),
        ({"device": "cuda:1"}, 2, ["cuda:1"]),
        ({"devices": "all"}, 2, ["cuda:0", "cuda:1"]),
        ({"devices": "1,0", "device": "cuda"}, 2, ["cuda:1", "cuda:0"]),
    ],
)
def test_devices(
    given: dict[str, Any], gpus: int, expected: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.cuda.device_count", lambda: gpus)
    monkeypatch.setattr("torch.backends.mps.is_available", lambda: False)
    assert _devices(ServeSettings(**given), check=True) == expected


@pytest.mark.parametrize(
    ("given", "gpus", "expected"),
    [
        ({"devices": "all"}, 0, "devices is 'all', and torch sees no GPU here"),
        ({"devices": "0,2"}, 2, "there is no device 'cuda:2' here: torch sees 2 GPUs"),
        ({"device": "cuda"}, 0, "there is no device 'cuda' here: torch sees 0 GPUs"),
        ({"device": "mps"}, 0, "there is no device 'mps' here"),
    ],
)
def test_devices_that_are_not_there(
    given: dict[str, Any], gpus: int, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.cuda.device_count", lambda: gpus)
    monkeypatch.setattr("torch.backends.mps.is_available", lambda: False)
    with pytest.raises(ConfigError) as error:
        _devices(ServeSettings(**given), check=True)
    assert str(error.value) == expected


# --- before and after ------------------------------------------------------------------------


def test_listening_comes_before_api_processes(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []
    one = SimpleNamespace(listen=lambda count: done.append("listen"), close=lambda: None)
    monkeypatch.setattr(
        litserve.LitServer, "_start_server", lambda *given, **named: done.append("start")
    )
    server._start_server(8000, 2, "error", [one], "process")
    assert done == ["listen", "start"]


def test_where_it_is(server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    server.say_serving()
    server.settings = SETTINGS.model_copy(update={"page": False, "api_processes": 1})
    server.settings = server.settings.model_copy(update={"host": "0.0.0.0"})
    server.say_serving()
    host = lit_server.socket.gethostname()
    assert capsys.readouterr().err.splitlines() == [
        "vqtok: serving small, large at http://127.0.0.1:8000/ (cuda:0, cuda:1; 2 API processes; "
        "the page is there, too)",
        f"vqtok: serving small, large at http://{host}:8000/ (cuda:0, cuda:1; 1 API process; "
        "no page)",
    ]
