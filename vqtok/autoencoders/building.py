"""What every autoencoder needs from its settings and its surroundings."""

from __future__ import annotations

import inspect
from typing import Any

import torch
from torch import nn

from vqtok.errors import ConfigError
from vqtok.quantizers import QUANTIZERS, Quantizer, RowQuantizer
from vqtok.registry import construct

__all__ = ["execution_device", "make_quantizer"]

# Keyword arguments of quantizers that an autoencoder has by names of its own, or gives to none.
_ELSEWHERE = {"depth", "estimator", "estimator_args"}


def make_quantizer(
    name: str,
    dim: int,
    codebook_size: int,
    *,
    estimator: str | None,
    estimator_args: dict[str, Any] | None,
    settings: dict[str, Any] | None,
) -> Quantizer:
    """The quantizer called `name`; a `ConfigError` says which of its settings cannot be."""
    kind = QUANTIZERS[name]
    given = dict(settings or {})
    for key in _ELSEWHERE & given.keys():
        raise ConfigError(f"{key!r} is no setting of a quantizer: quantizer_args={given}")
    return construct(
        kind,
        f"the quantizer {name!r}",
        dim,
        codebook_size,
        known=_settings(kind, given),
        estimator=estimator,
        estimator_args=estimator_args,
        **given,
    )


def _settings(kind: type[Quantizer], given: dict[str, Any]) -> set[str]:
    """The names of a quantizer's settings, and of those that it passes on to its parts."""
    classes = list(kind.__mro__)
    if not issubclass(kind, RowQuantizer):
        classes += QUANTIZERS[given.get("kind", "vector")].__mro__
    return {
        parameter.name
        for owner in classes
        if issubclass(owner, Quantizer) and "__init__" in vars(owner)
        for parameter in inspect.signature(owner.__init__).parameters.values()
        if parameter.kind is parameter.KEYWORD_ONLY and parameter.name not in _ELSEWHERE
    }


def execution_device(model: nn.Module) -> torch.device:
    """Where a model computes. Under accelerate's sequential offload its weights lie elsewhere."""
    device: Any = model.device
    if device.type == "meta":
        hooks = (getattr(module, "_hf_hook", None) for module in model.modules())
        found = (getattr(hook, "execution_device", None) for hook in hooks)
        device = next((place for place in found if place is not None), device)
    return torch.device(device)
