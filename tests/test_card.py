from __future__ import annotations

from pathlib import Path

import pytest
import tiny

from vqtok import VisualTokenizer
from vqtok.card import fingerprint_table, model_card
from vqtok.preprocess import Preprocess


def test_what_a_card_says() -> None:
    tok = tiny.tokenizer()
    millions = sum(p.numel() for p in tok.model.parameters()) / 1e6
    said = model_card(tok)
    assert said.startswith("---\nlibrary_name: vqtok\n")
    assert (
        "- 64 codes of 4 dimensions, 1 a token\n"
        "- one token for 4 x 4 pixels; pictures are brought to 16 x 16 (policy `center`)\n"
        "- quantizer `vector`, estimator `rotation`\n"
        f"- {millions:.2f} M parameters\n"
    ) in said
    assert said.endswith(f"## Fingerprint\n\n{fingerprint_table(tok)}\n")


def test_the_fingerprint_is_whole() -> None:
    tok = tiny.tokenizer()
    rows = fingerprint_table(tok).splitlines()
    parts = ("preprocess", "encoder", "codebook", "decoder")
    assert rows == [
        "| part | sha256 |",
        "| --- | --- |",
        *(f"| {part} | `{getattr(tok.fingerprint, part)}` |" for part in parts),
    ]


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (Preprocess(policy="pad", size=(16, 24)), "16 x 24 (policy `pad`)"),
        (Preprocess(policy="native", stride=4), "a multiple of that (policy `native`)"),
    ],
)
def test_other_preprocessing(settings: Preprocess, words: str) -> None:
    tok = VisualTokenizer.from_model(tiny.model(), settings)
    assert f"pictures are brought to {words}\n" in model_card(tok)


def test_several_codes_a_token() -> None:
    tok = tiny.tokenizer(quantizer="residual", quantizer_args={"num_quantizers": 3})
    assert "- 64 codes of 4 dimensions, 3 a token\n" in model_card(tok)


def test_a_card_that_somebody_wrote_stays(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("by hand")
    tiny.tokenizer().save_pretrained(tmp_path)
    assert (tmp_path / "README.md").read_text() == "by hand"
