"""The description of the HTTP interface, OpenAPI 3.1.

docs/spec/openapi.json is this, written down; tests/serve/test_openapi.py says how.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterable, Mapping
from typing import Any

from vqtok import __version__
from vqtok.serve.http import openapi_parts as parts
from vqtok.serve.http.openapi_schemas import SCHEMAS
from vqtok.serve.wire import ACCEPTED, CARRIERS, offered_pictures
from vqtok.serve.wire.media import JSON, LINES, MEDIA, MULTIPART, RAW

__all__ = ["openapi", "text"]

Json = dict[str, Any]
PIXELS = tuple(
    dict.fromkeys(
        media
        for count in (1, 2)
        for video in (False, True)
        for media in offered_pictures(count, video=video)
    )
)
INFO = """\
Pictures and clips to grids of codes and back.

Every answer names the fingerprint of a model, that of the first where the path names none. Codes
can only be decoded by the codebook that made them: those that name another one are refused (409).
Everything here is a pure function of what is sent, so any request may be sent again. A body whose
Content-Type is missing, or says no more than octets without X-VQTok-Shape, is taken for what its
first bytes say.
"""


def openapi(*, auth: bool = False) -> Json:
    """The whole document, as JSON has it.

    auth  whether a key is asked for
    """
    document: Json = {
        "openapi": "3.1.0",
        "info": {
            "title": "vqtok",
            "version": __version__,
            "summary": "Visual tokens",
            "description": INFO,
            "license": {"name": "Apache 2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "tags": [{"name": "work"}, {"name": "models"}, {"name": "server"}],
        "paths": _paths(auth),
        "components": {
            "schemas": SCHEMAS,
            "parameters": parts.PARAMETERS | _formats(),
            "headers": parts.HEADERS,
            "responses": parts.responses() | _replies(),
            "requestBodies": _bodies(),
            "securitySchemes": parts.SECURITY,
        },
    }
    if auth:
        document["security"] = [{name: []} for name in parts.SECURITY]
    return copy.deepcopy(document)  # parts of it are shared with those to come


def text() -> str:
    """As docs/spec/openapi.json has it."""
    return json.dumps(openapi(), indent=1) + "\n"


def _paths(auth: bool) -> Json:
    paths: Json = {}
    for base, names in (("/v1", []), ("/v1/models/{model}", ["model"])):
        for verb, make in (("encode", _encode), ("decode", _decode), ("reconstruct", _again)):
            operation = make() | {
                "operationId": verb + ("_with" if names else ""),
                "tags": ["work"],
            }
            paths[f"{base}/{verb}"] = _item("post", operation, names, auth)
    one = _plain("Model", "The tokenizer: its fingerprint, what it takes, the server's limits")
    paths["/v1/model"] = _item("get", one | {"operationId": "model", "tags": ["models"]}, [], auth)
    paths["/v1/models/{model}"] = _item(
        "get", one | {"operationId": "model_called", "tags": ["models"]}, ["model"], auth
    )
    several = _plain("Models", "All tokenizers that are served; the first is that of /v1/encode")
    paths["/v1/models"] = _item(
        "get", several | {"operationId": "models", "tags": ["models"]}, [], auth
    )
    return paths | _of_server(auth)


def _of_server(auth: bool) -> Json:
    """What machines and people ask of any server."""
    told = (
        ("/live", "Live", "Whether the process answers", ()),
        ("/ready", "Ready", "Whether to send requests here: 503 before and while it ends", (503,)),
        ("/startup", "Startup", "Whether the models have been loaded", (503,)),
    )
    found = {}
    for path, schema, summary, more in told:
        operation = _plain(schema, summary, more) | {"operationId": path[1:], "tags": ["server"]}
        found[path] = _item("get", operation | {"security": []}, [], auth=False)
    for path, media, summary in (
        ("/metrics", "text/plain", "What all processes have counted, for Prometheus"),
        ("/openapi.json", JSON, "This document"),
        ("/", "text/html", "The page: drop a picture, see its codes"),
        ("/docs", "text/html", "How to use all this"),
    ):
        name = path.strip("/").partition(".")[0] or "page"
        answer = {"description": summary, "headers": parts.refs("headers", parts.ALWAYS)}
        kind = {"type": "object" if media == JSON else "string"}
        operation = {
            "summary": summary,
            "operationId": name,
            "tags": ["server"],
            "responses": {"200": answer | {"content": {media: {"schema": kind}}}},
        }
        if media == "text/html":
            operation["responses"] |= {"304": {"description": "As it was"}}
        is_open = path != "/metrics"
        if is_open:
            operation |= {"security": []}
        found[path] = _item("get", operation, [], auth and not is_open)
    return found


def _item(method: str, operation: Json, names: Iterable[str], auth: bool) -> Json:
    """One path's: parameters by name, and the answers that any request can have."""
    known = list(names)
    given = [{"$ref": f"#/components/parameters/{name}"} for name in known]
    operation["parameters"] = [*given, *operation.get("parameters", [])]
    errors = [400, 431, 500, *([401] if auth else []), *([404] if known else [])]
    operation["responses"] = parts.errors(errors) | operation["responses"]
    operation["responses"] = dict(sorted(operation["responses"].items()))
    return {method: operation}


