"""Parts of a tokenizer that a run leaves as they are."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from torch import nn

from vqtok.errors import ConfigError
from vqtok.fingerprint import WEIGHTS

__all__ = ["freeze", "set_training"]


def freeze(model: Any, parts: Iterable[str]) -> None:
    """Takes the weights of `parts` (encoder, codebook, decoder) out of training.

    With encoder and codebook frozen a run trains the decoder alone, and ids stay what they were.
    """
    parts = set(parts)
    if parts >= set(WEIGHTS):
        raise ConfigError("encoder, codebook and decoder are all frozen: nothing is left to train")
    prefixes = tuple(start for part in parts for start in WEIGHTS[part])
    for name, parameter in model.named_parameters():
        if name.startswith(prefixes):
            parameter.requires_grad_(False)
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise ConfigError(
            f"with {' and '.join(sorted(parts))} frozen no weight is left to train: this codebook "
            "has none that an optimizer moves"
        )


def set_training(model: Any, parts: Iterable[str]) -> None:
    """Train mode, but for frozen parts.

    The quantizer stays in train mode while anything before it learns, for in eval mode not every
    estimator lets a gradient pass; `step` is what leaves a frozen codebook alone.
    """
    parts = set(parts)
    model.train()
    still = {part for part in parts if part != "codebook" or "encoder" in parts}
    prefixes = tuple(start.rstrip(".") for part in still for start in WEIGHTS[part])
    for name, module in model.named_children():
        if isinstance(module, nn.Module) and name in prefixes:
            module.eval()
