"""Parameters, headers and errors of the HTTP interface, as OpenAPI has them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from vqtok.serve.http.faults import RETRY, STATUS
from vqtok.serve.wire.media import JSON

__all__ = [
    "ABOUT_MEDIA",
    "ALWAYS",
    "ANSWER_HEADERS",
    "CODE_HEADERS",
    "GRID",
    "HEADERS",
    "PARAMETERS",
    "PICTURES_EXAMPLE",
    "PIXEL_HEADERS",
    "PNG",
    "SECURITY",
    "TOKENS_EXAMPLE",
    "errors",
    "parameters",
    "refs",
    "responses",
]

Json = dict[str, Any]

# One white pixel.
PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAIAAACQd1PeAAAADElEQVR4nGP4//8/AAX+Av4N70a4AAAAAElFTkSuQmCC"
GRID = [[12, 7], [803, 12]]
PRINT = {
    "schema": "vqtok-fp/1",
    **{
        part: digit * 64
        for part, digit in zip(
            ("preprocess", "encoder", "codebook", "decoder"), "abcd", strict=True
        )
    },
}
_HEAD = {"schema": "vqtok-wire/1", "fingerprint": PRINT, "codebook_size": 1024}
TOKENS_EXAMPLE: Json = {
    **_HEAD,
    "pictures": [
        {"status": 200, "grid": [2, 2], "size": [32, 32], "codes": GRID},
        {
            "status": 400,
            "error": {
                "status": 400,
                "code": "not_a_picture",
                "message": "picture 1 (b.jpg) is broken or cut short: image file is truncated",
            },
        },
    ],
}
PICTURES_EXAMPLE: Json = {**_HEAD, "pictures": [{"status": 200, "size": [1, 1], "image": PNG}]}

ABOUT_MEDIA = {
    "application/octet-stream": "little-endian numbers one after another; headers tell their shape "
    "and dtype",
    "jsonl": "a picture a line, as `vqtok encode` writes them",
    "npy": "one array, as numpy.save writes it, without pickles",
    "safetensors": "tensors: codes, latents or pixels, or codes.0, codes.1, ... where shapes "
    "differ, and sizes",
}

ONE = r"\d{1,9}"
SIZE = rf"{ONE}(x{ONE}){{1,2}}"
LIST = rf"^{SIZE}(,{SIZE})*$"
SHA256 = "^[0-9a-f]{64}$"
WHOLE = r"[1-9]\d{0,8}"

# name -> what it says, how it is written, an example
_TOLD: dict[str, tuple[str, Json, str]] = {
    "X-VQTok-Shape": (
        "Of the array in the body, where all pictures have one shape; with their number before "
        "it where these are several. A clip that is sent may have * for its number of frames",
        {"type": "string", "pattern": rf"^(\*,)?{WHOLE}(,{WHOLE}){{0,5}}$"},
        "2,256,256,3",
    ),
    "X-VQTok-Dtype": (
        "Of the array in the body; that of raw codes is by default as answers have it",
        {
            "type": "string",
            "enum": [
                *("uint8", "uint16", "uint32", "uint64", "int16", "int32", "int64"),
                *("float16", "float32", "float64"),
            ],
        },
        "uint16",
    ),
    "X-VQTok-Sizes": (
        "Height and width in pixels, of clips the frames before them: one for all pictures, or "
        "one each",
        {"type": "string", "pattern": LIST},
        "256x256,192x256",
    ),
    "X-VQTok-Scales": (
        "Height and width of each grid, coarse to fine, where codes of several follow each other",
        {"type": "string", "pattern": LIST},
        "1x1,2x2,4x4",
    ),
}
_SAID: dict[str, tuple[str, Json, str]] = {
    "X-VQTok-Fingerprint": (
        "What the tokenizer is: four sha256",
        {
            "type": "string",
            "pattern": "^vqtok-fp/1;preprocess=[0-9a-f]{64};encoder=[0-9a-f]{64};"
            "codebook=[0-9a-f]{64};decoder=[0-9a-f]{64}$",
        },
        ";".join(["vqtok-fp/1", *(f"{name}={PRINT[name]}" for name in list(PRINT)[1:])]),
    ),
    "X-VQTok-Codebook-Size": (
        "K: codes are 0 to K - 1",
        {"type": "string", "pattern": r"^\d+$"},
        "1024",
    ),
    "X-VQTok-Status": (
        "Of each picture, where these are several; arrays hold the good ones only",
        {"type": "string", "pattern": r"^\d{3}(,\d{3})*$"},
        "200,400,200",
    ),
    "X-Request-Id": (
        "As the request had it, or a new one; the log knows it",
        {"type": "string"},
        "a1",
    ),
    "Server-Timing": (
        "Milliseconds in decoding, in the queue, in the model",
        {"type": "string"},
        "decode;dur=1.02, queue;dur=0.40, model;dur=8.31",
    ),
    "ETag": ("Of this very answer", {"type": "string"}, '"0123456789abcdef0123456789abcdef"'),
    "Retry-After": ("Seconds", {"type": "string", "pattern": r"^\d+$"}, "1"),
    "WWW-Authenticate": ("How to send the key", {"type": "string"}, 'Bearer realm="vqtok"'),
    "Allow": ("The methods that there are", {"type": "string"}, "POST, OPTIONS"),
}
HEADERS: Json = {
    name: {"description": text, "schema": schema, "example": example}
    for name, (text, schema, example) in {**_TOLD, **_SAID}.items()
}
ALWAYS = ["X-Request-Id", "X-VQTok-Fingerprint"]
ANSWER_HEADERS = [*_TOLD, *list(_SAID)[:5]]
PIXEL_HEADERS = ["X-VQTok-Shape", "X-VQTok-Dtype"]
CODES_OF = ["X-VQTok-Fingerprint", "X-VQTok-Codebook-Size"]  # what codes were made with
CODE_HEADERS = [*_TOLD, "X-VQTok-Codebook", *CODES_OF]


def _header(name: str, text: str, schema: Json, example: str) -> Json:
    return {
        "name": name,
        "in": "header",
        "description": text,
        "schema": schema,
        "example": example,
    }


PARAMETERS: Json = {
    "model": {
        "name": "model",
        "in": "path",
        "required": True,
        "description": "One of those that /v1/models lists",
        "schema": {"type": "string", "pattern": "^[A-Za-z0-9._-]+$"},
    },
    "output": {
        "name": "output",
        "in": "query",
        "description": "codes, or both codes and latents: what these were before quantization; of "
        "media of one array the latents",
        "schema": {"type": "string", "enum": ["codes", "latents"], "default": "codes"},
    },
    "fps": {
        "name": "fps",
        "in": "query",
        "description": "Frames a second of a film: video/mp4, video/webm and image/gif, which has "
        "at most 50. 400 where the answer is none",
        "schema": {"type": "number", "minimum": 1, "maximum": 240, "default": 25},
    },
    "If-None-Match": _header(
        "If-None-Match", "ETags of answers that the client has", {"type": "string"}, '"0123"'
    ),
    "X-VQTok-Codebook": _header(
        "X-VQTok-Codebook",
        "sha256 of the codebook that the codes were made with; 409 where it is another one",
        {"type": "string", "pattern": SHA256},
        PRINT["codebook"],
    ),
    **{name: _header(name, *told) for name, told in _TOLD.items()},
    **{name: _header(name, *_SAID[name]) for name in CODES_OF},
}
SECURITY: Json = {
    "bearer": {"type": "http", "scheme": "bearer"},
    "key": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
}

_MEANS = {
    400: "What was sent cannot be read",
    401: "A key is needed, or another one",
    404: "There is nothing of this name",
    405: "Another method is needed",
    406: "It cannot be answered in what Accept or format ask for",
    408: "The body came too slowly",
    409: "The codes were made with another codebook; the message has both",
    413: "Too many bytes, pixels, frames or pictures",
    415: "A medium that is not taken here",
    422: "What was sent can be read, but not worked on: a code out of range, another shape",
    429: "All slots are taken; try again",
    499: "The client left; nobody sees this but the log",
    500: "Something went wrong here",
    503: "The server is about to end, or has no worker just now; try again, here or elsewhere",
    504: "It was not done in time",
}


# Said before anything of the request is understood, so neither as JSON nor with an id.
TOO_LONG: Json = {
    "description": "The path and headers are too long; the connection is closed",
    "content": {"text/plain": {"schema": {"type": "string"}}},
}


def responses() -> Json:
    """The errors, by status."""
    return {f"Error{status}": _response(status) for status in _MEANS} | {"Error431": TOO_LONG}


def _response(status: int) -> Json:
    codes = sorted(code for code, number in STATUS.items() if number == status)
    more = {401: ["WWW-Authenticate"], 405: ["Allow"]}.get(status, [])
    if {STATUS[code] for code in RETRY} & {status}:
        more = ["Retry-After"]
    return {
        "description": f"{_MEANS[status]}: {', '.join(codes)}",
        "headers": refs("headers", [*ALWAYS, *more]),
        "content": {
            JSON: {
                "schema": {"$ref": "#/components/schemas/Error"},
                "example": {
                    "error": {
                        "status": status,
                        "code": codes[0],
                        "message": _MEANS[status],
                        "request_id": "a1",
                    }
                },
            }
        },
    }


def errors(statuses: Iterable[int]) -> Json:
    """Those answers of an operation."""
    return {str(one): {"$ref": f"#/components/responses/Error{one}"} for one in statuses}


def refs(kind: str, names: Iterable[str]) -> Json:
    """Components by their names."""
    return {name: {"$ref": f"#/components/{kind}/{name}"} for name in names}


def parameters(*names: str) -> list[Json]:
    """Those of an operation."""
    return list(refs("parameters", names).values())
