"""A chart of how often each code is used, drawn with Pillow."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from vqtok.metrics.usage import perplexity, share_used
from vqtok.sheets import Pixels

__all__ = ["usage_chart"]

SIZE = 880, 440
LEFT, TOP, RIGHT, BOTTOM = 76, 52, 856, 384  # of the plot
SUFFIXES = ("", "k", "M", "G", "T")
INK, SOFT, FAINT = (40, 40, 40), (110, 110, 110), (228, 228, 228)
BAR, EMPTY, MEAN = (66, 114, 176), (251, 236, 233), (200, 80, 40)

Drawing = ImageDraw.ImageDraw
Font = ImageFont.FreeTypeFont | ImageFont.ImageFont
Counts = npt.NDArray[np.int64]


def usage_chart(counts: Tensor, title: str = "") -> Pixels:
    """Tokens on each code, (K,) or (Q, K), -> a chart (H, W, 3), the most used codes first.

    Heights are logarithms. The tables of several codebooks are put together.
    """
    ranked = np.sort(counts.flatten().cpu().long().numpy())[::-1]
    image = Image.new("RGB", SIZE, "white")
    draw = ImageDraw.Draw(image)
    small, large = ImageFont.load_default(13), ImageFont.load_default(16)
    # The scale begins at half a token, so that a code with one has a height.
    decades = max(1, math.ceil(math.log10(max(1, int(ranked[0])))))
    _empty_part(draw, small, ranked)
    _grid(draw, small, decades)
    _bars(image, ranked, decades)
    _mean_line(draw, small, ranked, decades)
    _frame(draw, small, len(ranked))
    words = _words(counts)
    draw.text((LEFT, TOP - 12), f"{title}: {words}" if title else words, INK, large, "ls")
    return np.asarray(image)


def _words(counts: Tensor) -> str:
    books = counts.reshape(-1, counts.shape[-1])
    used = int((books > 0).sum())
    share = sum(share_used(book) for book in books) / len(books)
    said = f"{used:,} of {books.numel():,} codes used ({share:.1%})"
    if int(books.sum(-1).min()) == 0:
        return said
    spread = sum(perplexity(book) for book in books) / len(books)
    return f"{said}, perplexity {spread:,.1f}"


def _height(count: npt.ArrayLike, decades: int) -> npt.NDArray[np.float64]:
    """Counts -> y, the plot's lower edge for none."""
    low = math.log10(0.5)
    share = (np.log10(np.maximum(count, 0.5)) - low) / (decades - low)
    return np.asarray(BOTTOM - share * (BOTTOM - TOP))


def _empty_part(draw: Drawing, font: Font, ranked: Counts) -> None:
    used = int((ranked > 0).sum())
    start = LEFT + round((RIGHT - LEFT) * used / len(ranked))
    if start >= RIGHT:
        return
    draw.rectangle((start, TOP, RIGHT - 1, BOTTOM - 1), EMPTY)
    words = f"{len(ranked) - used:,} unused"
    if font.getlength(words) + 8 < RIGHT - start:
        draw.text(((start + RIGHT) / 2, (TOP + BOTTOM) / 2), words, SOFT, font, "mm")


def _grid(draw: Drawing, font: Font, decades: int) -> None:
    for power in range(decades + 1):
        y = round(float(_height(10**power, decades)))
        draw.line((LEFT, y, RIGHT - 1, y), FAINT)
        thousands, rest = divmod(power, 3)
        draw.text((LEFT - 8, y), f"{10**rest}{SUFFIXES[thousands]}", SOFT, font, "rm")


def _bars(image: Image.Image, ranked: Counts, decades: int) -> None:
    """A column of pixels shows the most used of the codes that fall on it."""
    columns = np.arange(RIGHT - LEFT) * len(ranked) // (RIGHT - LEFT)
    tops = _height(ranked[columns], decades).round().astype(int)
    mask = np.arange(TOP, BOTTOM)[:, None] >= tops
    image.paste(BAR, (LEFT, TOP), Image.fromarray((mask * 255).astype(np.uint8)))


def _mean_line(draw: Drawing, font: Font, ranked: Counts, decades: int) -> None:
    """Where all bars would end, were all codes used alike."""
    mean = float(ranked.mean())
    if mean <= 0.5:
        return
    y = round(float(_height(mean, decades)))
    for x in range(LEFT, RIGHT, 10):
        draw.line((x, y, min(x + 5, RIGHT - 1), y), MEAN)
    draw.text((RIGHT - 6, y - 4), f"even use: {mean:,.1f}", MEAN, font, "rs")


def _frame(draw: Drawing, font: Font, codes: int) -> None:
    draw.line((LEFT, TOP, LEFT, BOTTOM, RIGHT, BOTTOM), SOFT)
    for quarter in range(5):
        x = LEFT + (RIGHT - LEFT) * quarter / 4
        draw.line((x, BOTTOM, x, BOTTOM + 5), SOFT)
        draw.text((x, BOTTOM + 9), f"{codes * quarter // 4:,}", SOFT, font, "mt")
    draw.text(((LEFT + RIGHT) / 2, SIZE[1] - 12), "codes, the most used first", INK, font, "ms")
    draw.text((LEFT - 14, TOP - 12), "tokens", INK, font, "rs")
