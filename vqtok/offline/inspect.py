"""A data set as pictures: what rows show, and what comes back of their codes."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageDraw

from vqtok.errors import ConfigError, InputError, VqtokError
from vqtok.offline.drawing import INK, LETTERS, PALE, fitted, wrapped, write
from vqtok.offline.remake import Remaker, row_name, stored_latents
from vqtok.pictures import Pixels
from vqtok.sheets import code_map, colours_of, map_of
from vqtok.types import Codes

if TYPE_CHECKING:
    from vqtok.offline.read import TokenSet
    from vqtok.offline.rows import Row
    from vqtok.sources import Source
    from vqtok.tokenizer import VisualTokenizer

__all__ = ["contact_sheet"]

SIDE = 192  # of a cell, in pixels
GAP = 8
TEXT = 300  # width of the column of texts
LINE = 17
MOST_LINES = 4  # of a caption or key


@dataclass
class _Strip:
    """One row of the sheet."""

    row: Row
    cells: list[Image.Image | None] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def height(self) -> int:
        tallest = max((cell.height for cell in self.cells if cell), default=0)
        return max(tallest, len(self.texts()) * LINE)

    def texts(self) -> list[tuple[str, bool]]:
        """Lines beside the cells, and whether each is more than a detail."""
        row = self.row
        frames = f"{row.size[0]} frames " if len(row.size) == 3 else ""
        flip = ", mirrored" if row.flip else ""
        grid = "x".join(map(str, row.grid))
        top, left, height, width = row.box
        about = [
            f"{row.view}{flip}: {height}x{width} at {top}, {left}",
            f"{frames}{row.size[-2]}x{row.size[-1]}, grid {grid}",
            *self.notes,
        ]
        lines = [(line, True) for line in wrapped(row.key, TEXT, LETTERS, MOST_LINES)]
        lines += [(each, False) for line in about for each in wrapped(line, TEXT, LETTERS, 3)]
        for name, value in (("label", row.label), ("", row.text)):
            if value is not None:
                text = f"{name} {value}".strip()
                lines += [(line, True) for line in wrapped(text, TEXT, LETTERS, MOST_LINES)]
        return lines


def contact_sheet(
    tokens: TokenSet,
    tokenizer: VisualTokenizer,
    source: Source | None = None,
    rows: int = 16,
    seed: int = 0,
) -> Image.Image:
    """Some rows, drawn at random: the source's pixels, the decoded ones, a map of codes, and texts.

    source  as the job had it; without it that column is left out. Of clips, the middle frame and
            the token that stands for it are shown.

    A colour stands for the same id in all sheets of a tokenizer, and like ones for like codes.
    """
    if rows < 1:
        raise ConfigError(f"a sheet has at least one row; got rows={rows}")
    if not len(tokens):
        raise InputError("there is no row to show: the data set is empty")
    remaker = None if source is None else Remaker(source, tokens.plan)
    numbers = random.Random(seed).sample(range(len(tokens)), min(rows, len(tokens)))
    colours = colours_of(tokenizer)
    strips = [_strip(tokens, number, tokenizer, remaker, colours) for number in sorted(numbers)]
    titles = ["decoded", "codes"] if source is None else ["source", "decoded", "codes"]
    return _laid(strips, titles)


def _strip(
    tokens: TokenSet,
    number: int,
    tokenizer: VisualTokenizer,
    remaker: Remaker | None,
    colours: Pixels,
) -> _Strip:
    row = tokens[number]
    strip = _Strip(row)
    codes = _codes(tokens, number, tokenizer)
    back = _decoded(codes, tokenizer)
    if remaker is not None:
        original = _original(strip, row, remaker)
        strip.cells.append(None if original is None else fitted(original, SIDE))
        if original is not None:
            strip.notes.append(f"PSNR {_psnr(original, back):.1f} dB")
    shown = fitted(back, SIDE)
    ids = map_of(codes)
    flat = ids[len(ids) // 2] if ids.ndim == 3 else ids
    coloured = code_map(flat, colours, (shown.height, shown.width))
    strip.cells += [shown, Image.fromarray(coloured)]
    return strip


def _codes(tokens: TokenSet, number: int, tokenizer: VisualTokenizer) -> Codes:
    """Those of a row; of a set of latents, those that the latents are quantized to."""
    row = tokens[number]
    if row.codes is not None:
        return tokens.codes(number)
    import torch

    stored = stored_latents(row)
    if stored is None:
        raise InputError(f"row {row_name(row)} has neither codes nor latents")
    latents = torch.from_numpy(stored.astype(np.float32))[None].to(tokenizer.device)
    with torch.no_grad():
        ids = tokenizer.model.quantize.encode(latents).cpu().numpy()
    return Codes(
        ids,
        np.array([row.size], np.int32),
        tokenizer.codebook_size,
        tokenizer.fingerprint.codebook,
        tokenizer.vocab.depth,
        row.scales,
    )


def _decoded(codes: Codes, tokenizer: VisualTokenizer) -> Pixels:
    """A picture, or the middle frame of a clip, (H, W, 3)."""
    if tokenizer.is_video:
        return _middle(tokenizer.decode_clip(codes), int(codes.sizes[0, 0]))
    pixels: Pixels = tokenizer.decode_codes(codes, "np")[0]
    return pixels


def _original(strip: _Strip, row: Row, remaker: Remaker) -> Pixels | None:
    """What the row was made of; where it cannot be had any more, the reason becomes a note."""
    try:
        if len(row.size) == 3:
            pixels = _middle(remaker.frames(row), row.size[0])
        else:
            pixels = remaker.picture(row)
    except VqtokError as error:
        strip.notes.append(f"no source: {error}")
        return None
    return pixels[: row.size[-2], : row.size[-1]]


def _middle(frames: Iterator[Pixels], count: int) -> Pixels:
    return next(islice(frames, count // 2, None))


def _psnr(one: Pixels, other: Pixels) -> float:
    error = np.square(one.astype(np.float64) - other).mean()
    return float("inf") if error == 0 else float(10 * np.log10(255**2 / error))


def _laid(strips: Sequence[_Strip], titles: Sequence[str]) -> Image.Image:
    widths = [
        max((strip.cells[column].width for strip in strips if strip.cells[column]), default=SIDE)  # type: ignore[union-attr]
        for column in range(len(titles))
    ]
    lefts = [GAP + sum(widths[:column]) + GAP * column for column in range(len(titles) + 1)]
    height = GAP + LINE + sum(strip.height + GAP for strip in strips)
    sheet = Image.new("RGB", (lefts[-1] + TEXT + GAP, height), "white")
    draw = ImageDraw.Draw(sheet)
    for left, title in zip(lefts, titles, strict=False):
        write(draw, (left, GAP // 2), title, LETTERS, PALE)
    top = GAP + LINE
    for strip in strips:
        for left, cell in zip(lefts, strip.cells, strict=False):
            if cell is not None:
                sheet.paste(cell, (left, top))
        for number, (line, strong) in enumerate(strip.texts()):
            place = lefts[-1], top + number * LINE
            write(draw, place, line, LETTERS, INK if strong else PALE)
        top += strip.height + GAP
    return sheet
