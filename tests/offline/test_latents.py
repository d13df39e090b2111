from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tiny
import torch
from offline.jobs import expected, job, made, pictures, rows_of

from vqtok import VisualTokenizer
from vqtok.metrics.pixels import from_uint8
from vqtok.offline.gather import code_figures, moments_of
from vqtok.offline.latents import Encoding, halved
from vqtok.preprocess import Preprocess, prepare
from vqtok.types import Codes


def latents_of(root: Path, tok: VisualTokenizer, key: str) -> np.ndarray:
    """What pipelines are given."""
    pixels = torch.from_numpy(prepare(root / key, tok.settings).pixels).movedim(-1, 0)[None]
    with torch.no_grad():
        latents = tok.model.encode(from_uint8(pixels)).latents
    return latents[0].numpy()


def test_they_are_what_encode_gives(tmp_path: Path) -> None:
    root, tok = pictures(tmp_path / "in", 3), tiny.tokenizer()
    work = job(root, tmp_path / "out", tok, what="both")
    rows = rows_of(made(work), work, tmp_path / "back")
    assert rows.latents is not None and rows.latents[0].dtype == np.float16
    for row in rows:
        np.testing.assert_allclose(row.latents, latents_of(root, tok, row.key), rtol=1e-3)
        np.testing.assert_array_equal(row.codes, expected(root, tok, row.key))


def test_the_record_has_their_moments(tmp_path: Path) -> None:
    work = job(pictures(tmp_path / "in", 4), tmp_path / "out", what="latents")
    result = made(work)
    rows = rows_of(result, work, tmp_path / "back")
    moments = result.record.moments
    assert rows.codes is None and result.record.histogram is None and moments is not None
    values = np.stack([*rows.latents]).astype(np.float64).swapaxes(0, 1).reshape(4, -1)
    assert moments.count == values.shape[1]
    np.testing.assert_allclose(moments.mean, values.mean(1), rtol=1e-12)
    np.testing.assert_allclose(moments.m2, values.var(1) * values.shape[1], rtol=1e-12)


def test_quantized_ones_are_those_of_the_codes(tmp_path: Path) -> None:
    root, tok = pictures(tmp_path / "in", 2), tiny.tokenizer()
    work = job(root, tmp_path / "out", tok, what="both", quantized=True)
    for row in rows_of(made(work), work, tmp_path / "back"):
        vectors = tok.vectors(row.codes.reshape(-1).astype(np.int64)).numpy()
        wanted = vectors.T.reshape(4, 4, 4).astype(np.float16)
        np.testing.assert_array_equal(row.latents, wanted)


def test_latents_beyond_float16_fail(tmp_path: Path) -> None:
    root, tok = pictures(tmp_path / "in", 3), tiny.tokenizer()
    with torch.no_grad():
        tok.model.quant_conv.weight *= 1e6
    tok = VisualTokenizer.from_model(tok.model, tok.settings)
    result = made(job(root, tmp_path / "out", tok, what="latents", views=["center", "hflip"]))
    assert (result.record.planned, result.record.rows, result.record.lost) == (6, 0, 6)
    first = result.record.failed[0]
    assert (first.key, first.stage, first.rows) == ("00.png", "overflow", 2)
    assert first.reason.startswith("center: a latent of ")
    assert first.reason.endswith(" is beyond float16, whose largest number is 65504")


def test_only_rows_beyond_float16_are_lost() -> None:
    latents = np.ones((3, 2, 2, 2), np.float32)
    latents[1, 0, 0, 0] = -70000
    half, lost = halved(latents, [5, 6, 7])
    assert half.dtype == np.float16 and half[0].all()
    assert [tuple(each) for each in lost] == [
        (6, "overflow", "a latent of 70000 is beyond float16, whose largest number is 65504")
    ]


def test_codes_of_the_rows_that_are_kept(tmp_path: Path) -> None:
    work = job(pictures(tmp_path / "in", 1), tmp_path / "out", what="both")
    latents = np.ones((4, 4, 4, 4), np.float32)
    latents[1] = np.inf
    ids = np.arange(64).reshape(4, 4, 4)
    codes = Codes(ids, np.full((4, 2), 16, np.int32), 64)
    done = Encoding(tiny.tokenizer().codec, work.plan).of([5, 6, 7], [0, 1, 3], codes, latents)
    assert (done.rows, [lost.row for lost in done.lost]) == ([5, 7], [6])
    assert done.ids is not None and done.latents is not None
    np.testing.assert_array_equal(done.ids, ids[[0, 3]])
    assert done.latents.shape == (2, 4, 4, 4)


def test_shapes_make_no_difference_to_moments() -> None:
    array = np.random.default_rng(0).normal(size=(5, 3, 4, 4)).astype(np.float16)
    assert moments_of(array, 3) == moments_of(list(array), 3)
    assert moments_of(None, 3).count == 0


def test_figures_of_codes() -> None:
    array = np.random.default_rng(0).integers(0, 64, (5, 4, 4)).astype("<u2")
    assert code_figures(array, 64) == code_figures(list(array), 64)
    assert code_figures(array, (1 << 20) + 1).histogram is None
    assert code_figures(None, 64).sha256 == code_figures(array[:0], 64).sha256


@pytest.mark.parametrize("precision", ["ieee32", "bf16"])
def test_the_codec_gives_codes_of_its_latents(precision: str) -> None:
    settings = Preprocess(policy="center", size=16, stride=4)
    tok = VisualTokenizer.from_model(tiny.model(), settings, precision=precision)
    pixels = np.stack([tiny.picture(16, 16, seed) for seed in range(3)])
    latents, codes = tok.codec.encode_latents(pixels)
    assert latents.dtype == np.float32 and latents.shape == (3, 4, 4, 4)
    assert codes == tok.codec.encode(pixels)
