"""Any picture that people have -> RGB, eight bits a channel. Importing this brings no torch.

The rule, the same for every kind of source: the first frame; turned the way its EXIF says;
sixteen bits lose their low byte; grey, palette, CMYK and YCbCr become RGB; alpha is laid over a
background. Colour profiles are not applied. What cannot be read whole is an error: half a
picture would get ids, and nobody would know.
"""

from __future__ import annotations

import io
import os
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING, Any, TypeAlias

import numpy as np
import numpy.typing as npt
from PIL import ExifTags, Image, ImageFile, TiffImagePlugin, UnidentifiedImageError

from vqtok.errors import ConfigError, ImageError, LoadError, VqtokError

if TYPE_CHECKING:
    from torch import Tensor

__all__ = [
    "MAX_ASPECT",
    "MAX_PIXELS",
    "MAX_SIDE",
    "PICTURES",
    "VIDEOS",
    "WHITE",
    "ImageSource",
    "Pixels",
    "load_image",
    "name_of",
    "probe_pictures",
]

Pixels: TypeAlias = npt.NDArray[np.uint8]
ImageSource: TypeAlias = (
    "str | os.PathLike[str] | bytes | bytearray | memoryview | IO[bytes] | Image.Image"
    " | npt.NDArray[Any] | Tensor"
)

MAX_PIXELS = 178_956_970  # above it Pillow itself refuses to open a file
MAX_SIDE = 65_535
MAX_ASPECT = 200
WHITE = (255, 255, 255)
# Endings of files that `vqtok.videos` reads; the first picture of a .gif can be a picture, too.
VIDEOS = (".avi", ".gif", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".webm")

# Endings of files that Pillow reads and people keep pictures in. No .gif: that is a clip, unless
# somebody asks a source for kind="folder".
PICTURES = (
    ".avif",
    ".bmp",
    ".jpeg",
    ".jpg",
    ".pgm",
    ".png",
    ".ppm",
    ".tif",
    ".tiff",
    ".webp",
)

TILE = (TiffImagePlugin.TILEWIDTH, TiffImagePlugin.TILELENGTH)
_CHANNELS = (1, 3, 4)
_SHAPES = "(H, W), (H, W, 1), (H, W, 3) or (H, W, 4)"
_URL = re.compile(r"data:|[A-Za-z][A-Za-z0-9+.-]+://")

# What each EXIF orientation asks for, on (H, W, ...) arrays.
_TURNS: dict[int, Callable[[npt.NDArray[Any]], npt.NDArray[Any]]] = {
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: a.swapaxes(0, 1)[:, ::-1],
    7: lambda a: a[::-1, ::-1].swapaxes(0, 1),
    8: lambda a: a.swapaxes(0, 1)[::-1],
}


def load_image(
    source: ImageSource,
    *,
    background: tuple[int, int, int] = WHITE,
    max_pixels: int = MAX_PIXELS,
    name: str | None = None,
) -> Pixels:
    """Any picture -> a new (H, W, 3) uint8 array.

    source      a path, the bytes of a file, a file open for reading in binary, a PIL image (the
                frame it stands at), an array (H, W) or (H, W, 1|3|4), or a tensor, which may
                have its channels first as well. Numbers are uint8, uint16 or floats in [0, 1].
    background  RGB, what shows through where the picture is transparent
    max_pixels  a picture with more is refused before it is decoded
    name        what errors call the picture; by default its path, or "the picture"
    """
    return _flatten(_samples(source, max_pixels, name or name_of(source)), background)


def _samples(source: Any, max_pixels: int, label: str) -> Pixels:
    """Any source -> (H, W) or (H, W, 1|3|4) uint8."""
    if isinstance(source, Image.Image):
        with _decoding(label):
            return _from_pillow(source, max_pixels, label)
    if isinstance(source, np.ndarray):
        return _from_array(source, max_pixels, label, "an array")
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(source, torch.Tensor):
        return _from_tensor(source, max_pixels, label)
    if isinstance(source, bytes | bytearray | memoryview):
        return _from_file(io.BytesIO(source), max_pixels, label)
    if isinstance(source, str | os.PathLike):
        with _open(os.fsdecode(source), label) as file:
            return _from_file(file, max_pixels, label)
    if isinstance(source, io.TextIOBase):
        raise ImageError(f"{label} is a file open as text; open it with mode 'rb'")
    if hasattr(source, "read"):
        return _from_file(source, max_pixels, label)
    raise ImageError(
        f"{label} is a {type(source).__name__}; a picture is a path, the bytes of a file, an open "
        "file, a PIL image, an array or a tensor"
    )


def name_of(source: ImageSource) -> str:
    """What messages call a picture that the caller gave no name."""
    if not isinstance(source, str | os.PathLike):
        return "the picture"
    text = os.fsdecode(source)
    return f"'{text}'" if len(text) <= 300 else f"'{text[:80]}...'"


