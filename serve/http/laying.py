"""Uploads into slots, as the tokenizer's preprocessing has them. Runs in threads."""

from __future__ import annotations

import io
import math
import time
from collections.abc import Callable
from functools import lru_cache
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from PIL import Image

from vqtok.errors import ImageError, VqtokError
from vqtok.geometry import Geometry, geometry
from vqtok.pictures import MAX_ASPECT, MAX_PIXELS, MAX_SIDE
from vqtok.preprocess import Preprocess, prepare
from vqtok.serve.http.faults import Fault
from vqtok.serve.http.served import Served
from vqtok.serve.http.work import Work
from vqtok.serve.outcomes import Late
from vqtok.serve.wire import Failure, Upload
from vqtok.streams import is_animated

if TYPE_CHECKING:
    from vqtok.serve.desk import Ticket

__all__ = [
    "as_it_is",
    "check_area",
    "check_pixels",
    "lay",
    "planned",
    "sides_of",
    "taken",
    "told",
]

T = TypeVar("T")


def taken(upload: Upload, served: Served) -> Upload:
    """An upload as this tokenizer takes it: as a clip, or as a picture, or not at all."""
    data = upload.data
    if served.facts.traits.is_video:
        moves = upload.clip or (isinstance(data, bytes) and is_animated(data))
        return upload._replace(clip=moves)
    if not upload.clip:
        return upload
    if isinstance(data, bytes) and data.startswith(b"GIF8"):  # the first frame of it
        return upload._replace(clip=False)
    fault = Fault(
        "unsupported_media_type",
        f"{upload.name} is a clip; {served.name} takes pictures: send its frames as such",
    )
    return Upload(data if isinstance(data, Failure) else fault.failure, upload.name)


def lay(ticket: Ticket, upload: Upload, work: Work) -> tuple[int, ...]:
    """Puts a picture's pixels into a slot, and returns the size that comes back of them."""
    return told(upload, work.served, lambda: _lay_picture(ticket, upload, work.served))


def told(upload: Upload, served: Served, read: Callable[[], T]) -> T:
    """What reading an upload gives; where it can't be read, an error that says why."""
    try:
        return read()
    except ImageError as error:
        raise _misfit(upload, served, error) or error from None
    except (VqtokError, MemoryError):
        raise
    except Exception as error:  # what readers of animations and films raise on malformed bytes
        raise ImageError(f"{upload.name} is broken or cut short: {error}") from error


def _lay_picture(ticket: Ticket, upload: Upload, served: Served) -> tuple[int, ...]:
    if time.monotonic() > ticket.deadline:  # or those who are late would keep threads from others
        raise Late(f"{upload.name} was not decoded in time")
    sides = sides_of(upload, served) if served.prepares.keeps_size else None
    if sides is not None:
        check_area(*sides, upload.name, served)
    source: Any = upload.data
    found = prepare(source, served.prepares, name=upload.name)
    ticket.slot.put("pixels", found.pixels)
    return found.size


@lru_cache(256)
def as_it_is(shape: tuple[int, ...], settings: Preprocess) -> bool:
    """Whether preprocessing leaves a picture or frame of this shape alone."""
    *_, height, width, _ = shape
    try:
        plan = geometry(height, width, settings)
    except ImageError:  # which is said of each picture, as of those in files
        return False
    same = plan.box == (0, 0, height, width) and plan.at == (0, 0)
    return same and plan.scaled == plan.size == (height, width)


def check_pixels(height: int, width: int, name: str, served: Served) -> None:
    """Raises where a picture or frame has more than are taken."""
    most = served.settings.max_pixels
    if height * width > most:
        raise Fault(
            "too_many_pixels",
            f"{name} is {width} wide and {height} high; at most {most:,} pixels are taken here "
            "(max_pixels; the option --max-pixels)",
        )


def check_area(height: int, width: int, name: str, served: Served) -> None:
    """Raises where a tokenizer that keeps sizes would make more of it than there is room for."""
    if not served.prepares.keeps_size:
        return
    kept, most = planned(height, width, name, served).kept, served.settings.max_area
    if math.prod(kept) > most:
        raise Fault(
            "too_many_pixels",
            f"{name} is {kept[1]} wide and {kept[0]} high; this tokenizer keeps sizes, and at most "
            f"{most:,} pixels are taken here: make it smaller",
        )


def planned(height: int, width: int, name: str, served: Served) -> Geometry:
    """What becomes of a picture or frame."""
    try:
        return geometry(height, width, served.prepares, name=name)
    except ImageError as error:
        raise Fault("picture_does_not_fit", str(error)) from None


def _misfit(upload: Upload, served: Served, error: ImageError) -> Fault | None:
    """What a picture that cannot be taken is told whose sides are to blame; None of others."""
    try:
        sides = sides_of(upload, served)
        if sides is None:
            return None
        check_pixels(*sides, upload.name, served)
        planned(*sides, upload.name, served)
    except Fault as fault:
        return fault
    if max(sides) > min(MAX_SIDE, MAX_ASPECT * min(sides)):
        return Fault("picture_does_not_fit", str(error))
    return None


def sides_of(upload: Upload, served: Served) -> tuple[int, int] | None:
    """Height and width that a file's header or an array tells; orientation left aside."""
    data = upload.data
    if isinstance(data, np.ndarray):
        return data.shape[-3], data.shape[-2]
    if not isinstance(data, bytes):
        return None
    try:
        with Image.open(io.BytesIO(data)) as picture:
            return picture.height, picture.width
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        most = min(served.settings.max_pixels, MAX_PIXELS)
        raise Fault(
            "too_many_pixels",
            f"{upload.name} has more than the {most:,} pixels that are taken here (max_pixels; the "
            "option --max-pixels)",
        ) from None
    except Exception:  # it is no picture, or none that Pillow reads: whoever decodes it will say
        return None
