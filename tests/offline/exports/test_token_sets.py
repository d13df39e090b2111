"""Exports of what jobs make."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
from clip_files import clip_tokenizer, film
from offline.made_sets import made_set, pictures

from vqtok import VisualTokenizer
from vqtok.offline.exports import EXPORTS
from vqtok.offline.plan import ClipPlan
from vqtok.offline.read import TokenSet, open_tokens

pytest.importorskip("pyarrow")

SQUARE: dict[str, Any] = {"clips": ClipPlan(frames=4), "buckets": ((16, 16),)}
NAMES = [name for name in EXPORTS if name != "1xgpt"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of eight pictures of two classes, each in two views."""
    root = tmp_path_factory.mktemp("made")
    options = {"views": ("center", "hflip"), "what": "both", "format": "npy"}
    made_set(root / "set", pictures(root / "pictures"), tiny.tokenizer(), **options)
    return root / "set"


@pytest.fixture
def made(folder: Path) -> TokenSet:
    return open_tokens(folder)


@pytest.mark.parametrize("name", NAMES)
def test_every_export_takes_it(name: str, made: TokenSet, tmp_path: Path) -> None:
    counted: list[int] = []
    EXPORTS[name](made, tmp_path / "flip", counted.append)
    assert sum(counted) == len(made) == 16
    origin = json.loads((tmp_path / "flip" / "origin.json").read_bytes())
    assert origin["dataset"] == made.sha256
    assert origin["tokenizer"]["fingerprint"] == made.plan.tokenizer.fingerprint
    assert origin["scaling_factor"] == made.scaling_factor
    if "classes" in EXPORTS[name].options:
        assert json.loads((tmp_path / "flip" / "classes.json").read_bytes()) == {"a": 0, "b": 1}


def test_codes_and_labels_are_those_of_their_pictures(made: TokenSet, tmp_path: Path) -> None:
    EXPORTS["llamagen"](made, tmp_path / "flip")
    (codes,) = (tmp_path / "flip").glob("imagenet*_codes")
    (labels,) = (tmp_path / "flip").glob("imagenet*_labels")
    keys = [json.loads(line)["key"] for line in (tmp_path / "flip/rows.jsonl").read_text().split()]
    rows = {(row.key, row.view): row for row in made}
    assert len(keys) == 8
    for number, key in enumerate(keys):
        ids = np.load(codes / f"{number}.npy")
        for place, view in enumerate(("center", "hflip")):
            row = rows[key, view]
            assert row.codes is not None
            assert np.array_equal(ids[0, place], row.codes.reshape(-1))
        assert np.load(labels / f"{number}.npy").tolist() == [key.startswith("b")]


def test_one_of_the_views_alone(folder: Path, tmp_path: Path) -> None:
    tokens = open_tokens(folder, views="center")
    EXPORTS["llamagen"](tokens, tmp_path / "codes")
    origin = json.loads((tmp_path / "codes" / "origin.json").read_bytes())
    assert (origin["rows"], origin["images"], origin["views"]) == (8, 8, ["center"])


def test_clips(tmp_path: Path) -> None:
    pytest.importorskip("av")
    for number in range(2):
        film(tmp_path / "in" / f"{number}.mkv", 9, number)
    tok = VisualTokenizer.from_pretrained(clip_tokenizer())
    tokens = made_set(tmp_path / "set", tmp_path / "in", tok, **SQUARE).tokens
    EXPORTS["1xgpt"](tokens, tmp_path / "out", hz=12.0)
    told = json.loads((tmp_path / "out" / "metadata.json").read_bytes())
    shape = (told["num_images"], told["s"], told["s"])
    frames = np.fromfile(tmp_path / "out" / "video.bin", told["token_dtype"]).reshape(shape)
    assert np.array_equal(frames, np.concatenate([row.codes for row in tokens]))
    assert told["vocab_size"] == tok.codebook_size
