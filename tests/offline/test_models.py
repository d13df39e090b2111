"""Jobs with every kind of codes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
from autoencoders.toys import toy
from offline.jobs import expected, job, made, pictures, rows_of, smooth
from source_files import png, write
from test_multiscale_tokenizer import tokenizer as multiscale

from vqtok import VisualTokenizer
from vqtok.preprocess import Preprocess

LARGE = 17**4  # codes
KINDS: dict[str, dict[str, Any]] = {
    "residual": {"quantizer_args": {"num_quantizers": 3, "start": "kaiming"}},
    "grouped": {"quantizer_args": {"groups": 2, "start": "kaiming"}},
    "fsq": {"quantizer_args": {"levels": [17] * 4}, "num_vq_embeddings": LARGE},
    "lfq": {"quantizer_args": {}, "num_vq_embeddings": 1 << 18, "vq_embed_dim": 18},
}


def check(tmp_path: Path, tok: VisualTokenizer, **options: Any) -> Any:
    """A job's rows, whose codes are those of each picture by itself."""
    root = pictures(tmp_path / "in", 3)
    work = job(root, tmp_path / "out", tok, what="both", quantized=True, **options)
    rows = rows_of(made(work), work, tmp_path / "back")
    assert len(rows) == 3
    for row in rows:
        np.testing.assert_array_equal(row.codes, expected(root, tok, row.key))
        assert row.codes.dtype == work.plan.dtype and len(row.latents) == tok.model.quantize.dim
    return rows


@pytest.mark.parametrize("kind", KINDS)
def test_quantizers(kind: str, tmp_path: Path) -> None:
    tok = tiny.tokenizer(quantizer=kind, **KINDS[kind])
    row = check(tmp_path, tok)[0]
    assert row.grid == (4, 4)
    assert row.codes.shape == ((4, 4, tok.vocab.depth) if tok.vocab.depth else (4, 4))
    assert row.codes.dtype == (np.uint32 if tok.codebook_size > 1 << 16 else np.uint16)


def test_several_scales(tmp_path: Path) -> None:
    row = check(tmp_path, multiscale(policy="center", size=16, stride=4))[0]
    assert row.grid == (21,) and row.scales == ((1, 1), (2, 2), (4, 4))
    assert row.latents.shape == (4, 4, 4)


def test_several_scales_of_several_sizes(tmp_path: Path) -> None:
    root, tok = tmp_path / "in", multiscale()
    for number, size in enumerate([(16, 16), (16, 24)]):
        write(root / f"{number}.png", png(smooth(number, *size)))
    work = job(root, tmp_path / "out", tok)
    rows = rows_of(made(work), work, tmp_path / "back")
    assert [row.scales[-1] for row in rows] == [(4, 4), (4, 6)]
    for row in rows:
        np.testing.assert_array_equal(row.codes, expected(root, tok, row.key))


def test_one_sequence_of_codes(tmp_path: Path) -> None:
    tok = VisualTokenizer.from_model(toy("titok"), Preprocess(policy="center", size=32))
    assert check(tmp_path, tok)[0].grid == (64,)
