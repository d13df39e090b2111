"""The page at `/`, in a real browser, against a small server that speaks the same JSON."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from serve_browser import (
    CHROMIUM,
    a_picture,
    chromium,
    figures,
    opened,
    over,
    psnr,
    seen,
    settled,
    status,
    upload,
)
from serve_page import KINDS, SIDE, Fake

pytest.importorskip("playwright", reason="needs playwright (from PyPI)")
pytestmark = pytest.mark.skipif(not CHROMIUM.exists(), reason=f"needs {CHROMIUM}")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as browser:
        yield browser


# --- a picture --------------------------------------------------------------------------


def test_a_picture_comes_back_beside_its_codes(browser: Any) -> None:
    picture, data = a_picture()
    with opened(browser, Fake()) as page:
        assert page.title() == "blocks · vqtok"
        assert page.locator("#print-short").text_content() == (
            "vqtok-fp/1:01234567-01234567-01234567-01234567"
        )
        upload(page, data)
        pixels = np.asarray(picture.resize((SIDE, SIDE), Image.Resampling.BICUBIC))
        blocks = KINDS["blocks"]()
        codes = blocks.encode(pixels[None])["codes"]
        decoded = blocks.decode(codes, {})[0].astype(np.uint8)
        assert np.abs(seen(page, "input").astype(int) - pixels).max() <= 1
        assert np.array_equal(seen(page, "output"), decoded)
        counts = np.bincount(codes.ravel())
        share = counts[counts > 0] / codes.size
        assert figures(page) == {
            "Codes": "64",
            "Distinct": str(len(share)),
            "Perplexity": f"{2 ** -(share * np.log2(share)).sum():.1f}",
            "Bits a pixel": f"{64 * 6 / SIDE**2:.4f}",
            "Size": "48 B",
            "PSNR": f"{psnr(seen(page, 'input'), decoded):.2f} dB",
        }
        assert abs(psnr(seen(page, "input"), decoded) - psnr(pixels, decoded)) < 0.02
        rows = page.locator("#times tr").all_inner_texts()
        assert [re.split(r"\s", row)[0] for row in rows] == ["reading", "waiting", "model", "all,"]


def test_what_is_no_picture_is_said_in_words(browser: Any) -> None:
    with opened(browser, Fake(), wrong=("Failed to load resource",)) as page:
        upload(page, a_picture()[1], "one.png")
        before = seen(page, "output")
        upload(page, b"no picture at all", "text.jpg")
        assert page.locator("#error-text").text_content() == (
            "text.jpg: the picture is no image that can be read."
        )
        assert page.locator("#error-more").text_content() == "Request r-1."
        assert page.locator("#error").is_visible()
        # What was there is there, and can be worked on.
        assert np.array_equal(seen(page, "output"), before)
        assert str(page.locator("#source").text_content()).startswith("one.png")
        page.fill("#new-code", "63")
        page.keyboard.press("Enter")
        page.locator("#status", has_text="Swapped row 4, column 4 to 63").wait_for()
        page.keyboard.press("Control+z")
        page.locator("#status", has_text="Undone").wait_for()
        assert np.array_equal(seen(page, "output"), before)
        upload(page, a_picture()[1], "dog.png")
        assert not page.locator("#error").is_visible()
        assert page.locator("#stage").is_visible()
        assert str(page.locator("#source").text_content()).startswith("dog.png")


# What the browser hands over, as nobody can drag in a test.
DROP = """names => {
    const data = new DataTransfer();
    for (const name of names) data.items.add(new File(["x"], name));
    if (!names.length) data.setData("text/plain", "https://example.org/cat.png");
    const options = { dataTransfer: data, bubbles: true, cancelable: true };
    document.body.dispatchEvent(new DragEvent("drop", options));
}"""


def test_what_is_dropped_and_not_taken_is_said(browser: Any) -> None:
    with opened(browser, Fake()) as page:
        page.evaluate(DROP, [])
        assert status(page) == "What was dropped is no file: drop the file of a picture."
        page.evaluate("document.dispatchEvent(new ClipboardEvent('paste', {bubbles: true}))")
        assert status(page) == "There is no picture to paste."
        two = [{"name": n, "mimeType": "image/png", "buffer": a_picture()[1]} for n in ("a", "b")]
        page.evaluate("document.getElementById('file').multiple = true")
        page.set_input_files("#file", two)
        settled(page)
        assert status(page).endswith(" ms. One file at a time: 1 more was left out.")
        assert str(page.locator("#source").text_content()).startswith("a, ")


def test_a_file_that_only_the_server_can_read(browser: Any) -> None:
    picture, _ = a_picture()
    file = io.BytesIO()
    picture.save(file, "tiff")
    with opened(browser, Fake()) as page:
        upload(page, file.getvalue(), "cat.tiff", "image/tiff")
        assert page.locator("#no-input").text_content() == (
            "This browser cannot show cat.tiff. The server has read it: codes and decoded picture "
            "are right, but there is nothing to compare with."
        )
        assert page.locator("#patches span:visible").all_inner_texts() == ["decoded"]
        assert "PSNR" not in figures(page)
        upload(page, a_picture()[1])
        assert not page.locator("#no-input").is_visible()
        assert page.locator("#patches span:visible").all_inner_texts() == ["seen", "decoded"]


def test_a_server_that_is_gone(browser: Any) -> None:
    with opened(browser, Fake(), wrong=("Failed to load resource",)) as page:
        page.route("**/encode", lambda route: route.abort("connectionrefused"))
        page.click("#sample")
        page.locator("#error").wait_for()
        assert page.locator("#error-text").text_content() == (
            "The server cannot be reached. Is it still running?"
        )
        page.unroute("**/encode")
        page.click("#again")
        page.locator("#status", has_text="Encoded and decoded").wait_for()
        assert not page.locator("#error").is_visible()


def test_a_swap_is_tried_again_but_not_made_twice(browser: Any) -> None:
    with opened(browser, Fake(), wrong=("Failed to load resource",)) as page:
        before = seen(page, "output")
        page.route("**/decode", lambda route: route.abort("connectionrefused"))
        page.fill("#new-code", "63")
        page.keyboard.press("Enter")
        page.locator("#error").wait_for()
        page.unroute("**/decode")
        page.click("#again")
        page.locator("#status", has_text="Swapped row 4, column 4 to 63: 256 pixels").wait_for()
        page.click("#undo")
        page.locator("#status", has_text="Undone").wait_for()
        assert np.array_equal(seen(page, "output"), before)


def test_a_key_is_asked_for_and_kept_in_the_tab(browser: Any) -> None:
    fake = Fake(key="right")
    with opened(browser, fake, wrong=("Failed to load resource",)) as page:
        assert page.locator("#key").evaluate("key => key === document.activeElement")
        assert page.locator("#key-label").text_content() == "This server asks for a key"
        page.keyboard.type("wrong")
        page.keyboard.press("Enter")
        page.locator("#key-label", has_text="did not take").wait_for()
        page.fill("#key", "right")
        page.keyboard.press("Enter")
        page.locator("#stage").wait_for()
        settled(page)
        assert not page.locator("#key-form").is_visible()
        kept = page.evaluate("[{...sessionStorage}, {...localStorage}, document.cookie]")
        assert kept == [{"vqtok-key": "right"}, {}, ""]


# --- cells ------------------------------------------------------------------------------


def test_pointing_tells_of_a_cell(browser: Any) -> None:
    with opened(browser, Fake()) as page:
        upload(page, a_picture()[1])
        codes = KINDS["blocks"]().encode(seen(page, "input")[None])["codes"]
        for view, row, col in (("map", 2, 5), ("input", 0, 7), ("output", 6, 1)):
            page.mouse.move(*over(page, view, row, col))
            code, used = codes[row, col], (codes == codes[row, col]).sum()
            often = "used once here" if used == 1 else f"used {used} times here"
            expected = f"row {row}, column {col}: code {code}, {often}"
            assert page.locator("#readout").text_content() == expected
            assert page.locator("#cell-code").text_content() == str(code)
            place = f"x {16 * col}–{16 * col + 15}, y {16 * row}–{16 * row + 15}"
            assert place in page.locator("#cell-facts").inner_text()


def test_a_swap_by_keyboard_changes_the_picture_there_only(browser: Any) -> None:
    with opened(browser, Fake()) as page:
        upload(page, a_picture()[1])
        before = seen(page, "output")
        page.focus("#map")
        for key in ("Control+Home", "ArrowDown", "ArrowDown", "ArrowRight", "Enter"):
            page.keyboard.press(key)
        spoken = page.locator("#" + page.get_attribute("#map", "aria-activedescendant"))
        assert str(spoken.text_content()).startswith("row 2, column 1: code ")
        page.keyboard.type("63")
        page.keyboard.press("Enter")
        page.locator("#status", has_text="Swapped").wait_for()
        after = seen(page, "output")
        there = np.s_[32:48, 16:32]
        assert (after[there] == 224).all()
        step = np.abs(after[there].astype(int) - before[there]).max()
        assert status(page) == (
            "Swapped row 2, column 1 to 63: 256 pixels changed (1.6 %), x 16–31, y 32–47, by up to "
            f"{step} levels."
        )
        after[there] = before[there]
        assert np.array_equal(after, before)
        page.keyboard.press("Control+z")  # on the map again, not in the field
        page.locator("#status", has_text="Undone").wait_for()
        assert np.array_equal(seen(page, "output"), before)
        page.keyboard.press("Control+Shift+z")
        page.locator("#status", has_text="Redone").wait_for()
        page.click("#reset")
        page.locator("#status", has_text="Back to").wait_for()
        assert np.array_equal(seen(page, "output"), before)


FOCUS = "document.activeElement.id"


def test_a_swap_that_is_thought_better_of(browser: Any) -> None:
    fake = Fake()
    with opened(browser, fake) as page:
        page.focus("#map")
        code = page.locator("#cell-code").text_content()
        page.keyboard.press("1")
        assert page.evaluate(FOCUS) == "new-code"
        page.keyboard.press("Escape")
        assert page.evaluate(FOCUS) == "map"
        assert page.input_value("#new-code") == code
        page.keyboard.press("Enter")
        page.keyboard.type("99")  # there is none: it stays, to be corrected
        page.keyboard.press("Enter")
        assert page.evaluate(FOCUS) == "new-code"
        assert sum(line.endswith("/decode") for line in fake.seen) == 1


def test_a_code_is_picked_from_a_cell_or_the_list(browser: Any) -> None:
    with opened(browser, Fake()) as page:
        upload(page, a_picture()[1])
        codes = KINDS["blocks"]().encode(seen(page, "input")[None])["codes"]
        page.mouse.click(*over(page, "map", 0, 0))
        page.click("#pick")
        page.mouse.click(*over(page, "output", 7, 6))
        page.locator("#status", has_text=f"Swapped row 0, column 0 to {codes[7, 6]}").wait_for()
        page.click("#palette button >> nth=0")
        common = np.bincount(codes.ravel()).argmax()
        page.locator("#status", has_text=f"to {common}").wait_for()


def test_a_code_out_of_range_is_not_sent(browser: Any) -> None:
    fake = Fake()
    with opened(browser, fake) as page:
        page.evaluate("document.getElementById('swap').noValidate = true")
        page.fill("#new-code", "64")
        page.click("#swap button[type=submit]")
        assert status(page) == "Codes of this tokenizer are whole numbers from 0 to 63."
        assert sum(line.endswith("/decode") for line in fake.seen) == 1


# --- ways to look, and to take along ----------------------------------------------------


def test_ways_to_look(browser: Any) -> None:
    with opened(browser, Fake()) as page:
        upload(page, a_picture()[1])
        one, other = seen(page, "input"), seen(page, "output")
        page.check("#mode-wipe")
        page.fill("#wipe", "25")
        assert np.array_equal(seen(page, "output"), np.hstack([one[:, :32], other[:, 32:]]))
        page.check("#mode-difference")
        apart = np.minimum(255, 4 * np.abs(one.astype(int) - other))
        assert np.array_equal(seen(page, "output"), apart)


def test_codes_and_pictures_are_taken_along(browser: Any) -> None:
    with opened(browser, Fake(("deep",)), accept_downloads=True) as page:
        upload(page, a_picture()[1])

        def saved(button: str) -> tuple[str, bytes]:
            with page.expect_download() as download:
                page.click(button)
            return download.value.suggested_filename, Path(download.value.path()).read_bytes()

        name, text = saved("#save-json")
        assert name == "cat.codes.json"
        codes = np.array(json.loads(text)["pictures"][0]["codes"])
        name, data = saved("#save-npy")
        assert name == "cat.codes.npy"
        loaded = np.load(io.BytesIO(data))
        assert loaded.dtype == np.uint16 and np.array_equal(loaded, codes)
        assert loaded.shape == (8, 8, 2)
        name, data = saved("#save-png")
        assert name == "cat.decoded.png"
        assert np.array_equal(
            np.asarray(Image.open(io.BytesIO(data)))[..., :3], seen(page, "output")
        )


# --- kinds of tokenizers ----------------------------------------------------------------


def test_levels_of_a_stack(browser: Any) -> None:
    with opened(browser, Fake(("deep",))) as page:
        before = seen(page, "output")
        first = page.locator("#cell-code").text_content()
        page.check("input[name=level][value='1']")
        assert "Distinct on level 2" in figures(page)
        assert page.locator("#cell-code").text_content() != first
        page.fill("#new-code", "0")
        page.keyboard.press("Enter")
        page.locator("#status", has_text="Swapped row 4, column 4 to 0").wait_for()
        moved = (seen(page, "output") != before).any(-1)
        assert moved[64:80, 64:80].all() and moved.sum() == 256


def test_scales(browser: Any) -> None:
    with opened(browser, Fake(("scales",))) as page:
        assert page.locator("#scales label").all_text_contents() == ["1×1", "2×2", "4×4", "8×8"]
        assert seen(page, "map").shape == (8, 8, 3)
        page.check("input[name=scale][value='1']")
        assert seen(page, "map").shape == (2, 2, 3)
        page.mouse.move(*over(page, "map", 1, 0, 2))
        coarse = KINDS["scales"]().encode(seen(page, "input")[None])["codes"][1:5]
        assert page.locator("#cell-code").text_content() == str(coarse[2])
        assert "x 0–63, y 64–127" in page.locator("#cell-facts").inner_text()


def test_a_sequence_is_a_strip(browser: Any) -> None:
    with opened(browser, Fake(("strip",))) as page:
        assert seen(page, "map").shape == (2, 8, 3)
        page.focus("#map")
        page.keyboard.press("Control+End")
        assert str(page.locator("#readout").text_content()).startswith("place 15: code ")


def test_a_clip_plays(browser: Any) -> None:
    with opened(browser, Fake(("clips",))) as page:
        assert page.locator("#frame-note").text_content() == "frame 0 of 0–15"
        first = seen(page, "input"), seen(page, "output"), seen(page, "map")
        page.fill("#frame", "13")
        later = seen(page, "input"), seen(page, "output"), seen(page, "map")
        assert page.locator("#map-note").text_content() == "8 × 8, time 3 of 0–3"
        assert not any(np.array_equal(*pair) for pair in zip(first, later, strict=True))
        page.click("#play")
        page.locator("#frame-note:not(:text('frame 13 of'))").wait_for()
        page.click("#play")
        assert page.locator("#play").text_content() == "Play"


def test_a_clip_is_taken_along_at_a_rate(browser: Any) -> None:
    fake = Fake(("clips", "blocks"))
    with opened(browser, fake, accept_downloads=True) as page:
        page.fill("#fps", "12.5")
        with page.expect_download() as download:
            page.click("#save-clip")
        assert download.value.suggested_filename == "sample clip.decoded.mp4"
        assert status(page) == "The clip has 12.5 frames a second."
        page.fill("#fps", "0")  # which cannot be: as usual
        with page.expect_download():
            page.click("#save-clip")
        asked = "POST /v1/models/clips/decode?format=mp4&fps="
        assert [one for one in fake.seen if "mp4" in one] == [f"{asked}12.5", f"{asked}25"]
        page.select_option("#model", "blocks")
        page.locator("#name", has_text="blocks").wait_for()
        settled(page)
        assert not page.locator("#save-clip").is_visible()


def test_the_frames_of_a_file(browser: Any) -> None:
    av = pytest.importorskip("av", reason="needs PyAV (pip install 'vqtok[video]')")
    file, frames = io.BytesIO(), [np.full((SIDE, SIDE, 3), 20 * i, np.uint8) for i in range(12)]
    with av.open(file, "w", format="webm") as out:
        stream = out.add_stream("libvpx-vp9", rate=24, options={"crf": "20", "b:v": "0"})
        stream.width = stream.height = SIDE
        for frame in frames:
            out.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        out.mux(stream.encode())
    with opened(browser, Fake(("clips",))) as page:
        upload(page, file.getvalue(), "ramp.webm", "video/webm")
        for i in (0, 1, 6, 11):
            page.fill("#frame", str(i))
            assert abs(seen(page, "input").mean() - 20 * i) < 8


def test_another_tokenizer_takes_the_same_picture(browser: Any) -> None:
    fake = Fake(("blocks", "deep"))
    with opened(browser, fake) as page:
        upload(page, a_picture()[1])
        page.select_option("#model", "deep")
        page.locator("#name", has_text="deep").wait_for()
        page.locator("#levels").wait_for()
        assert "POST /v1/models/deep/encode" in fake.seen
        assert str(page.locator("#source").text_content()).startswith("cat.png")


def test_nothing_of_one_tokenizer_stands_under_another(browser: Any) -> None:
    with opened(browser, Fake(("clips", "blocks")), wrong=("Failed to load resource",)) as page:
        page.route("**/blocks/encode", lambda route: None)  # takes its time
        page.select_option("#model", "blocks")
        page.locator("#stage[inert]").wait_for()
        assert page.locator("#source").text_content() == ""
        page.route("**/clips/encode", lambda route: route.abort("connectionrefused"))
        page.select_option("#model", "clips")
        page.locator("#error").wait_for()
        # Of the tokenizer that is named again, what was there stands.
        assert page.locator("#stage:not([inert])").is_visible()
        assert str(page.locator("#source").text_content()).startswith("sample clip")
        page.route("**/blocks/encode", lambda route: route.abort("connectionrefused"))
        page.select_option("#model", "blocks")
        page.locator("#stage").wait_for(state="hidden")
        assert page.locator("#source").text_content() == ""
