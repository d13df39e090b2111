"""Pixels in answers: written, and read again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from vqtok.errors import VqtokError
from vqtok.pictures import load_image
from vqtok.serve.wire import documents
from vqtok.serve.wire.carriers import CARRIERS
from vqtok.serve.wire.errors import Failure, WireError
from vqtok.serve.wire.files import MOVIES, STILLS, bytes_of, kind_of, movie, still
from vqtok.serve.wire.media import JSON, NPY, RAW, SAFETENSORS, content_of
from vqtok.serve.wire.sheets import Array, Expect, Head, Row, Sheet, described

__all__ = ["offered_pictures", "read_pixels", "write_pictures"]

EXPECTED = Expect(
    {"pixels": (3, 4)}, {"pixels": "(h, w, 3) or (t, h, w, 3)"}, always=True, trusted=True
)
SEVERAL = (JSON, SAFETENSORS, NPY, RAW)


def offered_pictures(count: int, *, video: bool) -> tuple[str, ...]:
    """The media that pixels of so many pictures or clips can be answered in, the default first.

    One picture: image/png first; several: application/json; one clip: application/x-npy.
    """
    if count != 1:
        return SEVERAL
    if video:
        return (NPY, SAFETENSORS, JSON, RAW, *MOVIES, *STILLS)
    return (*STILLS, JSON, SAFETENSORS, NPY, RAW)


def write_pictures(
    pictures: Sequence[Row | Failure], head: Head, media: str, *, fps: float | None = None
) -> tuple[bytes, dict[str, str]]:
    """Rows with "pixels" (and "codes", of reconstructions; JSON and safetensors carry them).

    fps  frames a second of films, `vqtok.movies.FPS` where None

    Returns the body and its headers, Content-Type among them. A `WireError` (not_acceptable) where
    the medium cannot hold them, as npy pictures of several sizes.
    """
    sheet = Sheet([_measured(one) for one in pictures], head)
    headers = {"content-type": media, **described(sheet, "pixels")}
    if media in CARRIERS:
        return CARRIERS[media].write(sheet, "pixels"), headers
    if len(sheet.rows) != 1 or len(sheet.good) != 1:
        raise WireError(
            "not_acceptable",
            f"{media} holds one picture, and these are {len(sheet.rows)}; ask for "
            f"{', '.join(SEVERAL)}",
        )
    return _file(sheet.good[0].parts["pixels"], media, fps), headers


def _measured(row: Row | Failure) -> Row | Failure:
    """Codes need not say of which size they are; the pixels that come of them do."""
    if isinstance(row, Failure) or any(row.size):
        return row
    return row._replace(size=row.parts["pixels"].shape[:-1])


def _file(pixels: Array, media: str, fps: float | None) -> bytes:
    if media in MOVIES:
        return movie(pixels if pixels.ndim == 4 else pixels[None], media, fps)
    if pixels.ndim == 4 and len(pixels) > 1:
        raise WireError(
            "not_acceptable",
            f"{media} holds one picture, and this is a clip of {len(pixels)} frames; ask for "
            f"{', '.join((*SEVERAL, *MOVIES))}",
        )
    return still(pixels if pixels.ndim == 3 else pixels[0], media)


def read_pixels(headers: Mapping[str, str], body: bytes) -> list[Row | Failure]:
    """What `write_pictures` wrote, but for films: rows with "pixels". For clients."""
    media = content_of(headers, (*STILLS, *SEVERAL)).media
    if media == JSON:
        entries = documents.entries_of(documents.parsed(body), ["image"]) or []
        return [documents.failure_of(entry) or _entry(entry) for entry in entries]
    if media in CARRIERS:
        return list(CARRIERS[media].read(headers, body, EXPECTED).rows)
    return [_row(_decoded(body))]


def _entry(entry: Mapping[str, object]) -> Row:
    frames = entry.get("frames")
    if isinstance(frames, list) and frames:
        return _row(np.stack([_decoded(bytes_of(frame)) for frame in frames]))
    return _row(_decoded(bytes_of(entry.get("image"))))


def _row(pixels: Array) -> Row:
    return Row({"pixels": pixels}, pixels.shape[:-1])


def _decoded(data: bytes) -> Array:
    if kind_of(data) is None:
        raise WireError("not_a_picture", "the answer holds no picture in a format that is known")
    try:
        return load_image(data, name="the picture of the answer")
    except VqtokError as error:
        raise WireError("not_a_picture", str(error)) from None
