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


@pytest.mark.parametrize(
    ("licence", "head"),
    [
        ("MIT, code and published weights", "license: mit\n"),
        ("Apache-2.0", "license: apache-2.0\n"),
        (
            "DeepSeek Model License, which restricts use",
            "license: other\nlicense_name: deepseek-model-license-which-restricts-use\n",
        ),
        ("that of the repository it comes from", "license: other\nlicense_name: unknown\n"),
        (
            "MIT (code); CompVis names none for its weights",
            "license: other\nlicense_name: mit-code\n",
        ),
    ],
)
def test_licences_as_the_hub_has_them(licence: str, head: str) -> None:
    source = {"file": "a.pt", "sha256": {}, "repository": None}
    report = {"family": "toy", "title": "a toy", "licence": licence, "source": source, "notes": []}
    for conversion in (report, {"derived_from": report}):
        tok = tiny.tokenizer()
        tok.conversion = conversion
        assert model_card(tok).startswith(f"---\nlibrary_name: vqtok\n{head}tags:\n")