def _open(path: str, label: str) -> IO[bytes]:
    if _URL.match(path):
        raise ImageError(
            f"{label} is a URL, and vqtok fetches none: download it, then pass its path or bytes"
        )
    try:
        if os.path.isdir(path):
            raise LoadError(f"{label} is a folder; a picture is one file")
        return open(path, "rb")
    except FileNotFoundError:
        raise LoadError(f"there is no file {label}") from None
    except (OSError, ValueError) as error:
        if isinstance(error, VqtokError):
            raise
        reason = getattr(error, "strerror", None) or error
        raise LoadError(f"{label} cannot be opened: {reason}") from error


@contextmanager
def _decoding(label: str) -> Iterator[None]:
    """Turns what Pillow raises into one sentence that names the picture."""
    try:
        yield
    except (VqtokError, MemoryError):
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ImageError(
            f"{label} claims more pixels than are taken from one picture: {error}"
        ) from error
    except UnidentifiedImageError:
        if label.strip("'").lower().endswith(VIDEOS):
            raise ImageError(f"{label} is a video; a picture is needed here") from None
        raise ImageError(f"{label} is not a picture in a format that Pillow reads here") from None
    except Exception as error:  # on malformed bytes Pillow's readers raise nearly anything
        raise ImageError(f"{label} is broken or cut short: {error}") from error


def _from_file(file: IO[bytes], max_pixels: int, label: str) -> Pixels:
    if ImageFile.LOAD_TRUNCATED_IMAGES:
        raise ConfigError(
            "PIL.ImageFile.LOAD_TRUNCATED_IMAGES is on, so half a file would pass for a picture; "
            "set it to False"
        )
    with _decoding(label), Image.open(file) as picture:
        return _from_pillow(picture, max_pixels, label)


def _from_pillow(picture: Image.Image, max_pixels: int, label: str) -> Pixels:
    _check_size(picture.height, picture.width, max_pixels, label)
    if picture.format == "EPS":  # decoding it would run Ghostscript on somebody's program
        raise ImageError(f"{label} is PostScript, not pixels; save it as PNG first")
    if picture.mode in ("I", "F"):
        raise ImageError(
            f"{label} has {'float' if picture.mode == 'F' else '32-bit'} pixels (mode "
            f"{picture.mode}), whose range is not known; save it with 8 or 16 bits a channel"
        )
    _check_tiles(picture, max_pixels, label)
    picture.load()
    turn = _TURNS.get(picture.getexif().get(ExifTags.Base.Orientation, 1))
    samples = _eight_bits(picture)
    return turn(samples) if turn else samples


def _eight_bits(picture: Image.Image) -> Pixels:
    """A loaded picture of any mode -> (H, W) or (H, W, 3|4) uint8."""
    if picture.mode == "RGB" and "transparency" not in picture.info:
        return np.asarray(picture)  # as below, without a copy
    if picture.mode == "La":  # Pillow makes no RGBA of it at once
        picture = picture.convert("LA")
    if not picture.mode.startswith("I;16"):
        return np.asarray(picture.convert("RGBA" if picture.has_transparency_data else "RGB"))
    wide = np.asarray(picture)
    grey = _high_byte(wide)
    if "transparency" not in picture.info:
        return grey
    alpha = np.where(wide == picture.info["transparency"], 0, 255).astype(np.uint8)
    return np.stack([grey, grey, grey, alpha], axis=-1)


def _high_byte(wide: npt.NDArray[np.uint16]) -> Pixels:
    return (wide >> 8).astype(np.uint8)


def _from_tensor(tensor: Tensor, max_pixels: int, label: str) -> Pixels:
    """(H, W), (H, W, C) or (C, H, W) -> channels last; numpy has no bfloat16, hence float()."""
    tensor = tensor.detach().cpu()
    array = (tensor.float() if tensor.is_floating_point() else tensor).numpy()
    if array.ndim == 3 and array.shape[0] in _CHANNELS:
        if array.shape[-1] in _CHANNELS:
            raise ImageError(
                f"{label} is a tensor of shape {array.shape}, whose channels may be the first or "
                "the last axis; pass a numpy array with channels last"
            )
        array = np.moveaxis(array, 0, -1)
    return _from_array(array, max_pixels, label, "a tensor")


def _from_array(array: npt.NDArray[Any], max_pixels: int, label: str, kind: str) -> Pixels:
    if array.ndim != 2 and (array.ndim != 3 or array.shape[-1] not in _CHANNELS):
        raise ImageError(
            f"{label} is {kind} of shape {array.shape}; a picture is {_SHAPES}"
            f"{_shape_hint(array.shape)}"
        )
    _check_size(array.shape[0], array.shape[1], max_pixels, label)
    if array.dtype == np.uint8:
        return array
    if array.dtype.kind == "u" and array.itemsize == 2:  # in either byte order
        return _high_byte(array)
    if array.dtype.kind != "f":
        raise ImageError(
            f"{label} is {kind} of {array.dtype}; pixels are uint8, uint16 or floats in [0, 1]"
        )
    return _from_floats(array, label)


def _shape_hint(shape: tuple[int, ...]) -> str:
    if len(shape) == 4:
        return "; pass the pictures of a batch one by one"
    if len(shape) == 3 and shape[0] in _CHANNELS:
        return "; channels come last"
    return ""


