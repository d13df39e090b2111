"""Files of pictures and videos: which kind one is, and pixels written as one."""

from __future__ import annotations

import base64
import binascii
import io
from typing import Any

import numpy as np
from PIL import Image

from vqtok.errors import VqtokError
from vqtok.serve.wire.errors import WireError, shown
from vqtok.serve.wire.sheets import Array

__all__ = ["MOVIES", "STILLS", "bytes_of", "is_heic", "kind_of", "movie", "still", "text_of"]

# Medium -> what Pillow is told: level 1 is nearly as fast as any, and lossless WebP five times
# faster than that.
STILLS: dict[str, dict[str, Any]] = {
    "image/png": {"format": "PNG", "compress_level": 1},
    "image/webp": {"format": "WEBP", "lossless": True, "quality": 0, "method": 0},
    "image/jpeg": {"format": "JPEG", "quality": 95, "subsampling": 0},
}
# Medium -> what `vqtok.movies` calls it.
MOVIES = {"video/mp4": ".mp4", "video/webm": ".webm", "image/gif": ".gif"}

# What files begin with, and where: Pillow and FFmpeg know hundreds of formats, some of which run
# programs or open other files, so only these are handed to them.
_SIGNS: tuple[tuple[int, bytes, str], ...] = (
    (0, b"\xff\xd8\xff", "jpeg"),
    (0, b"\x89PNG\r\n\x1a\n", "png"),
    (8, b"WEBP", "webp"),
    (0, b"GIF8", "gif"),
    (0, b"BM", "bmp"),
    (0, b"II*\0", "tiff"),
    (0, b"MM\0*", "tiff"),
    (4, b"ftypavif", "avif"),
    (4, b"ftypavis", "avif"),
    (4, b"ftyp", "mp4"),
    (4, b"moov", "mov"),
    (4, b"mdat", "mov"),
    (4, b"wide", "mov"),
    (0, b"\x1a\x45\xdf\xa3", "webm"),
    (8, b"AVI ", "avi"),
    (0, b"\0\0\1\xba", "mpeg"),
    (0, b"\0\0\1\xb3", "mpeg"),
)
VIDEOS = frozenset({"mp4", "mov", "webm", "avi", "mpeg"})
# What telephones write, which would else pass for a film; the last two may be AVIF as well.
HEIC = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs", b"mif1", b"msf1")


def kind_of(data: bytes) -> str | None:
    """Which kind of file its first bytes say it is; None for none of those that are taken."""
    if is_heic(data):
        return None
    if data[4:8] == b"ftyp" and data[8:12] in HEIC:
        return "avif"
    for at, sign, kind in _SIGNS:
        if data[at : at + len(sign)] == sign:
            return kind
    return None


def is_heic(data: bytes) -> bool:
    """Whether it is a picture in HEIC or HEIF, which needs a codec that is not here."""
    return data[4:8] == b"ftyp" and data[8:12] in HEIC and not _is_avif(data)


def _is_avif(data: bytes) -> bool:
    """Whether a file of a general brand lists AVIF among what it is compatible with."""
    listed = data[16 : min(int.from_bytes(data[:4]), 1024)]
    return any(listed[at : at + 4] in (b"avif", b"avis") for at in range(0, len(listed), 4))


def bytes_of(text: Any) -> bytes:
    """A file in base64, as JSON has it; a data: URL, too."""
    if not isinstance(text, str):
        raise WireError(
            "not_a_picture", f"a picture in JSON is a file in base64; got {shown(text)}"
        )
    if text.startswith("data:"):
        text = text.partition(",")[2]
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise WireError(
            "not_a_picture", f"a picture in JSON is a file in base64: {error}"
        ) from None


def text_of(pixels: Array) -> str:
    """(h, w, 3) -> a PNG file in base64."""
    return base64.b64encode(still(pixels, "image/png")).decode()


def still(pixels: Array, media: str) -> bytes:
    """(h, w, 3) uint8 -> a file of the kind `media`, a name of `STILLS`."""
    file = io.BytesIO()
    try:
        Image.fromarray(np.ascontiguousarray(pixels)).save(file, **STILLS[media])
    except (OSError, ValueError) as error:
        height, width = pixels.shape[:2]
        raise WireError(
            "not_acceptable",
            f"{media} cannot hold a picture {width} wide and {height} high: {error}",
        ) from None
    return file.getvalue()


def movie(pixels: Array, media: str, fps: float | None = None) -> bytes:
    """(t, h, w, 3) uint8 -> a film of the kind `media`, a name of `MOVIES`."""
    from vqtok.movies import write_movie

    file = io.BytesIO()
    try:
        write_movie(pixels, file, fps=fps, kind=MOVIES[media])
    except (VqtokError, OSError, ValueError) as error:
        raise WireError("not_acceptable", f"{media} cannot be written: {error}") from None
    return file.getvalue()
