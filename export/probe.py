"""What torch makes of a few pictures, for a folder of graphs to be checked with where it runs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from vqtok.codec import TorchCodec
from vqtok.export.runtime.folder import PROBE
from vqtok.export.runtime.probe import SCHEMA
from vqtok.files import save_tensors
from vqtok.pictures import Pixels
from vqtok.preprocess import Preprocess, probe_pixels
from vqtok.probe import LATENT_BOUND

__all__ = ["write"]


def write(folder: Path, ours: TorchCodec, size: Sequence[int]) -> None:
    """Saves the built-in test pictures of a size, (H, W) or (T, H, W), and what torch says of them.

    pixels  (N, H, W, 3) or (N, T, H, W, 3) uint8
    codes   (N, *grid[, Q]) int64, in IEEE float32
    ties    (N, *grid) or (N, L) bool: vectors so near to another code's cell that honest float32
            runs, whose latents differ by up to `LATENT_BOUND` of their rms, may give that
    """
    pixels = _pixels(size)
    latents, codes = ours.encode_latents(pixels)
    with torch.no_grad():
        margin = ours.model.quantize.margin(torch.from_numpy(latents)).numpy()
    ties = margin <= LATENT_BOUND * np.sqrt(np.square(latents).mean())
    arrays = {"pixels": pixels, "codes": codes.ids.astype(np.int64), "ties": ties}
    tensors = {name: torch.from_numpy(array) for name, array in arrays.items()}
    save_tensors(tensors, folder / PROBE, {"schema": SCHEMA})


def _pixels(size: Sequence[int]) -> Pixels:
    """Of clips the pictures, moved along by a pixel with each frame, as `vqtok.probe` has them."""
    *frames, height, width = size
    pictures = np.stack(probe_pixels(Preprocess(policy="stretch", size=(height, width))))
    for count in frames:
        pictures = np.stack([np.roll(pictures, step, 2) for step in range(count)], 1)
    return np.ascontiguousarray(pictures)
