"""Small files that stand for very large pictures, one of each format that can."""

from __future__ import annotations

import io
import struct
import zlib
from functools import cache

from PIL import Image

__all__ = ["bombs"]

SIDE = 12_000  # 144 Mpx
HUGE = 30_000  # 900 Mpx, which Pillow itself refuses
MOST = 16_384  # 268 Mpx; WebP has no more


@cache
def bombs() -> dict[str, tuple[str, bytes]]:
    """What it is -> (its medium, the file). Those of PNG and TIFF can be read whole."""
    return {
        "png": ("image/png", png(SIDE)),
        "huge png": ("image/png", png(HUGE)),
        "gif": ("image/gif", gif(SIDE)),
        "tiff": ("image/tiff", tiff(SIDE)),
        "webp": ("image/webp", webp(MOST)),
    }


def png(side: int) -> bytes:
    """Black, a bit a pixel: a thousandth of its rows."""
    pack, row = zlib.compressobj(9), bytes(1 + -(-side // 8))
    data = b"".join([pack.compress(row * 100) for _ in range(side // 100)]) + pack.flush()
    head = struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
    chunks = (b"IHDR" + head, b"IDAT" + data, b"IEND")
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(one) - 4) + one + struct.pack(">I", zlib.crc32(one)) for one in chunks
    )


def tiff(side: int) -> bytes:
    """Black, as faxes are packed."""
    file = io.BytesIO()
    Image.new("1", (side, side)).save(file, "TIFF", compression="group4")
    return file.getvalue()


def gif(side: int) -> bytes:
    """A frame of that size in two colours, most of whose rows are missing."""
    screen = struct.pack("<HHBBB", side, side, 0x80, 0, 0) + bytes(3) + b"\xff" * 3
    frame = b"," + struct.pack("<HHHHB", 0, 0, side, side, 0) + b"\x02\x03\x44\x01\x05\0"
    return b"GIF89a" + screen + frame + b";"


def webp(side: int) -> bytes:
    """The head of one without loss, which says how large it is, and nothing of its pixels."""
    bits = (side - 1) | (side - 1) << 14
    data = b"\x2f" + struct.pack("<I", bits) + bytes(16)
    chunk = b"VP8L" + struct.pack("<I", len(data)) + data + b"\0" * (len(data) % 2)
    return b"RIFF" + struct.pack("<I", 4 + len(chunk)) + b"WEBP" + chunk
