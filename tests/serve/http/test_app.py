"""Paths, methods, who may ask, and what every answer has."""

from __future__ import annotations

import asyncio

import httpx
import pytest
from serve_bodies import RAW, raw, told
from serve_stubs import StubEngine, picture, stub_facts

from vqtok.serve.board import Phase
from vqtok.serve.http import make_app
from vqtok.serve.settings import ServeSettings
from vqtok.serve.wire import print_text
from vqtok.types import Fingerprint

POST = ("/v1/encode", "/v1/decode", "/v1/reconstruct")


def test_probes_say_how_it_goes(serve):
    served = serve()
    assert httpx.get(served.url + "/live").json() == {"live": True}
    ready = httpx.get(served.url + "/ready")
    assert ready.json() == {"ready": True, "phase": "ready", "workers": {"stub": 1}}
    assert httpx.get(served.url + "/startup").json() == {"started": True}


def test_a_server_that_starts_or_leaves_is_not_ready_but_lives(serve):
    served = serve()
    codes = {}
    for phase in Phase:
        served.board.phase = phase
        codes[phase.name] = [
            httpx.get(served.url + path).status_code for path in ("/live", "/ready", "/startup")
        ]
    assert codes == {
        "STARTING": [200, 503, 503],
        "READY": [200, 200, 200],
        "LEAVING": [200, 503, 200],
        "DRAINING": [200, 503, 200],
    }


def test_work_is_taken_until_the_server_drains(serve):
    served = serve()
    served.board.phase = Phase.LEAVING
    assert httpx.post(served.url + "/v1/encode", **raw(picture())).status_code == 200
    served.board.phase = Phase.DRAINING
    refused = httpx.post(served.url + "/v1/encode", **raw(picture()))
    assert told(refused) == (503, "draining", "this server is about to end; ask another")
    assert refused.headers["retry-after"] == "5"
    assert refused.headers["connection"] == "close"
    assert httpx.get(served.url + "/v1/model").status_code == 200


def test_a_path_that_leads_nowhere_names_the_near_one(serve):
    url = serve().url
    near = told(httpx.get(url + "/v1/encod"))
    assert near == (404, "not_found", "there is nothing at '/v1/encod'; did you mean '/v1/encode'?")
    far = told(httpx.get(url + "/%00zzzzzz"))
    assert far[2] == r"there is nothing at '/\x00zzzzzz'; /openapi.json lists what there is"
    model = told(httpx.post(url + "/v1/models/stu/encode", content=b"x"))
    assert model[2] == "there is no model called 'stu'. Did you mean 'stub'? Known: stub."


@pytest.mark.parametrize("path", POST)
def test_a_wrong_method_is_told_the_right_ones(serve, path):
    url = serve().url
    refused = httpx.get(url + path)
    assert told(refused) == (405, "method_not_allowed", f"{path} takes POST, not GET")
    assert refused.headers["allow"] == "POST, OPTIONS"
    other = httpx.post(url + "/v1/model")
    assert told(other) == (405, "method_not_allowed", "/v1/model takes GET, not POST")
    assert other.headers["allow"] == "GET, HEAD, OPTIONS"


def test_head_is_get_without_the_body(serve):
    url = serve().url
    get, head = httpx.get(url + "/v1/model"), httpx.head(url + "/v1/model")
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-length"] == str(len(get.content))
    assert httpx.head(url + "/v1/encode").status_code == 405


def test_options_tells_the_methods(serve):
    answer = httpx.options(serve().url + "/v1/encode")
    assert (answer.status_code, answer.headers["allow"]) == (204, "POST, OPTIONS")
    assert "access-control-allow-origin" not in answer.headers


def test_other_origins_are_let_in_where_settings_say_so(serve):
    url = serve(cors=("https://good.example",)).url
    asks = {"origin": "https://good.example", "access-control-request-method": "POST"}
    before = httpx.options(url + "/v1/encode", headers=asks)
    assert before.headers["access-control-allow-origin"] == "https://good.example"
    assert before.headers["access-control-allow-methods"] == "POST, OPTIONS"
    assert "x-vqtok-shape" in before.headers["access-control-allow-headers"]
    after = httpx.post(url + "/v1/encode", **raw(picture(), origin="https://good.example"))
    assert after.headers["access-control-allow-origin"] == "https://good.example"
    assert after.headers["vary"] == "origin"
    assert "x-vqtok-fingerprint" in after.headers["access-control-expose-headers"]
    stranger = httpx.get(url + "/nowhere", headers={"origin": "https://bad.example"})
    assert "access-control-allow-origin" not in stranger.headers


def test_any_origin_is_let_in_by_a_star(serve):
    url = serve(cors=("*",)).url
    answer = httpx.get(url + "/v1/model", headers={"origin": "null"})
    assert answer.headers["access-control-allow-origin"] == "null"


