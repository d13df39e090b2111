"""Uploads into slots, as the tokenizer's preprocessing has them. Runs in threads."""

from __future__ import annotations

import io
import math
import time
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from vqtok.errors import ImageError, VqtokError
from vqtok.geometry import Geometry, geometry
from vqtok.pictures import MAX_ASPECT, MAX_PIXELS, MAX_SIDE
from vqtok.preprocess import prepare, preprocess_frames
from vqtok.serve.http.exchange import Gone
from vqtok.serve.http.faults import Fault
from vqtok.serve.http.served import Served
from vqtok.serve.http.work import Work
from vqtok.serve.outcomes import Late
from vqtok.serve.slab import Slot
from vqtok.serve.wire import Failure, Upload
from vqtok.streams import ClipReader, is_animated, open_clip

if TYPE_CHECKING:
    from vqtok.serve.desk import Ticket

__all__ = ["check_area", "kind_of", "lay", "taken"]

CLIP = 32  # times the pixels that one upload may have are those of all frames of a clip


def taken(upload: Upload, served: Served) -> Upload:
    """An upload as this tokenizer takes it: as a clip, or as a picture, or not at all."""
    data = upload.data
    if served.facts.is_video:
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


def kind_of(upload: Upload, served: Served) -> int:
    """Which kind of slot an upload needs: that of clips also where only reading it would tell."""
    kinds = served.desk.line.slab.kinds
    return 1 if upload.clip and len(kinds) > 1 and kinds[1][0] else 0


def lay(ticket: Ticket, upload: Upload, work: Work) -> tuple[int, ...]:
    """Puts an upload's pixels into a slot, and returns the size that comes back of them."""
    try:
        _check_time(ticket, upload.name)
        if upload.clip:
            return _lay_clip(ticket, upload, work)
        return _lay_picture(ticket.slot, upload, work.served)
    except ImageError as error:
        raise _misfit(upload, work.served, error) or error from None
    except (VqtokError, MemoryError):
        raise
    except Exception as error:  # what readers of animations and films raise on malformed bytes
        raise ImageError(f"{upload.name} is broken or cut short: {error}") from error


def _lay_picture(slot: Slot, upload: Upload, served: Served) -> tuple[int, ...]:
    sides = _sides(upload, served) if served.prepares.keeps_size else None
    if sides is not None:
        check_area(*sides, upload.name, served)
    source: Any = upload.data
    found = prepare(source, served.prepares, name=upload.name)
    slot.put("pixels", found.pixels)
    return found.size


def _lay_clip(ticket: Ticket, upload: Upload, work: Work) -> tuple[int, ...]:
    """Frame by frame; how many there are is known at their end."""
    served, slot = work.served, ticket.slot
    settings, most = served.prepares, served.settings.max_frames
    source: Any = upload.data
    reader: ClipReader = open_clip(source, name=upload.name, background=settings.background)
    length = reader.length or 1
    _check_frames(length, upload.name, most)
    height, width = reader.size
    _check_time(ticket, upload.name)
    _check_pixels(height, width, upload.name, served)
    _check_clip(length, height, width, upload.name, served)
    plan = _planned(height, width, upload.name, served)
    check_area(height, width, upload.name, served)
    room = slot.lay("pixels", "u1", (most, *plan.size, 3))
    count = 0
    for frame in preprocess_frames(reader, settings, name=upload.name):
        _check_frames(count + 1, upload.name, most)
        _check_time(ticket, upload.name)
        if work.x.stopped:
            raise Gone("the client left while its clip was read")
        room[count] = frame
        count += 1
    slot.clear()  # what was written stays, and is named again as long as it is
    slot.lay("pixels", "u1", (count, *plan.size, 3))
    return (count, *plan.kept)


def _check_time(ticket: Ticket, name: str) -> None:
    """Or those whose deadline is over would keep threads from others."""
    if time.monotonic() > ticket.deadline:
        raise Late(f"{name} was not decoded in time")


def _check_frames(count: int, name: str, most: int) -> None:
    if count > most:
        raise Fault("too_many_frames", f"{name} has more than {most:,} frames")


def _check_pixels(height: int, width: int, name: str, served: Served) -> None:
    most = served.settings.max_pixels
    if height * width > most:
        raise Fault(
            "too_many_pixels",
            f"{name} is {width} wide and {height} high; at most {most:,} pixels are taken here "
            "(max_pixels; the option --max-pixels)",
        )


def _check_clip(length: int, height: int, width: int, name: str, served: Served) -> None:
    most = CLIP * served.settings.max_pixels
    if length * height * width > most:
        raise Fault(
            "too_many_pixels",
            f"{name} has {length} frames, {width} wide and {height} high; at most {most:,} pixels "
            "are taken of a clip",
        )


def check_area(height: int, width: int, name: str, served: Served) -> None:
    """Raises where a tokenizer that keeps sizes would make more of it than there is room for."""
    if not served.prepares.keeps_size:
        return
    kept, most = _planned(height, width, name, served).kept, served.settings.max_area
    if math.prod(kept) > most:
        raise Fault(
            "too_many_pixels",
            f"{name} is {kept[1]} wide and {kept[0]} high; this tokenizer keeps sizes, and at most "
            f"{most:,} pixels are taken here: make it smaller",
        )


def _planned(height: int, width: int, name: str, served: Served) -> Geometry:
    try:
        return geometry(height, width, served.prepares, name=name)
    except ImageError as error:
        raise Fault("picture_does_not_fit", str(error)) from None


def _misfit(upload: Upload, served: Served, error: ImageError) -> Fault | None:
    """What a picture that cannot be taken is told whose sides are to blame; None of others."""
    try:
        sides = _sides(upload, served)
        if sides is None:
            return None
        _check_pixels(*sides, upload.name, served)
        _planned(*sides, upload.name, served)
    except Fault as fault:
        return fault
    if max(sides) > min(MAX_SIDE, MAX_ASPECT * min(sides)):
        return Fault("picture_does_not_fit", str(error))
    return None


def _sides(upload: Upload, served: Served) -> tuple[int, int] | None:
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
