"""Any clip that people have -> its frames one after another, in bounded memory.

`open_clip` reads one clip. Which sources are one, and which are several, is decided here, for
tokenizers of clips (`is_clip`): a list of pictures is one clip, of these frames; a list in which
anything is a clip itself is several, and a picture in it is a clip of one frame.
"""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt
from PIL import Image, UnidentifiedImageError

from vqtok.errors import ImageError
from vqtok.pictures import VIDEOS, WHITE, ImageSource, load_image, name_of
from vqtok.readers import (
    Animation,
    ClipReader,
    Colour,
    Frames,
    Once,
    Pictures,
    Stored,
    frame_files,
)
from vqtok.videos import Video

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["ClipReader", "ClipSource", "Frames", "is_animated", "is_clip", "open_clip"]

PATHS = (str, os.PathLike)
BYTES = (bytes, bytearray, memoryview)
# Formats whose several pictures are the frames of an animation; in others they are pages, or a
# telephone's second view. Files of the latter two are left to PyAV, as `vqtok.sources` has it.
ANIMATED = ("AVIF", "GIF", "PNG", "WEBP")
FOR_AV = ("GIF", "MPEG")
CHANNELS = (1, 3, 4)
A_CLIP = (
    "the path, the bytes or an open file of a video or of a picture, a folder, a list or an "
    "iterator of pictures, an array (T, H, W, C) or a tensor (T, C, H, W)"
)


ClipSource: TypeAlias = (
    "ImageSource | ClipReader | Frames | npt.NDArray[Any] | Tensor | Iterable[ImageSource]"
)


def open_clip(
    source: ClipSource, *, name: str | None = None, background: Colour = WHITE
) -> ClipReader:
    """One clip from anything that can be one.

    source      the path, the bytes or an open file of a video (what FFmpeg reads: .mp4, .webm,
                .mov, .mkv, .avi, .gif) or of an animated WebP, PNG or AVIF; that of a folder of
                pictures, in the order of the numbers in their names; an array (T, H, W, C)
                or a tensor (T, C, H, W); frames, as a list or iterator of pictures; what a sample
                of `vqtok.sources` holds; or a picture, which makes a clip of one frame. Pictures
                and frames are what `load_image` takes
    name        what errors call it; by default its path, or "the clip"
    background  RGB, what shows through where frames are transparent

    Frames come one by one as they are shown, each once: neither sound nor how long a frame stays is
    kept, but for the average `fps`.
    """
    if isinstance(source, ClipReader):
        return source
    label = name or (name_of(source) if isinstance(source, PATHS) else "the clip")
    if _has_frames(source):
        return Stored(source, name or str(getattr(source, "name", label)))
    if isinstance(source, Image.Image):
        return _of_pillow(source, label, background)
    if isinstance(source, (*PATHS, *BYTES)) or hasattr(source, "read"):
        return _of_file(source, label, background)
    if isinstance(source, Iterator):
        return Once(source, label, background)
    shape = _shape(source)
    if shape is None:
        if _is_collection(source):
            return Pictures(source, label, background)
        raise ImageError(f"{label} is of the type {type(source).__name__}; a clip is {A_CLIP}")
    if len(shape) == 4:
        return Pictures(source, label, background)
    if not _is_flat(source, shape):
        raise ImageError(
            f"{label} has the shape {shape}; a clip is an array (T, H, W, C) or a tensor "
            "(T, C, H, W), and a picture is a clip of one frame"
        )
    return _single(source, label, background)


def is_clip(source: Any) -> bool:
    """Whether a source is one clip and not a collection of clips; a picture is one of one frame.

    An iterator is a collection, for its items are not known yet; `open_clip` takes them for frames.
    """
    shape = _shape(source)
    if shape is not None:
        return len(shape) < 5
    if isinstance(source, Iterator) and not hasattr(source, "read"):
        return False
    if not _is_collection(source):
        return True
    items = list(source)
    return bool(items) and all(map(_is_still, items))


def is_animated(file: bytes) -> bool:
    """Whether a file is a video or an animation, and not a picture; its header is read."""
    return _kind(file) != "picture"


