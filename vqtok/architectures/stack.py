"""Blocks one after another, recomputed in the backward pass where memory is short."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["Stack"]


class Stack(nn.ModuleList):
    """Runs its blocks in turn, under gradient checkpointing where diffusers has enabled that."""

    gradient_checkpointing = False  # diffusers sets both, on any module that has the first
    _gradient_checkpointing_func: Callable[..., Any]

    def forward(self, x: Tensor) -> Tensor:
        """Whatever the blocks take -> whatever they give."""
        for block in self:
            if self.gradient_checkpointing and torch.is_grad_enabled():
                x = self._gradient_checkpointing_func(block, x)
            else:
                x = block(x)
        return x
