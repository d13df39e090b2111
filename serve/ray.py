"""The server as a deployment of Ray Serve, for those whose services run there already.

A replica is one process with the worker in a thread, behind the proxies that Ray has: `vqtok serve`
without its processes. Requests and answers are the same.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any

from vqtok.errors import ConfigError, ServiceError
from vqtok.extras import require
from vqtok.serve.layers import flags, resolve
from vqtok.serve.settings import ModelSettings, ServeSettings
from vqtok.serve.values import name_of_model

if TYPE_CHECKING:
    from vqtok.serve.engine import Engine
    from vqtok.serve.http.app import App
    from vqtok.serve.local import Local

__all__ = ["Replica", "deployment"]

# What Ray decides on, and by which of its own options.
RAYS = {
    "models": "deploy each tokenizer by itself",
    "host": "Ray's proxies listen: serve.start(http_options=...)",
    "port": "Ray's proxies listen: serve.start(http_options=...)",
    "api_processes": "Ray's proxies speak HTTP: serve.start(proxy_location=...)",
    "devices": "a replica has one: .options(ray_actor_options={'num_gpus': 1})",
    "workers_per_device": "take .options(num_replicas=...)",
    "start_timeout": "take .options(health_check_timeout_s=...)",
    "drain_delay": "take .options(graceful_shutdown_timeout_s=...)",
    "hang_timeout": "take .options(health_check_timeout_s=...)",
}
SPARE = 16  # requests that take no slot, such as /metrics

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]


def deployment(
    tokenizer: str, *, load: Callable[[str], Engine] | None = None, **settings: Any
) -> Any:
    """A `ray.serve.Deployment`; `ray.serve.run(deployment("photo-tiny").bind())` starts it.

    tokenizer  as `vqtok serve` takes it; it has to be there by this name on every node
    settings   those of `vqtok serve` that are left where Ray does the rest, and those of one of its
               models, such as `size` and `precision`
    load       makes the engine on a device, instead; picklable
    """
    serve = require("ray.serve", "vqtok[ray]", "tokenizers are deployed")
    for module in ("orjson", "prometheus_client"):
        require(module, "vqtok[serve]", "tokenizers are deployed")
    chosen = _settings(tokenizer, settings)
    ((name, model),) = chosen.models.items()
    padding = "alone" if chosen.deterministic else "auto"
    made = load or model.load(name, padding=padding, max_batch=chosen.max_batch)

    class Tokenizer:
        async def check_health(self) -> None:
            self.app.check_health()  # type: ignore[attr-defined]  # Ray's ingress brings it

    return serve.deployment(
        serve.ingress(Replica(chosen, made))(Tokenizer),
        name=name,
        # Ray lets 5 through by default, of which no batch can be made.
        max_ongoing_requests=chosen.slots + SPARE,
        graceful_shutdown_timeout_s=chosen.timeout + 5,
    )


def _settings(tokenizer: str, given: Mapping[str, Any]) -> ServeSettings:
    """Those of a server of one tokenizer; `ConfigError` for what is not ours here."""
    for key in given:
        if key in RAYS:
            raise ConfigError(f"{key} is not a setting of a deployment of Ray Serve: {RAYS[key]}")
    of_model = {key: value for key, value in given.items() if key in ModelSettings.model_fields}
    rest = {key: value for key, value in given.items() if key not in of_model}
    models = {name_of_model(tokenizer): {**of_model, "tokenizer": tokenizer}}
    return resolve([flags({**rest, "models": models})])


class Replica:
    """The ASGI app of a replica. Only settings travel to it; all else is made at its start."""

    def __init__(self, settings: ServeSettings, load: Callable[[str], Engine]) -> None:
        self.settings, self.load = settings, load
        self._stack: AsyncExitStack | None = None
        self._local: Local | None = None
        self._app: App | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request; or the start and end of the replica."""
        if scope["type"] == "lifespan":
            await self._live(receive, send)
            return
        assert self._app is not None
        root, path = scope.get("root_path", ""), scope["path"]
        if root and path.startswith(root):  # the prefix of its route, which Ray leaves in
            scope = {**scope, "path": path[len(root) :] or "/"}
        await self._app(scope, receive, send)

    def check_health(self) -> None:
        """Raises where only another replica could go on."""
        if self._local is None or not self._local.desk.alive:
            raise ServiceError("the worker has ended", code="no_worker")

    async def _live(self, receive: Receive, send: Send) -> None:
        await receive()
        try:
            await self._open()
        except Exception as error:
            await send({"type": "lifespan.startup.failed", "message": str(error)})
            return
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await self._close()
        await send({"type": "lifespan.shutdown.complete"})

    async def _open(self) -> None:
        """Loads the tokenizer; requests come only after that."""
        import asyncio

        from vqtok.serve.http import make_app
        from vqtok.serve.local import Local

        settings = self.settings
        engine = await asyncio.to_thread(_ready, self.load, settings)
        local = Local(
            engine,
            slots=settings.slots,
            clip_slots=settings.clip_slots,
            streams=settings.streams,
            max_batch=settings.max_batch,
            timeout=settings.timeout,
            sizes=settings,
        )
        self._stack = AsyncExitStack()
        self._local = await self._stack.enter_async_context(local)
        desks = {engine.facts.name: local.desk}
        self._app = make_app(desks, settings, local.board, local.meters)

    async def _close(self) -> None:
        if self._app is not None and self._stack is not None:
            await self._app.close()
            await self._stack.aclose()


def _ready(load: Callable[[str], Engine], settings: ServeSettings) -> Engine:
    """The engine, warm."""
    ((_, model),) = settings.models.items()
    graphs = model.wanted().is_graphs()  # which look for a GPU by themselves
    engine = load(settings.device if graphs else _device(settings.device))
    engine.warm_up(settings.max_batch, lambda: None)
    return engine


def _device(name: str) -> str:
    """The GPU that Ray gave to the replica, where it gave one."""
    if name != "auto":
        return name
    import torch

    return "cuda:0" if torch.cuda.is_available() else "cpu"
