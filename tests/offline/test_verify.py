from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import torch
from clip_files import clip_tokenizer, film
from offline.made_sets import MadeSet, Tampered, made_set, pictures

from vqtok import VisualTokenizer
from vqtok.errors import ConfigError, MismatchError
from vqtok.offline.job import SourceSpec
from vqtok.offline.plan import ClipPlan
from vqtok.offline.read import open_tokens
from vqtok.offline.verify import SampleReport, read_through, verify_sample
from vqtok.offline.worker import open_spec

VIEWS = ("center", "hflip", "random:1")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> MadeSet:
    folder = tmp_path_factory.mktemp("set")
    return made_set(folder / "out", pictures(folder / "in"), tiny.tokenizer(), views=VIEWS)


def verify(made: MadeSet, tokens: Any = None, **options: Any) -> SampleReport:
    tokens = made.tokens if tokens is None else tokens
    return verify_sample(tokens, made.source, made.tokenizer, **{"share": 1.0, **options})


KINDS = {
    "codes": {},
    "views": {"views": ("center", "tencrop@1.25", "random:2"), "batch": 5, "seed": 3},
    "buckets": {"buckets": ((16, 16), (12, 20)), "views": VIEWS},
    "latents": {"what": "latents"},
    "both": {"what": "both"},
    "quantized": {"what": "both", "quantized": True},
}


@pytest.mark.parametrize("kind", KINDS)
def test_what_was_made_is_made_again(kind: str, tmp_path: Path) -> None:
    found = made_set(tmp_path / "o", pictures(tmp_path / "i"), tiny.tokenizer(), **KINDS[kind])
    report = verify(found)
    assert report.ok
    rows = len(found.tokens)
    assert (report.rows, report.compared, report.equal, report.ties) == (rows, rows, rows, 0)
    assert report.values == sum(
        (row.latents if row.codes is None else row.codes).size for row in found.tokens
    )


SEVERAL = {
    "residual": {"num_quantizers": 2},
    "grouped": {"groups": 2},
    "multiscale": {"scales": [1, 2, 4]},
}


@pytest.mark.parametrize("name", SEVERAL)
def test_several_codes_a_token(name: str, tmp_path: Path) -> None:
    tok = tiny.tokenizer(quantizer=name, quantizer_args=SEVERAL[name])
    found = made_set(tmp_path / "o", pictures(tmp_path / "i"), tok)
    assert verify(found).equal == 8
    rows = Tampered(found.tokens)
    codes = rows[1].codes.copy()
    codes[-1] = (codes[-1] + 1) % 64
    rows.change(1, codes=codes)
    report = verify(found, rows)
    assert report.equal == 7 and list(report.wrong) == ["'a/2.png' (center)"]


@pytest.mark.parametrize(
    "options",
    [
        {"views": ("center", "hflip")},
        {"clips": ClipPlan(frames=4)},
        {"what": "both", "views": ("center", "hflip")},
    ],
)
def test_clips_are_made_again(options: dict[str, Any], tmp_path: Path) -> None:
    for number in range(2):
        film(tmp_path / "in" / f"{number}.mkv", 7 + number, number)
    tok = VisualTokenizer.from_pretrained(clip_tokenizer())
    found = made_set(tmp_path / "out", tmp_path / "in", tok, **options)
    report = verify(found)
    assert report.ok and report.compared == report.equal + len(report.near) == len(found.tokens)
    rows = Tampered(found.tokens)
    rows.change(1, codes=rows[1].codes[..., ::-1])
    assert len(verify(found, rows).wrong) == 1


def test_a_share_is_taken_by_a_seed(made: MadeSet) -> None:
    done: list[int] = []
    report = verify(made, share=0.25, seed=5, advance=done.append)
    assert (report.rows, report.compared, sum(done)) == (24, 6, 6)
    assert verify(made, share=1e-9).compared == 1

    wrong = Tampered(made.tokens)
    for index, row in enumerate(made.tokens):
        wrong.change(index, codes=(row.codes + 1) % 64)
    found = [list(verify(made, wrong, share=0.25, seed=seed).wrong) for seed in (5, 5, 6)]
    assert found[0] == found[1] != found[2]


def test_another_seed_of_random_views_is_told(made: MadeSet) -> None:
    rows = Tampered(made.tokens)
    rows.change(2, box=(0, 0, 9, 9), flip=False)
    report = verify(made, rows)
    true = made.tokens[2]
    assert report.wrong == {
        "'a/0.png' (random-0)": "it says box=(0, 0, 9, 9), flip=False and size=(16, 16); by the "
        f"plan these are {true.box}, {true.flip} and (16, 16)"
    }


def test_wrong_rows_are_named_and_others_are_not(made: MadeSet) -> None:
    rows = Tampered(made.tokens)
    codes = rows[4].codes.copy()
    codes[1, 2] = (codes[1, 2] + 1) % 64
    codes[0, 0] = (codes[0, 0] + 1) % 64
    rows.change(4, codes=codes)
    rows.change(6, view="tencrop-0")
    rows.change(9, key="c/0.png")
    rows.change(12, codes=rows[12].codes[:2])
    report = verify(made, rows)
    assert not report.ok
    assert report.wrong == {
        "'a/2.png' (hflip)": "2 of its 16 ids differ, 2 of them beyond a near tie",
        "'a/4.png' (tencrop-0)": "the plan has no view 'tencrop-0'",
        "'c/0.png' (center)": "the source has no sample 'c/0.png'",
        "'b/1.png' (center)": "its codes are (2, 4), those of the source (4, 4)",
    }
    assert report.equal == 20


