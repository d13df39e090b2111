"""The networks and optimizers that settings describe."""

from __future__ import annotations

import inspect
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from torch import nn

from vqtok.autoencoders import AUTOENCODERS
from vqtok.autoencoders.loading import load_model
from vqtok.errors import ConfigError, ImageError
from vqtok.hub import of_run
from vqtok.obtain import obtain
from vqtok.registry import construct
from vqtok.training.discriminators import DISCRIMINATORS
from vqtok.training.kept import Kept
from vqtok.training.settings import Data, Discriminator, Optimizer, Settings

__all__ = [
    "check_size",
    "init_folder",
    "kept_of",
    "make_discriminator",
    "make_model",
    "make_optimizer",
    "restore",
]

OPTIMIZERS: dict[str, type[torch.optim.Optimizer]] = {
    "adam": torch.optim.Adam,
    "adamw": torch.optim.AdamW,
}


def make_model(settings: Settings) -> Any:
    """The autoencoder, float32, on the CPU: a new one, or the one that `init` names.

    One that cannot take the pictures or clips that `data` describe is a `ConfigError`.
    """
    model = _new(settings) if settings.init is None else _given(settings)
    data = settings.data
    sides = (data.frames, data.size, data.size)[-len(model.stride) :]
    try:
        model.grid_of(sides)
    except ImageError as error:
        said = "data.size and data.frames say" if model.is_video else "data.size says"
        raise ConfigError(f"the network does not take what {said}: {error}") from error
    return model


def init_folder(settings: Settings) -> Path:
    """The folder of the tokenizer that `init` names, converted where another project made it."""
    return obtain(of_run(str(settings.init))).path


def kept_of(settings: Settings) -> Kept | None:
    """The discriminator beside the tokenizer that `init` names; None without init."""
    return Kept(str(settings.init), init_folder(settings)) if settings.init is not None else None


def make_discriminator(
    settings: Discriminator, channels: int, kept: Kept | None = None
) -> nn.Module:
    """The discriminator for pixels of so many channels: a new one, or `kept` where that fits."""
    kind = DISCRIMINATORS[settings.name]
    args = settings.args if kept is None else kept.args(settings)
    network = construct(kind, f"the discriminator {settings.name!r}", in_channels=channels, **args)
    if kept is not None and kept.fits(settings):
        kept.load(network)
    return network


def check_size(settings: Discriminator, network: nn.Module, data: Data) -> None:
    """`ConfigError` where a discriminator does not take the pictures that `data` describe."""
    try:
        network.check_side(data.size)  # type: ignore[operator]
    except ImageError as error:
        raise ConfigError(f"{error}; data.size={data.size}") from error


def make_optimizer(
    parameters: Iterable[nn.Parameter], settings: Optimizer
) -> torch.optim.Optimizer:
    """The optimizer of those parameters that are trained."""
    kind: Any = OPTIMIZERS[settings.name]
    made: torch.optim.Optimizer = kind(
        [parameter for parameter in parameters if parameter.requires_grad],
        lr=settings.lr,
        betas=(settings.betas[0], settings.betas[1]),
        eps=settings.eps,
        weight_decay=settings.weight_decay,
    )
    return made


def restore(optimizer: Any, state: dict[str, Any], settings: Optimizer) -> None:
    """Loads an optimizer's state; its numbers are those of the settings, which may have changed."""
    optimizer.load_state_dict(state)
    for group in optimizer.param_groups:
        group["betas"] = (settings.betas[0], settings.betas[1])
        group["eps"], group["weight_decay"] = settings.eps, settings.weight_decay


def _new(settings: Settings) -> Any:
    if settings.freeze:
        raise ConfigError(
            f"{' and '.join(settings.freeze)} would stay as they were drawn: freeze goes with "
            "init, a tokenizer to go on from"
        )
    codebook = dict(settings.codebook)
    missing = [name for name in ("size", "dim") if name not in codebook]
    if missing:
        raise ConfigError(
            f"codebook has no {' and no '.join(missing)}: how many codes there are, and how many "
            "dimensions each has"
        )
    kind = AUTOENCODERS[settings.architecture]
    _check_frames(kind, settings.data)
    return construct(
        kind,
        f"the architecture {settings.architecture!r}",
        num_vq_embeddings=codebook.pop("size"),
        vq_embed_dim=codebook.pop("dim"),
        quantizer=settings.quantizer,
        quantizer_args=codebook,
        estimator=settings.estimator,
        estimator_args=settings.estimator_args,
        **settings.network,
    )


def _given(settings: Settings) -> Any:
    model = load_model(init_folder(settings))
    _check_frames(type(model), settings.data)
    if settings.estimator is None:
        return model
    changes = {"estimator": settings.estimator, "estimator_args": settings.estimator_args}
    # As keywords, for diffusers takes a default back over what a dictionary says.
    other = type(model).from_config(model.config, **changes)
    other.load_state_dict(model.state_dict())
    return other


def _check_frames(kind: type, data: Data) -> None:
    takes_clips = _takes_clips(kind)
    if takes_clips and data.frames == 1:
        raise ConfigError(
            f"{kind.__name__} takes clips: data.frames says of how many frames, and is 1, for "
            "pictures"
        )
    if not takes_clips and data.frames > 1:
        known = ", ".join(name for name in AUTOENCODERS if _takes_clips(AUTOENCODERS[name]))
        raise ConfigError(
            f"{kind.__name__} takes pictures, and data.frames={data.frames} is for clips; "
            f"architectures of clips are {known}"
        )


def _takes_clips(kind: type) -> bool:
    return "sample_frames" in inspect.signature(kind).parameters
