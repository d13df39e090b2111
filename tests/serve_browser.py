"""Headless Chromium on the page, and what tests read of it."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image
from serve_page import Fake, serving

__all__ = [
    "CHROMIUM",
    "a_picture",
    "chromium",
    "figures",
    "opened",
    "over",
    "page_at",
    "pixels_of",
    "psnr",
    "seen",
    "settled",
    "status",
    "upload",
]

CHROMIUM = Path("/usr/bin/chromium")
FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
Pixels = npt.NDArray[np.uint8]


@contextmanager
def chromium() -> Iterator[Any]:
    """One browser, for many pages."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as engine:
        browser = engine.chromium.launch(executable_path=str(CHROMIUM), args=list(FLAGS))
        yield browser
        browser.close()


@contextmanager
def page_at(
    browser: Any, url: str, *, path: str = "/", wrong: tuple[str, ...] = (), **options: Any
) -> Iterator[Any]:
    """A page in a browser of its own; nothing may be asked elsewhere, nor land in the console but
    what begins as one of `wrong`."""
    context = browser.new_context(viewport={"width": 1280, "height": 900}, **options)
    context.set_default_timeout(20_000)
    page = context.new_page()
    said: list[str] = []
    asked: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))
    page.goto(url + path)
    settled(page)
    yield page
    context.close()
    assert [text for text in said if not text.startswith(wrong or "\0")] == []
    assert [one for one in asked if not one.startswith((url, "blob:", "data:"))] == []


@contextmanager
def opened(browser: Any, fake: Fake, **options: Any) -> Iterator[Any]:
    with serving(fake) as url, page_at(browser, url, **options) as page:
        yield page


def settled(page: Any) -> None:
    page.wait_for_selector("body[aria-busy=false]")


def upload(page: Any, data: bytes, name: str = "cat.png", kind: str = "image/png") -> None:
    page.set_input_files("#file", {"name": name, "mimeType": kind, "buffer": data})
    settled(page)


def a_picture(width: int = 200, height: int = 150) -> tuple[Image.Image, bytes]:
    rng = np.random.default_rng(5)
    small = Image.fromarray(rng.integers(0, 256, (9, 12, 3), np.uint8))
    picture = small.resize((width, height), Image.Resampling.BICUBIC)
    file = io.BytesIO()
    picture.save(file, "png")
    return picture, file.getvalue()


def seen(page: Any, view: str) -> Pixels:
    """The pixels of a canvas, (h, w, 3)."""
    script = "view => document.querySelector(`#${view} canvas`).toDataURL()"
    return pixels_of(page.evaluate(script, view))


def pixels_of(address: str) -> Pixels:
    """Of a PNG in a data URL, (h, w, 3)."""
    data = base64.b64decode(address.partition(",")[2])
    return np.array(Image.open(io.BytesIO(data)).convert("RGB"))


def figures(page: Any) -> dict[str, str]:
    terms = page.locator("#figures dt").all_text_contents()
    shown = page.locator("#figures dd").evaluate_all("all => all.map(dd => dd.firstChild.data)")
    return dict(zip(terms, shown, strict=True))


def status(page: Any) -> str:
    settled(page)
    return str(page.locator("#status").text_content())


def psnr(one: Pixels, other: Pixels) -> float:
    return float(10 * np.log10(255**2 / np.mean((one.astype(float) - other) ** 2)))


def over(page: Any, view: str, row: int, col: int, sides: int = 8) -> tuple[float, float]:
    box = page.locator(f"#{view}").bounding_box()
    return (
        box["x"] + (col + 0.5) * box["width"] / sides,
        box["y"] + (row + 0.5) * box["height"] / sides,
    )