def test_near_ties_are_told_apart(made: MadeSet, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = Tampered(made.tokens)
    codes = rows[4].codes.copy()
    codes[1, 2] = (codes[1, 2] + 1) % 64
    rows.change(4, codes=codes)
    near = torch.full((1, 4, 4), 1.0)
    near[0, 1, 2] = 0.0
    monkeypatch.setattr(made.tokenizer.model.quantize, "margin", lambda z: near)
    report = verify(made, rows)
    assert (report.ok, report.near, report.ties) == (True, ["'a/2.png' (hflip)"], 1)
    near[0, 1, 2] = 1.0
    assert list(verify(made, rows).wrong) == report.near


def test_latents_may_be_off_by_rounding_alone(tmp_path: Path) -> None:
    found = made_set(tmp_path / "o", pictures(tmp_path / "i"), tiny.tokenizer(), what="latents")
    rows = Tampered(found.tokens)
    rows.change(1, latents=np.nextafter(rows[1].latents, np.float16(100)))
    off = rows[2].latents.copy()
    off[0] += np.float16(0.1)
    rows.change(2, latents=off)
    rows.change(3, latents=rows[3].latents[:, :2])
    rows.change(4, latents=np.full_like(off, np.nan))
    report = verify(found, rows)
    assert report.near == ["'a/2.png' (center)"]
    assert report.ties == 0 and report.used is None
    rms = np.sqrt(np.square(made_latents(found, 2)).mean())
    assert report.wrong == {
        "'a/4.png' (center)": f"its latents are off by {0.05 / rms:.1e} of their rms",
        "'a/6.png' (center)": "its latents are (4, 2, 4), those of the source (4, 4, 4)",
        "'b/1.png' (center)": "its latents are off by nan of their rms",
    }


def made_latents(found: MadeSet, index: int) -> np.ndarray:
    return found.tokens[index].latents.astype(np.float64)


def test_scaled_latents_are_refused(tmp_path: Path) -> None:
    found = made_set(tmp_path / "o", pictures(tmp_path / "i"), tiny.tokenizer(), what="latents")
    report = verify(found, open_tokens(tmp_path / "o", as_latents=True), share=0.01)
    (reason,) = report.wrong.values()
    assert reason.endswith("has scaled latents; open the data set without as_latents=True")


def test_samples_that_are_gone_cost_no_other(tmp_path: Path) -> None:
    found = made_set(tmp_path / "o", pictures(tmp_path / "i"), tiny.tokenizer())
    (tmp_path / "i" / "a" / "2.png").write_bytes(b"no picture")
    report = verify(found)
    assert report.wrong == {
        "'a/2.png' (center)": "the sample 'a/2.png' is not a picture in a format that Pillow reads "
        "here"
    }
    assert report.equal == 7


def test_all_rows_are_read(made: MadeSet) -> None:
    rows = Tampered(made.tokens)
    for index, row in enumerate(rows):  # so that the last code is not in use
        rows.change(index, codes=row.codes % 63)
    rows.append(rows[3])
    codes = rows[1].codes.copy()
    codes[0, 0] = 64
    rows.change(1, codes=codes)
    report = read_through(rows)
    assert (report.rows, report.codebook_size) == (25, 64)
    assert report.duplicates == ["'a/2.png' (center)"]
    assert report.outside == ["'a/0.png' (hflip) has 64 of 64"]
    used = {int(code) for row in rows for code in row.codes.ravel()} - {64}
    assert report.used == len(used)
    assert not report.ok


def test_the_report_is_readable() -> None:
    report = SampleReport(
        rows=100,
        codebook_size=64,
        outside=["'z' (center) has 70 of 64"],
        duplicates=["'y' (center)"],
        used=60,
        compared=20,
        values=320,
        equal=12,
        near=["'x' (center)"],
        ties=2,
        wrong={f"'{n}' (center)": "why" for n in range(7)},
    )
    assert str(report).splitlines() == [
        "20 of 100 rows made again: 12 equal, 1 but for near ties or rounding (2 of 320 values), "
        "7 wrong",
        *[f"wrong: '{n}' (center): why" for n in range(5)],
        "wrong: and 2 more",
        "near tie or rounding: 'x' (center)",
        "outside the codebook: 'z' (center) has 70 of 64",
        "more than once: 'y' (center)",
        "60 of 64 codes in use, 4 unused",
    ]


@pytest.mark.parametrize("share", [0, -0.1, 1.1, float("nan")])
def test_a_share_is_a_part(made: MadeSet, share: float) -> None:
    with pytest.raises(ConfigError) as error:
        verify(made, share=share)
    assert str(error.value) == (
        f"share is a part of the rows, above 0 and at most 1; got {share!r}"
    )


def test_another_tokenizer_or_source_is_refused(made: MadeSet, tmp_path: Path) -> None:
    with pytest.raises(MismatchError, match=r"^this is not what was planned: tokenizer\.finger"):
        verify_sample(made.tokens, made.source, tiny.tokenizer(seed=1), share=1.0)
    shutil.rmtree(pictures(tmp_path) / "b")
    less = open_spec(SourceSpec((str(tmp_path),)))
    with pytest.raises(MismatchError, match=r"^this is not what was planned: .*source"):
        verify_sample(made.tokens, less, made.tokenizer, share=1.0)


def test_the_last_batch_has_the_shape_of_all(
    made: MadeSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    shapes = set()
    encode = made.tokenizer.codec.encode_latents
    monkeypatch.setattr(
        made.tokenizer.codec,
        "encode_latents",
        lambda pixels: shapes.add(pixels.shape) or encode(pixels),
    )
    assert verify(made, share=0.9).equal == 22
    assert shapes == {(4, 16, 16, 3)}
