"""Any run's settings at a size that takes a moment."""

from __future__ import annotations

from typing import Any

from vqtok.training.settings import Settings

__all__ = ["toy"]

NETWORKS: dict[str, dict[str, Any]] = {
    "cnn": {"layers_per_block": 1, "norm_num_groups": 4},
    "cnn3d": {
        "block_out_channels": [8] * 4,
        "layers_per_block": 0,
        "latent_channels": 8,
        "mid_block_add_attention": False,
    },
    "conv_residual": {"channels": 8, "residual_channels": 4, "residual_layers": 1},
    "vit": {
        "patch_size": 8,
        "latent_channels": 16,
        "depth": 1,
        "heads": 2,
        "dim_head": 8,
        "mlp_dim": 16,
    },
    "timesformer": {
        "patch_size": 8,
        "latent_channels": 16,
        "depth": 1,
        "heads": 2,
        "mlp_dim": 16,
    },
}
DISCRIMINATORS: dict[str, dict[str, Any]] = {
    "patchgan": {"channels": 8, "layers": 1},
    "patchgan3d": {"channels": 8, "layers": 1},
    "stylegan": {"size": 32, "most": 8},
}


def toy(settings: Settings, **changes: Any) -> Settings:
    """The same architecture, quantizer, estimator and kinds of losses, but for LPIPS.

    Two steps of four samples of 32 pixels; the discriminator learns in the first and counts in
    the second. `changes` are settings of the run, nested as in a file.
    """
    values = settings.model_dump()
    if settings.init is None:
        values["network"] = _network(settings)
        values["codebook"] = _codebook(settings)
    frames = min(settings.data.frames, _frames(settings))
    values["data"] |= {"size": 32, "scale": 1.0, "frames": frames, "stride": 1, "workers": 0}
    values["loss"]["lpips"] = 0.0
    if values["discriminator"] is not None:
        small = DISCRIMINATORS[values["discriminator"]["name"]]
        values["discriminator"] |= {"args": small, "start": 1, "warm_up": 1, "ramp": 0}
    for optimizer in (values["optimizer"], (values["discriminator"] or {}).get("optimizer", {})):
        optimizer["warm_up"] = 0
    values |= {
        "batch_size": 4,
        "accumulate": min(settings.accumulate, 2),
        "steps": 2,
        "precision": "fp32",
        "log_every": 1,
        "validate_every": 2,
        "save_every": 2,
        "anneal": {name: {**anneal, "steps": 2} for name, anneal in values["anneal"].items()},
    }
    return Settings.model_validate(_over(values, changes))


def _network(settings: Settings) -> dict[str, Any]:
    network = {**settings.network, **NETWORKS[settings.architecture], "sample_size": 32}
    if settings.architecture == "cnn":
        network["block_out_channels"] = [8] * len(network["block_out_channels"])
        network["latent_channels"] = min(network["latent_channels"], 8)
    if "sample_frames" in network:
        network["sample_frames"] = min(network["sample_frames"], _frames(settings))
    return network


def _frames(settings: Settings) -> int:
    return 5 if settings.architecture == "cnn3d" else 4


def _codebook(settings: Settings) -> dict[str, Any]:
    codebook = {**settings.codebook, "size": 32, "dim": min(settings.codebook["dim"], 4)}
    if settings.quantizer == "vector" and codebook.get("start", "data") == "data":
        codebook["kmeans_iters"] = 1
    return codebook


def _over(values: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """Nested `changes` on top of `values`."""
    out = dict(values)
    for key, value in changes.items():
        inner = out.get(key)
        both = isinstance(inner, dict) and isinstance(value, dict)
        out[key] = _over(inner, value) if both else value  # type: ignore[arg-type]
    return out