def _is_collection(source: Any) -> bool:
    single = (ClipReader, Image.Image, Mapping, *PATHS, *BYTES)
    if isinstance(source, single) or hasattr(source, "read") or _has_frames(source):
        return False
    return _shape(source) is None and isinstance(source, Iterable)


def _is_still(item: Any) -> bool:
    """Whether an item of a list is a picture, which can be a frame."""
    if isinstance(item, Image.Image):
        return not _is_animated(item)
    if isinstance(item, PATHS) and os.path.isdir(item):
        return False
    if isinstance(item, (*PATHS, *BYTES)) or hasattr(item, "read"):
        return _kind(item) == "picture"
    shape = _shape(item)
    return shape is not None and len(shape) < 4


def _shape(source: Any) -> tuple[int, ...] | None:
    """Of an array or tensor of numbers; None for anything else."""
    torch = sys.modules.get("torch")
    tensor = torch is not None and isinstance(source, torch.Tensor)
    if not tensor and (not isinstance(source, np.ndarray) or source.dtype.kind in "OUT"):
        return None
    return tuple(source.shape)


def _is_flat(source: Any, shape: tuple[int, ...]) -> bool:
    """Whether a shape is that of one picture; of arrays, channels come last."""
    if len(shape) != 3:
        return len(shape) == 2
    ends = shape[-1:] if isinstance(source, np.ndarray) else (shape[0], shape[-1])
    return not set(CHANNELS).isdisjoint(ends)


def _has_frames(source: Any) -> bool:
    """Asks the class, for an object's own length may take reading a file."""
    return callable(getattr(type(source), "frames", None))


def _is_animated(picture: Image.Image) -> bool:
    return picture.format in ANIMATED and getattr(picture, "n_frames", 1) > 1


def _kind(file: Any) -> Literal["video", "animation", "picture"]:
    """Who reads a file; what nobody does is a picture where its name says so, or it is missing."""
    path = os.fsdecode(file) if isinstance(file, PATHS) else None
    if path is not None and path.lower().endswith(VIDEOS):
        return "video"
    try:
        with Image.open(_opened(file)) as picture:
            if picture.format in FOR_AV:
                return "video"
            return "animation" if _is_animated(picture) else "picture"
    except UnidentifiedImageError:
        named = path is not None and Path(path).suffix.lower() in Image.registered_extensions()
        return "picture" if named else "video"
    except Exception:  # `load_image` will say what is wrong with it
        return "picture"


def _opened(file: Any) -> Any:
    """What Pillow opens, at its start."""
    if isinstance(file, PATHS):
        return os.fsdecode(file)
    if isinstance(file, BYTES):
        return io.BytesIO(file)
    file.seek(0)
    return file


def _of_file(file: Any, name: str, background: Colour) -> ClipReader:
    if isinstance(file, PATHS) and not os.path.isfile(file):
        if os.path.isdir(file):
            return Pictures(frame_files(Path(os.fsdecode(file))), name, background)
        load_image(file, name=name)  # says what there is instead
    kind = _kind(file)
    if kind == "picture":
        return _single(file, name, background)
    if kind == "animation":
        return Animation(lambda: Image.open(_opened(file)), name, background)
    source = Path(os.fsdecode(file)) if isinstance(file, PATHS) else file
    plain = bytes(source) if isinstance(source, BYTES) else source
    video = Stored(Video(plain, name=name, background=background), name)
    frames = _frames_of_gif(file)
    # FFmpeg shows no more than the first of frames that have no durations.
    if frames > 1 and video.length < frames:
        return Animation(lambda: Image.open(_opened(file)), name, background)
    return video


def _frames_of_gif(file: Any) -> int:
    """As Pillow counts them; 0 of other files, and where it cannot."""
    try:
        with Image.open(_opened(file)) as picture:
            return getattr(picture, "n_frames", 1) if picture.format == "GIF" else 0
    except Exception:  # on malformed bytes Pillow's readers raise nearly anything
        return 0


def _of_pillow(picture: Image.Image, name: str, background: Colour) -> ClipReader:
    if _is_animated(picture):
        return Animation(lambda: nullcontext(picture), name, background)
    return _single(picture, name, background)


def _single(picture: Any, name: str, background: Colour) -> ClipReader:
    return Pictures([picture], name, background, names=[name])
