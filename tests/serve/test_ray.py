"""Ray Serve: what a replica does, without Ray; and once with it, where it is installed."""

from __future__ import annotations

import asyncio
import os
import pickle
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("orjson")
pytest.importorskip("prometheus_client")

from serve_stubs import StubEngine, codes_of, corners, picture, stub_facts

from vqtok.errors import ConfigError, MissingExtraError, ServiceError
from vqtok.serve.ray import RAYS, Replica, _settings, deployment
from vqtok.serve.settings import ServeSettings

ROOT = Path(__file__).resolve().parents[2]
RAW = picture()
WANTED = codes_of(corners(RAW, clip=False)).tobytes()
HEADERS = {
    "content-type": "application/octet-stream",
    "accept": "application/octet-stream",
    "x-vqtok-shape": "256,256,3",
}


# --- settings -------------------------------------------------------------------------------------


def test_settings_are_those_of_the_server_and_of_its_model() -> None:
    settings = _settings("org/photo", {"precision": "bf16", "size": 128, "timeout": 5.0})
    (model,) = settings.models.values()
    assert [*settings.models] == ["photo"]
    assert (model.tokenizer, model.precision, model.size) == ("org/photo", "bf16", 128)
    assert settings.timeout == 5.0


@pytest.mark.parametrize("key", RAYS)
def test_what_ray_decides_on_is_refused(key: str) -> None:
    assert key in ServeSettings.model_fields
    with pytest.raises(ConfigError) as error:
        _settings("photo-tiny", {key: 1})
    wanted = f"{key} is not a setting of a deployment of Ray Serve: {RAYS[key]}"
    assert str(error.value) == wanted


def test_without_ray_it_says_what_to_install() -> None:
    if find_spec("ray"):
        pytest.skip("Ray is installed")
    with pytest.raises(MissingExtraError) as error:
        deployment("photo-tiny")
    assert str(error.value) == (
        "tokenizers are deployed with ray.serve, which is not installed: pip install 'vqtok[ray]'"
    )


# --- a replica ------------------------------------------------------------------------------------


def stub(device: str) -> StubEngine:
    """As a load; by name, so that it can be pickled."""
    assert device == "cpu"
    return StubEngine(stub_facts("stub"))


def broken(device: str) -> StubEngine:
    raise ConfigError("no such tokenizer")


def replica(load: Any = stub) -> Replica:
    """As it arrives in another process."""
    settings = _settings("stub", {"device": "cpu", "log": "off"})
    return pickle.loads(pickle.dumps(Replica(settings, load)))


@asynccontextmanager
async def started(app: Replica) -> AsyncIterator[list[dict[str, Any]]]:
    """What Ray does at its start and end; the messages that it is sent."""
    asked: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
    told: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
    life = asyncio.create_task(app({"type": "lifespan"}, asked.get, told.put))
    await asked.put({"type": "lifespan.startup"})
    messages = [await told.get()]
    try:
        yield messages
    finally:
        if not life.done():
            await asked.put({"type": "lifespan.shutdown"})
            messages.append(await told.get())
        await life


@pytest.mark.parametrize("prefix", ["", "/tokens"])
def test_a_replica_answers_as_the_server_does(prefix: str) -> None:
    httpx = pytest.importorskip("httpx")

    async def main() -> None:
        app = replica()
        with pytest.raises(ServiceError, match=r"^the worker has ended$"):
            app.check_health()
        async with started(app) as messages:
            transport = httpx.ASGITransport(app=app, root_path=prefix)
            async with httpx.AsyncClient(transport=transport, base_url="http://ray") as client:
                path = f"{prefix}/v1/encode"
                answer = await client.post(path, content=RAW.tobytes(), headers=HEADERS)
                ready = await client.get(f"{prefix}/ready")
            assert (answer.status_code, answer.content) == (200, WANTED)
            assert ready.json() == {"ready": True, "phase": "ready", "workers": {"stub": 1}}
            app.check_health()
        assert [message["type"] for message in messages] == [
            "lifespan.startup.complete",
            "lifespan.shutdown.complete",
        ]

    asyncio.run(main())


def test_a_tokenizer_that_cannot_be_loaded_fails_the_start() -> None:
    async def main() -> list[dict[str, Any]]:
        async with started(replica(broken)) as messages:
            return messages

    failed = {"type": "lifespan.startup.failed", "message": "no such tokenizer"}
    assert asyncio.run(main()) == [failed]


# --- with Ray -------------------------------------------------------------------------------------

DRIVER = """
import sys

import httpx
import ray
from ray import serve

from serve_stubs import StubEngine, codes_of, corners, picture, stub_facts
from vqtok.serve.ray import deployment

raw = picture()
port = int(sys.argv[1])
headers = {
    "content-type": "application/octet-stream",
    "accept": "application/octet-stream",
    "x-vqtok-shape": "256,256,3",
}
ray.init("local", num_cpus=2, include_dashboard=False, log_to_driver=False)
serve.start(http_options={"host": "127.0.0.1", "port": port})
engine = StubEngine(stub_facts("stub"))
stub = deployment("stub", load=engine, device="cpu", log="off")
serve.run(stub.options(ray_actor_options={"num_cpus": 0.1}).bind(), route_prefix="/tokens")
address = f"http://127.0.0.1:{port}/tokens"
answer = httpx.post(f"{address}/v1/encode", content=raw.tobytes(), headers=headers, timeout=60)
assert answer.status_code == 200, answer.text
assert answer.content == codes_of(corners(raw, clip=False)).tobytes()
small = httpx.post(f"{address}/v1/encode", content=b"x", headers=headers, timeout=60)
assert small.status_code in (400, 422), small.text
assert set(small.json()["error"]) >= {"status", "code", "message"}
print(httpx.get(f"{address}/v1/model", timeout=60).json()["name"])
serve.shutdown()
ray.shutdown()
"""


@pytest.mark.slow
def test_it_is_deployed(tmp_path: Path) -> None:
    python = os.environ.get("VQTOK_RAY_PYTHON") or (sys.executable if find_spec("ray") else None)
    if python is None:
        pytest.skip("Ray is not installed, and VQTOK_RAY_PYTHON names no Python that has it")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    script = tmp_path / "driver.py"
    script.write_text(DRIVER)
    paths = os.pathsep.join([str(ROOT / "tests"), str(ROOT)])
    environ = {**os.environ, "PYTHONPATH": paths, "RAY_USAGE_STATS_ENABLED": "0"}
    done = subprocess.run(
        [python, str(script), str(port)],
        cwd=tmp_path,
        env=environ,
        capture_output=True,
        text=True,
        timeout=400,
    )
    assert done.returncode == 0, done.stderr
    assert "stub" in done.stdout.splitlines()
