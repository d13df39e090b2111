"""Which codes of a data set are used, and how often, as a plot."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from vqtok.errors import InputError
from vqtok.offline.drawing import INK, LETTERS, PALE, write
from vqtok.offline.records import LARGEST_HISTOGRAM, unpack_histogram

if TYPE_CHECKING:
    from collections.abc import Iterable

    from vqtok.offline.plan import Plan
    from vqtok.offline.records import Record

__all__ = ["counted", "usage_histogram"]

SMOOTH = 2  # drawn so many times larger, then reduced
LEFT, RIGHT, TOP, BOTTOM = 104, 24, 64, 60  # margins
CURVE, REST, GRID = (38, 98, 175), (244, 238, 230), (226, 226, 226)


def counted(plan: Plan, records: Iterable[Record], name: str) -> npt.NDArray[np.int64]:
    """How often each code came in all shards, (K,); an `InputError` says why nobody counted.

    name  of the data set, for the message
    """
    if not plan.with_codes:
        raise InputError(f"'{name}' holds latents and no codes: there is nothing to count")
    if plan.tokenizer.codebook_size > LARGEST_HISTOGRAM:
        raise InputError(
            f"'{name}' has ids of {plan.tokenizer.codebook_size:,} codes; they are counted up to "
            f"{LARGEST_HISTOGRAM:,}"
        )
    packed = [record.histogram for record in records if record.histogram is not None]
    counts = sum((unpack_histogram(each) for each in packed), np.zeros(1, np.int64))
    if not counts.any():
        raise InputError(f"'{name}' holds no codes yet: no shard with rows is done")
    return counts


def usage_histogram(
    counts: npt.ArrayLike, *, title: str = "", size: tuple[int, int] = (900, 520)
) -> Image.Image:
    """How often each code came, (K,), as a plot of shares by rank, both axes logarithmic.

    title  of the plot, such as the data set's name
    size   width and height in pixels
    """
    found = np.sort(np.asarray(counts, np.float64).reshape(-1))[::-1]
    if not len(found) or found[-1] < 0 or not found[0] > 0:
        raise InputError("counts are numbers from 0 up, one a code, at least one above 0")
    shares = found[found > 0] / found.sum()
    plot = _Plot(size, len(found), float(shares[-1]), float(max(shares[0], 1 / len(found))))
    plot.grid()
    plot.curve(shares)
    plot.words(title, _summary(shares, len(found), found.sum()))
    return plot.image.resize(size, Image.Resampling.LANCZOS)


def _summary(shares: npt.NDArray[np.float64], codes: int, total: float) -> str:
    bits = max(0.0, float(-(shares * np.log2(shares)).sum()))
    return (
        f"{len(shares):,} of {codes:,} codes in use ({100 * len(shares) / codes:.1f} %), entropy "
        f"{bits:.2f} of {np.log2(codes):.2f} bits, perplexity {2**bits:,.1f}, {total:,.0f} tokens"
    )


class _Plot:
    """Ranks from 1 to K across, shares from the least to the greatest down, in decades."""

    def __init__(self, size: tuple[int, int], codes: int, least: float, most: float) -> None:
        width, height = size[0] * SMOOTH, size[1] * SMOOTH
        self.image = Image.new("RGB", (width, height), "white")
        self._draw = ImageDraw.Draw(self.image)
        self._codes = codes
        self._right = np.log10(max(codes, 2))
        self._low, self._high = np.log10(min(least, 1 / codes)) - 0.15, np.log10(most) + 0.15
        self._box = LEFT * SMOOTH, TOP * SMOOTH, width - RIGHT * SMOOTH, height - BOTTOM * SMOOTH

    def _x(self, rank: float) -> float:
        return float(self._box[0] + np.log10(rank) / self._right * (self._box[2] - self._box[0]))

    def _y(self, share: float) -> float:
        part = (np.log10(share) - self._low) / (self._high - self._low)
        return float(self._box[3] - part * (self._box[3] - self._box[1]))

    def _write(self, at: tuple[float, float], text: str, anchor: str, fill: object = INK) -> None:
        write(self._draw, at, text, LETTERS * SMOOTH, fill, anchor)  # type: ignore[arg-type]

    def grid(self) -> None:
        """Decades of both axes, with their numbers."""
        left, top, right, bottom = self._box
        for power in range(int(self._right + 1e-9) + 1):
            x = self._x(10**power)
            self._draw.line((x, top, x, bottom), GRID, SMOOTH)
            self._write((x, bottom + 6 * SMOOTH), f"{10**power:,}", "ma")
        for power in range(int(np.ceil(self._low)), int(np.floor(self._high)) + 1):
            y = self._y(10.0**power)
            self._draw.line((left, y, right, y), GRID, SMOOTH)
            self._write((left - 8 * SMOOTH, y), f"{_percent(power)} %", "rm")

    def curve(self, shares: npt.NDArray[np.float64]) -> None:
        """The shares, what is not used, and what all would have if they were used alike."""
        left, top, right, bottom = self._box
        if len(shares) < self._codes:
            end = self._x(len(shares))
            self._draw.rectangle((end, top, right, bottom), REST)
            if right - end > 60 * SMOOTH:
                self._write(((end + right) / 2, (top + bottom) / 2), "unused", "mm", PALE)
        level = self._y(1 / self._codes)
        for x in range(left, right, 12 * SMOOTH):
            self._draw.line((x, level, min(x + 6 * SMOOTH, right), level), PALE, SMOOTH)
        self._write((left + 6 * SMOOTH, level - 4 * SMOOTH), "all alike", "ls", PALE)
        points = [(self._x(rank + 1), self._y(shares[rank])) for rank in _ranks(len(shares))]
        points.append((points[-1][0] + SMOOTH, points[-1][1]))
        self._draw.line(points, CURVE, 2 * SMOOTH, joint="curve")
        self._draw.rectangle(self._box, outline=PALE, width=SMOOTH)

    def words(self, title: str, summary: str) -> None:
        """Title, figures, and what the axes are."""
        left, top, right, bottom = self._box
        self._write((left, 12 * SMOOTH), title or "Use of codes", "la")
        self._write((left, 34 * SMOOTH), summary, "la", PALE)
        self._write(((left + right) / 2, bottom + 30 * SMOOTH), "rank of the code", "ma")
        label = Image.new("RGB", (bottom - top, (LETTERS + 6) * SMOOTH), "white")
        middle = label.width / 2, label.height / 2
        write(ImageDraw.Draw(label), middle, "share of tokens", LETTERS * SMOOTH, INK, "mm")
        self.image.paste(label.rotate(90, expand=True), (2 * SMOOTH, top))


def _ranks(count: int) -> npt.NDArray[np.int64]:
    """Enough ranks for a smooth curve, evenly spread in decades."""
    ranks: npt.NDArray[np.int64] = np.unique(np.geomspace(1, count, 2000).astype(np.int64)) - 1
    return ranks


def _percent(power: int) -> str:
    """10^power as a percentage, without an exponent."""
    return f"{10 ** (power + 2)}" if power >= -2 else f"{10.0 ** (power + 2):.{-power - 2}f}"
