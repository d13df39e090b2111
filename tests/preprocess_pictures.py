"""Odd picture files, made here: every kind that loaders are known to get wrong."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image

from vqtok.preprocess import Preprocess

Pixels = npt.NDArray[np.uint8]

HEIGHT, WIDTH = 48, 64
ORIENTATION = 0x0112

# Between them they take every policy and every resize.
SETTINGS = [
    Preprocess(size=48, stride=16),
    Preprocess(policy="stretch", size=(32, 80)),
    Preprocess(policy="pad", size=64),
    Preprocess(policy="native", stride=8),
    Preprocess(policy="native", stride=8, max_area=2000),
    Preprocess.preset("adm", 24, 8),
    Preprocess.preset("taming", 40, 8),
    Preprocess(size=48, resize="pillow-bicubic"),
    Preprocess(size=48, resize="pillow-lanczos"),
    Preprocess(policy="extend", stride=8),
    Preprocess(policy="extend", stride=8, max_area=2000),
    Preprocess.preset("torchvision", 40, 8),
]
NATIVE = Preprocess(policy="native", stride=16)
EXTEND = Preprocess(policy="extend", stride=16)


class Case(NamedTuple):
    """A file and what must become of it: pixels within `tolerance` on average, or a message."""

    file: bytes
    pixels: Pixels | None = None
    message: str | None = None  # in which {cause} stands for what Pillow says
    tolerance: float = 0.0


def noise(height: int, width: int, channels: int = 3) -> Pixels:
    """Rough pixels by integer arithmetic, so that hashes of what becomes of them can be kept."""
    n = np.arange(height * width * channels, dtype=np.uint64) * 2_654_435_761 % 2**32
    n = (n ^ (n >> 15)) * 2_246_822_519 % 2**32
    return (n >> 21).astype(np.uint8).reshape(height, width, channels)


def slope(height: int = HEIGHT, width: int = WIDTH) -> Pixels:
    y, x = np.mgrid[:height, :width]
    return np.stack([x * 4, y * 5, (x + y) * 2], axis=-1).clip(0, 255).astype(np.uint8)


def grey(values: npt.NDArray[Any]) -> Pixels:
    return np.repeat(values.astype(np.uint8)[..., None], 3, axis=-1)


def over(colour: Pixels, alpha: npt.NDArray[Any], background: tuple[int, ...]) -> Pixels:
    """Alpha compositing in exact fractions, rounded half up."""
    share = alpha.astype(float)[..., None] / 255
    mixed = colour.astype(float) * share + np.array(background, float) * (1 - share)
    return np.floor(mixed + 0.5 + 1e-9).astype(np.uint8)


def save(picture: Image.Image | npt.NDArray[Any], kind: str, **options: Any) -> bytes:
    file = io.BytesIO()
    picture = picture if isinstance(picture, Image.Image) else Image.fromarray(picture)
    picture.save(file, kind, **options)
    return file.getvalue()


def turned(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    return exif


def png(
    size: tuple[int, int], bits: int, colour: int, rows: bytes, *extra: tuple[bytes, bytes]
) -> bytes:
    """A PNG file by hand, for what Pillow does not write. `rows`: each begins with a 0 byte."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = struct.pack(">IIBBBBB", size[1], size[0], bits, colour, 0, 0, 0)
    chunks = [(b"IHDR", header), *extra, (b"IDAT", zlib.compress(rows, 1)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*each) for each in chunks)


def wide_rows(values: npt.NDArray[Any]) -> bytes:
    return b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)


