"""A running mean of weights, which validates better than the weights themselves."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["Average"]


class Average:
    """The mean of a model's trained weights with a decay, which is less in the first steps.

    Buffers are not averaged but those of the model as it is: a codebook of running means is one
    already, and codes that lag behind their counts would belong to neither.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        self.updates = 0
        self.means = {name: _wide(p) for name, p in _trained(model)}

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """Takes in the weights after an optimizer step."""
        self.updates += 1
        # Without it the first weights would weigh for 1 / (1 - decay) steps.
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        now = [p.detach().float() for _, p in _trained(model)]
        torch._foreach_lerp_(list(self.means.values()), now, 1 - decay)

    @contextmanager
    def applied(self, model: nn.Module) -> Iterator[None]:
        """While it lasts `model` has the means for its weights; then its own, bit for bit."""
        own = {name: p.detach().clone() for name, p in _trained(model)}
        self._write(model, self.means)
        try:
            yield
        finally:
            self._write(model, own)

    def state_dict(self) -> dict[str, Any]:
        """For checkpoints."""
        return {"updates": self.updates, "means": self.means}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes on from what `state_dict` gave."""
        self.updates = state["updates"]
        for name, mean in self.means.items():
            mean.copy_(state["means"][name])

    @torch.no_grad()
    def _write(self, model: nn.Module, weights: dict[str, Tensor]) -> None:
        for name, parameter in _trained(model):
            parameter.copy_(weights[name])


def _trained(model: nn.Module) -> Iterator[tuple[str, nn.Parameter]]:
    return ((name, p) for name, p in model.named_parameters() if p.requires_grad)


def _wide(parameter: nn.Parameter) -> Tensor:
    return parameter.detach().float().clone()
