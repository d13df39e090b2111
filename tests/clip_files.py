"""Clips and tokenizers of clips for the `vqtok` command."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from autoencoders.toys import toy
from commandline import Result, saved
from PIL import Image
from source_files import Pixels, write_video

from vqtok import VisualTokenizer
from vqtok.preprocess import Preprocess
from vqtok.streams import open_clip

HEIGHT, WIDTH = 17, 21


@cache
def clip_tokenizer(name: str = "timesformer") -> Path:
    """The folder of a tokenizer of clips of any size."""
    model = toy(name)
    settings = Preprocess(policy="extend", stride=model.spatial_compression_ratio)
    return saved(VisualTokenizer.from_model(model, settings))


def view(count: int, seed: int = 0) -> Pixels:
    """Coloured blobs that move, (count, HEIGHT, WIDTH, 3)."""
    coarse = np.random.default_rng(seed).integers(0, 256, (5, 8, 3), np.uint8)
    wide = Image.fromarray(coarse).resize((WIDTH + count, HEIGHT), Image.Resampling.BICUBIC)
    return np.stack([np.asarray(wide)[:, n : n + WIDTH] for n in range(count)])


def film(path: Path, count: int = 7, seed: int = 0) -> Path:
    """Without loss, ten frames a second."""
    path.parent.mkdir(parents=True, exist_ok=True)
    return write_video(path, view(count, seed), "ffv1", "bgr0")


def rows(done: Result) -> list[dict[str, Any]]:
    assert (done.status, heard(done)) == (0, "")
    return [json.loads(line) for line in done.out.splitlines()]


def heard(done: Result) -> str:
    """Standard error, but for lines on edges: no film here fills its tokens."""
    lines = done.err.splitlines(keepends=True)
    return "".join(line for line in lines if "the edges" not in line)


def frames(path: Path) -> Pixels:
    return np.stack(list(open_clip(path)))
