"""What JSON of requests and answers looks like."""

from __future__ import annotations

from typing import Any

from vqtok.serve.http.faults import STATUS

__all__ = ["SCHEMAS", "record", "ref", "rows"]

Json = dict[str, Any]

TEXT: Json = {"type": "string"}
YES: Json = {"type": "boolean"}
COUNT: Json = {"type": "integer", "minimum": 0}
SIDES: Json = {"type": "array", "items": COUNT, "minItems": 1, "maxItems": 4}
SHA256: Json = {"type": "string", "pattern": "^[0-9a-f]{64}$"}
FILE: Json = {"type": "string", "contentEncoding": "base64"}


def ref(name: str) -> Json:
    """A schema of this file."""
    return {"$ref": f"#/components/schemas/{name}"}


def record(needed: Json, optional: Json | None = None, **more: Any) -> Json:
    """An object; names that are not told here may be added in time."""
    properties = {**needed, **(optional or {})}
    return {"type": "object", "required": list(needed), "properties": properties, **more}


def rows(item: Json, text: str) -> Json:
    """Lists of one to four levels."""
    kinds: list[Json] = []
    inner = item
    for _ in range(4):
        inner = {"type": "array", "items": inner}
        kinds.append(inner)
    return {"anyOf": kinds, "description": text}


ENTRY = {
    "status": {"type": "integer"},
    "grid": {**SIDES, "description": "The shape of codes, without that of several a token"},
    "size": {
        **SIDES,
        "description": "Height and width in pixels, of a clip the frames before them",
    },
    "scales": {"type": "array", "items": SIDES},
    "codes": ref("Codes"),
    "latents": ref("Latents"),
    "error": ref("Problem"),
}
HEAD = {
    "schema": {"const": "vqtok-wire/1"},
    "fingerprint": ref("Fingerprint"),
    "codebook_size": COUNT,
}
LISTED = {"depth": {**COUNT, "description": "Codes of a token; absent where it has one"}}
MADE_WITH = {
    "codebook": {**SHA256, "description": "That the codes were made with"},
    "fingerprint": ref("Fingerprint"),
}
PREPARED = {
    "name": TEXT,
    "tokenizer": TEXT,
    "version": TEXT,
    "fingerprint": ref("Fingerprint"),
    "precision": TEXT,
    "preprocess": {"type": "object"},
    "codebook_size": COUNT,
    "depth": COUNT,
    "axes": COUNT,
    "stride": SIDES,
    "dtype": {"enum": ["uint16", "uint32"]},
    "is_video": YES,
    "is_multiscale": YES,
    "check": {**TEXT, "description": "What its probe said when it was loaded"},
    "limits": record(
        dict.fromkeys(
            ("max_body", "max_film", "max_pixels", "max_area", "max_images", "max_frames"), COUNT
        )
        | {"timeout": {"type": "number"}}
    ),
}

SCHEMAS: Json = {
    "Codes": rows(COUNT, "Codes row by row: (h, w), (t, h, w) or (L,), and (..., Q) of several"),
    "Latents": rows({"type": "number"}, "The vectors before quantization: (D, *grid)"),
    "Fingerprint": record(
        {
            "schema": {"const": "vqtok-fp/1"},
            **dict.fromkeys(("preprocess", "encoder", "codebook", "decoder"), SHA256),
        }
    ),
    "Problem": record(
        {"status": {"type": "integer"}, "code": {"enum": sorted(STATUS)}, "message": TEXT}
    ),
    "Error": record(
        {
            "error": record(
                {
                    "status": {"type": "integer"},
                    "code": {"enum": sorted(STATUS)},
                    "message": TEXT,
                    "request_id": TEXT,
                }
            )
        },
        {"pictures": {"type": "array", "items": ref("FailureOfOne")}},
    ),
    "FailureOfOne": record({"error": ref("Problem")}),
    "Tokens": record({**HEAD, "pictures": {"type": "array", "items": ref("TokensOfOne")}}, LISTED),
    "TokensOfOne": record({"status": {"type": "integer"}}, ENTRY),
    "Pictures": record(
        {**HEAD, "pictures": {"type": "array", "items": ref("PictureOfOne")}}, LISTED
    ),
    "PictureOfOne": record(
        {"status": {"type": "integer"}},
        {
            **ENTRY,
            "image": {**FILE, "description": "A PNG file"},
            "frames": {"type": "array", "items": FILE, "description": "PNG files"},
        },
    ),
    "TokensSent": {
        "description": "One picture's codes or latents, or those of several under `pictures`",
        "anyOf": [ref("CodesSent"), ref("LatentsSent"), ref("SeveralSent")],
    },
    "CodesSent": record({"codes": ref("Codes")}, {"size": SIDES, **MADE_WITH}),
    "LatentsSent": record({"latents": ref("Latents")}, {"size": SIDES, **MADE_WITH}),
    "SeveralSent": record(
        {"pictures": {"type": "array", "items": ref("OneSent"), "minItems": 1}}, MADE_WITH
    ),
    "OneSent": {"type": "object", "description": "Codes or latents, as of one picture alone"},
    "PicturesSent": {
        "description": "Files in base64; of a clip its frames",
        "anyOf": [ref("ImagesSent"), ref("ImageSent"), ref("FramesSent")],
    },
    "ImagesSent": record({"images": {"type": "array", "items": FILE, "minItems": 1}}),
    "ImageSent": record({"image": FILE}),
    "FramesSent": record({"frames": {"type": "array", "items": FILE, "minItems": 1}}),
    "Form": record(
        {
            "image": {
                "type": "array",
                "items": {"type": "string", "format": "binary"},
                "description": "Files; the names of fields do not matter",
            }
        }
    ),
    "Model": record(PREPARED),
    "Models": record({"default": TEXT, "models": {"type": "array", "items": ref("Model")}}),
    "Live": record({"live": YES}),
    "Ready": record(
        {
            "ready": YES,
            "phase": {"enum": ["starting", "ready", "leaving", "draining"]},
            "workers": {"type": "object", "additionalProperties": COUNT},
        }
    ),
    "Startup": record({"started": YES}),
}
