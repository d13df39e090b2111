"""The networks and optimizers that settings describe."""

from __future__ import annotations

import inspect
from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

from vqtok.autoencoders import AUTOENCODERS
from vqtok.autoencoders.loading import load_model
from vqtok.errors import ConfigError
from vqtok.hub import of_run, resolve
from vqtok.registry import construct
from vqtok.training.discriminators import DISCRIMINATORS
from vqtok.training.settings import Data, Discriminator, Optimizer, Settings

__all__ = ["make_discriminator", "make_model", "make_optimizer", "restore"]

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
    if any(side % step for side, step in zip(sides, model.stride, strict=True)):
        raise ConfigError(
            f"a model with a token for {_by(model.stride)} pixels takes multiples of that, and "
            f"data make {_by(sides)}: see data.size"
        )
    return model


def make_discriminator(settings: Discriminator, channels: int) -> nn.Module:
    """The discriminator for pixels of so many channels."""
    kind = DISCRIMINATORS[settings.name]
    return construct(
        kind, f"the discriminator {settings.name!r}", in_channels=channels, **settings.args
    )


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
    model = load_model(resolve(of_run(str(settings.init))).path)
    _check_frames(type(model), settings.data)
    if settings.estimator is None:
        return model
    changes = {"estimator": settings.estimator, "estimator_args": settings.estimator_args}
    # As keywords, for diffusers takes a default back over what a dictionary says.
    other = type(model).from_config(model.config, **changes)
    other.load_state_dict(model.state_dict())
    return other


def _check_frames(kind: type, data: Data) -> None:
    takes_clips = "sample_frames" in inspect.signature(kind).parameters
    if takes_clips and data.frames == 1:
        raise ConfigError(
            f"{kind.__name__} takes clips: data.frames says of how many frames, and is 1, for "
            "pictures"
        )
    if not takes_clips and data.frames > 1:
        raise ConfigError(
            f"{kind.__name__} takes pictures, and data.frames={data.frames} is for clips; those "
            "are for architecture=timesformer"
        )


def _by(sides: Iterable[int]) -> str:
    return " x ".join(map(str, sides))
