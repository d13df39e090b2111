from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tiny
from onnx_exports import exported
from PIL import Image

from vqtok.card import fingerprint_table
from vqtok.export.card import onnx_card, plain_script
from vqtok.export.report import notes

TOK = tiny.tokenizer()
CONFIG = {
    "traits": TOK.codec.traits.to_dict(),
    "pixels": "uint8",
    "codes": "int64",
    "precision": "fp16",
    "decoder_precision": "int8",
    "opset": 20,
    "files": {"encoder.onnx": {}, "decoder.onnx": {}},
}


def test_what_a_card_says() -> None:
    said = (exported().folder / "README.md").read_text()
    assert said.startswith("---\nlibrary_name: vqtok\ntags:\n- image-tokenizer\n")
    assert (
        "| encoder.onnx | `pixels`: uint8 (N, H, W, 3) | `codes`: int64 (N, h, w) |\n"
        "| decoder.onnx | `codes`: int64 (N, h, w) | `pixels`: uint8 (N, H, W, 3) |\n"
    ) in said
    assert "N is any number, and sides are multiples of 4. " in said
    assert f"## Fingerprint\n\n{fingerprint_table(TOK)}\n" in said
    assert (
        "`parity.json` has the details, and lists ids that differ, up to\n1,000 of them.\n" in said
    )
    assert "- compared: 4 pictures of the samples of the package, " in said


def test_a_script_that_knows_nothing_of_vqtok(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The one in the card, as it stands there."""
    said = (exported().folder / "README.md").read_text()
    script = said.split("```python\n")[2].split("```")[0]
    assert script == plain_script(TOK, CONFIG, TOK.codec.traits) + "\n"
    lines = [line for line in script.splitlines() if line]
    assert len(lines) <= 15
    assert "vqtok" not in script
    for name in ("encoder.onnx", "decoder.onnx"):
        (tmp_path / name).symlink_to(exported().folder / name)
    picture = tiny.picture(16, 16)
    Image.fromarray(picture).save(tmp_path / "picture.jpg", quality=100)
    seen = np.array(Image.open(tmp_path / "picture.jpg"))
    monkeypatch.chdir(tmp_path)
    exec(script, found := {"print": lambda *what: None})  # type: ignore[dict-item]
    codes = TOK.codec.encode(seen[None])
    assert np.array_equal(found["codes"], codes.ids)
    back = np.asarray(Image.open("back.png")).astype(int)
    assert np.abs(back - TOK.codec.decode(codes)[0]).max() <= 1


def test_what_arithmetic_costs_is_said_aloud() -> None:
    parity = exported().parity | {"precision": "fp16", "decoder_precision": "int8"}
    encoder = parity["encoder"] | {
        "agreement": 0.95,
        "differing": 20,
        "no_near_tie": 18,
        "greatest_excess": 0.0123,
    }
    said = onnx_card(TOK, CONFIG, parity | {"encoder": encoder})
    assert (
        "- ids: 95.000% equal, 20 differ: 2 near ties, 18 no near ties; farther than the nearest "
        "code by up to 1.2e-02\n"
    ) in said
    assert (
        "- CPUExecutionProvider computes float16 graphs in float32 where it can; a GPU does not, "
        "and changes more than this\n"
        "- ids are others than torch's in float32: encode all data of a model with one of them\n"
    ) in said


@pytest.mark.parametrize("pixels", ["uint8", "float"])
@pytest.mark.parametrize("frames", [(), (2,)])
def test_scripts_of_all_kinds(pixels: str, frames: tuple[int, ...]) -> None:
    """They are Python, and hand over what the graph takes."""
    traits = TOK.codec.traits
    if frames:
        traits = type(traits)(64, 0, 3, (2, 4, 4), causal=True)
    script = plain_script(TOK, CONFIG | {"pixels": pixels}, traits)
    compile(script, "script", "exec")
    assert ("float32" in script) == (pixels == "float")
    assert ("range(3)" in script) == bool(frames)


def test_pictures_that_cannot_be_read_are_named() -> None:
    skipped = {f"{n}.png": "no picture" for n in "abcde"}
    parity = exported().parity
    said = notes(parity | {"pictures": parity["pictures"] | {"skipped": skipped}})
    assert said == [
        "could not be read: 'a.png' (no picture), 'b.png' (no picture), 'c.png' (no picture), and "
        "2 more"
    ]
