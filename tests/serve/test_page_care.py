"""The page for every reader and screen, its pictures against the library's, and the real server."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from serve_browser import (
    CHROMIUM,
    a_picture,
    chromium,
    figures,
    opened,
    page_at,
    pixels_of,
    psnr,
    seen,
    upload,
)
from serve_page import Fake

from vqtok.preprocess import Preprocess, preprocess

pytest.importorskip("playwright", reason="needs playwright (from PyPI)")
pytestmark = pytest.mark.skipif(not CHROMIUM.exists(), reason=f"needs {CHROMIUM}")
SAMPLE = Path(__file__).parents[2] / "vqtok/zoo/samples/chelsea.jpg"


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as browser:
        yield browser


# --- screens and readers ----------------------------------------------------------------


@pytest.mark.parametrize("path", ["/", "/docs"])
def test_nothing_sticks_out_at_any_width(browser: Any, path: str) -> None:
    with opened(browser, Fake(("clips", "blocks")), path=path) as page:
        for width in (1600, 1000, 700, 360):
            page.set_viewport_size({"width": width, "height": 800})
            page.wait_for_timeout(50)
            root = "document.documentElement"
            assert page.evaluate(f"{root}.scrollWidth - {root}.clientWidth") == 0, width
            assert page.locator("h1").bounding_box()["height"] < 60, width


# The contrast of every text that is shown against what is under it, where that is one colour.
CONTRAST = """() => {
    const channels = (text) => text.match(/[\\d.]+/g).map(Number);
    const light = (rgb) => rgb.slice(0, 3)
        .map((x) => x / 255)
        .map((x) => (x <= 0.04045 ? x / 12.92 : ((x + 0.055) / 1.055) ** 2.4))
        .reduce((sum, x, i) => sum + x * [0.2126, 0.7152, 0.0722][i], 0);
    const under = (element) => {
        for (let at = element; at; at = at.parentElement) {
            const colour = channels(getComputedStyle(at).backgroundColor);
            if (colour.length < 4 || colour[3] > 0) return colour;
        }
    };
    const found = [];
    for (const element of document.querySelectorAll("body *")) {
        const own = [...element.childNodes].some((n) => n.nodeType === 3 && n.data.trim());
        if (!own || element.disabled || !element.checkVisibility()) continue;
        const pair = [light(channels(getComputedStyle(element).color)), light(under(element))];
        const ratio = (Math.max(...pair) + 0.05) / (Math.min(...pair) + 0.05);
        found.push([ratio, `${element.tagName} ${element.textContent.slice(0, 40)}`]);
    }
    return found;
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_is_read_easily(browser: Any, scheme: str) -> None:
    fault = {"wrong": ("Failed to load resource",), "color_scheme": scheme}
    with opened(browser, Fake(("deep", "blocks")), **fault) as page:
        found = page.evaluate(CONTRAST)
        assert len(found) > 60
        upload(page, b"", "empty.png")
        found += page.evaluate(CONTRAST)
        assert [one for one in found if one[0] < 4.5] == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_pressed_button_is_read_under_the_pointer(browser: Any, scheme: str) -> None:
    with opened(browser, Fake(), color_scheme=scheme) as page:
        page.click("#pick")
        assert page.locator("#pick").evaluate("one => one.matches(':hover')")
        [ratio] = [one for one, name in page.evaluate(CONTRAST) if name == "BUTTON Pick a cell"]
        assert ratio > 4.5


def test_swapping_is_in_sight(browser: Any) -> None:
    with opened(browser, Fake()) as page:
        page.set_viewport_size({"width": 1200, "height": 900})
        box = page.locator("#undoing").bounding_box()
        assert box["y"] + box["height"] < 900
        page.set_viewport_size({"width": 360, "height": 780})
        assert page.locator("#map").bounding_box()["y"] < 640
        assert page.locator("#palette button").first.bounding_box()["height"] >= 44


# What has the focus or can be operated, without a name that a reader would say.
NAMELESS = """() => [...document.querySelectorAll("a, button, input, select, [tabindex]")]
    .filter((element) => element.checkVisibility())
    .filter((element) => {
        const labels = [...(element.labels ?? [])].map((label) => label.textContent);
        const by = element.getAttribute("aria-labelledby");
        const name = [element.getAttribute("aria-label"), ...labels, element.textContent,
            by && document.getElementById(by).textContent];
        return !name.some((text) => text?.trim());
    })
    .map((element) => element.outerHTML)"""


def test_everything_has_a_name_and_an_order(browser: Any) -> None:
    with opened(browser, Fake(("clips", "deep"))) as page:
        assert page.evaluate(NAMELESS) == []
        ids = page.evaluate("[...document.querySelectorAll('[id]')].map(one => one.id)")
        assert len(ids) == len(set(ids))
        for name in ("for", "aria-labelledby", "aria-describedby", "aria-activedescendant"):
            script = (
                "name => [...document.querySelectorAll(`[${name}]`)].map(e => e.getAttribute(name))"
            )
            assert set(page.evaluate(script, name)) <= set(ids)
        levels = page.evaluate(
            "[...document.querySelectorAll('h1, h2, h3')].map(one => Number(one.tagName[1]))"
        )
        assert levels[0] == 1 and levels.count(1) == 1
        assert all(later - earlier <= 1 for earlier, later in pairwise(levels))
        assert page.locator("#status").get_attribute("role") == "status"
        assert page.locator("#error").get_attribute("role") == "alert"


def test_the_keyboard_reaches_all_and_shows_where_it_is(browser: Any) -> None:
    reached, script = (
        [],
        """() => {
        const at = document.activeElement;
        const shown = at.matches(".unseen, .choices input")
            ? [...document.querySelectorAll(".button, .choices span")] : [at];
        const ringed = shown.some((one) => getComputedStyle(one).outlineStyle === "solid");
        return [at.id || at.getAttribute("name") || at.textContent, ringed];
    }""",
    )
    with opened(browser, Fake(("clips", "blocks"))) as page:
        for _ in range(16):
            page.keyboard.press("Tab")
            reached.append(page.evaluate(script))
    names = [name for name, _ in reached]
    assert [name for name, ringed in reached if not ringed] == []
    order = ["model", "file", "sample", "mode", "map", "play", "frame", "new-code", "pick"]
    assert [name for name in names if name in order] == order


def test_no_motion_where_it_is_not_wanted(browser: Any) -> None:
    with opened(browser, Fake(), reduced_motion="reduce") as page:
        page.evaluate("document.body.setAttribute('aria-busy', 'true')")
        script = (
            "[...document.querySelectorAll('*')].map(e => getComputedStyle(e).transitionDuration)"
        )
        assert set(page.evaluate(script)) == {"0s"}


# --- what the tokenizer saw -------------------------------------------------------------

SETTINGS = [
    {"policy": "center", "size": 64},
    {"policy": "center", "size": [48, 80], "resize": "pillow-lanczos"},
    {"policy": "stretch", "size": 64, "resize": "pillow-bilinear"},
    {"policy": "stretch", "size": 256, "resize": "pillow-bicubic"},
    {"policy": "pad", "size": 64, "background": [10, 200, 30]},
    {"policy": "native", "stride": 16},
    {"policy": "native", "stride": 16, "max_area": 5000},
    {"policy": "extend", "stride": 1, "max_area": 7000},
    {"policy": "adm", "size": 32, "resize": "adm-box-bicubic"},
    {"policy": "taming", "size": 64, "resize": "opencv-u8-bilinear"},
    {"policy": "torchvision", "size": 36, "resize": "pillow-bilinear"},
]
PREPARE = """async ([address, settings]) => {
    const { prepare } = await import("/prepare.js");
    const file = await (await fetch(address)).blob();
    const bitmap = await createImageBitmap(file);
    return settings.map((one) => {
        const image = prepare(bitmap, [bitmap.height, bitmap.width], one);
        const canvas = document.createElement("canvas");
        Object.assign(canvas, { height: image.height, width: image.width });
        canvas.getContext("2d").putImageData(image, 0, 0);
        return canvas.toDataURL();
    });
}"""


def test_pictures_are_prepared_as_the_library_does(browser: Any) -> None:
    picture, data = a_picture(203, 150)
    pixels = np.asarray(picture)
    with opened(browser, Fake()) as page:
        page.route("**/given.png", lambda route: route.fulfill(body=data, content_type="image/png"))
        rules = [Preprocess(**one) for one in SETTINGS]
        given = [rule.model_dump(mode="json") for rule in rules]
        found = page.evaluate(PREPARE, ["/given.png", given])
    for rule, address in zip(rules, found, strict=True):
        shown = pixels_of(address)
        expected = preprocess(pixels, rule)
        assert shown.shape == expected.shape, rule
        assert np.abs(shown - expected.astype(int)).max() <= 2, rule


# --- the description, and the real server -----------------------------------------------


def test_the_description_is_readable(browser: Any) -> None:
    with opened(browser, Fake(), path="/docs") as page:
        assert page.locator("h1").text_content() == "vqtok"
        assert page.locator("#intro li").all_text_contents() == ["one", "two"]
        assert page.locator("article h2").all_text_contents() == [
            "POST /v1/encode",
            "GET /v1/models",
        ]
        base = page.url.removesuffix("/docs")
        assert page.locator("pre").all_text_contents() == [
            f"curl -f --data-binary @cat.jpg -H 'Content-Type: image/jpeg' {base}/v1/encode"
            " -o codes.json",
            f"curl -f {base}/v1/models",
        ]
        text = page.locator("article").first.inner_text()
        assert "codes | latents" in text and "application/json" in text


def test_operations_are_tried_where_they_are_described(browser: Any) -> None:
    fake = Fake(key="right")
    with opened(browser, fake, path="/docs", wrong=("Failed to load resource",)) as page:
        assert page.locator("#key").evaluate("key => key === document.activeElement")
        page.keyboard.type("right")
        page.keyboard.press("Enter")
        page.locator("article").first.wait_for()
        encode, models = page.locator("article").all()
        page.locator("#key-form").wait_for(state="hidden")
        models.locator("summary", has_text="Try it").click()
        models.locator("button", has_text="Send").click()
        models.locator(".answer pre", has_text='"default": "blocks"').wait_for()
        encode.locator("summary", has_text="Try it").click()
        encode.locator("select").select_option("codes")
        file = {"name": "cat.png", "mimeType": "image/png", "buffer": a_picture()[1]}
        encode.locator("input[type=file]").set_input_files(file)
        encode.locator("button", has_text="Send").click()
        encode.locator(".answer pre", has_text='"codebook_size": 64').wait_for()
        encode.locator("input[type=file]").set_input_files({**file, "buffer": b"none"})
        encode.locator("button", has_text="Send").click()
        encode.locator(".answer .wrong", has_text="400 the picture is no image").wait_for()
    assert "POST /v1/encode?output=codes" in fake.seen


def test_the_real_server_and_tokenizer(browser: Any) -> None:
    serve_server = pytest.importorskip("serve_server", exc_type=ImportError)
    from vqtok import VisualTokenizer
    from vqtok.serve.engine import TokenizerEngine

    tok = VisualTokenizer.from_pretrained("photo-tiny")
    engine = TokenizerEngine(tok, name="photo-tiny", tokenizer="photo-tiny")
    [codes] = tok.encode_codes([SAMPLE])
    with serve_server.local_server(engine) as url, page_at(browser, url) as page:
        upload(page, SAMPLE.read_bytes(), "chelsea.jpg", "image/jpeg")
        assert figures(page)["Distinct"] == str(len(np.unique(codes)))
        pixels = preprocess(SAMPLE, tok.settings)
        assert psnr(seen(page, "input"), pixels) > 40  # browsers decode JPEG a little differently
        before = seen(page, "output")
        assert np.array_equal(before, np.asarray(tok.decode_codes([codes])[0]))
        page.fill("#new-code", "7")
        page.keyboard.press("Enter")
        page.locator("#status", has_text="Swapped row 16, column 16 to 7").wait_for()
        moved = np.abs(seen(page, "output").astype(int) - before).max(-1)
        assert moved[128:136, 128:136].max() > 8
        assert moved[:64].max() <= 8
