"""A tokenizer comes back from its folder as it was, or not at all."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import torch
from tiny import picture

from vqtok import probe
from vqtok.errors import ConfigError, LoadError, MismatchError
from vqtok.folders import unstarted
from vqtok.preprocess import Preprocess
from vqtok.tokenizer import VisualTokenizer
from vqtok.vocab import VisualVocab


@pytest.fixture(scope="module")
def tok() -> VisualTokenizer:
    return tiny.tokenizer()


def test_save_and_load(tok: VisualTokenizer, tmp_path: Path) -> None:
    tok.save_pretrained(tmp_path)
    again = VisualTokenizer.from_pretrained(tmp_path)
    assert again.fingerprint == tok.fingerprint
    assert again.vocab == tok.vocab
    assert again.settings == tok.settings
    array = picture()
    assert again.encode(array) == tok.encode(array)
    ids = tok.encode(array)
    assert np.array_equal(again.decode(ids, output_type="np"), tok.decode(ids, output_type="np"))
    assert tok.fingerprint.codebook in (tmp_path / "README.md").read_text()


def test_variant_has_its_own_print(tok: VisualTokenizer, tmp_path: Path) -> None:
    tok.save_pretrained(tmp_path)
    half = VisualTokenizer.from_model(tiny.model().half().float(), tok.settings)
    half.save_pretrained(tmp_path, variant="fp16")
    assert half.fingerprint != tok.fingerprint
    assert VisualTokenizer.from_pretrained(tmp_path).fingerprint == tok.fingerprint
    loaded = VisualTokenizer.from_pretrained(tmp_path, variant="fp16")
    assert loaded.fingerprint == half.fingerprint


def test_half_precision_weights_still_encode_in_float32(tmp_path: Path) -> None:
    model = tiny.model().half()
    tiny.VisualTokenizer.from_model(model, Preprocess(size=16, stride=4)).save_pretrained(tmp_path)
    tok = VisualTokenizer.from_pretrained(tmp_path)
    assert tok.model.dtype == torch.float32
    assert tok.precision == "ieee32"
    copy = tmp_path / "copy"
    tok.save_pretrained(copy)
    assert VisualTokenizer.from_pretrained(copy).fingerprint == tok.fingerprint


def test_changed_weights_are_noticed(tok: VisualTokenizer, tmp_path: Path) -> None:
    tok.save_pretrained(tmp_path)
    tiny.model(seed=1).save_pretrained(tmp_path)
    now = VisualTokenizer.from_model(tiny.model(seed=1), tok.settings).fingerprint
    with pytest.raises(MismatchError) as error:
        VisualTokenizer.from_pretrained(tmp_path)
    assert str(error.value) == (
        f"{tmp_path} was saved as {tok.fingerprint}, but is {now}: another encoder, codebook, "
        "decoder; its files were changed or damaged since"
    )


def test_changed_preprocessing_is_noticed(tok: VisualTokenizer, tmp_path: Path) -> None:
    tok.save_pretrained(tmp_path)
    other = tok.with_preprocess(policy="stretch")
    other.settings.save(tmp_path)
    with pytest.raises(MismatchError) as error:
        VisualTokenizer.from_pretrained(tmp_path)
    assert str(error.value) == (
        f"{tmp_path} was saved as {tok.fingerprint}, but is {other.fingerprint}: another "
        "preprocess; its files were changed or damaged since, or pictures are resized otherwise on "
        "this machine"
    )


def test_a_model_that_was_trained_on_is_another(tmp_path: Path) -> None:
    tok = tiny.tokenizer()
    with torch.no_grad():
        tok.model.decoder.conv_out.bias.add_(1)
    now = VisualTokenizer.from_model(tok.model, tok.settings)
    with pytest.raises(MismatchError) as error:
        tok.save_pretrained(tmp_path)
    assert str(error.value) == (
        f"the model is {now.fingerprint} now and was {tok.fingerprint} when this tokenizer was "
        "made; make another with `VisualTokenizer.from_model`"
    )
    assert not list(tmp_path.iterdir())
    now.save_pretrained(tmp_path)
    assert VisualTokenizer.from_pretrained(tmp_path).fingerprint == now.fingerprint


def test_saving_over_another_tokenizer(tok: VisualTokenizer, tmp_path: Path) -> None:
    for sizes in (("10KB", "10GB"), ("10GB", "10KB")):
        for seed, size in enumerate(sizes):
            saved = tiny.tokenizer(seed)
            saved.save_pretrained(tmp_path, max_shard_size=size)
        assert VisualTokenizer.from_pretrained(tmp_path).fingerprint == saved.fingerprint
    file = tmp_path / "README.md"
    with pytest.raises(LoadError) as error:
        tok.save_pretrained(file)
    assert str(error.value) == f"{file} is a file; a tokenizer is saved as a folder"


def test_variants_do_not_disturb_each_other(tok: VisualTokenizer, tmp_path: Path) -> None:
    tok.save_pretrained(tmp_path)
    half = VisualTokenizer.from_model(tiny.model().half(), tok.settings)
    half.save_pretrained(tmp_path, variant="fp16")
    for variant in (None, "fp16"):
        loaded = VisualTokenizer.from_pretrained(tmp_path, variant=variant)
        assert probe.check(tmp_path, loaded.model, variant=variant).verdict == "exact"


def test_where_the_codes_begin_is_saved(tok: VisualTokenizer, tmp_path: Path) -> None:
    vocab = VisualVocab(64, offset=1000, boi=3, eoi=4, eol=5, eof=6, pad=4, order="column")
    moved = VisualTokenizer.from_model(tok.model, tok.settings, vocab)
    moved.save_pretrained(tmp_path)
    again = VisualTokenizer.from_pretrained(tmp_path)
    assert (again.vocab, again.offset, again.eof_token_id) == (vocab, 1000, 6)
    ids = moved.encode(picture())
    assert (ids[0], ids[-1], min(ids[1:5]) >= 1000) == (3, 4, True)
    assert np.array_equal(
        again.decode(ids, output_type="np"), tok.decode(tok.encode(picture()), output_type="np")
    )


def test_stock_folder_loads_and_keeps_picture_sizes(tmp_path: Path) -> None:
    tiny.model().to_diffusers().save_pretrained(tmp_path)
    tok = VisualTokenizer.from_pretrained(tmp_path)
    assert tok.settings == Preprocess(policy="native", stride=4)
    assert tok.encode_codes(picture(21, 27))[0].shape == (5, 6)
    tok.save_pretrained(tmp_path / "ours")
    assert VisualTokenizer.from_pretrained(tmp_path / "ours").fingerprint == tok.fingerprint


def test_other_schema(tok: VisualTokenizer, tmp_path: Path) -> None:
    tok.save_pretrained(tmp_path)
    file = tmp_path / "visual_tokenizer_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "schema": "vqtok-tokenizer/9"}))
    with pytest.raises(LoadError) as error:
        VisualTokenizer.from_pretrained(tmp_path)
    assert str(error.value) == (
        f"{file} has the schema 'vqtok-tokenizer/9'; this version reads 'vqtok-tokenizer/1'"
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("{", " is not JSON: Expecting property name enclosed in double quotes: line 1 column 2 "),
        ("[]", " has the schema None; this version reads 'vqtok-tokenizer/1'"),
        ({"vocab": "x"}, " has no object called 'vocab'"),
        ({"fingerprints": []}, " has no object called 'fingerprints'"),
        ({"vocab": {}}, ": a stored vocabulary has the schema 'vqtok-vocab/1'; got None"),
        (
            {"fingerprints": {"default": "x"}},
            ": a fingerprint of the schema vqtok-fp/1 has the sha256 of preprocess, encoder, "
            "codebook, decoder; got 'x'",
        ),
    ],
)
def test_damaged_configuration(
    tok: VisualTokenizer, tmp_path: Path, change: Any, message: str
) -> None:
    tok.save_pretrained(tmp_path)
    file = tmp_path / "visual_tokenizer_config.json"
    stored = json.loads(file.read_text())
    file.write_text(change if isinstance(change, str) else json.dumps({**stored, **change}))
    with pytest.raises(LoadError) as error:
        VisualTokenizer.from_pretrained(tmp_path)
    assert str(error.value).startswith(f"{file}{message}")


@pytest.mark.parametrize(
    ("settings", "steps", "left"),
    [
        ({"quantizer": "vector", "quantizer_args": {}}, 4, 6),
        (
            {"quantizer": "vector", "quantizer_args": {"start": "kaiming", "quantize_after": 30}},
            0,
            30,
        ),
        ({"quantizer": "residual", "quantizer_args": {"num_quantizers": 2}}, 9, 1),
        ({"quantizer": "grouped", "quantizer_args": {"groups": 2}}, 0, 10),
    ],
)
def test_a_codebook_that_has_not_started(
    tmp_path: Path, settings: dict[str, Any], steps: int, left: int
) -> None:
    tok = tiny.tokenizer(**settings)
    for part in tok.model.quantize.modules():
        if hasattr(part, "open_steps"):
            part.steps.fill_(steps)
    with pytest.warns(UserWarning) as warned:
        tok.save_pretrained(tmp_path)
    assert [str(one.message) for one in warned] == [
        "the codebook of this tokenizer has not started, so its ids mean nothing: that takes "
        f"{left} more calls of `step`, one after each optimizer step"
    ]
    assert warned[0].filename == __file__
    assert VisualTokenizer.from_pretrained(tmp_path).fingerprint == tok.fingerprint


@pytest.mark.parametrize("quantizer", ["vector", "simvq", "gumbel"])
def test_codebooks_that_need_no_start_or_have_had_it(tmp_path: Path, quantizer: str) -> None:
    tok = tiny.tokenizer(quantizer=quantizer, quantizer_args={})
    if quantizer == "vector":
        tok.model.quantize.steps.fill_(10)
    assert unstarted(tok.model) == 0
    tok.save_pretrained(tmp_path)  # a warning would be an error


def test_options_are_checked_before_anything_is_loaded() -> None:
    for options in ({"precision": "fp61"}, {"device": "gpu"}):
        with pytest.raises(ConfigError, match=r"fp61|gpu"):
            VisualTokenizer.from_pretrained("no/such-folder/anywhere", **options)


def test_other_users_may_read_what_is_saved(tmp_path: Path) -> None:
    before = os.umask(0o022)
    try:
        VisualTokenizer.from_model(tiny.model()).save_pretrained(tmp_path)
    finally:
        os.umask(before)
    modes = {path.name: path.stat().st_mode & 0o777 for path in tmp_path.iterdir()}
    assert set(modes.values()) == {0o644}, modes