def bomb(side: int = 30_000) -> bytes:
    """One bit a pixel, all zero: some hundred KB that would fill gigabytes."""
    return png((side, side), 1, 0, bytes((side // 8 + 1) * side))


def jpegs() -> dict[str, Case]:
    rgb = slope()
    plain = save(rgb, "JPEG", quality=95, subsampling=0)
    rough = save(noise(256, 256), "JPEG", quality=90)
    holed = rough[: len(rough) // 2] + bytes(40) + rough[len(rough) // 2 + 40 :]
    cut = "the picture is broken or cut short: {cause}"
    sideways = save(rgb, "JPEG", quality=95, subsampling=0, exif=turned(6))
    light = Image.fromarray(rgb).convert("L")
    cmyk = Image.fromarray(rgb).convert("CMYK")
    return {
        "jpeg": Case(plain, rgb, tolerance=3),
        "jpeg turned": Case(sideways, np.rot90(rgb, -1), tolerance=3),
        "jpeg cmyk": Case(save(cmyk, "JPEG", quality=95), rgb, tolerance=6),
        "jpeg grey": Case(save(light, "JPEG", quality=95), grey(np.array(light)), tolerance=3),
        "jpeg progressive": Case(
            save(rgb, "JPEG", quality=95, subsampling=0, progressive=True), rgb, tolerance=3
        ),
        "jpeg cut at 60 %": Case(plain[: len(plain) * 6 // 10], message=cut),
        "jpeg noise cut at 50 %": Case(rough[: len(rough) // 2], message=cut),
        # Every reader but a strict one takes it: the stream finds its way back.
        "jpeg with a hole": Case(holed, noise(256, 256), tolerance=255),
    }


def pngs() -> dict[str, Case]:
    rgb = slope()
    light = rgb[..., 0].astype(np.uint16) * 256 + rgb[..., 1]
    wide = rgb.astype(np.uint16) * 256 + 77
    alpha = (np.arange(WIDTH) * 4)[None].repeat(HEIGHT, 0).astype(np.uint8)
    index = (rgb[..., 0] // 32).astype(np.uint8)
    palette = Image.fromarray(index)
    palette.putpalette(bytes(range(0, 240, 10)))
    colours = np.arange(0, 240, 10, dtype=np.uint8).reshape(8, 3)[index]
    bits = rgb[..., 0] > 100
    white = (255, 255, 255)
    size = (HEIGHT, WIDTH)
    return {
        "png 16-bit grey": Case(save(light, "PNG"), grey(light >> 8)),
        "png 16-bit rgb": Case(png(size, 16, 2, wide_rows(wide.reshape(HEIGHT, -1))), rgb),
        "png 16-bit grey, one value transparent": Case(
            png(size, 16, 0, wide_rows(light), (b"tRNS", light[3, 4].tobytes()[::-1])),
            np.where((light == light[3, 4])[..., None], 255, grey(light >> 8)).astype(np.uint8),
        ),
        "png rgba": Case(save(np.dstack([rgb, alpha]), "PNG"), over(rgb, alpha, white)),
        "png la": Case(
            save(Image.fromarray(np.dstack([index * 30, alpha])), "PNG"),
            over(grey(index * 30), alpha, white),
        ),
        "png palette": Case(save(palette, "PNG"), colours),
        "png palette, one colour transparent": Case(
            save(palette, "PNG", transparency=3),
            np.where((index == 3)[..., None], 255, colours).astype(np.uint8),
        ),
        "png palette with alpha": Case(
            save(palette, "PNG", transparency=bytes(range(0, 240, 30))),
            over(colours, index * 30, white),
        ),
        "png 1-bit": Case(save(Image.fromarray(bits), "PNG"), grey(bits * 255)),
    }


def others() -> dict[str, Case]:
    rgb = slope()
    alpha = (np.arange(WIDTH) * 4)[None].repeat(HEIGHT, 0).astype(np.uint8)
    frames = [Image.fromarray(grey(rgb[..., 0] // 64 * 64 + add)) for add in (0, 9)]
    floats = rgb[..., 0].astype(np.float32) / 255
    unknown = "the picture is not a picture in a format that Pillow reads here"
    return {
        "webp rgba": Case(
            save(np.dstack([rgb, alpha]), "WEBP", lossless=True, exact=True),
            over(rgb, alpha, (255, 255, 255)),
        ),
        "gif animated": Case(
            save(frames[0], "GIF", save_all=True, append_images=frames[1:]), np.array(frames[0])
        ),
        "tiff turned": Case(save(rgb, "TIFF", tiffinfo={ORIENTATION: 6}), np.rot90(rgb, -1)),
        "tiff float": Case(
            save(floats, "TIFF"),
            message="the picture has float pixels (mode F), whose range is not known; save it "
            "with 8 or 16 bits a channel",
        ),
        "tiff 32-bit": Case(
            save(rgb[..., 0].astype(np.int32), "TIFF"),
            message="the picture has 32-bit pixels (mode I), whose range is not known; save it "
            "with 8 or 16 bits a channel",
        ),
        "html named .jpg": Case(b"<html><body>404</body></html>" * 20, message=unknown),
        "empty": Case(b"", message=unknown),
        "eps": Case(
            save(rgb, "EPS"),
            message="the picture is PostScript, not pixels; save it as PNG first",
        ),
    }


MAKERS: tuple[Callable[[], dict[str, Case]], ...] = (jpegs, pngs, others)
CASES = {name: case for make in MAKERS for name, case in make().items()}
