"""A run of seconds that has every part, for tests of training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from vqtok.training.settings import Settings

# With Adam's own eps a gradient that is zero but for rounding moves a weight by the whole rate.
OPTIMIZER = {"lr": 3e-4, "eps": 1e-3}
BASE: dict[str, Any] = {
    "network": {
        "down_block_types": ["DownEncoderBlock2D"] * 3,
        "up_block_types": ["UpDecoderBlock2D"] * 3,
        "block_out_channels": [8, 8, 16],
        "norm_num_groups": 4,
        "latent_channels": 4,
        "mid_block_add_attention": False,
    },
    "codebook": {"size": 32, "dim": 4, "kmeans_iters": 2, "decay": 0.9, "dead_share": 0.3},
    "estimator": "rotation",
    "data": {"size": 16, "hold_out": 4, "workers": 0},
    "optimizer": OPTIMIZER,
    "batch_size": 16,
    "steps": 12,
    "log_every": 4,
    "validate_every": 6,
    "save_every": 5,
    "keep": 9,
    "deterministic": True,
}
# A discriminator with everything that it can have.
DISCRIMINATOR: dict[str, Any] = {
    "args": {"channels": 8, "layers": 1},
    "weight": 0.5,
    "adaptive": True,
    "start": 4,
    "warm_up": 2,
    "ramp": 3,
    "lecam": 0.01,
    "lecam_decay": 0.9,
    "r1": 1.0,
    "r1_every": 3,
    "feature_matching": 0.1,
    "optimizer": OPTIMIZER,
}


def settings(path: Path | str, /, **changes: Any) -> Settings:
    """`BASE` with changes, on the pictures in a file or folder; those of `data` are joined."""
    given = {**BASE, **changes}
    own = {**BASE["data"], "path": str(path), **changes.get("data", {})}
    return Settings.model_validate({**given, "data": own})


def pictures(file: Path, count: int = 64, side: int = 16) -> Path:
    """Writes smooth random pictures (count, side, side, 3) as an array; returns the file."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[0:side, 0:side] / side
    out = []
    for _ in range(count):
        a, b, c = rng.normal(size=(3, 3))
        waves = [a[k] * np.sin(4 * x * b[k] + c[k]) + c[k] * np.cos(5 * y * a[k]) for k in range(3)]
        plane = np.stack(waves, -1)
        out.append((plane - plane.min()) / np.ptp(plane) * 255)
    np.save(file, np.stack(out).astype(np.uint8))
    return file
