"""What path leads where."""

from __future__ import annotations

import difflib
import re
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from typing import NamedTuple

from vqtok.errors import did_you_mean
from vqtok.serve.http import about, codes, page, pictures
from vqtok.serve.http.exchange import Exchange
from vqtok.serve.http.faults import Fault
from vqtok.serve.http.served import Served, Shop

__all__ = ["OF_MODEL", "Handle", "Route", "missing", "routes_of", "served_at"]

Handle = Callable[[Exchange], Awaitable[None]]
PAGE_FILE = re.compile(r"\.(?!json)\w+$")
VERBS: dict[str, Callable[[Shop, Served], Handle]] = {
    "encode": pictures.Encode,
    "reconstruct": pictures.Reconstruct,
    "decode": codes.Decode,
}
OF_MODEL = re.compile(r"/v1/models/([^/]+)(?:/.*)?")


class Route(NamedTuple):
    """What a path does.

    served   the model that it asks, where it is one
    is_open  whether it needs no key
    op       what work counts as, which a server that ends refuses; "" of what is none
    is_long  whether its body may have more than `max_body` bytes; its handler looks to that
    """

    handle: Handle
    method: str = "GET"
    served: Served | None = None
    is_open: bool = False
    op: str = ""
    is_long: bool = False

    @property
    def allow(self) -> bytes:
        """The methods that it takes."""
        return b"GET, HEAD, OPTIONS" if self.method == "GET" else b"POST, OPTIONS"


def routes_of(shop: Shop) -> dict[str, Route]:
    """All paths of a server."""
    routes = {
        "/live": Route(about.Live(), is_open=True),
        "/ready": Route(about.Ready(shop), is_open=True),
        "/startup": Route(about.Startup(shop), is_open=True),
        "/metrics": Route(about.Metrics(shop)),
        "/openapi.json": Route(about.OpenApi(shop), is_open=True),
        "/v1/models": Route(about.Models(shop)),
    }
    if shop.settings.page:
        for path, file in page.files():
            routes[path] = Route(file, is_open=True)
    for served in shop.served:
        base = f"/v1/models/{served.name}"
        routes[base] = Route(about.Model(shop, served), served=served)
        for path, route in _work(shop, served):
            routes[base + path] = route
    first = shop.served[0]
    base = f"/v1/models/{first.name}"
    routes["/v1/model"] = routes[base]
    for verb in VERBS:
        routes[f"/v1/{verb}"] = routes[f"{base}/{verb}"]
    return routes


def _work(shop: Shop, served: Served) -> Iterator[tuple[str, Route]]:
    """What is done with pictures and codes."""
    for verb, make in VERBS.items():
        clips = served.facts.traits.is_video and make is not codes.Decode
        yield f"/{verb}", Route(make(shop, served), "POST", served, op=verb, is_long=clips)


def served_at(path: str, routes: Mapping[str, Route]) -> Served | None:
    """The model below whose path a path is that leads nowhere."""
    match = OF_MODEL.fullmatch(path)
    route = routes.get(f"/v1/models/{match[1]}") if match else None
    return route.served if route else None


def missing(path: str, routes: Iterable[str], models: Iterable[str]) -> Fault:
    """What is said of a path that leads nowhere."""
    shown = path[:100]
    match = OF_MODEL.fullmatch(shown)
    if match and match[1] not in models:
        return Fault(
            "not_found", f"there is no model called {match[1]!r}. {did_you_mean(match[1], models)}"
        )
    known = [one for one in routes if not PAGE_FILE.search(one)]
    near = difflib.get_close_matches(shown, known, n=1)
    hint = f"did you mean {near[0]!r}?" if near else "/openapi.json lists what there is"
    return Fault("not_found", f"there is nothing at {shown!r}; {hint}")
