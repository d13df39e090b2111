"""Names of media: what a Content-Type says, what an Accept asks for, what ?format= calls it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from typing import NamedTuple

from vqtok.errors import did_you_mean
from vqtok.serve.wire.errors import WireError

__all__ = [
    "FILES",
    "JSON",
    "LINES",
    "MEDIA",
    "MULTIPART",
    "NPY",
    "RAW",
    "SAFETENSORS",
    "Content",
    "by_name",
    "check_encoding",
    "content_of",
    "negotiate",
]

JSON = "application/json"
LINES = "application/jsonl"
MULTIPART = "multipart/form-data"
NPY = "application/x-npy"
RAW = "application/octet-stream"
SAFETENSORS = "application/safetensors"

# What ?format= calls a medium -> its name, and other names that people send.
MEDIA: dict[str, tuple[str, ...]] = {
    "json": (JSON, "text/json"),
    "jsonl": (LINES, "application/x-ndjson", "application/x-jsonlines", "application/jsonlines"),
    "multipart": (MULTIPART,),
    "npy": (NPY, "application/npy", "application/x-numpy"),
    "raw": (RAW, "application/x-raw"),
    "safetensors": (SAFETENSORS, "application/x-safetensors"),
    "avif": ("image/avif",),
    "bmp": ("image/bmp", "image/x-ms-bmp"),
    "gif": ("image/gif",),
    "jpeg": ("image/jpeg", "image/jpg", "image/pjpeg"),
    "png": ("image/png", "image/x-png"),
    "tiff": ("image/tiff",),
    "webp": ("image/webp",),
    "avi": ("video/x-msvideo", "video/avi"),
    "mkv": ("video/x-matroska",),
    "mov": ("video/quicktime",),
    "mp4": ("video/mp4", "video/x-m4v"),
    "mpeg": ("video/mpeg",),
    "webm": ("video/webm",),
}
FILES = tuple(names[0] for names in MEDIA.values() if names[0].startswith(("image/", "video/")))
OWN_NAMES = {name: names[0] for names in MEDIA.values() for name in names}
FORM = "application/x-www-form-urlencoded"


class Content(NamedTuple):
    """What a Content-Type says.

    media       the medium's own name, a value of `MEDIA`
    parameters  such as the boundary of multipart/form-data; names in lower case
    """

    media: str
    parameters: Mapping[str, str]


def content_of(headers: Mapping[str, str], offered: Sequence[str]) -> Content:
    """The medium of a body; a `WireError` where it is none of `offered`.

    headers  of the request or answer, names in lower case
    """
    check_encoding(headers)
    given = headers.get("content-type", "")
    return _content(given, tuple(offered))


def check_encoding(headers: Mapping[str, str]) -> None:
    """Raises where the body is compressed."""
    encoding = headers.get("content-encoding", "identity").strip().lower()
    if encoding not in ("", "identity"):
        raise WireError(
            "unsupported_encoding",
            f"the body is sent with content-encoding {encoding!r:.60}; send it as it is",
        )


@lru_cache(256)
def _content(given: str, offered: tuple[str, ...]) -> Content:
    name, *rest = _split(given, ";")
    media = OWN_NAMES.get(name.lower(), name.lower())
    if media not in offered:
        raise WireError("unsupported_media_type", _unsupported(name, offered))
    parameters = (part.partition("=") for part in rest)
    return Content(media, {key.strip().lower(): _unquoted(value) for key, _, value in parameters})


def _unsupported(name: str, offered: Sequence[str]) -> str:
    example = "image/jpeg" if "image/jpeg" in offered else JSON
    known = f"this takes {_kinds(offered)}"
    if not name:
        return f"the request does not say what it sends; add -H 'content-type: {example}': {known}"
    if name.lower() == FORM:
        return (
            f"the body is said to be {FORM}, which is what curl --data-binary sends by itself; add "
            f"-H 'content-type: {example}', or whatever it is: {known}"
        )
    if name.lower() in ("image/heic", "image/heif"):
        return "HEIC is not taken; send JPEG, PNG or WebP"
    return f"bodies of the type {name!r:.60} are not taken here; {known}"


def _kinds(offered: Sequence[str]) -> str:
    """All of them would be too many to read."""
    files = {"pictures": "image/jpeg", "clips": "video/mp4"}
    kinds = [f"{kind} ({one}, ...)" for kind, one in files.items() if one in offered]
    return ", ".join([*kinds, *(name for name in offered if name not in FILES)])


def negotiate(accept: str | None, offered: Sequence[str]) -> str | None:
    """Which of `offered`, the default first, an Accept header likes best; None where none does."""
    ranges = dict(_ranges(accept or ""))
    if not (accept or "").strip():
        return offered[0] if offered else None
    liked = [_liking(media, ranges) for media in offered]
    best = max(liked, default=0.0)
    return offered[liked.index(best)] if best > 0 else None


def by_name(name: str, offered: Sequence[str]) -> str:
    """The medium that ?format= calls so; a `WireError` (not_acceptable) where it is not offered."""
    names = [short for short, media in MEDIA.items() if media[0] in offered]
    if name not in names:
        raise WireError(
            "not_acceptable",
            f"this cannot be answered in the format {name!r:.60}. {did_you_mean(name[:60], names)}",
        )
    return MEDIA[name][0]


def _ranges(accept: str) -> Iterator[tuple[str, float]]:
    """What an Accept header lists, and how much each is liked; what is malformed is left out."""
    for item in _split(accept, ","):
        name, *parameters = _split(item, ";")
        quality = next((part[2:] for part in parameters if part[:2].lower() == "q="), "1")
        if re.fullmatch(r"[01](\.\d{0,3})?", quality):
            yield OWN_NAMES.get(name.lower(), name.lower()), min(float(quality), 1.0)


def _liking(media: str, ranges: Mapping[str, float]) -> float:
    """The most specific range that a medium lies in decides."""
    for name in (media, media.partition("/")[0] + "/*", "*/*"):
        if name in ranges:
            return ranges[name]
    return 0.0


def _split(text: str, at: str) -> list[str]:
    """Parts between separators, but for those in quotes."""
    return [part.strip() for part in re.findall(rf'(?:[^{at}"]|"[^"]*"?)+', text)] or [""]


def _unquoted(value: str) -> str:
    value = value.strip()
    return value[1:-1] if len(value) > 1 and value[0] == value[-1] == '"' else value
