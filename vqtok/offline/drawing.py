"""Text and cells of pictures for people, drawn with Pillow and the font inside it."""

from __future__ import annotations

from functools import cache

from PIL import Image, ImageDraw, ImageFont

from vqtok.pictures import Pixels

__all__ = ["INK", "LETTERS", "PALE", "fitted", "font_of", "printable", "wrapped", "write"]

INK, PALE = (34, 34, 34), (130, 130, 130)
LETTERS = 13  # pixels high
NO_LETTER = "\uffff"  # is drawn as the box that stands for all that a font has not


@cache
def font_of(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """Pillow's own font; it has ASCII and a few signs more, and no accented letters."""
    return ImageFont.load_default(size)


def printable(text: str) -> str:
    """One line of letters that the font has; others as \\u4f60, so that keys can still be told."""
    line = " ".join(text.split())
    return "".join(
        letter if letter.isprintable() and _is_drawn(letter) else _escaped(letter)
        for letter in line
    )


@cache
def _is_drawn(letter: str) -> bool:
    """Whether the font has it; which letters those are differs between versions of Pillow."""
    if letter.isascii():
        return True
    font = font_of(LETTERS)
    try:
        found, box = font.getmask(letter), font.getmask(NO_LETTER)
    except UnicodeError:  # of a font without FreeType, or half of a pair
        return False
    return (found.size, bytes(found)) != (box.size, bytes(box))


def _escaped(letter: str) -> str:
    wide = ord(letter) > 0xFFFF
    return f"\\U{ord(letter):08x}" if wide else f"\\u{ord(letter):04x}"


def wrapped(text: str, width: float, size: int, lines: int) -> list[str]:
    """At most so many lines of at most `width` pixels; what is left out ends in three dots."""
    font, found = font_of(size), [""]
    for word in _words(printable(text), width, size):
        longer = f"{found[-1]} {word}".lstrip()
        if font.getlength(longer) <= width:
            found[-1] = longer
        else:
            found.append(word)
    if len(found) <= lines:
        return found
    last = found[lines - 1]
    while last and font.getlength(f"{last}...") > width:
        last = last[:-1]
    return [*found[: lines - 1], f"{last}..."]


def _words(text: str, width: float, size: int) -> list[str]:
    """Words, those that are longer than a line in pieces."""
    font = font_of(size)
    found: list[str] = []
    for word in text.split(" "):
        piece = ""
        for letter in word:
            if piece and font.getlength(piece + letter) > width:
                found.append(piece)
                piece = ""
            piece += letter
        found.append(piece)
    return found


def fitted(pixels: Pixels, side: int) -> Image.Image:
    """(H, W, 3) whose longer side is at most `side`; small ones are repeated whole times."""
    picture = Image.fromarray(pixels)
    longer = max(picture.size)
    if longer <= side:
        times = side // longer
        size = picture.width * times, picture.height * times
        return picture.resize(size, Image.Resampling.NEAREST)
    size = (
        max(1, round(picture.width * side / longer)),
        max(1, round(picture.height * side / longer)),
    )
    return picture.resize(size, Image.Resampling.LANCZOS)


def write(
    draw: ImageDraw.ImageDraw,
    at: tuple[float, float],
    text: str,
    size: int,
    fill: tuple[int, int, int] = INK,
    anchor: str = "la",
) -> None:
    """One line of text."""
    draw.text(at, text, fill=fill, font=font_of(size), anchor=anchor)
