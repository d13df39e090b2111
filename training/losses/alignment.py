"""Draws latents towards the features of a frozen network (VA-VAE, arXiv 2501.01423)."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vqtok.errors import ConfigError
from vqtok.training.losses import widened

__all__ = ["Alignment", "alignment", "load_teacher"]


def alignment(latents: Tensor, features: Tensor, margin: float, cosine_margin: float) -> Tensor:
    """Projected latents and features (B, F, h, w), of one shape -> scalar.

    Two terms: each place's cosine to its feature, short of 1 - `cosine_margin`; and the cosines of
    each two places of a picture, further apart than `margin` from those of the features.
    """
    with torch.autocast(latents.device.type, enabled=False):
        z, f = (F.normalize(widened(t.flatten(2)), dim=1) for t in (latents, features))
        near = F.relu(1 - cosine_margin - (z * f).sum(1)).mean()
        apart = z.transpose(1, 2) @ z - f.transpose(1, 2) @ f
        return near + F.relu(apart.abs() - margin).mean()


class Alignment(nn.Module):
    """A frozen teacher, and the linear map that is learned from latents to its features.

    channels, size  of the pictures that the teacher will see, and is asked once how it answers to
    """

    def __init__(
        self,
        teacher: nn.Module,
        dim: int,
        margin: float,
        cosine_margin: float,
        channels: int = 3,
        size: int = 256,
    ) -> None:
        super().__init__()
        self.teacher = teacher.requires_grad_(False).eval()
        self.margin, self.cosine_margin = margin, cosine_margin
        self.project = nn.Conv2d(dim, _width(teacher, channels, size), 1, bias=False)

    def forward(self, latents: Tensor, x: Tensor) -> Tensor:
        """Latents (B, D, h, w), pixels (B, C, H, W) in [-1, 1] -> scalar."""
        if latents.ndim != 4 or x.ndim != 4:
            raise ConfigError(
                "loss.align compares pictures (B, C, H, W) with their latents (B, D, h, w); got "
                f"{tuple(x.shape)} and {tuple(latents.shape)}; clips are trained without it"
            )
        with torch.no_grad():
            features = widened(_features(self.teacher, x))
            if features.shape[2:] != latents.shape[2:]:
                features = F.interpolate(
                    features, latents.shape[2:], mode="bilinear", antialias=True
                )
        return alignment(self.project(latents), features, self.margin, self.cosine_margin)

    def train(self, mode: bool = True) -> Alignment:
        """The teacher stays in eval mode."""
        super().train(mode)
        self.teacher.eval()
        return self


def load_teacher(name: str) -> nn.Module:
    """What the function called "package.module:function" returns."""
    made: Any = _found(name)()
    if not isinstance(made, nn.Module):
        raise ConfigError(
            f"loss.align.teacher={name!r} returns a torch.nn.Module; got {type(made).__name__}"
        )
    return made


def _found(name: str) -> Callable[[], Any]:
    module, _, function = name.partition(":")
    if not all(part.isidentifier() for part in (*module.split("."), function)):
        raise ConfigError(
            "loss.align.teacher is 'package.module:function', a function that returns the "
            f"network; got {name!r}"
        )
    try:
        found: Callable[[], Any] = getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError) as error:
        raise ConfigError(
            f"loss.align.teacher={name!r} cannot be found: {error}. Its module must be installed, "
            "or lie in a folder of PYTHONPATH"
        ) from error
    return found


def _width(teacher: nn.Module, channels: int, size: int) -> int:
    """How many features the teacher gives each place."""
    weight = next(teacher.parameters(), torch.empty(0))
    x = torch.zeros(1, channels, size, size, device=weight.device)
    try:
        with torch.no_grad():
            return _features(teacher, x).shape[1]
    except ConfigError:
        raise
    except Exception as error:  # whatever somebody else's network raises
        raise ConfigError(
            f"loss.align.teacher does not take pixels {tuple(x.shape)}: {error}"
        ) from error


def _features(teacher: nn.Module, x: Tensor) -> Tensor:
    features: Any = teacher(x)
    if isinstance(features, Tensor) and features.ndim == 4 and len(features) == len(x):
        return features
    got = tuple(features.shape) if isinstance(features, Tensor) else type(features).__name__
    raise ConfigError(
        f"loss.align.teacher maps pixels (B, C, H, W) to features (B, F, h, w); got {got} for "
        f"{tuple(x.shape)}"
    )
