"""Jobs over a tokenizer that gives codes and no latents, as one on ONNX Runtime."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tiny
from clip_files import clip_tokenizer, film
from codes_only import codes_only
from offline.jobs import job, made
from offline.made_sets import Tampered, made_set, pictures

from vqtok import VisualTokenizer
from vqtok.errors import InputError
from vqtok.offline.inspect import contact_sheet
from vqtok.offline.job import SourceSpec
from vqtok.offline.measure import measure
from vqtok.offline.plan import ClipPlan, Options, make_plan
from vqtok.offline.verify import verify_sample
from vqtok.offline.worker import Worker, open_spec


def test_a_set_is_that_of_torch(tmp_path: Path) -> None:
    root, tok = pictures(tmp_path / "in"), tiny.tokenizer()
    one, other = (
        made_set(tmp_path / name, root, each)
        for name, each in (("torch", tok), ("graphs", codes_only(tok)))
    )
    assert one.tokens.plan == other.tokens.plan
    pairs = zip(one.tokens, other.tokens, strict=True)
    assert all(np.array_equal(here.codes, there.codes) for here, there in pairs)


@pytest.mark.parametrize("clips", [None, ClipPlan(frames=4)])
def test_clips_too(tmp_path: Path, clips: ClipPlan | None) -> None:
    for number in range(2):
        film(tmp_path / "in" / f"{number}.mkv", 7 + number, number)
    tok = VisualTokenizer.from_pretrained(clip_tokenizer())
    one, other = (
        made(job(tmp_path / "in", tmp_path / name, each, clips=clips)).record
        for name, each in (("torch", tok), ("graphs", codes_only(tok)))
    )
    assert one.rows and one.codes_sha256 == other.codes_sha256


def test_latents_need_torch(tmp_path: Path) -> None:
    source = open_spec(SourceSpec((str(pictures(tmp_path / "in")),)))
    for what in ("latents", "both"):
        with pytest.raises(InputError) as error:
            make_plan(source, codes_only(tiny.tokenizer()), Options("x", what=what))
        assert str(error.value) == (
            f"what={what!r} needs torch: this tokenizer runs on ONNX Runtime here, which gives "
            "codes but no latents"
        )


def test_the_probe_is_the_codec_s(tmp_path: Path) -> None:
    work = job(pictures(tmp_path / "in"), tmp_path / "out", codes_only(tiny.tokenizer()))
    with Worker(work, "cpu") as worker:
        assert worker.probe.verdict == "exact"


def test_speeds_are_measured(tmp_path: Path) -> None:
    found = measure(job(pictures(tmp_path / "in"), tmp_path / "out", codes_only(tiny.tokenizer())))
    assert (found.rows, found.encode > 0) == (8, True)


# --- looking at a set again -----------------------------------------------------------------------


def test_what_was_made_is_made_again(tmp_path: Path) -> None:
    set_ = made_set(tmp_path / "out", pictures(tmp_path / "in"), codes_only(tiny.tokenizer()))
    report = verify_sample(set_.tokens, set_.source, set_.tokenizer, share=1.0)
    assert (report.ok, report.compared, report.equal) == (True, 8, 8)


def test_margins_of_ids_that_differ_are_not_known(tmp_path: Path) -> None:
    tok = codes_only(tiny.tokenizer())
    set_ = made_set(tmp_path / "out", pictures(tmp_path / "in"), tok)
    tok.codec.moved = 1  # type: ignore[attr-defined]
    report = verify_sample(set_.tokens, set_.source, tok, share=1.0)
    names = list(report.unjudged)
    assert (report.ok, report.equal, report.wrong) == (False, 8 - len(names), {})
    assert names and set(report.unjudged.values()) == {1}
    assert str(report).splitlines()[1:3] == [
        f"{len(names)} rows with {len(names)} of 128 ids that differ, whose margins are not known "
        "without torch: the tokenizer that the graphs were exported from (--tokenizer) tells near "
        "ties from faults",
        f"differs: {names[0]}: 1 ids",
    ]


def test_clips_are_made_again(tmp_path: Path) -> None:
    film(tmp_path / "in" / "a.mkv", 7, 0)
    tok = codes_only(VisualTokenizer.from_pretrained(clip_tokenizer()))
    set_ = made_set(tmp_path / "out", tmp_path / "in", tok)
    report = verify_sample(set_.tokens, set_.source, tok, share=1.0)
    assert (report.ok, report.equal) == (True, 1)


def test_latents_are_made_again_by_torch_alone(tmp_path: Path) -> None:
    tok = tiny.tokenizer()
    set_ = made_set(tmp_path / "out", pictures(tmp_path / "in"), tok, what="both")
    with pytest.raises(InputError) as error:
        verify_sample(set_.tokens, set_.source, codes_only(tok))
    assert str(error.value) == (
        "rows with latents are made again with torch; this tokenizer runs on ONNX Runtime here, "
        "which gives codes but no latents"
    )
    assert Tampered(set_.tokens)[0].latents is not None


def test_a_sheet_has_colours_by_number(tmp_path: Path) -> None:
    tok = tiny.tokenizer()
    set_ = made_set(tmp_path / "out", pictures(tmp_path / "in"), tok)
    with_vectors, without = (
        np.asarray(contact_sheet(set_.tokens, each, set_.source, rows=3))
        for each in (tok, codes_only(tok))
    )
    assert with_vectors.shape == without.shape
    assert (with_vectors != without).any()  # the maps
