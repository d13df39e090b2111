"""The page's files, from memory: they hold no data, so nobody needs a key for them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from importlib import resources

from vqtok.serve.http.exchange import Exchange

__all__ = ["File", "files"]

TYPES = {
    ".css": b"text/css; charset=utf-8",
    ".html": b"text/html; charset=utf-8",
    ".js": b"text/javascript; charset=utf-8",
    ".json": b"application/json",
    ".png": b"image/png",
    ".svg": b"image/svg+xml",
    ".webp": b"image/webp",
}
# Nothing from elsewhere, and no script that is not a file here.
POLICY = (
    b"default-src 'self'; img-src 'self' blob: data:; media-src 'self' blob:; worker-src 'self' "
    b"blob:; object-src 'none'; base-uri 'none'; frame-ancestors 'none'; form-action 'none'"
)
SAFE = (
    (b"content-security-policy", POLICY),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cache-control", b"no-cache"),
)


class File:
    """One file, which a browser asks for again only where it has changed."""

    def __init__(self, body: bytes, kind: bytes) -> None:
        self.body = body
        etag = b'"%s"' % hashlib.sha256(body).hexdigest()[:32].encode()
        self.headers = [(b"content-type", kind), (b"etag", etag), *SAFE]
        self.etag = etag.decode()

    async def __call__(self, x: Exchange) -> None:
        if self.etag in x.headers.get("if-none-match", ""):
            await x.answer(304, b"", self.headers)
        else:
            await x.answer(200, self.body, self.headers)


def files() -> Iterator[tuple[str, File]]:
    """Paths and files: index.html is /, another .html has its name without that."""
    for entry in resources.files("vqtok.serve").joinpath("page").iterdir():
        stem, dot, suffix = entry.name.rpartition(".")
        kind = TYPES.get(dot + suffix)
        if kind is None:
            continue
        file = File(entry.read_bytes(), kind)
        if suffix != "html":
            yield f"/{entry.name}", file
        else:
            yield "/" if stem == "index" else f"/{stem}", file