def _from_floats(array: npt.NDArray[Any], label: str) -> Pixels:
    if not np.isfinite(array).all():
        raise ImageError(f"{label} has pixels that are NaN or infinite; they must lie in [0, 1]")
    low, high = float(array.min()), float(array.max())
    if low >= 0 and high <= 1:
        whole: Pixels = np.rint(array.astype(np.float32) * np.float32(255)).astype(np.uint8)
        return whole
    advice = "clip or rescale it first"
    if -1 <= low <= -0.5 and high <= 1:
        advice = "if it lies in [-1, 1], pass (x + 1) / 2"
    elif low >= 0 and 2 < high <= 255:
        advice = "if it lies in 0..255, pass uint8"
    raise ImageError(
        f"{label} holds floats from {low:g} to {high:g}, but they must lie in [0, 1]; {advice}"
    )


def _check_size(height: int, width: int, max_pixels: int, label: str) -> None:
    extent = f"{label} is {width} wide and {height} high"
    if min(height, width) < 1:
        raise ImageError(f"{extent}; a picture has at least one pixel each way")
    if max(height, width) > MAX_SIDE:
        raise ImageError(f"{extent}; a side has at most {MAX_SIDE} pixels")
    if height * width > max_pixels:
        raise ImageError(f"{extent}, {height * width} pixels; at most {max_pixels} are taken")
    if max(height, width) > MAX_ASPECT * min(height, width):
        raise ImageError(f"{extent}; one side is at most {MAX_ASPECT} times the other")


def _check_tiles(picture: Image.Image, max_pixels: int, label: str) -> None:
    """A tile of a TIFF is decoded whole, however little of it the picture shows."""
    if not isinstance(picture, TiffImagePlugin.TiffImageFile):
        return
    tags = picture.tag_v2
    width, height = (tags.get(tag) or 0 for tag in TILE)
    if not all(isinstance(side, int) for side in (width, height)):
        raise ImageError(f"{label} is a TIFF whose tiles have no size that can be read")
    if width * height > max_pixels:
        raise ImageError(
            f"{label} has tiles {width} wide and {height} high, {width * height} pixels; at most "
            f"{max_pixels} are taken"
        )


def _flatten(samples: Pixels, background: tuple[int, int, int]) -> Pixels:
    """(H, W) or (H, W, 1|3|4) -> a new, contiguous (H, W, 3); rounds half up."""
    if samples.ndim == 2:
        samples = samples[:, :, None]
    if samples.shape[-1] != 4:
        return np.array(np.broadcast_to(samples, (*samples.shape[:2], 3)), order="C")
    colour, alpha = samples[..., :3].astype(np.uint16), samples[..., 3:].astype(np.uint16)
    under = (255 - alpha) * np.array(background, np.uint16)
    return ((colour * alpha + under + 127) // 255).astype(np.uint8, order="C")


def probe_pictures(least: int = 1) -> dict[str, bytes]:
    """Small PNG files made by integer arithmetic, the same everywhere; sides of `least` or more.

    Together they walk every branch that pixels take: smooth and rough ones, alpha, a palette
    with a transparent colour, 16 bits, and one that lies on its side. PNG and not JPEG, so that
    a decoder's version does not matter.
    """
    height, width = max(61, least + 5), max(97, least + 9)
    y, x = np.mgrid[:height, :width].astype(np.uint32)
    noise = (y * width + x) * 3
    noise = np.stack([_scramble(noise + channel) for channel in range(3)], axis=-1)
    slope = np.stack([x * 2, y * 4, (x + y) * 3 // 2], axis=-1) % 256
    checker = np.where(((x // 3 + y // 5) % 2)[..., None] == 1, slope, 255 - slope)
    palette = Image.fromarray(((x // 7 + y // 6) % 16).astype(np.uint8))
    palette.putpalette(bytes(range(0, 240, 5)))
    sideways = Image.Exif()
    sideways[ExifTags.Base.Orientation] = 6
    return {
        "noise": _png(_picture(noise)),
        "slope": _png(_picture(slope)),
        "checker": _png(_picture(checker)),
        "alpha": _png(_picture(np.dstack([checker, (x * 3 + y) % 256]))),
        "palette": _png(palette, transparency=3),
        "grey16": _png(Image.fromarray((x * 521 + y * 257).astype(np.uint16))),
        "sideways": _png(_picture(slope), exif=sideways),
    }


def _picture(values: npt.NDArray[Any]) -> Image.Image:
    return Image.fromarray(values.astype(np.uint8))


def _scramble(n: npt.NDArray[np.uint32]) -> npt.NDArray[np.uint32]:
    """A fixed hash of numbers to bytes: noise without a generator's version in it."""
    for _ in range(2):
        mixed = np.bitwise_xor(n, np.right_shift(n, np.uint32(15)))
        n = np.multiply(mixed, np.uint32(2_654_435_761)) + np.uint32(12_345)
    return np.right_shift(n, np.uint32(24))


def _png(picture: Image.Image, **options: Any) -> bytes:
    file = io.BytesIO()
    picture.save(file, "PNG", **options)
    return file.getvalue()