def _plain(schema: str, summary: str, more: Iterable[int] = ()) -> Json:
    """A question that is answered with JSON."""
    answer = {
        "description": summary,
        "headers": parts.refs("headers", parts.ALWAYS),
        "content": {JSON: {"schema": {"$ref": f"#/components/schemas/{schema}"}}},
    }
    statuses = {"200": answer, **{str(status): answer for status in more}}
    return {"summary": summary, "responses": statuses}


# --- work ----------------------------------------------------------------------------------------


def _encode() -> Json:
    return {
        "summary": "Codes of pictures or clips",
        "description": "One body holds one picture or many; each is worked on as soon as it is "
        "there. A picture that fails among others has its error in its place, and the answer is "
        "200; where all fail, the answer is that of the first. A clip has any length: raw frames "
        "are worked on as they come, with X-VQTok-Shape: *,256,256,3 until the body ends; a film "
        "may have max_film bytes.",
        "parameters": parts.parameters("output", "format_of_codes", *parts.PIXEL_HEADERS),
        "requestBody": {"$ref": "#/components/requestBodies/Pictures"},
        "responses": _answers("Tokens"),
    }


def _decode() -> Json:
    kept = {
        "description": "As the client has it already",
        "headers": parts.refs("headers", ["ETag"]),
    }
    return {
        "summary": "Pictures or clips of codes or latents",
        "description": "Takes what /v1/encode answered, as it is, and shorter forms. Arrays of "
        "whole numbers are codes, of fractions latents. A long clip is sent while it is made, but "
        "for JSON and films, which are complete before: an answer that breaks off is none.",
        "parameters": parts.parameters(
            "format_of_pictures", "fps", *parts.CODE_HEADERS, "If-None-Match"
        ),
        "requestBody": {"$ref": "#/components/requestBodies/Tokens"},
        "responses": _answers("Decoded") | {"304": kept} | parts.errors([409]),
    }


def _again() -> Json:
    return {
        "summary": "Pictures or clips as their codes have them",
        "parameters": parts.parameters("format_of_pictures", "fps", *parts.PIXEL_HEADERS),
        "requestBody": {"$ref": "#/components/requestBodies/Pictures"},
        "responses": _answers("Pictures"),
    }


def _formats() -> Json:
    """What ?format= can say, by what comes back."""
    kinds = {"codes": CARRIERS, "pictures": PIXELS}
    return {
        f"format_of_{kind}": {
            "name": "format",
            "in": "query",
            "description": "The medium of the answer, by its short name; it goes before Accept",
            "schema": {
                "type": "string",
                "enum": [name for name, media in MEDIA.items() if media[0] in offered],
            },
        }
        for kind, offered in kinds.items()
    }


def _answers(name: str) -> Json:
    good = {"200": {"$ref": f"#/components/responses/{name}"}}
    return good | parts.errors([406, 408, 413, 415, 422, 429, 499, 503, 504])


def _replies() -> Json:
    """Answers of models, by name."""
    pictures = (PIXELS, "Pictures", parts.PICTURES_EXAMPLE)
    return {
        "Tokens": _reply("What became of the pictures", CARRIERS, "Tokens", parts.TOKENS_EXAMPLE),
        "Pictures": _reply("The pictures", *pictures),
        "Decoded": _reply("The pictures", *pictures, ["ETag"]),
    }


def _reply(
    summary: str, media: Iterable[str], schema: str, example: Json, more: Iterable[str] = ()
) -> Json:
    content: Json = {name: _binary(name) for name in media}
    content[JSON] = {"schema": {"$ref": f"#/components/schemas/{schema}"}, "example": example}
    return {
        "description": summary,
        "headers": parts.refs("headers", [*parts.ANSWER_HEADERS, *more]),
        "content": content,
    }


def _bodies() -> Json:
    return {
        "Pictures": {"required": True, "content": _pictures()},
        "Tokens": {"required": True, "content": _tokens()},
    }


def _pictures() -> Json:
    content = {media: _binary(media) for media in ACCEPTED}
    content[JSON] = {
        "schema": {"$ref": "#/components/schemas/PicturesSent"},
        "example": {"images": [parts.PNG]},
    }
    content[MULTIPART] = {"schema": {"$ref": "#/components/schemas/Form"}}
    return content


def _tokens() -> Json:
    content = {media: _binary(media) for media in (*CARRIERS, LINES)}
    content[JSON] = {
        "schema": {"$ref": "#/components/schemas/TokensSent"},
        "examples": {
            "one": {"summary": "One picture", "value": {"codes": parts.GRID}},
            "answer": {"summary": "What /v1/encode answered", "value": parts.TOKENS_EXAMPLE},
        },
    }
    return content


def _binary(media: str) -> Mapping[str, Any]:
    known = next((name for name, names in MEDIA.items() if names[0] == media), media)
    about = parts.ABOUT_MEDIA.get(RAW if media == RAW else known, f"one {known.upper()} file")
    return {"schema": {"type": "string", "format": "binary", "description": about}}
