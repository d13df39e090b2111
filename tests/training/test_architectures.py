"""Every architecture, and every quantizer with a table of its own kind, through the training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import small_run
from autoencoders.toys import TOYS

from vqtok import VisualTokenizer
from vqtok.training.loop import train

SIDE = 32
# Quantizers beside `vector`, and what `cnn` needs for them.
QUANTIZERS: dict[str, dict[str, Any]] = {
    "bsq": {"size": 16, "dim": 4},
    "ibq": {"size": 32, "dim": 4},
    "lfq": {"size": 16, "dim": 4},
    "multiscale": {"size": 32, "dim": 4, "scales": [1, 2, 4], "kmeans_iters": 1},
}


def clips(folder: Path, count: int = 8, frames: int = 8) -> Path:
    """Folders of frames, smooth and moving."""
    from PIL import Image

    pictures = np.load(small_run.pictures(folder.with_suffix(".npy"), count, SIDE))
    for number, picture in enumerate(pictures):
        place = folder / f"clip{number}"
        place.mkdir(parents=True)
        for frame in range(frames):
            Image.fromarray(np.roll(picture, frame, 1)).save(place / f"{frame:03}.png")
    return folder


def trained(tmp_path: Path, **changes: Any) -> VisualTokenizer:
    """Two steps, with a picture of reconstructions, and the tokenizer that they leave."""
    frames = changes.get("data", {}).get("frames", 1)
    data = (
        clips(tmp_path / "clips", frames=2 * frames)
        if frames > 1
        else small_run.pictures(tmp_path / "pictures.npy", 16, SIDE)
    )
    own = {"size": SIDE, "hold_out": 2, **changes.pop("data", {})}
    if frames > 1:
        own["kind"] = "clips"
    settings = small_run.settings(
        data, steps=2, batch_size=4, save_every=2, validate_every=2, data=own, **changes
    )
    train(settings, tmp_path / "run")
    assert any((tmp_path / "run" / "pictures").iterdir())
    return VisualTokenizer.from_pretrained(tmp_path / "run" / "tokenizer")


@pytest.mark.parametrize("name", TOYS)
def test_every_architecture_trains_to_a_tokenizer(name: str, tmp_path: Path) -> None:
    network = {k: v for k, v in TOYS[name].items() if k not in ("vq_embed_dim", "quantizer")}
    frames = network.get("sample_frames", 1)
    tok = trained(
        tmp_path,
        architecture=name,
        network=network | ({"sample_size": SIDE} if "sample_size" in network else {}),
        codebook={"size": 32, "dim": 4, "kmeans_iters": 1},
        data={"frames": frames},
    )
    source = np.load(next(tmp_path.glob("*.npy")))[0]
    assert tok.is_video == (frames > 1)
    (back,) = tok.decode_codes(tok.encode_codes(source), "np")
    assert back.shape[-3:] == (SIDE, SIDE, 3)


@pytest.mark.parametrize("name", QUANTIZERS)
def test_quantizers_of_other_kinds(name: str, tmp_path: Path) -> None:
    tok = trained(tmp_path, quantizer=name, codebook=QUANTIZERS[name], estimator=None)
    source = np.load(tmp_path / "pictures.npy")[0]
    assert tok.decode(tok.encode(source), output_type="np").shape == (SIDE, SIDE, 3)