def test_everything_but_probes_and_what_anybody_may_read_needs_the_key(serve):
    url = serve(api_key="geheim").url
    for path in ("/live", "/ready", "/startup", "/", "/docs", "/docs.js", "/openapi.json"):
        answer = httpx.get(url + path)
        assert answer.status_code == 200
        assert "geheim" not in answer.text
    for path in ("/metrics", "/v1/model", "/v1/models", "/nowhere"):
        refused = httpx.get(url + path)
        assert told(refused)[:2] == (401, "unauthorized")
        assert refused.headers["www-authenticate"] == 'Bearer realm="vqtok"'
    assert httpx.options(url + "/v1/encode").status_code == 204


@pytest.mark.parametrize(
    "headers",
    [
        {"authorization": "Bearer geheim"},
        {"authorization": "bearer  geheim"},
        {"x-api-key": "geheim"},
    ],
)
def test_the_key_is_taken_from_either_header(serve, headers):
    url = serve(api_key="geheim").url
    assert httpx.get(url + "/v1/model", headers=headers).status_code == 200


@pytest.mark.parametrize(
    ("headers", "said"),
    [
        ({}, "is missing"),
        ({"authorization": "Bearer wrong"}, "is another one"),
        ({"authorization": "Basic geheim"}, "is missing"),
        ({"x-api-key": "gehei"}, "is another one"),
        ({"x-api-key": "geheim\u00e9"}, "is another one"),
    ],
)
def test_a_wrong_key_is_refused(serve, headers, said):
    url = serve(api_key="geheim").url
    refused = httpx.post(
        url + "/v1/encode",
        content=b"x" * 500_000,
        headers={k: v.encode() for k, v in headers.items()},
    )
    assert told(refused) == (
        401,
        "unauthorized",
        f"the key {said}; send it as 'Authorization: Bearer KEY' or 'X-API-Key: KEY'",
    )


def test_a_key_may_have_any_letters(serve):
    url = serve(api_key="~Key/+=:1.2").url
    headers = {"x-api-key": "~Key/+=:1.2"}
    assert httpx.get(url + "/v1/model", headers=headers).status_code == 200


def test_an_id_is_kept_where_it_can_stand_in_a_log(serve):
    url = serve().url
    kept = httpx.get(url + "/live", headers={"x-request-id": "job-7:3.x_Y"})
    assert kept.headers["x-request-id"] == "job-7:3.x_Y"
    for bad in ("a b", "", "x" * 129, "\u00e4"):
        made = httpx.get(url + "/live", headers={"x-request-id": bad.encode("latin-1")})
        assert len(made.headers["x-request-id"]) == 32


def test_every_answer_of_a_model_names_its_fingerprint(serve):
    url = serve().url
    answers = [
        httpx.get(url + "/v1/model"),
        httpx.post(url + "/v1/encode", **raw(picture())),
        httpx.post(url + "/v1/decode", content=b"x"),
        httpx.get(url + "/v1/encode"),
        httpx.get(url + "/v1/models/stub/nowhere"),
        httpx.get(serve(api_key="k").url + "/v1/model"),
    ]
    prints = {answer.headers["x-vqtok-fingerprint"] for answer in answers}
    parts = "".join(
        f";{name}={str(number) * 64}"
        for number, name in enumerate(("preprocess", "encoder", "codebook", "decoder"))
    )
    assert prints == {f"vqtok-fp/1{parts}"}
    assert all(len(a.headers.get_list("x-vqtok-fingerprint")) == 1 for a in answers)


def test_answers_about_no_model_name_the_first_one_s_fingerprint(serve):
    other = dict.fromkeys(("preprocess", "encoder", "codebook", "decoder"), "f" * 64)
    facts = stub_facts("b", fingerprint=Fingerprint(**other))
    url = serve({"a": StubEngine(stub_facts("a")), "b": StubEngine(facts)}).url
    own = httpx.get(url + "/v1/models/a").headers["x-vqtok-fingerprint"]
    of_none = ("/live", "/ready", "/startup", "/metrics", "/openapi.json", "/", "/v1/models")
    for path in (*of_none, "/nowhere"):
        assert httpx.get(url + path).headers["x-vqtok-fingerprint"] == own
    named = httpx.get(url + "/v1/models/b/nowhere").headers["x-vqtok-fingerprint"]
    assert named == print_text(facts.fingerprint) != own
    unknown = httpx.get(url + "/v1/models/c/encode")
    assert unknown.status_code == 404 and "x-vqtok-fingerprint" not in unknown.headers


def test_models_are_told_apart_by_path(serve):
    two = {"a": StubEngine(stub_facts("a")), "b": StubEngine(stub_facts("b", size=32))}
    served = serve(two)
    models = httpx.get(served.url + "/v1/models").json()
    assert models["default"] == "a"
    assert [model["name"] for model in models["models"]] == ["a", "b"]
    small = raw(picture(size=(32, 32)))
    answer = httpx.post(served.url + "/v1/models/b/encode", **small)
    assert (answer.status_code, answer.headers["x-vqtok-shape"]) == (200, "1,2,2")
    whole = httpx.post(served.url + "/v1/models/a/encode", **raw(picture()))
    same = httpx.post(served.url + "/v1/encode", **raw(picture()))
    assert whole.content == same.content


