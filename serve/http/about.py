"""What a server says of itself: whether it is well, what it serves, what it counts."""

from __future__ import annotations

from typing import Any

from vqtok.serve.board import Phase
from vqtok.serve.http.exchange import Exchange
from vqtok.serve.http.openapi import openapi
from vqtok.serve.http.replies import answer_json
from vqtok.serve.http.served import Served, Shop

__all__ = [
    "Families",
    "Live",
    "Metrics",
    "Model",
    "Models",
    "OpenApi",
    "Ready",
    "Startup",
    "told_of",
]

NO_STORE = ((b"cache-control", b"no-store"),)
LIMITS = (
    *("max_body", "max_film", "max_pixels", "max_area", "max_images", "max_frames"),
    "timeout",
)
EXPOSITION = b"text/plain; version=0.0.4; charset=utf-8"


class Live:
    """Whether this process answers at all."""

    async def __call__(self, x: Exchange) -> None:
        await answer_json(x, 200, {"live": True}, NO_STORE)


class Ready:
    """Whether a balancer should send requests: every model has a worker, and no end is near."""

    def __init__(self, shop: Shop) -> None:
        self.shop = shop

    async def __call__(self, x: Exchange) -> None:
        workers = {served.name: served.desk.alive for served in self.shop.served}
        phase = self.shop.board.phase
        ready = phase == Phase.READY and all(workers.values())
        told = {"ready": ready, "phase": Phase(phase).name.lower(), "workers": workers}
        await answer_json(x, 200 if ready else 503, told, NO_STORE)


class Startup:
    """Whether it has once been ready."""

    def __init__(self, shop: Shop) -> None:
        self.shop = shop

    async def __call__(self, x: Exchange) -> None:
        started = self.shop.board.phase != Phase.STARTING
        await answer_json(x, 200 if started else 503, {"started": started}, NO_STORE)


class Metrics:
    """What all processes have counted, for Prometheus."""

    def __init__(self, shop: Shop) -> None:
        self.shop = shop

    async def __call__(self, x: Exchange) -> None:
        from prometheus_client import CollectorRegistry, generate_latest

        registry = CollectorRegistry(auto_describe=False)
        registry.register(Families(self.shop))
        body = generate_latest(registry)
        await x.answer(200, body, [(b"content-type", EXPOSITION), *NO_STORE])


class Families:
    """Prometheus' view of the meters."""

    def __init__(self, shop: Shop) -> None:
        self.shop = shop

    def collect(self) -> Any:
        """All families; prometheus_client asks."""
        lines = {served.name: served.desk.line for served in self.shop.served}
        return self.shop.meters.families(self.shop.board, lines)


class Model:
    """One tokenizer: what makes and decodes its codes, and how much of it may be asked."""

    def __init__(self, shop: Shop, served: Served) -> None:
        self.shop, self.served = shop, served

    async def __call__(self, x: Exchange) -> None:
        await answer_json(x, 200, told_of(self.served))


class Models:
    """All tokenizers, the first of which is that of paths without a name."""

    def __init__(self, shop: Shop) -> None:
        self.shop = shop

    async def __call__(self, x: Exchange) -> None:
        served = self.shop.served
        told = {"default": served[0].name, "models": [told_of(one) for one in served]}
        await answer_json(x, 200, told)


class OpenApi:
    """The description of all this."""

    def __init__(self, shop: Shop) -> None:
        self.shop = shop

    async def __call__(self, x: Exchange) -> None:
        await answer_json(x, 200, openapi(auth=bool(self.shop.settings.api_key)))


def told_of(served: Served) -> dict[str, Any]:
    """Facts and limits of a tokenizer, for JSON."""
    settings = served.settings
    return served.facts.to_dict() | {"limits": {name: getattr(settings, name) for name in LIMITS}}
