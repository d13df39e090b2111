"""Each family knows its own checkpoints and nobody else's, and takes them from a file to pixels."""

from __future__ import annotations

import json
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from checkpoints.pickles import save
from torch import Tensor

from vqtok import VisualTokenizer
from vqtok.checkpoints import FAMILIES, Foreign
from vqtok.checkpoints.wrappers import hoisted
from vqtok.errors import ConfigError
from vqtok.zoo import samples

NAMES = list(FAMILIES)
# Quantizers alone, which are no tokenizers.
PARTS = ("vector_quantize_pytorch",)


def sample(name: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    found: tuple[dict[str, Tensor], dict[str, Any]]
    found = import_module(f"checkpoints.samples.{name}").sample()
    return found


@pytest.mark.parametrize("name", NAMES)
def test_no_other_family_takes_it(name: str) -> None:
    tensors, _ = sample(name)
    assert [other for other in NAMES if FAMILIES[other].recognises(tensors)] == [name]


@pytest.mark.parametrize("name", NAMES)
def test_a_family_says_what_it_is(name: str) -> None:
    family = FAMILIES[name]
    assert family.title and family.licence
    assert not family.recognises({})


@pytest.mark.parametrize("name", [name for name in NAMES if name not in PARTS])
def test_from_a_file_to_ids(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """The settings beside it, as JSON; a second time from the cache, with equal ids."""
    monkeypatch.setenv("VQTOK_CACHE", str(tmp_path / "cache"))
    tensors, settings = sample(name)
    file = save({"state_dict": tensors, "epoch": 3}, tmp_path / "last.ckpt")
    (tmp_path / "last.json").write_text(json.dumps(settings, default=list))
    tok = VisualTokenizer.from_pretrained(file)
    assert len(list((tmp_path / "cache/converted").iterdir())) == 1
    again = VisualTokenizer.from_pretrained(file)
    assert again.fingerprint == tok.fingerprint
    if not tok.is_video:
        small = tok.with_preprocess(max_area=64 * 64) if tok.settings.size is None else tok
        codes = small.encode_codes(samples()[:1])
        assert int(codes[0].max()) < tok.codebook_size


@pytest.mark.parametrize("name", PARTS)
def test_a_quantizer_alone_is_no_tokenizer(tmp_path: Path, name: str) -> None:
    tensors, _ = sample(name)
    with pytest.raises(ConfigError, match="without an encoder or a decoder, and so no tokenizer"):
        VisualTokenizer.from_pretrained(save(tensors, tmp_path / "a.pt"))


@pytest.mark.parametrize(
    ("family", "name", "value", "right"),
    [
        ("llamagen", "commit_loss_beta", None, "a number of at least 0"),
        ("llamagen", "codebook_l2_norm", "yes", "true or false"),
        ("var", "quant_resi", "half", "a number"),
        ("var", "using_znorm", 3, "true or false"),
        ("emu3", "image_std", [1, 0, 1], "a list of 3 numbers above 0"),
        ("janus", "num_patches", "many", "a whole number of at least 0"),
        ("enhancing_vit", "beta", [], "a number of at least 0"),
        ("titok", "commitment_cost", "x", "a number of at least 0"),
        ("rotation_trick", "commit_weight", None, "a number of at least 0"),
    ],
)
def test_settings_that_cannot_be_read(family: str, name: str, value: Any, right: str) -> None:
    tensors, said = sample(family)
    with pytest.raises(ConfigError) as error:
        FAMILIES[family].plan(Foreign(tensors, {**hoisted(said), name: value}, "a.pt"))
    assert str(error.value) == f"{name} is {right}; the settings of the checkpoint say {value!r}"
