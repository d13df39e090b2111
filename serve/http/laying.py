"""Uploads into slots, as the tokenizer's preprocessing has them. Runs in threads."""

from __future__ import annotations

import io
import math
from typing import Any

from PIL import Image

from vqtok.errors import ImageError, VqtokError
from vqtok.geometry import geometry
from vqtok.preprocess import prepare, preprocess_frames
from vqtok.serve.http.exchange import Gone
from vqtok.serve.http.faults import Fault
from vqtok.serve.http.served import Served
from vqtok.serve.http.work import Work
from vqtok.serve.slab import Slot
from vqtok.serve.wire import Upload
from vqtok.streams import ClipReader, open_clip

__all__ = ["check_area", "kind_of", "lay"]


def kind_of(upload: Upload, served: Served) -> int:
    """Which kind of slot an upload needs: that of clips also where only reading it would tell."""
    kinds = served.desk.line.slab.kinds
    return 1 if upload.clip and len(kinds) > 1 and kinds[1][0] else 0


def lay(slot: Slot, upload: Upload, work: Work) -> tuple[int, ...]:
    """Puts an upload's pixels into a slot, and returns the size that comes back of them."""
    try:
        if upload.clip:
            return _lay_clip(slot, upload, work)
        return _lay_picture(slot, upload, work.served)
    except ImageError as error:
        raise _too_many_pixels(upload.data, work.served) or error from None
    except (VqtokError, MemoryError):
        raise
    except Exception as error:  # what readers of animations and films raise on malformed bytes
        raise ImageError(f"{upload.name} is broken or cut short: {error}") from error


def _lay_picture(slot: Slot, upload: Upload, served: Served) -> tuple[int, ...]:
    if served.prepares.keeps_size:
        check_area(*_sides(upload.data), upload.name, served)
    source: Any = upload.data
    found = prepare(source, served.prepares, name=upload.name)
    slot.put("pixels", found.pixels)
    return found.size


def _lay_clip(slot: Slot, upload: Upload, work: Work) -> tuple[int, ...]:
    """Frame by frame; how many there are is known at their end."""
    served = work.served
    settings, most = served.prepares, served.settings.max_frames
    source: Any = upload.data
    reader: ClipReader = open_clip(source, name=upload.name, background=settings.background)
    _check_frames(reader.length or 1, upload.name, most)
    height, width = reader.size
    _check_pixels(height, width, upload.name, served)
    plan = geometry(height, width, settings, name=upload.name)
    check_area(height, width, upload.name, served)
    room = slot.lay("pixels", "u1", (most, *plan.size, 3))
    count = 0
    for frame in preprocess_frames(reader, settings, name=upload.name):
        _check_frames(count + 1, upload.name, most)
        if work.x.stopped:
            raise Gone("the client left while its clip was read")
        room[count] = frame
        count += 1
    slot.clear()  # what was written stays, and is named again as long as it is
    slot.lay("pixels", "u1", (count, *plan.size, 3))
    return (count, *plan.kept)


def _check_frames(count: int, name: str, most: int) -> None:
    if count > most:
        raise Fault("too_many_frames", f"{name} has more than {most:,} frames")


def _check_pixels(height: int, width: int, name: str, served: Served) -> None:
    most = served.settings.max_pixels
    if height * width > most:
        raise Fault(
            "too_many_pixels",
            f"{name} is {width} wide and {height} high; at most {most:,} pixels are taken",
        )


def check_area(height: int, width: int, name: str, served: Served) -> None:
    """Raises where a tokenizer that keeps sizes would make more of it than there is room for."""
    if not served.prepares.keeps_size:
        return
    kept, most = geometry(height, width, served.prepares, name=name).kept, served.settings.max_area
    if math.prod(kept) > most:
        raise Fault(
            "too_many_pixels",
            f"{name} is {kept[1]} wide and {kept[0]} high; this tokenizer keeps sizes, and at most "
            f"{most:,} pixels are taken here: make it smaller",
        )


def _too_many_pixels(data: Any, served: Served) -> Fault | None:
    """Whether a picture that cannot be taken is one that is too large."""
    try:
        height, width = _sides(data)
        _check_pixels(height, width, "the picture", served)
    except Fault as fault:
        return fault
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        return Fault("too_many_pixels", str(error))
    except Exception:  # it is no picture at all, which has been said
        return None
    return None


def _sides(data: Any) -> tuple[int, int]:
    """Height and width that a file's header or an array tells; orientation left aside."""
    if not isinstance(data, bytes):
        return data.shape[0], data.shape[1]
    with Image.open(io.BytesIO(data)) as picture:
        return picture.height, picture.width
