"""How much one request may bring."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Limits"]


@dataclass(frozen=True)
class Limits:
    """What is refused before memory is taken for it.

    max_body    bytes of a request
    max_pixels  of one picture, or of one frame
    max_images  pictures or clips of a request
    max_frames  of one clip
    """

    max_body: int = 64_000_000
    max_pixels: int = 50_000_000
    max_images: int = 256
    max_frames: int = 100_000