def test_a_model_tells_facts_and_limits(serve):
    told_of = httpx.get(serve(max_images=7, max_body="1MB").url + "/v1/model").json()
    assert (told_of["name"], told_of["codebook_size"], told_of["check"]) == ("stub", 4096, "exact")
    assert told_of["limits"] == {
        "max_body": 1_000_000,
        "max_film": 500_000_000,
        "max_pixels": 50_000_000,
        "max_area": 1_048_576,
        "max_images": 7,
        "max_frames": 100_000,
        "timeout": 30.0,
    }


def test_a_page_is_asked_for_again_only_where_it_changed(serve):
    url = serve().url
    first = httpx.get(url + "/")
    assert first.headers["content-type"] == "text/html; charset=utf-8"
    again = httpx.get(url + "/", headers={"if-none-match": first.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    assert first.headers["x-content-type-options"] == "nosniff"
    assert "default-src 'self'" in first.headers["content-security-policy"]


def test_without_the_page_nothing_is_there(serve):
    url = serve(page=False).url
    assert [httpx.get(url + path).status_code for path in ("/", "/style.css")] == [404, 404]


def test_an_app_that_makes_its_desks_starts_and_closes_them(serve):
    class Desk:
        def __init__(self, of):
            self.of, self.calls = of, []

        def __getattr__(self, name):
            return getattr(self.of, name)

        async def start(self):
            self.calls.append("start")

        def close(self):
            self.calls.append("close")

    made = []

    def desks():
        made.append(Desk(serve().desks["stub"]))
        return {"stub": made[-1]}

    async def main():
        app = make_app(desks, ServeSettings(log="off"), serve().board, serve().meters)
        statuses = await asyncio.gather(*(ask(app, "/live") for _ in range(3)))
        assert (statuses, len(made), made[0].calls) == ([200] * 3, 1, ["start"])
        told_server = []
        events = iter(["lifespan.startup", "lifespan.shutdown"])

        async def receive():
            return {"type": next(events)}

        async def send(message):
            told_server.append(message["type"])

        await app({"type": "lifespan"}, receive, send)
        assert told_server == ["lifespan.startup.complete", "lifespan.shutdown.complete"]
        assert made[0].calls == ["start", "close"]

    asyncio.run(main())


async def ask(app, path):
    """The status of a GET."""
    found = []

    async def receive():
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message):
        found.append(message)

    await app({"type": "http", "method": "GET", "path": path, "headers": []}, receive, send)
    return found[0]["status"]


def test_other_protocols_are_turned_away(serve):
    async def main():
        sent = []

        async def receive():
            return {"type": "websocket.connect"}

        async def send(message):
            sent.append(message["type"])

        app = make_app(serve().desks, ServeSettings(), serve().board, serve().meters)
        await app({"type": "websocket", "path": "/"}, receive, send)
        assert sent == ["websocket.close"]

    asyncio.run(main())


@pytest.mark.parametrize(
    ("query", "said"),
    [
        (
            "ouput=latents",
            "there is no parameter called 'ouput'. Did you mean 'output'? Known: format, output.",
        ),
        ("output=codes&output=latents", "output is there 2 times; give it once"),
    ],
)
def test_a_parameter_that_is_not_known_or_twice_there(serve, query, said):
    refused = httpx.post(f"{serve().url}/v1/encode?{query}", **raw(picture()))
    assert told(refused) == (400, "bad_request", said)
    for verb in ("decode", "reconstruct"):
        refused = httpx.post(f"{serve().url}/v1/{verb}?output=codes", **raw(picture()))
        assert told(refused)[:2] == (400, "bad_request")


def test_a_header_that_comes_twice(serve):
    sent = raw(picture())
    named = [*sent["headers"].items()]
    both = [*((n, v) for n, v in named if n != "accept"), ("accept", "text/x"), ("accept", RAW)]
    for headers in (both, [*both[:-2], both[-1], both[-2]]):
        answer = httpx.post(serve().url + "/v1/encode", content=sent["content"], headers=headers)
        assert (answer.status_code, answer.headers["content-type"]) == (200, RAW)


def test_a_page_may_send_what_an_answer_has(serve):
    url = serve(cors=("https://good.example",)).url
    asks = {"origin": "https://good.example", "access-control-request-method": "POST"}
    told_of = httpx.options(url + "/v1/decode", headers=asks).headers
    allowed = set(told_of["access-control-allow-headers"].split(", "))
    shown = httpx.post(url + "/v1/encode", **raw(picture(), origin="https://good.example")).headers
    ours = {name for name in shown["access-control-expose-headers"].split(", ") if "vqtok" in name}
    assert ours <= allowed
