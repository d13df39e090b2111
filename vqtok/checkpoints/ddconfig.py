"""Settings as taming-transformers and those after it write them: the networks' under `ddconfig`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vqtok.checkpoints.told import check_told, section

__all__ = ["check_sizes", "hyperparameters"]


def hyperparameters(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings with those of `ddconfig` on the same level; others win."""
    return {**section(settings, "ddconfig"), **settings}


def check_sizes(told: Mapping[str, Any], settings: Mapping[str, Any], origin: str) -> None:
    """Raises where they are those of other networks than `settings`, which shapes told, describe.

    told  as `hyperparameters` gives them
    """
    widths = settings["block_out_channels"]
    shown: dict[str, Any] = {
        "in_channels": settings["in_channels"],
        "out_ch": settings["out_channels"],
        "z_channels": settings["latent_channels"],
        "embed_dim": settings["vq_embed_dim"],
        "num_res_blocks": settings["layers_per_block"],
    }
    if isinstance(told.get("ch"), int) and told["ch"] > 0:
        shown["ch_mult"] = [width // told["ch"] for width in widths]
    for name, value in shown.items():
        check_told(told, name, value, origin)
